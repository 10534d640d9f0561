// Package shellsim runs commands of simulated containers for real, with a
// directory for the root of their files.
package shellsim

import (
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
)

// Run runs a command whose absolute paths are files below root, in root, and
// returns its exit code.
func Run(root string, args []string, in io.Reader, out, errs io.Writer) int {
	words := make([]string, 0, len(args))
	for _, a := range args {
		if strings.HasPrefix(a, "/") {
			a = filepath.Join(root, a)
		}
		words = append(words, a)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = root, in, out, errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		_, _ = io.WriteString(errs, err.Error()+"\n")
		return 126
	}
	return 0
}

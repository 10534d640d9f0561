package hook

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// Script is a command that a pod brings along, to be run on this machine around
// a start.
type Script struct {
	Path string   // absolute; it runs in its own directory
	Name string   // what it is called in what is told: "pre_start_command of pod web"
	Set  []string // added to the environment, "NAME=value"
}

// CheckScripts refuses scripts that cannot be run: a *fault.Error of kind Usage.
func CheckScripts(all []Script) error {
	for _, s := range all {
		switch st, err := os.Stat(s.Path); {
		case err != nil:
			return fault.Usagef("", "%s cannot be read", s.Name).Because(err.Error()).From(err)
		case !st.Mode().IsRegular():
			return fault.Usagef("", "%s is no file: %s", s.Name, s.Path)
		case st.Mode()&0o111 == 0:
			return fault.Usagef("chmod +x "+s.Path, "%s is not executable: %s", s.Name, s.Path)
		}
	}
	return nil
}

// RunScript runs one script to its end and tells what it said. It sees the
// cluster of kubeconfig and no other; nil is none at all. The error is a
// *fault.Error of kind Failed with what the script said, or ctx's cause.
func (r *Runner) RunScript(ctx context.Context, s Script, kubeconfig []byte) error {
	tmp, err := os.MkdirTemp("", "homelab-hook-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a temporary directory
	private := filepath.Join(tmp, "kubeconfig")
	if err := os.WriteFile(private, kubeconfig, 0o600); err != nil {
		return err
	}
	res, err := git.Run(ctx, git.Command{
		// By way of the shell, which also runs a script that does not say with what.
		Dir: filepath.Dir(s.Path), Name: "sh", Args: []string{"-c", `"$0"`, "./" + filepath.Base(s.Path)}, Sweep: true,
		Env: slices.DeleteFunc(slices.Clone(r.Env), func(kv string) bool { return strings.HasPrefix(kv, "KUBECONFIG=") }),
		Set: append([]string{"KUBECONFIG=" + private}, s.Set...),
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	said := append(lines(res.Stdout), lines(res.Stderr)...)
	if err == nil {
		if r.Tell != nil {
			for _, l := range said {
				r.Tell(s.Name + ": " + l)
			}
		}
		return nil
	}
	why := strings.Join(said[max(0, len(said)-10):], "\n")
	if why == "" {
		why = fmt.Sprintf("exit status %d", res.ExitCode)
	}
	return fault.New(fault.Failed, s.Name+" failed", "").Because(why).From(err)
}

package program

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"homelab/pkg/fault"
)

// Check is a *fault.Error of kind Usage unless path, the value of flag, is an
// executable file.
func Check(flag, path string) error {
	why := Broken(path)
	if why == "" {
		return nil
	}
	next := "homelab deploy watch --help"
	if why == notExecutable {
		next = "chmod +x " + quote(path)
	}
	return fault.Usagef(next, "%s%s cannot be run", flag, path).Because(why)
}

const notExecutable = "it is not executable"

// Broken is why path cannot be run; "" it can.
func Broken(path string) string {
	switch st, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case err != nil:
		return err.Error()
	case !st.Mode().IsRegular():
		return "it is not a file"
	case st.Mode()&0o111 == 0:
		return notExecutable
	}
	return ""
}

func quote(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

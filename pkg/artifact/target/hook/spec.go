package hook

import (
	"fmt"
	"path/filepath"
	"strings"

	"homelab/pkg/artifact/program"
	"homelab/pkg/fault"
)

// Spec is a target "exec:PATH" with the flags that belong to it.
type Spec struct {
	Path string   // absolute
	Args []string // --arg: all its arguments
	Env  []string // --env: names of variables that are handed on
	// Ready: the hook is also asked "ready" (--ready-hook).
	Ready bool
	// Idempotent: activating the same artifact again after an interruption is
	// right (--idempotent). For the watch; the target does not read it.
	Idempotent bool
}

// Parse reads what follows "exec:" into a Spec with the values of --arg, --env,
// --ready-hook and --idempotent in flags, whose Path is not read. Nothing is
// looked up. The error is a *fault.Error of kind Usage.
func Parse(rest string, flags Spec) (Spec, error) {
	s := flags
	var err error
	if s.Path, err = programPath("--to exec:", rest); err != nil {
		return Spec{}, err
	}
	for _, a := range s.Args {
		if strings.ContainsRune(a, 0) {
			return Spec{}, usage("--arg has a NUL character in it", "no program can be given one")
		}
	}
	for _, n := range s.Env {
		if why := program.Name(n); why != "" {
			name, _, _ := strings.Cut(n, "=")
			return Spec{}, usage(fmt.Sprintf("--env %.60q", name), why)
		}
	}
	return s, nil
}

// String is the same for the same target exactly.
func (s Spec) String() string {
	var b strings.Builder
	b.WriteString("exec:" + s.Path)
	for _, a := range s.Args {
		fmt.Fprintf(&b, " --arg %q", a)
	}
	for _, n := range s.Env {
		b.WriteString(" --env " + n)
	}
	if s.Ready {
		b.WriteString(" --ready-hook")
	}
	if s.Idempotent {
		b.WriteString(" --idempotent")
	}
	return b.String()
}

// programPath is an absolute path, as a daemon has no directory of its own to
// start from and nothing is looked up by name.
func programPath(flag, p string) (string, error) {
	switch {
	case p == "":
		return "", usage(flag+" names no program", "want an absolute path")
	case strings.ContainsRune(p, 0):
		return "", usage(flag+" has a NUL character in it", "no path has")
	case !filepath.IsAbs(p):
		return "", usage(fmt.Sprintf("%s%s", flag, p), "want an absolute path: it is not looked up, and what a daemon's directory is nobody knows")
	case strings.HasSuffix(p, "/"):
		return "", usage(fmt.Sprintf("%s%s", flag, p), "want a program, this is a directory")
	}
	return filepath.Clean(p), nil
}

func usage(what, why string) error {
	return fault.Usagef("homelab deploy watch --help", "%s", what).Because(why)
}

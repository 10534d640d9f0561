package landing

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

func TestMachineTrouble(t *testing.T) {
	path := func(e error) error { return fmt.Errorf("journal: %w", &fs.PathError{Op: "write", Path: "/x", Err: e}) }
	said := func(text string) error { return fmt.Errorf("merge: %w", &git.CommandError{Stderr: text}) }
	for _, tt := range []struct {
		name string
		err  error
		kind fault.Kind
	}{
		{"disk full", path(syscall.ENOSPC), fault.Held},
		{"quota", path(syscall.EDQUOT), fault.Held},
		{"read-only", path(syscall.EROFS), fault.Denied},
		{"not ours to write", path(syscall.EACCES), fault.Denied},
		{"git: disk full", said("error: file write error: No space left on device\nfatal: unable to write\n"), fault.Held},
		{"git: read-only", said("fatal: Unable to create '/r/.git/x.lock': Read-only file system\n"), fault.Denied},
		{"git: permission", said("error: insufficient permission\nfatal: could not open '/r/.git/x': Permission denied\n"), fault.Denied},
		{"something else", said("fatal: bad object\n"), ""},
		{"a bug", errors.New("impossible"), ""},
	} {
		if kind, why := machineTrouble(tt.err); kind != tt.kind || (why == "") != (kind == "") {
			t.Errorf("%s: %q, %q", tt.name, kind, why)
		}
	}
}

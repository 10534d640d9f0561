package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"homelab/pkg/artifact"
)

func of(body string) artifact.Candidate {
	return artifact.Candidate{ID: artifact.NewID(sha256.Sum256([]byte(body))), Kind: artifact.File, Size: int64(len(body))}
}

func writes(body string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		for _, part := range strings.SplitAfter(body, " ") {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
		}
		return nil
	}
}

func class(err error) artifact.Class {
	if err == nil {
		return ""
	}
	return artifact.FailureOf(err, "unclassed").Class
}

// files is every file below dir, by its path.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFetch(t *testing.T) {
	const body = "the bytes of a unikernel"
	c := of(body)
	unsized := c
	unsized.Size = 0
	cut := errors.New("connection reset")
	full := func(string) (int64, error) { return 2*int64(len(body)) - 1, nil }
	enough := func(string) (int64, error) { return 2 * int64(len(body)), nil }
	tests := []struct {
		name  string
		c     artifact.Candidate
		o     Options
		fetch func(context.Context, io.Writer) error
		class artifact.Class
		why   artifact.Why
	}{
		{name: "right", c: c, fetch: writes(body)},
		{name: "right, of no announced size", c: unsized, fetch: writes(body)},
		{name: "as large as is allowed", c: unsized, o: Options{MaxSize: int64(len(body))}, fetch: writes(body)},
		{name: "larger than is allowed", c: unsized, o: Options{MaxSize: int64(len(body)) - 1}, fetch: writes(body), class: artifact.Refused},
		{name: "one byte more than announced", c: c, fetch: writes(body + "!"), class: artifact.Refused},
		{name: "one byte less", c: c, fetch: writes(body[1:]), class: artifact.Refused},
		{name: "other bytes", c: c, fetch: writes("The bytes of a unikernel"), class: artifact.Refused},
		{name: "cut short", c: c, fetch: func(ctx context.Context, w io.Writer) error { _ = writes(body[:5])(ctx, w); return cut }, class: artifact.Transient},
		{name: "denied", c: c, fetch: func(context.Context, io.Writer) error { return &artifact.Failure{Class: artifact.Denied} }, class: artifact.Denied},
		{name: "the source hides that it was too much", c: c, fetch: func(ctx context.Context, w io.Writer) error { _ = writes(body+body)(ctx, w); return cut }, class: artifact.Refused},
		{name: "a byte short of twice the size free", c: c, o: Options{Free: full}, fetch: writes(body), class: artifact.Hold, why: artifact.DiskFull},
		{name: "just twice the size free", c: c, o: Options{Free: enough}, fetch: writes(body)},
		{name: "no file's id", c: artifact.Candidate{ID: "commit:" + artifact.ID(strings.Repeat("a", 40))}, fetch: writes(body), class: artifact.Refused},
		{name: "a path for an id", c: artifact.Candidate{ID: "sha256:../../etc/passwd"}, fetch: writes(body), class: artifact.Refused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir() + "/store"
			s, err := Open(dir, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Fetch(t.Context(), "run", tt.c, tt.fetch)
			if class(err) != tt.class {
				t.Fatalf("%v, want %s", err, tt.class)
			}
			if tt.class != "" {
				if artifact.FailureOf(err, "").Why != tt.why {
					t.Errorf("why %v", err)
				}
				if left := files(t, dir); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				return
			}
			if err := s.Verify(t.Context(), c.ID); err != nil {
				t.Error(err)
			}
			if got := files(t, dir); len(got) != 1 || got[0] != "sha256/"+c.ID.Hex()[:2]+"/"+c.ID.Hex() {
				t.Errorf("files %v", got)
			}
			if info, _ := os.Stat(s.Path(c.ID)); info.Mode() != 0o444 {
				t.Errorf("mode %s", info.Mode())
			}
			never := func(context.Context, io.Writer) error { t.Error("fetched twice"); return nil }
			if err := s.Fetch(t.Context(), "run", c, never); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWhileWritten: nobody sees a file before it is whole.
func TestWhileWritten(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := of("a b")
	err = s.Fetch(t.Context(), "../run", c, func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "a ")
		if s.Has(c.ID) {
			t.Error("it is there before it is whole")
		}
		info, statErr := os.Stat(dir + "/.tmp-run")
		if statErr != nil || info.Mode() != 0o600 {
			t.Errorf("temporary file: %v %v", info, statErr)
		}
		_, _ = io.WriteString(w, "b")
		return err
	})
	if err != nil || !s.Has(c.ID) {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := of("x")
	if got := class(s.Verify(t.Context(), c.ID)); got != artifact.Absent {
		t.Errorf("not there: %s", got)
	}
	if err := s.Fetch(t.Context(), "r", c, writes("x")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(s.Path(c.ID), 0o600), os.WriteFile(s.Path(c.ID), []byte("y"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := class(s.Verify(t.Context(), c.ID)); got != artifact.Refused {
		t.Errorf("changed: %s", got)
	}
	if err := s.Fetch(t.Context(), "r", c, writes("x")); err != nil || s.Verify(t.Context(), c.ID) != nil {
		t.Errorf("a damaged file is fetched again: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := class(s.Verify(ctx, c.ID)); got != artifact.Transient {
		t.Errorf("cancelled: %s", got)
	}
}

func TestOpenPruneDiscardImport(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir() + "/a/store"
	if err := errors.Join(os.MkdirAll(dir+"/.tmp-odd/x", 0o700), os.WriteFile(dir+"/.tmp-dead", []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("a dead download is still there: %v", left)
	}
	var ids []artifact.ID
	for _, body := range []string{"1", "2", "3"} {
		if err := s.Fetch(t.Context(), "r", of(body), writes(body)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, of(body).ID)
	}
	if info, _ := os.Stat(filepath.Dir(s.Path(ids[0]))); info.Mode().Perm() != 0o711 {
		t.Errorf("directory mode %s", info.Mode())
	}
	if err := s.Prune(ids[1:]); err != nil {
		t.Error(err)
	}
	if s.Has(ids[0]) || !s.Has(ids[1]) || !s.Has(ids[2]) {
		t.Error("pruned the wrong ones")
	}
	if _, err := os.Stat(filepath.Dir(s.Path(ids[0]))); err == nil {
		t.Error("an empty directory is left")
	}
	if err := errors.Join(s.Discard(ids[1]), s.Discard(ids[1])); err != nil || s.Has(ids[1]) {
		t.Errorf("discard: %v", err)
	}
	found := t.TempDir() + "/www.hvt"
	if err := os.WriteFile(found, []byte("by hand"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := s.Import(t.Context(), "r", found)
	if err != nil || got != of("by hand").ID || s.Verify(t.Context(), got) != nil {
		t.Errorf("import: %s %v", got, err)
	}
	if _, err := s.Import(t.Context(), "r", dir); artifact.FailureOf(err, "").Why != artifact.NoWayBack {
		t.Errorf("a directory: %v", err)
	}
}

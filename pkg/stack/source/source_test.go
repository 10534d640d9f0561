package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// site is a remote and a checkout of it, one commit behind if behind is set.
func site(t *testing.T) (remote, checkout *gittest.Repo, o Options) {
	t.Helper()
	remote = gittest.New(t, "main")
	write(t, remote, "spec.yml", "one\n")
	commit(remote, "one")
	return remote, remote.Clone(), Options{Env: gittest.Env(t), Patience: 50 * time.Millisecond, Pause: 10 * time.Millisecond}
}

func write(t *testing.T, r *gittest.Repo, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.Dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func commit(r *gittest.Repo, message string) {
	r.Git("add", "-A")
	r.Git("commit", "--quiet", "-m", message)
}

func head(r *gittest.Repo) git.Commit {
	return git.Commit(strings.TrimSpace(r.Git("rev-parse", "HEAD")))
}

func TestPull(t *testing.T) {
	tests := []struct {
		name    string
		do      func(t *testing.T, remote, checkout *gittest.Repo)
		kind    fault.Kind
		moved   bool
		newest  bool // the checkout is at the remote's tip afterwards
		notice  string
		says    string
		content string // of spec.yml afterwards; "" unchecked
	}{
		{name: "nothing new", do: func(*testing.T, *gittest.Repo, *gittest.Repo) {}, newest: true},
		{name: "behind", do: func(t *testing.T, r, _ *gittest.Repo) { write(t, r, "spec.yml", "two\n"); commit(r, "two") }, moved: true, newest: true, content: "two\n"},
		{name: "ahead", do: func(t *testing.T, _, c *gittest.Repo) { write(t, c, "x", "x"); commit(c, "mine") }},
		{name: "dirty elsewhere", do: func(t *testing.T, r, c *gittest.Repo) {
			write(t, r, "other", "two\n")
			commit(r, "two")
			write(t, c, "spec.yml", "edited\n")
		}, moved: true, newest: true, content: "edited\n"},
		{name: "dirty in the way", do: func(t *testing.T, r, c *gittest.Repo) {
			write(t, r, "spec.yml", "two\n")
			commit(r, "two")
			write(t, c, "spec.yml", "edited\n")
		}, kind: fault.Conflict, says: "in the way", content: "edited\n"},
		{name: "untracked in the way", do: func(t *testing.T, r, c *gittest.Repo) {
			write(t, r, "new", "two\n")
			commit(r, "two")
			write(t, c, "new", "mine\n")
		}, kind: fault.Conflict, says: "in the way"},
		{name: "diverged", do: func(t *testing.T, r, c *gittest.Repo) {
			write(t, r, "a", "a")
			commit(r, "theirs")
			write(t, c, "b", "b")
			commit(c, "mine")
		}, kind: fault.Conflict, says: "diverged"},
		{name: "detached", do: func(t *testing.T, r, c *gittest.Repo) {
			c.Git("checkout", "--quiet", "--detach")
			write(t, r, "a", "a")
			commit(r, "theirs")
		}, notice: "checkout-detached"},
		{name: "no upstream", do: func(_ *testing.T, _, c *gittest.Repo) { c.Git("checkout", "--quiet", "-b", "own") }, newest: true, notice: "checkout-without-upstream"},
		{name: "the branch is gone", do: func(_ *testing.T, r, _ *gittest.Repo) { r.Git("branch", "-m", "trunk") }, kind: fault.Conflict, says: "has no branch main"},
		{name: "the remote is gone", do: func(_ *testing.T, _, c *gittest.Repo) {
			c.Git("remote", "set-url", "origin", "https://127.0.0.1:1/x.git")
		}, kind: fault.Unreachable, says: "cannot be reached"},
		{name: "refused", do: func(_ *testing.T, _, c *gittest.Repo) {
			c.Git("remote", "set-url", "origin", filepath.Join(c.Dir, "nowhere"))
		}, kind: fault.Denied, says: "does not appear to be a git repository"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			remote, checkout, o := site(t)
			tt.do(t, remote, checkout)
			before := head(checkout)
			got, err := Pull(t.Context(), checkout.Dir, o)
			if tt.kind != "" {
				e, ok := err.(*fault.Error) //nolint:errorlint // Pull documents its type
				if !ok || e.Kind != tt.kind || !strings.Contains(e.What+" "+e.Why, tt.says) {
					t.Fatalf("error %v, want kind %s saying %q", err, tt.kind, tt.says)
				}
				if head(checkout) != before {
					t.Error("the branch moved")
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if err == nil && (got.Moved != tt.moved || got.Commit != head(checkout) || (got.Commit == head(remote)) != tt.newest) {
				t.Errorf("got %+v; head %s, remote %s", got, head(checkout), head(remote))
			}
			if code := ""; true {
				if got.Notice != nil {
					code = got.Notice.Code
				}
				if code != tt.notice {
					t.Errorf("notice %q, want %q", code, tt.notice)
				}
			}
			if tt.content != "" {
				if raw, err := os.ReadFile(filepath.Join(checkout.Dir, "spec.yml")); err != nil || string(raw) != tt.content {
					t.Errorf("spec.yml is %q, %v", raw, err)
				}
			}
		})
	}
}

func TestPullOutsideOfGit(t *testing.T) {
	o := Options{Env: gittest.Env(t)}
	dir := t.TempDir()
	if _, err := Pull(t.Context(), dir, o); fault.KindOf(err) != fault.Usage || !strings.Contains(err.(*fault.Error).Why, "--no-pull") { //nolint:errorlint // documented
		t.Errorf("error %v", err)
	}
	if got, err := At(t.Context(), dir, o); err != nil || got != (Checkout{}) {
		t.Errorf("At: %+v, %v", got, err)
	}
}

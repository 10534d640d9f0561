package landing

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"homelab/pkg/fault"
)

// closing is a forge that says of some remotes why they take no pushes.
type closing struct {
	noToken
	why map[string]string // by a part of the URL
}

func (f closing) Closed(_ context.Context, remote string) string {
	for part, why := range f.why {
		if strings.Contains(remote, part) {
			return why
		}
	}
	return ""
}

// Of several remotes those drop out whose forge says that they take no pushes.
func TestClosedRemotes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	for _, name := range []string{"aaa", "zzz"} {
		c.Git("remote", "add", name, "https://"+name+".invalid/lab/infra.git")
	}
	with := func(why map[string]string) func(*Deps) {
		return func(d *Deps) { d.Forge = closing{why: why} }
	}
	// clone made branch.main.remote, which would answer first.
	c.Git("config", "--unset", "branch.main.remote")
	r, s := w.land(c, Options{}, with(map[string]string{"aaa": "a mirror"}))
	wants(t, r, s, fault.Usage, "")
	if !strings.Contains(r.Reason, "origin, zzz, aaa (a mirror)") || !strings.Contains(r.Reason, `write "remote: NAME"`) || r.Next != "homelab work land --remote origin" {
		t.Errorf("%s; %s", r.Reason, r.Next)
	}
	r, s = w.land(c, Options{}, with(map[string]string{"aaa": "archived", "zzz": "archived", "file": "a mirror"}))
	wants(t, r, s, fault.Usage, "")
	r, s = w.land(c, Options{}, with(map[string]string{"aaa": "a mirror", "zzz": "you may not push there"}))
	wants(t, r, s, fault.OK, Landed)
	if r.Remote != "origin" {
		t.Errorf("%+v", r)
	}
}

// A run that died while it published the branch: what it published stays this
// clone's, also after an amend.
func TestReviewBranchAfterCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "update", "case $1 in refs/heads/main) echo 'GH006: Protected branch'; exit 1;; esac\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Held, "")
	name := filepath.Join(c.Dir, ".git", "homelab", "land", r.ID, "journal.json")
	data, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(data), `"phase": "done"`) {
		t.Fatalf("%s %v", data, err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(data), `"phase": "done"`, `"phase": "pushing"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Git("reset", "--quiet", "--soft", "HEAD~1")
	c.Write("fan", "better")
	head := c.Commit("a better fan")
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.Held, "")
	if got := w.origin.Git("rev-parse", "anna/fan"); got != head {
		t.Errorf("the branch is at %s, want %s", got, head)
	}
}

// Where a person opens the request, for every way a remote is written.
func TestAddress(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		access         Access
		remote, review string
		want           string
	}{
		{Access{}, "git@git.example.lan:lab/infra.git", "git@git.example.lan:lab/infra.git", "https://git.example.lan/lab/infra/compare/main...anna/fan"},
		{Access{}, "https://u:canary@git.example.lan:8443/lab/infra.git", "https://u:canary@git.example.lan:8443/lab/infra.git", "https://git.example.lan:8443/lab/infra/compare/main...anna/fan"},
		{Access{}, "ssh://git@git.example.lan:2222/lab/infra", "git@git.example.lan:bo/infra", "https://git.example.lan/lab/infra/compare/main...bo:anna/fan"},
		{Access{Page: "https://forge.lan/x/lab/infra"}, "git@alias:lab/infra", "git@alias:lab/infra", "https://forge.lan/x/lab/infra/compare/main...anna/fan"},
		{Access{}, "../infra", "../infra", "git request-pull main origin"},
	} {
		l := &lander{url: tc.remote, out: Result{Base: "main", Branch: "anna/fan", Remote: "origin"}}
		if got := l.address(tc.access, tc.review); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.remote, got, tc.want)
		}
	}
}

// A server that fails each push without judging it is not a base that moves.
func TestServerKeepsFailing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "pre-receive", "echo 'Forgejo: Internal Server Connection Error' >&2; exit 1\n")
	w.unchanged(c, func() {
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.Unreachable, "")
		if r.Attempts < 2 || r.Landed != "" || r.Unknown || !strings.Contains(r.Reason, "Connection Error") {
			t.Errorf("%+v", r)
		}
	})
	hook(t, w.origin, "pre-receive", "test -e failed || { : > failed; echo 'Gitea: Internal Server Error (no specific error)' >&2; exit 1; }\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.OK, Landed)
	w.sound()
}

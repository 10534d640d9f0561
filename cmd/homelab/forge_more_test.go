package main

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"homelab/internal/forgesim"
	"homelab/internal/gittest"
	"homelab/internal/tlstest"
	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// forgeRig is a forge at a name that DNS does not have, API and git over one
// TLS address, and a checkout.
type forgeRig struct {
	t     *testing.T
	sim   *forgesim.Sim
	srv   *tlstest.Server
	ca    string
	clone *gittest.Repo
	dir   string
	env   map[string]string
}

const labHost = "git.nowhere.invalid"

func newForgeRig(t *testing.T, kind string) *forgeRig {
	t.Helper()
	r := &forgeRig{t: t, sim: forgesim.New(kind, "canary-forge-token"), clone: gittest.New(t, "main"), dir: t.TempDir()}
	r.sim.Repo("lab/infra", true)
	ca := tlstest.NewCA(t)
	r.ca = ca.File(t)
	backend := &cgi.Handler{
		Path: filepath.Join(r.clone.Git("--exec-path"), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + r.dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=anna", "PATH=" + os.Getenv("PATH")},
	}
	r.srv = tlstest.Start(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.URL.Path, "/api/") {
			r.sim.ServeHTTP(w, q)
			return
		}
		backend.ServeHTTP(w, q)
	}), ca.Cert(t, labHost), tlstest.Options{Addr: "127.0.0.4:0"})
	r.env = map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": t.TempDir(), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
		"GIT_AUTHOR_NAME": "Anna", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "Anna", "GIT_COMMITTER_EMAIL": "a@x",
	}
	r.config("forge:\n  - {host: " + labHost + ", kind: " + kind + ", url: 'https://" + labHost + ":" + r.srv.Port() + "', dial: 127.0.0.4, ca-file: '" + r.ca + "'}\n")
	return r
}

func (r *forgeRig) config(text string) {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.env["HOMELAB_CONFIG"] = file
}

func (r *forgeRig) app() *app {
	io, _, _ := ui.Test("")
	return &app{process: process{streams: io, dir: r.clone.Dir, env: config.FromMap(r.env)}, flags: &verb.Flags{}}
}

func (r *forgeRig) forge() landing.Forge {
	r.t.Helper()
	f, err := r.app().forge(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// helper makes git answer for every host with the same credential.
func (r *forgeRig) helper(user, password string) string {
	r.t.Helper()
	asked := filepath.Join(r.t.TempDir(), "asked")
	r.clone.Git("config", "credential.helper", fmt.Sprintf("!f() { cat >> '%s'; echo username=%s; echo password=%s; }; f", asked, user, password))
	return asked
}

func (r *forgeRig) remote() string {
	return "https://" + labHost + ":" + r.srv.Port() + "/lab/infra.git"
}

// Without a token in the environment git's own credential is used: as a token,
// and as name and password where that is what it is.
func TestForgeGitCredential(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"forgejo", "gitea", "github"} {
		r := newForgeRig(t, kind)
		asked := r.helper("anna", "canary-forge-token")
		f := r.forge()
		if got, err := f.Check(t.Context(), r.remote()); err != nil || !got.Token {
			t.Fatalf("%s: %+v, %v", kind, got, err)
		}
		if p, err := f.Open(t.Context(), landing.Proposal{Remote: r.remote(), Review: r.remote(), Branch: "b", Base: "main", Title: "T"}); err != nil || p.State != "open" {
			t.Errorf("%s: %+v, %v", kind, p, err)
		}
		want := map[string]string{"forgejo": "token ", "gitea": "token ", "github": "Bearer "}[kind] + "canary-forge-token"
		if slices.ContainsFunc(r.sim.Auth(), func(a string) bool { return a != want }) {
			t.Errorf("%s: %q", kind, r.sim.Auth())
		}
		if data, err := os.ReadFile(asked); err != nil || !strings.Contains(string(data), "host="+labHost+":"+r.srv.Port()+"\n") {
			t.Errorf("asked %q, %v", data, err)
		}
		// Not even git is asked for a host that is not listed, and nothing is sent.
		if err := os.Remove(asked); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Check(t.Context(), "https://other.invalid/lab/infra.git"); got != (landing.Access{}) || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := os.Stat(asked); err == nil {
			t.Error("git was asked for a host that is not listed")
		}
		// The environment's token comes first.
		r.env[map[string]string{"forgejo": "FORGEJO_TOKEN", "gitea": "GITEA_TOKEN", "github": "GH_TOKEN"}[kind]] = "canary-forge-token"
		if got, err := r.forge().Check(t.Context(), r.remote()); err != nil || !got.Token {
			t.Errorf("%s: %+v, %v", kind, got, err)
		}
		if _, err := os.Stat(asked); err == nil {
			t.Error("git was asked although there is a token")
		}
	}
}

func TestForgePassword(t *testing.T) {
	t.Parallel()
	r := newForgeRig(t, "forgejo")
	r.sim.User, r.sim.Password = "anna", "canary-password"
	r.helper("anna", "canary-password")
	a := r.app()
	f, err := a.forge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Check(t.Context(), r.remote()); err != nil || !got.Token {
		t.Fatalf("%+v, %v", got, err)
	}
	if p, err := f.Open(t.Context(), landing.Proposal{Remote: r.remote(), Review: r.remote(), Branch: "b", Base: "main", Title: "T"}); err != nil || p.State != "open" {
		t.Errorf("%+v, %v", p, err)
	}
	if got := a.redact.String("canary-password YW5uYTpjYW5hcnktcGFzc3dvcmQ="); strings.Contains(got, "canary") || strings.Contains(got, "YW5u") {
		t.Errorf("shown: %s", got)
	}
}

// Refused with what git has: told as denied, with where the token came from.
func TestForgeCredentialRefused(t *testing.T) {
	t.Parallel()
	r := newForgeRig(t, "github")
	r.helper("anna", "canary-old-one")
	_, err := r.forge().Check(t.Context(), r.remote())
	if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "git's credential helper") || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
}

// The token of the environment reaches the listed host and no other, whatever
// the remotes of a clone are called, and however they are written.
func TestForgeCanary(t *testing.T) {
	t.Parallel()
	r := newForgeRig(t, "forgejo")
	r.env["FORGEJO_TOKEN"], r.env["GITEA_TOKEN"], r.env["GITHUB_TOKEN"] = "canary-forge-token", "canary-other", "canary-github"
	f := r.forge()
	for _, remote := range []string{
		"https://" + labHost + ".evil.invalid/lab/infra.git", "https://evil.invalid/" + labHost + "/infra.git", "https://" + labHost + "@evil.invalid/lab/infra.git",
		"git@evil.invalid:" + labHost + "/infra.git", "https://github.com.evil.invalid/lab/infra.git", "../infra", "file:///srv/infra.git",
	} {
		if got, err := f.Check(t.Context(), remote); got != (landing.Access{}) || err != nil {
			t.Errorf("%s: %+v, %v", remote, got, err)
		}
		if why := f.Closed(t.Context(), remote); why != "" {
			t.Errorf("%s: %s", remote, why)
		}
	}
	if len(r.sim.Calls()) != 0 {
		t.Errorf("%v", r.sim.Calls())
	}
	if _, err := f.Check(t.Context(), r.remote()); err != nil {
		t.Fatal(err)
	}
	for _, a := range r.sim.Auth() {
		if strings.Contains(a, "canary-other") || strings.Contains(a, "canary-github") {
			t.Errorf("another kind's token was sent: %s", a)
		}
	}
	// What the user's own file says of Woodpecker moves no forge.
	r.config("woodpecker: {server: 'https://" + labHost + ":" + r.srv.Port() + "', dial: 127.0.0.4}\nforge:\n  - {host: " + labHost + ", kind: forgejo, url: 'https://" + labHost + ":" + r.srv.Port() + "', ca-file: '" + r.ca + "'}\n")
	if e, err := config.Load(config.Options{Env: config.FromMap(r.env)}); err != nil || len(gitPins(e.Forges)) != 0 {
		t.Errorf("%v", err)
	}
}

func TestForgeClosed(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"forgejo", "github"} {
		r := newForgeRig(t, kind)
		for _, name := range []string{"lab/mirror", "lab/old", "lab/open"} {
			r.sim.Repo(name, true)
			r.sim.Mark(name, "public")
		}
		r.sim.Mark("lab/mirror", "mirror")
		r.sim.Mark("lab/old", "archived")
		r.sim.Repo("lab/theirs", false)
		r.sim.Mark("lab/theirs", "public")
		at := func(name string) string { return "git@" + labHost + ":" + name + ".git" }
		for _, tc := range []struct{ name, token, without string }{
			{"lab/mirror", "a mirror", "a mirror"},
			{"lab/old", "archived", "archived"},
			{"lab/open", "", ""},
			{"lab/theirs", "you may not push there", ""}, // without a token nobody may
		} {
			if kind == "github" && tc.name == "lab/mirror" {
				continue
			}
			delete(r.env, "FORGEJO_TOKEN")
			delete(r.env, "GITHUB_TOKEN")
			if got := r.forge().Closed(t.Context(), at(tc.name)); got != tc.without {
				t.Errorf("%s %s without a token: %q", kind, tc.name, got)
			}
			r.env["FORGEJO_TOKEN"], r.env["GITHUB_TOKEN"] = "canary-forge-token", "canary-forge-token"
			if got := r.forge().Closed(t.Context(), at(tc.name)); got != tc.token {
				t.Errorf("%s %s: %q", kind, tc.name, got)
			}
		}
	}
}

// Without a token a public request can still be read; a private one is not
// known, which is no refusal.
func TestForgeLookWithoutToken(t *testing.T) {
	t.Parallel()
	r := newForgeRig(t, "forgejo")
	r.sim.Repo("lab/open", true)
	r.sim.Mark("lab/open", "public")
	n := r.sim.Add("lab/open", forgesim.Pull{Head: "b", Base: "main"})
	f := r.forge()
	if p, m, err := f.Look(t.Context(), "git@"+labHost+":lab/open.git", n); err != nil || m.Unknown || !m.Open || p.Number != n {
		t.Errorf("%+v %+v, %v", p, m, err)
	}
	if _, m, err := f.Look(t.Context(), r.remote(), 7); err != nil || !m.Unknown {
		t.Errorf("%+v, %v", m, err)
	}
	if _, m, err := f.Look(t.Context(), "git@elsewhere.invalid:lab/infra.git", 7); err != nil || !m.Unknown {
		t.Errorf("%+v, %v", m, err)
	}
}

// A repository that has another name now takes the request under that one.
func TestForgeRenamed(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"gitea", "github"} {
		r := newForgeRig(t, kind)
		r.sim.Rename("lab/infra", "lab/house")
		r.env["GITEA_TOKEN"], r.env["GITHUB_TOKEN"] = "canary-forge-token", "canary-forge-token"
		f := r.forge()
		if _, err := f.Check(t.Context(), r.remote()); err != nil {
			t.Fatal(err)
		}
		if p, err := f.Open(t.Context(), landing.Proposal{Remote: r.remote(), Review: r.remote(), Branch: "b", Base: "main"}); err != nil || len(r.sim.Pulls("lab/house")) != 1 {
			t.Errorf("%s: %+v, %v", kind, p, err)
		}
	}
}

func TestGitPins(t *testing.T) {
	t.Parallel()
	load := func(entry string) []string {
		t.Helper()
		r := &forgeRig{t: t, env: map[string]string{}}
		r.config("forge:\n  - {host: git.example.lan" + entry + "}\n")
		e, err := config.Load(config.Options{Env: config.FromMap(r.env)})
		if err != nil {
			t.Fatal(err)
		}
		return gitPins(e.Forges)
	}
	for entry, want := range map[string]string{
		"":                        "",
		", dial: 10.0.20.203":     "git.example.lan:443:10.0.20.203",
		", dial: '10.0.20.203:8'": "", // one service, not git's
		", dial: 'fd00::5'":       "git.example.lan:443:[fd00::5]",
		", url: 'https://git.example.lan:3000', dial: 10.0.20.203": "git.example.lan:443:10.0.20.203 git.example.lan:3000:10.0.20.203",
		", url: 'https://git.example.lan:443', dial: 10.0.20.203":  "git.example.lan:443:10.0.20.203",
	} {
		if got := strings.Join(load(entry), " "); got != want {
			t.Errorf("%q: %q, want %q", entry, got, want)
		}
	}
}

// From the command to the request: git and API find the pinned name, the base
// is protected, the branch arrives and the request is open; then it is merged.
func TestLandProtected(t *testing.T) {
	t.Parallel()
	r := newForgeRig(t, "forgejo")
	r.env["FORGEJO_TOKEN"] = "canary-forge-token"
	bare := gittest.New(t, "main", "--bare")
	if err := os.MkdirAll(filepath.Join(r.dir, "lab"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(bare.Dir, filepath.Join(r.dir, "lab", "infra.git")); err != nil {
		t.Fatal(err)
	}
	bare.Git("config", "http.receivepack", "true")
	c := r.clone
	c.Write("a", "1")
	c.Commit("one")
	c.Git("push", "--quiet", "file://"+bare.Dir, "main")
	pre := filepath.Join(bare.Dir, "hooks", "pre-receive")
	if err := os.MkdirAll(filepath.Dir(pre), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pre, []byte("#!/bin/sh\nwhile read o n ref; do case $ref in refs/heads/main) echo 'Forgejo: Not allowed to push to protected branch main'; exit 1;; esac; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.Git("remote", "add", "origin", r.remote())
	c.Git("config", "http.sslCAInfo", r.ca)
	c.Git("checkout", "--quiet", "-b", "anna/fan")
	c.Write("fan", "1")
	head := c.Commit("Add a fan")
	land := func() (int, string, string) {
		streams, out, story := ui.Test("")
		code := run(t.Context(), []string{"work", "land", "--no-ci-watch", "--verify-cmd", "! env | grep canary", "--json", "--verbose"}, process{
			streams: streams, env: config.FromMap(r.env), dir: c.Dir,
		})
		return code, fmt.Sprint(out), fmt.Sprint(story)
	}
	code, out, story := land()
	if code != fault.Held.Code() || !strings.Contains(out, `"number":7`) || bare.Git("rev-parse", "anna/fan") != head {
		t.Fatalf("%d %s\n%s", code, out, story)
	}
	if p := r.sim.Pulls("lab/infra"); len(p) != 1 || p[0].Head != "anna/fan" || p[0].Title != "Add a fan" {
		t.Errorf("%+v", p)
	}
	if strings.Contains(out+story, "canary-") {
		t.Errorf("the token is shown:\n%s\n%s", out, story)
	}
	r.sim.Close("lab/infra", 7)
	code, out, story = land() // closed: a new one
	if code != fault.Held.Code() || !strings.Contains(out, `"number":8`) {
		t.Fatalf("%d %s\n%s", code, out, story)
	}
	bare.Git("update-ref", "refs/heads/main", head)
	r.sim.Merge("lab/infra", 8, head)
	code, out, story = land()
	if code != 0 || !strings.Contains(out, `"landed":"`+head+`"`) || !strings.Contains(out, `"state":"merged"`) {
		t.Fatalf("%d %s\n%s", code, out, story)
	}
}

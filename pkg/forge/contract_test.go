package forge_test

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"homelab/internal/forgesim"
	"homelab/internal/tlstest"
	"homelab/pkg/forge"
	"homelab/pkg/transport"
)

const host = "git.example.lan"

// rig serves a forge over TLS by a name that only the pin resolves.
type rig struct {
	t   *testing.T
	sim *forgesim.Sim
	web *url.URL
	o   transport.Options
}

func newRig(t *testing.T, kind forge.Kind) *rig {
	t.Helper()
	sim := forgesim.New(string(kind), "canary-token")
	ca := tlstest.NewCA(t)
	srv := ca.Serve(t, sim, host)
	web := &url.URL{Scheme: "https", Host: host}
	return &rig{t, sim, web, transport.Options{
		Base: forge.API(kind, web), CAFile: ca.File(t), Pin: &transport.Pin{Addr: netip.MustParseAddr("127.0.0.1"), Port: srv.Addr.Port()},
	}}
}

func (r *rig) client(kind forge.Kind, token string) *forge.Client {
	r.t.Helper()
	o := r.o
	s, err := transport.NewSecret(token)
	if err != nil {
		r.t.Fatal(err)
	}
	o.Token = func(context.Context) (transport.Secret, error) { return s, nil }
	o.SetToken = forge.SetToken(kind)
	o.Redact = &transport.Redactor{}
	stack, err := transport.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(stack.CloseIdleConnections)
	return forge.New(forge.Options{Kind: kind, API: o.Base, Transport: stack, CloseIdle: stack.CloseIdleConnections})
}

func kinds() []forge.Kind { return []forge.Kind{forge.Forgejo, forge.Gitea, forge.GitHub} }

func classOf(err error) forge.Class {
	if e, ok := errors.AsType[*forge.APIError](err); ok {
		return e.Class
	}
	return ""
}

func TestContract(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind)
			r.sim.Repo("lab/infra", true)
			r.sim.Repo("lab/locked", false)
			c, ctx := r.client(kind, "canary-token"), t.Context()
			w := forge.Wanted{Repo: "lab/infra", HeadRepo: "lab/infra", Branch: "anna/fan", Base: "main", Title: "T", Body: "B"}

			got, err := c.Repository(ctx, "lab/infra")
			if err != nil || got != (forge.Repository{FullName: "lab/infra", Push: forge.Yes}) {
				t.Errorf("%+v, %v", got, err)
			}
			// Many open ones of others, a closed one of this branch, one of a
			// fork's branch of the same name, one onto another base.
			for range 65 {
				r.sim.Add("lab/infra", forgesim.Pull{Head: "x", Base: "main"})
			}
			r.sim.Add("lab/infra", forgesim.Pull{Head: "anna/fan", Base: "main", State: "closed"})
			r.sim.Add("lab/infra", forgesim.Pull{Head: "anna/fan", HeadRepo: "bo/infra", Base: "main"})
			r.sim.Add("lab/infra", forgesim.Pull{Head: "anna/fan", Base: "dev"})
			if _, ok, err := c.Find(ctx, w); ok || err != nil {
				t.Errorf("found one: %v", err)
			}
			before := len(r.sim.Pulls("lab/infra"))
			p, err := c.Open(ctx, w)
			if err != nil || p.State != "open" || p.Number == 0 || p.Commit != "" || p.URL == "" {
				t.Fatalf("%+v, %v", p, err)
			}
			if again, err := c.Open(ctx, w); err != nil || again != p || len(r.sim.Pulls("lab/infra")) != before+1 {
				t.Errorf("again: %+v, %v", again, err)
			}
			if last := r.sim.Pulls("lab/infra")[before]; last.Title != "T" || last.Body != "B" {
				t.Errorf("%+v", last)
			}
			if look, err := c.Look(ctx, "lab/infra", p.Number); err != nil || look.State != "open" || look.Merged || look.Commit != "" {
				t.Errorf("open: %+v, %v", look, err)
			}
			r.sim.Merge("lab/infra", p.Number, "abc")
			if look, err := c.Look(ctx, "lab/infra", p.Number); err != nil || look.State != "merged" || !look.Merged || look.Commit != "abc" {
				t.Errorf("merged: %+v, %v", look, err)
			}
			// From a fork.
			w.HeadRepo, w.Branch = "bo/infra", "b"
			if p, err = c.Open(ctx, w); err != nil {
				t.Errorf("fork: %v", err)
			}
			all := r.sim.Pulls("lab/infra")
			if last := all[len(all)-1]; last.HeadRepo != "bo/infra" || last.Head != "b" {
				t.Errorf("fork: %+v", last)
			}
			// What it will not do.
			r.sim.Empty("empty")
			w = forge.Wanted{Repo: "lab/infra", HeadRepo: "lab/infra", Branch: "empty", Base: "main"}
			if _, err := c.Open(ctx, w); classOf(err) != forge.Rejected {
				t.Errorf("no commits: %v", err)
			}
			w.Repo, w.HeadRepo = "lab/locked", "lab/locked"
			if _, err := c.Open(ctx, w); classOf(err) != forge.Refused {
				t.Errorf("no right: %v", err)
			}
		})
	}
}

func TestRefusedIsConfirmed(t *testing.T) {
	t.Parallel()
	r := newRig(t, forge.Forgejo)
	r.sim.Repo("lab/infra", true)
	// Falsely refused once, then a proxy's page: it is asked again.
	r.sim.Fault("401", "html", "503")
	if _, err := r.client(forge.Forgejo, "canary-token").Repository(t.Context(), "lab/infra"); err != nil {
		t.Error(err)
	}
	asked := len(r.sim.Calls())
	if _, err := r.client(forge.Forgejo, "wrong").Repository(t.Context(), "lab/infra"); classOf(err) != forge.Refused || len(r.sim.Calls())-asked < 3 {
		t.Errorf("%v after %d", err, len(r.sim.Calls())-asked)
	}
}

// However a reply is lost, there is one pull request in the end.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		for _, faults := range [][]string{{"", "lost"}, {"", "", "cut"}, {"", "502"}, {"", "html", "", "lost"}, {"cut", "", "", "lost"}} {
			r := newRig(t, kind)
			r.sim.Repo("lab/infra", true)
			r.sim.Fault(faults...)
			p, err := r.client(kind, "canary-token").Open(t.Context(), forge.Wanted{Repo: "lab/infra", HeadRepo: "lab/infra", Branch: "b", Base: "main"})
			if all := r.sim.Pulls("lab/infra"); err != nil || len(all) != 1 || p.Number != all[0].Number {
				t.Errorf("%s %v: %+v, %v; %d made; %v", kind, faults, p, err, len(all), r.sim.Calls())
			}
		}
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		for _, faults := range [][]string{nil, {"502", "html"}} {
			r := newRig(t, kind)
			o := r.o
			o.Base = r.web
			stack, err := transport.New(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stack.CloseIdleConnections)
			if kind == forge.Forgejo && faults != nil {
				faults = faults[:1]
			}
			r.sim.Fault(faults...)
			if got, err := forge.Probe(t.Context(), r.web, stack); err != nil || got != kind {
				t.Errorf("%s is taken for %q, %v", kind, got, err)
			}
			if slices.ContainsFunc(r.sim.Auth(), func(a string) bool { return a != "" }) {
				t.Error("a token was sent before it was known to whom")
			}
		}
	}
}

// The token goes to the API's own origin, written as its kind wants it.
func TestToken(t *testing.T) {
	t.Parallel()
	for kind, want := range map[forge.Kind]string{forge.Forgejo: "token canary-token", forge.Gitea: "token canary-token", forge.GitHub: "Bearer canary-token"} {
		r := newRig(t, kind)
		r.sim.Repo("lab/infra", true)
		if _, err := r.client(kind, "canary-token").Repository(t.Context(), "lab/infra"); err != nil || !slices.Equal(r.sim.Auth(), []string{want}) {
			t.Errorf("%s: %q, %v", kind, r.sim.Auth(), err)
		}
	}
	if got := forge.API(forge.GitHub, &url.URL{Scheme: "https", Host: "github.com"}).String(); got != "https://api.github.com" {
		t.Error(got)
	}
}

// Every refusal to make one is told in the forge's words and made once.
func TestCreateRefused(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		for _, tc := range []struct {
			name   string
			set    func(s *forgesim.Sim) string // the branch
			class  forge.Class
			words  string
			status int
		}{
			{"no commits", func(s *forgesim.Sim) string { s.Empty("e"); return "e" }, forge.Rejected, "o commits between main and e", 0},
			{"403", func(s *forgesim.Sim) string { s.Fault("", "403"); return "b" }, forge.Refused, "fault", 403},
			{"404", func(s *forgesim.Sim) string { s.Fault("", "404"); return "b" }, forge.Refused, "fault", 404},
			{"422 of another kind", func(s *forgesim.Sim) string { s.Fault("", "422"); return "b" }, forge.Rejected, "fault", 422},
			{"409 of another kind", func(s *forgesim.Sim) string { s.Fault("", "409"); return "b" }, forge.Rejected, "fault", 409},
			{"423", func(s *forgesim.Sim) string { s.Fault("", "423"); return "b" }, forge.Rejected, "fault", 423},
		} {
			t.Run(string(kind)+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, kind)
				r.sim.Repo("lab/infra", true)
				branch := tc.set(r.sim)
				_, err := r.client(kind, "canary-token").Open(t.Context(), forge.Wanted{Repo: "lab/infra", HeadRepo: "lab/infra", Branch: branch, Base: "main"})
				said, ok := errors.AsType[*forge.APIError](err)
				if !ok || said.Class != tc.class || !strings.Contains(said.Text, tc.words) || tc.status != 0 && said.Status != tc.status {
					t.Fatalf("%+v", err)
				}
				posts := 0
				for _, c := range r.sim.Calls() {
					if strings.HasPrefix(c, "POST ") {
						posts++
					}
				}
				if posts != 1 || len(r.sim.Pulls("lab/infra")) != 0 {
					t.Errorf("%d posts: %v", posts, r.sim.Calls())
				}
			})
		}
	}
}

// "Already exists" is an answer to be looked up, also while the list does not
// have it yet; and the question that may name a closed one is never asked.
func TestAlreadyExists(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind)
			r.sim.Repo("lab/infra", true)
			closed := r.sim.Add("lab/infra", forgesim.Pull{Head: "b", Base: "main", State: "closed"})
			n := r.sim.Add("lab/infra", forgesim.Pull{Head: "b", Base: "main"})
			r.sim.Fault("empty", "", "empty") // not there, refused as existing, still not there
			p, err := r.client(kind, "canary-token").Open(t.Context(), forge.Wanted{Repo: "lab/infra", HeadRepo: "lab/infra", Branch: "b", Base: "main"})
			if err != nil || p.Number != n || p.Number == closed || p.State != "open" || len(r.sim.Pulls("lab/infra")) != 2 {
				t.Errorf("%+v, %v", p, err)
			}
			for _, c := range r.sim.Calls() {
				if strings.Contains(c, "/pulls/main/") {
					t.Errorf("asked %s", c)
				}
			}
		})
	}
}

// A repository that was renamed is still read; a redirect to elsewhere is not
// followed, and nobody there sees the token.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind)
			r.sim.Repo("lab/infra", true)
			r.sim.Rename("lab/infra", "lab/house")
			c := r.client(kind, "canary-token")
			if got, err := c.Repository(t.Context(), "lab/infra"); err != nil || got.FullName != "lab/house" {
				t.Errorf("%+v, %v", got, err)
			}
			thief := forgesim.New(string(kind), "canary-token")
			thief.Repo("lab/infra", true)
			srv := tlstest.NewCA(t).Serve(t, thief, "127.0.0.1")
			r.sim.Fault("away:" + srv.URL("127.0.0.1") + "/api/v1/repos/lab/infra")
			if _, err := c.Repository(t.Context(), "lab/house"); classOf(err) != forge.Unreachable || !strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("%v", err)
			}
			if len(thief.Calls()) != 0 {
				t.Errorf("it went there: %v", thief.Calls())
			}
		})
	}
}

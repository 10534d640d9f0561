package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// One container of a stack is watched: what works stays, what fails is gone back
// from by the stack's own revision, and the rest of the stack stays as it is.
func TestWatchStack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ns := s.namespace()
	s.shop(ns)
	r := newRegistry(t)
	repo := strings.TrimSuffix(r.image, ":stable")
	push := func() string { return r.push(t, time.Now().Format(time.RFC3339Nano)) }
	old := push()
	shared.Nodes.SetDigest(repo+":v1-ok", old)
	s.push("compose/docker-compose-back.yml", "acme/back:1-ok", repo+":v1-ok")
	s.git("repo", "pull", "--quiet")
	id := s.deploy("d")
	s.must("up", "deployment", "start", "--dir", "d", within)
	look := s.in(ns)
	image := func(deployment string) string {
		return look.Get("deployments", id+"-"+deployment+"-deployment").Str("spec", "template", "spec", "containers", 0, "image")
	}
	generation := look.Get("deployments", id+"-shop-deployment").Gen()
	claims := look.List("persistentvolumeclaims", "")

	type end struct {
		Running  struct{ ID string }
		Rollback *struct {
			Done bool
			To   string
		}
	}
	watch := func(verdict, tag string, more ...string) end {
		t.Helper()
		d := s.homelab(append([]string{
			"deploy", "watch", "--name", "back", "--from", "oci://" + repo + ":" + tag, "--to", "stack:" + s.path("d") + "?container=back",
			"--state-dir", s.path("state"), "--once", "--soak", "0s", "--initial", "deploy",
		}, more...)...)
		if d.result.Verdict != verdict {
			t.Fatalf("%s (%d), not %s: %s\n%s", d.result.Verdict, d.code, verdict, d.result.Reason, d.err)
		}
		var e end
		if err := json.Unmarshal([]byte(d.out), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}

	if e := watch("current", "v1-ok"); e.Running.ID != old {
		t.Errorf("runs %s, not %s", e.Running.ID, old)
	}
	next := push()
	if e := watch("live", "v2-ok"); e.Running.ID != next || image("back") != repo+":v2-ok@"+next {
		t.Errorf("runs %s by %s, not %s", e.Running.ID, image("back"), next)
	}
	push()
	e := watch("failed", "v3-exec-format", "--activate-timeout", "30s", "--ready-timeout", "30s")
	if e.Running.ID != next || e.Rollback == nil || !e.Rollback.Done || e.Rollback.To != next || image("back") != repo+":v2-ok@"+next {
		t.Errorf("%+v, by %s", e, image("back"))
	}
	watch("held", "v3-exec-format") // it is out

	if g := look.Get("deployments", id+"-shop-deployment").Gen(); g != generation {
		t.Errorf("the other Deployment was written: generation %d was %d", g, generation)
	}
	if now := look.List("persistentvolumeclaims", ""); len(now) != len(claims) || now[0].UID() != claims[0].UID() {
		t.Errorf("claims: %v were %v", now, claims)
	}
	if got := s.read("host/data/precious"); got != "what users own\n" {
		t.Errorf("the data: %q", got)
	}

	// A restart takes what git says, as it does after an update with --image, and
	// is not kept from it by what the watch has gone back from.
	s.must("up", "deployment", "restart", "--dir", "d", "--no-pull", within)
	if got := image("back"); got != repo+":v1-ok" {
		t.Errorf("runs %s", got)
	}
	watch("held", "v3-exec-format")
}

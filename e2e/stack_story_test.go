package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/e2e/cluster"
)

// wait is short, so that a run that hangs is told before the tests end.
const within = "--timeout=80s"

func TestStackFromSpecToStop(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ns := s.namespace()
	s.shop(ns)
	s.must("created", "deploy", "init", "--stack", "repo/stacks/shop", "--deploy-to", "k8s", "--kube-config", "kube.yaml",
		"--image-registry", "reg.test", "--output", "fresh.yml")
	id := s.deploy("d")
	look := s.in(ns)

	// Nothing is there yet: diff says what start would make.
	s.silent(func() {
		if d := s.must("changes", "deployment", "diff", "--dir", "d"); len(d.result.Plan.Create) < 10 {
			t.Errorf("the first diff: %v", d.touched())
		}
		s.must("changes", "deployment", "start", "--dir", "d", "--dry-run")
	})
	up := s.must("up", "deployment", "--dir", "d", "start", within)
	if len(up.result.Targets) != 3 || up.result.Deployment.ID != id || up.result.Deployment.Namespace != ns {
		t.Errorf("start: %s", up.out)
	}
	for _, name := range []string{id + "-shop-deployment", id + "-back-deployment"} {
		if o := look.Get("deployments", name); !cluster.Complete(o) {
			t.Errorf("start ended before %s was up: %v", name, o.At("status"))
		}
	}
	if got := look.List("jobs", ""); len(got) != 0 {
		t.Errorf("a suspended Job was made: %v", got)
	}

	// A second time nothing is written, by any verb.
	s.silent(func() {
		s.must("up", "deployment", "start", "--dir", "d", within)
		s.must("up", "deployment", "update", "--dir", "d", within)
		s.must("up", "deployment", "restart", "--dir", "d", within)
		if d := s.must("same", "deployment", "diff", "--dir", "d"); len(d.touched()) != 0 {
			t.Errorf("%v", d.touched())
		}
	})
	sets := len(look.List("replicasets", ""))

	// git changes; restart brings it.
	s.push("compose/docker-compose-back.yml", "acme/back:1-ok", "acme/back:2-ok")
	s.push("config/shop/app.conf", "one", "three")
	before := look.Get("deployments", id+"-back-deployment").Gen()
	d := s.must("up", "deployment", "restart", "--dir", "d", within)
	if got := d.touched(); !slices.Equal(got, []string{
		"~ConfigMap " + id + "-host-path-config-shop-app-conf", "~Deployment " + id + "-back-deployment", "~Deployment " + id + "-shop-deployment",
	}) {
		t.Errorf("restart changed %v", got)
	}
	if got := look.Get("deployments", id+"-back-deployment"); got.Gen() == before || got.Str("spec", "template", "spec", "containers", 0, "image") != "acme/back:2-ok" {
		t.Errorf("back: %v", got.At("spec"))
	}
	if n := len(look.List("replicasets", "")); n != sets+2 {
		t.Errorf("%d ReplicaSets, not %d: a changed config file rolls what mounts it", n, sets+2)
	}
	if !strings.Contains(d.err, "=== Restart Complete ===") {
		t.Errorf("the story:\n%s", d.err)
	}

	// What the files say by hand is what update and diff are about.
	s.edit("d/config.env", "LOG=info", "LOG=debug")
	if d := s.homelab("deployment", "diff", "--dir", "d", "--exit-code"); d.code != 1 || d.result.Verdict != "changes" {
		t.Errorf("diff --exit-code: %d %s", d.code, d.out)
	}
	s.must("up", "deployment", "update", "--dir", "d", within)
	s.edit("d/config.env", "LOG=debug", "LOG=info")
	s.must("up", "deployment", "update", "--dir", "d", within)

	// A service that is no longer rendered is taken away.
	s.push("stacks/shop/stack.yml", "  - old\n", "")
	s.push("deployment/spec.yml", "    old:\n     - '9090'\n", "")
	d = s.must("up", "deployment", "restart", "--dir", "d", within)
	if got := d.touched(); !slices.Equal(got, []string{"-Deployment " + id + "-old-deployment", "-Service old"}) {
		t.Errorf("restart without old: %v", got)
	}
	look.Gone("deployments", id+"-old-deployment")
	s.silent(func() { s.must("up", "deployment", "restart", "--dir", "d", within) })

	// With one pod file its Deployment is called otherwise. It mounts the claim
	// of the one it replaces, which therefore goes first.
	s.push("stacks/shop/stack.yml", "  - back\n", "")
	s.push("deployment/spec.yml", "    back:\n     - '8080'\n", "")
	events := look.Record("pods")
	s.must("up", "deployment", "restart", "--dir", "d", within)
	writers := map[string]bool{}
	for _, e := range events.Events() {
		if image := e.Object.Str("spec", "containers", 0, "image"); image != "acme/web:1-ok" {
			continue
		}
		writers[e.Object.Name()] = e.Type != "DELETED"
		if n := len(slices.Collect(maps.Values(writers))); n > 2 {
			t.Errorf("%d pods", n)
		}
		both := 0
		for _, there := range writers {
			if there {
				both++
			}
		}
		if both > 1 {
			t.Errorf("two pods write the same data: %v", writers)
		}
	}
	look.Gone("deployments", id+"-shop-deployment")
	look.Gone("deployments", id+"-back-deployment")
	s.silent(func() { s.must("up", "deployment", "restart", "--dir", "d", within) })

	// Stopped: what holds data stays, and is found again.
	volume := look.Get("persistentvolumes", id+"-data")
	claim := look.Get("persistentvolumeclaims", id+"-data")
	d = s.must("stopped", "deployment", "stop", "--dir", "d")
	if len(d.result.Volumes) != 1 || d.result.Volumes[0].Deleted || d.result.Volumes[0].Place != s.path("host/data") {
		t.Errorf("stop says of volumes: %+v", d.result.Volumes)
	}
	for _, r := range []string{"deployments", "services", "configmaps", "ingresses", "pods", "replicasets"} {
		for _, o := range look.List(r, "app="+id) {
			t.Errorf("stop left %s %s", r, o.Name())
		}
	}
	if look.Get("persistentvolumes", id+"-data").UID() != volume.UID() || look.Get("persistentvolumeclaims", id+"-data").UID() != claim.UID() {
		t.Error("stop replaced the volume or the claim")
	}
	s.silent(func() { s.must("stopped", "deployment", "stop", "--dir", "d") })
	s.must("up", "deployment", "start", "--dir", "d", within)
	if look.Get("persistentvolumeclaims", id+"-data").UID() != claim.UID() {
		t.Error("start replaced the claim")
	}

	// The namespace goes, the volume is kept: the next start finds the data.
	s.must("stopped", "deployment", "stop", "--dir", "d", "--delete-namespace")
	if v := look.Get("persistentvolumes", id+"-data"); v.UID() != volume.UID() || v.Str("status", "phase") == "Failed" {
		t.Errorf("the volume after its namespace: %v", v)
	}
	d = s.must("up", "deployment", "start", "--dir", "d", within)
	if !strings.Contains(d.err, "PV "+id+"-data is Released, clearing claimRef for rebinding") {
		t.Errorf("the story of the volume:\n%s", d.err)
	}
	if v := look.Get("persistentvolumes", id+"-data"); v.UID() != volume.UID() || v.Str("spec", "hostPath", "path") != s.path("host/data") {
		t.Errorf("the volume: %v", v)
	}

	// All of it goes when that is asked for, and the host's files stay.
	d = s.must("stopped", "deployment", "stop", "--dir", "d", "--delete-volumes", "--delete-namespace")
	if !d.result.Volumes[0].Deleted {
		t.Errorf("%+v", d.result.Volumes)
	}
	if _, err := look.TryGet("persistentvolumes", id+"-data"); cluster.Code(err) != 404 {
		t.Errorf("the volume is still there: %v", err)
	}
	if _, err := look.TryGet("namespaces", ns); cluster.Code(err) != 404 {
		t.Errorf("the namespace is still there: %v", err)
	}
	if s.read("host/data/precious") != "what users own\n" {
		t.Error("data is gone")
	}
	s.must("stopped", "deployment", "stop", "--dir", "d", "--delete-volumes", "--delete-namespace")
}

func TestStackBesideItsSibling(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ns := s.namespace()
	s.shop(ns)
	a := s.deploy("a")
	time.Sleep(150 * time.Millisecond) // ids are made of tenths of a second
	// The same stack again, with a namespace and a path of its own.
	other := s.namespace()
	s.file("b.yml", strings.NewReplacer(
		"namespace: "+ns, "namespace: "+other, s.path("host/data"), s.path("host/b"), "stack: stacks/shop", "stack: repo/stacks/shop",
	).Replace(s.read("repo/deployment/spec.yml")))
	b := s.must("created", "deploy", "create", "--spec-file", "b.yml", "--deployment-dir", "b").result.Deployment.ID
	if a == b {
		t.Fatal("two deployments have one id")
	}
	s.must("up", "deployment", "start", "--dir", "a", within)
	s.must("up", "deployment", "start", "--dir", "b", within)
	mine, theirs := s.in(ns), s.in(other)
	before := theirs.Get("persistentvolumes", b+"-data")

	d := s.must("stopped", "deployment", "stop", "--dir", "a", "--delete-volumes")
	if len(d.result.Volumes) != 1 || !d.result.Volumes[0].Deleted {
		t.Errorf("%+v", d.result.Volumes)
	}
	if _, err := mine.TryGet("persistentvolumes", a+"-data"); cluster.Code(err) != 404 {
		t.Errorf("a's volume is still there: %v", err)
	}
	if v := theirs.Get("persistentvolumes", b+"-data"); v.UID() != before.UID() || v.Str("status", "phase") != "Bound" {
		t.Errorf("the sibling's volume: %v", v)
	}
	s.silent(func() { s.must("up", "deployment", "start", "--dir", "b", within) })
	s.must("up", "deployment", "start", "--dir", "a", within)

	// The same directory copied, and a second one for an owned namespace.
	s.silent(func() {
		s.git(".", "clone", "--quiet", "repo", "clone") // only a directory to copy beside
		for _, dir := range []string{"copy"} {
			copyDir(t, s.path("a"), s.path(dir))
			d := s.must("conflict", "deployment", "start", "--dir", dir, within)
			for _, word := range []string{ns, s.path("a"), s.path(dir), "namespace: " + ns + "-", "--adopt-namespace"} {
				if !strings.Contains(d.err, word) {
					t.Errorf("the refusal does not say %q:\n%s", word, d.err)
				}
			}
			s.must("conflict", "deployment", "stop", "--dir", dir)
			s.must("conflict", "deployment", "update", "--dir", dir)
			s.must("conflict", "deployment", "restart", "--dir", dir)
		}
	})
	// It was moved on purpose: then it is said, and it changes nothing else.
	d = s.must("up", "deployment", "start", "--dir", "copy", "--adopt-namespace", within)
	if got := d.touched(); !slices.Equal(got, []string{"~Namespace " + ns}) {
		t.Errorf("adopting changes %v", got)
	}
	s.must("conflict", "deployment", "start", "--dir", "a", within)
}

package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"homelab/e2e/cluster"
	"homelab/pkg/artifact"
	target "homelab/pkg/artifact/target/workload"
	"homelab/pkg/kube"
	images "homelab/pkg/registry"
)

// watchRole is what a watch in the cluster may do, as it is documented, and
// nothing more.
const watchRole = `[
	{"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "watch"]},
	{"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list", "watch"]},
	{"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["get", "list", "watch", "patch"]}]`

// A watched deployment, whose image comes from a registry under a tag that
// moves.
type watched struct {
	t      *testing.T
	s      *cluster.Space
	r      *registry
	repo   string
	client *images.Client
	old    artifact.ID // what runs at first
}

func watching(t *testing.T, patches func(image string) []string) *watched {
	t.Helper()
	w := &watched{t: t, s: shared.Space(t), r: newRegistry(t)}
	w.repo = strings.TrimSuffix(w.r.image, ":stable")
	var err error
	if w.client, err = images.New(images.Options{}); err != nil {
		t.Fatal(err)
	}
	w.old = w.push()
	w.s.C.Nodes.SetDigest(w.r.image, string(w.old))
	w.s.Create(workload(t, "Deployment", w.r.image, patches(w.r.image)...))
	w.s.Complete("deployments", "web")
	return w
}

// probed is the one container with a readiness probe, so that a rollout settles
// soon.
func probed(image string) []string { return []string{containerSpec(image, probe)} }

// push makes another image and moves the tag to it.
func (w *watched) push() artifact.ID {
	w.t.Helper()
	return artifact.ID(w.r.push(w.t, time.Now().Format(time.RFC3339Nano)))
}

// cluster is the API server as the user sees it.
func (w *watched) cluster(u cluster.User) *kube.Cluster {
	w.t.Helper()
	c, err := kube.Connect(kube.Options{Kubeconfig: []string{u.Kubeconfig}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// on is the target: a container of the deployment, as the user.
func (w *watched) on(c target.Cluster, container string) *target.Target {
	s := target.Spec{Kind: "deployment", Namespace: w.s.Name, Name: "web", Container: container}
	return target.New(s, target.Deps{Cluster: c, Registry: w.client})
}

// to is a switch from what runs to the image, under a tag that says what
// becomes of its containers.
func (w *watched) to(tag string, id artifact.ID, from artifact.Version) artifact.Switch {
	return artifact.Switch{
		Watch: "web", Run: "r", Attempt: 1, From: &from,
		To: artifact.Candidate{ID: id, Kind: artifact.Image, Ref: w.repo + ":" + tag + "@" + string(id), Meta: artifact.Meta{Commit: sha}},
	}
}

// seen is what the target says that it runs, as the watch would keep it.
func (w *watched) seen(g *target.Target, known ...artifact.ID) (artifact.Observation, artifact.Version) {
	w.t.Helper()
	o, err := g.Observe(w.t.Context(), known)
	if err != nil {
		w.t.Fatal(err)
	}
	return o, artifact.Version{Candidate: artifact.Candidate{ID: o.ID, Kind: artifact.Image, Ref: o.Ref, Meta: artifact.Meta{Commit: o.Commit}}}
}

// until asks whether it is ready, as often as a watch would, until it says so.
func (w *watched) until(g *target.Target, s artifact.Switch, state artifact.ReadyState) artifact.Readiness {
	w.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		r, err := g.Ready(w.t.Context(), s)
		switch {
		case err != nil:
			w.t.Fatal(err)
		case r.State == state:
			return r
		case time.Now().After(deadline) || r.State != artifact.NotYet:
			w.t.Fatalf("%+v, want %s", r, state)
		}
	}
}

// written is what the template says of a container, and of the commit.
func (w *watched) written(container string) (image, revision string) {
	w.t.Helper()
	o := w.s.Get("deployments", "web")
	for _, c := range o.List("spec", "template", "spec", "containers") {
		if c.Str("name") == container {
			image = c.Str("image")
		}
	}
	return image, o.Str("spec", "template", "metadata", "annotations", target.RevisionKey)
}

func refused(t *testing.T, err error, class artifact.Class, says string) artifact.Failure {
	t.Helper()
	f, ok := errors.AsType[*artifact.Failure](err)
	if !ok {
		t.Fatalf("%v is no failure, want %s", err, class)
	}
	if f.Class != class || !strings.Contains(f.Error(), says) {
		t.Errorf("%v (%s), want %s saying %q", f, f.Class, class, says)
	}
	return *f
}

// With the documented Role a rollout that works stays, and one that fails is
// taken back by the image that ran, though its tag has moved.
func TestWatchRollout(t *testing.T) {
	t.Parallel()
	w := watching(t, probed)
	g := w.on(w.cluster(w.s.User(watchRole)), "web")
	o, first := w.seen(g)
	if !o.Is(w.old) || o.Owner == "" || first.Ref != w.repo+"@"+string(w.old) {
		t.Fatalf("%+v, want %s", o, w.old)
	}

	// An image always has an owner.
	next := w.push()
	s := w.to("v2-ok", next, first)
	_, err := g.Stage(t.Context(), s)
	if f := refused(t, err, artifact.Owned, "--take-ownership"); f.Owner != o.Owner {
		t.Errorf("owned by %q, and %q wrote it", f.Owner, o.Owner)
	}
	refused(t, g.Activate(t.Context(), s), artifact.Owned, "")
	s.TakeOwnership = true
	if st, err := g.Stage(t.Context(), s); err != nil || st.Owner != o.Owner {
		t.Fatalf("%+v, %v", st, err)
	}
	if image, _ := w.written("web"); image != w.r.image {
		t.Errorf("a preflight wrote %s", image)
	}
	if err := g.Activate(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if image, revision := w.written("web"); image != s.To.Ref || revision != sha {
		t.Errorf("%s of %s", image, revision)
	}
	if o, _ := w.seen(g, next, w.old); !o.Is(next) || o.Owner != "" {
		t.Errorf("%+v", o)
	}
	if r := w.until(g, s, artifact.IsReady); !r.Proof {
		t.Errorf("%+v", r)
	}

	// From here on it is the watch's.
	_, second := w.seen(g, next, w.old)
	second.Ref, second.Meta.Commit = s.To.Ref, s.To.Meta.Commit
	w.s.Patch("deployments", "web", `{"spec": {"minReadySeconds": 1}}`)
	bad := w.push()
	s = w.to("v3-exec-format", bad, second)
	s.To.Meta.Commit = newSHA
	if st, err := g.Stage(t.Context(), s); err != nil || st.Owner != "" || len(st.Warnings) > 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	if err := g.Activate(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if r := w.until(g, s, artifact.NotReady); !strings.Contains(strings.Join(r.Evidence, "\n"), "exec format error") {
		t.Errorf("%+v", r)
	}
	b := s
	b.To, b.From, b.Back = second.Candidate, &artifact.Version{Candidate: s.To}, true
	if err := g.Rollback(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if image, revision := w.written("web"); image != second.Ref || revision != sha {
		t.Errorf("%s of %s", image, revision)
	}
	w.until(g, b, artifact.IsReady)
	if n := w.s.Get("deployments", "web").Int("spec", "minReadySeconds"); n != 1 {
		t.Error("the way back undid somebody else's change")
	}

	// The first version is gone from the registry: there is no way back to it.
	w.r.mu.Lock()
	delete(w.r.blobs, string(next))
	w.r.mu.Unlock()
	_, err = g.Stage(t.Context(), w.to("v4-ok", bad, second))
	if f := refused(t, err, artifact.Hold, "no way back"); f.Why != artifact.NoWayBack {
		t.Errorf("%+v", f)
	}
}

// Somebody else writes the image while it is proving itself.
func TestWatchSecondOwner(t *testing.T) {
	t.Parallel()
	w := watching(t, probed)
	g := w.on(w.cluster(w.s.User(watchRole)), "web")
	_, first := w.seen(g)
	next := w.push()
	s := w.to("v2-slow-60s", next, first)
	s.TakeOwnership = true
	if err := g.Activate(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.seen(g, next, w.old)
	ctx, stop := context.WithCancel(t.Context())
	saw, ended := make(chan artifact.Observation, 100), make(chan error, 1)
	go func() { ended <- g.Watch(ctx, func(o artifact.Observation) { saw <- o }) }()
	told := func(ok func(artifact.Observation) bool) {
		t.Helper()
		for {
			select {
			case o := <-saw:
				if ok(o) {
					return
				}
			case <-time.After(30 * time.Second):
				t.Fatal("it was not told")
			}
		}
	}
	told(func(o artifact.Observation) bool { return o.Is(next) && o.Owner == "" })
	w.underway(g, s)
	w.s.SetImage("deployments", "web", w.repo+"@"+string(w.old))
	told(func(o artifact.Observation) bool { return o.Is(w.old) && o.Owner != "" })
	stop()
	<-ended
	if r := w.until(g, s, artifact.Superseded); r.Owner == "" {
		t.Errorf("%+v", r)
	}
	// It is not fought over.
	_, err := g.Stage(t.Context(), s)
	refused(t, err, artifact.Owned, "not taken a second time")
	b := s
	b.To, b.From, b.Back = first.Candidate, &artifact.Version{Candidate: s.To}, true
	b.To.ID, b.To.Ref = next, s.To.Ref
	refused(t, g.Rollback(t.Context(), b), artifact.Owned, "")
	if image, _ := w.written("web"); image != w.repo+"@"+string(w.old) {
		t.Errorf("%s was written", image)
	}
}

// underway checks that a rollout is on its way.
func (w *watched) underway(g *target.Target, s artifact.Switch) {
	w.t.Helper()
	if r, err := g.Ready(w.t.Context(), s); err != nil || r.State != artifact.NotYet {
		w.t.Errorf("%+v, %v", r, err)
	}
}

// Two watches share a pod, and neither touches the other's container.
func TestWatchTwoContainers(t *testing.T) {
	t.Parallel()
	w := watching(t, func(image string) []string {
		return []string{podSpec(`{"containers": [{"name": "web", "image": "` + image + `", ` + probe + `}, {"name": "side", "image": "` + image + `"}]}`)}
	})
	c := w.cluster(w.s.User(watchRole))
	web, side := w.on(c, "web"), w.on(c, "side")
	_, first := w.seen(web)
	next := w.push()
	s := w.to("v2-ok", next, first)
	s.TakeOwnership = true
	if err := web.Activate(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if image, _ := w.written("side"); image != w.r.image {
		t.Errorf("side is %s", image)
	}
	v := s
	v.To.Meta.Commit = newSHA
	if st, err := side.Stage(t.Context(), v); err != nil || !strings.Contains(strings.Join(st.Warnings, ""), "left to homelab-watch.web") {
		t.Errorf("%+v, %v", st, err)
	}
	if err := side.Activate(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*target.Target{"web": web, "side": side} {
		image, revision := w.written(name)
		if image != s.To.Ref || revision != sha {
			t.Errorf("%s: %s of %s", name, image, revision)
		}
		if o, _ := w.seen(g, next); !o.Is(next) || o.Owner != "" {
			t.Errorf("%s: %+v", name, o)
		}
	}
	w.until(web, s, artifact.IsReady)
	b := s
	b.To, b.From, b.Back = first.Candidate, &artifact.Version{Candidate: s.To}, true
	if err := side.Rollback(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if image, _ := w.written("web"); image != s.To.Ref {
		t.Errorf("web is %s", image)
	}
	if image, _ := w.written("side"); image != first.Ref {
		t.Errorf("side is %s", image)
	}
	if n := len(w.s.Get("deployments", "web").List("spec", "template", "spec", "containers")); n != 2 {
		t.Errorf("%d containers", n)
	}
}

// meddler is a cluster in which something happens right before each write.
type meddler struct {
	*kube.Cluster
	before func()
}

func (m meddler) Apply(ctx context.Context, r kube.Resource, ns, name string, body []byte, o kube.ApplyOptions) (kube.Object, error) {
	m.before()
	return m.Cluster.Apply(ctx, r, ns, name, body, o)
}

// What must not be written is not, even by somebody who may do everything.
func TestWatchWritesNothing(t *testing.T) {
	t.Parallel()
	w := watching(t, probed)
	all := w.cluster(w.s.User(`[{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]`))
	g := w.on(all, "web")
	_, first := w.seen(g)
	next := w.push()
	s := w.to("v2-ok", next, first)
	s.TakeOwnership = true

	_, err := w.on(all, "app").Stage(t.Context(), s)
	refused(t, err, artifact.Hold, "no container app; it has web")
	refused(t, w.on(all, "app").Activate(t.Context(), s), artifact.Hold, "no container app")

	reader := w.s.User(strings.Replace(watchRole, `, "patch"`, "", 1))
	_, err = w.on(w.cluster(reader), "web").Stage(t.Context(), s)
	refused(t, err, artifact.Denied, "patch on deployments.apps")

	w.s.Patch("deployments", "web", `{"spec": {"paused": true}}`)
	_, err = g.Stage(t.Context(), s)
	if f := refused(t, err, artifact.Hold, "paused"); f.Why != artifact.WorkloadHeld {
		t.Errorf("%+v", f)
	}
	w.s.Patch("deployments", "web", `{"spec": {"paused": false}}`)

	// Changed between the look and the write: looked at again.
	n := 0
	busy := w.on(meddler{all, func() {
		if n++; n < 3 {
			w.s.Patch("deployments", "web", `{"metadata": {"annotations": {"n": "`+strings.Repeat("x", n)+`"}}}`)
		}
	}}, "web")
	if err := busy.Activate(t.Context(), s); err != nil || n < 3 {
		t.Errorf("%v after %d writes", err, n)
	}
	w.until(busy, s, artifact.IsReady)

	// Deleted between the look and the write: it does not come back.
	gone := w.on(meddler{all, func() {
		if _, err := w.s.TryGet("deployments", "web"); err == nil {
			w.s.Delete("deployments", "web")
			w.s.Gone("deployments", "web")
		}
	}}, "web")
	s = w.to("v3-ok", w.push(), artifact.Version{Candidate: s.To})
	refused(t, gone.Activate(t.Context(), s), artifact.Absent, "there is no deployment")
	if _, err := w.s.TryGet("deployments", "web"); cluster.Code(err) != 404 {
		t.Errorf("%v: it is back", err)
	}
	if r, err := g.Ready(t.Context(), s); err != nil || r.State != artifact.Gone {
		t.Errorf("%+v, %v", r, err)
	}
	refused(t, g.Rollback(t.Context(), s), artifact.Absent, "")
}

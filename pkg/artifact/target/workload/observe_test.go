package workload_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/target/workload"
)

func TestObserve(t *testing.T) {
	t.Parallel()
	// The index, child and configuration are those under the tag live.
	type digests struct{ index, child, config, other artifact.ID }
	ids := func(all ...artifact.ID) []artifact.ID { return all }
	for _, tc := range []struct {
		name  string
		setup func(s *scene, d digests)
		known func(d digests) []artifact.ID
		want  func(d digests) artifact.ID // nil: unknown
		says  string
		owner string
	}{
		{
			name:  "pinned, and pods show the same",
			setup: func(s *scene, d digests) { s.runs(s.repo()+":live@"+string(d.index), "") },
			want:  func(d digests) artifact.ID { return d.index }, owner: stranger,
		},
		{
			name: "pinned to an index, and pods show its child",
			setup: func(s *scene, d digests) {
				s.runs(s.repo()+":live@"+string(d.index), d.child)
			},
			// The child is known as well: what the template says is what counts.
			known: func(d digests) []artifact.ID { return ids(d.index, d.child) },
			want:  func(d digests) artifact.ID { return d.index }, owner: stranger,
		},
		{
			name:  "pinned to a child of a known index",
			setup: func(s *scene, d digests) { s.runs(s.repo()+"@"+string(d.child), "") },
			known: func(d digests) []artifact.ID { return ids(d.other, d.index) },
			want:  func(d digests) artifact.ID { return d.index }, owner: stranger,
		},
		{
			name:  "pinned, and something between runs another image",
			setup: func(s *scene, d digests) { s.runs(s.repo()+"@"+string(d.index), d.other) },
			want:  func(d digests) artifact.ID { return d.other }, owner: stranger,
		},
		{
			name: "pinned, and no registry answers",
			setup: func(s *scene, d digests) {
				s.runs(s.repo()+"@"+string(d.index), d.child)
				s.down.Store(true)
			},
			want: func(d digests) artifact.ID { return d.index }, owner: stranger,
		},
		{
			name:  "a tag, by what its pods show",
			setup: func(s *scene, d digests) { s.runs(s.repo()+":live", d.other) },
			want:  func(d digests) artifact.ID { return d.other }, owner: stranger,
		},
		{
			name:  "a tag, and pods show the child of what it serves",
			setup: func(s *scene, d digests) { s.runs(s.repo()+":live", d.child) },
			want:  func(d digests) artifact.ID { return d.index }, owner: stranger,
		},
		{
			name: "a tag that moved since: the pods tell",
			setup: func(s *scene, d digests) {
				s.runs(s.repo()+":live", d.child)
				s.push("live")
			},
			known: func(d digests) []artifact.ID { return ids(d.index) },
			want:  func(d digests) artifact.ID { return d.index }, owner: stranger,
		},
		{
			name:  "a digest that is known by itself",
			setup: func(s *scene, d digests) { s.runs(s.repo()+":live", d.child) },
			known: func(d digests) []artifact.ID { return ids(d.index, d.child) },
			want:  func(d digests) artifact.ID { return d.child }, owner: stranger,
		},
		{
			name: "a local image, by its configuration",
			setup: func(s *scene, d digests) {
				s.sim.SetDigest(s.repo()+":live", string(d.config))
				s.runs(s.repo()+":live", "")
			},
			want: func(d digests) artifact.ID { return d.index }, owner: stranger,
		},
		{
			name: "whether it is a known one cannot be asked",
			setup: func(s *scene, d digests) {
				s.runs(s.repo()+":live", d.child)
				s.down.Store(true)
			},
			known: func(d digests) []artifact.ID { return ids(d.index) },
			says:  "cannot be told",
		},
		{
			name: "nothing is known, and no registry answers",
			setup: func(s *scene, d digests) {
				s.runs(s.repo()+":live", d.child)
				s.down.Store(true)
			},
			want: func(d digests) artifact.ID { return d.child }, owner: stranger,
		},
		{
			name: "no pod yet: what the tag serves",
			setup: func(s *scene, _ digests) {
				s.runs(s.repo()+":live", "", func(w *kubesim.Workload) { w.Replicas = 0 })
			},
			want: func(d digests) artifact.ID { return d.index }, owner: stranger,
		},
		{
			name: "no pod yet, and no registry",
			setup: func(s *scene, _ digests) {
				s.runs(s.repo()+":live", "", func(w *kubesim.Workload) { w.Replicas = 0 })
				s.down.Store(true)
			},
			says: "cannot be told",
		},
		{
			name: "a rollout in progress runs what it leads to",
			setup: func(s *scene, d digests) {
				s.runs(s.repo()+"@"+string(d.other), "")
				s.sim.Rollout("shop/web", s.repo()+"@"+string(d.index), kubesim.Plan{Pod: kubesim.Life{Start: kubesim.Never}, Writer: "helm"})
			},
			want: func(d digests) artifact.ID { return d.index }, owner: "helm",
		},
		{
			name: "pods that run different images",
			setup: func(s *scene, d digests) {
				s.runs(s.repo()+":live", d.index)
				pod := s.sim.Objects("pods", "shop")[0]["metadata"].(kubesim.Object)["name"].(string)
				s.sim.Update("pods", "shop", pod, func(o kubesim.Object) {
					c := o["status"].(kubesim.Object)["containerStatuses"].([]any)[0].(kubesim.Object)
					c["imageID"] = s.repo() + "@" + string(d.other)
				})
			},
			says: "different images",
		},
		{
			name: "written by this watch",
			setup: func(s *scene, d digests) {
				s.runs(s.repo()+":live@"+string(d.index), "")
				s.own()
			},
			want: func(d digests) artifact.ID { return d.index },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			d := digests{other: s.push("other")}
			d.index, d.child, d.config = s.pushIndex("live")
			tc.setup(s, d)
			var known []artifact.ID
			if tc.known != nil {
				known = tc.known(d)
			}
			o, err := s.target.Observe(t.Context(), known)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == nil {
				if o.Sight != artifact.Unknown || o.ID != "" || !strings.Contains(o.Why, tc.says) {
					t.Errorf("%+v, want unknown saying %q", o, tc.says)
				}
				return
			}
			if !o.Is(tc.want(d)) || o.Owner != tc.owner {
				t.Errorf("%+v, want %s by %q", o, tc.want(d), tc.owner)
			}
			if want := s.repo(); !strings.HasPrefix(o.Ref, want) || !strings.HasSuffix(o.Ref, "@"+string(o.ID)) || strings.Contains(o.Ref, ":live") {
				t.Errorf("ref %q", o.Ref)
			}
		})
	}
}

// A container that the workload does not have is an answer, and no reason to
// ask again and again.
func TestObserveNoContainer(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.runs(s.repo()+"@"+string(s.push("live")), "", func(w *kubesim.Workload) { w.Container = "app" })
	_, err := s.target.Observe(t.Context(), nil)
	fails(t, err, artifact.Absent, "no container web; it has app")
}

// A tag with a number in it is kept, and a commit the template names.
func TestObservePedigree(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.push("main-12")
	sha := strings.Repeat("7", 40)
	s.runs(s.repo()+":main-12", id, func(w *kubesim.Workload) { w.Annotations = map[string]string{workload.RevisionKey: sha} })
	o, err := s.target.Observe(t.Context(), nil)
	if err != nil || o.Ref != s.repo()+":main-12@"+string(id) || o.Commit != sha {
		t.Errorf("%+v, %v", o, err)
	}
	s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
		o["spec"].(kubesim.Object)["template"].(kubesim.Object)["metadata"].(kubesim.Object)["annotations"] = kubesim.Object{workload.RevisionKey: "last week's"}
	})
	if o, err = s.target.Observe(t.Context(), nil); err != nil || o.Commit != "" {
		t.Errorf("%+v, %v: that is no commit", o, err)
	}
}

func TestObserveRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	id := s.push("live")
	_, err := s.target.Observe(t.Context(), nil)
	fails(t, err, artifact.Absent, "there is no deployment shop/web")
	s.runs(s.repo()+":live", id)

	nobody := s.sim.AddUser(kubesim.User{Name: "nobody", Allow: []kubesim.Rule{}})
	_, err = s.as(nobody.Token, s.spec).Observe(t.Context(), nil)
	fails(t, err, artifact.Denied, "needs get on deployments.apps")

	// Without the pods a tag says nothing, a digest everything.
	blind := s.sim.AddUser(kubesim.User{Name: "blind", Allow: []kubesim.Rule{{Resources: []string{"deployments"}}}})
	target := s.as(blind.Token, s.spec)
	if o, err := target.Observe(t.Context(), nil); err != nil || o.Sight != artifact.Unknown || !strings.Contains(o.Why, "may not be read") {
		t.Errorf("%+v, %v", o, err)
	}
	s.sim.Rollout("shop/web", s.repo()+"@"+string(id), kubesim.Plan{})
	if o, err := target.Observe(t.Context(), nil); err != nil || !o.Is(id) {
		t.Errorf("%+v, %v", o, err)
	}

	s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
		o["metadata"].(kubesim.Object)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
	})
	_, err = s.target.Observe(t.Context(), nil)
	fails(t, err, artifact.Absent, "being deleted")

	s.sim.Down(time.Hour)
	_, err = s.target.Observe(t.Context(), nil)
	fails(t, err, artifact.Transient, "")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("enough"))
	if _, err = s.target.Observe(ctx, nil); err == nil || err.Error() != "enough" {
		t.Errorf("%v, want the cause", err)
	}
}

// Somebody else's change is told by the target itself.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	old, next := s.push("old"), s.push("next")
	s.runs(s.repo()+"@"+string(old), "")
	if _, err := s.target.Observe(t.Context(), []artifact.ID{old, next}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	seen := make(chan artifact.Observation, 16)
	ended := make(chan error, 1)
	go func() { ended <- s.target.Watch(ctx, func(o artifact.Observation) { seen <- o }) }()
	want := func(id artifact.ID, owner string) {
		t.Helper()
		select {
		case o := <-seen:
			if !o.Is(id) || o.Owner != owner {
				t.Errorf("%+v, want %s by %q", o, id, owner)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing was told")
		}
	}
	want(old, stranger)
	s.sim.Rollout("shop/web", s.repo()+":next@"+string(next), kubesim.Plan{Writer: "helm"})
	want(next, "helm")
	s.sim.DropWatches()
	s.sim.Rollout("shop/web", s.repo()+"@"+string(old), kubesim.Plan{Writer: "helm"})
	want(old, "helm")
	s.sim.Delete("deployments", "shop", "web")
	s.sim.Delete("replicasets", "shop", "web")
	stop(fmt.Errorf("over"))
	if err := <-ended; err == nil || err.Error() != "over" {
		t.Errorf("%v", err)
	}
	// The status changes all the time; only what matters is told.
	if n := len(seen); n != 0 {
		t.Errorf("%d more: %+v", n, <-seen)
	}
	nobody := s.sim.AddUser(kubesim.User{Name: "nobody", Allow: []kubesim.Rule{}})
	fails(t, s.as(nobody.Token, s.spec).Watch(t.Context(), nil), artifact.Denied, "")
}

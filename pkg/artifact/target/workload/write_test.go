package workload_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/target/workload"
)

var (
	shaA = strings.Repeat("a1", 20)
	shaB = strings.Repeat("b2", 20)
)

func TestStage(t *testing.T) {
	t.Parallel()
	type world struct {
		*scene
		old, next artifact.ID
		target    *workload.Target
	}
	for _, tc := range []struct {
		name  string
		setup func(w *world, s *artifact.Switch)
		class artifact.Class // "": staged
		why   artifact.Why
		says  string // of the failure, or of a warning
		owner string
	}{
		{name: "ready", setup: func(w *world, _ *artifact.Switch) { w.own() }},
		{
			name: "nobody knows who wrote it",
			setup: func(w *world, _ *artifact.Switch) {
				w.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { delete(o["metadata"].(kubesim.Object), "managedFields") })
			},
			class: artifact.Owned, says: "--take-ownership", owner: "before-first-apply",
		},
		{
			name: "unknown container",
			setup: func(w *world, _ *artifact.Switch) {
				w.spec.Container = "app"
				w.target = w.as(kubesim.Admin, w.spec)
			},
			class: artifact.Hold, why: artifact.Preflight, says: "no container app; it has web",
		},
		{
			name: "paused",
			setup: func(w *world, _ *artifact.Switch) {
				w.own()
				w.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { o["spec"].(kubesim.Object)["paused"] = true })
			},
			class: artifact.Hold, why: artifact.WorkloadHeld, says: "paused",
		},
		{
			name: "updated by hand",
			setup: func(w *world, _ *artifact.Switch) {
				w.sim.Deploy(kubesim.Workload{Kind: "StatefulSet", Namespace: "shop", Name: "web", Image: w.repo() + ":live", Replicas: 1, Strategy: "OnDelete"})
				w.spec.Kind = "statefulset"
				w.target = w.as(kubesim.Admin, w.spec)
			},
			class: artifact.Hold, why: artifact.Preflight, says: "OnDelete",
		},
		{
			name: "another repository",
			setup: func(w *world, s *artifact.Switch) {
				w.own()
				s.To.Ref = w.host + "/else/web:v1@" + string(w.next)
			},
			class: artifact.Hold, why: artifact.Repository, says: "not of " /* the other */, owner: "",
		},
		{
			name: "another repository, allowed",
			setup: func(w *world, s *artifact.Switch) {
				w.own()
				s.To.Ref, s.AllowRepositoryChange = w.host+"/else/web:v1@"+string(w.next), true
			},
		},
		{
			name:  "a reference of another digest",
			setup: func(w *world, s *artifact.Switch) { s.To.Ref = w.repo() + "@" + string(w.old) },
			class: artifact.Hold, why: artifact.Preflight, says: "does not name the digest",
		},
		{
			name:  "a reference without a digest",
			setup: func(w *world, s *artifact.Switch) { s.To.Ref = w.repo() + ":v1" },
			class: artifact.Hold, why: artifact.Preflight, says: "does not name the digest",
		},
		{
			name:  "the previous image is gone",
			setup: func(w *world, _ *artifact.Switch) { w.own(); w.forget(w.old) },
			class: artifact.Hold, why: artifact.NoWayBack, says: "no way back",
		},
		{
			name: "the previous image is gone, and known from before",
			setup: func(w *world, _ *artifact.Switch) {
				w.own()
				if _, err := w.client.Resolve(w.t.Context(), w.repo()+"@"+string(w.old)); err != nil {
					w.t.Fatal(err)
				}
				w.forget(w.old)
			},
			class: artifact.Hold, why: artifact.NoWayBack, says: "no way back",
		},
		{
			name:  "the previous image is gone, and nobody will go back",
			setup: func(w *world, s *artifact.Switch) { w.own(); w.forget(w.old); s.NoRollback = true },
		},
		{
			name: "only a configuration's digest is known",
			setup: func(w *world, s *artifact.Switch) {
				w.own()
				_, _, config := w.pushIndex("local")
				s.From.ID, s.From.Ref = config, ""
			},
			class: artifact.Hold, why: artifact.NoWayBack, says: "no way back",
		},
		{
			name:  "the registry does not answer",
			setup: func(w *world, _ *artifact.Switch) { w.own(); w.down.Store(true) },
			says:  "cannot be told",
		},
		{
			name: "the previous image was gone when the registry last answered",
			setup: func(w *world, s *artifact.Switch) {
				w.own()
				w.forget(w.old)
				if _, err := w.target.Stage(w.t.Context(), *s); err == nil {
					w.t.Fatal("it is not gone")
				}
				w.down.Store(true)
			},
			class: artifact.Hold, why: artifact.NoWayBack, says: "when it last answered",
		},
		{
			name: "no registry to ask",
			setup: func(w *world, _ *artifact.Switch) {
				w.own()
				w.target = workload.New(w.spec, workload.Deps{Cluster: w.cluster(kubesim.Admin)})
			},
			says: "no registry to ask",
		},
		{name: "somebody else's image", class: artifact.Owned, says: "keel owns the image of container web of deployment shop/web; --take-ownership", owner: "keel"},
		{
			name:  "taken from Keel",
			setup: func(_ *world, s *artifact.Switch) { s.TakeOwnership = true },
			says:  "Keel loses the image", owner: "keel",
		},
		{
			name:  "taken from Helm",
			setup: func(w *world, s *artifact.Switch) { w.wrote("helm"); s.TakeOwnership = true },
			says:  "Helm loses", owner: "helm",
		},
		{
			name:  "taken from Terraform",
			setup: func(w *world, s *artifact.Switch) { w.wrote("Terraform"); s.TakeOwnership = true },
			says:  "Terraform loses", owner: "Terraform",
		},
		{
			name:  "taken from Flux",
			setup: func(w *world, s *artifact.Switch) { w.wrote("kustomize-controller"); s.TakeOwnership = true },
			says:  "Flux loses", owner: "kustomize-controller",
		},
		{
			name: "taken from Argo CD, which hides behind kubectl",
			setup: func(w *world, s *artifact.Switch) {
				w.wrote("kubectl-client-side-apply")
				w.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
					o["metadata"].(kubesim.Object)["annotations"] = kubesim.Object{"argocd.argoproj.io/tracking-id": "web:apps/Deployment:shop/web"}
				})
				s.TakeOwnership = true
			},
			says: "Argo CD loses", owner: "kubectl-client-side-apply",
		},
		{
			name: "taken from a person, who will not come back",
			setup: func(w *world, s *artifact.Switch) {
				w.wrote("kubectl-set")
				s.TakeOwnership = true
			},
			owner: "kubectl-set",
		},
		{
			name: "not permitted to write",
			setup: func(w *world, _ *artifact.Switch) {
				u := w.sim.AddUser(kubesim.User{Name: "reader", Allow: []kubesim.Rule{{Verbs: []string{"get", "list", "watch"}}}})
				w.target = w.as(u.Token, w.spec)
			},
			class: artifact.Denied, says: "needs patch on deployments.apps",
		},
		{
			name: "a policy is against it",
			setup: func(w *world, _ *artifact.Switch) {
				w.sim.Inject(kubesim.Fault{Kind: kubesim.Status, Verb: "patch", Code: 422})
			},
			class: artifact.Hold, why: artifact.Preflight,
		},
		{
			name:  "it is not there",
			setup: func(w *world, _ *artifact.Switch) { w.sim.Delete("deployments", "shop", "web") },
			class: artifact.Absent, says: "there is no deployment shop/web",
		},
		{
			name:  "unreachable",
			setup: func(w *world, _ *artifact.Switch) { w.sim.Down(time.Hour) },
			class: artifact.Transient,
		},
		{
			name: "overloaded",
			setup: func(w *world, _ *artifact.Switch) {
				w.sim.Inject(kubesim.Fault{Kind: kubesim.Status, Verb: "patch", Code: 429, RetryAfter: 3})
			},
			class: artifact.Transient,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := &world{scene: newScene(t)}
			w.old, w.next = w.push("v0"), w.push("v1")
			w.runs(w.repo()+":v0", w.old)
			w.target = w.scene.target
			s := w.to("v1", w.next, w.old)
			if tc.setup != nil {
				tc.setup(w, &s)
			}
			before := w.sim.Version()
			st, err := w.target.Stage(t.Context(), s)
			if after := w.sim.Version(); after != before {
				t.Errorf("something was written: version %d, then %d", before, after)
			}
			for _, q := range w.writes() {
				if q.Get("dryRun") != "All" {
					t.Errorf("a write that is no dry run: %v", q)
				}
			}
			if tc.class != "" {
				if f := fails(t, err, tc.class, tc.says); f.Why != tc.why || f.Owner != tc.owner {
					t.Errorf("why %q, owner %q, want %q, %q", f.Why, f.Owner, tc.why, tc.owner)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if st.Owner != tc.owner || (len(st.Warnings) == 1) != (tc.says != "") || !strings.Contains(strings.Join(st.Warnings, ""), tc.says) {
				t.Errorf("%+v, want owner %q and a warning %q", st, tc.owner, tc.says)
			}
		})
	}
}

func TestActivate(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	old, next := s.push("v0"), s.push("v1")
	s.runs(s.repo()+":v0", old)
	s.own()
	w := s.to("v1", next, old)
	w.To.Meta.Commit = shaA
	was := s.sim.Object("deployments", "shop", "web")
	if err := s.target.Activate(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if got := s.image("web"); got != w.To.Ref {
		t.Errorf("image %s", got)
	}
	if got := s.annotation(); got != shaA {
		t.Errorf("annotation %q", got)
	}
	all := s.writes()
	if len(all) != 1 || all[0].Get("fieldManager") != "homelab-watch.web" || all[0].Get("force") != "false" || all[0].Get("dryRun") != "" {
		t.Errorf("written with %v", all)
	}
	// Nothing but the image and the annotation is different.
	now := s.sim.Object("deployments", "shop", "web")
	for _, o := range []kubesim.Object{was, now} {
		delete(o, "status")
		delete(o, "metadata")
		tmpl := o["spec"].(kubesim.Object)["template"].(kubesim.Object)
		tmpl["spec"].(kubesim.Object)["containers"].([]any)[0].(kubesim.Object)["image"] = ""
		delete(tmpl["metadata"].(kubesim.Object)["annotations"].(kubesim.Object), workload.RevisionKey)
	}
	if a, b := text(t, was), text(t, now); a != b {
		t.Errorf("before %s\nafter  %s", a, b)
	}
	if o, err := s.target.Observe(t.Context(), []artifact.ID{next, old}); err != nil || !o.Is(next) || o.Owner != "" || o.Commit != shaA {
		t.Errorf("%+v, %v", o, err)
	}

	// A tag that carries the commit needs no annotation; one that is there must
	// not contradict it.
	third := s.push("main-b2b2b2b")
	w = s.to("main-b2b2b2b", third, next)
	w.To.Meta.Commit = shaB
	if err := s.target.Activate(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if got := s.annotation(); got != shaB {
		t.Errorf("annotation %q", got)
	}
}

// What happens between the look and the write.
func TestActivateRaces(t *testing.T) {
	t.Parallel()
	touch := func(s *scene) {
		n := s.sim.Version()
		s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { o["spec"].(kubesim.Object)["minReadySeconds"] = n })
	}
	for _, tc := range []struct {
		name   string
		meddle func(s *scene, n int)
		class  artifact.Class
		says   string
		owner  string
		tries  int
	}{
		{name: "changed four times", meddle: func(s *scene, n int) {
			if n < 5 {
				touch(s)
			}
		}, tries: 5},
		{name: "changed all the time", meddle: func(s *scene, _ int) { touch(s) }, class: artifact.Later, says: "changed by others 5 times", tries: 5},
		{name: "deleted", meddle: func(s *scene, _ int) { s.sim.Delete("deployments", "shop", "web") }, class: artifact.Absent, says: "there is no", tries: 1},
		{name: "recreated by somebody", meddle: func(s *scene, n int) {
			if n == 1 {
				s.sim.Delete("deployments", "shop", "web")
				s.sim.Deploy(kubesim.Workload{Namespace: "shop", Name: "web", Image: s.repo() + ":v0", Replicas: 1})
				s.wrote("helm")
			}
		}, class: artifact.Owned, owner: "helm", tries: 2},
		{name: "paused", meddle: func(s *scene, _ int) {
			s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { o["spec"].(kubesim.Object)["paused"] = true })
		}, class: artifact.Hold, says: "paused", tries: 1},
		{name: "taken by somebody", meddle: func(s *scene, n int) {
			if n == 1 {
				s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
					o["spec"].(kubesim.Object)["template"].(kubesim.Object)["spec"].(kubesim.Object)["containers"].([]any)[0].(kubesim.Object)["image"] = s.repo() + ":v9"
				})
				s.wrote("helm")
			}
		}, class: artifact.Owned, owner: "helm", tries: 2},
		{name: "the container was renamed", meddle: func(s *scene, _ int) {
			s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
				o["spec"].(kubesim.Object)["template"].(kubesim.Object)["spec"].(kubesim.Object)["containers"].([]any)[0].(kubesim.Object)["name"] = "app"
			})
		}, class: artifact.Hold, says: "no container web; it has app", tries: 1},
		{name: "unreachable", meddle: func(s *scene, _ int) { s.sim.Down(time.Hour) }, class: artifact.Transient, tries: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			old, next := s.push("v0"), s.push("v1")
			s.runs(s.repo()+":v0", old)
			s.own()
			n := 0
			target := s.meddled(func(dry bool) {
				if dry {
					t.Error("a dry run")
				}
				n++
				tc.meddle(s, n)
			})
			err := target.Activate(t.Context(), s.to("v1", next, old))
			if n != tc.tries {
				t.Errorf("%d writes, want %d", n, tc.tries)
			}
			if tc.class == "" {
				if err != nil || s.image("web") != s.repo()+":v1@"+string(next) {
					t.Errorf("%v, runs %s", err, s.image("web"))
				}
				return
			}
			if f := fails(t, err, tc.class, tc.says); f.Owner != tc.owner {
				t.Errorf("owner %q, want %q", f.Owner, tc.owner)
			}
			if o := s.sim.Object("deployments", "shop", "web"); o == nil {
				if tc.class != artifact.Absent {
					t.Error("it is gone")
				}
			} else if got := s.image("web"); strings.Contains(got, string(next)) {
				t.Errorf("written all the same: %s", got)
			} else if tc.class == artifact.Absent {
				t.Error("a deleted object is back")
			}
		})
	}
}

// The field is taken once. Somebody who takes it back keeps it.
func TestTakeOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	old, next, third := s.push("v0"), s.push("v1"), s.push("v2")
	s.runs(s.repo()+":v0", old)
	w := s.to("v1", next, old)
	w.TakeOwnership = true
	if _, err := s.target.Stage(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if err := s.target.Activate(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if o, err := s.target.Observe(t.Context(), nil); err != nil || !o.Is(next) || o.Owner != "" {
		t.Errorf("%+v, %v", o, err)
	}
	// From now on it is the watch's, without force.
	v := s.to("v2", third, next)
	if st, err := s.target.Stage(t.Context(), v); err != nil || st.Owner != "" {
		t.Errorf("%+v, %v", st, err)
	}
	s.sim.Rollout("shop/web", s.repo()+":v0", kubesim.Plan{Writer: "keel"})
	v.TakeOwnership = true
	_, err := s.target.Stage(t.Context(), v)
	if f := fails(t, err, artifact.Owned, "not taken a second time"); f.Owner != "keel" {
		t.Errorf("owner %q", f.Owner)
	}
	fails(t, s.target.Activate(t.Context(), v), artifact.Owned, "not taken a second time")
	fails(t, s.target.Rollback(t.Context(), back(w)), artifact.Owned, "")
	if s.image("web") != s.repo()+":v0" {
		t.Errorf("written all the same: %s", s.image("web"))
	}
}

// The tag that ran has moved to the bad image: the way back is the digest.
func TestRollback(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	old := s.push("live")
	s.runs(s.repo()+":live", old, func(w *kubesim.Workload) { w.Annotations = map[string]string{workload.RevisionKey: shaA} })
	o, err := s.target.Observe(t.Context(), nil)
	if err != nil || !o.Is(old) {
		t.Fatalf("%+v, %v", o, err)
	}
	next := s.push("live")
	w := s.to("live", next, old)
	w.From = &artifact.Version{Candidate: artifact.Candidate{ID: o.ID, Kind: artifact.Image, Ref: o.Ref, Meta: artifact.Meta{Commit: o.Commit}}}
	w.To.Meta.Commit, w.TakeOwnership = shaB, true
	if err := s.target.Activate(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if s.image("web") != s.repo()+":live@"+string(next) || s.annotation() != shaB {
		t.Errorf("%s, %s", s.image("web"), s.annotation())
	}
	// Other people's changes stay.
	s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { o["spec"].(kubesim.Object)["minReadySeconds"] = 1 })
	for _, tc := range []struct {
		name   string
		target *workload.Target
	}{{"the process that switched", s.target}, {"one that was restarted", s.as(kubesim.Admin, s.spec)}} {
		if err := s.target.Activate(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if err := tc.target.Rollback(t.Context(), back(w)); err != nil {
			t.Fatal(tc.name, err)
		}
		if s.image("web") != s.repo()+"@"+string(old) || s.annotation() != shaA {
			t.Errorf("%s: %s, %s", tc.name, s.image("web"), s.annotation())
		}
		if o, err := tc.target.Observe(t.Context(), []artifact.ID{next, old}); err != nil || !o.Is(old) || o.Owner != "" {
			t.Errorf("%s: %+v, %v", tc.name, o, err)
		}
	}
	if got := s.sim.Object("deployments", "shop", "web")["spec"].(kubesim.Object)["minReadySeconds"]; got != 1.0 {
		t.Errorf("minReadySeconds %v", got)
	}
	if r := s.until(back(w), artifact.IsReady); !r.Proof {
		t.Errorf("%+v", r)
	}

	// Without a reference the present repository has to do; paused or not.
	b := back(w)
	b.To.Ref = ""
	s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { o["spec"].(kubesim.Object)["paused"] = true })
	if err := s.as(kubesim.Admin, s.spec).Rollback(t.Context(), b); err != nil || s.image("web") != s.repo()+"@"+string(old) {
		t.Errorf("%v: %s", err, s.image("web"))
	}
	s.sim.Delete("deployments", "shop", "web")
	fails(t, s.target.Rollback(t.Context(), b), artifact.Absent, "")
	if s.sim.Object("deployments", "shop", "web") != nil {
		t.Error("a deleted object is back")
	}
}

// Two watches, each on its container of the same pods.
func TestTwoContainers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	old, next := s.push("v0"), s.push("v1")
	s.runs(s.repo()+"@"+string(old), "")
	s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
		spec := o["spec"].(kubesim.Object)["template"].(kubesim.Object)["spec"].(kubesim.Object)
		spec["containers"] = append(spec["containers"].([]any), kubesim.Object{"name": "side", "image": s.repo() + "@" + string(old)})
	})
	s.sim.Kick("shop/web")
	other := s.spec
	other.Container = "side"
	web, side := s.target, s.as(kubesim.Admin, other)
	w := s.to("v1", next, old)
	w.TakeOwnership = true
	w.To.Meta.Commit = shaA
	if err := web.Activate(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	v := w
	v.To.Meta.Commit = shaB // of a container that is built elsewhere
	st, err := side.Stage(t.Context(), v)
	if err != nil || st.Owner != "" || !slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.Contains(w, "left to homelab-watch.web") }) {
		t.Errorf("%+v, %v", st, err)
	}
	if s.image("side") != s.repo()+"@"+string(old) {
		t.Errorf("side runs %s", s.image("side"))
	}
	if err := side.Activate(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if s.image("side") != w.To.Ref || s.image("web") != w.To.Ref || s.annotation() != shaA {
		t.Errorf("%s, %s, %s", s.image("side"), s.image("web"), s.annotation())
	}
	for name, target := range map[string]*workload.Target{"web": web, "side": side} {
		if o, err := target.Observe(t.Context(), nil); err != nil || !o.Is(next) || o.Owner != "" {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	// The one goes back, and the other stays.
	if err := web.Rollback(t.Context(), back(w)); err != nil {
		t.Fatal(err)
	}
	if s.image("side") != w.To.Ref || s.image("web") != s.repo()+"@"+string(old) {
		t.Errorf("side %s, web %s", s.image("side"), s.image("web"))
	}
	if r, err := side.Ready(t.Context(), v); err != nil || r.State == artifact.Superseded {
		t.Errorf("%+v, %v", r, err)
	}
}

// Without an annotation a tag that carries the commit is left to speak.
func TestActivateTagSpeaks(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	old, next := s.push("v0"), s.push("main-a1a1a1a1")
	s.runs(s.repo()+":v0", old)
	s.own()
	w := s.to("main-a1a1a1a1", next, old)
	w.To.Meta.Commit = shaA
	if err := s.target.Activate(t.Context(), w); err != nil || s.annotation() != "" || s.image("web") != w.To.Ref {
		t.Errorf("%v: %s, annotation %q", err, s.image("web"), s.annotation())
	}
}

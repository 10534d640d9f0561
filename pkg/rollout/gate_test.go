package rollout

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func wants(v Verdict, k WantKind, ref string) bool {
	return slices.ContainsFunc(v.Fetch, func(w Want) bool { return w.Kind == k && (ref == "" || w.Reference == ref) })
}

// image changes the template's and the pods' image, keeping the revision.
func (w *world) image(ref string) *world {
	for i := range w.Target.Template.Containers {
		w.Target.Template.Containers[i].Image = ref
	}
	for i := range w.Pods {
		w.Pods[i].Containers[0].Image = ref
	}
	return w
}

func TestGateSteps(t *testing.T) {
	tests := []struct {
		name     string
		bend     func(*world)
		by       string // "" while unmatched
		verified bool
		warns    string
	}{
		{"tag", func(*world) {}, "tag", true, ""},
		{"a modified checkout", func(w *world) { w.image("reg.lan/web:3f9c2ab-dirty") }, "tag", true, "modified checkout"},
		{"tag only, annotation present", func(w *world) {
			w.image("reg.lan/web:v1").cfg.Match = MatchTag
			w.Target.Template.Annotations = map[string]string{"git-sha": wanted}
		}, "", false, ""},
		{"annotation", func(w *world) {
			w.image("reg.lan/web:v1")
			w.Target.Template.Annotations = map[string]string{"git-sha": wanted}
		}, "annotation:git-sha", false, "could not be verified"},
		{"label of the template", func(w *world) {
			w.image("reg.lan/web:v1")
			w.Target.Template.Labels = map[string]string{"app.kubernetes.io/version": "3f9c2ab"}
		}, "annotation:app.kubernetes.io/version", false, ""},
		{"a version that is no commit", func(w *world) {
			w.image("reg.lan/web:v1").cfg.Expected = Expected{Build: "build-77"}
			w.Target.Template.Labels = map[string]string{"app.kubernetes.io/version": "build-77"}
			w.Images["reg.lan/web:v1"] = ImageAnswer{Digest: sumNew}
		}, "", false, ""},
		{"a build id", func(w *world) { w.image("reg.lan/web:main-build-77").cfg.Expected = Expected{Build: "build-77"} }, "tag", true, ""},
		{"a named annotation", func(w *world) {
			w.image("reg.lan/web:v1").cfg.Match, w.cfg.Key = MatchAnnotation, "team/rev"
			w.Target.Template.Annotations = map[string]string{"team/rev": wanted}
		}, "annotation:team/rev", false, ""},
		{"another annotation than the named", func(w *world) {
			w.image("reg.lan/web:v1").cfg.Match, w.cfg.Key = MatchAnnotation, "team/rev"
			w.Target.Template.Annotations = map[string]string{"git-sha": wanted}
			w.Target.Template.Containers[0].Env = map[string]string{"GIT_SHA": wanted}
		}, "", false, ""},
		{"environment", func(w *world) {
			w.image("reg.lan/web:v1")
			w.Target.Template.Containers[0].Env = map[string]string{"GIT_SHA": wanted}
		}, "env:GIT_SHA", false, ""},
		{"a mutable tag whose digest runs", func(w *world) {
			w.image("reg.lan/web:latest")
			w.Target.Template.Containers[0].Env = map[string]string{"GIT_SHA": wanted}
			w.Images["reg.lan/web:latest"] = ImageAnswer{Digest: sumNew, Closure: []string{sumNew}}
		}, "env:GIT_SHA", true, ""},
		{"label", func(w *world) {
			w.image("reg.lan/web:v1")
			w.Images["reg.lan/web:v1"] = ImageAnswer{Digest: sumNew, Closure: []string{sumNew}, Revisions: []string{wanted}}
		}, "label", true, ""},
		{"label of another commit", func(w *world) {
			w.image("reg.lan/web:v1")
			w.Images["reg.lan/web:v1"] = ImageAnswer{Digest: sumNew, Closure: []string{sumNew}, Revisions: []string{strings.Repeat("5", 39) + "a"}}
		}, "", false, ""},
		{"label unanswered", func(w *world) { w.image("reg.lan/web:v1") }, "", false, ""},
		{"label refused", func(w *world) {
			w.image("reg.lan/web:v1")
			w.Images["reg.lan/web:v1"] = ImageAnswer{Err: "401"}
		}, "", false, "the registry did not tell"},
		{"label refused beside a tag of another commit", func(w *world) {
			w.image(oldRef)
			w.Images[oldRef] = ImageAnswer{Err: "401"}
		}, "", false, ""},
		{"same image", func(w *world) { w.cfg.Expected = Expected{Image: newRef} }, "image", true, ""},
		{"another image", func(w *world) {
			w.cfg.Expected = Expected{Image: oldRef}
			w.Images[newRef], w.Images[oldRef] = ImageAnswer{Digest: sumNew}, ImageAnswer{Digest: sumOld}
		}, "", false, ""},
		{"another name of the same digest", func(w *world) {
			w.cfg.Expected = Expected{Image: "reg.lan/web:v9"}
			w.Images[newRef] = ImageAnswer{Digest: sumNew, Closure: []string{sumNew}}
			w.Images["reg.lan/web:v9"] = ImageAnswer{Digest: sumNew}
		}, "image", true, ""},
		{"image unanswered", func(w *world) { w.cfg.Expected = Expected{Image: "reg.lan/web:v9"} }, "", false, ""},
		{"digest, pinned", func(w *world) {
			w.image("reg.lan/web@" + sumNew).cfg.Expected = Expected{Digest: sumNew}
		}, "digest", true, ""},
		{"digest, resolved", func(w *world) {
			w.cfg.Expected = Expected{Digest: sumNew}
			w.Images[newRef] = ImageAnswer{Digest: sumNew}
		}, "digest", true, ""},
		{"digest of a child", func(w *world) {
			w.cfg.Expected = Expected{Digest: sumNew}
			w.Images[newRef] = ImageAnswer{Digest: sumElse, Closure: []string{sumElse, sumNew}}
		}, "digest", true, ""},
		{"digest of the index of what is pinned", func(w *world) {
			w.image("reg.lan/web@" + sumNew).cfg.Expected = Expected{Digest: sumElse}
			w.Images["reg.lan/web@"+sumElse] = ImageAnswer{Digest: sumElse, Closure: []string{sumElse, sumNew}}
		}, "digest", true, ""},
		{"another digest", func(w *world) {
			w.cfg.Expected = Expected{Digest: sumOld}
			w.Images[newRef] = ImageAnswer{Digest: sumNew, Closure: []string{sumNew}}
		}, "", false, ""},
		{"digest without a registry, seen running", func(w *world) {
			w.cfg.Expected = Expected{Digest: sumNew}
			w.Images[newRef] = ImageAnswer{Err: "down"}
		}, "digest", true, ""},
		{"digest without a registry, not seen", func(w *world) {
			w.cfg.Expected = Expected{Digest: sumOld}
			w.Images[newRef] = ImageAnswer{Err: "down"}
		}, "", false, "the registry did not tell"},
		{"commit and digest, both", func(w *world) {
			w.cfg.Expected.Digest = sumNew
			w.Images[newRef] = ImageAnswer{Digest: sumNew, Closure: []string{sumNew}}
		}, "tag", true, ""},
		{"commit and digest, one", func(w *world) {
			w.cfg.Expected.Digest = sumOld
			w.Images[newRef] = ImageAnswer{Digest: sumNew, Closure: []string{sumNew}}
		}, "", false, ""},
		{"a commit by digest", func(w *world) { w.cfg.Match, w.cfg.AllowUnmatchable = MatchDigest, true }, "", false, ""},
		{"no gate", func(w *world) { w.cfg.NoGate, w.cfg.Expected = true, Expected{} }, "-", false, "no image gate"},
		{"changed since", func(w *world) {
			w.cfg.Expected, w.cfg.ChangedSince = Expected{}, noon()
			w.Target.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": noon().Add(time.Second).Format(time.RFC3339)}
		}, "changed-since", false, "not a commit"},
		{"changed before", func(w *world) {
			w.cfg.Expected, w.cfg.ChangedSince = Expected{}, noon()
			w.Target.Template.Annotations = map[string]string{"keel.sh/update-time": "2030-05-01 11:59:59 +0000 UTC"}
		}, "", false, ""},
	}
	for _, r := range tests {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(Deployment)
			r.bend(w)
			v := w.look()
			if r.by == "" {
				expect{outcome: Pending, phase: PhaseImage, warns: r.warns}.check(t, "", v)
				if r.warns == "" && len(v.Warnings) > 0 {
					t.Errorf("warnings %q", v.Warnings)
				}
				return
			}
			expect{outcome: Ready, verified: &r.verified, warns: r.warns}.check(t, "", v)
			if by := strings.TrimPrefix(r.by, "-"); v.MatchedBy != by {
				t.Errorf("matched by %q, want %q", v.MatchedBy, by)
			}
		})
	}
	t.Run("another digest since the start", func(t *testing.T) {
		w := newWorld(Deployment)
		w.cfg.Expected, w.cfg.ChangedSince = Expected{}, noon()
		expect{outcome: Pending, phase: PhaseImage}.check(t, "before", w.look())
		for i := range w.Pods {
			w.Pods[i].Containers[0].ImageID = "reg.lan/web@" + sumElse
		}
		v := w.look()
		expect{outcome: Ready, verified: new(false)}.check(t, "after", v)
	})
	t.Run("the registry is asked only where it must", func(t *testing.T) {
		w := newWorld(Deployment)
		if v := w.look(); wants(v, WantImage, "") {
			t.Errorf("asked for a tag that names the commit: %+v", v.Fetch)
		}
		w.image("reg.lan/web:latest")
		w.Target.Template.Annotations = map[string]string{"git-sha": wanted}
		w.Memory = Memory{}
		v := w.look()
		expect{outcome: Pending, phase: PhaseSettle}.check(t, "while it is asked", v)
		if !wants(v, WantImage, "reg.lan/web:latest") {
			t.Errorf("a mutable tag is not asked for: %+v", v.Fetch)
		}
		expect{outcome: Ready, verified: new(false)}.check(t, "when it never answers", w.pass(15*time.Second).look())
		w.image("reg.lan/web:v1")
		w.Target.Template.Annotations = nil
		w.Memory = Memory{}
		if v := w.look(); !wants(v, WantImage, "reg.lan/web:v1") {
			t.Errorf("the label is not asked for: %+v", v.Fetch)
		}
	})
}

func TestGateContainers(t *testing.T) {
	with := func(w *world, cs ...Container) {
		w.Target.Template.Containers = append(w.Target.Template.Containers, cs...)
		for i := range w.Pods {
			for _, c := range cs {
				w.Pods[i].Containers = append(w.Pods[i].Containers, ContainerStatus{
					Name: c.Name, Image: c.Image, ImageID: "reg.lan/x@" + sumElse, Ready: true, Seen: true, Init: c.Init, State: State{Is: Running, Started: noon().Add(-time.Hour)},
				})
			}
		}
	}
	ready := &Probe{}
	for _, r := range []struct {
		name  string
		bend  func(*world)
		want  expect
		gated []string
	}{
		{"a companion does not matter", func(w *world) { with(w, Container{Name: "proxy", Image: "istio/proxyv2:1.2", Readiness: ready}) }, expect{outcome: Ready}, []string{"web"}},
		{"a stranger does not matter once one matches", func(w *world) { with(w, Container{Name: "db", Image: "postgres:16", Readiness: ready}) }, expect{outcome: Ready}, []string{"web"}},
		{"all of a repository have to match", func(w *world) { with(w, Container{Name: "migrate", Image: oldRef, Init: true}) }, expect{outcome: Pending, phase: PhaseImage, says: "half updated: container migrate is still " + oldRef}, []string{"web", "migrate"}},
		{"all of a repository do match", func(w *world) { with(w, Container{Name: "migrate", Image: newRef, Init: true}) }, expect{outcome: Ready}, []string{"web", "migrate"}},
		{"only the named", func(w *world) {
			with(w, Container{Name: "migrate", Image: oldRef, Init: true})
			w.cfg.Containers = []string{"web"}
		}, expect{outcome: Ready}, []string{"web"}},
		{"a named stranger", func(w *world) {
			with(w, Container{Name: "db", Image: "postgres:16"})
			w.cfg.Containers, w.cfg.Match = []string{"web", "db"}, MatchTag
		}, expect{outcome: Pending, phase: PhaseImage}, []string{"web", "db"}},
		{"a named container that is not there", func(w *world) { w.cfg.Containers = []string{"web", "app"} }, expect{outcome: Pending, phase: PhaseImage}, []string{"web"}},
		{"reported against the only own repository", func(w *world) {
			with(w, Container{Name: "proxy", Image: "istio/proxyv2:1.2"})
			w.image("reg.lan/web:5555555").cfg.Match = MatchTag
			w.Target.Template.Containers[1].Image = "istio/proxyv2:1.2"
		}, expect{outcome: Pending, says: "container web is reg.lan/web:5555555"}, []string{"web"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(Deployment)
			r.bend(w)
			v := w.look()
			r.want.check(t, "", v)
			if !slices.Equal(v.Containers, r.gated) {
				t.Errorf("gated %q, want %q", v.Containers, r.gated)
			}
		})
	}
	t.Run("a container that ever matched stays gated", func(t *testing.T) {
		w := newWorld(Deployment)
		with(w, Container{Name: "migrate", Image: newRef, Init: true})
		w.look()
		w.Target.Template.Containers[1].Image = "reg.lan/web:5555555"
		w.Target.Generation++
		expect{outcome: Superseded}.check(t, "", w.look())
	})
	t.Run("a changed repository is told", func(t *testing.T) {
		w := newWorld(Deployment)
		w.look()
		w.Target.Template.Containers[0].Image = "other.lan/web:3f9c2ab"
		w.Memory.Repos = []string{"reg.lan/web"}
		expect{warns: ""}.check(t, "", Assess(w.Snapshot, w.cfg, w.now))
		if v := Assess(w.Snapshot, w.cfg, w.now); !contains(v.Warnings, "container web changed its repository to other.lan/web") {
			t.Errorf("%q", v.Warnings)
		}
	})
}

func TestExactImages(t *testing.T) {
	for _, r := range []struct {
		name   string
		images map[string]string
		commit string
		want   expect
	}{
		{"as applied", map[string]string{"web": newRef}, "", expect{outcome: Ready}},
		{"another reference", map[string]string{"web": oldRef}, "", expect{outcome: Pending, phase: PhaseImage}},
		{"the same image by another name", map[string]string{"web": "reg.lan/web:v9"}, "", expect{outcome: Pending, phase: PhaseImage}},
		{"a container that is not there", map[string]string{"web": newRef, "side": "x"}, "", expect{outcome: Pending, phase: PhaseImage}},
		{"as applied, and of the commit", map[string]string{"web": newRef}, wanted, expect{outcome: Ready}},
		{"as applied, of another commit", map[string]string{"web": newRef}, strings.Repeat("5", 39) + "a", expect{outcome: Pending, phase: PhaseImage}},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(Deployment)
			w.cfg.Expected, w.cfg.Images = Expected{Commit: r.commit}, r.images
			v := w.look()
			r.want.check(t, "", v)
			if r.commit == "" && v.Outcome == Ready && v.MatchedBy != "image" {
				t.Errorf("matched by %q", v.MatchedBy)
			}
		})
	}
	t.Run("replaced by somebody", func(t *testing.T) {
		w := newWorld(Deployment)
		w.cfg.Expected, w.cfg.Images = Expected{}, map[string]string{"web": newRef}
		w.look()
		w.Target.Managers = []Manager{{Name: "keel", Time: noon(), Images: []string{"web"}}}
		w.pass(time.Second).image("reg.lan/web:other").Target.Generation = 3
		w.Target.Status.Observed = 3
		expect{outcome: Superseded, says: "keel"}.check(t, "", w.look())
	})
}

func TestSuperseded(t *testing.T) {
	const newer = "abcdef1"
	for _, r := range []struct {
		name  string
		image string
		bend  func(*world)
		want  expect
		add   []string
	}{
		{"rolled back to what was before", oldRef, func(*world) {}, expect{outcome: Superseded, says: "rolled back: " + oldRef}, nil},
		{"moved on to what git does not know", "reg.lan/web:" + newer, func(*world) {}, expect{outcome: Superseded, says: "superseded: reg.lan/web:" + newer, next: "git fetch"}, nil},
		{"moved on to a descendant", "reg.lan/web:" + newer, func(w *world) { w.Ancestry[newer] = Descent{Answer: Yes} }, expect{outcome: Superseded, says: "superseded by newer abcdef1"}, []string{"--accept-newer"}},
		{"moved on to no descendant", "reg.lan/web:" + newer, func(w *world) { w.Ancestry[newer] = Descent{Answer: No} }, expect{outcome: Superseded}, nil},
		{"moved on to latest", "reg.lan/web:latest", func(*world) {}, expect{outcome: Superseded}, nil},
		{"a descendant is taken", "reg.lan/web:" + newer, func(w *world) {
			w.cfg.AcceptNewer = true
			w.Ancestry[newer] = Descent{Answer: Yes, Commit: newer + "2"}
		}, expect{outcome: Ready, warns: "following abcdef1"}, nil},
		{"an unknown commit is not taken", "reg.lan/web:" + newer, func(w *world) { w.cfg.AcceptNewer = true; w.Ancestry[newer] = Descent{} }, expect{outcome: Superseded, next: "git fetch"}, nil},
		{"an elder commit is not taken", oldRef, func(w *world) { w.cfg.AcceptNewer = true; w.Ancestry["77ab01c"] = Descent{Answer: No} }, expect{outcome: Superseded, says: "rolled back"}, nil},
		{"what git has not answered yet", "reg.lan/web:" + newer, func(w *world) { w.cfg.AcceptNewer = true }, expect{outcome: Pending, phase: PhaseImage}, nil},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(Deployment)
			w.look()
			w.Target.Managers = []Manager{{Name: "keel", Time: noon(), Images: []string{"web"}}}
			w.pass(time.Second).image(r.image).Target.Generation = 3
			w.Target.Status.Observed = 3
			r.bend(w)
			v := w.look()
			r.want.check(t, "", v)
			if v.Outcome == Superseded && !strings.Contains(v.Sentence, "generation 3") || v.Outcome == Superseded && !strings.Contains(v.Sentence, "keel 1s ago") {
				t.Errorf("sentence %q", v.Sentence)
			}
			if !slices.Equal(v.Repeat, r.add) {
				t.Errorf("repeat %q, want %q", v.Repeat, r.add)
			}
			if r.want.outcome == Ready && (v.Expected.Commit != newer+"2" || v.MatchedBy != "tag") {
				t.Errorf("%+v", v)
			}
		})
	}
	t.Run("before a match a newer image is a hint", func(t *testing.T) {
		w := newWorld(Deployment)
		w.image("reg.lan/web:" + newer)
		w.Ancestry[newer] = Descent{Answer: Yes}
		w.Images["reg.lan/web:"+newer] = ImageAnswer{Digest: sumNew}
		v := w.look()
		expect{outcome: Pending, phase: PhaseImage}.check(t, "", v)
		if !contains(v.Why, "abcdef1 is newer: it descends from 3f9c2ab; --accept-newer takes it") {
			t.Errorf("%q", v.Why)
		}
		w.cfg.AcceptNewer = true
		expect{outcome: Ready, warns: "following"}.check(t, "skipped and never seen", w.look())
	})
	t.Run("by what it was known", func(t *testing.T) {
		w := newWorld(Deployment)
		w.image("reg.lan/web:v1")
		w.Target.Template.Containers = append(w.Target.Template.Containers, Container{Name: "db", Image: "postgres:16", Readiness: &Probe{}})
		w.Target.Template.Containers[0].Env = map[string]string{"GIT_SHA": wanted}
		w.look()
		w.Target.Template.Containers[0].Image, w.Target.Template.Containers[0].Env = "reg.lan/web:v2", map[string]string{"GIT_SHA": newer}
		v := w.look()
		expect{outcome: Superseded}.check(t, "without a registry", v)
		if wants(v, WantImage, "") || !slices.Equal(v.Containers, []string{"web"}) {
			t.Errorf("asks %+v about %q", v.Fetch, v.Containers)
		}
	})
	t.Run("a label gate waits for the new image's label", func(t *testing.T) {
		w := newWorld(Deployment)
		w.image("reg.lan/web:v1")
		w.Images["reg.lan/web:v1"] = ImageAnswer{Digest: sumNew, Closure: []string{sumNew}, Revisions: []string{wanted}}
		w.look()
		w.image("reg.lan/web:v2").Target.Generation = 3
		expect{outcome: Pending}.check(t, "unanswered", w.look())
		w.Images["reg.lan/web:v2"] = ImageAnswer{Err: "down"}
		expect{outcome: Pending}.check(t, "unreachable", w.look())
		w.Images["reg.lan/web:v2"] = ImageAnswer{Digest: sumElse}
		expect{outcome: Superseded}.check(t, "answered", w.look())
	})
}

func TestImpossibleGate(t *testing.T) {
	latest := func(w *world) {
		w.image("reg.lan/web:latest")
		w.Images["reg.lan/web:latest"] = ImageAnswer{Digest: sumNew}
		for i := range w.ReplicaSets {
			w.ReplicaSets[i].Template.Containers[0].Image = "reg.lan/web:latest"
		}
	}
	pinned := func(w *world) {
		w.image("reg.lan/web@" + sumNew)
		w.Images["reg.lan/web@"+sumNew] = ImageAnswer{Digest: sumNew}
		for i := range w.ReplicaSets {
			w.ReplicaSets[i].Template.Containers[0].Image = "reg.lan/web@" + sumOld
		}
	}
	failed := expect{outcome: Failed, phase: PhaseImage, class: ClassGate, reason: "ImpossibleGate"}
	waits := expect{outcome: Pending, phase: PhaseImage}
	for _, r := range []struct {
		name string
		bend func(*world)
		want expect
	}{
		{"latest, and nothing names a commit", latest, failed},
		{"no tag at all", func(w *world) {
			latest(w)
			w.image("reg.lan/web").Images["reg.lan/web"] = ImageAnswer{Digest: sumNew}
		}, failed},
		{"allowed", func(w *world) { latest(w); w.cfg.AllowUnmatchable = true }, waits},
		{"the registry does not answer", func(w *world) { latest(w); w.Images["reg.lan/web:latest"] = ImageAnswer{Err: "down"} }, waits},
		{"the registry has not answered", func(w *world) { latest(w); delete(w.Images, "reg.lan/web:latest") }, waits},
		{"the image is labelled with another commit", func(w *world) {
			latest(w)
			w.Images["reg.lan/web:latest"] = ImageAnswer{Revisions: []string{"abcdef1"}}
		}, waits},
		{"an annotation names another commit", func(w *world) { latest(w); w.Target.Template.Annotations = map[string]string{"commit": "abcdef1"} }, waits},
		{"the environment names another commit", func(w *world) {
			latest(w)
			w.Target.Template.Containers[0].Env = map[string]string{"GIT_SHA": "abcdef1"}
		}, waits},
		{"an old tag named a commit", func(w *world) { latest(w); w.ReplicaSets[0].Template.Containers[0].Image = oldRef }, waits},
		{"history not listed yet", func(w *world) { latest(w); w.ReplicaSetSight = Unread }, waits},
		{"history forbidden", func(w *world) { latest(w); w.ReplicaSetSight = Forbidden }, waits},
		{"a tag that may name a commit tomorrow", func(w *world) {
			latest(w)
			w.image("reg.lan/web:v1").Images["reg.lan/web:v1"] = ImageAnswer{Digest: sumNew}
		}, waits},
		{"pinned throughout, by tag", func(w *world) { pinned(w); w.cfg.Match = MatchTag }, failed},
		{"pinned throughout, by label", func(w *world) { pinned(w); w.cfg.Match = MatchLabel }, waits},
		{"pinned throughout, by anything", pinned, waits},
		{"pinned now, tagged before", func(w *world) {
			pinned(w)
			w.cfg.Match = MatchTag
			w.ReplicaSets[0].Template.Containers[0].Image = oldRef
		}, waits},
		{"HEAD is nowhere", func(w *world) {
			w.image(oldRef).Images[oldRef] = ImageAnswer{Digest: sumOld}
			w.cfg.Expected.Head, w.Remote = true, &RemoteAnswer{Answer: No}
		}, failed},
		{"HEAD may be somewhere", func(w *world) {
			w.image(oldRef).Images[oldRef] = ImageAnswer{Digest: sumOld}
			w.cfg.Expected.Head, w.Remote = true, &RemoteAnswer{}
		}, waits},
		{"a named commit is nowhere", func(w *world) {
			w.image(oldRef).Images[oldRef] = ImageAnswer{Digest: sumOld}
			w.Remote = &RemoteAnswer{Answer: No}
		}, waits},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(Deployment)
			r.bend(w)
			r.want.check(t, "", w.look())
		})
	}
	t.Run("it asks for what it needs", func(t *testing.T) {
		w := newWorld(StatefulSet)
		latest(w)
		w.RevisionSight, w.Revisions, w.cfg.Expected.Head = Unread, nil, true
		v := w.look()
		if !wants(v, WantRevisions, "") || !wants(v, WantRemote, "") {
			t.Errorf("%+v", v.Fetch)
		}
		w.RevisionSight = Seen
		failed.check(t, "", w.look())
	})
}

func TestRunningDigests(t *testing.T) {
	run := func(id string) func(*world) {
		return func(w *world) {
			for i := range w.Pods {
				w.Pods[i].Containers[0].ImageID = id
			}
		}
	}
	const pin = "reg.lan/web:main-3f9c2ab@" + sumNew
	right, unsure, wrong := expect{outcome: Ready, verified: new(true)}, expect{outcome: Ready, verified: new(false), warns: "could not be verified"}, expect{outcome: Failed, reason: "WrongImageRunning", class: ClassGate}
	closure := ImageAnswer{Digest: sumNew, Closure: []string{sumNew, sumOld}}
	mutable := func(id string, answers map[string]ImageAnswer) func(*world) {
		return func(w *world) {
			w.image("reg.lan/web:latest")
			w.Target.Template.Annotations = map[string]string{"git-sha": wanted}
			run(id)(w)
			maps.Copy(w.Images, answers)
		}
	}
	for _, r := range []struct {
		name string
		bend func(*world)
		want expect
	}{
		{"pinned and equal", func(w *world) { w.image(pin) }, right},
		{"pinned, docker's form", func(w *world) { w.image(pin); run("docker-pullable://reg.lan/web@" + sumNew)(w) }, right},
		{"pinned to an index, a child runs", func(w *world) {
			w.image(pin)
			run("reg.lan/web@" + sumOld)(w)
			w.Images["reg.lan/web@"+sumNew] = closure
		}, right},
		{"pinned, another runs", func(w *world) {
			w.image(pin)
			run("reg.lan/web@" + sumElse)(w)
			w.Images["reg.lan/web@"+sumNew] = closure
		}, wrong},
		{"pinned, another runs, no registry", func(w *world) {
			w.image(pin)
			run("reg.lan/web@" + sumElse)(w)
			w.Images["reg.lan/web@"+sumNew] = ImageAnswer{Err: "down"}
		}, unsure},
		{"pinned, a local image of the closure", func(w *world) { w.image(pin); run(sumOld)(w); w.Images["reg.lan/web@"+sumNew] = closure }, right},
		{"pinned, no id yet", func(w *world) { w.image(pin); run("")(w) }, unsure},
		{"the commit's tag needs no registry", func(*world) {}, right},
		{"the commit's tag, no id", run(""), unsure},
		{"mutable and equal", mutable("reg.lan/web@"+sumNew, map[string]ImageAnswer{"reg.lan/web:latest": closure}), right},
		{"mutable, no registry", mutable("reg.lan/web@"+sumNew, map[string]ImageAnswer{"reg.lan/web:latest": {Err: "down"}}), unsure},
		{"mutable, moved since, same commit", mutable("reg.lan/web@"+sumElse, map[string]ImageAnswer{"reg.lan/web:latest": closure, "reg.lan/web@" + sumElse: {Revisions: []string{wanted}}}), right},
		{"mutable, another commit runs", mutable("reg.lan/web@"+sumElse, map[string]ImageAnswer{"reg.lan/web:latest": closure, "reg.lan/web@" + sumElse: {Revisions: []string{"abcdef1abcdef1"}}}), wrong},
		{"mutable, what runs names nothing", mutable("reg.lan/web@"+sumElse, map[string]ImageAnswer{"reg.lan/web:latest": closure, "reg.lan/web@" + sumElse: {}}), unsure},
		{"mutable, what runs cannot be asked", mutable("reg.lan/web@"+sumElse, map[string]ImageAnswer{"reg.lan/web:latest": closure, "reg.lan/web@" + sumElse: {Err: "gone"}}), unsure},
		{"mutable, a local image", mutable(sumElse, map[string]ImageAnswer{"reg.lan/web:latest": closure}), unsure},
		{"a wanted digest, another runs", func(w *world) {
			w.cfg.Expected = Expected{Digest: sumNew}
			run("reg.lan/web@" + sumElse)(w)
			w.Images[newRef], w.Images["reg.lan/web@"+sumNew] = closure, closure
		}, wrong},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(Deployment)
			r.bend(w)
			r.want.check(t, "", w.look())
		})
	}
	t.Run("not yet running is waited for", func(t *testing.T) {
		w := newWorld(Deployment)
		w.image(pin)
		w.Images["reg.lan/web@"+sumNew] = closure
		w.Pods[0].unready(waiting("ContainerCreating", ""))
		w.Pods[0].Containers[0].ImageID = "reg.lan/web@" + sumElse
		expect{outcome: Pending}.check(t, "", w.look())
	})
}

func TestMovers(t *testing.T) {
	w := newWorld(Deployment)
	w.image(oldRef)
	w.Images[oldRef] = ImageAnswer{Digest: sumOld}
	w.Target.Managers = []Manager{
		{Name: "helm", Time: noon().Add(-3 * time.Hour), Images: []string{"web"}},
		{Name: "keel", Time: noon().Add(-2 * time.Hour), Images: []string{"web"}},
		{Name: "other", Time: noon(), Images: []string{"proxy"}},
	}
	w.Target.Annotations = map[string]string{"keel.sh/policy": "force", "keel.sh/pollSchedule": "@every 20m", "argocd.argoproj.io/tracking-id": "shop"}
	w.cfg.Deadline = noon().Add(15 * time.Minute)
	w.Pipeline = &PipelineFact{Number: 57, Failed: true, Status: "failure"}
	w.cfg.WithPipelines = true
	v := w.look()
	expect{outcome: Pending, says: "container web is " + oldRef + ", set by keel 2h ago", next: "homelab ci watch " + wanted}.check(t, "", v)
	for _, want := range []string{
		"Keel polls every 20m, and the wait ends in 15m", "it is owned by Argo CD (shop), which writes what its source says", "the commit's pipeline 57 ended as failure",
	} {
		if !contains(v.Why, want) {
			t.Errorf("why %q lacks %q", v.Why, want)
		}
	}
	w.Target.Annotations = map[string]string{"keel.sh/policy": "never"}
	w.Target.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
	w.ReplicaSets[1].Annotations = map[string]string{historyAnnotation: "1,3"}
	v = w.look()
	for _, want := range []string{
		"Keel is told never to update it (keel.sh/policy: never)", "it is owned by Flux (Kustomization apps), which writes what its source says", "Flux is told not to reconcile it",
		"this template was replaced before and is back: helm and keel and other write its image",
	} {
		if !contains(v.Why, want) {
			t.Errorf("why %q lacks %q", v.Why, want)
		}
	}
}

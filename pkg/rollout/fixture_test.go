package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The fixtures: a workload called shop/web that is to run commit wanted, as it
// is when its rollout has long been complete. Tests bend it.
const (
	wanted  = "3f9c2ab000000000000000000000000000000000"
	newRef  = "reg.lan/web:main-3f9c2ab"
	oldRef  = "reg.lan/web:77ab01c"
	sumNew  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	sumOld  = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	sumElse = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

func noon() time.Time { return time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC) }

type world struct {
	Snapshot
	cfg Config
	now time.Time
}

func templateOf(image string, hash string) Template {
	return Template{
		Hash: hash, Shape: hash, RestartPolicy: "Always",
		Containers: []Container{{Name: "web", Image: image, Readiness: &Probe{Timeout: time.Second, Period: 10 * time.Second, Failures: 3, Successes: 1}}},
	}
}

func newWorld(kind Kind) *world {
	w := &world{now: noon()}
	w.cfg = Config{Kind: kind, Namespace: "shop", Name: "web", Expected: Expected{Commit: wanted, Typed: 7}}
	long := noon().Add(-time.Hour)
	t := &Target{
		Meta: Meta{Namespace: "shop", Name: "web", UID: "target", ResourceVersion: "100", Generation: 2, Created: long},
		Kind: kind, Replicas: 3, Strategy: RollingUpdate, ProgressDeadline: 10 * time.Minute,
		Selector: Selector{Labels: map[string]string{"app": "web"}}, Template: templateOf(newRef, "new"),
		Status: Status{Observed: 2, Replicas: 3, Updated: 3, Ready: 3, Available: 3, Current: 3, CurrentRevision: "web-new", UpdateRevision: "web-new"},
	}
	w.Target = t
	w.PodSight, w.ReplicaSetSight, w.RevisionSight = Seen, Seen, Seen
	w.Events = map[string]Events{}
	w.Nodes = map[string]NodeAnswer{}
	w.Claims = map[string]ClaimAnswer{}
	w.Images = map[string]ImageAnswer{}
	w.Ancestry = map[string]Descent{}
	w.Logs = map[Want]LogTail{}
	for i, n := range []string{"node-a", "node-b", "node-c"} {
		w.Nodes[n] = NodeAnswer{Sight: Seen, Node: Node{Name: n, Ready: "True"}}
		w.Pods = append(w.Pods, w.pod(i, "new", newRef))
	}
	switch kind {
	case Deployment:
		t.Conditions = []Condition{{Type: "Progressing", Status: "True", Reason: "NewReplicaSetAvailable"}}
		w.ReplicaSets = []ReplicaSet{w.set("old", oldRef, 0, long.Add(-time.Hour)), w.set("new", newRef, 3, long)}
	case DaemonSet, StatefulSet:
		owner := Owner{UID: "target"}
		w.Revisions = []Revision{
			{Meta: Meta{Name: "web-old", UID: "rev-old", Owner: owner}, Number: 1, Hash: hashOf(kind, "old"), Template: templateOf(oldRef, "old")},
			{Meta: Meta{Name: "web-new", UID: "rev-new", Owner: owner}, Number: 2, Hash: hashOf(kind, "new"), Template: templateOf(newRef, "new")},
		}
	case CronJob:
		w.Pods, t.Status = nil, Status{}
	}
	return w
}

func hashOf(kind Kind, rev string) string {
	if kind == StatefulSet {
		return "web-" + rev
	}
	return rev
}

func (w *world) set(rev, image string, n int32, created time.Time) ReplicaSet {
	return ReplicaSet{
		Meta:     Meta{Name: "web-" + rev, UID: "set-" + rev, Created: created, Generation: 1, Owner: Owner{Kind: "Deployment", Name: "web", UID: "target"}},
		Replicas: n, Status: Status{Observed: 1, Replicas: n, Ready: n, Available: n}, Template: templateOf(image, rev),
	}
}

// pod is pod i of a revision, ready for a long time.
func (w *world) pod(i int, rev, image string) Pod {
	long := noon().Add(-time.Hour)
	name := fmt.Sprintf("web-%s-%d", rev, i)
	owner := Owner{Kind: "ReplicaSet", Name: "web-" + rev, UID: "set-" + rev}
	if w.cfg.Kind != Deployment {
		owner = Owner{Kind: "StatefulSet", Name: "web", UID: "target"}
		name = fmt.Sprintf("web-%d", i)
	}
	return Pod{
		Meta: Meta{
			Name: name, Namespace: "shop", UID: "pod-" + rev + fmt.Sprint(i), Created: long.Add(time.Duration(i) * time.Second), Owner: owner,
			Labels: map[string]string{"app": "web", "controller-revision-hash": hashOf(w.cfg.Kind, rev)},
		},
		Node: []string{"node-a", "node-b", "node-c"}[i%3], Phase: "Running", Started: long, RestartPolicy: "Always",
		Conditions: []Condition{
			{Type: "PodScheduled", Status: "True", Transition: long},
			{Type: "Ready", Status: "True", Transition: long.Add(10 * time.Second)},
		},
		Containers: []ContainerStatus{{
			Name: "web", Image: image, ImageID: "reg.lan/web@" + sumNew, Probe: &Probe{Timeout: time.Second, Period: 10 * time.Second, Failures: 3, Successes: 1},
			Ready: true, Started: true, Seen: true, State: State{Is: Running, Started: long},
		}},
	}
}

// rolling makes it a Deployment, StatefulSet or DaemonSet in the middle of a
// rollout: pods 1 and 2 are old and ready, pod 0 is new and as state says.
func (w *world) rolling(s State) {
	p := w.pod(0, "new", newRef)
	p.unready(s)
	w.Pods = []Pod{p, w.pod(1, "old", oldRef), w.pod(2, "old", oldRef)}
	st := &w.Target.Status
	st.Updated, st.Ready, st.Available = 1, 2, 2
	if w.cfg.Kind == Deployment {
		w.Pods = append(w.Pods, w.pod(3, "old", oldRef))
		st.Replicas, st.Ready, st.Available = 4, 3, 3
		w.ReplicaSets[0].Replicas, w.ReplicaSets[0].Status = 3, Status{Observed: 1, Replicas: 3, Ready: 3, Available: 3}
		w.ReplicaSets[1].Replicas, w.ReplicaSets[1].Status = 1, Status{Observed: 1, Replicas: 1}
		w.Target.Conditions[0] = Condition{Type: "Progressing", Status: "True", Reason: "ReplicaSetUpdated"}
	}
}

// unready puts a pod's container into a state that is not ready.
func (p *Pod) unready(s State) {
	p.Created = noon()
	p.Conditions[1] = Condition{Type: "Ready", Status: "False", Transition: noon()}
	c := &p.Containers[0]
	c.Ready, c.State = false, s
	if s.Is == Waiting {
		c.ImageID = ""
	}
	if s.Is != Running {
		p.Phase = "Pending"
	}
}

func waiting(reason, message string) State {
	return State{Is: Waiting, Reason: reason, Message: message}
}

// look remembers and assesses at now.
func (w *world) look() Verdict {
	w.Memory = Remember(w.Memory, w.Snapshot, w.cfg, w.now)
	return Assess(w.Snapshot, w.cfg, w.now)
}

// confirm is a look at a target that was read live.
func (w *world) confirm() Verdict {
	w.Live = true
	v := w.look()
	w.Live = false
	return v
}

func (w *world) pass(d time.Duration) *world { w.now = w.now.Add(d); return w }

func (w *world) events(uid string, es ...Event) {
	for i := range es {
		if es[i].Last.IsZero() {
			es[i].Last = w.now
		}
		if es[i].First.IsZero() {
			es[i].First = es[i].Last
		}
	}
	w.Events[uid] = Events{Sight: Seen, Items: es, At: w.now}
}

// expect says what a verdict has to be; empty fields say nothing.
type expect struct {
	outcome  Outcome
	phase    Phase
	says     string // in the sentence
	class    Class
	reason   string
	next     string
	warns    string
	verified *bool
}

func (e expect) check(t *testing.T, when string, v Verdict) {
	t.Helper()
	if e.outcome != "" && v.Outcome != e.outcome {
		t.Errorf("%s: outcome %s (%s), want %s\n%s", when, v.Outcome, v.Sentence, e.outcome, dump(v))
	}
	if e.phase != "" && v.Phase != e.phase {
		t.Errorf("%s: phase %s, want %s\n%s", when, v.Phase, e.phase, dump(v))
	}
	if !strings.Contains(v.Sentence, e.says) {
		t.Errorf("%s: sentence %q lacks %q", when, v.Sentence, e.says)
	}
	if e.class != "" && (v.Cause == nil || v.Cause.Class != e.class) {
		t.Errorf("%s: cause %+v, want class %s", when, v.Cause, e.class)
	}
	if e.reason != "" && (v.Cause == nil || v.Cause.Reason != e.reason) {
		t.Errorf("%s: cause %+v, want reason %s", when, v.Cause, e.reason)
	}
	if !strings.Contains(v.Next, e.next) {
		t.Errorf("%s: next %q lacks %q", when, v.Next, e.next)
	}
	if !strings.Contains(strings.Join(v.Warnings, "\n"), e.warns) {
		t.Errorf("%s: warnings %q lack %q", when, v.Warnings, e.warns)
	}
	if e.verified != nil && v.Verified != *e.verified {
		t.Errorf("%s: verified is %v\n%s", when, v.Verified, dump(v))
	}
	if v.Final() && !v.Confirmed && v.Outcome != Timeout && v.Outcome != Unreachable && v.Outcome != Interrupted {
		found := false
		for _, w := range v.Fetch {
			found = found || w.Kind == WantTarget
		}
		if !found {
			t.Errorf("%s: an end that asks for no confirmation", when)
		}
	}
	if !v.Final() && v.Sentence == "" {
		t.Errorf("%s: waits without a word", when)
	}
}

func dump(v Verdict) string {
	return fmt.Sprintf("  sentence: %s\n  why: %q\n  warnings: %q\n  cause: %+v\n  fetch: %+v\n  wake: %s", v.Sentence, v.Why, v.Warnings, v.Cause, v.Fetch, v.Wake)
}

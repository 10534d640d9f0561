package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Assess judges one snapshot. It is a function of its arguments: the same ones
// give the same verdict. now is on the API server's clock. s.Memory must be
// what Remember made of the same snapshot, or graces start anew.
func Assess(s Snapshot, c Config, now time.Time) Verdict { return look(s, c, now).v }

// assessor is one look. It gathers what the look would like to have, when it
// should be repeated, and which conditions it found true.
type assessor struct {
	s   *Snapshot
	c   *Config
	now time.Time
	t   *Target
	v   Verdict

	gate   gate
	rev    revision
	pods   podSets
	worst  *trouble // the first bad pod of the target revision
	seen   map[string]Sighting
	lacks  []string
	listed time.Time // when events were last listed
	full   bool      // the rollout was found complete
}

const keyComplete = "complete"

// revision is the target revision, which everything is anchored to.
type revision struct {
	sight Sight
	found bool
	name  string
	rs    *ReplicaSet // of a Deployment
	match func(Pod) bool
}

// podSets are the target's pods, by what they count for.
type podSets struct {
	target  []Pod // of the target revision, not being deleted
	old     []Pod // active pods of other revisions
	leaving []Pod // being deleted, of any revision
}

func look(s Snapshot, c Config, now time.Time) *assessor {
	a := &assessor{s: &s, c: &c, now: now, seen: map[string]Sighting{}}
	for _, e := range s.Events {
		if e.At.After(a.listed) {
			a.listed = e.At
		}
	}
	a.v = Verdict{Outcome: Pending, Phase: PhaseImage, Expected: c.Expected}
	a.judgeTarget()
	a.explain()
	a.conclude()
	return a
}

// held notes that a condition is true now and returns since when. at is the
// server's own date of it, if it has one.
func (a *assessor) held(key string, at time.Time) Sighting {
	s, known := a.s.Memory.Seen[key]
	if !known {
		s = Sighting{Since: a.now, First: a.now}
	}
	if !at.IsZero() {
		s.Since = at
	}
	if s.Since.After(a.now) {
		s.Since = a.now
	}
	a.seen[key] = s
	return s
}

// note keeps a text with a condition that is held.
func (a *assessor) note(key, text string) {
	s := a.seen[key]
	s.Note = text
	a.seen[key] = s
}

// over reports whether grace has passed since; before, it asks for a look then.
func (a *assessor) over(since time.Time, grace time.Duration) bool {
	end := since.Add(grace)
	if a.now.Before(end) {
		a.wake(end)
		return false
	}
	return true
}

// heldFor reports whether a condition has been true for grace.
func (a *assessor) heldFor(key string, grace time.Duration) bool {
	return a.over(a.held(key, time.Time{}).Since, grace)
}

func (a *assessor) wake(at time.Time) {
	if at.After(a.now) && (a.v.Wake.IsZero() || at.Before(a.v.Wake)) {
		a.v.Wake = at
	}
}

func (a *assessor) want(w Want) {
	if !slices.Contains(a.v.Fetch, w) {
		a.v.Fetch = append(a.v.Fetch, w)
	}
}

func (a *assessor) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(a.v.Warnings, text) {
		a.v.Warnings = append(a.v.Warnings, text)
	}
}

// lack notes what could not be read and would have explained more.
func (a *assessor) lack(what string) {
	if !slices.Contains(a.lacks, what) {
		a.lacks = append(a.lacks, what)
	}
}

func (a *assessor) waits(format string, args ...any) {
	a.v.Outcome, a.v.Sentence = Pending, fmt.Sprintf(format, args...)
}

func (a *assessor) ends(o Outcome, format string, args ...any) {
	a.v.Outcome, a.v.Sentence = o, fmt.Sprintf(format, args...)
}

func (a *assessor) fails(class Class, reason, message string) {
	a.v.Outcome = Failed
	a.v.Cause = &Cause{Class: class, Reason: reason, Message: message}
	a.v.Sentence = reason
	if message != "" {
		a.v.Sentence += ": " + message
	}
}

// judgeTarget decides all that needs no knowledge of the kind, then hands over.
func (a *assessor) judgeTarget() {
	s := a.s
	if s.Refused != nil {
		a.ends(Denied, "%s", refusal(*s.Refused, a.c.Namespace))
		return
	}
	if s.Target == nil {
		a.judgeMissing()
		return
	}
	a.t = s.Target
	a.anchor()
	a.sort()
	a.count()
	if ns := s.Namespace; ns != nil && ns.Sight == Seen && (ns.Namespace.Terminating() || ns.Namespace.Phase == "Terminating") {
		a.v.Phase = PhaseRollout
		a.fails(ClassController, "NamespaceTerminating", "namespace "+a.c.Namespace+" is being deleted")
		return
	}
	if m := s.Memory; m.UID != "" && m.UID != a.t.UID {
		if !a.c.FollowRecreate {
			a.ends(Absent, "it was deleted and created anew: uid %s is now %s", m.UID, a.t.UID)
			a.v.Next = ""
			return
		}
		// The new object has a history of its own.
		s.Memory = Memory{}
	}
	if a.t.Terminating() {
		if a.c.FollowRecreate {
			a.waits("being deleted since %s; waiting for it to be created anew", ago(a.now, a.t.Deleted))
			return
		}
		a.ends(Absent, "it is being deleted, since %s", ago(a.now, a.t.Deleted))
		return
	}
	if a.t.Generation < s.Memory.Generation {
		a.waits("the API server shows generation %d after %d; waiting for it to catch up", a.t.Generation, s.Memory.Generation)
		return
	}
	a.held(fmt.Sprintf("generation/%d", a.t.Generation), time.Time{})
	a.gate = a.judgeGate()
	a.v.Containers, a.v.Image = a.gate.containers, a.gate.image
	a.v.Writer = a.writer()
	switch a.gate.say {
	case yes:
		a.matched()
	case no:
		if len(s.Memory.Matches) > 0 {
			a.superseded()
			return
		}
		a.unmatched()
		return
	case unknown:
		a.unmatched()
		return
	}
	switch a.t.Kind {
	case Deployment:
		a.deployment()
	case StatefulSet:
		a.statefulSet()
	case DaemonSet:
		a.daemonSet()
	case CronJob:
		a.cronJob()
	}
}

func (a *assessor) judgeMissing() {
	m := a.s.Missing
	switch {
	case m == nil:
		a.waits("asking the API server for it")
	case a.c.WaitCreate && !m.Deleted:
		a.waits("it does not exist yet")
	case a.c.FollowRecreate && m.Deleted:
		a.waits("it was deleted; waiting for it to be created anew")
	case m.Deleted && m.NewUID != "":
		a.ends(Absent, "it was deleted and created anew as uid %s", m.NewUID)
	case m.Deleted:
		a.ends(Absent, "it was deleted")
	case m.Namespace:
		a.ends(Absent, "namespace %s does not exist", a.c.Namespace)
	default:
		a.ends(Absent, "no %s of that name in namespace %s", a.c.Kind, a.c.Namespace)
	}
	if a.v.Outcome == Absent {
		if m.Deleted {
			a.v.Cause = &Cause{Class: ClassController, Reason: "Deleted", Message: a.v.Sentence}
		}
		if len(m.Suggestions) > 0 {
			a.v.Why = append(a.v.Why, "did you mean "+strings.Join(m.Suggestions, ", ")+"?")
		}
	}
}

// anchor finds the target revision.
func (a *assessor) anchor() {
	r := revision{match: func(Pod) bool { return false }}
	switch a.t.Kind {
	case Deployment:
		r.sight = a.s.ReplicaSetSight
		switch r.sight {
		case Seen:
			for i := range a.s.ReplicaSets {
				set := &a.s.ReplicaSets[i]
				if set.Owner.UID != a.t.UID || set.Template.Hash != a.t.Template.Hash {
					continue
				}
				// Of several equal ones the controller takes the oldest.
				if r.rs == nil || set.Created.Before(r.rs.Created) || (set.Created.Equal(r.rs.Created) && set.Name < r.rs.Name) {
					r.rs = set
				}
			}
			if r.rs != nil {
				r.found, r.name = true, r.rs.Name
				r.match = func(p Pod) bool { return p.Owner.UID == r.rs.UID }
			}
		case Forbidden:
			r.found = true
			r.match = a.sameImagesAs(a.t.Template)
		case Unread:
		}
	case StatefulSet:
		r.sight, r.found, r.name = Seen, a.t.Status.UpdateRevision != "", a.t.Status.UpdateRevision
		r.match = func(p Pod) bool { return r.name != "" && p.Hash() == r.name }
	case DaemonSet:
		r.sight = a.s.RevisionSight
		switch r.sight {
		case Seen:
			var newest *Revision
			for i := range a.s.Revisions {
				if rev := &a.s.Revisions[i]; rev.Owner.UID == a.t.UID && (newest == nil || rev.Number > newest.Number) {
					newest = rev
				}
			}
			if newest != nil && a.current(*newest) {
				r.found, r.name = true, newest.Name
				r.match = func(p Pod) bool { return newest.Hash != "" && p.Hash() == newest.Hash }
			}
		case Forbidden:
			same := a.sameImagesAs(a.t.Template)
			var newest Pod
			for _, p := range a.s.Pods {
				if p.Owner.UID == a.t.UID && same(p) && (newest.UID == "" || p.Created.After(newest.Created)) {
					newest = p
				}
			}
			r.found, r.name = newest.Hash() != "", newest.Hash()
			r.match = func(p Pod) bool { return r.name != "" && p.Hash() == r.name }
		case Unread:
		}
	case CronJob:
		r.sight, r.found = Seen, true
	}
	a.rev = r
}

// current reports whether a ControllerRevision is the target's template. Its
// watch may lag behind the target's. A controller of another version may have
// encoded the template in its own way; then the images decide, after a while.
func (a *assessor) current(r Revision) bool {
	if r.Template.Shape == a.t.Template.Shape {
		return true
	}
	return r.Template.sameImages(a.t.Template) && a.heldFor("encoded/"+r.UID, revisionLag)
}

// sameImagesAs matches pods that run what t asks for, by name and reference.
func (a *assessor) sameImagesAs(t Template) func(Pod) bool {
	return func(p Pod) bool {
		return slices.EqualFunc(p.Containers, t.Containers, func(c ContainerStatus, w Container) bool {
			return c.Name == w.Name && c.Image == w.Image
		})
	}
}

// mine reports whether a pod belongs to the target, by its owner.
func (a *assessor) mine(p Pod) bool {
	if a.t.Kind != Deployment {
		return p.Owner.UID == a.t.UID
	}
	if a.s.ReplicaSetSight == Seen {
		return slices.ContainsFunc(a.s.ReplicaSets, func(r ReplicaSet) bool {
			return r.Owner.UID == a.t.UID && r.UID == p.Owner.UID
		})
	}
	return p.Owner.Kind == "ReplicaSet" && strings.HasPrefix(p.Owner.Name, a.t.Name+"-") && a.t.Selector.Matches(p.Labels)
}

func (a *assessor) sort() {
	for _, p := range a.s.Pods {
		switch {
		case !a.mine(p):
		case p.Terminating():
			a.pods.leaving = append(a.pods.leaving, p)
		case a.rev.match(p):
			a.pods.target = append(a.pods.target, p)
		case p.Active():
			a.pods.old = append(a.pods.old, p)
		}
	}
	byName := func(x, y Pod) int {
		if c := x.Created.Compare(y.Created); c != 0 {
			return c
		}
		return strings.Compare(x.Name, y.Name)
	}
	slices.SortFunc(a.pods.target, byName)
	slices.SortFunc(a.pods.old, byName)
	slices.SortFunc(a.pods.leaving, byName)
}

// podsKnown reports whether pods can be counted.
func (a *assessor) podsKnown() bool { return a.s.PodSight == Seen }

// activeOf returns the active ones of pods.
func activeOf(pods []Pod) []Pod {
	var out []Pod
	for _, p := range pods {
		if p.Active() {
			out = append(out, p)
		}
	}
	return out
}

func readyOf(pods []Pod) int32 {
	n := int32(0)
	for _, p := range pods {
		if p.Active() && p.Ready() {
			n++
		}
	}
	return n
}

func (a *assessor) count() {
	st := a.t.Status
	c := Counts{Desired: a.t.Replicas, Updated: st.Updated, Ready: st.Ready, Available: st.Available, Terminating: st.Terminating}
	if a.t.Kind == DaemonSet {
		c.Desired = st.Replicas
	}
	c.Old = max(0, st.Replicas-st.Updated)
	if a.t.Kind == DaemonSet {
		c.Old = max(0, st.Current-st.Updated)
	}
	if a.podsKnown() && a.rev.found {
		c.Old = int32(len(a.pods.old))  //nolint:gosec // pods of one workload
		n := int32(len(a.pods.leaving)) //nolint:gosec // pods of one workload
		c.Terminating = &n
	}
	if a.t.Kind == CronJob {
		c = Counts{}
	}
	a.v.Counts = c
}

// matched sets what a matching gate says.
func (a *assessor) matched() {
	g := a.gate
	a.v.Phase, a.v.MatchedBy, a.v.Expected = PhaseRollout, g.by, g.expected
	if g.newer {
		a.warn("following %s, a descendant of the %s that was asked for", g.expected.short(), a.c.Expected.short())
	}
	if g.dirty {
		a.warn("the tag says that the image was built from a modified checkout")
	}
	if a.c.NoGate {
		a.warn("no image gate: whichever image is set, its rollout is waited for")
	}
	if g.by == byChangedSince {
		a.warn("changed-since proves a change, not a commit")
	}
	if a.c.Expected.Head && a.s.Remote != nil && a.s.Remote.Answer == No {
		a.warn("%s is not on %s, though an image names it", g.expected.short(), orText(a.s.Remote.Where, "any remote"))
	}
	for _, name := range g.containers {
		c, ok := a.t.Template.Container(name)
		if n := len(a.s.Memory.Matches); ok && n > 0 && len(a.s.Memory.Repos) > 0 && !slices.Contains(a.s.Memory.Repos, ParseReference(c.Image).Repo) {
			a.warn("container %s changed its repository to %s", name, ParseReference(c.Image).Repo)
		}
	}
}

// unmatched waits for the image, unless it can never come.
func (a *assessor) unmatched() {
	g := a.gate
	a.v.Phase = PhaseImage
	if !a.c.AllowUnmatchable {
		if why, help := a.impossible(g); why != "" {
			a.fails(ClassGate, "ImpossibleGate", why)
			a.v.Why = append(a.v.Why, "to make it visible: "+help)
			return
		}
	}
	a.waits("%s", a.imageSentence())
	if g.say == unknown {
		for _, u := range g.unasked {
			// A tag that names another commit has answered without a registry.
			if a.c.Expected.Commit == "" || len(commitLike(ParseReference(a.v.Image).Tag)) == 0 {
				a.warn("the registry did not tell what is wanted to know of %s", u)
			}
		}
	}
	a.v.Why = append(a.v.Why, "looked for "+g.how)
	a.hints()
}

// datedWithin is how far a server's timestamp may lie before the instant it is
// compared with: it has whole seconds, and its clock is known to half of one.
const datedWithin = 2 * time.Second

// superseded ends a wait whose image was there and is not any more.
func (a *assessor) superseded() {
	was := a.s.Memory.Matches[len(a.s.Memory.Matches)-1]
	a.v.Phase = PhaseImage
	back := a.v.Image == a.s.Memory.Before && a.s.Memory.Before != was.Image
	for _, r := range a.s.ReplicaSets {
		for _, c := range r.Template.Containers {
			back = back || (r.Owner.UID == a.t.UID && c.Image == a.v.Image && c.Image != was.Image && r.Created.Add(datedWithin).Before(was.At))
		}
	}
	newer := ""
	for _, f := range a.found(a.gate) {
		if a.s.Ancestry[f].Answer == Yes {
			newer = f
		}
	}
	by := fmt.Sprintf("%s took the place of %s", a.v.Image, was.Image)
	if a.v.Image == was.Image {
		by = "its template does not name " + a.c.Expected.short() + " any more"
	}
	if w := a.v.Writer; w != nil {
		by += fmt.Sprintf(", set by %s %s ago", w.Manager, ago(a.now, w.Time))
	}
	by += fmt.Sprintf(", generation %d", a.t.Generation)
	switch {
	case newer != "":
		a.ends(Superseded, "superseded by newer %s: %s", newer[:min(12, len(newer))], by)
		if !a.c.AcceptNewer {
			a.v.Repeat = []string{"--accept-newer"}
		}
	case back:
		a.ends(Superseded, "rolled back: %s", by)
	default:
		a.ends(Superseded, "superseded: %s", by)
		if found := a.found(a.gate); len(found) > 0 {
			a.v.Next = "git fetch"
			a.v.Why = append(a.v.Why, "git here does not know whether "+found[0][:min(12, len(found[0]))]+" descends from "+a.c.Expected.short())
		}
	}
	a.hints()
}

// conclude turns a look into a verdict: an end is confirmed by a live read,
// and a watch that is over ends as what is known.
func (a *assessor) conclude() {
	v := &a.v
	if a.s.Refused != nil || (a.s.Target == nil && a.s.Missing != nil && v.Final()) {
		v.Confirmed = true
	}
	if v.Final() && a.s.Live {
		v.Confirmed = true
	}
	failing := a.s.Trouble.FailingSince
	if v.Final() && !v.Confirmed {
		a.want(Want{Kind: WantTarget})
	}
	if !v.Final() && !failing.IsZero() && a.over(failing, troubleQuiet) {
		v.Sentence = "the API server has not answered for " + short(a.now.Sub(failing))
		if a.s.Trouble.Last != "" {
			v.Sentence += ": " + a.s.Trouble.Last
		}
	}
	// What the judgement itself has to do without is told once, also when all
	// goes well.
	if a.t != nil && a.c.Kind == Deployment && a.s.ReplicaSetSight == Forbidden {
		a.lack("replicasets")
	}
	if a.t != nil && a.c.Kind == DaemonSet && a.s.RevisionSight == Forbidden {
		a.lack("controllerrevisions")
	}
	if len(a.lacks) > 0 {
		slices.Sort(a.lacks)
		lacking := "not permitted to read " + strings.Join(a.lacks, ", ")
		v.Why = append(v.Why, lacking)
		a.warn("%s", lacking)
	}
	switch a.s.Ended {
	case Going:
		return
	case BySignal:
		if !v.Confirmed {
			v.Outcome, v.Verified = Interrupted, false
			v.Repeat = []string{}
		}
	case TimeUp:
		if v.Confirmed {
			break
		}
		v.Verified = false
		if v.Final() {
			v.Why = append(v.Why, "time was up before this could be confirmed: "+string(v.Outcome))
		}
		if v.Outcome = Timeout; a.s.Trouble.Never || (!failing.IsZero() && a.now.Sub(failing) >= troubleFatal) {
			v.Outcome = Unreachable
			v.Sentence = orText(strings.TrimPrefix(a.s.Trouble.Last, " "), "the API server did not answer")
		}
		v.Repeat = []string{}
	}
	v.Wake = time.Time{}
}

package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (a *assessor) deployment() {
	t := a.t
	generation := fmt.Sprintf("/%d", t.Generation)
	progressing, hasProgress := t.Condition("Progressing")
	if t.Status.Observed < t.Generation {
		// While a ReplicaSet cannot be made the generation stays unobserved, and
		// no deadline runs.
		text := ""
		if hasProgress && progressing.Status == "False" && progressing.Reason == "ReplicaSetCreateError" {
			text = progressing.Message
		} else if !hasProgress && a.heldFor("silent"+generation, explainAfter) {
			text = a.createError()
		}
		if text != "" {
			a.refusedRevision(text)
			return
		}
		a.unobserved()
		return
	}
	if t.Paused && a.unfinished() != "" {
		if !a.heldFor("paused"+generation, pausedGrace) {
			a.waits("paused: %s", a.unfinished())
			return
		}
		a.ends(Paused, "it is paused and not rolled out: %s", a.unfinished())
		a.v.Next = a.kubectl("rollout resume", string(t.Kind)+"/"+t.Name)
		return
	}
	if t.Paused {
		a.warn("the deployment is paused: its next change will wait")
	}
	if t.Replicas == 0 {
		a.scaledToZero()
		return
	}
	switch a.rev.sight {
	case Unread:
		a.waits("reading its ReplicaSets")
		return
	case Seen, Forbidden:
	}
	timedOut := hasProgress && progressing.Reason == "ProgressDeadlineExceeded"
	if !a.rev.found {
		if t.Strategy == Recreate && len(a.pods.old)+len(a.pods.leaving) > 0 {
			a.recreating()
			return
		}
		if text := a.createErrorIf(timedOut && strings.HasPrefix(progressing.Message, "Deployment ")); text != "" {
			a.refusedRevision(text)
			return
		}
		a.quiet("norevision"+generation, namespaceQuiet)
		a.waits("the ReplicaSet of this template does not exist yet")
		return
	}
	if timedOut && !a.c.IgnoreProgressDeadline && a.deadlineIsOurs(progressing) {
		a.judgePods() // finds the root cause
		message := progressing.Message
		if a.worst != nil {
			message = a.worst.text()
		}
		a.fails(ClassController, "ProgressDeadlineExceeded", message)
		return
	}
	if a.rev.rs != nil && a.refusedPods() {
		return
	}
	if a.judgePods() {
		return
	}
	if a.rev.rs != nil && t.Strategy == Recreate && a.unfinished() != "" && a.v.Counts.Updated == 0 && len(a.pods.target) == 0 && len(a.pods.old)+len(a.pods.leaving) > 0 {
		a.recreating()
		return
	}
	if why := a.unfinished(); why != "" {
		a.waits("%s", why)
		return
	}
	a.complete()
}

// deadlineIsOurs reports whether a progress deadline speaks of the target
// revision. After an undo or another change the condition of the revision
// before stands for a moment beside the new generation, and its text can stay.
func (a *assessor) deadlineIsOurs(c Condition) bool {
	if a.s.ReplicaSetSight != Seen {
		// Its name is not to be had; then time has to tell.
		return a.heldFor(fmt.Sprintf("generation/%d", a.t.Generation), a.t.ProgressDeadline)
	}
	rest, ok := strings.CutPrefix(c.Message, `ReplicaSet "`)
	if !ok {
		return false
	}
	name, ok := strings.CutSuffix(strings.TrimSpace(rest), `" has timed out progressing.`)
	return ok && name == a.rev.name
}

// unobserved waits for the controller.
func (a *assessor) unobserved() {
	text := fmt.Sprintf("the controller has not observed generation %d (at %d)", a.t.Generation, a.t.Status.Observed)
	key := fmt.Sprintf("unobserved/%d", a.t.Generation)
	a.quiet(key, namespaceQuiet)
	if a.heldFor(key, controllerQuiet) {
		text += "; is kube-controller-manager running?"
	}
	a.waits("%s", text)
}

// quiet looks at the namespace when nothing has happened for a while: in one
// that is being deleted, controllers write neither condition nor event.
func (a *assessor) quiet(key string, grace time.Duration) {
	if a.heldFor(key, grace) && a.s.Namespace == nil {
		a.want(Want{Kind: WantNamespace, Name: a.c.Namespace})
	}
}

// createError is the newest event that says why the controller could not make
// a revision of this template; "" when there is none.
func (a *assessor) createError() string {
	var written time.Time
	if w := a.writer(); w != nil {
		written = w.Time
	}
	for _, e := range a.eventsOf(a.t.UID) {
		if e.Reason == "ReplicaSetCreateError" && !e.Last.Before(written) {
			return e.Message
		}
	}
	return ""
}

func (a *assessor) createErrorIf(cond bool) string {
	if !cond {
		return ""
	}
	return a.createError()
}

// refusedRevision judges why a ReplicaSet cannot be made.
func (a *assessor) refusedRevision(text string) {
	class, _ := classify(onCreate, text)
	if class == ClassPermanent || class == ClassAdmission {
		if a.heldFor(fmt.Sprintf("uncreated/%d/%s", a.t.Generation, class), revisionRefused) {
			a.fails(class, "ReplicaSetCreateError", text)
			return
		}
	}
	a.waits("the ReplicaSet cannot be created: %s", text)
	a.v.Cause = &Cause{Class: class, Reason: "ReplicaSetCreateError", Message: text}
	a.quiet(fmt.Sprintf("uncreated/%d", a.t.Generation), namespaceQuiet)
}

// refusedPods judges a ReplicaSet that may not create pods.
func (a *assessor) refusedPods() bool {
	rs := a.rev.rs
	c, ok := condition(rs.Conditions, "ReplicaFailure")
	if !ok || c.Status != "True" || c.Reason != "FailedCreate" || rs.Status.Replicas >= rs.Replicas {
		return false
	}
	// The condition keeps the first text; events have the current one.
	return a.refusedCreation(rs.UID, c.Message, c.Transition, []string{"FailedCreate"})
}

// refusedCreation judges pods that a controller may not create. text is what
// it has said, "" when only events tell; at is since when, if that is known.
func (a *assessor) refusedCreation(uid, text string, at time.Time, reasons []string) bool {
	var said time.Time
	for _, e := range a.eventsOf(uid) {
		if e.Reason == "SuccessfulCreate" {
			break // newer than any failure
		}
		if slices.Contains(reasons, e.Reason) && !e.Last.Before(at) {
			text, said = e.Message, e.Last
			break
		}
	}
	if text == "" {
		return false
	}
	class, _ := classify(onCreate, text)
	since := a.held("refused/"+uid+"/"+string(class), at).Since
	reason, grace := "FailedCreate", podRefused
	switch class {
	case ClassPermanent, ClassAdmission, ClassVolume:
	case ClassQuota:
		grace = quotaRefused
		if a.quotaMayFree() {
			grace = 0
		}
	case ClassTransient, ClassImage, ClassConfig, ClassCrash, ClassReadiness, ClassScheduling, ClassController, ClassGate:
		grace = 0
	}
	if grace > 0 && a.over(since, grace) {
		a.fails(class, reason, text)
		return true
	}
	a.v.Cause = &Cause{Class: class, Reason: reason, Message: text}
	a.waits("pods cannot be created: %s", text)
	if said.IsZero() {
		said = since
	}
	return true
}

// quotaMayFree reports whether the rollout itself can make room: a pod is
// going away, or pods of old revisions may still be scaled down.
func (a *assessor) quotaMayFree() bool {
	if n := a.v.Counts.Terminating; n != nil && *n > 0 {
		return true
	}
	if !a.podsKnown() && a.t.Status.Terminating == nil {
		return true // not known, so not excluded
	}
	old := int32(0)
	for _, r := range a.s.ReplicaSets {
		if r.Owner.UID == a.t.UID && a.rev.rs != nil && r.UID != a.rev.rs.UID {
			old += r.Status.Replicas
		}
	}
	if old == 0 {
		return false
	}
	if a.t.Strategy == Recreate {
		return true
	}
	spare := allowance(a.t.MaxUnavailable, a.t.Replicas)
	return spare > 0 && a.t.Status.Available > a.t.Replicas-spare
}

// allowance resolves a number or a percentage of replicas, rounded down as
// maxUnavailable is; the server's default of 25% when absent.
func allowance(text string, replicas int32) int32 {
	if text == "" {
		text = "25%"
	}
	if p, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return 0
		}
		return int32(min(int64(replicas), int64(replicas)*int64(n)/100)) //nolint:gosec // at most replicas
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return min(int32(min(n, 1<<30)), replicas)
}

// recreating explains why the new pods have to wait: the old ones are not gone.
// It is no failure, however long it lasts; no deadline of the controller runs.
func (a *assessor) recreating() {
	p := append(slices.Clone(a.pods.leaving), a.pods.old...)[0]
	if !p.Terminating() {
		a.waits("waiting for old pod %s to be deleted", p.Name)
		return
	}
	a.waits("old pod %s", a.leavingText(p))
	if a.overdue(p) {
		a.v.Cause = &Cause{Class: ClassController, Reason: "OldPodTerminating", Message: a.v.Sentence, Pod: p.Name, Node: p.Node}
	}
}

// overdue reports whether a deletion takes longer than it was given.
func (a *assessor) overdue(p Pod) bool {
	// deletionTimestamp already lies the grace period after the request.
	return a.over(p.Deleted, overdueDeletion)
}

// leavingText describes a pod that is being deleted.
func (a *assessor) leavingText(p Pod) string {
	text := p.Name + " terminating"
	if asked := p.Deleted.Add(-p.DeletionGrace); a.now.After(asked) {
		text += " for " + short(a.now.Sub(asked))
	}
	if p.Node != "" {
		text += " on node " + p.Node
		if n, ok := a.s.Nodes[p.Node]; !ok {
			a.want(Want{Kind: WantNode, Name: p.Node})
		} else if n.Gone {
			text += ", which does not exist any more"
		} else if n.Sight == Seen && n.Node.Ready != "True" {
			text += ", which is not ready"
		}
	}
	if len(p.Finalizers) > 0 {
		text += ", finalizers " + strings.Join(p.Finalizers, ", ")
	}
	return text
}

// unfinished says which part of a Deployment's rollout is missing, most
// telling first; "" when it is complete.
func (a *assessor) unfinished() string {
	t, st := a.t, a.t.Status
	if a.rev.sight == Unread {
		return "reading its ReplicaSets"
	}
	if !a.rev.found {
		return "the ReplicaSet of this template does not exist yet"
	}
	if a.s.PodSight == Unread {
		return "reading its pods"
	}
	ready := st.Ready
	if a.podsKnown() {
		ready = readyOf(a.pods.target)
	}
	rs := a.rev.rs
	switch {
	case st.Updated < t.Replicas:
		return a.withTrouble("%d/%d updated", st.Updated, t.Replicas)
	case a.podsKnown() && ready < t.Replicas:
		return a.withTrouble("%d/%d ready", ready, t.Replicas)
	case st.Available < st.Updated, rs != nil && rs.Status.Available < t.Replicas:
		return a.unavailable(min(st.Available, t.Replicas), t.Replicas)
	case rs != nil && rs.Status.Observed < rs.Generation:
		return "the ReplicaSet's controller has not observed its newest generation"
	case st.Replicas > st.Updated:
		return oldPods(st.Replicas - st.Updated)
	case a.podsKnown() && len(a.pods.old) > 0:
		return oldPods(int32(len(a.pods.old))) //nolint:gosec // pods of one workload
	}
	return ""
}

func oldPods(n int32) string {
	if n == 1 {
		return "1 old pod to go"
	}
	return fmt.Sprintf("%d old pods to go", n)
}

// unavailable tells a pod that is not ready from one that has to stay so for a
// while.
func (a *assessor) unavailable(available, of int32) string {
	var last time.Time
	for _, p := range a.pods.target {
		if c, ok := p.Condition("Ready"); ok && p.Active() && c.Status == "True" && c.Transition.After(last) {
			last = c.Transition
		}
	}
	if left := last.Add(a.t.MinReady).Sub(a.now); a.t.MinReady > 0 && !last.IsZero() && left > 0 && readyOf(a.pods.target) >= of {
		return fmt.Sprintf("%d/%d available; minReadySeconds %d: %s left", available, of, int(a.t.MinReady/time.Second), short(left))
	}
	return a.withTrouble("%d/%d available", available, of)
}

// withTrouble adds what is wrong with the first bad pod.
func (a *assessor) withTrouble(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if a.worst != nil {
		text += "; " + a.worst.pod.Name + ": " + a.troubleText(a.worst)
	}
	return text
}

// judgePods finds the first bad pod of the target revision and fails when
// nothing good can come of it.
func (a *assessor) judgePods() bool {
	if !a.podsKnown() {
		return false
	}
	active := activeOf(a.pods.target)
	all, first := len(active) > 0, (*trouble)(nil)
	var decided *trouble
	for _, p := range active {
		t := a.troubleOf(p)
		if t != nil && (first == nil || (t.fatal && !first.fatal) || (t.fatal == first.fatal && rank(t.class) < rank(first.class))) {
			first = t
		}
		if !a.doomed(t) {
			all = false
		}
		if a.alone(t) && decided == nil {
			decided = t
		}
	}
	a.worst = first
	if !all && decided == nil {
		return false
	}
	if decided != nil {
		a.worst = decided
	}
	a.failsBy(a.worst)
	return true
}

func (a *assessor) failsBy(t *trouble) {
	a.fails(t.class, t.reason, t.message)
	a.v.Sentence = t.pod.Name
	if t.container != nil {
		a.v.Sentence += " container " + t.container.Name
	}
	a.v.Sentence += ": " + t.reason
	if d := a.now.Sub(t.since); d >= time.Second {
		a.v.Sentence += " for " + short(d)
	}
}

// rank orders classes by how much they tell.
func rank(c Class) int {
	switch c {
	case ClassPermanent:
		return 0
	case ClassCrash:
		return 1
	case ClassImage, ClassConfig, ClassVolume, ClassAdmission:
		return 2
	case ClassQuota, ClassScheduling:
		return 3
	case ClassTransient, ClassController, ClassGate:
		return 4
	case ClassReadiness:
		return 5
	}
	return 6
}

// scaledToZero judges a workload that wants no pods.
func (a *assessor) scaledToZero() {
	if a.t.Status.Replicas > 0 {
		a.waits("scaling down: %d left", a.t.Status.Replicas)
		return
	}
	if a.c.RequireRunning {
		a.fails(ClassController, "ScaledToZero", "replicas is 0: nothing runs")
		return
	}
	a.warn("image set, nothing running")
	a.ready(false, "%s is set; replicas is 0", a.name())
}

// complete is the end of every kind's table: the rollout is complete. What
// runs is compared, old pods are looked at, and it must stay so for a while.
func (a *assessor) complete() {
	a.full = true
	a.v.Phase = PhaseSettle
	verified, awaited := a.compare()
	if a.v.Outcome == Failed {
		return
	}
	if !a.settled() {
		return
	}
	if awaited && !a.heldFor("comparing", 3*eventPace) {
		a.waits("complete; asking the registry what the running digests are")
		return
	}
	old := 0
	for _, p := range a.pods.leaving {
		if !a.rev.match(p) {
			old++
		}
	}
	if old > 0 {
		longest := time.Duration(0)
		for _, p := range a.pods.leaving {
			if left := p.Deleted.Sub(a.now); !a.rev.match(p) && left > longest {
				longest = left
			}
		}
		text := fmt.Sprintf("%d old %s still terminating", old, plural(old, "pod"))
		if longest > 0 {
			text += " (up to " + short(longest) + ")"
		}
		if a.c.WaitTerminated {
			a.waits("%s", text)
			return
		}
		a.warn("%s", text)
	}
	running := a.v.Counts.Available
	if a.podsKnown() {
		running = readyOf(a.pods.target)
	}
	a.ready(verified, "runs %s on %d/%d pods", a.name(), running, a.v.Counts.Desired)
}

// compare looks at what the pods of the target revision really run.
func (a *assessor) compare() (verified, awaited bool) {
	if !a.podsKnown() {
		a.warn("pods cannot be read: what they run was not verified")
		return false, false
	}
	seen, unsure := 0, ""
	for _, p := range activeOf(a.pods.target) {
		for _, s := range p.Containers {
			if !slices.Contains(a.gate.containers, s.Name) {
				continue
			}
			c, ok := a.t.Template.Container(s.Name)
			if !ok {
				continue
			}
			seen++
			switch a.identify(c, s.ImageID) {
			case identityWrong:
				running := ParseImageID(s.ImageID)
				a.fails(ClassGate, "WrongImageRunning", fmt.Sprintf("container %s of %s runs %s, which is not what %s is now", s.Name, p.Name, running.Digest, c.Image))
				a.v.Cause.Pod, a.v.Cause.Container, a.v.Cause.Node, a.v.Cause.Restarts = p.Name, s.Name, p.Node, s.Restarts
				return false, false
			case identityAwaited:
				awaited = true
			case identityUnknown:
				unsure = c.Image
			case identityRight, identityByTag:
			}
		}
	}
	switch {
	case a.c.NoGate || a.gate.weak() || seen == 0:
		return false, awaited
	case awaited:
		return false, true
	case unsure != "":
		a.warn("what %s was when it was pulled could not be verified", unsure)
		return false, false
	default:
		return true, false
	}
}

// ready ends the wait well.
func (a *assessor) ready(verified bool, format string, args ...any) {
	a.v.Phase, a.v.Verified, a.v.Cause = PhaseDone, verified, nil
	a.ends(Ready, format, args...)
	if n := a.s.Memory.Relapses; n > 0 {
		a.warn("it was complete %d %s before and did not stay so", n, plural(n, "time"))
	}
}

// name is what the workload runs, as a sentence calls it.
func (a *assessor) name() string {
	if a.c.NoGate || a.c.Expected.Empty() {
		return orText(a.v.Image, "its template")
	}
	return a.v.Expected.short()
}

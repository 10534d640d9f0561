package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (a *assessor) statefulSet() {
	t, st := a.t, a.t.Status
	if st.Observed == 0 || st.Observed < t.Generation {
		a.unobserved()
		return
	}
	if t.Replicas == 0 {
		a.scaledToZero()
		return
	}
	if t.Strategy == OnDelete {
		a.onDelete(t.Replicas)
		return
	}
	if t.Partition > 0 && t.Partition >= t.Replicas && !a.allUpdated() {
		if !a.c.AllowPartition {
			a.fails(ClassController, "PartitionBlocksUpdate", fmt.Sprintf("partition %d of %d replicas: 0 pods will be updated", t.Partition, t.Replicas))
			return
		}
		a.warn("partition %d of %d replicas: 0 pods will be updated", t.Partition, t.Replicas)
		a.ready(false, "%s is set; its partition lets no pod change", a.name())
		return
	}
	if a.stuck() {
		return
	}
	if a.judgeOrdered() {
		return
	}
	if a.podsKnown() && len(activeOf(a.pods.target))+len(a.pods.old) < int(t.Replicas) {
		if a.heldFor("missing", explainAfter) && a.refusedCreation(t.UID, "", time.Time{}, []string{"FailedCreate"}) {
			return
		}
	}
	if why := a.unordered(); why != "" {
		a.waits("%s", why)
		return
	}
	if t.Partition > 0 && !a.allUpdated() {
		a.warn("partition=%d: ordinals below keep the old image", t.FirstOrdinal+t.Partition)
		a.complete()
		a.v.Verified = false
		return
	}
	a.complete()
}

// ordinal is a pod's place; -1 when its name has none.
func (a *assessor) ordinal(p Pod) int32 {
	rest, ok := strings.CutPrefix(p.Name, a.t.Name+"-")
	n, err := strconv.ParseInt(rest, 10, 32)
	if !ok || err != nil || n < 0 {
		return -1
	}
	return int32(n)
}

// allUpdated reports whether every replica is of the target revision already.
func (a *assessor) allUpdated() bool {
	if a.podsKnown() {
		return len(a.pods.old) == 0 && len(activeOf(a.pods.target)) >= int(a.t.Replicas)
	}
	return a.t.Status.Updated >= a.t.Replicas
}

// stuck finds an old pod that is not ready and that the controller therefore
// waits for, though only the update could repair it.
func (a *assessor) stuck() bool {
	// The controller of some releases waits in parallel mode too, once it
	// honours maxUnavailable; the field is only served there.
	if a.t.Parallel && a.t.MaxUnavailable == "" {
		return false
	}
	for _, p := range a.pods.old {
		if p.Ready() {
			continue
		}
		c, _ := p.Condition("Ready")
		since := a.held("stuck/"+p.UID, c.Transition).Since
		bad := a.troubleOf(p)
		long, doomed := a.over(since, stuckUnready), a.doomed(bad)
		if (!long && !doomed) || !a.over(since, stuckGrace) {
			continue
		}
		message := fmt.Sprintf("%s is not ready for %s and of the old revision: the controller will not replace it", p.Name, short(a.now.Sub(since)))
		a.worst = bad
		if a.worst == nil {
			a.worst = &trouble{class: ClassController, reason: "StatefulSetStuckOnOldRevision", message: message, pod: p, since: since}
		}
		a.fails(ClassController, "StatefulSetStuckOnOldRevision", message)
		a.v.Next = a.kubectl("delete pod", p.Name)
		return true
	}
	return false
}

// judgeOrdered fails for any one bad pod: the others wait for it.
func (a *assessor) judgeOrdered() bool {
	if !a.podsKnown() {
		return false
	}
	for _, p := range activeOf(a.pods.target) {
		t := a.troubleOf(p)
		if t == nil {
			continue
		}
		if a.worst == nil || (t.fatal && !a.worst.fatal) {
			a.worst = t
		}
		if a.doomed(t) {
			a.worst = t
			a.failsBy(t)
			return true
		}
	}
	return false
}

// unordered says which part of a StatefulSet's rollout is missing. The
// revisions in its status are equal too early and mean nothing with a
// partition, so pods are judged by their own labels.
func (a *assessor) unordered() string {
	t, st := a.t, a.t.Status
	if a.s.PodSight == Unread {
		return "reading its pods"
	}
	want := t.Replicas - min(t.Partition, t.Replicas)
	ready := st.Ready
	if a.podsKnown() {
		ready = min(ready, readyOf(a.pods.target)+readyOf(a.pods.old))
		behind := 0
		for _, p := range a.pods.old {
			if a.ordinal(p) < 0 || a.ordinal(p) >= t.FirstOrdinal+t.Partition {
				behind++
			}
		}
		updated := 0
		for _, p := range activeOf(a.pods.target) {
			if a.ordinal(p) < 0 || a.ordinal(p) >= t.FirstOrdinal+t.Partition {
				updated++
			}
		}
		if behind > 0 || updated < int(want) {
			return a.withTrouble("%d/%d updated", updated, want)
		}
	}
	switch {
	case st.Updated < want:
		return a.withTrouble("%d/%d updated", st.Updated, want)
	case ready < t.Replicas:
		return a.withTrouble("%d/%d ready", ready, t.Replicas)
	case st.Available < t.Replicas:
		return a.unavailable(st.Available, t.Replicas)
	case st.Replicas > t.Replicas:
		return fmt.Sprintf("scaling down: %d of %d left", st.Replicas, t.Replicas)
	}
	return ""
}

// onDelete judges a workload whose pods change only when somebody deletes
// them.
func (a *assessor) onDelete(desired int32) {
	if a.s.PodSight == Unread {
		a.waits("reading its pods")
		return
	}
	st := a.t.Status
	if a.podsKnown() && a.judgeOrdered() {
		return
	}
	updated := st.Updated
	if a.podsKnown() {
		updated = int32(len(activeOf(a.pods.target))) //nolint:gosec // pods of one workload
	}
	if updated >= desired && st.Updated >= desired && len(a.pods.old) == 0 {
		if st.Available < desired || (a.podsKnown() && readyOf(a.pods.target) < desired) {
			a.waits("%s", a.unavailable(min(st.Available, readyIf(a)), desired))
			return
		}
		a.complete()
		return
	}
	old := max(desired-min(updated, desired), int32(len(a.pods.old))) //nolint:gosec // pods of one workload
	text := fmt.Sprintf("%d of %d pods on the old revision; its strategy replaces them only when they are deleted", old, desired)
	if a.c.OnDelete == OnDeleteWait || (a.podsKnown() && len(a.pods.old) == 0) {
		a.waits("%s", a.withTrouble("%s", text))
		return
	}
	if !a.heldFor(fmt.Sprintf("ondelete/%d", a.t.Generation), onDeleteGrace) {
		a.waits("%s", text)
		return
	}
	a.fails(ClassController, "OnDelete", text)
	var names []string
	for _, p := range a.pods.old {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	if len(names) > 0 {
		a.v.Next = a.kubectl("delete pod", names...)
	}
}

func readyIf(a *assessor) int32 {
	if a.podsKnown() {
		return readyOf(a.pods.target)
	}
	return a.t.Status.Ready
}

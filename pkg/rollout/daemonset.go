package rollout

import (
	"slices"
	"strings"
	"time"
)

func (a *assessor) daemonSet() {
	t, st := a.t, a.t.Status
	if st.Observed < t.Generation {
		a.unobserved()
		return
	}
	if st.Replicas == 0 {
		a.noNodes()
		return
	}
	if a.rev.sight == Unread {
		a.waits("reading its revisions")
		return
	}
	if t.Strategy == OnDelete {
		if !a.rev.found && a.rev.sight == Seen {
			a.waits("the revision of this template does not exist yet")
			return
		}
		a.onDelete(st.Replicas)
		return
	}
	if st.Misscheduled > 0 {
		a.v.Why = append(a.v.Why, plainCount(st.Misscheduled, "pod")+" on nodes that should have none")
	}
	if !a.rev.found && a.rev.sight == Seen {
		a.waits("the revision of this template does not exist yet")
		return
	}
	if a.s.PodSight == Unread {
		a.waits("reading its pods")
		return
	}
	if a.judgeNodes() {
		return
	}
	if (st.Current < st.Replicas || st.Updated < st.Replicas) && a.heldFor("missing", explainAfter) {
		if a.refusedCreation(t.UID, "", time.Time{}, []string{"FailedCreate", "FailedDaemonPod", "FailedPlacement"}) {
			return
		}
	}
	if why := a.undistributed(); why != "" {
		a.waits("%s", why)
		return
	}
	a.complete()
}

// noNodes judges a set that no node matches.
func (a *assessor) noNodes() {
	text := "no node matches"
	if s := a.t.Template.NodeSelector; len(s) > 0 {
		text += " its node selector " + Selector{Labels: s}.String()
	}
	if a.c.AllowZero {
		a.warn("%s: nothing runs", text)
		a.ready(false, "%s is set; %s", a.name(), text)
		return
	}
	if a.heldFor("nonodes", noNodesGrace) {
		a.fails(ClassController, "NoMatchingNodes", text)
		return
	}
	a.waits("%s", text)
}

// judgeNodes fails for a bad pod on a node that could run it. A node that is
// itself in trouble only explains.
func (a *assessor) judgeNodes() bool {
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
		if !t.fatal {
			continue
		}
		if fit, known := a.nodeFit(p.Node); !known || !fit {
			continue
		}
		if a.doomed(t) {
			a.worst = t
			a.failsBy(t)
			return true
		}
	}
	return false
}

// nodeFit reports whether a node can be expected to run a pod; known is false
// while that is being asked. Without permission a node counts as fit: what a
// kubelet reported is not undone by not knowing more.
func (a *assessor) nodeFit(name string) (fit, known bool) {
	if name == "" {
		return true, true // the scheduler, not a node, holds it
	}
	n, ok := a.s.Nodes[name]
	a.want(Want{Kind: WantNode, Name: name})
	switch {
	case !ok:
		return false, false
	case n.Sight == Forbidden:
		a.lack("nodes")
		return true, true
	case n.Gone:
		return false, true
	}
	cordoned := n.Node.Unschedulable || slices.ContainsFunc(n.Node.Taints, func(k string) bool {
		return strings.HasPrefix(k, "node.kubernetes.io/un") || k == "node.kubernetes.io/not-ready" || k == "node.kubernetes.io/out-of-service"
	})
	return n.Node.Ready == "True" && !cordoned, true
}

// undistributed says which part of a DaemonSet's rollout is missing.
func (a *assessor) undistributed() string {
	st := a.t.Status
	desired := st.Replicas
	if a.podsKnown() {
		var away []string // nodes whose pods are missing
		missing := 0
		unfit := map[string]bool{}
		for _, p := range slices.Concat(activeOf(a.pods.target), a.pods.old, a.pods.leaving) {
			if a.rev.match(p) && p.Active() && p.Ready() {
				continue
			}
			if unfit[p.Node] || p.Node == "" {
				if p.Node == "" {
					missing++
				}
				continue
			}
			if fit, known := a.nodeFit(p.Node); known && !fit {
				unfit[p.Node] = true
				away = append(away, p.Node)
				continue
			}
			missing++
		}
		slices.Sort(away)
		good := readyOf(a.pods.target)
		if len(away) > 0 && missing == 0 && good+int32(len(away)) >= desired { //nolint:gosec // nodes of one cluster
			text := strings.Join(away[:min(len(away), 5)], ", ")
			if !a.c.IgnoreNotReadyNodes || good == 0 {
				return a.withTrouble("%d/%d ready; the rest are on nodes that cannot run them: %s", good, desired, text)
			}
			a.warn("left out, as their nodes cannot run them: %s", text)
			desired -= int32(len(away)) //nolint:gosec // nodes of one cluster
			// The controller counts them still.
			st.Updated, st.Available = max(st.Updated, min(good, desired)), max(st.Available, min(good, desired))
			if good >= desired {
				return ""
			}
		}
		switch {
		case len(a.pods.old) > 0:
			return a.withTrouble("%d/%d updated", min(int32(len(activeOf(a.pods.target))), st.Updated), desired) //nolint:gosec // pods of one workload
		case good < desired:
			return a.withTrouble("%d/%d ready", good, desired)
		}
	}
	switch {
	case st.Updated < desired:
		return a.withTrouble("%d/%d updated", st.Updated, desired)
	case st.Available < desired:
		return a.unavailable(st.Available, desired)
	}
	return ""
}

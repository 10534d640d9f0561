package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// trouble is what is wrong with one pod. Whether it ends the wait depends on
// the pods beside it.
type trouble struct {
	class     Class
	reason    string
	message   string
	pod       Pod
	container *ContainerStatus
	since     time.Time     // of the grace
	grace     time.Duration // 0: at once
	fatal     bool          // it can end a wait; false: it is only told
	again     bool          // it has to be seen in two looks
	sighting  Sighting
}

// doomed reports whether the grace is over; otherwise the look is repeated
// when it will be.
func (a *assessor) doomed(t *trouble) bool {
	if t == nil || !t.fatal {
		return false
	}
	if t.again && !t.sighting.First.Before(a.now) {
		a.wake(a.now.Add(time.Second / 2))
		return false
	}
	return a.over(t.since, t.grace)
}

// alone reports whether a bad pod ends the wait though others are well.
func (a *assessor) alone(t *trouble) bool {
	if t == nil || !t.fatal {
		return false
	}
	return a.over(t.since, max(3*t.grace, onlyOneGrace)) && a.doomed(t)
}

// troubleOf returns the first trouble of a pod: init containers, then native
// sidecars, then the others, one that can end the wait before one that cannot;
// then what holds the pod as a whole. nil when nothing is wrong.
func (a *assessor) troubleOf(p Pod) *trouble {
	if !p.Active() {
		return nil
	}
	if p.Ready() {
		for i := range p.Containers {
			a.crashing(p, &p.Containers[i]) // a loop without a readiness probe is ready in between
		}
		return nil
	}
	var first *trouble
	for _, c := range inOrder(p.Containers) {
		t := a.containerTrouble(p, c)
		if t != nil && t.fatal {
			return t
		}
		if first == nil {
			first = t
		}
	}
	whole := a.podTrouble(p)
	switch {
	case whole == nil:
		return first
	case first == nil || whole.fatal:
		return whole
	default:
		return first
	}
}

// inOrder returns containers in the order they start and can fail.
func inOrder(cs []ContainerStatus) []*ContainerStatus {
	out := make([]*ContainerStatus, 0, len(cs))
	for rank := range 3 {
		for i := range cs {
			c := &cs[i]
			of := 2
			if c.Sidecar {
				of = 1
			} else if c.Init {
				of = 0
			}
			if of == rank {
				out = append(out, c)
			}
		}
	}
	return out
}

// make fills in a trouble whose grace counts from the first sight of its class
// on this container of this pod, or from at where the server dates it.
func (a *assessor) make(p Pod, c *ContainerStatus, class Class, reason, message string, at time.Time) *trouble {
	name := ""
	if c != nil {
		name = c.Name
	}
	t := &trouble{class: class, reason: reason, message: message, pod: p, container: c}
	t.sighting = a.held(strings.Join([]string{"pod", p.UID, name, string(class)}, "/"), at)
	t.since = t.sighting.Since
	switch class {
	case ClassPermanent:
		t.fatal, t.again = true, true
	case ClassImage:
		t.fatal, t.grace = true, a.c.ImagePullGrace
		if t.grace == 0 {
			t.grace = imageGrace
		}
	case ClassConfig:
		t.fatal, t.grace = true, configGrace
	case ClassVolume:
		t.fatal, t.grace = true, volumeGrace
	case ClassReadiness:
		t.fatal, t.grace = a.c.ReadinessGrace > 0, a.c.ReadinessGrace
	case ClassScheduling:
		t.fatal, t.grace = a.c.UnschedulableGrace > 0, a.c.UnschedulableGrace
	case ClassAdmission, ClassCrash, ClassTransient, ClassQuota, ClassController, ClassGate:
	}
	return t
}

// containerTrouble returns what is wrong with one container.
func (a *assessor) containerTrouble(p Pod, c *ContainerStatus) *trouble {
	s := c.State
	switch s.Is {
	case Waiting:
		return a.waitingTrouble(p, c)
	case Terminated:
		if c.Init && !c.Sidecar && s.ExitCode == 0 {
			return nil
		}
		switch s.Reason {
		case "DeadlineExceeded", "ContainerStatusUnknown":
			return a.make(p, c, ClassTransient, s.Reason, s.Message, time.Time{})
		}
		if t := a.startTrouble(p, c, s); t != nil {
			return t
		}
		return a.crashTrouble(p, c)
	case Running:
		if c.Ready || (c.Init && !c.Sidecar) {
			a.crashing(p, c) // keeps the first crash in mind
			return nil
		}
		if t := a.crashTrouble(p, c); t != nil {
			return t
		}
		if c.Probe == nil {
			return nil
		}
		at := s.Started
		if r, ok := p.Condition("Ready"); ok && r.Transition.After(at) {
			at = r.Transition
		}
		return a.make(p, c, ClassReadiness, "NotReady", a.probeText(p, c), at)
	default:
		return nil
	}
}

// waitingTrouble reads a waiting reason.
func (a *assessor) waitingTrouble(p Pod, c *ContainerStatus) *trouble {
	s := c.State
	switch s.Reason {
	case "", "ContainerCreating", "PodInitializing":
		return nil // normal; what holds it is told by the pod's events
	case "InvalidImageName", "ErrImageNeverPull":
		return a.make(p, c, ClassPermanent, s.Reason, s.Message, time.Time{})
	case "SignatureValidationFailed":
		return a.make(p, c, ClassImage, s.Reason, s.Message, time.Time{})
	case "ErrImagePull", "ImagePullBackOff":
		return a.pullTrouble(p, c)
	case "RegistryUnavailable":
		return a.make(p, c, ClassTransient, s.Reason, s.Message, time.Time{})
	case "CreateContainerConfigError":
		class, _ := classify(onConfig, s.Message)
		return a.make(p, c, class, s.Reason, s.Message, time.Time{})
	case "CreateContainerError", "RunContainerError", "StartError":
		class, _ := classify(onStart, s.Message)
		return a.make(p, c, class, s.Reason, s.Message, time.Time{})
	case "CrashLoopBackOff":
		if t := a.startTrouble(p, c, c.Last); t != nil {
			return t
		}
		return a.crashTrouble(p, c)
	default:
		return a.make(p, c, ClassTransient, s.Reason, s.Message, time.Time{})
	}
}

// pullTrouble joins the two faces of a failing pull, the attempt and the
// back-off between attempts: one condition, whose cause only one may carry.
func (a *assessor) pullTrouble(p Pod, c *ContainerStatus) *trouble {
	text, class, known := c.State.Message, ClassTransient, false
	bare := c.State.Reason == "ImagePullBackOff" && !strings.Contains(text, ": Err") && !strings.Contains(text, `": `)
	if !bare {
		class, known = classify(onPull, text)
	}
	if !known {
		// Older kubelets tell the cause in an event alone.
		for _, e := range a.eventsOf(p.UID) {
			if e.Reason != "Failed" || !strings.Contains(e.Message, "pull") || !about(e, c.Name) {
				continue
			}
			if k, ok := classify(onPull, e.Message); ok {
				text, class, known = e.Message, k, true
				break
			}
		}
	}
	if !known && bare {
		for _, k := range []Class{ClassImage, ClassTransient} {
			if s, ok := a.s.Memory.Seen[strings.Join([]string{"pod", p.UID, c.Name, string(k)}, "/")]; ok && s.Note != "" {
				text, class = s.Note, k
				break
			}
		}
	}
	t := a.make(p, c, class, c.State.Reason, text, time.Time{})
	a.note(strings.Join([]string{"pod", p.UID, c.Name, string(class)}, "/"), text)
	return t
}

// about reports whether an event speaks of container name: kubelets name it in
// the field path, where there is one.
func about(e Event, name string) bool {
	return e.FieldPath == "" || strings.Contains(e.FieldPath, "{"+name+"}")
}

// startTrouble reads why a runtime could not start a container.
func (a *assessor) startTrouble(p Pod, c *ContainerStatus, s State) *trouble {
	switch s.Reason {
	case "StartError", "RunContainerError", "CreateContainerError":
	case "ContainerCannotRun":
		if s.ExitCode == 128 {
			return a.make(p, c, ClassTransient, s.Reason, s.Message, time.Time{})
		}
	default:
		return nil
	}
	if class, known := classify(onStart, s.Message); known {
		return a.make(p, c, class, s.Reason, s.Message, time.Time{})
	}
	return nil
}

// crashing tracks a container's crashes and returns the first of them; ok is
// false when there is none to speak of.
func (a *assessor) crashing(p Pod, c *ContainerStatus) (first Sighting, backedOff, ok bool) {
	var last State
	switch {
	case c.State.Is == Terminated && (c.State.ExitCode != 0 || !c.Init || c.Sidecar):
		last = c.State
	case c.State.Is == Waiting && c.State.Reason == "CrashLoopBackOff":
		last = c.Last
	case c.State.Is == Running && c.Last.Is == Terminated && !a.now.After(c.State.Started.Add(crashForgotten)):
		last = c.Last
	default:
		return Sighting{}, false, false
	}
	key := strings.Join([]string{"crash", p.UID, c.Name}, "/")
	at := last.Finished
	if s, known := a.s.Memory.Seen[key]; known {
		at = s.Since // the first crash counts, not the latest
	}
	first = a.held(key, at)
	loop := strings.Join([]string{"backoff", p.UID, c.Name}, "/")
	_, backedOff = a.s.Memory.Seen[loop]
	if backedOff = backedOff || c.State.Reason == "CrashLoopBackOff"; backedOff {
		a.held(loop, time.Time{})
	}
	return first, backedOff, true
}

// crashTrouble judges a container that ended, or runs again after it did.
func (a *assessor) crashTrouble(p Pod, c *ContainerStatus) *trouble {
	first, backedOff, ok := a.crashing(p, c)
	if !ok {
		return nil
	}
	down := c.State.Is == Terminated || c.State.Reason == "CrashLoopBackOff"
	last := c.Last
	if c.State.Is == Terminated {
		last = c.State
	}
	t := a.make(p, c, ClassCrash, "CrashLoopBackOff", "", first.Since)
	t.since = first.Since
	if !backedOff {
		t.reason = orText(last.Reason, "Error")
	}
	t.message = fmt.Sprintf("exit code %d", last.ExitCode)
	if last.Message != "" {
		t.message += ": " + last.Message
	}
	restarts := c.Restarts
	bad := c.State.Reason == "CrashLoopBackOff" || (c.State.Is == Terminated && c.State.ExitCode != 0)
	if seen, known := a.s.Memory.Restarts[p.UID+"/"+c.Name]; known && !bad {
		restarts = max(0, restarts-seen)
	}
	limit := a.c.MaxRestarts
	if limit == 0 {
		limit = defaultMaxRestarts
	}
	switch {
	case last.Reason == "OOMKilled" || c.Last.Reason == "OOMKilled":
		t.reason, limit = "OOMKilled", min(limit, 2)
		t.message = "killed for its memory"
		if c.Memory != "" {
			t.message += ", limit " + c.Memory
		}
	case a.killedByProbe(p, c):
		t.reason = "ProbeKilled"
		t.message = "its liveness or startup probe fails: " + a.killText(p, c)
	case last.Is == Terminated && last.ExitCode == 0:
		t.message = "it ends with exit code 0 instead of running on"
	}
	for want, tail := range a.s.Logs {
		if want.Pod == p.Name && want.Container == c.Name && slices.ContainsFunc(tail.Lines, func(l string) bool { return strings.Contains(l, "exec format error") }) {
			return a.make(p, c, ClassPermanent, "ExecFormatError", "exec format error: the image is for another platform", time.Time{})
		}
	}
	switch {
	case restarts >= limit:
		t.fatal = true
	case backedOff && down:
		t.fatal, t.grace = true, crashGrace
	}
	return t
}

// killedByProbe reports whether the kubelet said that it kills c for a probe.
func (a *assessor) killedByProbe(p Pod, c *ContainerStatus) bool { return a.killText(p, c) != "" }

func (a *assessor) killText(p Pod, c *ContainerStatus) string {
	if c.Restarts == 0 {
		return ""
	}
	text := ""
	for _, e := range a.eventsOf(p.UID) {
		if !about(e, c.Name) {
			continue
		}
		if (e.Reason == "Unhealthy" || e.Reason == "Killing") && strings.Contains(e.Message, "will be restarted") {
			if text == "" {
				text = e.Message
			}
		}
		if e.Reason == "Unhealthy" && (strings.HasPrefix(e.Message, "Liveness") || strings.HasPrefix(e.Message, "Startup")) && text != "" {
			return e.Message
		}
	}
	return text
}

// probeText says how a readiness probe fails, as far as events tell.
func (a *assessor) probeText(p Pod, c *ContainerStatus) string {
	for _, e := range a.eventsOf(p.UID) {
		if e.Reason != "Unhealthy" || !about(e, c.Name) {
			continue
		}
		text, ok := strings.CutPrefix(e.Message, "Readiness probe failed: ")
		if !ok {
			text, ok = strings.CutPrefix(e.Message, "Readiness probe errored: ")
		}
		if ok {
			text = strings.TrimSpace(text)
			if code, ok := strings.CutPrefix(text, "HTTP probe failed with statuscode: "); ok {
				return "HTTP " + code
			}
			return text
		}
	}
	return ""
}

// podTrouble reads what holds a pod as a whole.
func (a *assessor) podTrouble(p Pod) *trouble {
	if c, ok := p.Condition("PodScheduled"); ok && c.Status == "False" {
		class := ClassScheduling
		if k, known := classify(onMount, c.Message); known {
			class = k
		}
		return a.make(p, nil, class, orText(c.Reason, "Unschedulable"), c.Message, c.Transition)
	}
	if t := a.claimTrouble(p); t != nil {
		return t
	}
	if p.Reason != "" {
		return a.make(p, nil, ClassTransient, p.Reason, p.Message, time.Time{})
	}
	creating := slices.ContainsFunc(p.Containers, func(c ContainerStatus) bool {
		return !c.Seen || c.State.Is == Waiting && (c.State.Reason == "ContainerCreating" || c.State.Reason == "PodInitializing" || c.State.Reason == "")
	})
	if creating && p.Node != "" {
		started := p.Started
		if started.IsZero() {
			started = p.Created
		}
		if !a.over(started, explainAfter) {
			return nil
		}
		// Only the newest event tells what happens now: a mount that has worked
		// since is followed by the pull.
		if known := a.eventsOf(p.UID); len(known) > 0 {
			switch e := known[0]; e.Reason {
			case "FailedMount":
				class, _ := classify(onMount, e.Message)
				return a.make(p, nil, class, e.Reason, e.Message, e.First)
			case "FailedAttachVolume", "FailedCreatePodSandBox", "FailedCreatePodSandbox", "NetworkNotReady", "FailedPostStartHook", "FailedPrepareDynamicResources":
				return a.make(p, nil, ClassTransient, e.Reason, e.Message, time.Time{})
			}
		}
		return nil
	}
	running := len(p.Containers) > 0 && !slices.ContainsFunc(p.Containers, func(c ContainerStatus) bool {
		return (!c.Init || c.Sidecar) && !c.Ready
	})
	if running {
		for _, gate := range p.Gates {
			if c, ok := p.Condition(gate); !ok || c.Status != "True" {
				t := a.make(p, nil, ClassReadiness, "ReadinessGate", strings.TrimSuffix("readiness gate "+gate+" is not true: "+c.Message, ": "), time.Time{})
				t.fatal = false
				return t
			}
		}
	}
	return nil
}

// claimTrouble reads the claims of a pod that does not run yet.
func (a *assessor) claimTrouble(p Pod) *trouble {
	if p.Phase != "Pending" || len(p.Claims) == 0 {
		return nil
	}
	if p.Node != "" && slices.ContainsFunc(p.Containers, func(c ContainerStatus) bool {
		return c.State.Is != "" && c.State.Reason != "ContainerCreating" && c.State.Reason != "PodInitializing"
	}) {
		return nil // its volumes are there
	}
	if !a.over(p.Created, explainAfter) {
		return nil
	}
	for _, name := range p.Claims {
		answer, ok := a.s.Claims[name]
		switch {
		case !ok:
			a.want(Want{Kind: WantClaim, Name: name})
		case answer.Gone:
			return a.make(p, nil, ClassVolume, "FailedMount", fmt.Sprintf("persistentvolumeclaim %q not found", name), time.Time{})
		case answer.Sight != Seen:
		case answer.Claim.Phase == "Lost":
			return a.make(p, nil, ClassVolume, "ClaimLost", fmt.Sprintf("persistentvolumeclaim %s has lost its volume", name), time.Time{})
		case answer.Claim.Phase == "Pending":
			text := fmt.Sprintf("persistentvolumeclaim %s is Pending", name)
			if answer.Claim.StorageClass != "" {
				text += ", storage class " + answer.Claim.StorageClass
			}
			if told := a.eventsOf(answer.Claim.UID); len(told) > 0 {
				e := told[0]
				if class, known := classify(onMount, e.Message); known {
					return a.make(p, nil, class, e.Reason, e.Message, e.First)
				}
				text += ": " + e.Message
			}
			return a.make(p, nil, ClassTransient, "ClaimPending", text, time.Time{})
		}
	}
	return nil
}

// eventsOf returns the events about an object, newest first, and asks for them
// while they are missing or old. One list per eventPace is enough for a person,
// and all that is spent, however many pods there are; an end is worth one more.
func (a *assessor) eventsOf(uid string) []Event {
	if uid == "" {
		return nil
	}
	known := a.s.Events[uid]
	if known.Sight == Forbidden {
		a.lack("events")
		return nil
	}
	end := (a.s.Live || a.s.Ended != Going) && a.listed.Before(a.now)
	if end || known.Sight == Unread || !a.now.Before(known.At.Add(eventPace)) {
		switch next := a.listed.Add(eventPace); {
		case end || a.listed.IsZero() || !a.now.Before(next):
			a.want(Want{Kind: WantEvents, UID: uid})
			a.listed = a.now
		default:
			a.wake(next)
		}
	}
	out := slices.Clone(known.Items)
	slices.SortStableFunc(out, func(x, y Event) int { return y.Last.Compare(x.Last) })
	return out
}

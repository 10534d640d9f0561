package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// short writes a duration as people do: 9s, 2m5s, 3h, 2d.
func short(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return "1s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d/time.Second))
	case d < time.Hour:
		if s := int(d/time.Second) % 60; s > 0 {
			return fmt.Sprintf("%dm%ds", int(d/time.Minute), s)
		}
		return fmt.Sprintf("%dm", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d/time.Hour))
	default:
		return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
	}
}

func ago(now, then time.Time) string { return short(now.Sub(then)) }

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func plainCount(n int32, word string) string {
	return fmt.Sprintf("%d %s", n, plural(int(n), word))
}

// kubectl is a command to paste, with what tells the cluster apart left to the
// reader's own context.
func (a *assessor) kubectl(verb string, objects ...string) string {
	return "kubectl -n " + a.c.Namespace + " " + verb + " " + strings.Join(objects, " ")
}

// refusal words a 401 or 403.
func refusal(r Refusal, namespace string) string {
	if r.Code == 401 {
		return orText("the API server did not accept the credentials: "+r.Message, "the API server did not accept the credentials")
	}
	text := fmt.Sprintf("not permitted to %s %s in namespace %s", orText(r.Verb, "get"), orText(r.Resource, "it"), namespace)
	if r.Message != "" {
		text += ": " + r.Message
	}
	return text
}

// imageSentence is the sentence of the image phase.
func (a *assessor) imageSentence() string {
	g := a.gate
	what := "image is " + orText(g.image, "not set")
	if len(g.containers) > 0 {
		name := g.containers[0]
		for _, n := range g.containers {
			if c, ok := a.t.Template.Container(n); ok && c.Image == g.image {
				name = n
				break
			}
		}
		what = "container " + name + " is " + g.image
	}
	if len(g.odd) > 0 && len(g.repos) > 0 {
		what = fmt.Sprintf("half updated: container %s is still %s", g.odd[0], a.imageOf(g.odd[:1]))
	} else if len(g.odd) > 0 {
		what = "there is no container " + g.odd[0]
		if c, ok := a.t.Template.Container(g.odd[0]); ok { // there is, and it is another image
			what = "container " + g.odd[0] + " is " + c.Image
		}
	}
	if w := a.v.Writer; w != nil {
		what += fmt.Sprintf(", set by %s %s ago", w.Manager, ago(a.now, w.Time))
	}
	if g.awaited {
		what += "; asking what it is"
	}
	return what
}

// Match says how the gate matched, for the moment it does; "" while it has not.
func (v Verdict) Match() string {
	if v.MatchedBy == "" {
		return ""
	}
	text := "matched " + v.Expected.short() + " by " + v.MatchedBy
	if len(v.Containers) > 0 {
		text += ", container " + strings.Join(v.Containers, ", ")
	}
	return text + ": " + v.Image
}

// text is a trouble in one line.
func (t *trouble) text() string {
	out := t.pod.Name
	if t.container != nil {
		out += " container " + t.container.Name
	}
	out += ": " + t.reason
	if t.message != "" {
		out += ": " + t.message
	}
	return out
}

// troubleText is a trouble beside its pod's name, with how long it lasts.
func (a *assessor) troubleText(t *trouble) string {
	lasts := short(a.now.Sub(t.since))
	switch t.class {
	case ClassReadiness:
		if t.reason == "ReadinessGate" {
			return t.message
		}
		text := "readiness probe failing " + lasts
		if t.container != nil && t.container.Probe != nil {
			due := t.container.Probe.hint()
			if up := a.now.Sub(t.container.State.Started); up < due {
				text = "not ready for " + lasts
				a.wake(t.container.State.Started.Add(due))
			} else {
				text += fmt.Sprintf(" (a healthy one is ready within %s)", short(due))
			}
		}
		if t.message != "" {
			text += ": " + t.message
		}
		return text
	case ClassCrash:
		text := t.reason
		if t.container != nil {
			text = "container " + t.container.Name + ": " + text
			if t.container.Restarts > 0 {
				text += fmt.Sprintf(", %d %s", t.container.Restarts, plural(int(t.container.Restarts), "restart"))
			}
		}
		return text + ", " + t.message
	case ClassPermanent, ClassImage, ClassConfig, ClassAdmission, ClassVolume, ClassTransient, ClassScheduling, ClassQuota,
		ClassController, ClassGate:
	}
	text := t.reason + " for " + lasts
	if t.message != "" {
		text += ": " + t.message
	}
	return text
}

// explain adds what every end but a good one tells: who, what, why, what
// serves now.
func (a *assessor) explain() {
	v := &a.v
	if a.t == nil {
		return
	}
	v.Serving = a.serving()
	if t := a.worst; t != nil {
		if v.Cause == nil && v.Outcome != Ready {
			v.Cause = &Cause{Class: t.class, Reason: t.reason, Message: t.message}
		}
		if c := v.Cause; c != nil && c.Pod == "" {
			c.Pod, c.Node = t.pod.Name, t.pod.Node
			if t.container != nil {
				c.Container, c.Restarts = t.container.Name, t.container.Restarts
				c.ExitCode = exitCode(*t.container)
			}
			if c.Reason != t.reason {
				v.Why = append(v.Why, t.text())
			}
		}
	}
	if v.Outcome == Ready {
		v.Why = nil
		return
	}
	if c := v.Cause; c != nil && c.Message != "" && (v.Final() || a.s.Ended != Going) && !strings.Contains(v.Sentence, c.Message) {
		v.Why = append([]string{c.Message}, v.Why...)
	}
	if c := v.Cause; c != nil && c.Pod != "" && c.Container != "" && (v.Final() || a.s.Ended != Going) {
		a.tail(c)
	}
	if s := v.Serving; s != nil && (v.Final() || a.s.Ended != Going) {
		v.Why = append(v.Why, a.servingText(*s))
	}
	a.advise()
}

// exitCode is what a container last ended with; nil when it never has.
func exitCode(c ContainerStatus) *int32 {
	for _, s := range []State{c.State, c.Last} {
		if s.Is == Terminated {
			code := s.ExitCode
			return &code
		}
	}
	return nil
}

// tail asks for the end of the log of the container to blame: of the instance
// before if it has restarted, which is the one that failed.
func (a *assessor) tail(c *Cause) {
	switch c.Class {
	case ClassCrash, ClassReadiness, ClassController, ClassPermanent:
	case ClassImage, ClassConfig, ClassAdmission, ClassVolume, ClassTransient, ClassScheduling, ClassQuota, ClassGate:
		return // it has never run
	}
	if c.ExitCode == nil && a.worst != nil && a.worst.container != nil && a.worst.container.State.Is == Waiting {
		return
	}
	w := Want{Kind: WantLog, Pod: c.Pod, Container: c.Container, Previous: c.Restarts > 0}
	got, ok := a.s.Logs[w]
	if !ok {
		if a.s.Live || a.s.Ended != Going {
			a.want(w) // read once, when the end is certain
		}
		return
	}
	if got.Err != "" {
		a.v.Why = append(a.v.Why, "no log: "+got.Err)
	}
	c.LogTail = got.Lines
}

// serving finds what answers requests now: the revision with the most ready
// pods, the target's if none has more.
func (a *assessor) serving() *Serving {
	if !a.podsKnown() || a.t.Kind == CronJob {
		return nil
	}
	groups := map[string]*Serving{}
	var order []string
	for _, p := range a.s.Pods {
		if !a.mine(p) || !p.Active() {
			continue
		}
		key, owner := p.Hash(), p.Hash()
		if a.t.Kind == Deployment {
			key, owner = p.Owner.UID, p.Owner.Name
		}
		g := groups[key]
		if g == nil {
			g = &Serving{Owner: owner, Image: a.imageIn(p), Old: !a.rev.match(p)}
			groups[key] = g
			order = append(order, key)
		}
		g.Of++
		if p.Ready() {
			g.Ready++
		}
	}
	slices.Sort(order)
	var best *Serving
	for _, key := range order {
		g := groups[key]
		if best == nil || g.Ready > best.Ready || (g.Ready == best.Ready && best.Old && !g.Old) {
			best = g
		}
	}
	if best == nil {
		return &Serving{}
	}
	return best
}

// imageIn is the image of the gated container in a pod.
func (a *assessor) imageIn(p Pod) string {
	out := ""
	for _, c := range p.Containers {
		if slices.Contains(a.v.Containers, c.Name) && (out == "" || !c.Init) {
			out = c.Image
		}
	}
	return out
}

func (a *assessor) servingText(s Serving) string {
	switch {
	case s.Ready == 0 && a.v.Counts.Desired == 0:
		return "nothing is to run"
	case s.Ready == 0:
		return "0 ready: OUTAGE"
	case s.Old && a.t.Kind == Deployment:
		return fmt.Sprintf("old ReplicaSet %s (%s) still has %d/%d ready", s.Owner, s.Image, s.Ready, s.Of)
	case s.Old:
		return fmt.Sprintf("old revision %s (%s) still has %d/%d ready", s.Owner, s.Image, s.Ready, s.Of)
	default:
		return fmt.Sprintf("%s has %d/%d ready", s.Image, s.Ready, s.Of)
	}
}

// advise names one command that helps, where none stands yet.
func (a *assessor) advise() {
	v := &a.v
	if v.Next != "" || v.Repeat != nil || v.Cause == nil || v.Outcome != Failed {
		return
	}
	c := v.Cause
	if a.c.WithPipelines && a.c.Expected.Commit != "" && (c.Class == ClassImage || c.Reason == "ImpossibleGate") {
		v.Next = "homelab ci watch " + a.c.Expected.Commit
		if a.s.Pipeline != nil && a.s.Pipeline.Failed {
			v.Next = "homelab ci logs " + a.c.Expected.Commit + " --failed"
		}
		return
	}
	switch c.Class {
	case ClassCrash, ClassPermanent:
		if c.Pod != "" && c.Container != "" {
			previous := ""
			if c.Restarts > 0 {
				previous = " --previous"
			}
			v.Next = a.kubectl("logs", c.Pod, "-c", c.Container) + previous
			return
		}
	case ClassQuota:
		v.Next = a.kubectl("describe", "resourcequota")
		return
	case ClassGate, ClassImage, ClassConfig, ClassAdmission, ClassVolume, ClassReadiness, ClassTransient, ClassScheduling, ClassController:
	}
	if c.Pod != "" {
		v.Next = a.kubectl("describe", "pod", c.Pod)
		return
	}
	v.Next = a.kubectl("describe", string(a.t.Kind), a.t.Name)
}

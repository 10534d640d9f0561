package workload

import (
	"context"
	"errors"
	"strings"

	"homelab/pkg/artifact"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
)

// Ready implements artifact.Target: one assessment of the rollout, with what
// the assessments before it knew. It needs nothing but a moment: whoever asks
// again does the waiting.
func (t *Target) Ready(ctx context.Context, s artifact.Switch) (artifact.Readiness, error) {
	w, err := t.get(ctx)
	if err != nil {
		return NotRead(ctx, err)
	}
	known := []artifact.ID{s.To.ID}
	if s.From != nil {
		known = append(known, s.From.ID)
	}
	o, err := t.see(ctx, w, known)
	if err != nil {
		return NotRead(ctx, err)
	}
	switch {
	case o.Sight == artifact.Unknown:
		return artifact.Readiness{State: artifact.NotYet, Reason: o.Why}, nil
	case !o.Is(s.To.ID):
		r := artifact.Readiness{State: artifact.Superseded, Owner: o.Owner, Reason: "container " + t.s.Container + " of " + t.s.object() + " runs " + o.String()}
		if o.Owner != "" {
			r.Reason += ", written by " + o.Owner
		}
		return r, nil
	}
	cfg := rollout.Config{
		Kind: t.s.Kind, Namespace: t.s.Namespace, Name: t.s.Name, Containers: []string{t.s.Container},
		Expected: rollout.Expected{Digest: string(s.To.ID)},
	}
	c, _ := t.s.container(w)
	seen := pinned(c.Image) == ""
	if seen {
		// Not written by this watch: that the tag's pods run the digest was just
		// seen, and what the tag serves by now does not matter.
		cfg.Expected, cfg.NoGate = rollout.Expected{}, true
	}
	t.mu.Lock()
	if t.look != s.To.ID {
		t.look, t.memory = s.To.ID, rollout.Memory{}
	}
	m := t.memory
	t.mu.Unlock()
	v, m := rollout.Again(ctx, t.d.Cluster, cfg, rollout.Sources{Images: images{t.d.Registry}}, m)
	if ctx.Err() != nil {
		return artifact.Readiness{}, context.Cause(ctx)
	}
	t.mu.Lock()
	t.memory = m
	t.mu.Unlock()
	return t.readiness(v, o, v.Verified || seen && v.Counts.Ready > 0), nil
}

// NotRead is what a failed read means for what comes up. The error is ctx's
// cause.
func NotRead(ctx context.Context, err error) (artifact.Readiness, error) {
	if ctx.Err() != nil {
		return artifact.Readiness{}, context.Cause(ctx)
	}
	r := artifact.Readiness{State: artifact.NotAsked, Reason: err.Error()}
	if f, ok := errors.AsType[*artifact.Failure](err); ok {
		switch f.Class {
		case artifact.Absent:
			r.State = artifact.Gone
		case artifact.Denied:
			r.State = artifact.Forbidden
		case artifact.Transient, artifact.Refused, artifact.Hold, artifact.Later, artifact.Owned, artifact.Failed:
		}
	}
	return r, nil
}

// readiness is what the rollout's verdict means here. A single look calls
// waiting a timeout; whether time is up is the watch's business.
func (t *Target) readiness(v rollout.Verdict, o artifact.Observation, proof bool) artifact.Readiness {
	r := artifact.Readiness{State: artifact.NotYet, Reason: t.s.object() + ": " + v.Sentence}
	switch v.Outcome {
	case rollout.Ready:
		r.State, r.Proof = artifact.IsReady, proof
		return r
	case rollout.Failed:
		r.State = artifact.NotReady
	case rollout.Superseded:
		r.State, r.Owner = artifact.Superseded, o.Owner
	case rollout.Paused:
		r.State = artifact.Suspended
	case rollout.Absent:
		r.State = artifact.Gone
	case rollout.Denied:
		r.State = artifact.Forbidden
	case rollout.Unreachable:
		r.State = artifact.NotAsked
	case rollout.Pending, rollout.Timeout, rollout.Interrupted:
	}
	if v.Final() && !v.Confirmed && v.Outcome == rollout.Failed {
		r.State = artifact.NotYet // an end is believed when the workload was read for it
	}
	r.Evidence = evidence(v)
	return r
}

// evidence is what will be gone after a rollback.
func evidence(v rollout.Verdict) []string {
	c := v.Cause
	if c == nil {
		return nil
	}
	line := v.Sentence + "\n" + string(c.Class) + " " + c.Reason + ": " + c.Message
	if c.Pod != "" {
		line += "\npod " + c.Pod + ", container " + c.Container
	}
	out := []string{line}
	if len(v.Why) > 0 {
		out = append(out, strings.Join(v.Why, "\n"))
	}
	if len(c.LogTail) > 0 {
		lines := make([]string, 0, len(c.LogTail))
		for _, l := range c.LogTail {
			lines = append(lines, ui.Clean(l))
		}
		out = append(out, "log of "+c.Pod+":\n"+strings.Join(lines, "\n"))
	}
	return out
}

// images lets an assessment ask the registry.
type images struct{ r Registry }

func (i images) Image(ctx context.Context, ref string, _ rollout.Target) rollout.ImageAnswer {
	if i.r == nil {
		return rollout.ImageAnswer{Err: "no registry is asked"}
	}
	got, err := i.r.Resolve(ctx, ref)
	if err != nil {
		return rollout.ImageAnswer{Err: err.Error()}
	}
	return rollout.ImageAnswer{Digest: got.Digest, Closure: got.Closure}
}

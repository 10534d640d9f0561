package rollout

import (
	"context"
	"strings"
	"sync"
	"time"

	"homelab/pkg/kube"
	"homelab/pkg/poll"
)

// Bounds of a single look.
const (
	lookRounds = 4                // of asking for what the judgement before would like to have
	lookBudget = 20 * time.Second // for which a server may fail without a break
)

// Look judges each workload once, on what is there now, and returns their
// verdicts in the order of targets. Nothing is waited for: what is not ready
// and has not failed ends as timed out. It is for workloads that were read a
// moment ago; whoever wants a rollout to have settled waits for it.
func Look(ctx context.Context, c Cluster, targets []Config, src Sources) []Verdict {
	h := single(ctx, c, targets, src, Memory{}, false)
	out := make([]Verdict, len(targets))
	for i, t := range h.targets {
		out[i] = t.verdict
	}
	return out
}

// Again is Look at one workload by somebody who looks again and again: m is
// what the look before returned, so that graces count from first sight and a
// workload that moved on is told from one that has not come yet. The zero
// Memory is the first look. What is not ready comes with its explanation.
func Again(ctx context.Context, c Cluster, target Config, src Sources, m Memory) (Verdict, Memory) {
	t := single(ctx, c, []Config{target}, src, m, true).targets[0]
	return t.verdict, t.snap.Memory
}

// single looks once, on what m knows of the looks before. With explain it also
// fetches what explains why a workload is not ready: events and the log.
func single(ctx context.Context, c Cluster, targets []Config, src Sources, m Memory, explain bool) *hub {
	h := &hub{c: c, src: src, ctx: ctx, emit: func(int, Verdict) {}, wake: make(chan struct{}, 1), spaces: map[string]*space{}}
	for i, cfg := range targets {
		t := &tracked{i: i, cfg: cfg, asked: map[Want]*ask{}}
		t.snap.Memory = m
		t.snap.Events, t.snap.Nodes, t.snap.Claims = map[string]Events{}, map[string]NodeAnswer{}, map[string]ClaimAnswer{}
		t.snap.Logs, t.snap.Images, t.snap.Ancestry = map[Want]LogTail{}, map[string]ImageAnswer{}, map[string]Descent{}
		h.targets = append(h.targets, t)
		s := h.space(cfg.Namespace)
		s.targets = append(s.targets, t)
		for _, resource := range []string{"pods", "replicasets", "controllerrevisions"} {
			s.follows[resource] = &following{} // so that nobody opens a watch
		}
	}
	wants := map[*tracked][]Want{}
	for began := time.Now(); ; {
		clear(wants)
		for _, t := range h.targets {
			if !t.answers {
				wants[t] = []Want{{Kind: WantTarget}}
			}
		}
		if len(wants) == 0 || ctx.Err() != nil || time.Since(began) > lookBudget {
			break
		}
		h.gain(ctx, wants)
		for t := range wants {
			if t.answers {
				continue
			}
			if _, err := h.c.Get(ctx, resourceOf(t.cfg.Kind), t.cfg.Namespace, t.cfg.Name); kube.IsDenied(err) {
				h.refusedTarget(ctx, t, t.cfg.Kind, err)
			}
		}
		h.drain()
	}
	for _, s := range h.spaces {
		h.listOnce(ctx, s)
	}
	for range lookRounds {
		clear(wants)
		for _, t := range h.targets {
			h.space(t.cfg.Namespace).gather(t)
			t.verdict = h.assess(t)
			for _, w := range t.verdict.Fetch {
				if t.asked[w] == nil {
					wants[t] = append(wants[t], w)
				}
			}
		}
		if len(wants) == 0 || ctx.Err() != nil {
			break
		}
		h.gain(ctx, wants)
	}
	for _, t := range h.targets {
		if !t.verdict.Final() && t.snap.Target != nil && t.snap.Target.Paused {
			h.patient(t)
		}
		if !t.verdict.Final() {
			t.snap.Ended = TimeUp
			t.verdict = h.assess(t)
		}
	}
	clear(wants)
	for _, t := range h.targets {
		for _, w := range t.verdict.Fetch {
			if explain && explains(w.Kind) && t.verdict.Outcome != Ready && t.asked[w] == nil {
				wants[t] = append(wants[t], w)
			}
		}
	}
	if len(wants) > 0 && ctx.Err() == nil {
		h.gain(ctx, wants)
		for t := range wants {
			t.verdict = h.assess(t)
		}
	}
	return h
}

// gain asks for all wants at once.
func (h *hub) gain(ctx context.Context, wants map[*tracked][]Want) {
	var wg sync.WaitGroup
	for t, list := range wants {
		for _, w := range list {
			t.asked[w] = &ask{at: time.Now()}
			cfg, target := t.cfg, t.snap.Target
			wg.Go(func() {
				f := h.ask(ctx, cfg, target, w)
				h.post(func() { f(t) })
			})
		}
	}
	wg.Wait()
	h.drain()
}

// listOnce lists what the workloads of a namespace consist of.
func (h *hub) listOnce(ctx context.Context, s *space) {
	needs := map[string][]*tracked{}
	for _, t := range s.targets {
		if t.snap.Target == nil {
			continue
		}
		needs["pods"] = append(needs["pods"], t)
		if t.cfg.Kind == Deployment {
			needs["replicasets"] = append(needs["replicasets"], t)
		} else {
			needs["controllerrevisions"] = append(needs["controllerrevisions"], t)
		}
	}
	for resource, ts := range needs {
		r := kube.Apps(resource)
		if resource == "pods" {
			r = kube.Core(resource)
		}
		q := kube.Query{Labels: merged(ts), Keep: keepDependent(resource)}
		items, err := h.listed(ctx, r, s.name, q)
		switch {
		case err == nil:
			s.follows[resource].sight = Seen
			for _, o := range items {
				s.store(o)
			}
		case kube.IsDenied(err):
			s.follows[resource].sight = Forbidden
		}
	}
}

// listed lists until there is an answer, for a while.
func (h *hub) listed(ctx context.Context, r kube.Resource, ns string, q kube.Query) ([]kube.Object, error) {
	waits, began := poll.Exponential(250*time.Millisecond, 5*time.Second, 0.25), time.Now()
	for {
		items, _, err := h.c.List(ctx, r, ns, q)
		if !kube.IsTransient(err) || time.Since(began) > lookBudget || ctx.Err() != nil {
			return items, err
		}
		if err := poll.Sleep(ctx, waits.Next()); err != nil {
			return nil, err
		}
	}
}

// patient judges a paused workload as if it had been paused for long: nobody
// pauses for a moment and means to be waited for by a single look.
func (h *hub) patient(t *tracked) {
	for k, seen := range t.snap.Memory.Seen {
		if strings.HasPrefix(k, "paused/") {
			seen.Since = seen.Since.Add(-pausedGrace)
			t.snap.Memory.Seen[k] = seen
		}
	}
	t.verdict = h.assess(t)
}

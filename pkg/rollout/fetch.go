package rollout

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"homelab/pkg/kube"
	"homelab/pkg/nearest"
	"homelab/pkg/poll"
)

// Bounds of what is fetched to explain.
const (
	fetchWithin = 10 * time.Second
	tailLines   = 20
	tailBytes   = 64 << 10
	mostEvents  = 500
	retryLive   = time.Second // after a live read that failed in passing
)

// ask fetches one thing and returns what puts the answer into a snapshot. It
// runs beside the hub and touches none of its state.
func (h *hub) ask(ctx context.Context, cfg Config, target *Target, w Want) func(*tracked) {
	bounded, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	switch w.Kind {
	case WantTarget:
		return h.askTarget(bounded, cfg)
	case WantEvents:
		return h.askEvents(bounded, cfg, w)
	case WantLog:
		return h.askLog(bounded, cfg, w)
	case WantImage:
		return h.askImage(bounded, target, w)
	case WantAncestry:
		if h.src.History == nil {
			return func(t *tracked) { t.snap.Ancestry[w.Reference] = Descent{} }
		}
		d := h.src.History.Descent(bounded, w.Reference)
		return func(t *tracked) { t.snap.Ancestry[w.Reference] = d }
	case WantRemote:
		if h.src.History == nil {
			return func(t *tracked) { t.snap.Remote = &RemoteAnswer{} }
		}
		r := h.src.History.Remote(bounded)
		return func(t *tracked) { t.snap.Remote = &r }
	case WantNamespace:
		return h.askNamespace(bounded, cfg)
	case WantNode:
		return h.askNode(bounded, w)
	case WantClaim:
		return h.askClaim(bounded, cfg, w)
	case WantRevisions:
	}
	return func(*tracked) {}
}

// askTarget reads the workload as it is now. That it is missing is believed
// here and nowhere else.
func (h *hub) askTarget(ctx context.Context, cfg Config) func(*tracked) {
	o, err := h.c.Get(ctx, resourceOf(cfg.Kind), cfg.Namespace, cfg.Name)
	switch {
	case err == nil:
		target, decodeErr := DecodeTarget(cfg.Kind, o.Raw)
		if decodeErr != nil {
			return func(*tracked) {}
		}
		return func(t *tracked) { //nolint:contextcheck // followers live as long as the hub
			t.snap.Target, t.snap.Missing, t.snap.Live, t.answers = &target, nil, true, true
			h.ensure(h.space(cfg.Namespace))
		}
	case kube.IsAbsent(err):
		missing := Missing{}
		missing.Namespace = namespaceMissing(err, cfg.Namespace)
		missing.Suggestions = h.suggest(ctx, cfg)
		return func(t *tracked) { //nolint:contextcheck // followers live as long as the hub
			missing.Deleted = t.snap.Memory.UID != "" || t.snap.Target != nil
			t.snap.Target, t.snap.Missing, t.snap.Live, t.answers = nil, &missing, true, true
			h.ensure(h.space(cfg.Namespace))
		}
	case kube.IsDenied(err):
		return func(t *tracked) {
			h.refusedTarget(ctx, t, cfg.Kind, err)
		}
	}
	// A passing fault: the next look asks again.
	_ = poll.Sleep(ctx, retryLive) // an ended ctx ends the look as well
	return func(*tracked) {}
}

// namespaceMissing says whether a 404 speaks of the namespace itself.
func namespaceMissing(err error, ns string) bool {
	return strings.Contains(err.Error(), `namespaces "`+ns+`" not found`)
}

// suggest names workloads that may have been meant: the same name as another
// kind, a similar name, the same name in another namespace. What may not be
// listed suggests nothing.
func (h *hub) suggest(ctx context.Context, cfg Config) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	type near struct {
		name     string
		distance int
	}
	var out []near
	for _, kind := range []Kind{Deployment, StatefulSet, DaemonSet, CronJob} {
		items, _, err := h.c.List(ctx, resourceOf(kind), cfg.Namespace, kube.Query{Limit: mostEvents, Keep: bare})
		if err != nil {
			continue
		}
		for _, o := range items {
			d := nearest.Distance(o.Name, cfg.Name, max(len(o.Name), len(cfg.Name)))
			if d <= 2 || strings.Contains(o.Name, cfg.Name) || strings.Contains(cfg.Name, o.Name) {
				out = append(out, near{spell(cfg.Namespace, kind, o.Name), d})
			}
		}
	}
	if len(out) == 0 {
		items, _, err := h.c.List(ctx, resourceOf(cfg.Kind), "", kube.Query{Limit: mostEvents, Keep: bare})
		if err == nil {
			for _, o := range items {
				if o.Name == cfg.Name && o.Namespace != cfg.Namespace {
					out = append(out, near{spell(o.Namespace, cfg.Kind, o.Name), 0})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b near) int { return cmp.Compare(a.distance, b.distance) })
	var names []string
	for _, n := range out[:min(len(out), 3)] {
		names = append(names, n.name)
	}
	return names
}

// bare drops an object's content: its name is all that is wanted.
func bare(o *kube.Object) bool {
	o.Raw = nil
	return true
}

// spell names a workload the way the command line takes it.
func spell(ns string, k Kind, name string) string {
	if k == Deployment {
		return ns + "/" + name
	}
	return ns + "/" + string(k) + "/" + name
}

func (h *hub) askEvents(ctx context.Context, cfg Config, w Want) func(*tracked) {
	items, _, err := h.c.List(ctx, kube.Core("events"), cfg.Namespace, kube.Query{
		Fields: "involvedObject.uid=" + w.UID,
		Keep: func(o *kube.Object) bool {
			e, err := DecodeEvent(o.Raw)
			if err != nil || e.Involved.UID != w.UID {
				return false // a server may ignore the selector
			}
			o.Value, o.Raw = e, nil
			return true
		},
	})
	now := h.c.Now()
	if err != nil {
		if !kube.IsDenied(err) {
			return func(*tracked) {}
		}
		return func(t *tracked) { t.snap.Events[w.UID] = Events{Sight: Forbidden, At: now} }
	}
	known := Events{Sight: Seen, At: now}
	for _, o := range items {
		if e, ok := o.Value.(Event); ok {
			known.Items = append(known.Items, e)
		}
	}
	return func(t *tracked) { t.snap.Events[w.UID] = known }
}

func (h *hub) askLog(ctx context.Context, cfg Config, w Want) func(*tracked) {
	text, err := h.c.Log(ctx, cfg.Namespace, w.Pod, kube.LogOptions{
		Container: w.Container, Previous: w.Previous, Tail: tailLines, LimitBytes: tailBytes,
	})
	if err != nil {
		return func(t *tracked) { t.snap.Logs[w] = LogTail{Err: err.Error()} }
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(lines) == 1 && lines[0] == "" {
		lines = nil
	}
	lines = lines[max(0, len(lines)-tailLines):]
	return func(t *tracked) { t.snap.Logs[w] = LogTail{Lines: lines} }
}

func (h *hub) askImage(ctx context.Context, target *Target, w Want) func(*tracked) {
	if h.src.Images == nil || target == nil {
		return func(t *tracked) { t.snap.Images[w.Reference] = ImageAnswer{Err: "no registry is asked"} }
	}
	a := h.src.Images.Image(ctx, w.Reference, *target)
	return func(t *tracked) { t.snap.Images[w.Reference] = a }
}

func (h *hub) askNamespace(ctx context.Context, cfg Config) func(*tracked) {
	o, err := h.c.Get(ctx, kube.Core("namespaces"), "", cfg.Namespace)
	if err == nil {
		if n, decodeErr := DecodeNamespace(o.Raw); decodeErr == nil {
			return func(t *tracked) { t.snap.Namespace = &NamespaceAnswer{Sight: Seen, Namespace: n} }
		}
	}
	if kube.IsDenied(err) {
		return func(t *tracked) { t.snap.Namespace = &NamespaceAnswer{Sight: Forbidden} }
	}
	return func(*tracked) {}
}

func (h *hub) askNode(ctx context.Context, w Want) func(*tracked) {
	o, err := h.c.Get(ctx, kube.Core("nodes"), "", w.Name)
	if err == nil {
		if n, decodeErr := DecodeNode(o.Raw); decodeErr == nil {
			return func(t *tracked) { t.snap.Nodes[w.Name] = NodeAnswer{Sight: Seen, Node: n} }
		}
	}
	switch {
	case kube.IsAbsent(err):
		return func(t *tracked) { t.snap.Nodes[w.Name] = NodeAnswer{Sight: Seen, Gone: true} }
	case kube.IsDenied(err):
		return func(t *tracked) { t.snap.Nodes[w.Name] = NodeAnswer{Sight: Forbidden} }
	}
	return func(*tracked) {}
}

func (h *hub) askClaim(ctx context.Context, cfg Config, w Want) func(*tracked) {
	o, err := h.c.Get(ctx, kube.Core("persistentvolumeclaims"), cfg.Namespace, w.Name)
	if err == nil {
		if c, decodeErr := DecodeClaim(o.Raw); decodeErr == nil {
			return func(t *tracked) { t.snap.Claims[w.Name] = ClaimAnswer{Sight: Seen, Claim: c} }
		}
	}
	switch {
	case kube.IsAbsent(err):
		return func(t *tracked) { t.snap.Claims[w.Name] = ClaimAnswer{Sight: Seen, Gone: true} }
	case kube.IsDenied(err):
		return func(t *tracked) { t.snap.Claims[w.Name] = ClaimAnswer{Sight: Forbidden} }
	}
	return func(*tracked) {}
}

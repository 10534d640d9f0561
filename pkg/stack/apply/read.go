package apply

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"homelab/pkg/kube"
	"homelab/pkg/poll"
)

// How long a server may fail without a break before it counts as unreachable.
const (
	budget   = 20 * time.Second
	minTries = 4
	parallel = 8 // requests at once
)

// persist calls f until it says something else than that there was no answer,
// or the budget is used up.
func persist(ctx context.Context, f func(context.Context) error) error {
	waits := poll.Exponential(250*time.Millisecond, 5*time.Second, 0.25)
	since := time.Now()
	for tries := 1; ; tries++ {
		err := f(ctx)
		if !kube.IsTransient(err) || tries >= minTries && time.Since(since) > budget {
			return err
		}
		if err := poll.Sleep(ctx, waits.Next()); err != nil {
			return err
		}
	}
}

// group runs functions with some at a time, and keeps the first error.
type group struct {
	wg    sync.WaitGroup
	slots chan struct{}
	mu    sync.Mutex
	err   error
}

func newGroup() *group { return &group{slots: make(chan struct{}, parallel)} }

func (g *group) do(f func() error) {
	g.slots <- struct{}{}
	g.wg.Go(func() {
		defer func() { <-g.slots }()
		if err := f(); err != nil {
			g.mu.Lock()
			g.err = cmp.Or(g.err, err)
			g.mu.Unlock()
		}
	})
}

func (g *group) wait() error {
	g.wg.Wait()
	return g.err
}

// decoded is o with its kind: items of lists come without.
func decoded(k kind, o kube.Object) (*unstructured.Unstructured, error) {
	var m object
	if err := utiljson.Unmarshal(o.Raw, &m); err != nil {
		return nil, err
	}
	m["kind"], m["apiVersion"] = k.name, k.apiVersion()
	return &unstructured.Unstructured{Object: m}, nil
}

// Read lists what the cluster holds of the deployment: one LIST per kind, in
// parallel, and the namespace. Lists that the credentials may not read and
// that only some stacks need (volumes, storage classes, autoscalers) are
// missed only where they are needed. The error is a *fault.Error: Denied,
// Unreachable; or ctx's cause.
func Read(ctx context.Context, c Client, s Scope) (*Live, error) {
	l := &Live{Objects: map[Ref]*unstructured.Unstructured{}, asked: map[Ref]bool{}, missed: map[string]error{}}
	if s.ID == "" {
		return l, nil
	}
	var mu sync.Mutex
	g := newGroup()
	gather := func(k kind, namespace, labels string, optional bool, each func(*unstructured.Unstructured)) {
		g.do(func() error {
			var found []*unstructured.Unstructured
			err := persist(ctx, func(ctx context.Context) error {
				found = nil
				items, _, err := c.List(ctx, k.resource, namespace, kube.Query{Labels: labels})
				for _, i := range items {
					o, err := decoded(k, i)
					if err != nil {
						return err
					}
					found = append(found, o)
				}
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case optional && (kube.IsForbidden(err) || kube.IsAbsent(err)):
				l.missed[k.name] = err
				return nil
			case err != nil:
				return failed(ctx, err, "reading "+k.resource.Plural)
			}
			slices.SortFunc(found, func(a, b *unstructured.Unstructured) int { return cmp.Compare(a.GetName(), b.GetName()) })
			for _, o := range found {
				each(o)
			}
			return nil
		})
	}
	keep := func(o *unstructured.Unstructured) { l.Objects[s.ref(o)] = o }
	g.do(func() error {
		ns, err := get(ctx, c, Ref{Kind: "Namespace", Name: s.Namespace})
		l.Namespace = ns
		return err
	})
	g.do(func() error {
		r := s.own("Secret", s.ID+"-generated-secrets")
		o, err := get(ctx, c, r)
		mu.Lock()
		defer mu.Unlock()
		l.asked[r] = true
		if o != nil {
			l.Objects[r] = o
		}
		return err
	})
	for _, k := range kinds() {
		switch {
		case k.listed:
			gather(k, s.Namespace, LabelApp+"="+s.ID, false, keep)
		case k.name == "PersistentVolumeClaim":
			// All of them: what others have here counts when the namespace is to go.
			gather(k, s.Namespace, "", false, func(o *unstructured.Unstructured) { l.Claims = append(l.Claims, o); keep(o) })
		case k.name == "PersistentVolume":
			// All of them: another deployment may have the same directory.
			gather(k, "", "", true, func(o *unstructured.Unstructured) { l.Volumes = append(l.Volumes, o); keep(o) })
		case k.name == "Pod":
			gather(k, s.Namespace, fmt.Sprintf("%s in (%s,%s-job)", LabelApp, s.ID, s.ID), false,
				func(o *unstructured.Unstructured) { l.Pods = append(l.Pods, o) })
		}
	}
	gather(kind{name: "HorizontalPodAutoscaler", resource: kube.Resource{Group: "autoscaling", Version: "v2", Plural: "horizontalpodautoscalers"}},
		s.Namespace, "", true, func(o *unstructured.Unstructured) { l.Scalers = append(l.Scalers, o) })
	gather(kind{name: "StorageClass", resource: kube.Resource{Group: "storage.k8s.io", Version: "v1", Plural: "storageclasses"}, cluster: true},
		"", "", true, func(o *unstructured.Unstructured) { l.Classes = append(l.Classes, o) })
	if err := g.wait(); err != nil {
		return nil, err
	}
	return l, nil
}

// get reads one object, or nil when there is none.
func get(ctx context.Context, c Client, r Ref) (*unstructured.Unstructured, error) {
	k, err := kindOf(r.Kind)
	if err != nil {
		return nil, err
	}
	var o *unstructured.Unstructured
	err = persist(ctx, func(ctx context.Context) error {
		raw, err := c.Get(ctx, k.resource, r.Namespace, r.Name)
		if err == nil {
			o, err = decoded(k, raw)
		}
		return err
	})
	switch {
	case kube.IsAbsent(err):
		return nil, nil
	case err != nil:
		return nil, failed(ctx, err, "reading "+r.String())
	}
	return o, nil
}

// Complete asks for each object of d that the lists have not shown: it may be
// there without the deployment's label. The error is as Read's.
func (l *Live) Complete(ctx context.Context, c Client, s Scope, d Desired) error {
	var mu sync.Mutex
	g := newGroup()
	for _, want := range d.Objects {
		r := s.ref(want)
		if err := l.missed[r.Kind]; err != nil {
			return failed(ctx, err, "reading "+r.String())
		}
		mu.Lock()
		known := l.Objects[r] != nil || l.asked[r]
		l.asked[r] = true
		mu.Unlock()
		complete := r.Kind == "PersistentVolume" || r.Kind == "PersistentVolumeClaim" // listed whole
		if known || s.ID != "" && (complete || r.Namespace != "" && l.Namespace == nil) {
			continue
		}
		g.do(func() error {
			o, err := get(ctx, c, r)
			if o != nil {
				mu.Lock()
				l.Objects[r] = o
				mu.Unlock()
			}
			return err
		})
	}
	return g.wait()
}

// HostPaths is where the deployment's live volumes have their data, by the
// PersistentVolume's name.
func (l *Live) HostPaths() map[string]string {
	out := map[string]string{}
	for _, v := range l.Volumes {
		if p := hostPath(v); p != "" {
			out[v.GetName()] = p
		}
	}
	return out
}

func hostPath(v *unstructured.Unstructured) string { return text(v, "spec", "hostPath", "path") }

func (l *Live) volume(name string) *unstructured.Unstructured {
	return l.Objects[Ref{Kind: "PersistentVolume", Name: name}]
}

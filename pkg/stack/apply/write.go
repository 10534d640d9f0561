package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/csaupgrade"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
)

func resourceOf(d dynamic.Interface, k kind, namespace string) dynamic.ResourceInterface {
	if k.cluster {
		return d.Resource(k.gvr())
	}
	return d.Resource(k.gvr()).Namespace(namespace)
}

// writer sends the actions of a plan.
type writer struct {
	c Client
	d dynamic.Interface
	s Scope
	o Options
}

func newWriter(c Client, s Scope, o Options) (*writer, error) {
	d, err := c.Dynamic()
	if err != nil {
		return nil, err
	}
	return &writer{c: c, d: d, s: s, o: o}, nil
}

// Apply sends the writes of p in order. An error leaves the rest unsent; the
// next run plans what is missing. The error is a *fault.Error, what Step
// returned, or ctx's cause.
func Apply(ctx context.Context, c Client, p *Plan, o Options) error {
	return run(ctx, c, p.scope, p.steps, o)
}

// Prune deletes what p found to be no longer rendered; only after the new
// objects were seen working. The error is as Apply's.
func Prune(ctx context.Context, c Client, p *Plan, o Options) error {
	return run(ctx, c, p.scope, p.prune, o)
}

func run(ctx context.Context, c Client, s Scope, actions []action, o Options) error {
	if len(actions) == 0 {
		return nil
	}
	w, err := newWriter(c, s, o)
	if err != nil {
		return err
	}
	for _, a := range actions {
		if err := w.do(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) do(ctx context.Context, a action) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", a.Action, a.Ref, context.Cause(ctx))
	}
	if a.Action == Awaited {
		return w.await(ctx, []action{a})
	}
	if w.o.Step != nil {
		if err := w.o.Step(a.Step); err != nil {
			return err
		}
	}
	var err error
	switch a.Action {
	case Created, Updated, Replaced:
		err = w.apply(ctx, a)
	case Deleted:
		err = w.delete(ctx, a)
	case Migrated:
		err = w.migrate(ctx, a)
	case Released:
		err = w.release(ctx, a)
	case Retained:
		err = w.retain(ctx, a)
	case Awaited:
	}
	if err != nil {
		return failed(ctx, err, a.String())
	}
	if w.o.Done != nil {
		w.o.Done(a.Step)
	}
	return nil
}

// send sends a write. While the answer is unclear (no answer, or the server
// was not itself) it looks whether the write took effect before it sends it
// again, within the budget.
func (w *writer) send(ctx context.Context, once func(context.Context) error, through func(context.Context) (bool, error)) error {
	waits := poll.Exponential(250*time.Millisecond, 5*time.Second, 0.25)
	since := time.Now()
	for tries := 1; ; tries++ {
		err := kube.Confirm(ctx, func() error { return once(ctx) })
		if !kube.IsTransient(err) || tries >= minTries && time.Since(since) > budget {
			return err
		}
		if err := poll.Sleep(ctx, waits.Next()); err != nil {
			return err
		}
		if done, look := through(ctx); look != nil || done {
			return look
		}
	}
}

func (w *writer) apply(ctx context.Context, a action) error {
	k, err := kindOf(a.Kind)
	if err != nil {
		return err
	}
	return w.send(ctx, func(ctx context.Context) error {
		_, err := resourceOf(w.d, k, a.Namespace).Apply(ctx, a.Name, a.object, metav1.ApplyOptions{FieldManager: Manager, Force: true})
		return err
	}, func(ctx context.Context) (bool, error) {
		// Fields that had to go are not seen here: only an object that says
		// it was applied as it is now has lost them.
		o, err := get(ctx, w.c, a.Ref)
		if o == nil || err != nil {
			return false, err
		}
		want := a.object.GetAnnotations()[AnnotationApplied]
		return want != "" && o.GetAnnotations()[AnnotationApplied] == want && contains(o.Object, a.object.Object), nil
	})
}

// delete deletes the object that was planned, and no later one of its name.
func (w *writer) delete(ctx context.Context, a action) error {
	k, err := kindOf(a.Kind)
	if err != nil {
		return err
	}
	uid := types.UID(a.uid)
	how := metav1.DeletePropagationBackground
	if a.Kind == "Deployment" || a.Kind == "Job" {
		// It is gone when its pods are.
		how = metav1.DeletePropagationForeground
	}
	err = w.send(ctx, func(ctx context.Context) error {
		err := resourceOf(w.d, k, a.Namespace).Delete(ctx, a.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &how,
		})
		if kube.IsAbsent(err) || isConflict(err) {
			return nil // gone, or another object has its name
		}
		return err
	}, func(ctx context.Context) (bool, error) {
		o, err := get(ctx, w.c, a.Ref)
		return err == nil && (o == nil || o.GetUID() != uid || o.GetDeletionTimestamp() != nil), err
	})
	return err
}

func isConflict(err error) bool {
	s, ok := errors.AsType[*kube.StatusError](err)
	return ok && !s.Proxy && s.Code == http.StatusConflict
}

// patch changes an object read just before; if it changed meanwhile, it is
// read again. body returns nil when there is nothing to do.
func (w *writer) patch(ctx context.Context, a action, how types.PatchType, body func(*unstructured.Unstructured) ([]byte, error)) error {
	k, err := kindOf(a.Kind)
	if err != nil {
		return err
	}
	return w.send(ctx, func(ctx context.Context) error {
		o, err := get(ctx, w.c, a.Ref)
		if o == nil || err != nil {
			return err
		}
		b, err := body(o)
		if b == nil || err != nil {
			return err
		}
		_, err = resourceOf(w.d, k, a.Namespace).Patch(ctx, a.Name, how, b, metav1.PatchOptions{FieldManager: Manager})
		return err
	}, func(context.Context) (bool, error) { return false, nil }) // once looks first
}

// migrate hands the fields of the legacy client over to Manager, so that the
// apply that follows drops what is no longer wanted.
func (w *writer) migrate(ctx context.Context, a action) error {
	return w.patch(ctx, a, types.JSONPatchType, func(o *unstructured.Unstructured) ([]byte, error) {
		return csaupgrade.UpgradeManagedFieldsPatch(o, sets.New(Legacy), Manager)
	})
}

// release makes a volume bind to the claim of the same name again. The name
// stays, so that no other claim gets the data in between.
func (w *writer) release(ctx context.Context, a action) error {
	return w.patch(ctx, a, types.MergePatchType, func(o *unstructured.Unstructured) ([]byte, error) {
		claim, err := get(ctx, w.c, w.s.own("PersistentVolumeClaim", text(o, "spec", "claimRef", "name")))
		if err != nil || !stale(o, claim, w.s) {
			return nil, err
		}
		return json.Marshal(object{
			"metadata": object{"resourceVersion": o.GetResourceVersion()},
			"spec":     object{"claimRef": object{"uid": nil, "resourceVersion": nil}},
		})
	})
}

// retain keeps the data of a volume whose claim is about to go.
func (w *writer) retain(ctx context.Context, a action) error {
	return w.patch(ctx, a, types.MergePatchType, func(o *unstructured.Unstructured) ([]byte, error) {
		if text(o, "spec", "persistentVolumeReclaimPolicy") == "Retain" {
			return nil, nil
		}
		return []byte(`{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`), nil
	})
}

// await waits until all objects are gone; a Deployment only is when its pods
// are. When ctx's time is up the error is a *fault.Error of kind Timeout that
// names what is left and what holds it.
func (w *writer) await(ctx context.Context, gone []action) error {
	var left []string
	err := poll.Until(ctx, poll.Exponential(100*time.Millisecond, 2*time.Second, 0), func(ctx context.Context) (poll.State, error) {
		there, err := w.present(ctx, gone)
		if err != nil {
			return poll.Unknown, err
		}
		var pods []*unstructured.Unstructured
		var names []string
		var next []action
		for _, a := range gone {
			if o := there[a.Ref]; o != nil && string(o.GetUID()) == a.uid {
				next, names = append(next, a), append(names, a.String()+holders(o))
				continue
			}
			if a.Kind != "Deployment" {
				continue
			}
			if pods == nil {
				if pods, err = w.list(ctx, "Pod", a.Namespace); err != nil {
					return poll.Unknown, err
				}
			}
			if still := podsOf(pods, a.Name); len(still) > 0 {
				next, names = append(next, a), append(names, still...)
			}
		}
		if gone, left = next, names; len(gone) > 0 {
			return poll.NotYet, nil
		}
		return poll.Done, nil
	})
	if err != nil && errors.Is(context.Cause(ctx), fault.ErrTimeUp) && len(left) > 0 {
		return fault.New(fault.Timeout, "still being deleted: "+strings.Join(left, ", "), "").From(err)
	}
	return err
}

// few is how many objects of a kind are asked for one by one.
const few = 3

// present reads those of the objects that are there.
func (w *writer) present(ctx context.Context, actions []action) (map[Ref]*unstructured.Unstructured, error) {
	kinds := map[string][]Ref{}
	for _, a := range actions {
		kinds[a.Kind+" "+a.Namespace] = append(kinds[a.Kind+" "+a.Namespace], a.Ref)
	}
	out := map[Ref]*unstructured.Unstructured{}
	for _, refs := range kinds {
		if len(refs) > few {
			all, err := w.list(ctx, refs[0].Kind, refs[0].Namespace)
			if err != nil {
				return nil, err
			}
			for _, o := range all {
				out[w.s.ref(o)] = o
			}
			continue
		}
		for _, r := range refs {
			o, err := get(ctx, w.c, r)
			if err != nil {
				return nil, err
			}
			if o != nil {
				out[r] = o
			}
		}
	}
	return out, nil
}

// holders says what keeps an object that was deleted, "" when nothing is known.
func holders(o *unstructured.Unstructured) string {
	if f := o.GetFinalizers(); len(f) > 0 {
		return " (finalizer " + strings.Join(f, ", ") + ")"
	}
	return ""
}

// list reads all objects of a kind; never nil without an error.
func (w *writer) list(ctx context.Context, name, namespace string) ([]*unstructured.Unstructured, error) {
	k, err := kindOf(name)
	if err != nil {
		return nil, err
	}
	out := []*unstructured.Unstructured{}
	err = persist(ctx, func(ctx context.Context) error {
		out = out[:0]
		items, _, err := w.c.List(ctx, k.resource, namespace, kube.Query{})
		for _, i := range items {
			o, err := decoded(k, i)
			if err != nil {
				return err
			}
			out = append(out, o)
		}
		return err
	})
	if err != nil {
		return nil, failed(ctx, err, "reading "+k.resource.Plural)
	}
	return out, nil
}

// podsOf names the pods of a Deployment that still may write.
func podsOf(pods []*unstructured.Unstructured, deployment string) []string {
	var out []string
	for _, p := range pods {
		if phase := text(p, "status", "phase"); phase == "Succeeded" || phase == "Failed" {
			continue
		}
		set := deployment + "-" + p.GetLabels()["pod-template-hash"]
		if slices.ContainsFunc(p.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
			return r.Kind == "ReplicaSet" && r.Name == set
		}) {
			out = append(out, "Pod "+p.GetName()+holders(p))
		}
	}
	return out
}

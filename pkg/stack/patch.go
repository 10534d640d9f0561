package stack

import (
	"context"
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"homelab/pkg/kube"
	"homelab/pkg/poll"
	"homelab/pkg/stack/apply"
)

const (
	patchBudget = 30 * time.Second
	patchPause  = time.Second
)

// put applies objects that belong to no deployment, in their order.
func (r *run) put(ctx context.Context, objects []*unstructured.Unstructured) error {
	want, scope := apply.Desired{Objects: objects}, apply.Scope{}
	live, err := apply.Read(ctx, r.c, scope)
	if err != nil {
		return err
	}
	if err := live.Complete(ctx, r.c, scope, want); err != nil {
		return err
	}
	plan, err := apply.Diff(ctx, r.c, live, want, scope)
	if err != nil {
		return err
	}
	return apply.Apply(ctx, r.c, plan, apply.Options{})
}

// patch changes single fields of an object that somebody else made; applying
// it would take all its fields over. It changes nothing the second time, so it
// is sent again when the answer is lost.
func patch(ctx context.Context, c Cluster, r kube.Resource, namespace, name string, change map[string]any) error {
	raw, err := json.Marshal(change)
	if err != nil {
		return err
	}
	d, err := c.Dynamic()
	if err != nil {
		return err
	}
	client := d.Resource(schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural})
	since := time.Now()
	for {
		err := kube.Confirm(ctx, func() error {
			o := metav1.PatchOptions{FieldManager: apply.Manager}
			if namespace == "" {
				_, err := client.Patch(ctx, name, types.StrategicMergePatchType, raw, o)
				return err
			}
			_, err := client.Namespace(namespace).Patch(ctx, name, types.StrategicMergePatchType, raw, o)
			return err
		})
		if !kube.IsTransient(err) || time.Since(since) > patchBudget {
			return err
		}
		if err := poll.Sleep(ctx, patchPause); err != nil {
			return err
		}
	}
}

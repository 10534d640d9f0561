package kubesim_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"homelab/internal/kubesim"
)

func writer(t *testing.T, sim *kubesim.Sim) func(group, resource string) dynamic.ResourceInterface {
	t.Helper()
	d, err := dynamic.NewForConfig(&rest.Config{Host: kubesim.Base().String(), Transport: sim.Transport(kubesim.Admin), QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return func(group, resource string) dynamic.ResourceInterface {
		r := d.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource})
		if resource == "persistentvolumes" || resource == "namespaces" {
			return r
		}
		return r.Namespace("default")
	}
}

func thing(kind, version, name string, rest map[string]any) *unstructured.Unstructured {
	o := map[string]any{"kind": kind, "apiVersion": version, "metadata": map[string]any{"name": name}}
	maps.Copy(o, rest)
	return &unstructured.Unstructured{Object: o}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

func TestApplyOwnsFields(t *testing.T) {
	sim := kubesim.New(kubesim.Options{})
	t.Cleanup(sim.Close)
	config := writer(t, sim)("", "configmaps")
	apply := func(who string, force bool, data map[string]any, dry ...string) error {
		_, err := config.Apply(t.Context(), "c", thing("ConfigMap", "v1", "c", map[string]any{"data": data}),
			metav1.ApplyOptions{FieldManager: who, Force: force, DryRun: dry})
		return err
	}
	data := func() any { return sim.Object("configmaps", "default", "c")["data"] }
	if err := apply("a", false, map[string]any{"x": "1", "y": "1"}, "All"); err != nil || sim.Object("configmaps", "default", "c") != nil {
		t.Fatalf("a dry run: %v", err)
	}
	if err := apply("a", false, map[string]any{"x": "1", "y": "1"}); err != nil {
		t.Fatal(err)
	}
	rv := sim.Version()
	if err := apply("a", false, map[string]any{"x": "1", "y": "1"}); err != nil || sim.Version() != rv {
		t.Errorf("the same again is a write: %v", err)
	}
	if err := apply("b", false, map[string]any{"x": "2"}); err == nil || !strings.Contains(err.Error(), `conflict with "a"`) {
		t.Errorf("another's field: %v", err)
	}
	if err := apply("b", true, map[string]any{"x": "2"}); err != nil {
		t.Fatal(err)
	}
	if err := apply("a", false, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if got, ok := data().(map[string]any); !ok || len(got) != 1 || got["x"] != "2" {
		t.Errorf("data %v", data())
	}
	if _, err := config.Patch(t.Context(), "c", types.MergePatchType, []byte(`{"metadata": {"resourceVersion": "1"}}`), metav1.PatchOptions{}); err == nil {
		t.Error("an old version was patched")
	}
	uid := types.UID("other")
	if err := config.Delete(t.Context(), "c", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err == nil {
		t.Error("another object was deleted")
	}
	if err := config.Delete(t.Context(), "c", metav1.DeleteOptions{}); err != nil || sim.Object("configmaps", "default", "c") != nil {
		t.Errorf("%v", err)
	}
}

func TestWrittenDeploymentsRun(t *testing.T) {
	sim := kubesim.New(kubesim.Options{})
	t.Cleanup(sim.Close)
	deployments := writer(t, sim)("apps", "deployments")
	apply := func(image string) {
		t.Helper()
		labels := map[string]any{"app": "acme"}
		_, err := deployments.Apply(t.Context(), "acme-deployment", thing("Deployment", "apps/v1", "acme-deployment", map[string]any{"spec": map[string]any{
			"selector": map[string]any{"matchLabels": labels}, "strategy": map[string]any{"type": "Recreate"},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{
				"containers": []any{map[string]any{"name": "web", "image": image}},
			}},
		}}), metav1.ApplyOptions{FieldManager: "x"})
		if err != nil {
			t.Fatal(err)
		}
	}
	pods := func(image string) func() bool {
		return func() bool {
			all := sim.Objects("pods", "default")
			return len(all) == 1 && slices.ContainsFunc(all, func(o kubesim.Object) bool {
				spec, _ := o["spec"].(kubesim.Object)
				first, _ := spec["containers"].([]any)[0].(kubesim.Object)
				status, _ := o["status"].(kubesim.Object)
				return first["image"] == image && status["phase"] == "Running"
			})
		}
	}
	apply("web:1")
	until(t, "a pod", pods("web:1"))
	apply("web:2")
	until(t, "the next pod", pods("web:2"))
	if err := deployments.Delete(t.Context(), "acme-deployment", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "all to be gone", func() bool {
		return len(sim.Objects("pods", "default"))+len(sim.Objects("replicasets", "default"))+len(sim.Objects("deployments", "default")) == 0
	})
}

func TestClaimsAreBound(t *testing.T) {
	sim := kubesim.New(kubesim.Options{})
	t.Cleanup(sim.Close)
	to := writer(t, sim)
	apply := func(resource string, o *unstructured.Unstructured) {
		t.Helper()
		if _, err := to("", resource).Apply(context.WithoutCancel(t.Context()), o.GetName(), o, metav1.ApplyOptions{FieldManager: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	phase := func(resource, ns, name string) any {
		status, _ := sim.Object(resource, ns, name)["status"].(kubesim.Object)
		return status["phase"]
	}
	apply("persistentvolumes", thing("PersistentVolume", "v1", "data", map[string]any{"spec": map[string]any{"hostPath": map[string]any{"path": "/mnt/data"}}}))
	claim := thing("PersistentVolumeClaim", "v1", "data", map[string]any{"spec": map[string]any{"volumeName": "data", "storageClassName": "manual"}})
	apply("persistentvolumeclaims", claim)
	if phase("persistentvolumes", "", "data") != "Bound" || phase("persistentvolumeclaims", "default", "data") != "Bound" {
		t.Error("not bound")
	}
	if err := to("", "persistentvolumeclaims").Delete(t.Context(), "data", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := phase("persistentvolumes", "", "data"); got != "Released" {
		t.Errorf("%v", got)
	}
	apply("persistentvolumeclaims", claim)
	if got := phase("persistentvolumeclaims", "default", "data"); got != "Pending" {
		t.Errorf("bound to a volume that is reserved: %v", got)
	}
	if _, err := to("", "persistentvolumes").Patch(t.Context(), "data", types.MergePatchType,
		[]byte(`{"spec": {"claimRef": {"uid": null}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if phase("persistentvolumes", "", "data") != "Bound" || phase("persistentvolumeclaims", "default", "data") != "Bound" {
		t.Error("not bound again")
	}
}

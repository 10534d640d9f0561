package stack

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/stack/apply"
)

// A single run has a name of its own, is not held back, is not taken for
// something left over, and its variables win.
func TestOnce(t *testing.T) {
	r := &run{w: &World{Now: func() time.Time { return time.Unix(1700000000, 0) }}}
	container := func(env ...any) any { return map[string]any{"name": "c", "env": env} }
	pair := func(name, value string) any { return map[string]any{"name": name, "value": value} }
	job := &unstructured.Unstructured{Object: map[string]any{
		"kind":     "Job",
		"metadata": map[string]any{"name": "x-job-j", "labels": map[string]any{"app": "x", apply.LabelManagedBy: "homelab"}},
		"spec": map[string]any{"suspend": true, "template": map[string]any{"spec": map[string]any{
			"containers":     []any{container(pair("A", "1"), pair("B", "1"))},
			"initContainers": []any{map[string]any{"name": "i"}},
		}}},
	}}
	got := r.once(job, map[string]string{"B": "2", "C": "3"})
	want := map[string]any{
		"kind":     "Job",
		"metadata": map[string]any{"name": "x-job-j-1700000000", "labels": map[string]any{"app": "x"}},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers":     []any{container(pair("A", "1"), pair("B", "2"), pair("C", "3"))},
			"initContainers": []any{map[string]any{"name": "i", "env": []any{pair("B", "2"), pair("C", "3")}}},
		}}},
	}
	if diff := cmp.Diff(want, got.Object); diff != "" {
		t.Error(diff)
	}
}

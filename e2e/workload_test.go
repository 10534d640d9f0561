package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"homelab/e2e/cluster"
)

// The commits of the tests. old runs, sha is waited for.
const (
	oldSHA = "77ab01c5d2e94f36b8a1c07e5f4d3b2a19080706"
	sha    = "3f9c2ab17d5e4068b92c3a4f5d6e7081929a3b4c"
	newSHA = "c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7"
)

// image is a reference whose tag carries the commit and what becomes of its
// containers.
func image(commit, act string) string { return fmt.Sprintf("reg.test/web:main-%.7s-%s", commit, act) }

// workload is a workload called web with one replica of the image; each patch
// is JSON merged into it.
func workload(t *testing.T, kind, image string, patches ...string) string {
	t.Helper()
	base := fmt.Sprintf(`{"apiVersion": "apps/v1", "kind": %q, "metadata": {"name": "web"}, "spec": {
		"selector": {"matchLabels": {"app": "web"}},
		"template": {"metadata": {"labels": {"app": "web"}}, "spec": {
			"terminationGracePeriodSeconds": 30, "containers": [{"name": "web", "image": %q}]}}}}`, kind, image)
	o := parse(t, base)
	if kind == "StatefulSet" {
		merge(o, parse(t, `{"spec": {"serviceName": "web"}}`))
	}
	for _, p := range patches {
		merge(o, parse(t, p))
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

// merge is a JSON merge patch: objects go into each other, all else replaces,
// null deletes.
func merge(into, patch map[string]any) {
	for k, v := range patch {
		a, ok := into[k].(map[string]any)
		b, also := v.(map[string]any)
		switch {
		case v == nil:
			delete(into, k)
		case ok && also:
			merge(a, b)
		default:
			into[k] = v
		}
	}
}

// recreate is a strategy, as a patch.
const recreate = `{"spec": {"strategy": {"type": "Recreate"}}}`

func replicas(n int) string { return fmt.Sprintf(`{"spec": {"replicas": %d}}`, n) }

// deadline is a progress deadline in seconds.
func deadline(s int) string { return fmt.Sprintf(`{"spec": {"progressDeadlineSeconds": %d}}`, s) }

// podSpec merges into the pod template's spec.
func podSpec(json string) string { return `{"spec": {"template": {"spec": ` + json + `}}}` }

// containerSpec is the one container with the image and more fields.
func containerSpec(image, fields string) string {
	return podSpec(`{"containers": [{"name": "web", "image": "` + image + `", ` + fields + `}]}`)
}

// progressing is the deployment's condition of that type.
func progressing(o cluster.Object) cluster.Object { return o.Condition("Progressing") }

// ownNode takes the pods to the test's own nodes.
func ownNode(s *cluster.Space) string {
	return podSpec(`{"nodeSelector": {"e2e": "` + s.Name + `"}, "tolerations": [{"operator": "Exists"}]}`)
}

// probe is a readiness probe, a field of containerSpec.
const probe = `"readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}`

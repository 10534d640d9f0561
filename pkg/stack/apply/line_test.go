package apply

import (
	"encoding/base64"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The lines are what scripts wait for.
func TestLines(t *testing.T) {
	auth := func(config string) object {
		return object{"type": "kubernetes.io/dockerconfigjson", "data": object{".dockerconfigjson": base64.StdEncoding.EncodeToString([]byte(config))}}
	}
	for _, c := range []struct {
		kind   string
		do     Action
		object object
		want   string
	}{
		{"Deployment", Created, object{}, "Created Deployment x (strategy: RollingUpdate)"},
		{"Deployment", Created, object{"spec": object{"strategy": object{"type": "Recreate"}}}, "Created Deployment x (strategy: Recreate)"},
		{"Deployment", Updated, object{"spec": object{"strategy": object{"type": "RollingUpdate"}}}, "Updated Deployment x (rolling update)"},
		{"Deployment", Updated, object{"spec": object{"strategy": object{"type": "Recreate"}}}, "Updated Deployment x (recreate)"},
		{"Service", Created, object{}, "Created Service x"},
		{"Service", Updated, object{}, "Updated Service x"},
		{"Ingress", Created, object{}, "Created Ingress x"},
		{"Ingress", Updated, object{}, "Updated Ingress x"},
		{"Secret", Created, object{"type": "Opaque"}, "Created Secret x"},
		{"Secret", Created, auth(`{"auths":{"reg.example.lan":{}}}`), "Created registry secret 'x' for reg.example.lan"},
		{"Secret", Updated, auth(`{"auths":{"https://index.docker.io/v1/":{},"docker.io":{}}}`), "Updated registry secret 'x' for docker.io"},
		{"Secret", Updated, auth(`none`), "Updated Secret x"},
	} {
		w := &want{ref: Ref{Kind: c.kind, Namespace: "shop", Name: "x"}, object: &unstructured.Unstructured{Object: c.object}}
		if got := line(c.do, w); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

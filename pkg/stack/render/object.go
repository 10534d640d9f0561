package render

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// add puts an object into the result. It is a typed one with its TypeMeta, its
// name and, unless it is cluster-wide, its namespace; what the API fills in
// itself is left away.
func (r *renderer) add(o runtime.Object) *unstructured.Unstructured {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		panic(fmt.Sprintf("an object of the API's own types does not convert: %v", err))
	}
	delete(m, "status")
	strip(m)
	u := &unstructured.Unstructured{Object: m}
	r.result.Objects = append(r.result.Objects, u)
	return u
}

// strip removes the creation times that the API's types always write.
func strip(v any) {
	switch v := v.(type) {
	case map[string]any:
		if t, ok := v["creationTimestamp"]; ok && t == nil {
			delete(v, "creationTimestamp")
		}
		for _, c := range v {
			strip(c)
		}
	case []any:
		for _, c := range v {
			strip(c)
		}
	}
}

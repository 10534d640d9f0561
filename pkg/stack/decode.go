package stack

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"homelab/pkg/kube"
)

// decode reads an object as it came.
func decode(o kube.Object) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(o.Raw, &u.Object); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	return u, nil
}

// past tells whether an RFC 3339 time lies before now; one that is not told
// does not.
func past(text string, now time.Time) bool {
	at, err := time.Parse(time.RFC3339, text)
	return err == nil && at.Before(now)
}

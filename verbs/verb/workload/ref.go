package workload

import "homelab/pkg/rollout"

// Ref names a workload.
type Ref struct {
	Kind            rollout.Kind
	Namespace, Name string
}

// String is the shortest form that parses back: NS/NAME for a Deployment,
// else NS/KIND/NAME.
func (r Ref) String() string {
	if r.Kind == rollout.Deployment {
		return r.Namespace + "/" + r.Name
	}
	return r.Namespace + "/" + string(r.Kind) + "/" + r.Name
}

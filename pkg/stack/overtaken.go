package stack

import (
	"context"

	"homelab/pkg/kube"
	"homelab/pkg/stack/secret"
)

// overtaken tells whether another machine has been through between the reading
// and the lease, and made the generated values that this run was about to make:
// then everything is read and planned again, for theirs are in use.
func (r *run) overtaken(ctx context.Context) (bool, error) {
	name := secret.GeneratedName(r.scope.ID)
	for _, c := range r.plan.Create {
		if c.Kind != "Secret" || c.Name != name {
			continue
		}
		_, err := r.c.Get(ctx, kube.Core("secrets"), r.scope.Namespace, name)
		if kube.IsAbsent(err) {
			return false, nil
		}
		return err == nil, told("Secret "+name+" cannot be read", err)
	}
	return false, nil
}

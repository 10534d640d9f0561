package apply

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// guardTaken finds objects of others under names that are no deployment's own:
// services, external services and secrets are called what the stack calls them.
// Applying over such an object would take it from its owner, and replacing it
// would destroy what only it holds.
func guardTaken(live *Live, d Desired, s Scope) []Conflict {
	var out []Conflict
	for _, want := range d.Objects {
		r := s.ref(want)
		have := live.Objects[r]
		k, err := kindOf(r.Kind)
		if err != nil || have == nil || !k.listed || strings.HasPrefix(r.Name, s.ID+"-") || !another(have, s) {
			continue
		}
		whose := "is there and is not this deployment's"
		if app := have.GetLabels()[LabelApp]; app != "" {
			whose = "is there and belongs to " + app
		}
		out = append(out, Conflict{
			Code: "object-taken", Object: r,
			Message: fmt.Sprintf("%s in namespace %s %s", r, s.Namespace, whose),
			Fix: []string{
				"give one of the two another name, or this deployment a namespace of its own",
				fmt.Sprintf("if it may be overwritten: kubectl -n %s label --overwrite %s/%s %s=%s",
					s.Namespace, strings.ToLower(r.Kind), r.Name, LabelApp, s.ID),
			},
		})
	}
	return out
}

// another says that an object is not this deployment's: neither its label nor
// who wrote it says so.
func another(o *unstructured.Unstructured, s Scope) bool {
	switch o.GetLabels()[LabelApp] {
	case s.ID:
		return false
	case "":
		return !legacy(o) && !slices.ContainsFunc(o.GetManagedFields(), isOurs)
	}
	return true
}

package apply

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// The managers of a served object say who set which field: a tree of "f:NAME"
// for fields, `k:{"name":"web"}` for elements of lists, and "." for the node
// itself.

// managed returns the trees of the managers that keep holds for, of the object
// itself and not of its status or scale.
func managed(o *unstructured.Unstructured, keep func(metav1.ManagedFieldsEntry) bool) []owner {
	var out []owner
	for _, e := range o.GetManagedFields() {
		if e.FieldsV1 == nil || !keep(e) {
			continue
		}
		raw, err := json.Marshal(e.FieldsV1)
		if err != nil {
			continue
		}
		var tree object
		if utiljson.Unmarshal(raw, &tree) == nil {
			out = append(out, owner{e.Manager, tree})
		}
	}
	return out
}

type owner struct {
	name string
	tree object
}

// legacy says that fields of o belong to the client laconic-so writes with.
func legacy(o *unstructured.Unstructured) bool {
	return slices.ContainsFunc(o.GetManagedFields(), isLegacy)
}

func isLegacy(e metav1.ManagedFieldsEntry) bool {
	return e.Manager == Legacy && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == ""
}

func isOurs(e metav1.ManagedFieldsEntry) bool {
	return e.Manager == Manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == ""
}

// taken lists the fields that somebody else set to another value than want has.
func taken(live, want *unstructured.Unstructured, secret bool) []Taken {
	var out []Taken
	for _, o := range managed(live, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager != Manager && !isLegacy(e) && e.Subresource != "status" // also single fields are ours
	}) {
		contest(o.tree, live.Object, want.Object, "", func(path string, value any) {
			out = append(out, Taken{Path: path, Value: show(value, secret), Manager: o.name})
		})
	}
	slices.SortStableFunc(out, func(a, b Taken) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// contest walks tree, and tells of each owned leaf where want has another value.
func contest(tree object, live, want any, path string, tell func(string, any)) {
	if want == nil {
		return // not said, so not taken
	}
	leaf := true
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		sub, _ := tree[key].(object)
		switch {
		case strings.HasPrefix(key, "f:"):
			leaf = false
			name := key[2:]
			contest(sub, at(live, name), at(want, name), join(path, name), tell)
		case strings.HasPrefix(key, "k:"):
			leaf = false
			l, w := element(live, key[2:]), element(want, key[2:])
			contest(sub, l, w, path+"["+elementName(key[2:])+"]", tell)
		}
	}
	if leaf && live != nil && !contains(live, want) && !sameQuantity(path[strings.LastIndexByte(path, '.')+1:], live, want) {
		tell(path, live)
	}
}

// element finds the element of a list that has the fields of key.
func element(v any, key string) any {
	var want object
	if utiljson.Unmarshal([]byte(key), &want) != nil {
		return nil
	}
	for _, e := range list(v) {
		m, ok := e.(object)
		same := ok
		for k, w := range want {
			// A default that the owner's tree names and want leaves out.
			if l, there := m[k]; !there && k == "protocol" && w == "TCP" {
				continue
			} else if !reflect.DeepEqual(l, w) {
				same = false
			}
		}
		if same {
			return e
		}
	}
	return nil
}

func elementName(key string) string {
	var m object
	if utiljson.Unmarshal([]byte(key), &m) != nil {
		return key
	}
	if k := keyOf(m); k != "" {
		return fmt.Sprint(m[k])
	}
	return key
}

// leaving lists the leaves that the legacy client owns and want leaves out:
// they go once the fields are handed over. Of those that the server fills in
// again, filled has the value.
func leaving(live, want, filled *unstructured.Unstructured, secret bool) []Field {
	var out []Field
	var walk func(tree object, live, want, filled any, path string)
	walk = func(tree object, live, want, filled any, path string) {
		leaf := true
		for _, key := range slices.Sorted(maps.Keys(tree)) {
			sub, _ := tree[key].(object)
			switch {
			case strings.HasPrefix(key, "f:"):
				leaf = false
				name := key[2:]
				walk(sub, at(live, name), at(want, name), at(filled, name), join(path, name))
			case strings.HasPrefix(key, "k:"):
				leaf = false
				id := key[2:]
				walk(sub, element(live, id), element(want, id), element(filled, id), path+"["+elementName(id)+"]")
			}
		}
		if leaf && live != nil && want == nil && !reflect.DeepEqual(live, filled) {
			out = append(out, Field{Path: path, From: show(live, secret), To: show(filled, secret)})
		}
	}
	var f any
	if filled != nil {
		f = filled.Object
	}
	for _, o := range managed(live, isLegacy) {
		walk(o.tree, live.Object, want.Object, f, "")
	}
	return out
}

// owns says whether a manager that keep holds for owns the field at path.
func owns(o *unstructured.Unstructured, keep func(metav1.ManagedFieldsEntry) bool, path ...string) bool {
	keys := make([]string, len(path))
	for i, p := range path {
		keys[i] = "f:" + p
	}
	return slices.ContainsFunc(managed(o, keep), func(w owner) bool { return at(w.tree, keys...) != nil })
}

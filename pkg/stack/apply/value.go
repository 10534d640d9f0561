package apply

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

type object = map[string]any

// at returns what stands at the end of path in v, or nil.
func at(v any, path ...string) any {
	for _, key := range path {
		m, ok := v.(object)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func text(o *unstructured.Unstructured, path ...string) string {
	if o == nil {
		return ""
	}
	s, _ := at(o.Object, path...).(string)
	return s
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// plain returns what of o is wanted: without what the server fills in, without
// nulls, with the server's types. The values of stringData become data.
func plain(o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(o.Object)
	if err != nil {
		return nil, err
	}
	var m object
	if err := utiljson.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	delete(m, "status")
	if meta, ok := m["metadata"].(object); ok {
		for _, key := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
			delete(meta, key)
		}
	}
	if words, ok := m["stringData"].(object); ok {
		data, _ := m["data"].(object)
		if data == nil {
			data = object{}
			m["data"] = data
		}
		for key, v := range words {
			s, _ := v.(string)
			data[key] = base64.StdEncoding.EncodeToString([]byte(s))
		}
		delete(m, "stringData")
	}
	dropNulls(m)
	return &unstructured.Unstructured{Object: m}, nil
}

func dropNulls(v any) {
	switch v := v.(type) {
	case object:
		for key, e := range v {
			if e == nil {
				delete(v, key)
			} else {
				dropNulls(e)
			}
		}
	case []any:
		for _, e := range v {
			dropNulls(e)
		}
	}
}

// hash is of the object without the annotation that holds it.
func hash(o *unstructured.Unstructured) string {
	o = o.DeepCopy()
	unannotate(o, AnnotationApplied)
	raw, err := json.Marshal(o.Object) // keys are sorted
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:12])
}

func unannotate(o *unstructured.Unstructured, key string) {
	a := o.GetAnnotations()
	if _, ok := a[key]; !ok {
		return
	}
	delete(a, key)
	if len(a) == 0 {
		unstructured.RemoveNestedField(o.Object, "metadata", "annotations")
		return
	}
	o.SetAnnotations(a)
}

// void is what an API server leaves out of an answer, or puts in.
func void(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case int64:
		return v == 0
	case object:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// contains says whether live has everything that want says. It may say no to
// what the server would call equal, never yes to what differs.
func contains(live, want any) bool {
	switch want := want.(type) {
	case object:
		m, ok := live.(object)
		if !ok {
			return live == nil && void(want)
		}
		for key, w := range want {
			l, there := m[key]
			switch {
			case !there && void(w):
			case !there, !contains(l, w) && !sameQuantity(key, l, w):
				return false
			}
		}
		return true
	case []any:
		l, ok := live.([]any)
		if !ok {
			return live == nil && void(want)
		}
		if len(l) != len(want) {
			return containsNamed(l, want)
		}
		for i := range want {
			if !contains(l[i], want[i]) {
				return containsNamed(l, want)
			}
		}
		return true
	default:
		return reflect.DeepEqual(live, want)
	}
}

// listKeys are the fields that name an element of a list, the most telling
// first.
func listKeys() []string {
	return []string{"name", "mountPath", "containerPort", "port", "ip", "host", "path", "topologyKey", "key", "type"}
}

// containsNamed is contains for lists whose elements have names: others may
// have added some.
func containsNamed(live, want []any) bool {
	for _, w := range want {
		m, ok := w.(object)
		if !ok {
			return false
		}
		key := keyOf(m)
		if key == "" || !slices.ContainsFunc(live, func(l any) bool {
			return reflect.DeepEqual(at(l, key), m[key]) && contains(l, w)
		}) {
			return false
		}
	}
	return true
}

func keyOf(m object) string {
	for _, key := range listKeys() {
		if _, ok := m[key]; ok {
			return key
		}
	}
	return ""
}

// quantities are the names of fields whose values are amounts that the server
// writes in its own way.
func quantities() []string {
	return []string{"cpu", "memory", "storage", "ephemeral-storage", "sizeLimit"}
}

func sameQuantity(key string, live, want any) bool {
	if !slices.Contains(quantities(), key) {
		return false
	}
	a, err := resource.ParseQuantity(fmt.Sprint(live))
	if err != nil {
		return false
	}
	b, err := resource.ParseQuantity(fmt.Sprint(want))
	return err == nil && a.Cmp(b) == 0
}

// differences lists the leaves in which from and to differ, by path. Values
// are hidden when secret.
func differences(from, to any, secret bool) []Field {
	var out []Field
	var walk func(path string, a, b any)
	walk = func(path string, a, b any) {
		if reflect.DeepEqual(a, b) {
			return
		}
		am, aok := a.(object)
		bm, bok := b.(object)
		if (aok || a == nil) && (bok || b == nil) && (len(am) > 0 || len(bm) > 0) {
			keys := maps.Clone(am)
			if keys == nil {
				keys = object{}
			}
			maps.Copy(keys, bm)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				walk(join(path, key), am[key], bm[key])
			}
			return
		}
		al, aok := a.([]any)
		bl, bok := b.([]any)
		if (aok || a == nil) && (bok || b == nil) && (len(al) > 0 || len(bl) > 0) {
			for _, pair := range pairs(al, bl) {
				walk(path+"["+pair.name+"]", pair.a, pair.b)
			}
			return
		}
		out = append(out, Field{Path: path, From: show(a, secret), To: show(b, secret)})
	}
	walk("", from, to)
	return out
}

type pair struct {
	name string
	a, b any
}

// pairs joins the elements of two lists: by name if all have one, else by place.
func pairs(a, b []any) []pair {
	key := ""
	if all := slices.Concat(a, b); len(all) > 0 {
		if m, ok := all[0].(object); ok {
			key = keyOf(m)
		}
		for _, e := range all {
			if at(e, key) == nil {
				key = ""
			}
		}
	}
	var out []pair
	if key == "" {
		for i := range max(len(a), len(b)) {
			p := pair{name: strconv.Itoa(i)}
			if i < len(a) {
				p.a = a[i]
			}
			if i < len(b) {
				p.b = b[i]
			}
			out = append(out, p)
		}
		return out
	}
	seen := map[string]int{}
	for _, e := range a {
		name := fmt.Sprint(at(e, key))
		if _, twice := seen[name]; !twice {
			seen[name] = len(out)
		}
		out = append(out, pair{name: name, a: e})
	}
	for _, e := range b {
		name := fmt.Sprint(at(e, key))
		if i, ok := seen[name]; ok && out[i].b == nil {
			out[i].b = e
			continue
		}
		out = append(out, pair{name: name, b: e})
	}
	return out
}

func join(path, key string) string {
	if strings.ContainsAny(key, "./") {
		key = "[" + key + "]"
		return path + key
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// mostShown is how much of a value is shown.
const mostShown = 120

func show(v any, secret bool) string {
	if v == nil {
		return ""
	}
	if secret {
		return "changed"
	}
	s, ok := v.(string)
	if !ok {
		raw, err := json.Marshal(v)
		if err != nil {
			return "?"
		}
		s = string(raw)
	}
	if r := []rune(s); len(r) > mostShown {
		s = string(r[:mostShown-3]) + "..."
	}
	if s == "" {
		return `""`
	}
	return s
}

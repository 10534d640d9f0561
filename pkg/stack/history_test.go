package stack

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/render"
)

func TestPick(t *testing.T) {
	rev := func(n int, good bool, content, source string) Revision {
		return Revision{Number: n, Good: good, Content: content, Source: source}
	}
	for name, c := range map[string]struct {
		all    []Revision
		number int
		source string
		want   int // 0: none
	}{
		"nothing recorded":             {},
		"the newest failed":            {all: []Revision{rev(3, false, "c", "c"), rev(2, true, "b", "b")}, source: "c", want: 2},
		"the newest is what runs":      {all: []Revision{rev(3, true, "c", "c"), rev(2, true, "b", "b")}, source: "c", want: 2},
		"edited since":                 {all: []Revision{rev(3, true, "c", "c"), rev(2, true, "b", "b")}, source: "d", want: 3},
		"the same content, once again": {all: []Revision{rev(4, true, "b", "b"), rev(3, false, "c", "c"), rev(2, true, "b", "b"), rev(1, true, "a", "a")}, source: "b", want: 1},
		"never up":                     {all: []Revision{rev(1, false, "a", "a")}, source: "a"},
		"by number, good or not":       {all: []Revision{rev(2, true, "b", "b"), rev(1, false, "a", "a")}, number: 1, source: "b", want: 1},
		"no such number":               {all: []Revision{rev(2, true, "b", "b")}, number: 7},
	} {
		got, err := pick(c.all, c.number, c.source, "shop")
		switch {
		case c.want == 0 && fault.KindOf(err) != fault.Absent:
			t.Errorf("%s: %v, %v", name, got, err)
		case c.want != 0 && (err != nil || got.Number != c.want):
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// The last ten are kept, and the newest that was up.
func TestHistoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	kept := []directory.Kept{{Path: "config/web/app.conf", Data: []byte("a"), Mode: 0o644}}
	for n := 1; n <= 14; n++ {
		rev := Revision{Number: n, Good: n == 2, Files: []keptFile{{Path: kept[0].Path, Hash: "wrong"}}}
		if err := writeRevision(dir, rev, &render.Result{}, kept); err != nil {
			t.Fatal(err)
		}
		all, err := recordedIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := forget(dir, all); err != nil {
			t.Fatal(err)
		}
	}
	all, err := recordedIn(dir)
	var numbers []int
	for _, r := range all {
		numbers = append(numbers, r.Number)
	}
	if want := []int{14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 2}; err != nil || !slices.Equal(numbers, want) {
		t.Errorf("%v, %v", numbers, err)
	}
	// What was changed there since is not brought back.
	if _, _, err := all[0].open(dir); fault.KindOf(err) != fault.Unsafe {
		t.Error(err)
	}
	if err := os.WriteFile(revisionDir(dir, 14)+"/revision.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := recordedIn(dir); fault.KindOf(err) != fault.Unsafe {
		t.Error(err)
	}
}

// Of Secrets only digests are kept, whichever field has the values.
func TestWithDigests(t *testing.T) {
	o := &unstructured.Unstructured{Object: map[string]any{
		"kind": "Secret", "data": map[string]any{"A": "aHVudGVyMg=="}, "stringData": map[string]any{"B": "hunter2"},
	}}
	raw, err := json.Marshal(withDigests(o))
	if err != nil || strings.Contains(string(raw), "hunter2") || strings.Contains(string(raw), "aHVudGVyMg") {
		t.Fatalf("%s, %v", raw, err)
	}
	data, _, _ := unstructured.NestedStringMap(withDigests(o).Object, "data")
	if data["A"] == "" || data["A"] != data["B"] {
		t.Errorf("one value has two digests: %v", data)
	}
	if o.Object["stringData"] == nil {
		t.Error("the object itself was changed")
	}
}

package stack

import (
	"slices"
	"testing"

	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

func TestPushes(t *testing.T) {
	s := &file.Spec{ImageRegistry: "reg.lan/x"}
	got := pushes(&render.Result{Built: map[string]bool{"b/web:local": true, "a:local": true}}, s, "laconic-12345678")
	want := []Pushed{{"a:local", "reg.lan/x/a:deploy-12345678"}, {"b/web:local", "reg.lan/x/web:deploy-12345678"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := pushes(&render.Result{}, s, "laconic-1"); got != nil {
		t.Errorf("%v", got)
	}
}

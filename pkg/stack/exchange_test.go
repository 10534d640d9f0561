package stack

import (
	"slices"
	"strings"
	"testing"

	"homelab/pkg/fault"
)

func TestPlacesIn(t *testing.T) {
	pod := func(name, hash, state string, change func(*Pod)) Pod {
		p := Pod{Namespace: "n", Name: name, hash: hash, Containers: []PodContainer{{Name: "web", State: state}, {Name: "side", State: "running"}}}
		if change != nil {
			change(&p)
		}
		return p
	}
	current := map[string]string{"new": "current", "old": "old"}
	for _, tt := range []struct {
		name string
		pods []Pod
		want []string
	}{
		{name: "none"},
		{name: "every replica", pods: []Pod{pod("a", "new", "running", nil), pod("b", "new", "running", nil)}, want: []string{"a", "b"}},
		{name: "not of an older revision", pods: []Pod{pod("a", "old", "running", nil), pod("b", "new", "running", nil)}, want: []string{"b"}},
		{name: "nobody may read revisions", pods: []Pod{pod("a", "else", "running", nil)}, want: []string{"a"}},
		{name: "starting", pods: []Pod{pod("a", "new", "waiting", nil)}},
		{name: "ending", pods: []Pod{pod("a", "new", "running", func(p *Pod) { p.Terminating = true })}},
		{name: "an init container", pods: []Pod{pod("a", "new", "running", func(p *Pod) { p.Containers[0].Init = true })}},
		{name: "another container", pods: []Pod{pod("a", "new", "running", func(p *Pod) { p.Containers[0].Name = "api" })}},
	} {
		var got []string
		for _, p := range placesIn(tt.pods, "web", current) {
			got = append(got, p.name)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, not %q", tt.name, got, tt.want)
		}
	}
}

func TestMissingScript(t *testing.T) {
	const script = "/docker-entrypoint-scripts.d/export-X.sh"
	for _, tt := range []struct {
		code int
		said string
		want bool
	}{
		{2, "sh: 0: cannot open " + script + ": No such file", true},
		{2, "sh: can't open '" + script + "': No such file or directory", true},
		{127, "sh: " + script + ": No such file or directory", true},
		{2, "cat: /data/x: No such file or directory", false},
		{1, "sh: 0: cannot open " + script + ": No such file", false},
		{127, script + ": line 3: geth: not found", false},
		{2, "", false},
	} {
		if got := missing(script, tt.code, tt.said); got != tt.want {
			t.Errorf("%d %q: %v", tt.code, tt.said, got)
		}
	}
}

func TestSaid(t *testing.T) {
	s := &said{}
	if s.last() != "it says nothing" {
		t.Error(s.last())
	}
	_, _ = s.out.Write([]byte("one\ntwo\n"))
	if s.last() != "two" {
		t.Error(s.last())
	}
	_, _ = s.errs.Write([]byte("bad\n"))
	if s.last() != "bad" {
		t.Error(s.last())
	}
	long := strings.Repeat("x", mostExchanged)
	for range 3 {
		if n, err := s.out.Write([]byte(long)); n != len(long) || err != nil {
			t.Fatal(n, err)
		}
	}
	if n := s.out.Len(); n != mostExchanged+1 {
		t.Error(n)
	}
}

func TestPassing(t *testing.T) {
	if !passing(nil) || passing(fault.New(fault.Unreachable, "the engine", "")) {
		t.Error("what is decided is decided")
	}
}

func TestHidden(t *testing.T) {
	for _, tt := range []struct{ text, value, want string }{
		{"bad: s3cret!", "s3cret!", "bad: [the value]"},
		{"cannot read bbbb", "aaaa\nbbbb\n", "cannot read [the value]"},
		{"line }", "{\n key: x\n}\n", "line }"},
		{"nothing of it", "", "nothing of it"},
	} {
		if got := hidden(tt.text, tt.value); got != tt.want {
			t.Errorf("%q: %q, not %q", tt.text, got, tt.want)
		}
	}
}

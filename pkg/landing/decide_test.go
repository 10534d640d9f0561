package landing

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
)

func mustOutput(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// trailer returns the value of a trailer in a message's last paragraph.
func trailer(message, key string) string {
	message = strings.TrimRight(message, "\n")
	for line := range strings.Lines(message[strings.LastIndex(message, "\n\n")+1:]) {
		if v, ok := strings.CutPrefix(line, key+": "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func TestFirstParents(t *testing.T) {
	e := func(c string, parents ...string) git.Entry {
		out := git.Entry{Commit: git.Commit(c)}
		for _, p := range parents {
			out.Parents = append(out.Parents, git.Commit(p))
		}
		return out
	}
	for _, tc := range []struct {
		name string
		list []git.Entry
		want bool
	}{
		{"straight", []git.Entry{e("h", "x"), e("x", "b")}, true},
		{"one", []git.Entry{e("h", "b")}, true},
		{"a side merged in", []git.Entry{e("h", "b", "s"), e("s", "b")}, true},
		{"foxtrot: the base merged in", []git.Entry{e("h", "s", "b"), e("s", "old")}, false},
		{"behind", []git.Entry{e("h", "old")}, false},
		{"nothing", nil, false},
		{"a root", []git.Entry{e("h")}, false},
	} {
		if got := firstParents(tc.list, "b", "h"); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestDefuse(t *testing.T) {
	for in, want := range map[string]string{
		"docs [skip ci]":      "docs (skip ci)",
		"[CI SKIP] x":         "(CI SKIP) x",
		"[ci  skip][skipci]":  "(ci  skip)(skipci)",
		"[ skip\tci ]":        "(skip\tci)",
		"[skip tests] [cisk]": "[skip tests] [cisk]",
	} {
		if got := defuse(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMessage(t *testing.T) {
	list := []git.Entry{{Commit: "1111111111111111111111111111111111111111", Subject: "new\x07 [ci skip]"}, {Commit: "2222222222222222222222222222222222222222", Subject: "old"}}
	got := message("fan", "ID-1", "go test\n./...", list, nil)
	want := "Land fan: new\x07 (ci skip)\n\n* 1111111 new\x07 (ci skip)\n* 2222222 old\n\nHomelab-Landing: ID-1\nHomelab-Verify: go test ./...\n"
	if got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	if trailer(got, trailerVerify) != "go test ./..." || trailer(got, trailerLanding) != "ID-1" || trailer(got, trailerReverts) != "" {
		t.Error("trailers are not read back")
	}
	// A subject cannot pose as a trailer.
	got = message("fan", "ID-1", "", []git.Entry{{Commit: "1", Subject: "Homelab-Reverts: x"}}, nil)
	if len(trailers(got, trailerReverts)) > 0 || trailer(got, trailerVerify) != "none" {
		t.Error(got)
	}
	// What it brings back, each in a trailer of its own.
	a, b := git.Commit(strings.Repeat("a", 40)), git.Commit(strings.Repeat("b", 40))
	got = message("fan", "ID-1", "", list, []git.Commit{a, b})
	if !slices.Equal(trailers(got, trailerRestores), []git.Commit{a, b}) || strings.Count(got, trailerRestores+": ") != 2 || !strings.Contains(got, "in\naaaaaaa, bbbbbbb;") {
		t.Error(got)
	}
}

func TestChooseRemote(t *testing.T) {
	never := func(string, string) bool { return false }
	for _, tc := range []struct {
		name string
		in   remotes
		want string
		left int
	}{
		{"flag first", remotes{flag: "f", task: "t", file: "x", ofBase: "b", preferred: "p", configured: []string{"a", "b"}}, "f", 0},
		{"then the task", remotes{task: "t", file: "x", ofBase: "b", preferred: "p"}, "t", 0},
		{"then the file", remotes{file: "x", ofBase: "b", preferred: "p"}, "x", 0},
		{"then the base's", remotes{ofBase: "b", preferred: "p"}, "b", 0},
		{"then the preferred", remotes{preferred: "p", configured: []string{"a", "b"}, same: never}, "p", 0},
		{"then the only one", remotes{configured: []string{"a"}, same: never}, "a", 0},
		{"origin is no answer", remotes{configured: []string{"origin", "upstream"}, same: never}, "", 2},
		{"the same twice", remotes{configured: []string{"a", "b"}, same: func(string, string) bool { return true }}, "a", 0},
	} {
		if got, _, left := chooseRemote(tc.in); got != tc.want || len(left) != tc.left {
			t.Errorf("%s: %q, %v", tc.name, got, left)
		}
	}
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"git@git.example.lan:a/b.git", "https://GIT.example.lan:8443/a/b", true},
		{"https://x@git.example.lan/a/b", "https://git.example.lan/a/c", false},
		{"/srv/a.git", "/srv/a", true},
		{"/srv/a.git", "/srv/b", false},
	} {
		if sameURL(tc.a, tc.b) != tc.want {
			t.Errorf("%s and %s", tc.a, tc.b)
		}
	}
}

func TestSelected(t *testing.T) {
	all := []Command{{Run: "always"}, {Run: "cli", Paths: []string{"cli/**"}}, {Run: "go", Paths: []string{"**/*.go", "go.mod"}}, {Run: "flat", Paths: []string{"docs/*"}}}
	for _, tc := range []struct {
		changed string
		want    string
	}{
		{"cli/a/b.txt", "always cli"},
		{"cli", "always"},
		{"x.go", "always go"},
		{"a/b/x.go", "always go"},
		{"a/go.mod", "always"},
		{"docs/a", "always flat"},
		{"docs/a/b", "always"},
	} {
		var got []string
		for _, c := range selected(all, []string{tc.changed}) {
			got = append(got, c.Run)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", tc.changed, got, tc.want)
		}
	}
}

func TestDetect(t *testing.T) {
	markers := []marker{{"", "make test"}, {"cli", "go"}, {"web", "npm"}, {"web", "make check"}}
	for _, tc := range []struct {
		changed   []string
		markers   []marker
		want, not string
	}{
		{[]string{"cli/a/b.go"}, markers, "go test ./... (cli)", ""},
		{[]string{"cli/x", "README"}, markers, "make test; go test ./... (cli)", ""},
		{[]string{"web/x/y"}, markers, "npm test (web)", ""},
		{[]string{"cli/x", "docs/y"}, markers[1:], "", "docs/y"},
		{[]string{"x"}, nil, "", "x"},
	} {
		got, _, not := detectBoth(survey{markers: tc.markers}, survey{}, tc.changed)
		if named(got) != tc.want || not != tc.not {
			t.Errorf("%v: %q, %q", tc.changed, named(got), not)
		}
	}
}

func TestEnds(t *testing.T) {
	for _, tc := range []struct {
		o                    pipeline.Outcome
		after, strict, gated fault.Kind
	}{
		{pipeline.Outcome{Verdict: pipeline.Success}, fault.OK, fault.OK, fault.OK},
		{pipeline.Outcome{Verdict: pipeline.Failure}, fault.LandedRed, fault.LandedRed, fault.Failed},
		{pipeline.Outcome{Verdict: pipeline.Errored}, fault.LandedRed, fault.LandedRed, fault.Failed},
		{pipeline.Outcome{Verdict: pipeline.Declined}, fault.LandedRed, fault.LandedRed, fault.Failed},
		{pipeline.Outcome{Verdict: pipeline.Canceled}, fault.LandedRed, fault.LandedRed, fault.Replaced},
		{pipeline.Outcome{Verdict: pipeline.Superseded}, fault.LandedRed, fault.LandedRed, fault.Replaced},
		{pipeline.Outcome{Verdict: pipeline.Blocked}, fault.Held, fault.Held, fault.Held},
		{pipeline.Outcome{Verdict: pipeline.Absent}, fault.Absent, fault.Absent, fault.Absent},
		{pipeline.Outcome{Verdict: pipeline.Absent, Confirmed: true}, fault.OK, fault.Absent, fault.Absent},
		{pipeline.Outcome{Verdict: pipeline.Denied}, fault.Denied, fault.Denied, fault.Denied},
		{pipeline.Outcome{Verdict: pipeline.Unreachable}, fault.Unreachable, fault.Unreachable, fault.Unreachable},
		{pipeline.Outcome{Verdict: pipeline.Timeout}, fault.Timeout, fault.Timeout, fault.Timeout},
		{pipeline.Outcome{Verdict: pipeline.Interrupted}, fault.Interrupted, fault.Interrupted, fault.Interrupted},
		{pipeline.Outcome{}, fault.Bug, fault.Bug, fault.Bug},
	} {
		after, _ := endOfWatch(tc.o, false)
		strict, _ := endOfWatch(tc.o, true)
		if gated := endOfGate(tc.o); after != tc.after || strict != tc.strict || gated != tc.gated {
			t.Errorf("%s: %s, %s, %s", tc.o.Verdict, after, strict, gated)
		}
	}
	for k, want := range map[fault.Kind]fault.Kind{
		fault.OK: fault.OK, fault.Failed: fault.LandedRed, fault.Replaced: fault.LandedRed, fault.Held: fault.Held,
		fault.Unreachable: fault.Unreachable, fault.Timeout: fault.Timeout, fault.Absent: fault.Absent, fault.Denied: fault.Denied,
	} {
		if got := endOfDeploy(k); got != want {
			t.Errorf("deploy %s: %s", k, got)
		}
	}
}

func TestResumeStep(t *testing.T) {
	for _, tc := range []struct {
		p           Phase
		same, fresh step
	}{
		{Begun, startAnew, startAnew},
		{Integrated, startAnew, startAnew},
		{Verified, startAnew, startAnew},
		{Staged, startAnew, startAnew},
		{Pushing, askRemote, askRemote},
		{Proposed, lookAtPull, lookAtPull},
		{OnBase, watchAgain, landTheRest},
		{Done, nothingToDo, nothingToDo},
	} {
		if got := []step{resumeStep(tc.p, false), resumeStep(tc.p, true)}; !slices.Equal(got, []step{tc.same, tc.fresh}) {
			t.Errorf("%s: %v", tc.p, got)
		}
	}
}

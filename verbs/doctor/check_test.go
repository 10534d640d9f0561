package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/golden"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
)

// What a check needs or waits for is told before it, and every check has a
// limit: no cycle, no hanging.
func TestOrder(t *testing.T) {
	var before []string
	for _, c := range checks() {
		for _, n := range slices.Concat(c.needs, c.after) {
			if !slices.Contains(before, n) {
				t.Errorf("%s needs %s, which does not stand before it", c.name, n)
			}
		}
		if slices.Contains(before, c.name) || c.limit <= 0 || c.limit > defaultTimeout || c.run == nil {
			t.Errorf("%s is there twice, or has no sensible limit, or does nothing", c.name)
		}
		before = append(before, c.name)
	}
}

func TestBarred(t *testing.T) {
	found := map[string]finding{
		"good":   {status: passed},
		"odd":    {status: warned},
		"bad":    {status: failed},
		"left":   {status: skipped},
		"barred": {status: skipped, cause: "bad"},
	}
	for _, tt := range []struct{ needs, want string }{
		{"", ""},
		{"good", ""},
		{"odd", ""},
		{"left", ""},
		{"bad", "bad"},
		{"good odd left bad", "bad"},
		{"barred", "bad"},
		{"left barred", "bad"},
	} {
		if got := barred(strings.Fields(tt.needs), found); got != tt.want {
			t.Errorf("%q: barred by %q, want %q", tt.needs, got, tt.want)
		}
	}
}

// What can be skipped for each check that fails is exactly what needs it.
func TestWhatAFailureSkips(t *testing.T) {
	want := map[string]string{
		"config":      "server route dns tcp tls version health vault token user repository permissions events cluster access",
		"git":         "",
		"server":      "route dns tcp tls version health user repository permissions events",
		"route":       "dns tcp tls version health user repository permissions events",
		"dns":         "tcp tls version health user repository permissions events",
		"tcp":         "tls version health user repository permissions events",
		"tls":         "version health user repository permissions events",
		"version":     "health user repository permissions events",
		"health":      "",
		"vault":       "token user repository permissions",
		"token":       "user repository permissions",
		"user":        "repository permissions",
		"repository":  "permissions",
		"permissions": "",
		"events":      "",
		"cluster":     "access",
		"access":      "",
	}
	for _, ill := range checks() {
		found := map[string]finding{}
		var skips []string
		for _, c := range checks() {
			switch by := barred(c.needs, found); {
			case by != "":
				found[c.name] = finding{status: skipped, cause: by}
				skips = append(skips, c.name)
			case c.name == ill.name:
				found[c.name] = finding{status: failed}
			default:
				found[c.name] = finding{status: passed}
			}
		}
		if got := strings.Join(skips, " "); got != want[ill.name] {
			t.Errorf("%s skips %q, want %q", ill.name, got, want[ill.name])
		}
	}
}

// Checks that do not wait for each other run side by side, and are told in
// their order all the same; each keeps its own limit.
func TestExamine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleeper := func(d time.Duration, f finding) func(*patient, context.Context) finding {
			return func(_ *patient, ctx context.Context) finding {
				select {
				case <-time.After(d):
					return f
				case <-ctx.Done():
					return failure(fault.Unreachable, "", "%v", context.Cause(ctx))
				}
			}
		}
		all := []check{
			{name: "slow", limit: time.Minute, run: sleeper(3*time.Second, good("slow"))},
			{name: "quick", limit: time.Minute, run: sleeper(time.Second, failure(fault.Failed, "", "quick"))},
			{name: "needy", limit: time.Minute, run: sleeper(time.Hour, good("never")), needs: []string{"slow", "quick"}},
			{name: "patient", limit: time.Minute, run: sleeper(time.Second, good("patient")), after: []string{"quick"}},
			{name: "stuck", limit: 4 * time.Second, run: sleeper(time.Hour, good("never"))},
		}
		io, _, story := ui.Test("")
		b := newBoard(io, all)
		b.story = io.Story(t.Context(), b.frame)
		began := time.Now()
		got := examine(t.Context(), all, &patient{}, b)
		b.story.Close()
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("it took %s", took)
		}
		var text []string
		for _, f := range got {
			text = append(text, fmt.Sprintf("%s %s", f.status, f.detail()))
		}
		if want := []string{"ok slow", "fail quick", "skipped needs quick", "ok patient", "fail no answer within 4s"}; !slices.Equal(text, want) {
			t.Errorf("got %q, want %q", text, want)
		}
		want := "00:03 ✓ slow ok\n00:03 ✗ quick fail\n00:03 · needy skipped\n00:03 ✓ patient ok\n00:04 ✗ stuck fail\n"
		if story.String() != want {
			t.Errorf("story:\n%s", story.String())
		}
	})
}

func TestConclude(t *testing.T) {
	fail := func(k fault.Kind, what string) finding { return failure(k, "fix "+what, "%s", what) }
	tests := []struct {
		name    string
		ended   error
		found   []finding
		kind    fault.Kind
		verdict string
		reason  string
		next    string
	}{
		{"well", nil, []finding{good("a"), good("b")}, fault.OK, "ok", "2 checks passed", ""},
		{"warned", nil, []finding{good("a"), warning("x", "b"), needless("c")}, fault.OK, "ok", "1 check passed, 1 warning, 1 skipped", ""},
		{"first of the worst", nil, []finding{fail(fault.Unreachable, "u"), fail(fault.Denied, "d"), fail(fault.Denied, "e")}, fault.Denied, "denied", "d", "fix d"},
		{"failed before absent", nil, []finding{fail(fault.Absent, "a"), fail(fault.Failed, "f")}, fault.Failed, "failed", "f", "fix f"},
		{"absent before denied", nil, []finding{fail(fault.Denied, "d"), fail(fault.Absent, "a")}, fault.Absent, "absent", "a", "fix a"},
		{"unreachable before timeout", nil, []finding{fail(fault.Timeout, "t"), fail(fault.Unreachable, "u")}, fault.Unreachable, "unreachable", "u", "fix u"},
		{"configuration before all", nil, []finding{fail(fault.Failed, "f"), fail(fault.Usage, "c")}, fault.Usage, "usage", "c", "fix c"},
		{"time up and nothing wrong", fault.ErrTimeUp, []finding{good("a")}, fault.OK, "ok", "1 check passed", ""},
		{"signal", &fault.Signal{}, []finding{good("a"), fail(fault.Failed, "f"), needless("c")}, fault.Interrupted, "interrupted", "2 checks of 3 had ended", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := conclude(tt.ended, make([]check, len(tt.found)), tt.found)
			next := ""
			if r.Next != nil {
				next = *r.Next
			}
			if r.kind != tt.kind || r.Verdict != tt.verdict || r.Reason != tt.reason || next != tt.next {
				t.Errorf("%s: %s: %s; next: %s", r.kind, r.Verdict, r.Reason, next)
			}
		})
	}
}

// sample is one of each, with texts that are too long for a line.
func sample() ([]check, []finding) {
	return []check{{name: "config"}, {name: "server"}, {name: "version"}, {name: "dns"}, {name: "repository"}, {name: "permissions"}}, []finding{
		good("/home/ada/.config/homelab/config.yaml (default)"),
		good("https://ci.example.lan (/home/ada/.config/homelab/config.yaml:2)"),
		warning("", "Woodpecker 3.13.0 is older than 3.14.0").because(noStream),
		needless("not asked: the address is pinned"),
		failure(fault.Denied, "git remote -v", "the repository is unknown to the server or not readable by ada").
			because("ada/app\x1b[31m (remote origin): 404; repositories are added at https://ci.example.lan/a-path-that-is-longer-than-a-line-is-wide/repos/add"),
		{status: skipped, cause: "repository", what: "needs repository"},
	}
}

func TestText(t *testing.T) {
	all, found := sample()
	r := conclude(nil, all, found)
	r.file = "/home/ada/.config/homelab/config.yaml"
	for _, width := range []int{0, 80, 40} {
		golden.CompareString(t, fmt.Sprintf("text-%d", width), strings.Join(r.Text(width, false), "\n")+"\n")
	}
	golden.CompareString(t, "text-color", strings.Join(r.Text(80, true), "\n")+"\n")
}

// The view while checks run; it ends empty where the table follows.
func TestFrame(t *testing.T) {
	all, found := sample()
	io, _, _ := ui.Test("")
	b := newBoard(io, all)
	b.story = io.Story(t.Context(), nil)
	defer b.story.Close()
	for i := range 2 {
		b.started(all[i].name)
		b.found(all[i].name, found[i])
	}
	b.started(all[2].name)
	for _, size := range [][2]int{{80, 24}, {40, 10}} {
		var lines []string
		for _, l := range b.frame(size[0], size[1], time.Second) {
			lines = append(lines, l.Render(size[0], true))
		}
		golden.CompareString(t, fmt.Sprintf("frame-%dx%d", size[0], size[1]), strings.Join(lines, "\n")+"\n")
	}
	b.end()
	if len(b.frame(80, 24, time.Second)) == 0 {
		t.Error("nothing is left where no table follows")
	}
	io.OutTTY = true
	if got := b.frame(80, 24, time.Second); len(got) > 0 {
		t.Errorf("left above the table: %v", got)
	}
}

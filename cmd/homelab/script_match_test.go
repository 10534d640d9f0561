package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"homelab/internal/golden"
	"homelab/pkg/ui"
)

// cmdSubset: "subset stdout|FILE WANT" proves that what WANT, a file or an
// object right here, has is in the JSON as well: objects may have more keys,
// lists must be as long. Of several lines the last is meant. A text that
// begins and ends with a slash is a pattern.
func cmdSubset(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: subset stdout|FILE WANT")
	}
	text := args[1]
	if !strings.HasPrefix(text, "{") {
		text = ts.ReadFile(text)
	}
	var want, got any
	if err := json.Unmarshal([]byte(os.Expand(text, ts.Getenv)), &want); err != nil {
		ts.Fatalf("want: %v", err)
	}
	if err := json.Unmarshal([]byte(source(ts, args[0])), &got); err != nil {
		ts.Fatalf("got: %v", err)
	}
	if err := within(want, got, ""); err != nil {
		ts.Fatalf("%v", err)
	}
}

// source is the JSON a script speaks of: the last line of stdout or of a file
// in the work directory.
func source(ts *testscript.TestScript, name string) string {
	text := ""
	if name == "stdout" {
		text = ts.ReadFile("stdout")
	} else {
		data, err := os.ReadFile(ts.Getenv("WORK") + "/" + name)
		ts.Check(err)
		text = string(data)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func within(want, got any, at string) error {
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is %v, not an object", at, got)
		}
		for k, v := range want {
			x, ok := m[k]
			if !ok {
				return fmt.Errorf("%s.%s is missing", at, k)
			}
			if err := within(v, x, at+"."+k); err != nil {
				return err
			}
		}
		return nil
	case []any:
		l, ok := got.([]any)
		if !ok || len(l) != len(want) {
			return fmt.Errorf("%s is %v, not a list of %d", at, got, len(want))
		}
		for i, v := range want {
			if err := within(v, l[i], fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	case string:
		if len(want) > 1 && strings.HasPrefix(want, "/") && strings.HasSuffix(want, "/") {
			s, ok := got.(string)
			if m, err := regexp.MatchString(want[1:len(want)-1], s); !ok || err != nil || !m {
				return fmt.Errorf("%s is %q and does not match %s", at, got, want)
			}
			return nil
		}
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Errorf("%s is %#v, not %#v", at, got, want)
	}
	return nil
}

// cmdJSONL: "jsonl TYPE..." proves that events of these types came in this
// order, others may lie between; "jsonl only TYPE..." that no others came.
func cmdJSONL(ts *testscript.TestScript, neg bool, args []string) {
	var types []string
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		var e struct{ Type string }
		ts.Check(json.Unmarshal([]byte(line), &e))
		types = append(types, e.Type)
	}
	bad := ""
	if len(args) > 0 && args[0] == "only" {
		for _, t := range types {
			if !slices.Contains(args[1:], t) {
				bad = t
			}
		}
	} else {
		rest := types
		for _, want := range args {
			i := slices.Index(rest, want)
			if i < 0 {
				bad = want
				break
			}
			rest = rest[i+1:]
		}
	}
	if neg != (bad != "") {
		ts.Fatalf("the events are %v (%s)", types, bad)
	}
}

// cmdShape: "shape NAME [FILE]" compares the JSON on stdout with a golden file
// after replacing what differs from run to run: times, durations, addresses.
func cmdShape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: shape NAME [FILE]")
	}
	from := "stdout"
	if len(args) > 1 {
		from = args[1]
	}
	var v any
	ts.Check(json.Unmarshal([]byte(source(ts, from)), &v))
	out, err := json.MarshalIndent(steady("", v), "", "  ")
	ts.Check(err)
	golden.CompareString(worldOf(ts).t, "shape-"+args[0], named(ts, string(out))+"\n")
}

// cmdCapture: "capture VAR PATTERN" sets a variable to what the pattern's
// group is on stdout.
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VAR PATTERN")
	}
	m := regexp.MustCompile(args[1]).FindStringSubmatch(source(ts, "stdout"))
	if len(m) < 2 {
		ts.Fatalf("%s is not on stdout", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// cmdScreen: "screen NAME" compares what the last run left on its terminal
// with a golden file. It has to have fit: nothing may have scrolled off.
func cmdScreen(ts *testscript.TestScript, neg bool, args []string) {
	t := worldOf(ts).term
	if t == nil || neg || len(args) != 1 {
		ts.Fatalf("usage: onpty ..., then screen NAME")
	}
	text := named(ts, t.Screen())
	text = regexp.MustCompile(`(?m)^\d\d:\d\d `).ReplaceAllString(text, "MM:SS ")
	text = regexp.MustCompile(`\b\d+(\.\d+)?s\b`).ReplaceAllString(text, "TIME")
	first, _, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(ui.Clean(string(t.Raw())), "\r", "")), "\n")
	if first = regexp.MustCompile(`^\d\d:\d\d `).ReplaceAllString(first, ""); !strings.Contains(t.Screen(), first[:min(len(first), 20)]) {
		ts.Fatalf("%q has scrolled off:\n%s", first, t.Screen())
	}
	golden.CompareString(worldOf(ts).t, "screen-"+args[0], text+"\n")
}

// named gives names to what differs from run to run in the work verbs: the
// directory, and the IDs of landings and trash.
func named(ts *testscript.TestScript, text string) string {
	text = strings.ReplaceAll(text, ts.Getenv("WORK"), "WORK")
	return regexp.MustCompile(`\b\d{8}T\d{6}Z-[0-9a-f]{4}\b`).ReplaceAllString(text, "ID")
}

// steady replaces what differs from run to run.
func steady(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		_, own := v["run"] // then its pid is a process's; those of steps are numbers like others
		for k, x := range v {
			if v[k] = steady(k, x); k == "pid" && own {
				v[k] = "PID"
			}
		}
		return v
	case []any:
		for i, x := range v {
			v[i] = steady(key, x)
		}
		return v
	case float64:
		if key == "elapsed" || key == "seconds" {
			return "SECONDS"
		}
		if key == "seq" {
			return "SEQ"
		}
	case string:
		if key == "run" && v != "" {
			return "RUN"
		}
		if _, err := time.Parse(time.RFC3339, v); err == nil {
			return "TIME"
		}
		// How long something is so already is told only from a second on.
		v = regexp.MustCompile(` for \d+m?\d*s\b`).ReplaceAllString(v, "")
		v = regexp.MustCompile(`\b\d+m?\d*s\b`).ReplaceAllString(v, "DURATION")
		return regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(v, "ADDRESS")
	}
	return v
}

// cmdTTYFrame looks at the terminal of the last run: "ttyframe last TEXT" at
// what it left behind, "ttyframe any TEXT" at everything that ever stood
// there, both as patterns.
func cmdTTYFrame(ts *testscript.TestScript, neg bool, args []string) {
	t := worldOf(ts).term
	if t == nil || len(args) < 2 {
		ts.Fatalf("usage: onpty ..., then ttyframe last|any PATTERN")
	}
	screens := []string{t.Screen()}
	switch args[0] {
	case "any":
		screens = t.Frames()
	}
	re, err := regexp.Compile(`(?m)` + args[1])
	ts.Check(err)
	if neg == slices.ContainsFunc(screens, re.MatchString) {
		ts.Fatalf("%s: the screen is\n%s", args[1], t.Screen())
	}
	if _, _, visible := t.Cursor(); !visible {
		ts.Fatalf("the cursor was left hidden")
	}
}

// cmdTTYPlain proves that the last run used no colour on its terminal.
func cmdTTYPlain(ts *testscript.TestScript, neg bool, _ []string) {
	t := worldOf(ts).term
	if t == nil {
		ts.Fatalf("onpty comes first")
	}
	if m := regexp.MustCompile(`\x1b\[[0-9;]*m`).Find(t.Raw()); neg == (m == nil) {
		ts.Fatalf("colours: %q", m)
	}
}

// cmdTTYFits proves that nothing of the live view was pushed out of the screen
// while it was redrawn: what has scrolled off cannot be erased, and would be
// there twice.
func cmdTTYFits(ts *testscript.TestScript, neg bool, _ []string) {
	t := worldOf(ts).term
	if t == nil || neg {
		ts.Fatalf("onpty comes first")
	}
	titles := regexp.MustCompile(`(?m)^. ada/app #\d+ push `)
	for _, f := range t.Frames() {
		if n := len(titles.FindAllString(f, -1)); n > 1 {
			ts.Fatalf("the view is there %d times:\n%s", n, f)
		}
	}
}

package deploy

import (
	"testing"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/run"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
)

// Which of several watches decides: 11, 1, 9, then the order of all verbs; and
// one that ended by itself before those it took along.
func TestDeciding(t *testing.T) {
	for _, c := range []struct {
		kinds []fault.Kind
		alone int // -1: none
		want  fault.Kind
		at    int
	}{
		{[]fault.Kind{fault.OK, fault.OK}, -1, fault.OK, 0},
		{[]fault.Kind{fault.OK, fault.Held}, -1, fault.Held, 1},
		{[]fault.Kind{fault.Conflict, fault.Failed, fault.Unsafe}, -1, fault.Unsafe, 2},
		{[]fault.Kind{fault.Conflict, fault.Failed, fault.Absent}, -1, fault.Failed, 1},
		{[]fault.Kind{fault.Absent, fault.Replaced, fault.Conflict}, -1, fault.Conflict, 2},
		{[]fault.Kind{fault.Absent, fault.Replaced}, -1, fault.Replaced, 1},
		{[]fault.Kind{fault.Held, fault.Absent}, -1, fault.Absent, 1},
		{[]fault.Kind{fault.Denied, fault.Held}, -1, fault.Held, 1},
		{[]fault.Kind{fault.Unreachable, fault.Denied}, -1, fault.Denied, 1},
		{[]fault.Kind{fault.Timeout, fault.Unreachable}, -1, fault.Unreachable, 1},
		{[]fault.Kind{fault.OK, fault.Timeout}, -1, fault.Timeout, 1},
		{[]fault.Kind{fault.OK, fault.Interrupted}, -1, fault.Interrupted, 1},
		{[]fault.Kind{fault.Terminated, fault.Terminated}, -1, fault.Terminated, 0},
		{[]fault.Kind{fault.Interrupted, fault.Unsafe}, -1, fault.Unsafe, 1},
		{[]fault.Kind{fault.Terminated, fault.Bug, fault.Terminated}, 1, fault.Bug, 1},
		{[]fault.Kind{fault.Terminated, fault.Terminated, fault.Usage}, 2, fault.Usage, 2},
		{[]fault.Kind{fault.Unsafe, fault.Conflict}, 1, fault.Conflict, 1},
	} {
		ended := make([]run.Member, len(c.kinds))
		if c.alone >= 0 {
			ended[c.alone].Alone = true
		}
		if got, at := deciding(ended, c.kinds); got != c.want || at != c.at {
			t.Errorf("%v (alone %d): %s of %d, want %s of %d", c.kinds, c.alone, got, at, c.want, c.at)
		}
	}
}

// Each watch has a line, and an error says whose it is, once.
func TestFleetLines(t *testing.T) {
	r := &fleetResult{}
	for _, name := range []string{"www", "shop"} {
		o := artifact.Outcome{Kind: fault.Held, Verdict: "held", Reason: name + " is paused"}
		if name == "shop" {
			o.Reason = "paused"
		}
		r.lines = append(r.lines, newWatchResult(watchKind, o, artifact.Report{Watch: name}, ""))
	}
	got := r.Text(0, false)
	if len(got) != 2 || got[0] != "held: www is paused" || got[1] != ui.ResultLine("held", "shop", "paused", "") {
		t.Errorf("%q", got)
	}
	for what, want := range map[string]string{"no source": "watch www: no source", `watch "www" is odd`: `watch "www" is odd`} {
		if err := of("www", fault.Usagef("", "%s", what)); err.Error() != want || fault.KindOf(err) != fault.Usage {
			t.Errorf("%v", err)
		}
	}
}

package ui

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

type listing struct {
	Header
	lines []string
}

func (l *listing) Text(int, bool) []string {
	return append(l.lines, ResultLine(l.Verdict, "shop", l.Reason, ""))
}

// Scripts of the older tool read stdout alone: the story, what was asked for
// and errors; the line of the verdict must not stand in their way.
func TestScripts(t *testing.T) {
	for _, c := range []struct {
		name     string
		set      Settings
		out, err string
	}{
		{
			"story",
			Settings{Script: ScriptStory},
			"Created Service web\nno elapsed time\n      log tail\na pod\npayload\nError: it failed: the reason\n",
			"a request\nfailed: shop: it went wrong\n",
		},
		{
			"look",
			Settings{Script: ScriptLook},
			"a pod\npayload\n",
			"Created Service web\na request\nno elapsed time\n      log tail\nfailed: shop: it went wrong\n",
		},
		{
			"quiet",
			Settings{Script: ScriptStory, Quiet: true},
			"a pod\npayload\nError: it failed: the reason\n",
			"a request\nfailed: shop: it went wrong\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, out, errb := Test("")
			s.OutTTY, s.ErrTTY = false, true // a terminal gets no live view either
			c.set.Verbose, c.set.Color = true, "never"
			if err := s.Configure(c.set); err != nil {
				t.Fatal(err)
			}
			s.Note(L("Created Service web"))
			s.Verbosef("a request")
			st := s.Story(t.Context(), func(int, int, time.Duration) []Line { return []Line{L("a view")} })
			st.Line(L("no elapsed time"))
			st.Continue(L("log tail"))
			if err := s.Payload(L("a pod")); err != nil {
				t.Fatal(err)
			}
			r := &listing{Header{Kind: "x", Verdict: "failed", ExitCode: 1, Reason: "it went wrong"}, []string{"payload"}}
			if err := s.Finish(r); err != nil {
				t.Fatal(err)
			}
			if told, last := s.Told(); told || last != Result(r) {
				t.Errorf("told %v, result %v", told, last)
			}
			s.Error(fault.New(fault.Failed, "it failed", "homelab ci status").Because("the reason"))
			if told, _ := s.Told(); !told {
				t.Error("an error was told, and Told does not know")
			}
			if diff := cmp.Diff(c.out, out.String()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.err, errb.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

package artifact

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// fatesOf applies lines, and returns what is known in the end and what was told.
func fatesOf(m Memory, by string, lines ...Line) (Memory, []Attempted) {
	var all []Attempted
	for _, l := range lines {
		l.Seq, l.Time = m.Seq+1, time.Unix(1_800_000_000+m.Seq, 0).UTC()
		for _, f := range Fates(m, l) {
			f.By = by
			all = Recall(all, f)
		}
		m = m.Apply(l)
	}
	return m, all
}

// switching is the beginning of an attempt at b.
func switching(previous *Version) []Line {
	c := Candidate{ID: id("b"), Kind: Image, Ref: "r/b@" + string(id("b"))}
	before := Observation{Sight: Nothing}
	if previous != nil {
		before = Observation{Sight: Runs, ID: previous.ID}
	}
	return []Line{
		{Op: OpIntent, State: Fetching, ID: c.ID, Attempt: 1, Try: &Attempt{N: 1, By: ByItself, Candidate: c, Previous: previous, Before: before}},
		{Op: OpIntent, State: Switching, ID: c.ID, Attempt: 1, Observation: &before},
	}
}

func TestFates(t *testing.T) {
	a := &Version{Candidate: Candidate{ID: id("a"), Kind: Image, Ref: "r/a@" + string(id("a"))}}
	ran := Memory{Known: true, Running: a, Deployed: true, Phase: Live}
	rest := func(lines ...Line) []Line { return append(switching(a), lines...) }
	back := Line{Op: OpIntent, State: RollingBack, ID: id("b"), Previous: id("a"), Reason: strings.Repeat("x", 999), Evidence: []string{"log"}}
	for name, c := range map[string]struct {
		lines []Line
		want  string // outcomes, oldest first
		begin Resume // what another does after it took over and sees `sees`
		sees  string
		check func(*testing.T, Memory)
	}{
		"nothing was touched": {switching(a)[:1], "", GoOn, "a", nil},
		"put back before it began": {
			append(switching(a)[:1], Line{Op: OpDone, State: Idle, Reason: "overtaken"}), "", GoOn, "a", nil,
		},
		"switching, taken":     {rest(), "switching", ProbeNow, "b", nil},
		"switching, not taken": {rest(), "switching", Finish, "a", nil},
		"not now":              {rest(Line{Op: OpLater, ID: id("b")}), "", GoOn, "a", nil},
		"probing":              {rest(Line{Op: OpDone, State: Probing, ID: id("b")}), "probing", ProbeNow, "b", nil},
		"soaking, put back":    {rest(Line{Op: OpDone, State: Probing, ID: id("b")}, Line{Op: OpDone, State: Soaking, ID: id("b")}), "soaking", OldRuns, "a", nil},
		"rolling back":         {rest(back), "rolling_back", ProbeBack, "a", nil},
		"rolling back twice":   {rest(back, back), "rolling_back", StopHere, "b", nil},
		"live": {rest(Line{Op: OpDone, State: Live, ID: id("b")}), "live", GoOn, "b", func(t *testing.T, m Memory) {
			if m.Running == nil || m.Running.ID != id("b") || !strings.HasPrefix(m.Running.Ref, "r/b@") || !m.Deployed || m.Phase != Live || m.Attempt != nil {
				t.Errorf("%+v", m)
			}
		}},
		"rolled back": {rest(back, Line{Op: OpDone, State: RolledBack, ID: id("b"), Reason: "503"}), "rolled_back", GoOn, "a", func(t *testing.T, m Memory) {
			if q, ok := m.quarantined(id("b")); !ok || q.Reason != "rolled back at one: 503" {
				t.Errorf("%+v", m.Quarantine)
			}
		}},
		"failed": {rest(Line{Op: OpDone, State: Idle, ID: id("b"), Reason: "exit 1"}), "failed", GoOn, "a", func(t *testing.T, m Memory) {
			if _, ok := m.quarantined(id("b")); !ok || m.Halt != "" {
				t.Errorf("%+v", m.Quarantine)
			}
		}},
		"halted": {rest(Line{Op: OpDone, State: Halted, ID: id("b"), Reason: "no way"}), "halted", GoOn, "b", func(t *testing.T, m Memory) {
			if _, ok := m.quarantined(id("b")); !ok || m.Halt == "" || m.Phase != Halted {
				t.Errorf("%+v", m)
			}
		}},
		"halted and lifted": {
			rest(Line{Op: OpDone, State: Halted, ID: id("b")}, Line{Op: OpPermit, ID: id("b")}), "", GoOn, "a",
			func(t *testing.T, m Memory) {
				if m.Halt != "" || len(m.Quarantine) > 0 {
					t.Errorf("%+v", m)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, list := fatesOf(ran, "one", c.lines...)
			var got []string
			for _, e := range list {
				got = append(got, e.Outcome)
			}
			if strings.Join(got, " ") != c.want {
				t.Fatalf("%v, want %q", got, c.want)
			}
			text, err := json.Marshal(list)
			if err != nil || len(text) > 4096 || strings.Contains(string(text), "log") {
				t.Errorf("%d bytes: %s", len(text), text)
			}
			if list, err = ParseAttempted(string(text)); err != nil {
				t.Fatal(err)
			}
			// Another that was here before, one that never was, and the same one.
			for _, m := range []Memory{ran, {}} {
				for _, l := range Inherit(m, list, "two", time.Now()) {
					if after := m.Apply(l); after.Seq != m.Seq+1 {
						t.Fatalf("%+v changes nothing", l)
					} else {
						m = after
					}
				}
				if how := Recover(m, Observation{Sight: Runs, ID: id(c.sees)}, Config{Idempotent: true}); how != c.begin {
					t.Errorf("%q, want %q: %+v", how, c.begin, m)
				}
				if c.check != nil {
					c.check(t, m)
				}
				if again := Inherit(m, list, "two", time.Now()); m.Attempt == nil && len(again) > 0 {
					t.Errorf("once more: %+v", again)
				}
			}
			if own := Inherit(ran, list, "one", time.Now()); len(own) > 0 {
				t.Errorf("its own: %+v", own)
			}
		})
	}
}

// Whoever lost the lease in mid-switch finds what became of it.
func TestInheritWhatOneBegan(t *testing.T) {
	a := &Version{Candidate: Candidate{ID: id("a"), Kind: Image}}
	m, list := fatesOf(Memory{Known: true, Running: a, Phase: Live}, "one", switching(a)...)
	if m.Attempt == nil {
		t.Fatal("no attempt")
	}
	if own := Inherit(m, list, "one", time.Now()); len(own) > 0 {
		t.Errorf("nobody else did anything, and %+v", own)
	}
	_, other := fatesOf(m, "two", Line{Op: OpDone, State: Probing, ID: id("b")}, Line{Op: OpDone, State: Live, ID: id("b")})
	for _, l := range Inherit(m, Recall(list, other...), "one", time.Now()) {
		m = m.Apply(l)
	}
	if m.Attempt != nil || m.Running.ID != id("b") || len(m.Quarantine) > 0 {
		t.Errorf("%+v", m)
	}
}

func TestRecallTwenty(t *testing.T) {
	var list []Attempted
	for i := range 30 {
		name := string(rune('a'+i%26)) + strings.Repeat("z", i/26)
		list = Recall(list, Attempted{ID: id(name), Outcome: string(Live), Version: &Version{}})
	}
	if len(list) != 20 || list[19].Version == nil || list[18].Version != nil {
		t.Errorf("%d: %+v", len(list), list[18:])
	}
	list = Recall(list, Attempted{ID: list[3].ID, Outcome: fateFailed})
	if len(list) != 20 || list[19].Outcome != fateFailed || list[18].Version == nil {
		t.Errorf("%d: %+v", len(list), list[18:])
	}
}

func TestParseAttempted(t *testing.T) {
	for _, bad := range []string{"{}", "[", `[{"id":"x","outcome":"live"}]`, `[{"id":"` + string(id("a")) + `","outcome":"fine"}]`, `[{"id":"` + string(id("a")) + `","outcome":"probing"}]`} {
		if list, err := ParseAttempted(bad); err == nil {
			t.Errorf("%s: %+v", bad, list)
		}
	}
}

package deploy

import (
	"slices"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"1": 1, "1500000": 1500000, "5k": 5 << 10, "500M": 500 << 20, "2GiB": 2 << 30, "1TB": 1 << 40, "7b": 7,
		"": 0, "0": 0, "-1": 0, "1.5G": 0, "G": 0, "2GiBB": 0, "9999999999T": 0, "1 G": 0, "2Gi": 2 << 30,
	} {
		got, err := parseSize(s)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v, want %d", s, got, err, want)
		}
	}
}

func TestNameOf(t *testing.T) {
	for to, want := range map[string]string{
		"file:/srv/unikernels/www.hvt?unit=vm.service": "www", "exec:/usr/local/lib/site": "site", "k8s://shop/web?container=c": "web",
		"k8s://shop/sts/db?container=c": "db", "file:/srv/.hidden": ".hidden", "file:/": "", "file:/srv/a.tar.gz": "a.tar",
	} {
		if got := nameOf(to); got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
}

func TestParseUntil(t *testing.T) {
	now := time.Date(2026, 7, 1, 15, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"2h": now.Add(2 * time.Hour), "15:30": now.Add(30 * time.Minute), "15:00": now.AddDate(0, 0, 1), "08:00": now.Add(17 * time.Hour),
		"2026-07-02T00:00:00Z": now.Add(9 * time.Hour), "": {},
	} {
		if got, err := parseUntil(s, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"-1h", "0s", "2026-07-01T15:00:00Z", "yesterday", "25:00"} {
		if got, err := parseUntil(s, now); err == nil {
			t.Errorf("%q: %v, want an error", s, got)
		}
	}
}

// Of a watch's flags the file may have those that describe it; each of the
// others is refused with a reason.
func TestWatchKeys(t *testing.T) {
	k := watchKeys()
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(watchFlags).add(set)
	set.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(k.Watch, f.Name) == (k.Refused[f.Name] != "") {
			t.Errorf("--%s: both or neither of a key and refused", f.Name)
		}
	})
	for _, name := range []string{"no-rollback", "allow-downgrade", "once", "expect", "listen"} {
		if k.Refused[name] == "" {
			t.Errorf("%s is not refused", name)
		}
	}
}

// What is given anew is what was given, and not what a file said.
func TestFresh(t *testing.T) {
	o, set := &watchFlags{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	o.add(set)
	if err := set.Parse([]string{"--probe", "tcp:a:1", "--probe", "tcp:b:2", "--once", "--soak", "3s"}); err != nil {
		t.Fatal(err)
	}
	if err := set.Lookup("keep").Value.Set("9"); err != nil { // as a file does
		t.Fatal(err)
	}
	got, again := fresh(set)
	if !slices.Equal(got.probes, []string{"tcp:a:1", "tcp:b:2"}) || !got.once || got.soak != 3*time.Second || got.keep != 3 || !again.Changed("soak") {
		t.Errorf("%+v", got)
	}
}

// Every way to end, and every reason to hold, has a next command or none.
func TestAdvice(t *testing.T) {
	id := artifact.ID("sha256:00")
	for _, c := range []struct {
		o    artifact.Outcome
		want string
	}{
		{artifact.Outcome{Kind: fault.OK}, ""},
		{artifact.Outcome{Kind: fault.Held, Why: artifact.Paused}, "homelab deploy watch resume www -f x"},
		{artifact.Outcome{Kind: fault.Held, Why: artifact.Quarantined, Candidate: &artifact.Candidate{ID: id}}, "homelab deploy watch retry www sha256:00 -f x"},
		{artifact.Outcome{Kind: fault.Held, Why: artifact.Quarantined}, "homelab deploy watch retry www -f x"},
		{artifact.Outcome{Kind: fault.Held, Why: artifact.FirstStart}, "again --initial deploy"},
		{artifact.Outcome{Kind: fault.Held, Why: artifact.NoWayBack}, "again --no-rollback"},
		{artifact.Outcome{Kind: fault.Conflict, Why: artifact.Owner}, "again --take-ownership"},
		{artifact.Outcome{Kind: fault.Held, Why: artifact.Window}, "homelab deploy watch status www -f x"},
		{artifact.Outcome{Kind: fault.Unsafe}, "homelab deploy watch history www -f x"},
		{artifact.Outcome{Kind: fault.Timeout}, "again"},
	} {
		if got := advice(c.o, "www", "again", []string{"-f", "x"}); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.o.Kind, c.o.Why, got, c.want)
		}
	}
}

func TestWorstWatch(t *testing.T) {
	for _, c := range []struct {
		kinds []fault.Kind
		want  fault.Kind
	}{
		{[]fault.Kind{fault.OK, fault.Held, fault.Unsafe, fault.Failed}, fault.Unsafe},
		{[]fault.Kind{fault.Conflict, fault.Failed}, fault.Failed},
		{[]fault.Kind{fault.Conflict, fault.Replaced}, fault.Conflict},
		{[]fault.Kind{fault.Unreachable, fault.Held}, fault.Held},
		{[]fault.Kind{fault.OK, fault.Timeout}, fault.Timeout},
	} {
		if got := worstWatch(c.kinds); got != c.want {
			t.Errorf("%v: %s, want %s", c.kinds, got, c.want)
		}
	}
}

// Beside a daemon, and for the verbs, no command is advised that is refused.
func TestElsewhere(t *testing.T) {
	c := &artifact.Candidate{ID: "sha256:00"}
	for why, want := range map[artifact.Why]string{
		artifact.FirstStart: "homelab deploy watch retry www sha256:00 -f x",
		artifact.Regressed:  "homelab deploy watch retry www sha256:00 -f x",
		artifact.NoWayBack:  "homelab deploy watch history www -f x",
		artifact.Owner:      "homelab deploy watch history www -f x",
		artifact.Paused:     "",
		"":                  "",
	} {
		if got := elsewhere(artifact.Outcome{Kind: fault.Held, Why: why, Candidate: c}, "www", []string{"-f", "x"}); got != want {
			t.Errorf("%s: %q, want %q", why, got, want)
		}
	}
}

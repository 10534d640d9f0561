package deploy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"homelab/pkg/fault"
)

const (
	keyOne = "RWRevcIQ0OT/bqbkCZxVOPLB92NdC0PX51JzOYjaNMWJTJNaXFWPsOCr"
	keyTwo = "RWQBAQEBAQEBAYqI49+1LEFHNYR7i8pHHkmHOSzC6j3gu1OKJ3N1IyJx"
)

func TestProofFlags(t *testing.T) {
	for _, tc := range []struct {
		args, want string // want: part of the error; "" none
		keys       int
	}{
		{"", "", 0},
		{"--minisign " + keyOne, "", 1},
		{"--minisign " + keyOne + " --minisign " + keyTwo + " --from-minisig https://x/y", "", 2},
		{"--minisign " + keyOne + " --minisign " + keyOne, "key 6EFFE4D010C2BD5E is given twice", 0},
		{"--minisign RWQ", "no minisign key", 0},
		{"--minisign " + keyOne + " --minisign RWQ", "value 2", 0},
		{"--from-minisig https://x/y", "--minisign", 0},
		{"--reproduced 1 --reproducer https://b", "", 0},
		{"--reproduced 1 --reproducer https://b --reproduce-wait 0s", "", 0},
		{"--reproduced 2 --reproducer https://b --reproducer https://c", "", 0},
		{"--reproduced 2 --reproducer https://b", "there are 1", 0},
		{"--reproduced 1", "there are 0", 0},
		{"--reproduced 0", "at least 1", 0},
		{"--reproduced -1", "at least 1", 0},
		{"--reproducer https://b", "--reproduced", 0},
		{"--reproduce-wait 1h", "goes with --reproduced", 0},
		{"--reproduced 1 --reproducer https://b --reproduce-wait -1s", "negative", 0},
	} {
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		var o proofFlags
		o.add(set)
		if err := set.Parse(strings.Fields(tc.args)); err != nil {
			t.Fatal(err)
		}
		p, err := o.values("help", set.Changed)
		switch {
		case tc.want == "" && (err != nil || len(p.Keys) != tc.keys):
			t.Errorf("%s: %v %v", tc.args, p.Keys, err)
		case tc.want != "" && (fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v", tc.args, err)
		}
	}
}

// Two processes that ask for other proofs are not the same watch; the order in
// which they are told makes no difference.
func TestProofPolicy(t *testing.T) {
	policyOf := func(args string) string {
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		var o proofFlags
		o.add(set)
		if err := set.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		p, err := o.values("help", set.Changed)
		if err != nil {
			t.Fatal(err)
		}
		return policy(WatchSpec{Proofs: p})
	}
	both := "--minisign " + keyOne + " --minisign " + keyTwo
	if policyOf(both) != policyOf("--minisign "+keyTwo+" --minisign "+keyOne) {
		t.Error("the order of keys counts")
	}
	rebuilt := "--reproduced 1 --reproducer https://b --reproducer https://c"
	all := []string{
		policyOf(""), policyOf(both), policyOf("--minisign " + keyOne), policyOf("--minisign " + keyOne + " --from-minisig https://x/y"),
		policyOf(rebuilt), policyOf("--reproduced 1 --reproducer https://b"), policyOf("--reproduced 2 --reproducer https://b --reproducer https://c"),
	}
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != 7 {
		t.Errorf("%d different policies of 7: %q", n, all)
	}
	if a, b := policy(WatchSpec{Proofs: WatchProofs{Reproduced: 1}}), (WatchSpec{Proofs: WatchProofs{Reproduced: 1}}); a == "" || policyWait(b) == a {
		t.Error("the wait does not count")
	}
}

func policyWait(s WatchSpec) string {
	s.ReproduceWait = time.Hour
	return policy(s)
}

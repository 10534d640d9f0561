package chaos_test

import (
	"flag"
	"testing"
	"testing/synctest"

	"homelab/internal/chaos"
)

var (
	seed = flag.Uint64("chaos.seed", 0, "play only this seed")
	n    = flag.Uint64("chaos.n", 40, "how many seeds to play")
	from = flag.Uint64("chaos.from", 1, "the first of them")
)

// Whatever befalls the answers, no verdict is wrong, none is unknown, and no
// write happens twice.
func TestChaos(t *testing.T) {
	first, last := *from, *from+*n-1
	if *seed > 0 {
		first, last = *seed, *seed
	}
	requests, faults, kinds := 0, 0, map[string]int{}
	for s := first; s <= last; s++ {
		var r chaos.Result
		synctest.Test(t, func(t *testing.T) { r = chaos.Run(t.Context(), s) })
		if r.Problem != "" {
			t.Errorf("%s\n  again: go test ./internal/chaos -chaos.seed %d -v", r, s)
		} else if *seed > 0 {
			t.Log(r, r.Log)
		}
		requests, faults = requests+r.Requests, faults+r.Faults
		kinds[r.Scenario]++
	}
	t.Logf("%d seeds, %d of %d answers spoiled, %d scenarios", last-first+1, faults, requests, len(kinds))
	if last > first && faults*2 < requests {
		t.Errorf("only %d of %d answers were spoiled", faults, requests)
	}
}

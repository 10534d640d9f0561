package main

import (
	"fmt"
	"testing"
	"testing/synctest"

	"homelab/internal/chaos"
)

// Seeded watches and writes with at least half of their answers spoiled. The
// chaos package's own test plays the first seeds in every run of all tests, so
// without the bench a few do here.
func TestSimulatedChaos(t *testing.T) {
	n := uint64(10)
	switch {
	case *long:
		n = 1000
	case *rowsFile != "":
		n = 200
	}
	wrong, unknown, requests, faults := 0, 0, 0, 0
	for s := *seed; s < *seed+n; s++ {
		var r chaos.Result
		synctest.Test(t, func(t *testing.T) { r = chaos.Run(t.Context(), s) })
		if r.Problem != "" {
			wrong++
			t.Log(r)
		}
		if v := r.Verdict; v == "unreachable" || v == "timeout" {
			unknown++
		}
		requests, faults = requests+r.Requests, faults+r.Faults
	}
	tell(t, row{
		Name: "chaos", What: "seeded lives of pipelines behind spoiled answers, judged by the simulator's truth, simulated time",
		Target: "0 wrong, >= 1/2 spoiled", Measured: fmt.Sprintf("%d wrong of %d, %d%% spoiled", wrong, n, 100*faults/max(requests, 1)),
		Verdict: judged(wrong == 0 && faults*2 >= requests),
		Values: map[string]float64{
			"wrong": float64(wrong), "runs": float64(n), "unknown": float64(unknown),
			"requests": float64(requests), "spoiled": float64(faults),
		},
		Beside: fmt.Sprintf("%d of %d answers spoiled; %d verdicts unknown (7 or 8)", faults, requests, unknown),
	})
}

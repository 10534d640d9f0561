package run

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
)

// notary is a prover.
type notary struct {
	mu    sync.Mutex
	paths []string
	ready time.Time // others have built it from then on
	err   error
}

func (n *notary) Prove(_ context.Context, _ artifact.Candidate, path string) (artifact.Proofs, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paths = append(n.paths, path)
	if n.err != nil {
		return artifact.Proofs{}, n.err
	}
	if time.Now().Before(n.ready) {
		return artifact.Proofs{}, &artifact.Failure{Class: artifact.Hold, Why: artifact.Unreproduced, What: "1 of 2"}
	}
	key, two := "0123456789ABCDEF", 2
	return artifact.Proofs{Signature: &key, Reproduced: &two}, nil
}

// What proved a version goes into the result; what others have yet to build
// waits, and a check does not wait for it.
func TestProofs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		n := &notary{ready: time.Now().Add(10 * time.Minute)}
		w.o.Prover, w.o.Config.ReproduceWait = n, time.Hour
		w.source.put("b", 2)
		began := time.Now()
		res, err := Check(t.Context(), w.o, artifact.Expectation{})
		if err != nil || res.Outcome.Kind != fault.Held || res.Outcome.Why != artifact.Unreproduced || time.Since(began) > time.Second {
			t.Fatalf("%+v %v after %s", res.Outcome, err, time.Since(began))
		}
		if n.paths[0] != "" {
			t.Errorf("a check proves %q", n.paths[0])
		}
		res, err = w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Verdict != artifact.VerdictLive {
			t.Fatalf("%+v %v\n%s", res.Outcome, err, w.story())
		}
		if took := time.Since(began); took < 10*time.Minute || took > 11*time.Minute {
			t.Errorf("it took %s", took)
		}
		if b, err := os.ReadFile(n.paths[1]); err != nil || string(b) != string(body("b")) {
			t.Errorf("proved was %q, %v", b, err)
		}
		v := res.Report.Verified
		if v == nil || !v.Hash || v.Signature == nil || *v.Signature != "0123456789ABCDEF" || v.Reproduced == nil || *v.Reproduced != 2 {
			t.Errorf("verified %+v", v)
		}
		if !strings.Contains(w.story(), "verified (signed by 0123456789ABCDEF, rebuilt by 2 others)") {
			t.Error(w.story())
		}
	})
}

// What is not signed well is deleted, kept out, and not said to be verified.
func TestRefusedProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deployed(t.Context())
		w.o.Prover = &notary{err: &artifact.Failure{Class: artifact.Refused, What: "made with another key"}}
		w.source.put("b", 2)
		res, err := w.once(t.Context(), artifact.Request{})
		if err != nil || res.Outcome.Kind != fault.Failed || !strings.Contains(res.Outcome.Reason, "made with another key") || res.Report.Verified != nil {
			t.Fatalf("%+v %v", res, err)
		}
		if len(res.Report.Quarantined) != 1 || w.host.running() != idOf("a") || strings.Contains(strings.Join(files(t, w.o.Place.store()), " "), idOf("b").Hex()) {
			t.Errorf("%v, %s runs, %v", res.Report.Quarantined, w.host.running(), files(t, w.o.Place.store()))
		}
		// The way back needs no proof of what was live before.
		w.o.Prover = nil
		w.source.put("c", 3)
		if res, err = w.once(t.Context(), artifact.Request{}); err != nil || res.Outcome.Kind != fault.OK {
			t.Fatalf("%+v %v", res.Outcome, err)
		}
		w.o.Prover = &notary{err: context.DeadlineExceeded}
		res, err = w.once(t.Context(), artifact.Request{Verb: artifact.RollbackVerb})
		if err != nil || res.Outcome.Kind != fault.OK || w.host.running() != idOf("a") {
			t.Errorf("%+v %v", res.Outcome, err)
		}
	})
}

package pipeline_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/woodsim"
	"homelab/pkg/artifact"
)

// Behind load balancers that break a third of all exchanges, a look says what
// is true or that it could not be asked. What was offered stays, whatever comes.
func TestFaults(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			l := bubble(t)
			ci := faultlb.Transport(l.ci.Client(), faultlb.Options{Seed: seed, Rate: 0.3})
			reg := faultlb.Transport(l.reg.InProcess(), faultlb.Options{Seed: seed + 100, Rate: 0.3})
			defer ci.Close()
			defer reg.Close()
			l.client(ci, reg)
			l.use(from, template)
			good, bad := 0, 0
			for n := int64(1); n <= 12; n++ {
				text := fmt.Sprint("commit ", n)
				l.push(text, woodsim.Green(0))
				want := l.image(text, text)
				l.repo.Restart(1+n/2, nil) // of an older one
				number := l.repo.Pipeline(2*n - 1).Number()
				for found := false; !found; {
					if bad > 1000 {
						t.Fatal("no progress")
					}
					got, err := l.look()
					f, _ := errors.AsType[*artifact.Failure](err)
					switch {
					case f != nil && f.Class == artifact.Transient:
						bad++
					case err != nil:
						t.Fatalf("seed %d: %v (%+v)", seed, err, f)
					case got.Candidate != nil && got.Candidate.ID == want:
						found = true
						good++
						if o := got.Candidate.Order; o > number {
							t.Errorf("seed %d: order %d of pipeline %d", seed, o, number)
						}
					case got.Candidate != nil:
						t.Fatalf("seed %d: %+v where %s is the newest", seed, got.Candidate, want.Short())
					}
					time.Sleep(time.Second)
				}
			}
			if good != 12 || bad == 0 || ci.Stats().Injected() == 0 || reg.Stats().Injected() == 0 {
				t.Errorf("seed %d: %d good, %d bad, faults %+v %+v", seed, good, bad, ci.Stats(), reg.Stats())
			}
		})
	}
}

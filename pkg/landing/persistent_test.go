package landing

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

func TestPersistent(t *testing.T) {
	broken, refused := &git.ContactError{Contact: git.Broken, Text: "cut off"}, &git.ContactError{Contact: git.Refused, Text: "no"}
	other := errors.New("not the network")
	for _, tt := range []struct {
		name  string
		errs  []error // the last one stays
		asked int
		told  int
		end   error
	}{
		{"at once", []error{nil}, 1, 0, nil},
		{"one hiccup is no news", []error{broken, nil}, 2, 0, nil},
		{"told once", []error{broken, broken, broken, nil}, 4, 1, nil},
		{"something else is not asked again", []error{other}, 1, 0, other},
		{"refused three times", []error{refused}, 3, 0, refused},
		{"a refusal that passes", []error{refused, refused, nil}, 3, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, told := 0, 0
				err := persistent(t.Context(), time.Minute, func(*git.ContactError) { told++ }, func() error {
					asked++
					return tt.errs[min(asked, len(tt.errs))-1]
				})
				if asked != tt.asked || told != tt.told || !errors.Is(err, tt.end) || (err == nil) != (tt.end == nil) {
					t.Errorf("asked %d times, told %d times, ended with %v", asked, told, err)
				}
			})
		})
	}
	t.Run("patience ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := persistent(t.Context(), time.Minute, nil, func() error { return broken })
			if took := time.Since(began); !errors.Is(err, broken) || took > time.Minute || took < 30*time.Second {
				t.Errorf("%v after %s", err, took)
			}
		})
	})
	t.Run("what was in the way when the time was up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, fault.ErrTimeUp)
			defer cancel()
			err := persistent(ctx, time.Minute, nil, func() error { return broken })
			if !errors.Is(err, fault.ErrTimeUp) || lastContact(err) != "cut off" {
				t.Errorf("%v", err)
			}
			e := explain(ctx, err, "work start x", "origin")
			if e.Kind != fault.Timeout || e.Why != "cut off" {
				t.Errorf("told as %+v", e)
			}
		})
	})
}

package stack

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
)

// When time is up while a server that did not answer is asked again, it is
// still that server that did not answer.
func TestPersistTellsWhatWasSaidLast(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []error // nil: none until the end
		cause   error
		want    func(error) bool
	}{
		{"asked again", []error{&kube.UnreachableError{What: "GET", Err: io.EOF}, nil}, fault.ErrTimeUp, kube.IsTransient},
		{"asked once", []error{nil}, fault.ErrTimeUp, func(err error) bool { return errors.Is(err, fault.ErrTimeUp) }},
		{"interrupted", []error{&kube.UnreachableError{What: "GET", Err: io.EOF}, nil}, io.ErrClosedPipe, func(err error) bool { return errors.Is(err, io.ErrClosedPipe) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, c.cause)
			defer cancel()
			n := 0
			err := persist(ctx, func() error {
				n++
				if err := c.answers[n-1]; err != nil {
					return err
				}
				<-ctx.Done()
				return context.Cause(ctx)
			})
			if n != len(c.answers) || !c.want(err) {
				t.Errorf("%s: after %d: %v", c.name, n, err)
			}
		})
	}
}

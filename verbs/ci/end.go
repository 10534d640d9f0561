package ci

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/verbs/verb"
)

// silentFor is how long the server must have failed for a deadline to mean
// that it could not be asked, not that something takes longer.
const silentFor = 30 * time.Second

// endWords says what broke something off.
func endWords(k fault.Kind) string {
	if k == fault.Interrupted || k == fault.Terminated {
		return "interrupted"
	}
	return "the time was up"
}

// ended returns what ended the run, where a signal or the deadline explains
// more than the request they broke off; err in all other cases. The next
// command is the same one again.
func ended(ctx context.Context, c *cobra.Command, s *session, err error) error {
	if ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	var sig *fault.Signal
	switch {
	case errors.As(cause, &sig):
		return fault.New(sig.Kind(), "interrupted before anything was known of the pipeline", verb.Again(c)).From(cause)
	case !errors.Is(cause, fault.ErrTimeUp):
		return cause
	case s == nil || s.conn == nil:
		return fault.New(fault.Timeout, "the time was up before the server was asked", verb.Again(c)).From(cause)
	}
	h := s.conn.Client.Health()
	if h.AnyGood && (h.FailingSince.IsZero() || time.Since(h.FailingSince) < silentFor) {
		return fault.New(fault.Timeout, "the time was up before the pipeline could be looked at", verb.Again(c)).From(cause)
	}
	e := fault.New(fault.Unreachable, "the time was up and the server did not answer", verb.Again(c)).From(cause)
	if h.Last != nil {
		e.Why = serverWords(h.Last)
	}
	return e
}

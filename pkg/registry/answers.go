package registry

import (
	"context"
	"errors"
	"time"

	"homelab/pkg/poll"
)

// absentAgain is after which a registry that knows no such image is asked once
// more before it is believed: one behind a balancer may not have heard of it.
const absentAgain = 500 * time.Millisecond

// Answers asks the registry anew whether it still has ref, however well it is
// known here. nil says it has. That it has not (*RefusedError, Absent) is
// confirmed by asking again. Other errors are as Resolve's.
// Source: GET /v2/{name}/manifests/{ref}, OCI distribution spec 1.1.
func (c *Client) Answers(ctx context.Context, ref string) error {
	r, err := c.parse(ref)
	if err != nil {
		return err
	}
	s, err := c.session(ref)
	if err != nil {
		return &InvalidError{Ref: ref, Err: err}
	}
	ask := func() error {
		return s.try(ctx, func(ctx context.Context) error {
			_, err := s.puller.Get(ctx, r)
			return err
		})
	}
	err = ask()
	if no, ok := errors.AsType[*RefusedError](err); ok && no.Absent() {
		if err := poll.Sleep(ctx, absentAgain); err != nil {
			return err
		}
		return ask()
	}
	return err
}

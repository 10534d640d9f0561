package apply

import (
	"context"
	"errors"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/poll"
)

// Drained waits until no pod of these Deployments is left that may still serve
// or write. When ctx's time is up the error is a *fault.Error of kind Timeout
// that names the pods and what holds them; else as Apply's.
func Drained(ctx context.Context, c Client, s Scope, deployments []string) error {
	w := &writer{c: c, s: s}
	var left []string
	err := poll.Until(ctx, poll.Exponential(100*time.Millisecond, 2*time.Second, 0), func(ctx context.Context) (poll.State, error) {
		pods, err := w.list(ctx, "Pod", s.Namespace)
		if err != nil {
			return poll.Unknown, err
		}
		if left = stillThere(pods, deployments); len(left) > 0 {
			return poll.NotYet, nil
		}
		return poll.Done, nil
	})
	if err != nil && errors.Is(context.Cause(ctx), fault.ErrTimeUp) && len(left) > 0 {
		return fault.New(fault.Timeout, "still being deleted: "+strings.Join(left, ", "), "").From(err)
	}
	return err
}

func stillThere(pods []*unstructured.Unstructured, deployments []string) []string {
	var out []string
	for _, d := range deployments {
		out = append(out, podsOf(pods, d)...)
	}
	return out
}

package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
)

// failed turns what a request came to into how the run ends. what names the
// object and what was done to it.
func failed(ctx context.Context, err error, what string) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*fault.Error](err); done {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	kind, next := fault.Failed, ""
	s, answered := errors.AsType[*kube.StatusError](err)
	why := err.Error()
	if u, ok := errors.AsType[*kube.UnreachableError](err); ok {
		why = u.Error() // without client-go's wrapping
	} else if p, ok := errors.AsType[*kube.PluginError](err); ok {
		why = p.Error()
	} else if answered {
		why = s.Message
	}
	switch {
	case kube.IsTransient(err) && (!answered || s.Code != http.StatusConflict):
		kind = fault.Unreachable
	case answered && s.Code == http.StatusConflict:
		kind = fault.Conflict
	case answered && terminating(s):
		kind = fault.Conflict
	case answered && s.Code == http.StatusUnprocessableEntity && strings.Contains(s.Message, "immutable"):
		kind = fault.Conflict
	case kube.IsDenied(err) && !judged(s):
		kind = fault.Denied
	}
	return fault.New(kind, what, next).Because(why).From(err)
}

// terminating says that nothing can be made in a namespace that is going.
func terminating(s *kube.StatusError) bool {
	return s.Code == http.StatusForbidden && strings.Contains(s.Message, "because it is being terminated")
}

// judged says that a 403 is not about the credentials, but about the object:
// admission, a quota, a policy.
func judged(s *kube.StatusError) bool {
	return s != nil && s.Code == http.StatusForbidden && !strings.Contains(s.Message, " cannot ")
}

package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// explain turns what find could not do into a fault a person can act on.
func (s *Source) explain(ctx context.Context, err error) error {
	var ready *fault.Error
	var refused *refusal
	var absent *missing
	var deleted *gone
	switch {
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &refused):
		return s.refused(ctx, refused)
	case errors.As(err, &absent):
		f := fault.New(fault.Denied, "Vault has nothing at "+s.o.Path, "vault kv list "+quote(parent(s.o.Path))).From(err)
		f.Why = "asked for " + absent.path + s.inNamespace()
		if mount, rest, ok := strings.Cut(s.o.Path, "/data/"); ok && !strings.Contains(mount, "/") {
			f.Why += "; perhaps the path should be " + mount + "/" + rest
		}
		return f
	case errors.As(err, &deleted):
		how, next := "was deleted", "vault kv undelete -versions="+deleted.version+" "+quote(s.o.Path)
		if deleted.destroyed {
			how, next = "was destroyed", "vault kv metadata get "+quote(s.o.Path)
		} else if deleted.at != "" {
			how += " at " + deleted.at
		}
		return fault.New(fault.Denied, fmt.Sprintf("the newest version (%s) of the Vault secret %s %s", deleted.version, s.o.Path, how), next).From(err)
	}
	return s.unreachable(ctx, err)
}

// refused finds out whether the token or its policy is at fault.
func (s *Source) refused(ctx context.Context, r *refusal) error {
	ctx = transport.WithCall(ctx, transport.Call{Name: "vault auth/token/lookup-self", Total: attemptTime, Budget: budget})
	self, err := s.secret.Auth().Token().LookupSelfWithContext(ctx)
	var no *api.ResponseError
	if errors.As(err, &no) && no.StatusCode == http.StatusForbidden {
		return fault.New(fault.Denied, "the Vault token is invalid or has expired", "vault login").
			Because("refused by " + s.origin.String() + s.inNamespace() + s.helperNote()).From(r)
	}
	f := fault.New(fault.Denied, "the Vault token may not read "+r.path, "vault token capabilities "+quote(r.path)).From(r)
	f.Why = "its policies lack read on that path" + s.inNamespace()
	if err != nil {
		f.Why = "permission denied" + s.inNamespace() + "; whether the token is valid could not be asked: " + plain(err)
		return f
	}
	if names, err := self.TokenPolicies(); err == nil && len(names) > 0 {
		f.Why = "its policies (" + strings.Join(names, ", ") + ") lack read on that path" + s.inNamespace()
	}
	return f
}

// unreachable words a Vault that gave no usable answer with what its health
// says, if it says anything.
func (s *Source) unreachable(ctx context.Context, err error) error {
	at := "Vault at " + s.origin.String()
	say := func(what, why, next string) error {
		return fault.New(fault.Unreachable, at+" "+what, next).Because(why).From(err)
	}
	var away *transport.RedirectError
	var cert *transport.CertificateError
	var unusual *api.ResponseError
	switch {
	case errors.As(err, &away):
		return say("redirects to "+away.Host+", as a standby node does",
			"the token is not sent there; if "+away.Host+" is the active node, make it vault.address", "homelab config show")
	case errors.As(err, &cert):
		return say("cannot be trusted", plain(cert), "homelab doctor")
	case errors.As(err, &unusual):
		return say(fmt.Sprintf("does not understand the request (%d)", unusual.StatusCode), strings.Join(unusual.Errors, "; "), "homelab doctor")
	}
	why := plain(err)
	if last := s.retry.Health().Last; ctx.Err() != nil && last != nil {
		why = fmt.Sprintf("%v (%v)", last, context.Cause(ctx))
	}
	h, sick := s.health(ctx)
	const status = "vault status"
	switch {
	case sick != nil:
		return say("cannot be reached", why, "homelab doctor")
	case !h.Initialized:
		return say("is not initialised", why, status)
	case h.Sealed:
		return say("is sealed", why, status)
	case h.Standby:
		return say("is a standby node that finds no active one", why, status)
	}
	return say("gives no usable answer, though it calls itself healthy", why, status)
}

func (s *Source) inNamespace() string {
	if s.o.Namespace == "" {
		return ""
	}
	return " (namespace " + s.o.Namespace + ")"
}

// plain returns err's innermost wording: without the library's and the retry
// layer's wrapping, in which the URL and the number of tries stand.
func plain(err error) string {
	var exhausted *transport.ExhaustedError
	var refused *transport.RefusedError
	var final *transport.FinalError
	switch {
	case errors.As(err, &exhausted):
		return fmt.Sprintf("%v (%d tries)", exhausted.Last, exhausted.Tries)
	case errors.As(err, &refused):
		return refused.Err.Error()
	case errors.As(err, &final):
		return final.Err.Error()
	}
	if asked, ok := errors.AsType[*url.Error](err); ok {
		return asked.Err.Error()
	}
	return err.Error()
}

// parent returns what to list to see path's neighbours. A path has a slash.
func parent(path string) string { return path[:strings.LastIndex(path, "/")] }

// quote makes s one word of a shell command.
func quote(s string) string {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("/._-+@:,=", r):
		default:
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}

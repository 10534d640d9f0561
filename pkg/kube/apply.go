package kube

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
)

// ApplyOptions say who applies fields, and how.
type ApplyOptions struct {
	Manager string // the field manager; one is required
	Force   bool   // take fields that others own
	DryRun  bool   // only what would be: nothing is stored
}

// Apply sends the fields an object is to have and returns the object as it is
// then. body is JSON with apiVersion, kind and metadata.name. It is sent once,
// but for a 401 and a 403, which change nothing and are confirmed. The error is
// as Get's; of a field that somebody else owns it is a *StatusError 409 with
// Owners. Source: PATCH with application/apply-patch+yaml.
func (c *Cluster) Apply(ctx context.Context, r Resource, ns, name string, body []byte, o ApplyOptions) (Object, error) {
	v := url.Values{"fieldManager": {o.Manager}, "force": {"false"}}
	if o.Force {
		v.Set("force", "true")
	}
	if o.DryRun {
		v.Set("dryRun", "All")
	}
	u := c.base.JoinPath(r.path(ns, name, ""))
	u.RawQuery = v.Encode()
	var out Object
	err := confirmed(ctx, func() error {
		if err := c.limit.wait(ctx); err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPatch, u.String(), bytes.NewReader(body))
		if err != nil {
			return &UnreachableError{What: "apply " + r.String() + " " + name, Err: err}
		}
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", "application/apply-patch+yaml")
		res, err := c.Transport().RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body) // in memory already
		if err == nil {
			out, err = decode(raw)
		}
		if err == nil && out.Name != name {
			err = errNotObject
		}
		if err != nil {
			return c.broken(ctx, named(c.base, req), err)
		}
		return nil
	})
	return out, err
}

// Cause is one reason of a refusal.
type Cause struct {
	Reason  string `json:"reason"` // "FieldManagerConflict"
	Message string `json:"message"`
	Field   string `json:"field"`
}

// Owners returns the causes of err that say that a field is somebody else's;
// none for any other error.
func Owners(err error) []Cause {
	s, ok := errors.AsType[*StatusError](err)
	if !ok || s.Code != http.StatusConflict {
		return nil
	}
	var out []Cause
	for _, c := range s.Causes {
		if c.Reason == "FieldManagerConflict" {
			out = append(out, c)
		}
	}
	return out
}

// IsConflict says that the object was changed since it was read, or that one
// of its fields is somebody else's: see Owners.
func IsConflict(err error) bool {
	s, ok := errors.AsType[*StatusError](err)
	return ok && !s.Proxy && s.Code == http.StatusConflict
}

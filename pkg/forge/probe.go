package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"homelab/pkg/transport"
)

// ErrUnknownKind says that a host answers as no forge that is known.
var ErrUnknownKind = errors.New("neither Forgejo, Gitea nor GitHub answers there")

// Probe asks which API the forge at web speaks. rt must attach no token: who
// is asked is not known yet. A forge that wants a login before it tells its
// version still answers in JSON, and that is enough.
func Probe(ctx context.Context, web *url.URL, rt http.RoundTripper) (Kind, error) {
	for _, p := range []struct {
		kind Kind
		path string
		key  string // in a good answer
	}{
		{Forgejo, "api/forgejo/v1/version", "version"},
		{Gitea, "api/v1/version", "version"},
		{GitHub, "api/v3/meta", "installed_version"},
	} {
		ok, err := probe(ctx, web.JoinPath(p.path), rt, p.key)
		if err != nil || ok {
			return p.kind, err
		}
	}
	return "", fmt.Errorf("%s: %w", web.Host, ErrUnknownKind)
}

func probe(ctx context.Context, u *url.URL, rt http.RoundTripper, key string) (bool, error) {
	take := func(x transport.Exchange) transport.Judgement {
		if x.Response == nil || x.Err != nil || x.Response.StatusCode >= 500 || x.Response.StatusCode == http.StatusTooManyRequests {
			return judge(x)
		}
		return transport.Judgement{Class: transport.Answer}
	}
	req, err := http.NewRequestWithContext(transport.WithCall(ctx, transport.Call{Name: "GET " + u.Path}), http.MethodGet, u.String(), nil)
	if err != nil {
		return false, err
	}
	resp, err := transport.NewRetry(transport.RetryOptions{Next: rt, Judge: take, Jitter: 0.25}).RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return false, &APIError{Op: "GET " + u.Path, Class: Unreachable, Err: err}
	}
	defer resp.Body.Close()
	var body map[string]any
	if json.NewDecoder(resp.Body).Decode(&body) != nil || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return false, nil
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return true, nil
	case http.StatusOK:
		_, ok := body[key]
		return ok, nil
	}
	return false, nil
}

package builderweb

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
)

// Instance is another builder-web, which is asked only whether it built the
// same bytes too.
type Instance struct{ s *Source }

// ParseInstance reads the URL of a builder-web, a flag's value: https, or
// builder-web+https as in --from, and no path. The error is a *fault.Error of
// kind Usage.
func ParseInstance(flag, value string) (*url.URL, error) {
	u, err := source.ParseHTTPS(flag, value, strings.TrimPrefix(value, "builder-web+"))
	switch {
	case err != nil:
		return nil, err
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery:
		return nil, source.Usagef(flag, value, "it is asked for any job: give scheme and host only")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// NewInstance returns the builder-web at base, which ParseInstance made;
// nothing is asked.
func NewInstance(base *url.URL, c *source.Client) *Instance {
	return &Instance{New(Spec{Host: base.Host}, Deps{HTTP: c})}
}

// String is its URL.
func (i *Instance) String() string { return i.s.base.String() }

// Built returns the uuid of its newest build with a file of this id; "" there
// is none. Only a 302 to a build of its own says that there is one: a login
// page redirects too.
func (i *Instance) Built(ctx context.Context, id artifact.ID) (string, error) {
	u := i.s.at("hash")
	u.RawQuery = url.Values{"sha256": {id.Hex()}}.Encode()
	name := "build with " + id.Short() + " at " + i.String()
	var at place
	status, _, err := i.s.d.HTTP.Ask(ctx, source.Request{
		Name: name, URL: u, Header: http.Header{"Accept": {asJSON}}, MaxBody: maxBuild, Known: "hash",
		Also: []int{http.StatusNotFound},
		Redirect: func(to *url.URL) (err error) {
			at, err = i.s.place(to, false)
			return err
		},
	})
	switch {
	case err != nil:
		return "", err
	case status == http.StatusNotFound:
		return "", nil
	case status != http.StatusFound:
		return "", source.Failf(artifact.Transient, nil, "%s: %d where 302 or 404 is due, something in between answers", name, status)
	}
	return at.uuid, nil
}

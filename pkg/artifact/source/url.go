package source

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// Help is the command that explains the forms of --from.
const Help = "homelab deploy watch --help"

// Usagef is a value of flag that cannot be used; nothing was contacted.
func Usagef(flag, value, format string, args ...any) *fault.Error {
	return fault.New(fault.Usage, fmt.Sprintf("%s %q cannot be used", flag, shown(value)), Help).Because(fmt.Sprintf(format, args...))
}

// shown is a URL without what may be a password.
func shown(value string) string {
	if u, err := url.Parse(value); err == nil && u.User != nil {
		u.User = url.User("…")
		value = u.Redacted()
	}
	return value
}

// ParseHTTPS reads the https URL behind a flag's value and returns it with its
// origin in canonical form: no user, no fragment, host in lower case.
func ParseHTTPS(flag, value, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, which may hold a password
		}
		return nil, Usagef(flag, value, "it is no URL: %v", err)
	}
	origin, err := transport.OriginOf(u)
	switch {
	case u.Scheme == "http":
		return nil, Usagef(flag, value, "plain http lets anyone on the way choose what runs; want https")
	case err != nil:
		return nil, Usagef(flag, value, "%v", err)
	case u.User != nil:
		return nil, Usagef(flag, value, "a user name or password in a URL is shown to everyone; use --from-token-file")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, Usagef(flag, value, "a fragment (#…) is never sent")
	}
	if _, err := Segments(u); err != nil {
		return nil, Usagef(flag, value, "%v", err)
	}
	base, err := url.Parse(origin.String())
	if err != nil {
		return nil, Usagef(flag, value, "%v", err)
	}
	u.Scheme, u.Host = base.Scheme, base.Host
	return u, nil
}

// Segments returns the path of u, decoded, segment by segment. The error is
// for a segment that would mean another path once it is decoded, or that holds
// control characters.
func Segments(u *url.URL) ([]string, error) {
	var out []string
	for s := range strings.SplitSeq(strings.TrimPrefix(u.EscapedPath(), "/"), "/") {
		d, err := url.PathUnescape(s)
		if err != nil {
			return nil, fmt.Errorf("its path is not well escaped: %w", err)
		}
		if d == "." || d == ".." || strings.ContainsAny(d, "/\\") || Text(d) != d {
			return nil, fmt.Errorf("its path has a part %q", d)
		}
		out = append(out, d)
	}
	return out, nil
}

// At returns base's origin with a path of the segments.
func At(base *url.URL, segments ...string) *url.URL {
	u := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: "/" + strings.Join(segments, "/")}
	escaped := slices.Clone(segments)
	for i, s := range escaped {
		escaped[i] = url.PathEscape(s)
	}
	u.RawPath = "/" + strings.Join(escaped, "/")
	return u
}

// SameOrigin reports whether both have scheme, host and port in common.
func SameOrigin(a, b *url.URL) bool {
	one, err := transport.OriginOf(a)
	if err != nil {
		return false
	}
	other, err := transport.OriginOf(b)
	return err == nil && one == other
}

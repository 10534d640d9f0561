package git

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Remote is what a remote's URL says about the repository on its forge. The
// user info is dropped: nothing here may show a password.
type Remote struct {
	Scheme string // https, http, ssh or git; scp-like addresses are ssh
	Host   string // lower case, ASCII, without brackets and trailing dot; may be an ssh alias
	Port   uint16 // 0: the scheme's own
	Path   string // "owner/name", any depth, decoded, without ".git" and outer slashes
}

// EscapedPath returns Path with each segment escaped, for use in a URL.
func (r Remote) EscapedPath() string {
	segments := strings.Split(r.Path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// String returns host and path, the way a person names the repository.
func (r Remote) String() string {
	host := r.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if r.Port != 0 {
		host += ":" + strconv.Itoa(int(r.Port))
	}
	return host + "/" + r.Path
}

// RemoteError is a remote URL from which no repository on a forge can be read.
type RemoteError struct {
	URL string // without user info
	Why string
}

func (e *RemoteError) Error() string { return fmt.Sprintf("remote %q: %s", e.URL, e.Why) }

// maxRemote bounds what is parsed; git's own limit for a config line is near it.
const maxRemote = 4096

// ParseRemote reads a remote's URL: https://, http://, ssh:// (also git+ssh://
// and ssh+git://), git://, and the scp-like [user@]host:path with any depth of
// groups. Percent escapes are decoded once. Local paths, file://, remote
// helpers, and paths with "." or ".." or an empty segment or a slash hidden in
// an escape are refused. The error is *RemoteError.
//
// Why not chainguard-dev/git-urls: its Parse never refuses (whatever is left
// becomes a file path), reads neither user@[::1]:a/b nor an escape in an
// scp-like path (it ends up in the query), keeps user info, and puts the whole
// URL into its errors. All that would remain of it is one regular expression
// (ADR 0020).
func ParseRemote(s string) (Remote, error) {
	r, why := parseRemote(s)
	if why != "" {
		return Remote{}, &RemoteError{URL: redactRemote(s), Why: why}
	}
	return r, nil
}

// redactRemote removes what may be user info from s, parsable or not: all that
// stands before the last @. A password may contain anything, also a slash.
func redactRemote(s string) string {
	if len(s) > maxRemote {
		s = s[:maxRemote]
	}
	scheme, rest, isURL := strings.Cut(s, "://")
	if !isURL {
		return s[strings.LastIndexByte(s, '@')+1:]
	}
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

func parseRemote(s string) (r Remote, why string) {
	switch {
	case s == "":
		return r, "it is empty"
	case len(s) > maxRemote:
		return r, "it is too long"
	case strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s):
		return r, "it contains control characters"
	case strings.Contains(s, `\`):
		return r, "a backslash stands in no repository's address; is it a local path?"
	}
	scheme, rest, isURL := strings.Cut(s, "://")
	if !isURL {
		return parseSCP(s)
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "https", "http", "ssh", "git":
	case "git+ssh", "ssh+git":
		scheme = "ssh"
	case "file":
		return r, "it is a local path"
	default:
		return r, "only https, ssh and git addresses name a repository on a forge"
	}
	authority, path, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(rest, "?#") {
		return r, "it has a query or a fragment"
	}
	authority = authority[strings.LastIndexByte(authority, '@')+1:]
	var host, port string
	bracketed := strings.HasPrefix(authority, "[")
	if bracketed {
		var closed bool
		host, port, closed = strings.Cut(authority[1:], "]")
		if !closed || (port != "" && port[0] != ':') {
			return r, "the brackets of its address are not closed"
		}
		port = strings.TrimPrefix(port, ":")
	} else {
		host, port, _ = strings.Cut(authority, ":")
	}
	r.Scheme = scheme
	if r.Host, why = cleanHost(host, bracketed); why != "" {
		return r, why
	}
	if r.Port, why = cleanPort(scheme, port); why != "" {
		return r, why
	}
	r.Path, why = cleanPath(path)
	return r, why
}

// parseSCP reads [user@]host:path, [user@][address]:path and git's
// [user@][host:port]:path.
func parseSCP(s string) (r Remote, why string) {
	const local = "it is a local path"
	r.Scheme = "ssh"
	at := strings.IndexByte(s, '[')
	var host, port, path string
	bracketed := false
	if at == 0 || at > 0 && s[at-1] == '@' && !strings.ContainsAny(s[:at], ":/") {
		inner, rest, closed := strings.Cut(s[at+1:], "]")
		if !closed || !strings.HasPrefix(rest, ":") {
			return r, "the brackets of its address are not closed"
		}
		inner = inner[strings.LastIndexByte(inner, '@')+1:]
		path = rest[1:]
		if _, err := netip.ParseAddr(inner); err == nil {
			host, bracketed = inner, true
		} else {
			host, port, _ = strings.Cut(inner, ":")
		}
	} else {
		before, after, ok := strings.Cut(s, ":")
		if !ok || strings.Contains(before, "/") || before == "" {
			return r, local // git's own rule: a slash before the first colon
		}
		if len(before) == 1 && strings.HasPrefix(after, "/") {
			return r, local // C:/...
		}
		if strings.HasPrefix(after, ":") {
			return r, "remote helpers name no repository on a forge"
		}
		host, path = before[strings.LastIndexByte(before, '@')+1:], after
		if first, _, _ := strings.Cut(path, "/"); strings.ContainsAny(first, "@:") {
			return r, "user:password@host is not an address git knows without https://"
		}
	}
	if r.Host, why = cleanHost(host, bracketed); why != "" {
		return r, why
	}
	if r.Port, why = cleanPort("ssh", port); why != "" {
		return r, why
	}
	r.Path, why = cleanPath(strings.TrimPrefix(path, "/"))
	return r, why
}

func cleanHost(host string, bracketed bool) (clean, why string) {
	if bracketed {
		if zone := strings.Index(host, "%25"); zone >= 0 {
			host = host[:zone+1] + host[zone+3:] // in a URL the % of a zone is escaped
		}
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() || strings.ContainsFunc(addr.Zone(), notInName) {
			return "", "the address in brackets is no IPv6 address"
		}
		return strings.ToLower(addr.String()), ""
	}
	host = strings.TrimSuffix(host, ".")
	if strings.ContainsFunc(host, func(c rune) bool { return c > unicode.MaxASCII }) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", "its host is no valid name"
		}
		host = ascii
	}
	if host == "" {
		return "", "it has no host"
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || strings.ContainsFunc(label, notInName) {
			return "", "its host is no valid name"
		}
	}
	return strings.ToLower(host), ""
}

// notInName says that c stands in no host name; ssh aliases and names on local
// networks do contain underscores.
func notInName(c rune) bool {
	return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
}

// cleanPort returns 0 for no port and for the scheme's own.
func cleanPort(scheme, port string) (n uint16, why string) {
	if port == "" {
		return 0, ""
	}
	v, err := strconv.ParseUint(port, 10, 16)
	if err != nil || v == 0 {
		if scheme == "ssh" {
			return 0, "what follows its host is no port; it is ssh://host/owner/name, or host:owner/name without ssh://"
		}
		return 0, "what follows its host is no port" // not shown: it may be a password
	}
	own := map[string]uint64{"https": 443, "http": 80, "ssh": 22, "git": 9418}
	if own[scheme] == v {
		return 0, ""
	}
	return uint16(v), ""
}

// cleanPath takes the path without its leading slash.
func cleanPath(path string) (clean, why string) {
	segments := strings.Split(strings.TrimRight(path, "/"), "/")
	for i, s := range segments {
		s, err := url.PathUnescape(s)
		if err != nil {
			return "", "its path has a broken percent escape"
		}
		if i == len(segments)-1 {
			s = strings.TrimSuffix(s, ".git")
		}
		switch {
		case s == "" || s == "." || s == ".." || s == ".git":
			return "", "its path has an empty segment, a dot segment or none at all"
		case strings.ContainsAny(s, `/\`), strings.ContainsFunc(s, unicode.IsControl), !utf8.ValidString(s):
			return "", "an escape in its path hides a slash or a control character"
		case s == "~":
			return "", "it is a path in a home directory"
		}
		segments[i] = s
	}
	if len(segments) < 2 {
		return "", "its path is not OWNER/NAME"
	}
	return strings.Join(segments, "/"), ""
}

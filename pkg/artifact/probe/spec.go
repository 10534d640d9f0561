package probe

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/program"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// Kind is what a probe does.
type Kind string

// The kinds of probe.
const (
	HTTP Kind = "http" // GETs a URL
	TCP  Kind = "tcp"  // connects
	Exec Kind = "exec" // runs a program
)

// Spec is one probe. Texts may have the placeholders {sha256}, {sha256:N},
// {commit} and {uuid}, but not where the probe goes to.
type Spec struct {
	Kind Kind
	At   string // URL, HOST:PORT or absolute path

	// Of an HTTP probe, what must be so.
	Status int    // of the answer; 0: 200 to 299
	Body   string // is somewhere in the first MiB of it; "" anything
	Header string // a header it has, in the canonical form; "" none is asked for
	Value  string // is somewhere in one of that header's values
	Dial   transport.Pin
}

// options are the keys beside the kind, of an HTTP probe.
func options() []string { return []string{"status", "body", "header", "dial"} }

// Parse reads the form of the flag: KIND:WHERE and, of http, words KEY=VALUE
// behind it. A value with blanks stands in quotes, " or '. Nothing is contacted.
// The error is a *fault.Error of kind Usage.
func Parse(flag string) (Spec, error) {
	words, ok := split(flag)
	if !ok || len(words) == 0 {
		return Spec{}, usage(flag, "a quote is not closed, or it is empty")
	}
	m := map[string]string{}
	kind, at, _ := strings.Cut(words[0], ":")
	if strings.HasPrefix(at, "//") || kind == "https" { // a URL says what it is
		kind, at = "http", words[0]
	}
	if !slices.Contains([]Kind{HTTP, TCP, Exec}, Kind(kind)) {
		return Spec{}, usage(flag, "want http:URL, tcp:HOST:PORT or exec:PATH")
	}
	m[kind] = at
	for _, w := range words[1:] {
		key, value, found := strings.Cut(w, "=")
		switch _, twice := m[key]; {
		case !found:
			return Spec{}, usage(flag, fmt.Sprintf("%.60q is no KEY=VALUE; a value with blanks stands in quotes", w))
		case twice:
			return Spec{}, usage(flag, key+" is given twice")
		case !slices.Contains(options(), key):
			return Spec{}, usage(flag, fmt.Sprintf("%.60q is not known; there are status=, body=, header= and dial=", key))
		}
		m[key] = value
	}
	return fromMap(flag, m)
}

// FromMap reads the form of a watches file, whose keys are one of http, tcp and
// exec, and those of the flag.
func FromMap(m map[string]string) (Spec, error) {
	var show []string
	for k, v := range m {
		show = append(show, k+": "+v)
	}
	slices.Sort(show)
	return fromMap("{"+strings.Join(show, ", ")+"}", m)
}

func fromMap(shown string, m map[string]string) (Spec, error) {
	var s Spec
	var more []string
	for k, v := range m {
		switch Kind(k) {
		case HTTP, TCP, Exec:
			if s.Kind != "" {
				return Spec{}, usage(shown, "it is one of http, tcp and exec")
			}
			s.Kind, s.At = Kind(k), v
		default:
			if !slices.Contains(options(), k) {
				return Spec{}, usage(shown, fmt.Sprintf("%.60q is not known; there are http, tcp and exec, and with http status, body, header and dial", k))
			}
			more = append(more, k)
		}
	}
	slices.Sort(more)
	if s.Kind == "" {
		return Spec{}, usage(shown, "want http:URL, tcp:HOST:PORT or exec:PATH")
	}
	if s.Kind != HTTP && len(more) > 0 {
		return Spec{}, usage(shown, fmt.Sprintf("%s goes with http only", more[0]))
	}
	for _, k := range more {
		if why := s.set(k, m[k]); why != "" {
			return Spec{}, usage(shown, k+": "+why)
		}
	}
	if why := s.check(); why != "" {
		return Spec{}, usage(shown, why)
	}
	return s, nil
}

// set takes one option and says what is wrong with it.
func (s *Spec) set(key, value string) string {
	switch key {
	case "status":
		n, err := strconv.Atoi(value)
		if err != nil || n < 100 || n > 599 || len(value) != 3 {
			return "want a number from 100 to 599"
		}
		s.Status = n
	case "body":
		if value == "" {
			return "is empty, and every answer contains nothing"
		}
		s.Body = value
	case "header":
		name, v, found := strings.Cut(value, ":")
		if !found || strings.Trim(name, tokenChars) != "" || name == "" {
			return "want NAME:VALUE"
		}
		s.Header, s.Value = canonical(name), strings.TrimSpace(v)
	case "dial":
		pin, err := transport.ParsePin(value)
		if err != nil {
			return err.Error()
		}
		s.Dial = pin
	}
	return ""
}

// check says what is wrong with where the probe goes, and with placeholders.
func (s *Spec) check() string {
	for _, text := range []string{s.At, s.Body, s.Value} {
		if _, wrong := program.Placeholders(text); wrong != "" {
			return wrong + " is no placeholder; there are {sha256}, {sha256:N} with N up to 64, {commit} and {uuid}"
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "there is a control character in it"
		}
	}
	switch s.Kind {
	case HTTP:
		return s.checkURL()
	case TCP:
		host, port, err := net.SplitHostPort(s.At)
		n, bad := strconv.ParseUint(port, 10, 16)
		if err != nil || bad != nil || n == 0 || host == "" || strings.ContainsAny(host, " /{}") {
			return "want tcp:HOST:PORT; an IPv6 address stands in brackets"
		}
	case Exec:
		if !filepath.IsAbs(s.At) || strings.HasSuffix(s.At, "/") {
			return "want the absolute path of a program"
		}
		if has, _ := program.Placeholders(s.At); has {
			return "a path has no placeholders; the program finds them in its environment, as HOMELAB_ARTIFACT_SHA256 and so on"
		}
	}
	return ""
}

func (s *Spec) checkURL() string {
	sample := artifact.Candidate{
		ID: artifact.ID("sha256:" + strings.Repeat("0", 64)), Kind: artifact.File,
		Meta: artifact.Meta{Commit: strings.Repeat("0", 40), UUID: "00000000-0000-0000-0000-000000000000"},
	}
	filled, _ := program.Fill(s.At, sample)
	u, err := url.Parse(filled)
	if err != nil {
		return "the URL cannot be read"
	}
	if u.User != nil {
		return "no password belongs into a URL, it would be shown"
	}
	if _, err := transport.OriginOf(u); err != nil {
		return "want http:URL with an http or https URL: " + err.Error()
	}
	rest := s.At[strings.Index(s.At, "://")+3:]
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	if strings.Contains(rest, "{") {
		return "the host has no placeholders: it is known before the artifact is"
	}
	return ""
}

// Baseline reports whether the probe says something of a version that is not
// the candidate: it has no placeholders.
func (s Spec) Baseline() bool {
	for _, text := range []string{s.At, s.Body, s.Value} {
		if has, _ := program.Placeholders(text); has {
			return false
		}
	}
	return true
}

// String is what Parse reads, in one form for each Spec.
func (s Spec) String() string {
	out := quoted(string(s.Kind) + ":" + s.At)
	if s.Kind == HTTP {
		out = quoted(s.At)
	}
	if s.Status != 0 {
		out += " status=" + strconv.Itoa(s.Status)
	}
	if s.Body != "" {
		out += " body=" + quoted(s.Body)
	}
	if s.Header != "" {
		out += " header=" + quoted(s.Header+":"+s.Value)
	}
	if s.Dial.Addr.IsValid() {
		out += " dial=" + s.Dial.String()
	}
	return out
}

// tokenChars are those of a header's name.
const tokenChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

// split cuts s into words at blanks outside quotes. Quotes are removed where
// they begin a word or a value: {"ok":true} needs none.
func split(s string) ([]string, bool) {
	var words []string
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		if s == "" {
			return words, true
		}
		var w strings.Builder
		for fresh := true; s != "" && !strings.ContainsRune(" \t\r\n", rune(s[0])); {
			c := s[0]
			if fresh && (c == '"' || c == '\'') {
				end := strings.IndexByte(s[1:], c)
				if end < 0 {
					return nil, false
				}
				w.WriteString(s[1 : 1+end])
				s = s[2+end:]
				if s != "" && !strings.ContainsRune(" \t\r\n", rune(s[0])) {
					return nil, false
				}
				break
			}
			fresh = c == '=' && !strings.Contains(w.String(), "=")
			w.WriteByte(c)
			s = s[1:]
		}
		words = append(words, w.String())
	}
}

// quoted is s as split reads it.
func quoted(s string) string {
	switch {
	case s != "" && !strings.ContainsAny(s, " \t") && !strings.ContainsAny(s[:1], `"'`):
		return s
	case strings.Contains(s, `"`):
		return "'" + s + "'"
	}
	return `"` + s + `"`
}

func usage(shown, why string) error {
	return fault.Usagef("homelab deploy watch --help", "--probe %.300s", shown).Because(why)
}

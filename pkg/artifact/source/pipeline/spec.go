package pipeline

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/artifact/source/image"
	"homelab/pkg/fault"
	"homelab/pkg/woodpecker"
)

// Scheme begins a source of this kind.
const Scheme = "woodpecker:"

// Spec says which pipelines bring an artifact, and where it lies.
type Spec struct {
	Repo      string // OWNER/NAME, more segments allowed
	Branch    string
	Event     woodpecker.Event
	Workflows []string // that must have passed, sorted; nil: the whole pipeline
	Artifact  Template
}

// Parse reads woodpecker:OWNER/REPO?branch=B[&event=push][&workflow=W...] and
// the template given with --artifact. The error is a *fault.Error of kind
// Usage. Nothing is contacted.
func Parse(from, template string) (Spec, error) {
	no := func(why string) (Spec, error) {
		return Spec{}, source.Usagef("--from", from, "%s", why)
	}
	rest, ok := strings.CutPrefix(from, Scheme)
	if !ok || strings.HasPrefix(rest, "//") {
		return no("want woodpecker:OWNER/REPO?branch=B, at the configured server")
	}
	name, query, _ := strings.Cut(rest, "?")
	s := Spec{Repo: name, Event: woodpecker.Push}
	parts := strings.Split(name, "/")
	bad := slices.ContainsFunc(parts, func(p string) bool {
		return p == "." || p == ".." || !regexp.MustCompile(`^[A-Za-z0-9._-]+$`).MatchString(p)
	})
	if bad || len(parts) < 2 {
		return no("the repository is OWNER/REPO")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return no(err.Error())
	}
	for key, v := range values {
		for _, text := range v {
			if text == "" || text != source.Text(text) || len(text) > 255 {
				return no(source.Text(key) + "= has no usable value")
			}
		}
		if key != "workflow" && len(v) > 1 {
			return no(source.Text(key) + "= is given twice")
		}
		switch key {
		case "branch":
			s.Branch = v[0]
		case "event":
			s.Event = woodpecker.Event(v[0])
		case "workflow":
			slices.Sort(v)
			s.Workflows = slices.Compact(v)
		default:
			return no("it takes branch=, event= and workflow=, not " + source.Text(key) + "=")
		}
	}
	switch {
	case s.Branch == "":
		return no("branch= is missing: each branch is a source of its own")
	case !slices.Contains(woodpecker.Events(), s.Event):
		return no(fmt.Sprintf("%q is no event; there are %v", source.Text(string(s.Event)), woodpecker.Events()))
	}
	s.Artifact, err = parseTemplate(template)
	return s, err
}

// String is what Parse reads, in its one form, with the template behind it.
func (s Spec) String() string {
	q := url.Values{"branch": {s.Branch}, "event": {string(s.Event)}}
	if len(s.Workflows) > 0 {
		q["workflow"] = s.Workflows
	}
	return Scheme + s.Repo + "?" + q.Encode() + " " + string(s.Artifact)
}

// Kind is what the template's artifacts are.
func (s Spec) Kind() artifact.Kind {
	if s.Artifact.image() {
		return artifact.Image
	}
	return artifact.File
}

// Registry is the host that images come from; "" for files.
func (s Spec) Registry() string {
	if !s.Artifact.image() {
		return ""
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(string(s.Artifact), image.Scheme), "/")
	return strings.ToLower(host)
}

// Template is where a pipeline's artifact lies: an oci:// or https:// form with
// {sha}, {shaN} (the first N digits, 7 to 40) or {number}.
type Template string

func (t Template) image() bool { return strings.HasPrefix(string(t), image.Scheme) }

// placeholder is anything in braces; what is inside decides.
func placeholder() *regexp.Regexp { return regexp.MustCompile(`\{[^{}]*\}`) }

// Fill puts a pipeline's commit (40 or 64 hex digits) and number in.
func (t Template) Fill(commit string, number int64) string {
	return placeholder().ReplaceAllStringFunc(string(t), func(p string) string {
		switch n, ok := digits(p); {
		case p == "{number}":
			return strconv.FormatInt(number, 10)
		case ok:
			return commit[:min(n, len(commit))]
		}
		return p
	})
}

// digits reads {sha} (all of them) and {shaN}.
func digits(p string) (int, bool) {
	text, ok := strings.CutPrefix(strings.Trim(p, "{}"), "sha")
	if !ok || text == "" {
		return 64, ok
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && strconv.Itoa(n) == text && n >= 7 && n <= 40
}

func parseTemplate(text string) (Template, error) {
	no := func(why string) (Template, error) {
		return "", source.Usagef("--artifact", text, "%s", why)
	}
	t := Template(text)
	if text == "" {
		return "", fault.Usagef(source.Help, "--from woodpecker: needs --artifact").
			Because("it says where a pipeline's artifact lies, like oci://reg.example.lan/shop:main-{sha8}")
	}
	found := placeholder().FindAllString(text, -1)
	for _, p := range found {
		if _, ok := digits(p); !ok && p != "{number}" {
			return no(source.Text(p) + " is none of {sha}, {sha7} to {sha40} and {number}")
		}
	}
	if len(found) == 0 {
		return no("without {sha}, {sha8} or {number} any pipeline's artifact would be taken for any other's")
	}
	filled := t.Fill(strings.Repeat("0", 40), 1)
	if strings.ContainsAny(filled, "{}") {
		return no("its braces do not match")
	}
	scheme, rest, _ := strings.Cut(text, "://")
	host, _, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(host, "{?#") {
		return no("the host must not depend on the pipeline")
	}
	switch scheme {
	case "oci":
		if _, err := image.Parse(filled); err != nil {
			why := err.Error()
			if f := asFault(err); f != nil {
				why = f.Why
			}
			return no(why)
		}
		return t, nil
	case "https":
		u, err := source.ParseHTTPS("--artifact", text, filled)
		if err == nil && strings.Trim(u.Path, "/") == "" {
			return no("want https://HOST/PATH")
		}
		return t, err
	}
	return no("want an oci:// or https:// form")
}

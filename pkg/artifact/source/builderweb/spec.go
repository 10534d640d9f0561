// Package builderweb is the source of artifacts that a builder-web offers
// (https://github.com/robur-coop/builder-web): reproducible builds of jobs, read
// without a login.
//
// What ties a build to a job is the Location of /job/J/build/latest or of
// /hash, nothing else: /job/J/build/U finds U under any job's name and repeats
// J in its answer. What ties bytes to a build is the ETag of its file, the
// sha256 itself; it is compared byte for byte by the server, so it can be
// computed from what runs, and a rebuild with the same bytes costs no download.
package builderweb

import (
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"homelab/pkg/artifact/source"
)

// Scheme is how --from begins.
const Scheme = "builder-web+https://"

// Spec is a parsed --from.
type Spec struct {
	Host     string // lower case, :port if it is not 443
	Job      string
	Platform string // "": any
	Artifact string // path of a file of the build; "": the main binary
}

// Parse reads builder-web+https://HOST/job/J[?platform=P][&artifact=PATH]. The
// error is a *fault.Error of kind Usage.
func Parse(from string) (Spec, error) {
	const flag = "--from"
	rest, ok := strings.CutPrefix(from, Scheme)
	if !ok {
		return Spec{}, source.Usagef(flag, from, "want %sHOST/job/J", Scheme)
	}
	u, err := source.ParseHTTPS(flag, from, "https://"+rest)
	if err != nil {
		return Spec{}, err
	}
	seg, err := source.Segments(u)
	if err != nil {
		return Spec{}, source.Usagef(flag, from, "%v", err)
	}
	if len(seg) == 3 && seg[2] == "" {
		seg = seg[:2]
	}
	if len(seg) != 2 || seg[0] != "job" || seg[1] == "" {
		return Spec{}, source.Usagef(flag, from, "its path is not /job/J")
	}
	s := Spec{Host: u.Host, Job: seg[1]}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Spec{}, source.Usagef(flag, from, "%v", err)
	}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		values := query[key]
		switch {
		case key != "platform" && key != "artifact":
			return Spec{}, source.Usagef(flag, from, "%q is not known here; platform and artifact are", key)
		case len(values) != 1 || values[0] == "":
			return Spec{}, source.Usagef(flag, from, "%s wants one value", key)
		case key == "platform" && !isPlatform(values[0]):
			return Spec{}, source.Usagef(flag, from, "platform %q has characters that no platform has", values[0])
		case key == "artifact" && !isPath(values[0]):
			return Spec{}, source.Usagef(flag, from, "artifact %q is not a plain path such as bin/x.hvt", values[0])
		}
	}
	s.Platform, s.Artifact = query.Get("platform"), query.Get("artifact")
	return s, nil
}

// String is the canonical --from: equal for equal sources.
func (s Spec) String() string {
	u := source.At(s.Base(), "job", s.Job)
	q := url.Values{}
	if s.Platform != "" {
		q.Set("platform", s.Platform)
	}
	if s.Artifact != "" {
		q.Set("artifact", s.Artifact)
	}
	u.RawQuery = q.Encode()
	return "builder-web+" + u.String()
}

// Base is the server's URL, for its transport.
func (s Spec) Base() *url.URL { return &url.URL{Scheme: "https", Host: s.Host} }

// isPlatform reports whether p may be shown and put into a variable.
func isPlatform(p string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`).MatchString(p)
}

func isUUID(u string) bool {
	return regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(u)
}

// isPath reports whether p names a file below a build and nothing else.
func isPath(p string) bool {
	return p != "" && !path.IsAbs(p) && path.Clean(p) == p && p != "." && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.Contains(p, "\\") && source.Text(p) == p
}

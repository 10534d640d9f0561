// Package web is the source of a file behind an https URL, alone or announced
// by a checksum file.
//
// The id is the sha256 of the bytes. Without a checksum file it is known only
// by reading them, so a look that finds a change reads them all, and the
// download reads them again: what changed in between is looked at anew and is
// no verdict. With a checksum file that is asked instead of the bytes, and
// bytes that disagree with it for a minute are refused.
package web

import (
	"net/url"

	"homelab/pkg/artifact/source"
)

// Spec is a parsed --from and --from-sums, both canonical.
type Spec struct {
	URL  string
	Sums string // "": none
}

// Parse reads https://HOST/PATH and, if it is not empty, the URL of the
// checksum file. The error is a *fault.Error of kind Usage.
func Parse(from, sums string) (Spec, error) {
	u, err := source.ParseHTTPS("--from", from, from)
	if err != nil {
		return Spec{}, err
	}
	if u.Path == "" {
		u.Path = "/"
	}
	s := Spec{URL: u.String()}
	if sums == "" {
		return s, nil
	}
	if name, err := baseName(u); err != nil || name == "" {
		return Spec{}, source.Usagef("--from", from, "it names no file that --from-sums could list")
	}
	v, err := source.ParseHTTPS("--from-sums", sums, sums)
	if err != nil {
		return Spec{}, err
	}
	if v.Path == "" {
		v.Path = "/"
	}
	s.Sums = v.String()
	return s, nil
}

// String is equal for equal sources.
func (s Spec) String() string {
	if s.Sums == "" {
		return s.URL
	}
	return s.URL + " sums " + s.Sums
}

// Base is the file's URL, for its transport. The checksum file may be of
// another origin, which gets neither the pin nor the token of this one.
func (s Spec) Base() (*url.URL, error) { return url.Parse(s.URL) }

// baseName is the name under which checksum files list u.
func baseName(u *url.URL) (string, error) {
	seg, err := source.Segments(u)
	if err != nil {
		return "", err
	}
	return seg[len(seg)-1], nil
}

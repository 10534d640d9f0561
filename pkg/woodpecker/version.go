package woodpecker

import (
	"strings"

	"golang.org/x/mod/semver"
)

// Version is what a server calls itself: "3.17.0", "3.14.0-rc.1", "dev",
// "next-5f3a2b1c8d", or "" when it did not say.
type Version string

func (v Version) semver() string {
	s := "v" + strings.TrimPrefix(string(v), "v")
	if !semver.IsValid(s) {
		return ""
	}
	return s
}

// Release says whether v is a released version, no pre-release and no build
// from a branch.
func (v Version) Release() bool {
	s := v.semver()
	return s != "" && semver.Prerelease(s) == ""
}

// AtLeast says whether v is provably want ("3.14.0") or newer. A version that
// cannot be read is not.
func (v Version) AtLeast(want string) bool {
	s := v.semver()
	return s != "" && semver.Compare(s, "v"+want) >= 0
}

// Before says whether v is provably older than want.
func (v Version) Before(want string) bool {
	s := v.semver()
	return s != "" && semver.Compare(s, "v"+want) < 0
}

// StreamSafe says whether the server survives clients that hang up on its
// event stream: a release of 3.14.0 or newer. Older ones, release candidates
// and builds from branches could crash on it (woodpecker #5738, #6454).
func (v Version) StreamSafe() bool { return v.Release() && v.AtLeast("3.14.0") }

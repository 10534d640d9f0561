package rollout

import (
	"slices"
	"strings"
)

// RunningID is the identity a kubelet reports for a running image.
type RunningID struct {
	Repo   string // "" for a local image
	Digest string // of the index, the platform's manifest or, of a local image, the configuration; "" unknown
}

// ParseImageID reads a container status' imageID. The name in a status' image
// is no evidence: it is any name that the runtime has for the same digest.
func ParseImageID(s string) RunningID {
	if _, rest, ok := strings.Cut(s, "://"); ok { // docker-pullable://, docker://
		s = rest
	}
	repo, digest, ok := strings.Cut(s, "@")
	if !ok {
		repo, digest = "", s
	}
	algorithm, hex, ok := strings.Cut(digest, ":")
	if !ok || algorithm == "" || !isHex(hex) {
		return RunningID{}
	}
	return RunningID{Repo: repo, Digest: digest}
}

// identity is what can be said about a running image.
type identity int

const (
	identityUnknown identity = iota // nothing comparable, and nothing will come
	identityAwaited                 // an answer is on its way
	identityRight
	identityByTag // as right, but only the tag vouches for it
	identityWrong
)

// asked is what the registry says about ref; known is false when it failed.
// Without an answer it asks for one.
func (a *assessor) asked(ref string) (answer ImageAnswer, known, awaited bool) {
	answer, ok := a.s.Images[ref]
	if !ok {
		a.want(Want{Kind: WantImage, Reference: ref})
		return ImageAnswer{}, false, true
	}
	return answer, answer.Err == "", false
}

// identify judges what container c of the target revision runs, given the id
// its status shows.
func (a *assessor) identify(c Container, imageID string) identity {
	running := ParseImageID(imageID)
	if running.Digest == "" {
		return identityUnknown
	}
	ref, e := ParseReference(c.Image), a.gate.expected
	pin, explicit := ref.Digest, ref.Digest != ""
	if e.Digest != "" && slices.Contains(a.gate.containers, c.Name) {
		pin, explicit = e.Digest, true
	}
	if explicit {
		if running.Digest == pin {
			return identityRight
		}
		answer, known, awaited := a.asked(ref.at(pin))
		switch {
		case awaited:
			return identityAwaited
		case !known || len(answer.Closure) == 0:
			return identityUnknown
		case slices.Contains(answer.Closure, running.Digest):
			return identityRight
		case running.Repo == "" && !closesOverConfigs(answer):
			return identityUnknown
		default:
			return identityWrong
		}
	}
	vouched := a.gate.tagged[c.Name] || (e.Commit == "" && e.Build == "" && !ref.Mutable())
	answer, ok := a.s.Images[c.Image]
	switch {
	case !ok && vouched:
		return identityByTag // a registry is asked only where a tag does not say enough
	case !ok && !ref.Mutable() && a.gate.by != "label" && a.gate.by != "image" && a.gate.by != "digest":
		return identityUnknown
	case !ok:
		a.want(Want{Kind: WantImage, Reference: c.Image})
		return identityAwaited
	case answer.Err != "" || len(answer.Closure) == 0:
		if vouched {
			return identityByTag
		}
		return identityUnknown
	case slices.Contains(answer.Closure, running.Digest):
		return identityRight
	case running.Repo == "":
		return identityUnknown // a local image has nothing to ask a registry for
	}
	// The tag may have moved between the pull and the answer. What runs is
	// wrong only if its own revision says so.
	mine, known, awaited := a.asked(ref.at(running.Digest))
	switch {
	case awaited:
		return identityAwaited
	case !known || len(mine.Revisions) == 0:
		return identityUnknown
	case e.Commit != "" || e.Build != "":
		if slices.ContainsFunc(mine.Revisions, func(r string) bool { return carries(r, e, false) }) {
			return identityRight
		}
		return identityWrong
	case len(answer.Revisions) == 0:
		return identityUnknown
	case slices.ContainsFunc(mine.Revisions, func(r string) bool { return slices.Contains(answer.Revisions, r) }):
		return identityRight
	default:
		return identityWrong
	}
}

// closesOverConfigs reports whether a closure holds more than the manifests
// that lead to it, without which a local image cannot be compared.
func closesOverConfigs(i ImageAnswer) bool { return len(i.Closure) > 1 }

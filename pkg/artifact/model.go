package artifact

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// ID names an artifact for ever: "sha256:HEX" (a file's hash, an image's
// digest) or "commit:HEX". Lower case; the zero value names nothing. Two
// artifacts are the same exactly if their ids are equal.
type ID string

// NewID returns the id of a SHA-256 sum.
func NewID(sum [32]byte) ID { return ID("sha256:" + hex.EncodeToString(sum[:])) }

// ParseID reads "sha256:" and 64 hex digits, or "commit:" and 40 or 64.
func ParseID(s string) (ID, error) {
	form, digits, _ := strings.Cut(s, ":")
	digits = strings.ToLower(digits)
	ok := form == "sha256" && len(digits) == 64 || form == "commit" && (len(digits) == 40 || len(digits) == 64)
	if _, err := hex.DecodeString(digits); err != nil || !ok {
		return "", fmt.Errorf("%q is no artifact: want sha256: and 64 hex digits", s)
	}
	return ID(form + ":" + digits), nil
}

// Hex is the id without its form.
func (id ID) Hex() string {
	_, digits, _ := strings.Cut(string(id), ":")
	return digits
}

// Short is the first eight hex digits, for people.
func (id ID) Short() string {
	h := id.Hex()
	return h[:min(8, len(h))]
}

// Kind is what an artifact is; it decides which targets can take it.
type Kind string

// The kinds of artifact.
const (
	File   Kind = "file"   // bytes, kept in the store
	Image  Kind = "image"  // in a registry, named by digest; nothing is downloaded
	Commit Kind = "commit" // of a repository
)

// Candidate is an artifact that a source offers. It is kept in the journal, so
// it holds all a source needs to fetch it after a restart.
type Candidate struct {
	ID   ID   `json:"id"`
	Kind Kind `json:"kind"`
	// Order only serves to refuse going back: a candidate whose order is smaller
	// than that of what runs is older. 0: the source has no order.
	Order int64 `json:"order,omitempty"`
	Size  int64 `json:"size,omitempty"` // bytes; 0 not announced
	// Made is when it was built, for --min-age and --max-age; zero: unknown, and
	// the time of first sight counts.
	Made time.Time `json:"made,omitzero"`
	// Location is where its source finds it (a URL, a path): the source's own.
	Location string `json:"location,omitempty"`
	Ref      string `json:"ref,omitempty"` // an image: REPO[:TAG]@sha256:HEX
	Meta     Meta   `json:"meta,omitzero"`
}

// Meta is what is told about a candidate and goes into placeholders and
// variables. It is foreign text: sources validate each field before they set it.
type Meta struct {
	UUID     string `json:"uuid,omitempty"`
	Commit   string `json:"commit,omitempty"` // 40 or 64 lower-case hex digits
	URL      string `json:"url,omitempty"`    // of the build, for people
	Pipeline int64  `json:"pipeline,omitempty"`
	Platform string `json:"platform,omitempty"`
}

// Version is an artifact that the target runs or ran.
type Version struct {
	Candidate
	Since time.Time `json:"since,omitzero"` // when the watch saw it run first
}

// Form is what kind of name an expectation is.
type Form string

// The forms of expectations.
const (
	ByID     Form = "sha256"
	ByUUID   Form = "uuid"
	ByCommit Form = "commit"
)

// Expectation is an artifact somebody waits for. It selects nothing: it says
// what to look out for. The zero value expects nothing.
type Expectation struct {
	Form  Form
	Value string // lower case; a commit may be a prefix of 7 digits or more
}

// errExpectation is of every malformed expectation.
var errExpectation = errors.New("want sha256: and 64 hex digits, uuid: and a UUID, or commit: and 7 to 64 hex digits")

// ParseExpectation reads sha256:HEX, uuid:UUID or commit:HEX.
func ParseExpectation(s string) (Expectation, error) {
	form, value, _ := strings.Cut(s, ":")
	value = strings.ToLower(value)
	pattern, known := map[string]string{
		string(ByID):     `^[0-9a-f]{64}$`,
		string(ByUUID):   `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`,
		string(ByCommit): `^[0-9a-f]{7,64}$`,
	}[form]
	if !known || !regexp.MustCompile(pattern).MatchString(value) {
		return Expectation{}, fmt.Errorf("expectation %.80q: %w", s, errExpectation)
	}
	return Expectation{Form(form), value}, nil
}

// IsZero reports whether nothing is expected.
func (e Expectation) IsZero() bool { return e.Value == "" }

func (e Expectation) String() string {
	if e.IsZero() {
		return ""
	}
	return string(e.Form) + ":" + e.Value
}

// Short is for people.
func (e Expectation) Short() string {
	if e.IsZero() {
		return ""
	}
	return string(e.Form) + ":" + e.Value[:min(8, len(e.Value))]
}

// Is reports whether c is what is expected.
func (e Expectation) Is(c Candidate) bool {
	switch e.Form {
	case ByID:
		return c.ID == ID(e.String())
	case ByUUID:
		return c.Meta.UUID != "" && strings.EqualFold(c.Meta.UUID, e.Value)
	case ByCommit:
		return strings.HasPrefix(c.Meta.Commit, e.Value) || strings.HasPrefix(string(c.ID), e.String())
	}
	return false
}

// Phase is how far a watch is with an artifact. From Switching on the target
// may have changed.
type Phase string

// The phases. Held, paused, pinned, drifted, contended, source_regressed,
// stale and upstream_failing stand beside them: State.Shown has them all.
const (
	Idle        Phase = "idle"
	Offered     Phase = "candidate"
	Fetching    Phase = "fetching"
	Verified    Phase = "verified"
	Staged      Phase = "staged"
	Switching   Phase = "switching"
	Probing     Phase = "probing"
	Soaking     Phase = "soaking"
	Live        Phase = "live"
	RollingBack Phase = "rolling_back"
	RolledBack  Phase = "rolled_back"
	Halted      Phase = "halted"
)

// Begun reports whether the target may have been touched and the outcome is
// open: nothing but the outcome ends these phases.
func (p Phase) Begun() bool {
	return p == Switching || p == Probing || p == Soaking || p == RollingBack
}

// Working reports whether a deployment is in progress.
func (p Phase) Working() bool {
	return p == Fetching || p == Verified || p == Staged || p.Begun()
}

// Sight is what an observation could tell.
type Sight string

// What can be seen of a target. The zero value is not a sight.
const (
	Runs    Sight = "runs"    // ID runs
	Nothing Sight = "none"    // the target is there and runs nothing yet
	Unknown Sight = "unknown" // it could not be told
)

// Observation is what a target runs.
type Observation struct {
	Sight Sight `json:"sight"`
	ID    ID    `json:"id,omitempty"` // with Runs
	// Owner is who put it there, if the target knows and it is not this watch.
	// A stranger's image within the soak makes the watch contended.
	Owner string `json:"owner,omitempty"`
	Why   string `json:"why,omitempty"` // with Unknown
	// Ref and Commit are what the target can tell of an image that it runs:
	// REPO[:TAG]@sha256:HEX, and the commit its template names. They are kept of
	// a version that is adopted, so that it can be gone back to.
	Ref    string `json:"ref,omitempty"`
	Commit string `json:"commit,omitempty"`
}

// Is reports whether id was seen to run.
func (o Observation) Is(id ID) bool { return o.Sight == Runs && id != "" && o.ID == id }

func (o Observation) String() string {
	switch o.Sight {
	case Runs:
		return o.ID.Short()
	case Nothing:
		return "nothing"
	case Unknown:
	}
	return "an unknown version"
}

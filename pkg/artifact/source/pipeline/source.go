// Package pipeline is the source woodpecker:OWNER/REPO?branch=B with a template
// that says where a pipeline's artifact lies. A candidate needs both: a pipeline
// that passed, and its artifact. It decides which pipeline's artifact that is,
// and what pipelines that run or failed mean to whoever waits; what an artifact
// is is left to the sources of images and files.
package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/artifact/source/image"
	"homelab/pkg/fault"
	"homelab/pkg/woodpecker"
)

const (
	mostAfter = time.Hour // no server silences a watch for good
	perPage   = 10
	maxPages  = 5
	maxTries  = 5  // artifacts asked for in one look
	maxChain  = 32 // restarts of restarts
	maxKnown  = 1024
	maxFiles  = 16
	uploading = 10 * time.Minute // an artifact may come so long after its pipeline
)

// Server is what is asked about pipelines; *woodpecker.Client answers.
type Server interface {
	Lookup(ctx context.Context, fullName string) (woodpecker.Repo, error)
	Pipelines(ctx context.Context, id woodpecker.RepoID, o woodpecker.ListOptions) ([]woodpecker.Pipeline, error)
	Pipeline(ctx context.Context, id woodpecker.RepoID, number int64) (woodpecker.Pipeline, error)
	PageURL(id woodpecker.RepoID, number int64, pid int) string
	Now() time.Time
}

// Deps is what a Source asks. Of Images and File the one that the template
// needs is enough.
type Deps struct {
	Server Server
	Images image.Registry
	// File returns the source of one https URL. It asks nothing yet.
	File func(url string) (artifact.Source, error)
}

// Source offers the artifact of the newest pipeline that passed.
type Source struct {
	spec Spec
	d    Deps

	repo    woodpecker.RepoID   // 0: to be looked up
	parents map[int64]int64     // of rows that restart others, and of those
	flows   map[int64]condition // of ended rows whose workflows were read
	barren  map[int64]bool      // rows that passed long ago without an artifact

	mu    sync.Mutex
	files map[string]artifact.Source // by URL; Look and Fetch share them
}

var _ artifact.Source = (*Source)(nil)

// New returns the source s. Nothing is contacted.
func New(s Spec, d Deps) *Source {
	return &Source{spec: s, d: d}
}

// Answers implements artifact.Source.
func (*Source) Answers(f artifact.Form) bool {
	return f == artifact.ByID || f == artifact.ByCommit
}

// Fetch implements artifact.Source. Where the file lies is told by the template
// of today, not by what was noted.
func (s *Source) Fetch(ctx context.Context, c artifact.Candidate, w io.Writer) error {
	if s.spec.Artifact.image() || commit(c.Meta.Commit) == "" {
		return &artifact.Failure{Class: artifact.Refused, What: c.ID.Short() + " is no file of this source"}
	}
	f, err := s.file(s.spec.Artifact.Fill(c.Meta.Commit, c.Meta.Pipeline))
	if err != nil {
		return err
	}
	return f.Fetch(ctx, c, w)
}

// file is the source of one URL. It is kept: it remembers what was there.
func (s *Source) file(url string) (artifact.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.files[url]; ok {
		return f, nil
	}
	f, err := s.d.File(url)
	if err != nil {
		return nil, source.Failf(artifact.Refused, err, "%v", err)
	}
	if len(s.files) >= maxFiles || s.files == nil {
		s.files = map[string]artifact.Source{}
	}
	s.files[url] = f
	return f, nil
}

// seen is the source's memory between looks.
type seen struct {
	Spec    string `json:"spec"`              // of which it is
	Handled int64  `json:"handled,omitempty"` // no row up to this number needs another look
}

func (s *Source) specID() string {
	sum := sha256.Sum256([]byte(s.spec.String()))
	return hex.EncodeToString(sum[:8])
}

// Look implements artifact.Source. As long as nothing happens it costs one
// list.
func (s *Source) Look(ctx context.Context, q artifact.Query) (artifact.Look, error) {
	ctx = woodpecker.Impatient(ctx)
	var was seen
	if json.Unmarshal([]byte(q.Seen), &was) != nil || was.Spec != s.specID() {
		was, q.Offered = seen{}, nil // another source's, or nobody's
	}
	if was.Handled == 0 {
		q.Offered = nil
	}
	w := &look{Source: s, q: q, handled: was.Handled}
	if err := w.list(ctx); err != nil {
		return artifact.Look{}, s.failure(ctx, err)
	}
	if err := w.choose(ctx); err != nil {
		return artifact.Look{}, s.failure(ctx, err)
	}
	if err := w.report(ctx); err != nil {
		return artifact.Look{}, s.failure(ctx, err)
	}
	note, err := json.Marshal(seen{Spec: s.specID(), Handled: w.settled})
	if err != nil {
		return artifact.Look{}, err
	}
	w.out.Seen = string(note)
	return w.out, nil
}

// failure is what err means to a watch.
func (s *Source) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f, ok := errors.AsType[*artifact.Failure](err); ok {
		return f
	}
	f := source.Failf(artifact.Transient, err, "%v", err)
	api, ok := errors.AsType[*woodpecker.APIError](err)
	if !ok {
		return f
	}
	f.RetryAfter = min(api.RetryAfter, mostAfter)
	f.Limited = api.Status == http.StatusTooManyRequests
	if api.Class != woodpecker.Refused {
		return f
	}
	s.repo = 0 // it may have another id by now
	f.Class = artifact.Denied
	if api.Status == http.StatusNotFound {
		f.Class = artifact.Absent
		f.What = source.Text(fmt.Sprintf("the server knows no repository %s, or does not show it: %v", s.spec.Repo, err))
	}
	return f
}

func asFault(err error) *fault.Error {
	f, _ := errors.AsType[*fault.Error](err)
	return f
}

// find asks for r's artifact.
func (s *Source) find(ctx context.Context, r run) (artifact.Candidate, error) {
	where := s.spec.Artifact.Fill(r.Commit, r.Number)
	var c artifact.Candidate
	if s.spec.Artifact.image() {
		i, err := image.Parse(where)
		if err != nil {
			return c, err
		}
		if c, err = image.Find(ctx, s.d.Images, i); err != nil {
			return c, err
		}
	} else {
		f, err := s.file(where)
		if err != nil {
			return c, err
		}
		l, err := f.Look(ctx, artifact.Query{})
		if err != nil {
			return c, err
		}
		if l.Candidate == nil {
			return c, source.Failf(artifact.Absent, nil, "%s offers nothing", where)
		}
		c = *l.Candidate
	}
	c.Order = r.order
	c.Meta.Commit, c.Meta.Pipeline = r.Commit, r.Number
	c.Meta.URL = s.d.Server.PageURL(s.repo, r.Number, 0)
	c.Made = woodpecker.Moment(r.Finished)
	return c, nil
}

// commit returns text if it names a commit whole, else "".
func commit(text string) string {
	if id, err := artifact.ParseID(string(artifact.ByCommit) + ":" + text); err == nil {
		return id.Hex()
	}
	return ""
}

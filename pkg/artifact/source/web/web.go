package web

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/poll"
)

const (
	maxSums     = 1 << 20 // bytes of a checksum file
	maxTag      = 1 << 10 // bytes of a validator that is kept
	alternating = 3       // ETags in a row over equal bytes that make them count as none

	// A checksum file and what it lists are not replaced together, so they are
	// read twice more.
	againTimes = 2
	againWait  = 30 * time.Second

	// DefaultMaxSize is the most bytes of a file, for none is announced.
	DefaultMaxSize = 2 << 30
)

// Deps are what a Source needs.
type Deps struct {
	HTTP    *source.Client // of the file's origin; required
	MaxSize int64          // bytes; 0: DefaultMaxSize
}

// Source is one file of a web server.
type Source struct {
	spec Spec
	file *url.URL
	sums *url.URL // nil: none
	name string   // in the checksum file
	d    Deps

	mu   sync.Mutex
	gone bool // a 404 was confirmed, and was the last answer
}

var _ artifact.Source = (*Source)(nil)

// New returns the source; nothing is asked. The error is for a Spec that Parse
// did not make.
func New(s Spec, d Deps) (*Source, error) {
	out := &Source{spec: s, d: d}
	var err error
	if out.file, err = url.Parse(s.URL); err != nil {
		return nil, err
	}
	if out.name, err = baseName(out.file); err != nil {
		return nil, err
	}
	if s.Sums != "" {
		if out.sums, err = url.Parse(s.Sums); err != nil {
			return nil, err
		}
	}
	if out.d.MaxSize <= 0 {
		out.d.MaxSize = DefaultMaxSize
	}
	return out, nil
}

// Answers says that only a hash can be waited for.
func (s *Source) Answers(f artifact.Form) bool { return f == artifact.ByID }

// memo is Look.Seen.
type memo struct {
	Of       string `json:"of"`                 // the Spec
	ETag     string `json:"etag,omitempty"`     // as received
	Modified string `json:"modified,omitempty"` // as received
	Doc      string `json:"doc,omitempty"`      // sha256 of what was read with them
	Same     int    `json:"same,omitempty"`     // how often ETag changed and Doc did not
	Deaf     bool   `json:"deaf,omitempty"`     // If-Modified-Since was not understood
}

// tagged reports whether the server's ETags are of use.
func (m memo) tagged() bool { return m.ETag != "" && m.Same < alternating }

// blind reports whether nothing tells a change but the bytes.
func (m memo) blind() bool { return !m.tagged() && (m.Modified == "" || m.Deaf) }

func (m memo) String() string {
	text, err := json.Marshal(m)
	if err != nil {
		return "" // a struct of text and numbers has no such case
	}
	return string(text)
}

// recall reads what the last look left, if it was of this source and its offer
// is still known.
func (s *Source) recall(q artifact.Query) (m memo, known bool) {
	if q.Offered == nil || json.Unmarshal([]byte(q.Seen), &m) != nil || m.Of != s.spec.String() {
		return memo{}, false
	}
	return m, true
}

// validator keeps a header that can be sent back.
func validator(h http.Header, key string) string {
	v := h.Get(key)
	if len(v) > maxTag {
		return ""
	}
	for i := range len(v) {
		if v[i] < 0x20 || v[i] >= 0x7f {
			return ""
		}
	}
	return v
}

// Look asks with the validators of the last look. A candidate's order is its
// Last-Modified, in seconds.
func (s *Source) Look(ctx context.Context, q artifact.Query) (artifact.Look, error) {
	m, known := s.recall(q)
	u, what := s.file, s.spec.URL
	if s.sums != nil {
		u, what = s.sums, s.spec.Sums
	}
	r := source.Request{Name: what, URL: u, Header: http.Header{"Accept": {"*/*"}}, Stream: true}
	asked := true
	switch {
	case m.tagged():
		r.Header["If-None-Match"] = []string{m.ETag}
	case m.Modified != "":
		r.Header["If-Modified-Since"] = []string{m.Modified}
	default:
		asked = false
	}
	if asked {
		r.Also = append(r.Also, http.StatusNotModified)
	}
	resp, err := s.get(ctx, r)
	if err != nil {
		return artifact.Look{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	etag, modified := validator(resp.Header, "ETag"), validator(resp.Header, "Last-Modified")
	l := artifact.Look{Limit: source.Limit(resp.Header), Unchanged: true, Seen: q.Seen}
	switch {
	case resp.StatusCode == http.StatusNotModified:
		m.Deaf = m.Deaf && m.tagged()
		l.Seen = m.String()
		return l, nil
	case resp.StatusCode != http.StatusOK:
		return artifact.Look{}, source.Failf(artifact.Transient, nil, "%s: %s where a file is due", what, resp.Status)
	case m.tagged() && etag == m.ETag:
		return l, nil // closed unread
	}
	if err := fit(u, what, resp); err != nil {
		return artifact.Look{}, err
	}
	id, doc, size, err := s.read(ctx, resp)
	if err != nil {
		return artifact.Look{}, err
	}
	next := memo{Of: s.spec.String(), ETag: etag, Modified: modified, Doc: doc}
	if known && m.Doc == doc {
		next.Same, next.Deaf = m.Same, m.Deaf || asked && !m.tagged()
		if m.ETag != "" && etag != "" && etag != m.ETag {
			next.Same = min(m.Same+1, alternating)
		}
	}
	l.Seen, l.Blind = next.String(), next.blind()
	if l.Unchanged = known && q.Offered.ID == id; l.Unchanged {
		return l, nil
	}
	c := artifact.Candidate{ID: id, Kind: artifact.File, Size: size, Location: s.file.EscapedPath(), Meta: artifact.Meta{URL: s.spec.URL}}
	if at, err := http.ParseTime(modified); err == nil && at.Unix() > 0 {
		c.Order, c.Made = at.Unix(), at.UTC()
	}
	l.Candidate = &c
	l.Rebuilt = q.Running != nil && q.Running.ID == id
	return l, nil
}

// fit refuses, as a passing fault, what proxies answer with 200 in the place of
// a file: a page of their own, or nothing at all. Only a file that is named like
// a page may be one.
func fit(u *url.URL, what string, resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch ext := strings.ToLower(path.Ext(u.Path)); {
	case resp.ContentLength == 0:
		return empty(what)
	case kind == "text/html" && ext != ".html" && ext != ".htm":
		return source.Failf(artifact.Transient, nil, "%s: %s and a page where a file is due, something in between answers", what, resp.Status)
	}
	return nil
}

func empty(what string) error {
	return source.Failf(artifact.Transient, nil, "%s: an empty answer where a file is due", what)
}

// get asks. Once a 404 was confirmed, one more is enough until something else
// is answered.
func (s *Source) get(ctx context.Context, r source.Request) (*http.Response, error) {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	if gone {
		r.Also = append(r.Also, http.StatusNotFound)
	}
	resp, err := s.d.HTTP.Get(ctx, r)
	if err == nil && resp.StatusCode == http.StatusNotFound {
		_ = resp.Body.Close()
		resp, err = nil, source.Failf(artifact.Absent, nil, "%s: still %s", r.Name, resp.Status)
	}
	s.mu.Lock()
	s.gone = source.IsAbsent(err)
	s.mu.Unlock()
	return resp, err
}

// read returns the id that resp announces or, without a checksum file, is, and
// the sha256 of resp itself. The size of the file is 0 where only its checksum
// is known.
func (s *Source) read(ctx context.Context, resp *http.Response) (id artifact.ID, doc string, size int64, err error) {
	if s.sums != nil {
		id, doc, err = s.listed(ctx, resp)
		return id, doc, 0, err
	}
	id, size, err = s.hash(ctx, resp, io.Discard)
	return id, id.Hex(), size, err
}

// hash reads a body to its end, and hands it on.
func (s *Source) hash(ctx context.Context, resp *http.Response, w io.Writer) (artifact.ID, int64, error) {
	if resp.ContentLength > s.d.MaxSize {
		_ = resp.Body.Close()
		return "", 0, source.Failf(artifact.Refused, nil, "%s: %d bytes are announced, %d are allowed", s.spec.URL, resp.ContentLength, s.d.MaxSize)
	}
	sum := sha256.New()
	n, err := source.Copy(ctx, io.MultiWriter(sum, w), resp, s.d.MaxSize)
	if errors.Is(err, source.ErrMore) {
		return "", n, source.Failf(artifact.Refused, err, "%s: more than the %d bytes that are allowed", s.spec.URL, s.d.MaxSize)
	}
	if err == nil && n == 0 {
		err = empty(s.spec.URL)
	}
	return artifact.NewID([32]byte(sum.Sum(nil))), n, err
}

// listed reads a checksum file.
func (s *Source) listed(ctx context.Context, resp *http.Response) (id artifact.ID, doc string, err error) {
	var text buffer
	if _, err := source.Copy(ctx, &text, resp, maxSums); err != nil {
		if errors.Is(err, source.ErrMore) {
			return "", "", source.Failf(artifact.Refused, err, "%s is larger than %d bytes, no checksum file is", s.spec.Sums, maxSums)
		}
		return "", "", err
	}
	if len(text) == 0 {
		return "", "", empty(s.spec.Sums)
	}
	id, err = ParseSums(string(text), s.name)
	if err != nil {
		return "", "", source.Failf(artifact.Refused, err, "%s: %v", s.spec.Sums, err)
	}
	return id, artifact.NewID(sha256.Sum256(text)).Hex(), nil
}

// listedNow asks for the checksum file without a condition.
func (s *Source) listedNow(ctx context.Context) (artifact.ID, error) {
	resp, err := s.d.HTTP.Get(ctx, source.Request{Name: s.spec.Sums, URL: s.sums, Stream: true, Header: http.Header{"Accept": {"*/*"}}})
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := fit(s.sums, s.spec.Sums, resp); err != nil {
		return "", err
	}
	id, _, err := s.listed(ctx, resp)
	return id, err
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// body asks for the file itself. Whether it is a page in its place is for the
// caller to say: where a hash is known, that decides.
func (s *Source) body(ctx context.Context) (*http.Response, error) {
	resp, err := s.d.HTTP.Get(ctx, source.Request{Name: s.spec.URL, URL: s.file, Stream: true, Header: http.Header{"Accept": {"*/*"}}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, source.Failf(artifact.Transient, nil, "%s: %s where a file is due", s.spec.URL, resp.Status)
	}
	return resp, nil
}

// Fetch writes the candidate's bytes to w. Without a checksum file other bytes
// than those that were looked at are another version: Transient.
func (s *Source) Fetch(ctx context.Context, c artifact.Candidate, w io.Writer) error {
	resp, err := s.body(ctx)
	if err != nil {
		return err
	}
	changed := source.Failf(artifact.Transient, nil, "%s has changed since it was looked at", s.spec.URL)
	to := w
	if c.Size > 0 {
		if resp.ContentLength >= 0 && resp.ContentLength != c.Size {
			_ = resp.Body.Close()
			return changed
		}
		to = &capped{w, c.Size}
	}
	id, _, err := s.hash(ctx, resp, to)
	switch {
	case errors.Is(err, source.ErrMore) && c.Size > 0:
		return changed
	case err != nil:
		return err
	case id == c.ID:
		return nil
	}
	if err := fit(s.file, s.spec.URL, resp); err != nil {
		return err
	}
	if s.sums == nil {
		return changed
	}
	return s.disagree(ctx, c.ID, id)
}

// capped refuses more bytes than were looked at.
type capped struct {
	w    io.Writer
	left int64
}

func (c *capped) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, source.ErrMore
	}
	c.left -= int64(len(p))
	return c.w.Write(p)
}

// disagree reads the checksum file and the file twice more. w of Fetch has the
// wrong bytes by now, so what agrees in the end is fetched again.
func (s *Source) disagree(ctx context.Context, want, got artifact.ID) error {
	for range againTimes {
		if err := poll.Sleep(ctx, againWait); err != nil {
			return err
		}
		now, err := s.listedNow(ctx)
		if err != nil {
			return err
		}
		if now != want {
			return source.Failf(artifact.Transient, nil, "%s lists %s by now", s.spec.Sums, now.Short())
		}
		resp, err := s.body(ctx)
		if err != nil {
			return err
		}
		if got, _, err = s.hash(ctx, resp, io.Discard); err != nil {
			return err
		}
		if err := fit(s.file, s.spec.URL, resp); got != want && err != nil {
			return err
		}
		if got == want {
			return source.Failf(artifact.Transient, nil, "%s agrees with its checksum by now", s.spec.URL)
		}
	}
	return source.Failf(artifact.Refused, nil, "%s lists %s, the file is %s", s.spec.Sums, want.Short(), got.Short())
}

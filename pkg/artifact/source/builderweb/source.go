package builderweb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
)

const (
	maxRows  = 16 << 20 // bytes of /job/J
	maxBuild = 1 << 20  // bytes of a build's description

	asJSON = "application/json" // exactly: with a parameter or a second type it is HTML
)

// Deps are what a Source needs.
type Deps struct {
	HTTP *source.Client // of the server's origin; required
	// MaxSize is the most bytes of a file whose size nobody announced; 0: any.
	MaxSize int64
}

// Source is one job of a builder-web.
type Source struct {
	spec Spec
	base *url.URL
	d    Deps

	mu sync.Mutex
	// What need not be asked again in this process. Memory that must survive is
	// in Look.Seen.
	nothing  *verdict    // latest is 404, and why
	ordered  artifact.ID // the running id whose order was asked for
	standing string      // the expectation that was asked about, and the newest build then
}

// verdict is what a confirmed 404 of latest means: f, or no good build yet.
type verdict struct{ f *artifact.Failure }

var _ artifact.Source = (*Source)(nil)

// New returns the source; nothing is asked.
func New(s Spec, d Deps) *Source {
	return &Source{spec: s, base: s.Base(), d: d}
}

// Answers says that a build's hash and its uuid can be waited for.
func (s *Source) Answers(f artifact.Form) bool { return f == artifact.ByID || f == artifact.ByUUID }

// at is the URL of a page of the server.
func (s *Source) at(segments ...string) *url.URL { return source.At(s.base, segments...) }

// page is at with the platform, where the server takes one.
func (s *Source) page(segments ...string) *url.URL {
	u := s.at(segments...)
	if s.spec.Platform != "" {
		u.RawQuery = url.Values{"platform": {s.spec.Platform}}.Encode()
	}
	return u
}

// place is where in the server a redirect leads.
type place struct{ job, uuid, path string }

// place reads /job/J/build/U[/] and, with file, /job/J/build/U/f/PATH.
func (s *Source) place(to *url.URL, file bool) (place, error) {
	if !source.SameOrigin(s.base, to) || to.User != nil {
		return place{}, fmt.Errorf("it leads to %s, away from %s", source.Text(to.Redacted()), s.base)
	}
	seg, err := source.Segments(to)
	if err != nil {
		return place{}, err
	}
	if !file && len(seg) == 5 && seg[4] == "" {
		seg = seg[:4]
	}
	bad := fmt.Errorf("it leads to %s, which is no build", source.Text(to.EscapedPath()))
	if s.spec.Job != "" {
		bad = fmt.Errorf("%w of %s", bad, s.spec.Job)
	}
	if len(seg) < 4 || seg[0] != "job" || seg[1] == "" || seg[2] != "build" || !isUUID(strings.ToLower(seg[3])) {
		return place{}, bad
	}
	p := place{job: seg[1], uuid: strings.ToLower(seg[3])}
	switch {
	case !file && len(seg) == 4:
	case file && len(seg) > 5 && seg[4] == "f":
		p.path = strings.Join(seg[5:], "/")
		if !isPath(p.path) {
			return place{}, bad
		}
	default:
		return place{}, bad
	}
	return p, nil
}

// where asks for a redirect to a build and returns where it leads; nil for 404.
// check refuses places.
func (s *Source) where(ctx context.Context, name string, u *url.URL, file, missing bool, check func(place) error) (*place, http.Header, error) {
	var at place
	r := source.Request{
		Name: name, URL: u, Header: http.Header{"Accept": {asJSON}}, MaxBody: maxBuild, Known: "redirect",
		Redirect: func(to *url.URL) (err error) {
			if at, err = s.place(to, file); err == nil {
				err = check(at)
			}
			return err
		},
	}
	if missing {
		r.Also = []int{http.StatusNotFound}
	}
	status, header, err := s.d.HTTP.Ask(ctx, r)
	switch {
	case err != nil:
		return nil, nil, err
	case status == http.StatusNotFound:
		return nil, header, nil
	case status/100 == 2:
		return nil, nil, source.Failf(artifact.Transient, nil, "%s: %d where a redirect is due, something in between answers", name, status)
	}
	return &at, header, nil
}

// ours refuses builds of other jobs.
func (s *Source) ours(p place) error {
	if p.job != s.spec.Job {
		return fmt.Errorf("it leads to the job %q instead of %q", p.job, s.spec.Job)
	}
	return nil
}

// latest asks which build is the newest good one; "" there is none, by a 404
// that may mean several things.
func (s *Source) latest(ctx context.Context) (string, http.Header, error) {
	p, header, err := s.where(ctx, "newest build of "+s.spec.Job, s.page("job", s.spec.Job, "build", "latest"), false, true, s.ours)
	if err != nil || p == nil {
		return "", header, err
	}
	return p.uuid, header, nil
}

// build asks for one build's description.
func (s *Source) build(ctx context.Context, uuid string, missing bool) (*build, error) {
	var b build
	name := "build " + uuid
	r := source.Request{
		Name: name, URL: s.at("job", s.spec.Job, "build", uuid), Header: http.Header{"Accept": {asJSON}}, MaxBody: maxBuild, Known: "build",
		Check: func(body []byte) (err error) {
			if b, err = parseBuild(body); err == nil && b.uuid != uuid {
				err = fmt.Errorf("the answer describes build %s", b.uuid)
			}
			return err
		},
	}
	if missing {
		r.Also = []int{http.StatusNotFound}
	}
	status, _, err := s.d.HTTP.Ask(ctx, r)
	if err != nil || status == http.StatusNotFound {
		return nil, err
	}
	return &b, nil
}

// rows asks for the job's distinct outputs; with failed also for the builds
// that failed, newest first.
func (s *Source) rows(ctx context.Context, failed bool) ([]row, error) {
	var rows []row
	u, name := s.page("job", s.spec.Job), "job "+s.spec.Job
	if failed {
		u, name = s.page("job", s.spec.Job, "failed"), "failed builds of "+s.spec.Job
	}
	_, _, err := s.d.HTTP.Ask(ctx, source.Request{
		Name: name, URL: u, Header: http.Header{"Accept": {asJSON}}, MaxBody: maxRows,
		Check: func(body []byte) (err error) { rows, err = parseRows(body); return err },
	})
	return rows, err
}

// find asks for the newest build anywhere that has a file with this id; nil:
// none.
func (s *Source) find(ctx context.Context, id artifact.ID) (*place, error) {
	u := s.at("hash")
	u.RawQuery = url.Values{"sha256": {id.Hex()}}.Encode()
	p, _, err := s.where(ctx, "build with "+id.Short(), u, false, true, func(place) error { return nil })
	return p, err
}

// orderOf is the order of an id that this job made; 0: not known.
func (s *Source) orderOf(ctx context.Context, id artifact.ID) (int64, string, error) {
	p, err := s.find(ctx, id)
	if err != nil || p == nil || p.job != s.spec.Job {
		return 0, "", err
	}
	b, err := s.build(ctx, p.uuid, true)
	if err != nil || b == nil {
		return 0, "", err
	}
	return b.order(), b.uuid, nil
}

// file is what the server announces of a build's file.
type file struct {
	at   *url.URL
	same bool        // it has the hash that runs
	id   artifact.ID // not with same
	size int64       // -1 not announced
}

// file asks for the build's file, on the condition that it is not what runs;
// its body stays unread.
func (s *Source) file(ctx context.Context, uuid string, running artifact.ID) (file, error) {
	var f file
	if p := s.spec.Artifact; p != "" {
		f.at = s.at(append([]string{"job", s.spec.Job, "build", uuid, "f"}, strings.Split(p, "/")...)...)
	} else {
		p, _, err := s.where(ctx, "main binary of build "+uuid, s.at("job", s.spec.Job, "build", uuid, "main-binary"), true, false, func(p place) error {
			if p.uuid != uuid {
				return fmt.Errorf("it leads to build %s instead", p.uuid)
			}
			return s.ours(p)
		})
		if err != nil {
			return f, err
		}
		f.at = s.at(append([]string{"job", s.spec.Job, "build", uuid, "f"}, strings.Split(p.path, "/")...)...)
	}
	r := source.Request{Name: "file of build " + uuid, URL: f.at, Stream: true, Unread: true, Header: http.Header{"Accept": {"*/*"}}, Known: "file"}
	if etag := etagOf(running); etag != "" {
		r.Header["If-None-Match"] = []string{etag}
		r.Also = []int{http.StatusNotModified}
	}
	resp, err := s.d.HTTP.Get(ctx, r)
	if err != nil {
		return f, err
	}
	defer func() { _ = resp.Body.Close() }()
	if f.same = resp.StatusCode == http.StatusNotModified; f.same {
		return f, nil
	}
	f.size = resp.ContentLength
	if f.id, err = announced(resp); err != nil {
		return f, err
	}
	if most := s.d.MaxSize; most > 0 && f.size > most {
		return f, source.Failf(artifact.Refused, nil, "%d bytes are announced, %d are allowed", f.size, most)
	}
	return f, nil
}

// announced is the id in the ETag of a file. A page where a file is due, as
// proxies send them, is a passing fault.
func announced(resp *http.Response) (artifact.ID, error) {
	etag := resp.Header.Get("ETag")
	id, err := idOf(etag)
	switch {
	case err == nil && resp.StatusCode == http.StatusOK:
		return id, nil
	case resp.StatusCode != http.StatusOK, etag == "" && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"):
		return "", source.Failf(artifact.Transient, nil, "%d and a page where a file is due, something in between answers", resp.StatusCode)
	case etag == "":
		return "", source.Failf(artifact.Refused, nil, "the server announces no hash for its file")
	}
	return "", source.Failf(artifact.Refused, nil, "%v", err)
}

// located is where c's file is, if it is one of the job's.
func (s *Source) located(c artifact.Candidate) (*url.URL, place, error) {
	u, err := s.base.Parse(c.Location)
	var p place
	if err == nil {
		p, err = s.place(u, true)
	}
	if err == nil {
		err = s.ours(p)
	}
	if err != nil {
		return nil, p, source.Failf(artifact.Refused, err, "%q is no file of this source: %v", c.Location, err)
	}
	return u, p, nil
}

// Fetch writes the candidate's bytes to w.
func (s *Source) Fetch(ctx context.Context, c artifact.Candidate, w io.Writer) error {
	u, p, err := s.located(c)
	if err != nil {
		return err
	}
	resp, err := s.d.HTTP.Get(ctx, source.Request{
		Name: "file of build " + p.uuid, URL: u, Stream: true, Header: http.Header{"Accept": {"*/*"}}, Known: "file",
	})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	id, err := announced(resp)
	switch {
	case err != nil:
		return err
	case id != c.ID:
		return source.Failf(artifact.Refused, nil, "the server announces %s for a file that was %s", id.Short(), c.ID.Short())
	case resp.ContentLength >= 0 && c.Size > 0 && resp.ContentLength != c.Size:
		return source.Failf(artifact.Refused, nil, "the server announces %d bytes for a file of %d", resp.ContentLength, c.Size)
	}
	most := c.Size
	if most <= 0 {
		most = s.d.MaxSize
	}
	if most <= 0 {
		most = 1<<63 - 1
	}
	n, err := source.Copy(ctx, w, resp, most)
	switch {
	case errors.Is(err, source.ErrMore):
		return source.Failf(artifact.Refused, err, "%v", err)
	case err != nil:
		return err
	case c.Size > 0 && n < c.Size:
		// Without a length the end of a connection is the end of the body.
		return source.Failf(artifact.Transient, nil, "cut after %d of %d bytes", n, c.Size)
	}
	return nil
}

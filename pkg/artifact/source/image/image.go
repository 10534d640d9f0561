// Package image is the source oci://REGISTRY/REPOSITORY:TAG: an image is on
// offer when the tag serves its digest. It decides what a tag's answer means to
// a watch; the registry's protocol is left to a client. Tags have no order, and
// the dates in images are none: reproducible images share one.
package image

import (
	"context"
	"errors"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/registry"
)

// Scheme begins a source of this kind.
const Scheme = "oci://"

// Spec is a tag of a repository. It is comparable: equal ones are one source.
type Spec struct {
	Registry   string // host[:port], lower case
	Repository string // "library/nginx"
	Tag        string
	Platform   string // "linux/arm64", "linux/arm/v7"; "": the tag's own digest suffices
}

// Parse reads oci://REGISTRY/REPOSITORY:TAG[?platform=OS/ARCH[/VARIANT]]. The
// error is a *fault.Error of kind Usage. Nothing is contacted.
func Parse(s string) (Spec, error) {
	no := func(why string) (Spec, error) {
		return Spec{}, source.Usagef("--from", s, "%s", why)
	}
	rest, ok := strings.CutPrefix(s, Scheme)
	if !ok {
		return no("want oci://REGISTRY/REPOSITORY:TAG")
	}
	ref, query, asked := strings.Cut(rest, "?")
	if strings.Contains(ref, "@sha256:") {
		return no("a digest always serves the same image: there would be nothing to watch; name a tag")
	}
	if strings.Contains(ref, "@") {
		return no("no user name belongs here: credentials are those of the docker configuration")
	}
	host, path, _ := strings.Cut(ref, "/")
	host = strings.ToLower(host)
	if host == "index.docker.io" {
		host = hub
	}
	if err := registry.CheckTag(host + "/" + path); err != nil {
		return no(source.Text(reason(err)))
	}
	colon := strings.LastIndexByte(path, ':')
	out := Spec{Registry: host, Repository: path[:colon], Tag: path[colon+1:]}
	if host == hub && !strings.Contains(out.Repository, "/") {
		out.Repository = "library/" + out.Repository
	}
	if !asked {
		return out, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return no(err.Error())
	}
	for key, v := range values {
		switch {
		case key != "platform":
			return no("it takes platform= and nothing else, not " + source.Text(key) + "=")
		case len(v) != 1 || !regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$`).MatchString(v[0]):
			return no("a platform is OS/ARCH or OS/ARCH/VARIANT, like linux/arm64, once")
		}
		out.Platform = v[0]
	}
	return out, nil
}

// reason is what an error says without repeating the reference.
func reason(err error) string {
	if invalid, ok := errors.AsType[*registry.InvalidError](err); ok {
		return invalid.Err.Error()
	}
	return err.Error()
}

const hub = "docker.io"

// Reference is REGISTRY/REPOSITORY:TAG.
func (s Spec) Reference() string { return s.Registry + "/" + s.Repository + ":" + s.Tag }

// String is what Parse reads, in its one form.
func (s Spec) String() string {
	if s.Platform == "" {
		return Scheme + s.Reference()
	}
	return Scheme + s.Reference() + "?platform=" + s.Platform
}

// Floor is the shortest interval between looks: docker.io counts.
func (s Spec) Floor() time.Duration {
	if s.Registry == hub {
		return time.Minute
	}
	return 5 * time.Second
}

// Registry is what is asked; *registry.Client answers.
type Registry interface {
	Tag(ctx context.Context, ref string) (string, error)
	Resolve(ctx context.Context, ref string) (registry.Image, error)
}

// Source offers what a tag serves.
type Source struct {
	spec Spec
	reg  Registry
}

var _ artifact.Source = (*Source)(nil)

// New returns the source s, which asks r. Nothing is contacted. Sources of one
// process share a registry.Client, which keeps connections and tokens.
func New(s Spec, r Registry) *Source { return &Source{spec: s, reg: r} }

// Answers implements artifact.Source: a commit is that of the revision label.
func (*Source) Answers(f artifact.Form) bool {
	return f == artifact.ByID || f == artifact.ByCommit
}

// Fetch implements artifact.Source; it is never called for an image.
func (s *Source) Fetch(context.Context, artifact.Candidate, io.Writer) error {
	return &artifact.Failure{Class: artifact.Refused, What: s.spec.Reference() + " is an image; nothing is downloaded"}
}

// Look implements artifact.Source. A tag that serves what it served costs one
// request without a body; a new digest is read once, for platform and revision.
func (s *Source) Look(ctx context.Context, q artifact.Query) (artifact.Look, error) {
	digest, err := s.reg.Tag(ctx, s.spec.Reference())
	if err != nil {
		return artifact.Look{}, failure(ctx, err)
	}
	l := artifact.Look{Seen: digest}
	old := q.Offered
	if old != nil && old.Location == s.spec.Reference() && old.Meta.Platform == s.spec.Platform &&
		string(old.ID) == digest && q.Seen == digest {
		l.Unchanged = true
		l.Reason = unlabelled(q.Expect, *old)
		return l, nil
	}
	c, err := read(ctx, s.reg, s.spec, digest)
	if err != nil {
		return artifact.Look{}, err
	}
	l.Candidate = &c
	l.Reason = unlabelled(q.Expect, c)
	if old != nil && q.Expect.Is(*old) && !q.Expect.Is(c) {
		l.Expected, l.By = artifact.Passed, c.ID
		l.Reason = s.spec.Reference() + " serves " + c.ID.Short() + " now"
	}
	return l, nil
}

// unlabelled says that a commit cannot be waited for in vain unexplained.
func unlabelled(e artifact.Expectation, c artifact.Candidate) string {
	if e.Form == artifact.ByCommit && c.Meta.Commit == "" {
		return c.Location + " serves " + c.ID.Short() + ", which has no revision label"
	}
	return ""
}

// Find returns what s serves now. The error is *artifact.Failure or ctx's
// cause; Absent also if there is no image for the platform.
func Find(ctx context.Context, r Registry, s Spec) (artifact.Candidate, error) {
	digest, err := r.Tag(ctx, s.Reference())
	if err != nil {
		return artifact.Candidate{}, failure(ctx, err)
	}
	return read(ctx, r, s, digest)
}

// read learns what belongs to the digest that s serves.
func read(ctx context.Context, r Registry, s Spec, digest string) (artifact.Candidate, error) {
	id, err := artifact.ParseID(digest)
	if err != nil || !strings.HasPrefix(string(id), string(artifact.ByID)+":") || string(id) != digest {
		return artifact.Candidate{}, &artifact.Failure{Class: artifact.Refused, What: s.Reference() + " serves a digest that is no sha256"}
	}
	i, err := r.Resolve(ctx, s.Registry+"/"+s.Repository+"@"+digest)
	if refused, ok := errors.AsType[*registry.RefusedError](err); ok {
		// The digest was served a moment ago. What is missing below it may be
		// for other platforms; the images that are there decide.
		if i.Digest == "" {
			return artifact.Candidate{}, &artifact.Failure{Class: artifact.Transient, What: source.Text(refused.Error()), Err: err}
		}
	} else if err != nil {
		return artifact.Candidate{}, failure(ctx, err)
	}
	c := artifact.Candidate{
		ID: id, Kind: artifact.Image, Location: s.Reference(), Ref: s.Reference() + "@" + digest,
		Meta: artifact.Meta{Platform: s.Platform},
	}
	revision, _ := i.On("")
	if s.Platform != "" {
		p, there := i.For(s.Platform)
		if !there {
			return c, &artifact.Failure{Class: artifact.Absent, What: s.Reference() + " serves " + id.Short() + ", which has no image for " + s.Platform}
		}
		revision = p.Revision
	}
	c.Meta.Commit = commit(revision)
	return c, nil
}

// commit is a revision that names a commit whole; "" it does not.
func commit(revision string) string {
	if id, err := artifact.ParseID(string(artifact.ByCommit) + ":" + revision); err == nil {
		return id.Hex()
	}
	return ""
}

// failure is what err means to a watch.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f, ok := errors.AsType[*artifact.Failure](err); ok {
		return f // nothing was asked
	}
	f := &artifact.Failure{Class: artifact.Transient, What: source.Text(err.Error()), Err: err}
	if limited, ok := errors.AsType[*registry.LimitedError](err); ok {
		f.Limited, f.RetryAfter = true, limited.After
		return f
	}
	if refused, ok := errors.AsType[*registry.RefusedError](err); ok {
		switch {
		case refused.Absent():
			f.Class = artifact.Absent
		case refused.Denied():
			f.Class = artifact.Denied
		}
	}
	return f
}

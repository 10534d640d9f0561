package registry

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// RevisionKey is the label and annotation that names an image's commit.
const RevisionKey = "org.opencontainers.image.revision"

// Where a revision was found.
const (
	FromLabel       = "config label"
	FromManifest    = "manifest annotation"
	FromIndex       = "index annotation"
	FromDescriptor  = "descriptor annotation"
	FromAttestation = "attestation"
)

// Image is what a reference means at the moment it is asked.
type Image struct {
	Ref    string // as it was given
	Digest string // sha256:..., of the index or of the manifest itself
	// Closure is every digest that a container of this image may show as its
	// imageID: the index, its manifests, their configurations.
	Closure []string
	// Revision is the commit it was built from, as written there; empty: the
	// registry answered and nothing says so, or its platforms contradict.
	Revision     string
	RevisionFrom string
	// Platforms are the index's images in its order, or the one manifest.
	Platforms []Platform
}

// Platform is one image of an index.
type Platform struct {
	Name         string // "linux/arm64/v8"; empty: the registry does not say
	Digest       string
	Config       string // the configuration's digest
	Revision     string // empty: nothing says so
	RevisionFrom string
}

// Has says whether digest is in the closure.
func (i Image) Has(digest string) bool { return slices.Contains(i.Closure, digest) }

// On returns the revision of the image for a platform ("linux/amd64"), of all
// of them when it is unknown.
func (i Image) On(platform string) (revision, from string) {
	for _, p := range i.Platforms {
		if platform != "" && (p.Name == platform || strings.HasPrefix(p.Name, platform+"/")) {
			return p.Revision, p.RevisionFrom
		}
	}
	return i.Revision, i.RevisionFrom
}

// Resolve asks for the image behind ref, a tag or a digest. A nil error means
// that everything was read: an empty Revision is then the registry's answer.
// Else the error is *InvalidError, *UnreachableError, *RefusedError or ctx's
// cause, and the Image has what was learnt; images of an index that are not
// there do not keep the others from being read. A tag is asked for anew
// each time, what has a digest once. Source: GET /v2/{name}/manifests/{ref},
// /v2/{name}/blobs/{digest}, OCI distribution spec 1.1.
func (c *Client) Resolve(ctx context.Context, ref string) (Image, error) {
	i := Image{Ref: ref}
	r, err := c.parse(ref)
	if err != nil {
		return i, err
	}
	s, err := c.session(ref)
	if err != nil {
		return i, &InvalidError{Ref: ref, Err: err}
	}
	raw, h, err := s.manifest(ctx, r)
	if err != nil {
		return i, err
	}
	i.Digest = h.String()
	i.Closure = []string{i.Digest}
	m, err := parseManifest(raw)
	if err != nil {
		return i, &UnreachableError{Ref: ref, Err: err}
	}
	repo := r.Context()
	if !m.index() {
		p := Platform{Digest: i.Digest}
		err = s.platform(ctx, repo, m, &p)
		i.add(p)
	} else {
		err = s.index(ctx, repo, m, &i, 0)
	}
	if err != nil {
		return i, err
	}
	i.settle()
	return i, nil
}

func (i *Image) add(p Platform) {
	i.Platforms = append(i.Platforms, p)
	for _, d := range []string{p.Digest, p.Config} {
		if d != "" && !i.Has(d) {
			i.Closure = append(i.Closure, d)
		}
	}
}

// settle finds the revision that all platforms share.
func (i *Image) settle() {
	for _, p := range i.Platforms {
		switch {
		case p.Revision == "" || p.Revision == i.Revision:
		case i.Revision == "":
			i.Revision, i.RevisionFrom = p.Revision, p.RevisionFrom
		default:
			i.Revision, i.RevisionFrom = "", ""
			return
		}
	}
}

// manifest is an index or a manifest as far as it matters.
type manifest struct {
	MediaType   types.MediaType   `json:"mediaType"`
	Annotations map[string]string `json:"annotations"`
	Manifests   []v1.Descriptor   `json:"manifests"`
	Config      *v1.Descriptor    `json:"config"`
	Layers      []v1.Descriptor   `json:"layers"`
}

// index goes by content: the media type may be missing in OCI documents.
func (m manifest) index() bool { return m.Config == nil }

func parseManifest(raw []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, constError("the manifest is no JSON")
	}
	if m.Config == nil && m.Manifests == nil {
		return m, constError("the manifest is neither an image's nor an index")
	}
	return m, nil
}

type constError string

func (e constError) Error() string { return string(e) }

const (
	referenceType   = "vnd.docker.reference.type"
	referenceDigest = "vnd.docker.reference.digest"
	attestation     = "attestation-manifest"
	predicateType   = "in-toto.io/predicate-type"
	provenance      = "https://slsa.dev/provenance/"

	maxDepth = 2 // of indexes in indexes
)

// index reads all images of an index. Provenance is read for those that
// nothing else tells about.
func (s *session) index(ctx context.Context, repo name.Repository, m manifest, i *Image, depth int) error {
	first := len(i.Platforms)
	var missing error // an index may name more than its registry holds
	for _, d := range m.Manifests {
		if d.Annotations[referenceType] == attestation || !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
			continue
		}
		raw, _, err := s.manifest(ctx, repo.Digest(d.Digest.String()))
		if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Absent() {
			if missing == nil {
				missing = err
			}
			continue
		}
		if err != nil {
			return err
		}
		child, err := parseManifest(raw)
		if err != nil {
			return &UnreachableError{Ref: s.ref, Err: err}
		}
		if child.index() {
			if depth < maxDepth {
				i.add(Platform{Digest: d.Digest.String()})
				i.Platforms = i.Platforms[:len(i.Platforms)-1] // an index runs nowhere
				if err := s.index(ctx, repo, child, i, depth+1); err != nil {
					return err
				}
			}
			continue
		}
		p := Platform{Digest: d.Digest.String()}
		if d.Platform != nil {
			p.Name = d.Platform.String()
		}
		if err := s.platform(ctx, repo, child, &p); err != nil {
			return err
		}
		p.found(m.Annotations[RevisionKey], FromIndex)
		p.found(d.Annotations[RevisionKey], FromDescriptor)
		i.add(p)
	}
	for n := first; n < len(i.Platforms); n++ {
		if i.Platforms[n].Revision != "" {
			continue
		}
		if err := s.attested(ctx, repo, m, &i.Platforms[n]); err != nil {
			return err
		}
	}
	return missing
}

// found takes a revision unless there is one already.
func (p *Platform) found(revision, from string) {
	if revision = strings.TrimSpace(revision); p.Revision == "" && revision != "" {
		p.Revision, p.RevisionFrom = revision, from
	}
}

// platform reads one image's configuration.
func (s *session) platform(ctx context.Context, repo name.Repository, m manifest, p *Platform) error {
	p.Config = m.Config.Digest.String()
	if m.Config.MediaType.IsConfig() {
		raw, err := s.blob(ctx, repo, m.Config.Digest)
		if err != nil {
			return err
		}
		var c struct {
			OS           string `json:"os"`
			Architecture string `json:"architecture"`
			Variant      string `json:"variant"`
			Config       struct {
				Labels map[string]string `json:"Labels"`
			} `json:"config"`
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			return &UnreachableError{Ref: s.ref, Err: constError("the configuration is no JSON")}
		}
		if p.Name == "" && c.OS != "" {
			p.Name = v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}.String()
		}
		p.found(c.Config.Labels[RevisionKey], FromLabel)
	}
	p.found(m.Annotations[RevisionKey], FromManifest)
	return nil
}

// attested reads the provenance that BuildKit puts beside an image.
func (s *session) attested(ctx context.Context, repo name.Repository, m manifest, p *Platform) error {
	for _, d := range m.Manifests {
		if d.Annotations[referenceType] != attestation || d.Annotations[referenceDigest] != p.Digest {
			continue
		}
		raw, _, err := s.manifest(ctx, repo.Digest(d.Digest.String()))
		if err != nil {
			return err
		}
		a, err := parseManifest(raw)
		if err != nil {
			return &UnreachableError{Ref: s.ref, Err: err}
		}
		for _, l := range a.Layers {
			if !strings.HasPrefix(l.Annotations[predicateType], provenance) {
				continue
			}
			b, err := s.blob(ctx, repo, l.Digest)
			if err != nil {
				return err
			}
			p.found(revisionOf(b), FromAttestation)
		}
	}
	return nil
}

// statement is an in-toto statement with SLSA provenance, v0.2 or v1.
type statement struct {
	Predicate struct {
		Metadata struct {
			BuildKit buildkit `json:"https://mobyproject.org/buildkit@v1#metadata"`
		} `json:"metadata"`
		Materials  []material `json:"materials"`
		RunDetails struct {
			Metadata struct {
				BuildKit buildkit `json:"buildkit_metadata"`
			} `json:"metadata"`
		} `json:"runDetails"`
		BuildDefinition struct {
			ResolvedDependencies []material `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
	} `json:"predicate"`
}

type buildkit struct {
	VCS struct {
		Revision string `json:"revision"`
	} `json:"vcs"`
}

type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

// revisionOf finds the commit in provenance, or nothing. Of several git
// sources that differ none is believed.
func revisionOf(b []byte) string {
	var s statement
	if json.Unmarshal(b, &s) != nil {
		return ""
	}
	for _, k := range []buildkit{s.Predicate.Metadata.BuildKit, s.Predicate.RunDetails.Metadata.BuildKit} {
		if k.VCS.Revision != "" {
			return k.VCS.Revision
		}
	}
	found := ""
	for _, m := range append(s.Predicate.BuildDefinition.ResolvedDependencies, s.Predicate.Materials...) {
		commit := m.Digest["gitCommit"]
		if commit == "" && isGit(m.URI) {
			commit = m.Digest["sha1"]
		}
		switch {
		case commit == "" || commit == found:
		case found == "":
			found = commit
		default:
			return ""
		}
	}
	return found
}

func isGit(uri string) bool {
	path, _, _ := strings.Cut(uri, "#")
	path, _, _ = strings.Cut(path, "@")
	return strings.HasPrefix(uri, "git+") || strings.HasPrefix(uri, "git@") || strings.HasPrefix(uri, "git://") ||
		strings.HasSuffix(path, ".git")
}

package builderweb

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
)

const maxSignature = 16 << 10 // bytes

// Signature returns the signature that was uploaded with c's build, beside its
// file.
func (s *Source) Signature(ctx context.Context, c artifact.Candidate) ([]byte, error) {
	u, p, err := s.located(c)
	if err != nil {
		return nil, err
	}
	name := "signature of build " + p.uuid
	text, header, err := s.d.HTTP.Whole(ctx, source.Request{
		Name: name, URL: source.MinisigOf(u), Header: http.Header{"Accept": {"*/*"}}, Known: "signature",
		Redirect: func(*url.URL) error { return errors.New("files are where they are") },
	}, maxSignature)
	if err != nil {
		return nil, err
	}
	id, err := announced(&http.Response{StatusCode: http.StatusOK, Header: header})
	if err == nil && id != artifact.NewID(sha256.Sum256(text)) {
		err = source.Failf(artifact.Transient, nil, "%s: not the bytes that its ETag announces", name)
	}
	return text, err
}

// Tokens tie a signature to the job and a platform: that of --from or, where
// any will do, the build's.
func (s *Source) Tokens(c artifact.Candidate) ([]string, error) {
	platform := s.spec.Platform
	if platform == "" {
		platform = c.Meta.Platform
	}
	if platform == "" {
		return nil, errors.New("its platform is not known")
	}
	return []string{"job=" + s.spec.Job, "platform=" + platform}, nil
}

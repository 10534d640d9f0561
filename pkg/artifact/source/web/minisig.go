package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
)

const maxSignature = 16 << 10 // bytes

// Signature returns the signature beside the file: its URL and .minisig.
func (s *Source) Signature(ctx context.Context, _ artifact.Candidate) ([]byte, error) {
	return Minisig(ctx, s.d.HTTP, source.MinisigOf(s.file))
}

// Minisig gets a signature from anywhere.
func Minisig(ctx context.Context, c *source.Client, u *url.URL) ([]byte, error) {
	text, _, err := c.Whole(ctx, source.Request{Name: u.Redacted(), URL: u, Header: http.Header{"Accept": {"*/*"}}}, maxSignature)
	return text, err
}

// Tokens tie a signature to the file's name.
func (s *Source) Tokens(artifact.Candidate) ([]string, error) {
	if s.name == "" {
		return nil, errors.New("its URL names no file")
	}
	return []string{"file:" + s.name}, nil
}

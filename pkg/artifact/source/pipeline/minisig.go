package pipeline

import (
	"context"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/artifact/source/web"
)

// Signature returns the signature beside c's file.
func (s *Source) Signature(ctx context.Context, c artifact.Candidate) ([]byte, error) {
	f, err := s.signed(c)
	if err != nil {
		return nil, err
	}
	return f.Signature(ctx, c)
}

// Tokens tie a signature to the name of c's file.
func (s *Source) Tokens(c artifact.Candidate) ([]string, error) {
	f, err := s.signed(c)
	if err != nil {
		return nil, err
	}
	return f.Tokens(c)
}

// signed is the source of c's file.
func (s *Source) signed(c artifact.Candidate) (*web.Source, error) {
	f, err := s.file(s.spec.Artifact.Fill(c.Meta.Commit, c.Meta.Pipeline))
	if err != nil {
		return nil, err
	}
	file, ok := f.(*web.Source)
	if !ok {
		return nil, source.Failf(artifact.Refused, nil, "%s is where no signatures are", c.ID.Short())
	}
	return file, nil
}

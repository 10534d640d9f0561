// Package digest reads files to their end and tells which artifact they are.
package digest

import (
	"context"
	"crypto/sha256"
	"io"

	"homelab/pkg/artifact"
)

// Of returns the id of what r has, read to its end. The error is r's or, at
// the first read after ctx has ended, ctx's cause.
func Of(ctx context.Context, r io.Reader) (artifact.ID, error) { return Copy(ctx, io.Discard, r) }

// Copy copies r to w and returns the id of what was copied. The error is w's,
// r's or, at the first read after ctx has ended, ctx's cause.
func Copy(ctx context.Context, w io.Writer, r io.Reader) (artifact.ID, error) {
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), reader{ctx, r}); err != nil {
		return "", err
	}
	return artifact.NewID([32]byte(sum.Sum(nil))), nil
}

// reader ends a long read when ctx does.
type reader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

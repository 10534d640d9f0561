package proof

import (
	"context"
	"net/url"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/artifact/source/web"
)

// At has the signatures of a source's files at one address of their own.
type At struct {
	Signed                // the source: what a signature must say
	HTTP   *source.Client // of the source's origin, whose credentials go there only
	URL    *url.URL
}

// Signature reads what is at the address, whichever candidate it is for.
func (a At) Signature(ctx context.Context, _ artifact.Candidate) ([]byte, error) {
	return web.Minisig(ctx, a.HTTP, a.URL)
}

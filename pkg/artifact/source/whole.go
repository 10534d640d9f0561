package source

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"

	"homelab/pkg/artifact"
)

// Whole gets a small file of at most most bytes, with the answer's header. The
// error is as of Get; more bytes are Refused, and a page where a file is due,
// as proxies send them, is Transient.
func (c *Client) Whole(ctx context.Context, r Request, most int64) ([]byte, http.Header, error) {
	r.Stream = true
	resp, err := c.Get(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || kind == "text/html" {
		return nil, nil, Failf(artifact.Transient, nil, "%s: %s and a page where a file is due", r.Name, resp.Status)
	}
	var b bytes.Buffer
	if _, err := Copy(ctx, &b, resp, most); errors.Is(err, ErrMore) {
		return nil, nil, Failf(artifact.Refused, err, "%s: more than %d bytes", r.Name, most)
	} else if err != nil {
		return nil, nil, err
	}
	return b.Bytes(), resp.Header, nil
}

// MinisigOf is where the signature of the file at u is.
func MinisigOf(u *url.URL) *url.URL {
	v := *u
	const suffix = ".minisig"
	if v.RawPath != "" {
		v.RawPath += suffix
	}
	v.Path += suffix
	return &v
}

package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"homelab/pkg/poll"
)

// How a refusal is believed: the same answer so often over so long, more so
// where the question has been answered before in this run.
const (
	confirmTimes = 3
	confirmOver  = 3 * time.Second
	knownTimes   = 5
	knownOver    = 15 * time.Second
)

// following is what is remembered of a tag that is asked for again and again.
type following struct {
	answered bool // once, in this run
	refused  int  // the status last believed; 0: the last answer was none
}

// CheckTag says what is wrong with HOST/REPOSITORY:TAG, all three of them
// required, as an *InvalidError; nothing is asked.
func CheckTag(ref string) error {
	host, path, _ := strings.Cut(ref, "/")
	no := func(why string) error { return &InvalidError{Ref: ref, Err: constError(why)} }
	switch {
	case strings.Contains(ref, "@"):
		return no("a digest always serves the same image; name a tag")
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return no("the registry's host is missing")
	case !strings.Contains(path, ":"):
		return no("the tag is missing")
	}
	if _, err := name.NewTag(ref, name.WeakValidation); err != nil {
		return &InvalidError{Ref: ref, Err: err}
	}
	return nil
}

// Tag returns the digest that ref, a tag, serves now ("sha256:HEX", an index's
// for an index). Scheme, credentials and token are found out once for all
// questions about a repository, so asking again costs one HEAD. A registry
// whose HEAD leaves out what it should tell is asked with GET from then on, and
// the bytes are hashed.
//
// Nothing that passes is repeated here; a refusal (401, 403, 404) is believed
// after it has been repeated over three seconds, over fifteen if the tag was
// served before in this run, and at once when it is the answer that was
// believed last. The error is *InvalidError, *UnreachableError (around
// *LimitedError for a 429), *RefusedError or ctx's cause.
// Source: HEAD and GET /v2/{name}/manifests/{tag}, OCI distribution spec 1.1.
func (c *Client) Tag(ctx context.Context, ref string) (string, error) {
	r, err := c.parse(ref)
	if err != nil {
		return "", err
	}
	tag, ok := r.(name.Tag)
	if !ok {
		return "", &InvalidError{Ref: ref, Err: constError("a digest always serves the same image; name a tag")}
	}
	c.mu.Lock()
	was := c.follows[tag.String()]
	c.mu.Unlock()
	times, over := confirmTimes, confirmOver
	if was.answered {
		times, over = knownTimes, knownOver
	}
	var first time.Time
	for count, last := 0, 0; ; {
		digest, err := c.ask(ctx, ref, tag, count > 0)
		if err == nil {
			c.note(tag, following{answered: true})
			return digest, nil
		}
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok || !refused.Absent() && !refused.Denied() {
			return "", err
		}
		if refused.Code != last {
			count, last, first = 0, refused.Code, time.Now()
		}
		count++
		if refused.Code == was.refused || count >= times && time.Since(first) >= over {
			was.refused = refused.Code
			c.note(tag, was)
			return "", err
		}
		if !refused.Absent() {
			c.forget(tag) // a login may have been renewed
		}
		if err := poll.Sleep(ctx, over/time.Duration(times-1)); err != nil {
			return "", err
		}
	}
}

// ask asks once. In doubt it asks with GET, which also has the registry's
// words.
func (c *Client) ask(ctx context.Context, ref string, tag name.Tag, doubt bool) (string, error) {
	p, err := c.following()
	if err != nil {
		return "", &InvalidError{Ref: ref, Err: err}
	}
	c.mu.Lock()
	get := c.headless[tag.RegistryStr()]
	c.mu.Unlock()
	remember := false
	if !get && !doubt {
		got := make(chan v1.Hash, 1)
		err := limited(ctx, func(ctx context.Context) error {
			d, err := p.Head(ctx, tag)
			if err == nil {
				got <- d.Digest
			}
			return err
		})
		if err == nil {
			return (<-got).String(), nil
		}
		if ctx.Err() != nil || !headless(err) {
			return "", classify(ctx, ref, err)
		}
		remember = true
	}
	got := make(chan *remote.Descriptor, 1)
	err = limited(ctx, func(ctx context.Context) error {
		d, err := p.Get(ctx, tag)
		if err == nil {
			got <- d
		}
		return err
	})
	if err != nil {
		return "", classify(ctx, ref, err)
	}
	d := <-got
	if _, err := parseManifest(d.Manifest); err != nil {
		return "", &UnreachableError{Ref: ref, Err: err}
	}
	c.remember(d.Digest, d.Manifest)
	if remember {
		c.log("%s leaves out headers of HEAD; it is asked with GET", tag.RegistryStr())
		c.mu.Lock()
		c.headless[tag.RegistryStr()] = true
		c.mu.Unlock()
	}
	return d.Digest.String(), nil
}

// headless reports whether a HEAD failed for want of a header, which has no
// type of its own, or because there is no HEAD: neither a connection's failure
// nor any other status.
func headless(err error) bool {
	if said, ok := errors.AsType[*transport.Error](err); ok {
		return said.StatusCode == http.StatusMethodNotAllowed || said.StatusCode == http.StatusNotImplemented
	}
	return !errors.As(err, new(*url.Error)) && !errors.As(err, new(*PlainError)) && !errors.Is(err, TimeoutError{})
}

// following returns the puller that lives as long as the client.
func (c *Client) following() (*remote.Puller, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.puller == nil {
		p, err := c.newPuller()
		if err != nil {
			return nil, err
		}
		c.puller = p
	}
	return c.puller, nil
}

// forget makes the next question find out about credentials anew.
func (c *Client) forget(tag name.Tag) {
	c.log("%s: credentials are read again", tag.RegistryStr())
	c.mu.Lock()
	c.puller = nil
	c.mu.Unlock()
}

func (c *Client) note(tag name.Tag, f following) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follows[tag.String()] = f
	if len(c.follows) > maxFollows {
		c.follows = map[string]following{tag.String(): f} // tags that name a commit come and go
	}
}

const maxFollows = 256

// For returns the image for a platform ("linux/arm64", "linux/arm/v7"); false:
// there is none.
func (i Image) For(platform string) (Platform, bool) {
	for _, p := range i.Platforms {
		if p.Name == platform || strings.HasPrefix(p.Name, platform+"/") {
			return p, true
		}
	}
	return Platform{}, false
}

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"homelab/pkg/poll"
	"homelab/pkg/transport"
)

const (
	attempt = 5 * time.Second
	tries   = 3        // of one question, when no answer came
	maxBlob = 16 << 20 // of a configuration or provenance
	maxKept = 32 << 20 // of all that is remembered
)

// Options of New. The zero value asks with the user's docker credentials.
type Options struct {
	Insecure    []string // hosts, with port if they have one, that may be asked over plain http
	PullSecrets [][]byte // contents of .dockerconfigjson, tried before the user's own
	UserAgent   string
	Proxy       func(*url.URL) (*url.URL, error) // nil: none
	Log         func(format string, args ...any)
	Transport   http.RoundTripper // instead of one of its own, such as a *transport.Stack with a pin
}

// Client asks registries. It is safe for concurrent use, remembers by digest
// what cannot change, and dials nothing before it is asked.
type Client struct {
	o    Options
	next http.RoundTripper
	keys authn.Keychain

	mu       sync.Mutex
	known    map[v1.Hash][]byte // manifests, configurations and provenance, digest checked
	size     int                // of them, in bytes
	puller   *remote.Puller     // of Tag; nil: to be made
	headless map[string]bool    // registries whose HEAD does not tell enough
	follows  map[string]following
}

// New returns a Client. The error names a pull secret that cannot be read.
func New(o Options) (*Client, error) {
	c := &Client{
		o: o, next: o.Transport, known: map[v1.Hash][]byte{}, headless: map[string]bool{}, follows: map[string]following{},
	}
	if c.next == nil {
		d := net.Dialer{Timeout: attempt, KeepAlive: 15 * time.Second}
		c.next = &http.Transport{
			DialContext: d.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: attempt,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
			Proxy: func(r *http.Request) (*url.URL, error) {
				if o.Proxy == nil {
					return nil, nil
				}
				return o.Proxy(r.URL)
			},
		}
	}
	var keys []authn.Keychain
	for _, s := range o.PullSecrets {
		k, err := secret(s)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	c.keys = authn.NewMultiKeychain(append(keys, authn.DefaultKeychain)...)
	return c, nil
}

// parse reads a reference as container runtimes do.
func (c *Client) parse(ref string) (name.Reference, error) {
	r, err := name.ParseReference(ref, name.WeakValidation)
	if err == nil && c.plain(r.Context().RegistryStr()) {
		r, err = name.ParseReference(ref, name.WeakValidation, name.Insecure)
	}
	if err != nil {
		return nil, &InvalidError{Ref: ref, Err: err}
	}
	return r, nil
}

// plain says whether host may be asked over plain http.
func (c *Client) plain(host string) bool {
	if slices.Contains(c.o.Insecure, host) {
		return true
	}
	h, _, err := net.SplitHostPort(host)
	if err != nil {
		h = host
	}
	a, err := netip.ParseAddr(strings.Trim(h, "[]"))
	return h == "localhost" || err == nil && a.IsLoopback()
}

// session asks one repository: the first question finds out about scheme and
// credentials.
type session struct {
	c      *Client
	ref    string
	puller *remote.Puller
}

func (c *Client) session(ref string) (*session, error) {
	p, err := c.newPuller()
	return &session{c: c, ref: ref, puller: p}, err
}

func (c *Client) newPuller() (*remote.Puller, error) {
	return remote.NewPuller(
		remote.WithTransport(guard{c}), remote.WithAuthFromKeychain(c.keys), remote.WithUserAgent(c.o.UserAgent),
		// try repeats; a retry inside a retry multiplies.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), remote.WithRetryPredicate(func(error) bool { return false }),
		remote.WithRetryStatusCodes(),
	)
}

// try asks f until there is an answer, three times at most.
func (s *session) try(ctx context.Context, f func(context.Context) error) error {
	waits := poll.Steps(500*time.Millisecond, time.Second)
	for n := 1; ; n++ {
		err := limited(ctx, f)
		if err == nil {
			return nil
		}
		err = classify(ctx, s.ref, err)
		final := errors.As(err, new(*PlainError)) || errors.As(err, new(*LimitedError))
		if n == tries || final || !errors.As(err, new(*UnreachableError)) {
			return err
		}
		s.c.log("%v; again", err)
		if err := poll.Sleep(ctx, waits.Next()); err != nil {
			return err
		}
	}
}

// limited gives f one attempt's time. A credential helper does not know of
// contexts, so f is left behind when it is over.
func limited(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, attempt, TimeoutError{})
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// manifest returns ref's manifest and digest.
func (s *session) manifest(ctx context.Context, ref name.Reference) (raw []byte, h v1.Hash, err error) {
	if d, ok := ref.(name.Digest); ok {
		if h, err = v1.NewHash(d.DigestStr()); err != nil {
			return nil, h, &InvalidError{Ref: s.ref, Err: err}
		}
		if raw = s.c.recall(h); raw != nil {
			return raw, h, nil
		}
	}
	type found struct {
		raw []byte
		h   v1.Hash
	}
	got := make(chan found, tries)
	err = s.try(ctx, func(ctx context.Context) error {
		d, err := s.puller.Get(ctx, ref)
		if err == nil {
			got <- found{d.Manifest, d.Digest}
		}
		return err
	})
	if err != nil {
		return nil, h, err
	}
	f := <-got
	s.c.remember(f.h, f.raw)
	return f.raw, f.h, nil
}

// blob returns a small blob, its digest checked.
func (s *session) blob(ctx context.Context, repo name.Repository, h v1.Hash) ([]byte, error) {
	if b := s.c.recall(h); b != nil {
		return b, nil
	}
	got := make(chan []byte, tries)
	err := s.try(ctx, func(ctx context.Context) error {
		l, err := s.puller.Layer(ctx, repo.Digest(h.String()))
		if err != nil {
			return err
		}
		in, err := l.Compressed() // as it is stored; verified while read
		if err != nil {
			return err
		}
		defer in.Close()
		b, err := io.ReadAll(io.LimitReader(in, maxBlob+1))
		switch {
		case err != nil:
			return err
		case len(b) > maxBlob:
			return errors.New("blob " + h.String() + " is too large")
		}
		got <- b
		return nil
	})
	if err != nil {
		return nil, err
	}
	b := <-got
	s.c.remember(h, b)
	return b, nil
}

func (c *Client) recall(h v1.Hash) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[h]
}

func (c *Client) remember(h v1.Hash, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size += len(b) - len(c.known[h]); c.size > maxKept {
		clear(c.known)
		c.size = len(b)
	}
	c.known[h] = b
}

func (c *Client) log(format string, args ...any) {
	if c.o.Log != nil {
		c.o.Log(format, args...)
	}
}

// guard keeps plain http to where it is allowed: go-containerregistry would
// also use it for private addresses and .local names, and follow an http realm
// or redirect.
type guard struct{ c *Client }

var _ http.RoundTripper = guard{}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.c.plain(r.URL.Host) {
		return nil, &PlainError{Host: r.URL.Host}
	}
	start := time.Now()
	// The library follows redirects itself: blobs are often kept elsewhere.
	r = r.WithContext(transport.WithCall(r.Context(), transport.Call{ByHand: true}))
	res, err := g.c.next.RoundTrip(r)
	took := time.Since(start).Round(time.Millisecond)
	if err != nil {
		g.c.log("registry %s %s%s: %v (%s)", r.Method, r.URL.Host, r.URL.Path, err, took)
		if errors.Is(err, http.ErrSchemeMismatch) {
			return nil, &PlainError{Host: r.URL.Host} // it answered over TLS as a plain server does
		}
		return nil, err
	}
	g.c.log("registry %s %s%s: %d (%s)", r.Method, r.URL.Host, r.URL.Path, res.StatusCode, took)
	if res.StatusCode == http.StatusTooManyRequests {
		_ = res.Body.Close()
		return nil, &LimitedError{Host: r.URL.Host, After: after(res)} // the library keeps no headers
	}
	if strings.Contains(r.URL.Path, "/manifests/") {
		// What is cut off here has another digest, or is no JSON.
		res.Body = limitedBody{io.LimitReader(res.Body, maxManifest), res.Body}
	}
	return res, nil
}

// maxManifest is more than registries take.
const maxManifest = 8 << 20

type limitedBody struct {
	io.Reader
	io.Closer
}

// after is how long a registry that counts requests wants silence; 0: it does
// not say.
func after(res *http.Response) time.Duration {
	if d := transport.RetryAfter(res); d > 0 {
		return min(d, mostAfter)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(res.Header.Get("RateLimit-Reset")), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, mostAfter)
}

const mostAfter = time.Hour // no registry silences a watch for good

// pullSecret holds the credentials of one .dockerconfigjson.
type pullSecret map[string]authn.AuthConfig

// secret reads a pull secret. The error never shows what is in it.
func secret(b []byte) (pullSecret, error) {
	var s struct {
		Auths map[string]authn.AuthConfig `json:"auths"`
	}
	if json.Unmarshal(b, &s) != nil {
		return nil, errors.New("a pull secret is not a docker configuration")
	}
	return pullSecret(s.Auths), nil
}

// Resolve returns the credentials for the longest key that covers target, as
// the kubelet picks them, wildcards in the host included.
func (p pullSecret) Resolve(target authn.Resource) (authn.Authenticator, error) {
	want := target.String()
	best := ""
	for key := range p {
		k := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://"), "/")
		if h, path, _ := strings.Cut(k, "/"); path == "v1" || path == "v2" {
			k = h // "https://index.docker.io/v1/"
		}
		if covers(k, want) && len(key) > len(best) {
			best = key
		}
	}
	if best == "" {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(p[best]), nil
}

// covers says whether a secret for pattern is good for the repository target.
func covers(pattern, target string) bool {
	host, path, _ := strings.Cut(pattern, "/")
	thost, tpath, _ := strings.Cut(target, "/")
	if host == "docker.io" {
		host = name.DefaultRegistry
	}
	if path != "" && tpath != path && !strings.HasPrefix(tpath, path+"/") {
		return false
	}
	hs, ts := strings.Split(host, "."), strings.Split(thost, ".")
	if len(hs) != len(ts) {
		return false
	}
	for i := range hs {
		before, after, wild := strings.Cut(hs[i], "*")
		if !wild && hs[i] != ts[i] {
			return false
		}
		if wild && (len(ts[i]) < len(before)+len(after) || !strings.HasPrefix(ts[i], before) || !strings.HasSuffix(ts[i], after)) {
			return false
		}
	}
	return true
}

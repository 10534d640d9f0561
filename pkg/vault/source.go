package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// The time a Read may take. The budget leaves room to ask the node's health.
const (
	attemptTime = 10 * time.Second
	budget      = 15 * time.Second
	allTime     = 20 * time.Second
	healthTime  = 3 * time.Second
)

// Options say where the secret is and how Vault is reached.
type Options struct {
	Address      *url.URL                         // the server; a path in it is kept
	Token        transport.Secret                 // VAULT_TOKEN; zero: ~/.vault-token
	Home         string                           // holds .vault-token and .vault; "": neither is looked at
	Namespace    string                           // "" is the root namespace
	CAFile       string                           // added to the system roots; "" none
	Pin          *transport.Pin                   // nil: DNS
	Proxy        func(*url.URL) (*url.URL, error) // for unpinned connections; nil none
	Path         string                           // MOUNT/REST as "vault kv get" takes it, without "data"
	Field        string                           // the field of the secret
	Log          func(format string, args ...any) // -v; nil: silent
	Redact       *transport.Redactor              // learns the Vault token and what is read; nil: nobody
	UserAgent    string                           //
	InsecureHTTP bool                             // allow http to anything but loopback
}

// Source reads one field of one secret. It is safe for concurrent use.
type Source struct {
	o      Options
	origin transport.Origin
	retry  *transport.Retry
	secret *api.Client // with namespace and retries
	bare   *api.Client // for sys/health: once, in the root namespace
}

// New returns a source; nothing is dialled. The error is a *fault.Error of
// kind Usage.
func New(o Options) (*Source, error) {
	if o.Address == nil {
		return nil, fault.New(fault.Usage, "there is no Vault address", "homelab config show").Because("set vault.address or VAULT_ADDR")
	}
	if o.Redact == nil {
		o.Redact = &transport.Redactor{}
	}
	o.Path = strings.Trim(o.Path, "/")
	mount, rest, ok := strings.Cut(o.Path, "/")
	for part := range strings.SplitSeq(o.Path, "/") {
		ok = ok && part != "" && part != "." && part != ".."
	}
	if !ok || mount == "" || rest == "" {
		return nil, fault.Usagef("homelab config show", "the Vault path %q is not MOUNT/PATH, such as secret/ci/global", o.Path)
	}
	if o.Field == "" {
		return nil, fault.Usagef("homelab config show", "no field of %s is named", o.Path)
	}
	s := &Source{o: o}
	stack, err := transport.New(transport.Options{
		Base: o.Address, Pin: o.Pin, CAFile: o.CAFile, Proxy: o.Proxy, InsecureHTTP: o.InsecureHTTP,
		UserAgent: o.UserAgent, Log: o.Log, Redact: o.Redact,
		Token:    func(context.Context) (transport.Secret, error) { return s.token() },
		SetToken: func(h http.Header, t transport.Secret) { h.Set(api.AuthHeaderName, t.Reveal()) },
	})
	if err != nil {
		if f, ok := errors.AsType[*fault.Error](err); ok {
			return nil, fault.New(f.Kind, "vault: "+f.What, f.Next).Because(f.Why).From(f.Err)
		}
		return nil, err
	}
	s.origin = stack.Origin()
	if err := s.connect(stack, stack.CloseIdleConnections, 0.25); err != nil {
		return nil, fault.New(fault.Usage, "vault: the client for "+s.origin.String()+" cannot be made", "homelab config show").Because(err.Error()).From(err)
	}
	return s, nil
}

// connect puts retries and the library's client on top of next.
func (s *Source) connect(next http.RoundTripper, closeIdle func(), jitter float64) (err error) {
	s.retry = transport.NewRetry(transport.RetryOptions{
		Next: next, Judge: judge, Healthy: s.settled, CloseIdle: closeIdle,
		Log: s.o.Redact.Logf(s.o.Log), Jitter: jitter,
	})
	address := strings.TrimSuffix(s.o.Address.String(), "/")
	if s.secret, err = newClient(address, s.o.Namespace, s.retry); err != nil {
		return err
	}
	s.bare, err = newClient(address, "", next)
	return err
}

// Read returns the field's value as it is now: nothing is cached. It takes 20 s
// at most. The error is ctx's cause if ctx ended, else a *fault.Error: Denied
// when Vault answers and there is nothing to be had, Unreachable when it does
// not answer. Source: KV secrets engine, Vault 1.x API.
func (s *Source) Read(ctx context.Context) (transport.Secret, error) {
	if _, err := s.token(); err != nil { // before anything is dialled
		return transport.Secret{}, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, allTime, errors.New("no answer within "+allTime.String()))
	defer cancel()
	found, err := s.find(limited)
	if err == nil {
		return s.field(found)
	}
	if ctx.Err() != nil {
		return transport.Secret{}, context.Cause(ctx)
	}
	return transport.Secret{}, s.explain(limited, err)
}

// entry is what was found at an API path.
type entry struct {
	path    string // as the API names it: secret/data/ci/global
	version int    // of KV: 1 or 2
	data    map[string]any
}

// refusal is a 403 for an API path; missing a 404; gone a deleted version.
type (
	refusal struct{ path string }
	missing struct{ path string }
	gone    struct {
		version   string
		at        string // RFC 3339; "" if it is not told
		destroyed bool
	}
)

func (e *refusal) Error() string { return "permission denied: " + e.path }
func (e *missing) Error() string { return "nothing at " + e.path }
func (e *gone) Error() string    { return "version " + e.version + " is gone" }

// find reads the secret. The mount tells its KV version; where asking is not
// allowed, both versions' paths are tried, with the first segment as the mount.
func (s *Source) find(ctx context.Context) (entry, error) {
	mount, version, err := s.mount(ctx)
	if err != nil {
		return entry{}, err
	}
	switch version {
	case 1:
		return s.read(ctx, s.o.Path, 1)
	case 2:
		rest := strings.TrimPrefix(s.o.Path+"/", mount)
		if rest == "" {
			return entry{}, fault.Usagef("homelab config show", "the Vault path %s is a mount, not a secret in it", s.o.Path)
		}
		return s.read(ctx, mount+"data/"+strings.TrimSuffix(rest, "/"), 2)
	}
	mount, rest, _ := strings.Cut(s.o.Path, "/")
	found, err := s.read(ctx, mount+"/data/"+rest, 2)
	if !errors.As(err, new(*refusal)) && !errors.As(err, new(*missing)) {
		return found, err
	}
	// What version 2 said stands unless version 1 has the secret: on a
	// version 2 mount this path means nothing.
	found, second := s.read(ctx, s.o.Path, 1)
	switch {
	case second == nil:
		return found, nil
	case errors.As(second, new(*refusal)), errors.As(second, new(*missing)):
		return entry{}, err
	}
	return entry{}, second
}

// mount asks which mount the path is in and of which KV version it is. 0 means
// that Vault does not tell this token.
func (s *Source) mount(ctx context.Context) (path string, version int, err error) {
	answer, err := s.get(ctx, "sys/internal/ui/mounts/"+s.o.Path)
	switch {
	case errors.As(err, new(*refusal)), errors.As(err, new(*missing)):
		return "", 0, nil
	case err != nil:
		return "", 0, err
	}
	path, _ = answer.Data["path"].(string)
	if path == "" || !strings.HasPrefix(s.o.Path+"/", path) {
		return "", 0, nil
	}
	options, _ := answer.Data["options"].(map[string]any)
	switch v := fmt.Sprint(options["version"]); v {
	case "2":
		return path, 2, nil
	case "1", "<nil>", "":
		return path, 1, nil
	default:
		return "", 0, fault.New(fault.Denied, "the Vault mount "+path+" has KV version "+v+", which is not known", "homelab doctor")
	}
}

func (s *Source) read(ctx context.Context, path string, version int) (entry, error) {
	answer, err := s.get(ctx, path)
	if err != nil {
		return entry{}, err
	}
	if version == 1 {
		return entry{path: path, version: 1, data: answer.Data}, nil
	}
	data, ok := answer.Data["data"].(map[string]any)
	if ok {
		return entry{path: path, version: 2, data: data}, nil
	}
	about, _ := answer.Data["metadata"].(map[string]any)
	if about == nil {
		return entry{}, &missing{path}
	}
	at, _ := about["deletion_time"].(string)
	destroyed, _ := about["destroyed"].(bool)
	return entry{}, &gone{version: fmt.Sprint(about["version"]), at: at, destroyed: destroyed}
}

// get reads an API path. The error is *refusal, *missing, or what the
// transport or the library says. A 404 with data, as of a deleted version, is
// an answer.
func (s *Source) get(ctx context.Context, path string) (*api.Secret, error) {
	ctx = transport.WithCall(ctx, transport.Call{Name: "vault " + path, Total: attemptTime, Budget: budget, MaxBody: 1 << 20})
	answer, err := s.secret.Logical().ReadWithContext(ctx, path)
	var refused *api.ResponseError
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden:
		return nil, &refusal{path}
	case err != nil:
		return nil, err
	case answer == nil || answer.Data == nil:
		return nil, &missing{path}
	}
	return answer, nil
}

// field takes the value out of the secret.
func (s *Source) field(e entry) (transport.Secret, error) {
	denied := func(what string) *fault.Error { return fault.New(fault.Denied, what, "homelab config show") }
	value, ok := e.data[s.o.Field]
	if !ok {
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range e.data {
				if !yield(name) {
					return
				}
			}
		})
		why := "it has no fields"
		if len(names) > 0 {
			why = "it has " + strings.Join(names, ", ")
		}
		return transport.Secret{}, denied(fmt.Sprintf("the Vault secret %s has no field %s", s.o.Path, s.o.Field)).Because(why)
	}
	text, ok := value.(string)
	if n, isNumber := value.(json.Number); isNumber {
		text, ok = n.String(), true
	}
	what := fmt.Sprintf("field %s of the Vault secret %s cannot be used as a token", s.o.Field, s.o.Path)
	if !ok {
		return transport.Secret{}, denied(what).Because("it is not text")
	}
	secret, err := transport.NewSecret(text)
	if err != nil {
		return transport.Secret{}, denied(what).Because("it " + err.Error()).From(err)
	}
	s.o.Redact.Add(secret)
	return secret, nil
}

// judge sorts Vault's answers. Unlike Woodpecker's its 403 and 404 are true;
// what is not its JSON comes from something in front of it. 412 is a read that
// a replica cannot serve yet. 501 and 503 are believed to be a state only if
// the node's health says so, see settled.
func judge(x transport.Exchange) transport.Judgement {
	var cert *transport.CertificateError
	var away *transport.RedirectError
	switch {
	case errors.As(x.Err, &cert), errors.As(x.Err, &away):
		return transport.Judgement{Class: transport.Confirm, Times: 2}
	case x.Err != nil:
		return transport.Judgement{Class: transport.Transient}
	}
	status := x.Response.StatusCode
	kind, _, _ := mime.ParseMediaType(x.Response.Header.Get("Content-Type"))
	said := words(status, x.Body)
	switch {
	case status == http.StatusNotImplemented, status == http.StatusServiceUnavailable:
		return transport.Judgement{Class: transport.Confirm, Err: said}
	case status >= 500, status == http.StatusPreconditionFailed, status == http.StatusTooManyRequests,
		status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return transport.Judgement{Class: transport.Transient, Err: said}
	case kind != "application/json" || !json.Valid(x.Body):
		return transport.Judgement{Class: transport.Transient, Err: fmt.Errorf("%d without Vault's JSON: a proxy answers, or it is cut", status)}
	}
	return transport.Judgement{Class: transport.Answer}
}

// words returns what Vault said in an error answer.
func words(status int, body []byte) error {
	var e api.ErrorResponse
	if json.Unmarshal(body, &e) == nil && len(e.Errors) > 0 {
		return fmt.Errorf("%d: %s", status, strings.Join(strings.Fields(strings.Join(e.Errors, "; ")), " "))
	}
	return fmt.Errorf("%d %s", status, http.StatusText(status))
}

// settled returns nil if the node is in a state in which waiting is in vain.
// While it is not, a 501 or 503 is passing: a leader is being elected.
func (s *Source) settled(ctx context.Context) error {
	h, err := s.health(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("sys/health: %w", err)
	case !h.Initialized || h.Sealed:
		return nil
	}
	return errors.New("sys/health says it is neither sealed nor uninitialised")
}

// health asks the node how it is, once.
func (s *Source) health(ctx context.Context) (*api.HealthResponse, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, healthTime, errors.New("no answer within "+healthTime.String()))
	defer cancel()
	h, err := s.bare.Sys().HealthWithContext(ctx)
	if err == nil && h.Version == "" {
		err = errors.New("the answer is not Vault's")
	}
	return h, err
}

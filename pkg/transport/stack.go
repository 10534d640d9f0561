package transport

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"homelab/pkg/fault"
)

// Options configure the stack for one server.
type Options struct {
	Base         *url.URL                              // the configured server; its path is not used here
	Pin          *Pin                                  // nil: DNS
	CAFile       string                                // PEM file added to the system roots; "" none
	Proxy        func(*url.URL) (*url.URL, error)      // for unpinned connections only; nil none
	InsecureHTTP bool                                  // allow http to anything but loopback
	UserAgent    string                                // "" leaves Go's
	Token        func(context.Context) (Secret, error) // nil, or a zero Secret: anonymous. An error ends the call
	SetToken     func(h http.Header, s Secret)         // how the token is written; nil: Bearer
	Log          func(format string, args ...any)      // -v: one line per attempt, already redacted; nil: silent
	Redact       *Redactor                             // learns the token when it is first used; nil: one of its own
}

// Stack sends one request once: it does not retry and sets no total time.
// Redirects never leave it (see *RedirectError), but for calls with ByHand.
type Stack struct {
	top    http.RoundTripper
	base   *http.Transport
	origin Origin
}

var _ http.RoundTripper = (*Stack)(nil)

// New builds the stack. Nothing is dialled, only CAFile is read. The error is
// a *fault.Error of kind Usage: a bad URL or CA file, or plain http where it
// would show the token to the network.
func New(o Options) (*Stack, error) {
	origin, err := OriginOf(o.Base)
	if err != nil {
		return nil, fault.New(fault.Usage, "the server's URL cannot be used", "homelab config show").Because(err.Error()).From(err)
	}
	if o.Base.User != nil {
		return nil, fault.New(fault.Usage, "the URL of "+origin.String()+" must not contain a user name or password", "homelab config show")
	}
	if o.Pin != nil && !o.Pin.Addr.IsValid() {
		return nil, fault.New(fault.Usage, "the pin for "+origin.String()+" has no address", "homelab config show")
	}
	local := origin.Loopback() || o.Pin != nil && o.Pin.Addr.IsLoopback()
	if origin.Scheme == "http" && !local && !o.InsecureHTTP {
		return nil, fault.New(fault.Usage, origin.String()+" is plain http: anyone on the way could read the token", "homelab config show").
			Because("use https, or add --insecure-http")
	}
	tlsConfig, err := trust(o.CAFile)
	if err != nil {
		return nil, err
	}
	redactor := o.Redact
	if redactor == nil {
		redactor = &Redactor{}
	}
	s := &Stack{origin: origin, base: &http.Transport{
		DialContext:            dialer(origin, o.Pin),
		Proxy:                  proxied(origin, o.Pin, o.Proxy),
		TLSClientConfig:        tlsConfig,
		ForceAttemptHTTP2:      true, // a dialer of one's own switches HTTP/2 off otherwise
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    4,
		MaxResponseHeaderBytes: 1 << 20,
	}}
	s.top = s.base
	if o.Token != nil {
		set := o.SetToken
		if set == nil {
			set = Bearer
		}
		s.top = &token{next: s.top, origin: origin, get: o.Token, set: set, redact: redactor}
	}
	s.top = &redirect{next: &certificate{next: s.top}}
	if o.UserAgent != "" {
		s.top = &userAgent{next: s.top, value: o.UserAgent}
	}
	if o.Log != nil {
		s.top = &logger{next: s.top, log: redactor.Logf(o.Log)}
	}
	return s, nil
}

// RoundTrip sends req once. Errors besides net/http's own: *CertificateError,
// *RedirectError, *TokenError.
func (s *Stack) RoundTrip(req *http.Request) (*http.Response, error) { return s.top.RoundTrip(req) }

// CloseIdleConnections closes what no request is using.
func (s *Stack) CloseIdleConnections() { s.base.CloseIdleConnections() }

// Origin returns the configured server's origin: the only one that gets the
// token.
func (s *Stack) Origin() Origin { return s.origin }

func itoa(n int) string { return strconv.Itoa(n) }

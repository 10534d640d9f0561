package transport

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// arrival is one request as a server saw it.
type arrival struct {
	proto, host, sni, path, auth, agent string
}

type server struct {
	*httptest.Server
	addr netip.AddrPort
	mu   sync.Mutex
	got  []arrival
	sni  []string // of every handshake begun
}

func (s *server) arrivals() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// serve listens on an address like "127.0.0.2:0"; a nil cert serves plain http.
func serve(t *testing.T, listen string, cert *tls.Certificate, h http.HandlerFunc) *server {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: netip.MustParseAddrPort(l.Addr().String())}
	s.Server = &httptest.Server{Listener: l, EnableHTTP2: true, Config: &http.Server{
		ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := arrival{proto: r.Proto, host: r.Host, path: r.URL.RequestURI(), auth: r.Header.Get("Authorization"), agent: r.UserAgent()}
			if r.TLS != nil {
				a.sni = r.TLS.ServerName
			}
			s.mu.Lock()
			s.got = append(s.got, a)
			s.mu.Unlock()
			h(w, r)
		}),
	}}
	if cert == nil {
		s.Start()
	} else {
		s.TLS = &tls.Config{
			Certificates: []tls.Certificate{*cert},
			GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.sni = append(s.sni, h.ServerName)
				return nil, nil
			},
		}
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *server) port() string { return strconv.Itoa(int(s.addr.Port())) }
func (s *server) pin() *Pin    { return &Pin{Addr: s.addr.Addr(), Port: s.addr.Port()} }

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func newStack(t *testing.T, o Options) *Stack {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.CloseIdleConnections)
	return s
}

// fetch sends one request through the stack and returns what came.
func fetch(t *testing.T, rt http.RoundTripper, method, address string) (status int, body string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b := new(bytes.Buffer)
	_, err = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String(), err
}

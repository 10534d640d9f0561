// Package tlstest makes certificates in memory and listeners on the loopback
// for tests of everything that depends on names, trust and expiry.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// TB is what is needed of a *testing.T, so that a program such as a
// demonstration can bring its own.
type TB interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// CA is a certificate authority nobody trusts until told to.
type CA struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial atomic.Int64
}

// NewCA makes an authority. Two of them do not trust each other.
func NewCA(t TB) *CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "homelab test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ca := &CA{cert: cert, key: key}
	ca.serial.Store(1)
	return ca
}

// PEM is the authority's certificate.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// File writes the authority's certificate into the test's directory.
func (ca *CA) File(t TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Pool trusts only this authority.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

// Cert makes a certificate for the names; IP addresses among them count as such.
func (ca *CA) Cert(t TB, names ...string) tls.Certificate {
	t.Helper()
	return ca.issue(t, time.Now().Add(24*time.Hour), names)
}

// Expired makes a certificate that ended an hour ago.
func (ca *CA) Expired(t TB, names ...string) tls.Certificate {
	t.Helper()
	return ca.issue(t, time.Now().Add(-time.Hour), names)
}

func (ca *CA) issue(t TB, until time.Time, names []string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial.Add(1)), Subject: pkix.Name{CommonName: "homelab test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key, Leaf: leaf}
}

// Server is a listener on 127.0.0.1 with TLS and HTTP/2.
type Server struct {
	Addr  netip.AddrPort
	conns atomic.Int64
	names chan string // SNI of the handshakes, the newest hundred
	http  *http.Server
}

// Options of Start. The zero value serves HTTP/1 and HTTP/2.
type Options struct {
	HTTP1 bool                            // no HTTP/2, as hijacking handlers need it
	Wrap  func(net.Listener) net.Listener // around the plain listener
	Cert  func() (tls.Certificate, error) // chosen at each handshake instead of the given one
	Addr  string                          // "" means any of 127.0.0.1
}

// Serve starts a server that presents a certificate for the names. It ends
// with the test.
func (ca *CA) Serve(t TB, h http.Handler, names ...string) *Server {
	t.Helper()
	return Start(t, h, ca.Cert(t, names...), Options{})
}

// Start starts a server with the certificate. It ends with the test, and so
// long nobody else answers at its address, not even after Close.
func Start(t TB, h http.Handler, cert tls.Certificate, o Options) *Server {
	t.Helper()
	addr := o.Addr
	if addr == "" {
		addr = Reserve(t).String()
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().(*net.TCPAddr).AddrPort(), names: make(chan string, 100)}
	protocols := []string{"h2", "http/1.1"}
	if o.HTTP1 {
		protocols = protocols[1:]
	}
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(!o.HTTP1)
	s.http = &http.Server{
		Handler: h, Protocols: &p, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(discard{}, "", 0),
		ConnState: func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				s.conns.Add(1)
			}
		},
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: protocols,
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				select {
				case s.names <- hello.ServerName:
				default:
				}
				if o.Cert == nil {
					return &cert, nil
				}
				c, err := o.Cert()
				return &c, err
			},
		},
	}
	if o.Wrap != nil {
		l = o.Wrap(l)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.http.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("tlstest: %v", err)
		}
	}()
	t.Cleanup(func() { s.Close(); <-done })
	return s
}

// Close stops the server at once. The test's end does so too.
func (s *Server) Close() { _ = s.http.Close() }

// URL is the server's base URL under the given name.
func (s *Server) URL(name string) string {
	return "https://" + net.JoinHostPort(name, s.Port())
}

// Port is the listener's port.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Addr.String())
	return port
}

// Conns counts the connections accepted so far.
func (s *Server) Conns() int { return int(s.conns.Load()) }

// ServerNames are the names clients asked for in their handshakes since the
// last call.
func (s *Server) ServerNames() []string {
	var out []string
	for {
		select {
		case n := <-s.names:
			out = append(out, n)
		default:
			return out
		}
	}
}

// discard swallows the server's complaints about broken handshakes.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

package tlstest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"homelab/internal/tlstest"
)

// client dials every name at the server's address and trusts the authority.
func client(t *testing.T, s *tlstest.Server, ca *tlstest.CA) *http.Client {
	tr := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.Addr.String())
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	return res, err
}

func TestServe(t *testing.T) {
	ca := tlstest.NewCA(t)
	s := ca.Serve(t, http.NotFoundHandler(), "ci.example.lan", "127.0.0.1")
	c := client(t, s, ca)
	for _, name := range []string{"ci.example.lan", "127.0.0.1"} {
		res, err := get(t, c, s.URL(name))
		if err != nil {
			t.Fatal(err)
		}
		if res.ProtoMajor != 2 || res.StatusCode != 404 {
			t.Errorf("%s: %s %d", name, res.Proto, res.StatusCode)
		}
	}
	if n := s.ServerNames(); len(n) != 2 || n[0] != "ci.example.lan" || n[1] != "" {
		t.Errorf("names asked for: %q", n)
	}
	if s.Conns() != 2 {
		t.Errorf("%d connections", s.Conns())
	}
	if _, err := get(t, client(t, s, tlstest.NewCA(t)), s.URL("ci.example.lan")); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("another authority: %v", err)
	}
	if _, err := get(t, c, s.URL("other.example.lan")); !errors.As(err, new(x509.HostnameError)) {
		t.Errorf("wrong name: %v", err)
	}
	b, err := os.ReadFile(ca.File(t))
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(b) {
		t.Errorf("CA file: %v", err)
	}
}

func TestExpired(t *testing.T) {
	ca := tlstest.NewCA(t)
	s := tlstest.Start(t, http.NotFoundHandler(), ca.Expired(t, "ci.example.lan"), tlstest.Options{HTTP1: true})
	_, err := get(t, client(t, s, ca), s.URL("ci.example.lan"))
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("got %v", err)
	}
}

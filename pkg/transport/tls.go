package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"

	"homelab/pkg/fault"
)

// trust returns the TLS settings: system roots, plus those in caFile. It never
// names a server and never skips verification; both come from the URL.
func trust(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil // nil roots are the system's, loaded when first needed
	}
	pem, err := os.ReadFile(caFile) //nolint:gosec // the user's own configuration names it
	if err != nil {
		return nil, fault.New(fault.Usage, "the CA file cannot be read", "homelab config show").Because(err.Error()).From(err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Usage, "the CA file "+caFile+" holds no certificate", "homelab config show")
	}
	c.RootCAs = roots
	return c, nil
}

// certificate turns a refused certificate into a *CertificateError that names
// the address, which the TLS layer does not know.
type certificate struct {
	next http.RoundTripper
}

var _ http.RoundTripper = (*certificate)(nil)

func (c *certificate) RoundTrip(req *http.Request) (*http.Response, error) {
	var mu sync.Mutex
	dialled := ""
	trace := &httptrace.ClientTrace{ConnectDone: func(_, addr string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			dialled = addr
		}
	}}
	resp, err := c.next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err == nil {
		return resp, nil
	}
	var refused *tls.CertificateVerificationError
	if !errors.As(err, &refused) {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	return nil, &CertificateError{
		Addr: dialled, Name: req.URL.Hostname(), Presented: presented(refused.UnverifiedCertificates), Err: refused.Err,
	}
}

// presented returns the names the first certificate, the server's own, is for.
func presented(chain []*x509.Certificate) []string {
	if len(chain) == 0 {
		return nil
	}
	names := append([]string(nil), chain[0].DNSNames...)
	for _, ip := range chain[0].IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 && chain[0].Subject.CommonName != "" {
		names = append(names, chain[0].Subject.CommonName)
	}
	return names
}

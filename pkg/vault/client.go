package vault

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"
)

// newClient returns the library's client as our configuration wants it, no
// matter what VAULT_* say (ADR 0019):
//
//   - VAULT_ADDR, VAULT_AGENT_ADDR, VAULT_CACERT, VAULT_SKIP_VERIFY,
//     VAULT_HTTP_PROXY and the like only shape the library's default
//     configuration; ours is complete, so nothing is taken from it.
//   - VAULT_TOKEN, VAULT_NAMESPACE and VAULT_HEADERS are put into every new
//     client; they are replaced. The token stays out of the client altogether:
//     our transport attaches it.
//   - VAULT_WRAP_TTL is read at every request by the default wrapping
//     function; that is replaced too.
//   - A malformed one, such as VAULT_SKIP_VERIFY=maybe or a VAULT_CACERT that
//     does not exist, makes construction fail. Only then is it repeated with
//     the variables taken away for that moment.
func newClient(address, namespace string, rt http.RoundTripper) (*api.Client, error) {
	build := func() (*api.Client, error) {
		return api.NewClient(&api.Config{
			Address: address,
			HttpClient: &http.Client{
				Transport:     rt,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
			DisableRedirects: true,
			MaxRetries:       0,
			CheckRetry:       func(context.Context, *http.Response, error) (bool, error) { return false, nil },
		})
	}
	c, err := build()
	if err != nil {
		err = withoutVaultVariables(func() (err error) { c, err = build(); return err })
	}
	if err != nil {
		return nil, err
	}
	c.ClearToken()
	c.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if namespace != "" {
		c.SetNamespace(namespace)
	}
	c.SetWrappingLookupFunc(func(string, string) string { return "" })
	return c, nil
}

// environment serialises withoutVaultVariables: two of them at once would see
// each other's half-empty environment.
var environment sync.Mutex //nolint:gochecknoglobals // the process has one environment

// withoutVaultVariables runs f while the process has no VAULT_* variables, and
// puts them back.
func withoutVaultVariables(f func() error) error {
	environment.Lock()
	defer environment.Unlock()
	for _, kv := range os.Environ() { //nolint:forbidigo // not to read configuration, but to keep the library from it
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "VAULT_") {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			return err
		}
		defer os.Setenv(name, value) //nolint:errcheck // the name was valid before
	}
	return f()
}

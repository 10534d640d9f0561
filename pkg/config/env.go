package config

import (
	"maps"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"homelab/pkg/transport"
)

// The variables this program reads, beside the proxy variables and those that
// name directories.
const (
	EnvServer         = "WOODPECKER_SERVER"
	EnvToken          = "WOODPECKER_TOKEN"
	EnvDial           = "HOMELAB_WOODPECKER_DIAL"
	EnvConfig         = "HOMELAB_CONFIG"
	EnvForgejoToken   = "FORGEJO_TOKEN" //nolint:gosec // the variable's name, no credential
	EnvGiteaToken     = "GITEA_TOKEN"   //nolint:gosec // the variable's name, no credential
	EnvGitHubToken    = "GITHUB_TOKEN"  //nolint:gosec // the variable's name, no credential
	EnvGHToken        = "GH_TOKEN"      //nolint:gosec // the variable's name, no credential
	EnvVaultAddr      = "VAULT_ADDR"
	EnvVaultToken     = "VAULT_TOKEN"
	EnvVaultCACert    = "VAULT_CACERT"
	EnvVaultNamespace = "VAULT_NAMESPACE"
	EnvKubeconfig     = "KUBECONFIG"
	EnvRepoBase       = "CERC_REPO_BASE_DIR"      // where other tools check repositories out
	EnvKubeHost       = "KUBERNETES_SERVICE_HOST" // set in a pod, as the next one is
	EnvKubePort       = "KUBERNETES_SERVICE_PORT"
)

// Env is the process environment as it was when it was read. The zero value
// is an empty environment.
type Env struct {
	list []string // NAME=value, in the original order
	vars map[string]string
}

// FromOS reads the process environment once.
func FromOS() Env { return fromList(os.Environ()) }

// FromMap returns an environment of exactly these variables.
func FromMap(vars map[string]string) Env {
	list := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		list = append(list, name+"="+vars[name])
	}
	return fromList(list)
}

func fromList(list []string) Env {
	e := Env{list: list, vars: make(map[string]string, len(list))}
	for _, pair := range list {
		if name, value, ok := strings.Cut(pair, "="); ok && name != "" {
			e.vars[name] = value
		}
	}
	return e
}

// Lookup returns the value of a variable. An empty one counts as not set: CI
// systems export a missing secret that way.
func (e Env) Lookup(name string) (string, bool) {
	v := e.vars[name]
	return v, v != ""
}

// Child returns the environment for processes this program starts, as
// NAME=value in the original order: everything but the tokens, which no child
// needs.
func (e Env) Child() []string {
	out := make([]string, 0, len(e.list))
	for _, pair := range e.list {
		name, _, _ := strings.Cut(pair, "=")
		if !slices.Contains(tokenVars(), name) {
			out = append(out, pair)
		}
	}
	return out
}

// HideTokens takes the tokens out of the process's environment, after FromOS
// has read them: a library that starts a program (a credential helper, an exec
// plugin) hands it the environment as it is.
func HideTokens() { Hide(tokenVars()) }

// Hide takes variables out of the process's environment, as HideTokens does.
func Hide(names []string) {
	for _, name := range names {
		_ = os.Unsetenv(name) // the names are fine
	}
}

// TokenNames lists the variables that hold tokens.
func TokenNames() []string { return tokenVars() }

func tokenVars() []string {
	return []string{EnvToken, EnvVaultToken, EnvForgejoToken, EnvGiteaToken, EnvGitHubToken, EnvGHToken}
}

// NoColor reports whether NO_COLOR is set to anything but the empty string.
func (e Env) NoColor() bool {
	_, ok := e.Lookup("NO_COLOR")
	return ok
}

// DumbTerminal reports whether TERM is "dumb": no cursor movement, no colour.
func (e Env) DumbTerminal() bool { return e.vars["TERM"] == "dumb" }

// CI reports whether the run belongs to a CI system: CI is set, and not to
// "false" or "0".
func (e Env) CI() bool {
	v, ok := e.Lookup("CI")
	return ok && !strings.EqualFold(v, "false") && v != "0"
}

// Home returns HOME, "" when it is not set.
func (e Env) Home() string { return e.vars["HOME"] }

// User returns the name of who runs this: USER or LOGNAME, else the name the
// system has for the process's user; "" when it has none.
func (e Env) User() string {
	for _, name := range []string{"USER", "LOGNAME"} {
		if v, ok := e.Lookup(name); ok {
			return v
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// ConfigHome returns the directory user configuration lives below:
// XDG_CONFIG_HOME, else ~/.config; "" when neither is known. A relative
// XDG_CONFIG_HOME is ignored, as its specification asks.
func (e Env) ConfigHome() string { return e.xdg("XDG_CONFIG_HOME", ".config") }

// CacheHome returns the directory caches live below: XDG_CACHE_HOME, else
// ~/.cache; "" when neither is known.
func (e Env) CacheHome() string { return e.xdg("XDG_CACHE_HOME", ".cache") }

func (e Env) xdg(name, fallback string) string {
	if dir := e.vars[name]; filepath.IsAbs(dir) {
		return dir
	}
	if e.Home() == "" {
		return ""
	}
	return filepath.Join(e.Home(), fallback)
}

// Proxy returns the proxy to use for a URL, nil for none, as HTTPS_PROXY,
// HTTP_PROXY and NO_PROXY say. The lower-case names win over the upper-case
// ones, as in curl. Loopback is never proxied.
func (e Env) Proxy() func(*url.URL) (*url.URL, error) {
	c := httpproxy.Config{CGI: e.vars["REQUEST_METHOD"] != ""}
	c.HTTPSProxy, _ = e.proxyVar("HTTPS_PROXY")
	c.HTTPProxy, _ = e.proxyVar("HTTP_PROXY")
	c.NoProxy, _ = e.proxyVar("NO_PROXY")
	return c.ProxyFunc()
}

// proxyVar returns the value of a proxy variable and the name it was found
// under, "" when it is set under neither.
func (e Env) proxyVar(name string) (value, source string) {
	for _, n := range []string{strings.ToLower(name), name} {
		if v, ok := e.Lookup(n); ok {
			return v, n
		}
	}
	return "", ""
}

// Secrets returns every secret known from the environment, for the redactor:
// all tokens, needed or not, and the passwords of proxies.
func (e Env) Secrets() []transport.Secret {
	var out []transport.Secret
	for _, name := range tokenVars() {
		if c := credential(e, name); !c.Secret.IsZero() {
			out = append(out, c.Secret)
		}
	}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		raw, _ := e.proxyVar(name)
		if u := proxyURL(raw); u != nil && u.User != nil {
			// A shorter one would blot out half of every sentence.
			if pw, ok := u.User.Password(); ok && len(pw) >= 4 {
				if s, err := transport.NewSecret(pw); err == nil {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// Package vaultsim is a Vault for tests: KV version 1 and 2 mounts, tokens
// with policies and namespaces, sealed, uninitialised and standby nodes. It
// answers as a real server does, down to the 404 that carries a deleted
// version's metadata, and records what it was sent.
package vaultsim

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"homelab/internal/tlstest"
)

// State is what kind of node answers.
type State string

// The states a node can be in.
const (
	Active        State = "active"
	Sealed        State = "sealed"
	Uninitialised State = "uninitialised"
	Standby       State = "standby" // redirects to RedirectTo, or knows no active node
)

// Token is what a token may do. The zero value is the root of its namespace.
type Token struct {
	Namespace string   // it is valid here and below
	Expired   bool     //
	Read      []string // API paths it may read, "*" at the end for a prefix; nil: all
	NoMounts  bool     // may not ask which mount a path is in
	Policies  []string // what lookup-self tells
}

// Request is one request as it arrived.
type Request struct {
	Method, Path, Namespace, Token, UserAgent string
	Header                                    http.Header
}

// Vault is a simulated server. It is an http.Handler and safe for concurrent
// use.
type Vault struct {
	mu         sync.Mutex
	state      State
	redirectTo string
	mounts     map[string]int       // namespace + "|" + mount path with slash: version
	secrets    map[string][]version // namespace + "|" + path
	tokens     map[string]Token
	intercept  func(http.ResponseWriter, *http.Request) bool
	requests   []Request
}

type version struct {
	fields    map[string]any
	deleted   string // RFC 3339
	destroyed bool
}

// New returns an active Vault without mounts and tokens.
func New() *Vault {
	return &Vault{state: Active, mounts: map[string]int{}, secrets: map[string][]version{}, tokens: map[string]Token{}}
}

// Serve starts v with TLS on 127.0.0.1 and a certificate for the names. It
// ends with the test.
func (v *Vault) Serve(t testing.TB, ca *tlstest.CA, names ...string) *tlstest.Server {
	t.Helper()
	return ca.Serve(t, v, names...)
}

// Mount makes a KV mount of version 1 or 2 at path ("secret").
func (v *Vault) Mount(namespace, path string, version int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mounts[key(namespace, strings.Trim(path, "/")+"/")] = version
}

// Put stores fields at path, which starts with its mount's; in version 2 as a
// new version.
func (v *Vault) Put(namespace, path string, fields map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := key(namespace, path)
	v.secrets[k] = append(v.secrets[k], version{fields: maps.Clone(fields)})
}

// Delete marks the newest version at path deleted; destroy removes its data
// for good.
func (v *Vault) Delete(namespace, path string, destroy bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.secrets[key(namespace, path)]
	last := &all[len(all)-1]
	last.destroyed = destroy
	if !destroy {
		last.deleted = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC).Format(time.RFC3339Nano)
	}
}

// Token makes a token known, or changes what it may do.
func (v *Vault) Token(token string, t Token) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tokens[token] = t
}

// Become changes the node's state. A Standby redirects to the base URL
// redirectTo; without one it knows no active node.
func (v *Vault) Become(s State, redirectTo string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state, v.redirectTo = s, redirectTo
}

// Intercept gives f every request first; true means f has answered. nil ends
// it.
func (v *Vault) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.intercept = f
}

// Requests returns what arrived so far.
func (v *Vault) Requests() []Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.requests)
}

func key(namespace, path string) string { return strings.Trim(namespace, "/") + "|" + path }

func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	v.requests = append(v.requests, Request{
		Method: r.Method, Path: r.URL.Path, Namespace: r.Header.Get("X-Vault-Namespace"),
		Token: r.Header.Get("X-Vault-Token"), UserAgent: r.UserAgent(), Header: r.Header.Clone(),
	})
	intercept := v.intercept
	v.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method != http.MethodGet:
		fail(w, http.StatusMethodNotAllowed)
	case path == "sys/health":
		v.health(w, r)
	case v.state == Sealed, v.state == Uninitialised:
		fail(w, http.StatusServiceUnavailable, "Vault is sealed")
	case v.state == Standby && v.redirectTo != "":
		w.Header().Set("Location", v.redirectTo+r.URL.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
	case v.state == Standby:
		fail(w, http.StatusInternalServerError, "local node not active but active cluster node not found")
	default:
		v.logical(w, r, path)
	}
}

// health answers every state with its own status, which the query may change.
func (v *Vault) health(w http.ResponseWriter, r *http.Request) {
	status, param := http.StatusOK, ""
	switch v.state {
	case Active:
	case Sealed:
		status, param = http.StatusServiceUnavailable, "sealedcode"
	case Uninitialised:
		status, param = http.StatusNotImplemented, "uninitcode"
	case Standby:
		status, param = http.StatusTooManyRequests, "standbycode"
	}
	if n, err := strconv.Atoi(r.URL.Query().Get(param)); err == nil {
		status = n
	}
	answer(w, status, map[string]any{
		"initialized": v.state != Uninitialised, "sealed": v.state == Sealed || v.state == Uninitialised,
		"standby": v.state != Active, "performance_standby": false, "version": "1.18.3", "server_time_utc": time.Now().Unix(),
	})
}

func (v *Vault) logical(w http.ResponseWriter, r *http.Request, path string) {
	namespace := strings.Trim(r.Header.Get("X-Vault-Namespace"), "/")
	t, known := v.tokens[r.Header.Get("X-Vault-Token")]
	below := t.Namespace == "" || namespace == t.Namespace || strings.HasPrefix(namespace, t.Namespace+"/")
	if !known || t.Expired || !below {
		fail(w, http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
		return
	}
	if path == "auth/token/lookup-self" {
		data(w, http.StatusOK, map[string]any{"policies": t.Policies, "type": "service", "ttl": 3600})
		return
	}
	if p, ok := strings.CutPrefix(path, "sys/internal/ui/mounts/"); ok {
		mount, version := v.mountOf(namespace, p)
		if t.NoMounts || mount == "" {
			fail(w, http.StatusForbidden, "preflight capability check returned 403, please ensure client's policies grant access to path \""+p+"/\"")
			return
		}
		options := map[string]any{"version": strconv.Itoa(version)}
		if version == 1 {
			options = nil // a mount made before there were versions
		}
		data(w, http.StatusOK, map[string]any{"path": mount, "type": "kv", "options": options})
		return
	}
	if !t.mayRead(path) {
		fail(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	if r.Header.Get("X-Vault-Wrap-TTL") != "" {
		answer(w, http.StatusOK, map[string]any{"wrap_info": map[string]any{"token": "hvs.wrapped"}})
		return
	}
	v.read(w, namespace, path)
}

func (v *Vault) read(w http.ResponseWriter, namespace, path string) {
	mount, kv := v.mountOf(namespace, path)
	if mount == "" {
		fail(w, http.StatusNotFound, "no handler for route \""+path+"\". route entry not found.")
		return
	}
	if kv == 1 {
		all := v.secrets[key(namespace, path)]
		if len(all) == 0 {
			fail(w, http.StatusNotFound)
			return
		}
		data(w, http.StatusOK, all[len(all)-1].fields)
		return
	}
	rest, ok := strings.CutPrefix(path, mount+"data/")
	if !ok {
		answer(w, http.StatusNotFound, map[string]any{"errors": []string{}, "warnings": []string{
			"Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. If using the Vault CLI, use 'vault kv get' for this operation.",
		}})
		return
	}
	all := v.secrets[key(namespace, mount+rest)]
	if len(all) == 0 {
		fail(w, http.StatusNotFound)
		return
	}
	last := all[len(all)-1]
	status, fields := http.StatusOK, any(last.fields)
	if last.deleted != "" || last.destroyed {
		status, fields = http.StatusNotFound, nil
	}
	data(w, status, map[string]any{"data": fields, "metadata": map[string]any{
		"created_time": "2026-01-01T00:00:00Z", "custom_metadata": nil,
		"deletion_time": last.deleted, "destroyed": last.destroyed, "version": len(all),
	}})
}

// mountOf returns the longest mount path is in.
func (v *Vault) mountOf(namespace, path string) (mount string, version int) {
	for k, n := range v.mounts {
		m, ok := strings.CutPrefix(k, namespace+"|")
		if ok && strings.HasPrefix(path+"/", m) && len(m) > len(mount) {
			mount, version = m, n
		}
	}
	return mount, version
}

func (t Token) mayRead(path string) bool {
	if t.Read == nil {
		return true
	}
	for _, p := range t.Read {
		if prefix, ok := strings.CutSuffix(p, "*"); p == path || ok && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

func fail(w http.ResponseWriter, status int, errs ...string) {
	if errs == nil {
		errs = []string{}
	}
	answer(w, status, map[string]any{"errors": errs})
}

func data(w http.ResponseWriter, status int, d map[string]any) {
	answer(w, status, map[string]any{
		"request_id": "5b1ba0a6-d2a5-4d9a-8d9b-2f8a3d0a1c2e", "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": d, "wrap_info": nil, "warnings": nil, "auth": nil,
	})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

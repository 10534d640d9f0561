package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// Flags are the settings the command line may give. A nil pointer means the
// flag was not given; an empty text that was given is an error.
type Flags struct {
	Config       *string // --config
	Server       *string // --server
	Dial         *string // --dial
	Context      *string // --context
	Kubeconfig   *string // --kubeconfig
	InsecureHTTP bool    // --insecure-http
}

// Options is what Load starts from.
type Options struct {
	Env      Env
	Flags    Flags
	Repo     []byte // the repository's file; nil when there is none
	RepoName string // what errors and sources call it; "" means ".homelab.yaml"
}

// Credential is a secret of the environment.
type Credential struct {
	Secret transport.Secret // zero when not set or unusable
	Set    bool             // the variable has a value
	Source Source           // the variable; when not set, zero
	Err    error            // set but unusable: *fault.Error, Usage, without the value
}

// Vault is how Vault is reached. It is judged only when it is needed:
// VAULT_ADDR may be there for other programs.
type Vault struct {
	Address   Value[*url.URL]
	Pin       Value[transport.Pin]
	CACert    Value[string] // file, added to the system roots
	Namespace Value[string]
	Token     Credential
	TokenFile string // where "vault login" leaves the token, ~/.vault-token; "" without HOME
	Helper    string // ~/.vault, which may name a token helper; "" without HOME

	err error // why Address cannot be used
}

// Ready returns nil if there is an address to ask, else a usage error with
// what to set.
func (v Vault) Ready() error { return v.err }

// Effective is the configuration of one run. Values a level named but that do
// not belong to the effective server are not set; Notes and Entries say why.
type Effective struct {
	File     Value[string] // the user's file: Set when a flag or the environment named it; "" when no place for it is known
	FileRead bool          // it was there

	Server       Value[*url.URL] // without trailing slash; nil when nothing names one
	Pin          Value[transport.Pin]
	CAFile       Value[string]
	Token        Credential
	TokenVault   Value[TokenVault]
	Vault        Vault
	Kubeconfig   Value[[]string] // files in merge order; by default ~/.kube/config
	Context      Value[string]
	StackRoots   Value[[]string] // where stacks are looked for by name, in order
	RepoBase     Value[string]   // where repositories are checked out, absolute; "" when HOME is not known either
	Forges       []Forge         // of the user's file; see ForgeFor for the built-in one
	InsecureHTTP Value[bool]
	Repo         Repo
	RepoRead     bool
	Proxy        func(*url.URL) (*url.URL, error) // never nil; for unpinned connections
	Env          Env

	// Notes says what was left out of account and why, a sentence each.
	Notes []string

	user    UserFile
	ignored map[string]string // key: why the level's value is not used
}

// Load combines flags, environment, user file and repository file. It reads
// the user's file and nothing else. The *Effective is nil on error.
func Load(o Options) (*Effective, error) {
	e := &Effective{Env: o.Env, Proxy: o.Env.Proxy(), ignored: map[string]string{}}
	if err := e.readUser(o); err != nil {
		return nil, err
	}
	if o.Repo != nil {
		name := o.RepoName
		if name == "" {
			name = RepoFile
		}
		repo, err := ParseRepo(name, o.Repo)
		if err != nil {
			return nil, err
		}
		e.Repo, e.RepoRead = *repo, true
	}
	if err := e.woodpecker(o); err != nil {
		return nil, err
	}
	e.vault(o.Env)
	if err := e.kubernetes(o); err != nil {
		return nil, err
	}
	if err := e.stacks(o.Env); err != nil {
		return nil, err
	}
	e.Forges = e.user.Forges
	e.InsecureHTTP = Value[bool]{V: o.Flags.InsecureHTTP, Set: o.Flags.InsecureHTTP}
	if o.Flags.InsecureHTTP {
		e.InsecureHTTP.Source = fromFlag("insecure-http")
	}
	e.checkProxies()
	return e, nil
}

// Path returns where the user's file is: --config, HOMELAB_CONFIG, else
// homelab/config.yaml below the configuration directory. Set tells a named
// file from the default one. Without any of them it is "".
func Path(env Env, flag *string) (Value[string], error) {
	v := Value[string]{}
	if flag != nil {
		if *flag == "" {
			return v, emptyFlag("config")
		}
		return set(*flag, fromFlag("config")), nil
	}
	if p, ok := env.Lookup(EnvConfig); ok {
		if rest, tilde := strings.CutPrefix(p, "~/"); tilde && env.Home() != "" {
			p = filepath.Join(env.Home(), rest)
		}
		return set(p, fromEnv(EnvConfig)), nil
	}
	if dir := env.ConfigHome(); dir != "" {
		v.V = filepath.Join(dir, "homelab", "config.yaml")
	}
	return v, nil
}

func (e *Effective) readUser(o Options) error {
	p, err := Path(o.Env, o.Flags.Config)
	if err != nil {
		return err
	}
	e.File = p
	if p.V == "" {
		return nil
	}
	data, mode, err := readFile(p.V)
	if errors.Is(err, fs.ErrNotExist) {
		if !p.Set {
			return nil
		}
		return fault.Usagef("homelab config init --config "+shellWord(p.V),
			"%s, named by %s, does not exist", p.V, p.Source).From(err)
	}
	if err != nil {
		why := err.Error()
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			why = pe.Err.Error()
		}
		return fault.Usagef("ls -ld "+shellWord(p.V), "configuration file %s cannot be read", p.V).Because(why).From(err)
	}
	u, err := ParseUser(p.V, data, o.Env.Home())
	if err != nil {
		return err
	}
	e.user, e.FileRead = *u, true
	if mode.IsRegular() && mode.Perm()&0o002 != 0 {
		e.note("", "%s can be written by every user of this machine; chmod o-w it", p.V)
	}
	return nil
}

// readFile reads a file or a pipe, one byte more than a configuration may
// have, so that the parser sees that it is too large.
func readFile(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path) //nolint:gosec // the user's own configuration, named by the user
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	return data, st.Mode(), err
}

// woodpecker decides the server and what belongs to it.
func (e *Effective) woodpecker(o Options) error {
	flag, err := flagValue("server", o.Flags.Server, parseServer)
	if err != nil {
		return err
	}
	env, err := envValue(o.Env, EnvServer, parseServer)
	if err != nil {
		return err
	}
	file := e.user.Server
	e.Server = Pick(flag, env, file)

	// An address belongs to the server of its own level, or else to the one
	// that would hold without the levels above.
	flagPin, err := flagValue("dial", o.Flags.Dial, parsePin)
	if err != nil {
		return err
	}
	envPin, err := envValue(o.Env, EnvDial, parsePin)
	if err != nil {
		return err
	}
	const dial = "woodpecker.dial"
	if !flagPin.Set {
		envPin = bind(e, dial, "server", envPin, Pick(env, file), e.Server)
	}
	filePin := e.user.Dial
	if !flagPin.Set && !envPin.Set {
		filePin = bind(e, dial, "server", filePin, file, e.Server)
	}
	e.Pin = Pick(flagPin, envPin, filePin)
	e.CAFile = bind(e, "woodpecker.ca-file", "server", e.user.CAFile, file, e.Server)

	e.Token = credential(o.Env, EnvToken)
	e.TokenVault = bind(e, "woodpecker.token-vault", "server", e.user.TokenVault, file, e.Server)
	if e.TokenVault.Set && !file.Set {
		e.note("woodpecker.token-vault", "token-vault (%s) not used: it stands for woodpecker.server of the same file, and that is not set", e.TokenVault.Source)
		e.TokenVault = Value[TokenVault]{}
	}
	return nil
}

// bind returns v if it may be used for the effective server: its owner is
// unknown or has the same origin (ADR 0026). Otherwise it notes why not.
func bind[T any](e *Effective, key, noun string, v Value[T], owner, effective Value[*url.URL]) Value[T] {
	if !v.Set || !owner.Set || !effective.Set || sameOrigin(owner.V, effective.V) {
		return v
	}
	_, name := cutLast(key)
	e.note(key, "%s (%s) not used: it belongs to %s (%s), and the %s is %s (%s)",
		name, v.Source, owner.V, owner.Source, noun, effective.V, effective.Source)
	return Value[T]{}
}

func sameOrigin(a, b *url.URL) bool {
	oa, erra := transport.OriginOf(a)
	ob, errb := transport.OriginOf(b)
	return erra == nil && errb == nil && oa == ob
}

func (e *Effective) vault(env Env) {
	v := &e.Vault
	file := e.user.VaultAddress
	addr, err := envValue(env, EnvVaultAddr, parseServer)
	v.Address = Pick(addr, file)
	switch {
	case err != nil:
		v.Address, v.err = Value[*url.URL]{}, err
		e.ignored["vault.address"] = err.Error() // no note: this run may not need Vault
	case !v.Address.Set:
		v.err = fault.Usagef("homelab config show", "no Vault address is configured").
			Because("set vault.address in " + e.fileName() + ", or " + EnvVaultAddr)
	case addr.Set && file.Set && !sameOrigin(addr.V, file.V):
		e.note("vault.address", "vault.address %s (%s) not used: %s is set", file.V, file.Source, EnvVaultAddr)
	}
	v.Pin = bind(e, "vault.dial", "Vault address", e.user.VaultDial, file, v.Address)
	if p, ok := env.Lookup(EnvVaultCACert); ok {
		v.CACert = set(p, fromEnv(EnvVaultCACert))
	}
	if ns, ok := env.Lookup(EnvVaultNamespace); ok {
		v.Namespace = set(ns, fromEnv(EnvVaultNamespace))
	}
	v.Token = credential(env, EnvVaultToken)
	if h := env.Home(); h != "" {
		v.TokenFile, v.Helper = filepath.Join(h, ".vault-token"), filepath.Join(h, ".vault")
	}
}

// stacks decides where stacks are found. The directory of checkouts is the one
// the stacks' other tool uses.
func (e *Effective) stacks(env Env) error {
	e.StackRoots = e.user.StackRoots
	base, err := envValue(env, EnvRepoBase, func(s string) (string, error) {
		p, err := parsePath("", env.Home())(s)
		if err == nil && !filepath.IsAbs(p) {
			err = errors.New("must be an absolute path")
		}
		return p, err
	})
	if err != nil {
		return err
	}
	e.RepoBase = base
	if h := env.Home(); !base.Set && h != "" {
		e.RepoBase.V = filepath.Join(h, "cerc")
	}
	return nil
}

func (e *Effective) kubernetes(o Options) error {
	ctx, err := flagValue("context", o.Flags.Context, parseWord)
	if err != nil {
		return err
	}
	e.Context = Pick(ctx, e.user.Context)
	file, err := flagValue("kubeconfig", o.Flags.Kubeconfig, func(s string) ([]string, error) { return []string{s}, nil })
	if err != nil {
		return err
	}
	env := Value[[]string]{}
	if list, ok := o.Env.Lookup(EnvKubeconfig); ok {
		files := slices.DeleteFunc(filepath.SplitList(list), func(s string) bool { return s == "" })
		if len(files) > 0 {
			env = set(files, fromEnv(EnvKubeconfig))
		}
	}
	var std Value[[]string]
	if h := o.Env.Home(); h != "" {
		std.V = []string{filepath.Join(h, ".kube", "config")}
	}
	e.Kubeconfig = Pick(file, env, std)
	return nil
}

// checkProxies notes proxy variables that the library would skip silently or
// fail on at every request.
func (e *Effective) checkProxies() {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		raw, source := e.Env.proxyVar(name)
		if raw == "" {
			continue
		}
		if u := proxyURL(raw); u == nil {
			e.note(proxyKey(name), "%s is not a proxy address such as http://proxy.example.lan:3128", source)
		} else if !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			e.note(proxyKey(name), "%s has scheme %s; http, https, socks5 and socks5h are known", source, quoted(u.Scheme))
		}
	}
}

func proxyKey(name string) string {
	return "proxy." + strings.ToLower(strings.TrimSuffix(name, "_PROXY"))
}

// proxyURL reads a proxy variable, where http:// may be left out; nil when it
// names no proxy.
func proxyURL(raw string) *url.URL {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	return u
}

// note records why something is not used, once for all and once for its key.
func (e *Effective) note(key, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	e.Notes = append(e.Notes, text)
	if was := e.ignored[key]; was != "" {
		text = was + "; " + text
	}
	if key != "" {
		e.ignored[key] = text
	}
}

// fileName names the user's file in sentences.
func (e *Effective) fileName() string {
	if e.File.V == "" {
		return "the configuration file"
	}
	return e.File.V
}

// MissingServer returns the usage error for a verb that needs a server, with
// the three ways to set it; nil when there is one.
func (e *Effective) MissingServer() *fault.Error {
	if e.Server.Set {
		return nil
	}
	next := "homelab config init --server https://ci.example.lan"
	if e.FileRead {
		next = "homelab config show"
	}
	return fault.Usagef(next, "no Woodpecker server is configured").
		Because("set it with --server URL, with " + EnvServer + "=URL, or as woodpecker.server in " + e.fileName())
}

// MissingToken returns the error for a verb that needs a token when neither
// WOODPECKER_TOKEN nor a usable token-vault is there: kind Denied, naming each
// place looked at. It returns nil when there is a source, also a doubtful one.
func (e *Effective) MissingToken() *fault.Error {
	if e.Token.Set || e.TokenVault.Set {
		return nil
	}
	host := "the server"
	if e.Server.Set {
		host = e.Server.V.Host
	}
	vault := "woodpecker.token-vault is not set in " + e.fileName()
	if why := e.ignored["woodpecker.token-vault"]; why != "" {
		vault = why
	}
	return fault.New(fault.Denied, "no token for "+host, "homelab config show").
		Because("set " + EnvToken + " for " + host + ": it is not set, and " + vault)
}

// ForgeFor returns the forge entry for a remote's host (any case, no port):
// one of the user's file, or github.com, which needs none. Only such a host
// may be sent a token.
func (e *Effective) ForgeFor(host string) (Forge, bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, f := range e.Forges {
		if f.Host == host {
			return f, true
		}
	}
	if host == "github.com" {
		return Forge{Host: host, Kind: GitHub, URL: &url.URL{Scheme: "https", Host: host}}, true
	}
	return Forge{}, false
}

// ForgeToken returns the environment's token for a kind of forge, not set for
// an unknown kind. It must be sent to a host of ForgeFor only.
func (e *Effective) ForgeToken(kind ForgeKind) Credential {
	switch kind {
	case Forgejo:
		return credential(e.Env, EnvForgejoToken)
	case Gitea:
		return credential(e.Env, EnvGiteaToken)
	case GitHub:
		if c := credential(e.Env, EnvGitHubToken); c.Set {
			return c
		}
		return credential(e.Env, EnvGHToken)
	}
	return Credential{}
}

// Secrets returns every secret known from the environment, for the redactor.
func (e *Effective) Secrets() []transport.Secret { return e.Env.Secrets() }

func credential(env Env, name string) Credential {
	raw, ok := env.Lookup(name)
	if !ok {
		return Credential{}
	}
	c := Credential{Set: true, Source: fromEnv(name)}
	s, err := transport.NewSecret(raw)
	if err != nil {
		c.Err = fault.Usagef("unset "+name, "%s is not usable", name).Because(err.Error())
		return c
	}
	c.Secret = s
	return c
}

func flagValue[T any](name string, given *string, convert func(string) (T, error)) (Value[T], error) {
	if given == nil {
		return Value[T]{}, nil
	}
	if strings.TrimSpace(*given) == "" {
		return Value[T]{}, emptyFlag(name)
	}
	v, err := convert(*given)
	if err != nil {
		return Value[T]{}, fault.Usagef("homelab config show", "--%s %v", name, err)
	}
	return set(v, fromFlag(name)), nil
}

func emptyFlag(name string) error {
	return fault.Usagef("homelab config show", "--%s is empty; give a value or leave it out", name)
}

func envValue[T any](env Env, name string, convert func(string) (T, error)) (Value[T], error) {
	raw, ok := env.Lookup(name)
	if !ok {
		return Value[T]{}, nil
	}
	v, err := convert(raw)
	if err != nil {
		return Value[T]{}, fault.Usagef("unset "+name, "%s %v", name, err)
	}
	return set(v, fromEnv(name)), nil
}

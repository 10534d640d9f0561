package config

import (
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"homelab/pkg/nearest"
	"homelab/pkg/transport"
)

// TokenVault is where in Vault the Woodpecker token is kept.
type TokenVault struct {
	Path  string // mount and path, without the "data/" of KV v2
	Field string
}

// ForgeKind is the API a forge speaks. The zero value means unknown: ask it.
type ForgeKind string

// The kinds of forge.
const (
	Forgejo ForgeKind = "forgejo"
	Gitea   ForgeKind = "gitea"
	GitHub  ForgeKind = "github"
)

// Forge is a host that may be asked for pull requests and be sent a token.
type Forge struct {
	Host   string // lower case, as it stands in remote URLs, without port
	Kind   ForgeKind
	URL    *url.URL             // of the web pages; https://HOST unless given
	Dial   Value[transport.Pin] // fixed address of URL's host
	CAFile Value[string]        // absolute
	Source Source
}

// UserFile is the user's configuration file, checked. Its zero value is an
// empty file.
type UserFile struct {
	Path         string
	Server       Value[*url.URL]
	Dial         Value[transport.Pin]
	CAFile       Value[string] // absolute
	TokenVault   Value[TokenVault]
	VaultAddress Value[*url.URL]
	VaultDial    Value[transport.Pin]
	Context      Value[string]
	StackRoots   Value[[]string] // absolute
	Forges       []Forge
}

// KnownKeys returns every key of the user's file, dotted, in the file's order;
// forge is a list of entries, shown as forge[].
func KnownKeys() []string {
	return []string{
		"woodpecker.server", "woodpecker.dial", "woodpecker.ca-file",
		"woodpecker.token-vault.path", "woodpecker.token-vault.field",
		"vault.address", "vault.dial",
		"kubernetes.context",
		"stacks.roots",
		"forge[].host", "forge[].kind", "forge[].url", "forge[].dial", "forge[].ca-file",
	}
}

// keysOf returns the keys that may stand in a section, in order.
func keysOf(all []string, section string) []string {
	var out []string
	for _, k := range all {
		rest := k
		if section != "" {
			var ok bool
			if rest, ok = strings.CutPrefix(k, section+"."); !ok {
				continue
			}
		}
		name, _, _ := strings.Cut(rest, ".")
		name = strings.TrimSuffix(name, "[]")
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// ParseUser reads a user's file strictly. path names it in errors and sources,
// and relative CA files are relative to its directory; home replaces "~".
// An empty file is an empty configuration. The error lists up to 20 problems.
func ParseUser(path string, data []byte, home string) (*UserFile, error) {
	r := &reader{file: path, level: LevelUser, stray: strayUserKey}
	u := &UserFile{Path: path}
	known := func(section string) []string { return keysOf(KnownKeys(), section) }

	top := r.fields("", r.open(data), known("")...)
	wp := r.fields("woodpecker", top["woodpecker"].node, known("woodpecker")...)
	u.Server = fileValue(r, wp["server"], parseServer)
	u.Dial = fileValue(r, wp["dial"], parsePin)
	u.CAFile = fileValue(r, wp["ca-file"], parsePath(filepath.Dir(path), home))
	if tv, ok := wp["token-vault"]; ok {
		f := r.fields(tv.path, tv.node, known("woodpecker.token-vault")...)
		p, field := fileValue(r, f["path"], parseVaultPath), fileValue(r, f["field"], parseWord)
		for _, k := range known("woodpecker.token-vault") {
			if _, ok := f[k]; !ok {
				r.problem(tv.line, "%s needs %s", tv.path, k)
			}
		}
		u.TokenVault = set(TokenVault{Path: p.V, Field: field.V}, r.source(tv.line))
	}

	va := r.fields("vault", top["vault"].node, known("vault")...)
	u.VaultAddress = fileValue(r, va["address"], parseServer)
	u.VaultDial = fileValue(r, va["dial"], parsePin)

	ku := r.fields("kubernetes", top["kubernetes"].node, known("kubernetes")...)
	u.Context = fileValue(r, ku["context"], parseWord)

	st := r.fields("stacks", top["stacks"].node, known("stacks")...)
	if f, ok := st["roots"]; ok {
		u.StackRoots = set(r.names(f, "directories", parsePath(filepath.Dir(path), home)), r.source(f.line))
	}

	if f, ok := top["forge"]; ok {
		for _, e := range r.list(f, "forges") {
			u.addForge(r, e, home)
		}
	}
	if err := r.err("homelab config show --config " + shellWord(path)); err != nil {
		return nil, err
	}
	return u, nil
}

func (u *UserFile) addForge(r *reader, e field, home string) {
	before := len(r.problems) + r.more
	f := r.fields(e.path, e.node, keysOf(KnownKeys(), "forge[]")...)
	forge := Forge{Source: r.source(e.line)}
	host := fileValue(r, f["host"], parseHost)
	if _, ok := f["host"]; !ok && len(r.problems)+r.more == before {
		r.problem(e.line, "%s needs host", e.path)
	}
	forge.Host = host.V
	forge.Kind = fileValue(r, f["kind"], parseKind).V
	forge.URL = fileValue(r, f["url"], parseServer).V
	forge.Dial = fileValue(r, f["dial"], parsePin)
	forge.CAFile = fileValue(r, f["ca-file"], parsePath(filepath.Dir(r.file), home))
	for _, other := range u.Forges {
		if forge.Host != "" && other.Host == forge.Host {
			r.problem(e.line, "%s: host %s is already listed", e.path, forge.Host)
		}
	}
	if forge.URL == nil {
		forge.URL = &url.URL{Scheme: "https", Host: forge.Host}
	}
	u.Forges = append(u.Forges, forge)
}

// strayUserKey words what people put into the user's file with good reason
// and at the wrong place.
func strayUserKey(section, key string) string {
	n := normal(key)
	if strings.Contains(n, "token") && n != "tokenvault" && nearest.Of(key, []string{"token-vault"}, nearest.Slips(key)) == "" ||
		strings.Contains(n, "secret") || strings.Contains(n, "password") {
		return quoted(key) + ": secrets are not kept in this file; set " + EnvToken + " or use woodpecker.token-vault"
	}
	for _, k := range KnownKeys() {
		parent, leaf := cutLast(k)
		if leaf == key && parent != section && !strings.HasPrefix(parent, "forge") && !slices.Contains([]string{"dial", "path"}, leaf) {
			return "unknown key " + quoted(key) + inSection(section) + "; nearest known key: " + strconv.Quote(k)
		}
	}
	return ""
}

func inSection(section string) string {
	if section == "" {
		return ""
	}
	return " in " + section
}

func cutLast(dotted string) (parent, leaf string) {
	i := strings.LastIndexByte(dotted, '.')
	if i < 0 {
		return "", dotted
	}
	return dotted[:i], dotted[i+1:]
}

// normal removes what people vary in a key.
func normal(key string) string {
	return strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace(strings.ToLower(key))
}

// fileValue converts a field; the problem is reported with the field's name.
func fileValue[T any](r *reader, f field, convert func(string) (T, error)) Value[T] {
	if f.path == "" {
		return Value[T]{}
	}
	s, ok := r.text(f)
	if !ok {
		return Value[T]{}
	}
	v, err := convert(s)
	if err != nil {
		r.problem(f.line, "%s %v", f.path, err)
		return Value[T]{}
	}
	return set(v, r.source(f.line))
}

// parseServer checks the URL of a server. Its errors continue a sentence that
// begins with the setting's name and never show user info or a query: that is
// where credentials get pasted by mistake.
func parseServer(s string) (*url.URL, error) {
	s = strings.TrimSpace(s)
	u, err := url.Parse(s)
	switch {
	case err != nil && !strings.Contains(s, "://"):
		return nil, errors.New("has no scheme; write https:// before the host")
	case err != nil:
		return nil, errors.New("is not a URL such as https://ci.example.lan")
	case u.User != nil:
		return nil, errors.New("contains user info; remove what stands before the @")
	case u.Scheme == "" || u.Opaque != "":
		return nil, errors.New("has no scheme; write https:// before the host")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("has scheme " + quoted(u.Scheme) + "; it must be https, or http")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("contains a query; remove what begins with ?")
	case u.Fragment != "" || strings.Contains(s, "#"):
		return nil, errors.New("contains a fragment; remove what begins with #")
	case u.Hostname() == "":
		return nil, errors.New("names no host")
	case strings.HasSuffix(u.Host, ":"):
		return nil, errors.New("has an empty port")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("has a port that is not 1 to 65535")
		}
	}
	for seg := range strings.SplitSeq(u.Path, "/") {
		if seg == "." || seg == ".." {
			return nil, errors.New("contains . or .. in its path")
		}
	}
	if _, err := transport.OriginOf(u); err != nil {
		return nil, errors.New("is not usable: " + err.Error())
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

func parsePin(s string) (transport.Pin, error) {
	p, err := transport.ParsePin(strings.TrimSpace(s))
	if err != nil {
		return transport.Pin{}, errors.New("is not an address to dial: " + err.Error())
	}
	return p, nil
}

// parsePath makes a path absolute: "~" is the home directory, anything else
// that is relative starts in dir.
func parsePath(dir, home string) func(string) (string, error) {
	return func(s string) (string, error) {
		rest, tilde := strings.CutPrefix(s, "~")
		switch {
		case strings.ContainsRune(s, 0):
			return "", errors.New("contains a zero byte")
		case tilde && rest != "" && rest[0] != '/':
			return "", errors.New("names another user's home; write the whole path")
		case tilde && home == "":
			return "", errors.New("begins with ~, and HOME is not set")
		case tilde:
			return filepath.Join(home, rest), nil
		case filepath.IsAbs(s):
			return filepath.Clean(s), nil
		}
		return filepath.Join(dir, s), nil
	}
}

func parseVaultPath(s string) (string, error) {
	s, err := parseWord(strings.Trim(strings.TrimSpace(s), "/"))
	switch {
	case err != nil:
		return "", err
	case strings.Contains(s, "://") || strings.ContainsAny(s, "?#"):
		return "", errors.New("is not a path such as secret/ci/global")
	case !strings.Contains(s, "/"):
		return "", errors.New("names only a mount; write MOUNT/PATH such as secret/ci/global")
	}
	for seg := range strings.SplitSeq(s, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return "", errors.New("has an empty, . or .. segment")
		}
	}
	return s, nil
}

// parseWord takes a name: no control characters, no surrounding space.
func parseWord(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", errors.New("is empty or contains a control character")
	}
	return s, nil
}

// parseHost takes the host of a forge as remotes spell it.
func parseHost(s string) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case strings.Contains(s, "://"):
		return "", errors.New("is a URL; write the host only, such as git.example.lan")
	case strings.ContainsAny(s, "/@?# \t"):
		return "", errors.New("is not a host such as git.example.lan")
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if strings.Count(bare, ":") == 1 {
		return "", errors.New("contains a port; it belongs into url")
	}
	host := bare
	if strings.Contains(bare, ":") {
		host = "[" + bare + "]"
	}
	o, err := transport.OriginOf(&url.URL{Scheme: "https", Host: host})
	if err != nil {
		return "", errors.New("is not a host such as git.example.lan")
	}
	return o.Host, nil
}

func parseKind(s string) (ForgeKind, error) {
	switch k := ForgeKind(strings.TrimSpace(s)); k {
	case Forgejo, Gitea, GitHub:
		return k, nil
	}
	return "", errors.New("must be forgejo, gitea or github")
}

// shellWord quotes a word so that a printed command survives pasting.
func shellWord(s string) string {
	if s != "" && only(s, "/._-+:@%,=") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// only reports whether s consists of ASCII letters, digits and these marks.
func only(s, marks string) bool {
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune(marks, c):
		default:
			return false
		}
	}
	return true
}

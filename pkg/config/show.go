package config

import (
	"fmt"
	"net/url"
	"strings"
)

// Entry is one line of "config show".
type Entry struct {
	Key    string // "woodpecker.server", "forge[git.example.lan].url", "repository.base"
	Value  string // "" when nothing is set; of a secret only "set"
	Source string // "" when nothing is set
	Secret bool   // the value is masked
	Note   string // why a value is not used or not usable; mostly ""
}

// Entries returns every setting in a fixed order, also those nobody set.
// Secrets are masked whole, without their length.
func (e *Effective) Entries() []Entry {
	l := listing{e: e}
	l.file()
	addValue(&l, "woodpecker.server", e.Server, (*url.URL).String)
	addValue(&l, "woodpecker.dial", e.Pin, fmtString)
	addValue(&l, "woodpecker.ca-file", e.CAFile, plainText)
	l.credential("woodpecker.token", e.Token)
	addValue(&l, "woodpecker.token-vault", e.TokenVault, func(t TokenVault) string { return t.Path + " (field " + t.Field + ")" })
	addValue(&l, "vault.address", e.Vault.Address, (*url.URL).String)
	addValue(&l, "vault.dial", e.Vault.Pin, fmtString)
	addValue(&l, "vault.ca-cert", e.Vault.CACert, plainText)
	addValue(&l, "vault.namespace", e.Vault.Namespace, plainText)
	l.credential("vault.token", e.Vault.Token)
	addValue(&l, "kubernetes.kubeconfig", e.Kubeconfig, commas)
	addValue(&l, "kubernetes.context", e.Context, plainText)
	addValue(&l, "stacks.roots", e.StackRoots, commas)
	base := e.RepoBase
	base.Set = base.V != "" // the default is shown too
	addValue(&l, "stacks.repositories", base, plainText)
	for _, f := range e.Forges {
		key := "forge[" + f.Host + "]."
		kind := string(f.Kind)
		if kind == "" {
			kind = "unknown; asked when needed"
		}
		l.add(Entry{Key: key + "kind", Value: kind, Source: f.Source.String()})
		l.add(Entry{Key: key + "url", Value: f.URL.String(), Source: f.Source.String()})
		addValue(&l, key+"dial", f.Dial, fmtString)
		addValue(&l, key+"ca-file", f.CAFile, plainText)
	}
	l.credential("forge.token.forgejo", e.ForgeToken(Forgejo))
	l.credential("forge.token.gitea", e.ForgeToken(Gitea))
	l.credential("forge.token.github", e.ForgeToken(GitHub))
	l.proxy("HTTPS_PROXY")
	l.proxy("HTTP_PROXY")
	if v, name := e.Env.proxyVar("NO_PROXY"); name != "" {
		l.add(Entry{Key: "proxy.no", Value: v, Source: name})
	} else {
		l.add(Entry{Key: "proxy.no"})
	}
	addValue(&l, "insecure-http", defaulted(e.InsecureHTTP), func(b bool) string { return fmt.Sprint(b) })
	addValue(&l, "repository.base", e.Repo.Base, plainText)
	addValue(&l, "repository.remote", e.Repo.Remote, plainText)
	addValue(&l, "repository.verify", e.Repo.Verify, verifyText)
	addValue(&l, "repository.gate", e.Repo.Gate, func(g Gate) string { return string(g) })
	addValue(&l, "repository.deploy", e.Repo.Deploy, commas)
	addValue(&l, "repository.ci.workflows", e.Repo.Workflows, commas)
	return l.entries
}

type listing struct {
	e       *Effective
	entries []Entry
}

func (l *listing) add(en Entry) {
	if why := l.e.ignored[en.Key]; why != "" && en.Note == "" {
		en.Note = why
	}
	l.entries = append(l.entries, en)
}

func (l *listing) file() {
	f := l.e.File
	en := Entry{Key: "config", Value: f.V, Source: f.Source.String()}
	if !l.e.FileRead {
		en.Note = "does not exist; homelab config init writes one"
	}
	if f.V == "" {
		en.Source, en.Note = "", "no place for it: HOME and XDG_CONFIG_HOME are not set"
	}
	l.add(en)
}

func (l *listing) credential(key string, c Credential) {
	en := Entry{Key: key, Secret: true}
	if c.Set {
		en.Value, en.Source = "set", c.Source.String()
	}
	if c.Err != nil {
		en.Value, en.Note = "set, not usable", c.Err.Error()
	}
	l.add(en)
}

// proxy shows where a proxy is, not who logs in to it.
func (l *listing) proxy(name string) {
	raw, source := l.e.Env.proxyVar(name)
	en := Entry{Key: proxyKey(name), Source: source}
	if u := proxyURL(raw); raw != "" && u != nil {
		en.Value = u.Scheme + "://" + u.Host
		if u.User != nil {
			en.Value, en.Secret = u.Scheme+"://[redacted]@"+u.Host, true
		}
	}
	l.add(en)
}

// addValue lists a value; the zero default of an unset one is shown as
// nothing, any other default with its source.
func addValue[T any](l *listing, key string, v Value[T], text func(T) string) {
	en := Entry{Key: key}
	if v.Set {
		en.Value, en.Source = text(v.V), v.Source.String()
	} else if list, ok := any(v.V).([]string); ok && len(list) > 0 {
		en.Value, en.Source = text(v.V), v.Source.String()
	}
	l.add(en)
}

// defaulted shows a switch's default too.
func defaulted(v Value[bool]) Value[bool] { v.Set = true; return v }

func plainText(s string) string { return s }

func commas(list []string) string { return strings.Join(list, ", ") }

func fmtString[T fmt.Stringer](v T) string { return v.String() }

func verifyText(list []Verify) string {
	var out []string
	for _, v := range list {
		s := strings.ReplaceAll(v.Run, "\n", "; ")
		if v.Dir != "" {
			s += " (in " + v.Dir + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

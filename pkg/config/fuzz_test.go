package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// renderUser writes a parsed file again, in another style than the template.
func renderUser(u *UserFile) string {
	q := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	var b strings.Builder
	put := func(ok bool, indent, key, v string) {
		if ok {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, key, q(v))
		}
	}
	b.WriteString("woodpecker:\n")
	if u.Server.Set {
		put(true, "  ", "server", u.Server.V.String())
	}
	put(u.Dial.Set, "  ", "dial", u.Dial.V.String())
	put(u.CAFile.Set, "  ", "ca-file", u.CAFile.V)
	if u.TokenVault.Set {
		b.WriteString("  token-vault:\n")
		put(true, "    ", "path", u.TokenVault.V.Path)
		put(true, "    ", "field", u.TokenVault.V.Field)
	}
	b.WriteString("vault:\n")
	if u.VaultAddress.Set {
		put(true, "  ", "address", u.VaultAddress.V.String())
	}
	put(u.VaultDial.Set, "  ", "dial", u.VaultDial.V.String())
	b.WriteString("kubernetes:\n")
	put(u.Context.Set, "  ", "context", u.Context.V)
	if len(u.Forges) > 0 {
		b.WriteString("forge:\n")
	}
	for _, f := range u.Forges {
		fmt.Fprintf(&b, "  - host: %s\n", q(f.Host))
		put(f.Kind != "", "    ", "kind", string(f.Kind))
		put(true, "    ", "url", f.URL.String())
		put(f.Dial.Set, "    ", "dial", f.Dial.V.String())
		put(f.CAFile.Set, "    ", "ca-file", f.CAFile.V)
	}
	return b.String()
}

// values is summary without the lines, which rendering changes.
func values(u *UserFile) []string {
	out := summary(u)
	for i, s := range out {
		out[i], _, _ = strings.Cut(s, "  <")
	}
	return out
}

func FuzzUserFile(f *testing.F) {
	f.Add(whole)
	f.Add("")
	f.Add("woodpecker: {server: 'http://127.0.0.1:1'}\n")
	f.Add("forge:\n- host: a\n  kind: github\n- {host: b}\n")
	f.Add("woodpecker:\n  server: |\n    https://a\n  dial: \"fe80::1%eth0\"\n")
	f.Add("? a\n: &b [*b, !!c {<<: d}]\n--- >\n x\n...\n")
	f.Add("a: {b: [c, {d: e}], 'f': \"\\x00\"}\n\t\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseUser("/etc/h/config.yaml", []byte(text), "/home/u")
		if err != nil {
			if s := err.Error(); s == "" || strings.ContainsAny(s, "\n\x00\x1b\t") {
				t.Fatalf("unprintable error %q", s)
			}
			return
		}
		again, err := ParseUser("/etc/h/config.yaml", []byte(renderUser(u)), "/home/u")
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v\n%s", err, renderUser(u))
		}
		if diff := cmp.Diff(values(u), values(again)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzRepoFile(f *testing.F) {
	f.Add("base: main\nverify: [{run: a, dir: b, paths: [c], timeout: 5m}, d]\ndeploy: [a/b]\nci: {workflows: [a]}\n")
	f.Add("woodpecker: {server: x}\n")
	f.Add("verify: |\n  a\n  \tb\n")
	f.Fuzz(func(t *testing.T, text string) {
		repo, err := ParseRepo(RepoFile, []byte(text))
		if err != nil {
			return
		}
		for _, v := range repo.Verify.V {
			if v.Run == "" || strings.HasPrefix(v.Dir, "/") || strings.HasPrefix(v.Dir, "..") && (v.Dir == ".." || strings.HasPrefix(v.Dir, "../")) {
				t.Fatalf("accepted %+v", v)
			}
		}
		if r := repo.Remote.V; strings.ContainsAny(r, ":@ ") || strings.HasPrefix(r, "-") || strings.HasPrefix(r, "/") || strings.Contains(r, "..") {
			t.Fatalf("accepted remote %q", r)
		}
	})
}

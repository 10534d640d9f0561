package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

const whole = `
woodpecker:
  server: https://ci.example.lan/root/
  dial: 10.0.20.203
  ca-file: lab-ca.pem
  token-vault:
    path: /secret/ci/global
    field: woodpecker_api_token
vault:
  address: https://vault.example.lan
  dial: 10.0.20.203:8200
kubernetes:
  context: homelab
forge:
  - {host: GIT.example.lan., kind: forgejo, url: https://git.example.lan, dial: "[fd00::5]:8443", ca-file: ~/ca.pem}
  - host: code.example.lan
`

func parseWhole(t *testing.T, data string) *UserFile {
	t.Helper()
	u, err := ParseUser("/etc/h/config.yaml", []byte(data), "/home/u")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// summary shows a file's values and sources as text, one per line.
func summary(u *UserFile) []string {
	e := &Effective{
		Server: u.Server, Pin: u.Dial, CAFile: u.CAFile, TokenVault: u.TokenVault,
		Vault: Vault{Address: u.VaultAddress, Pin: u.VaultDial}, Context: u.Context, Forges: u.Forges,
	}
	var out []string
	for _, en := range e.Entries() {
		if en.Value != "" && en.Source != "default" {
			out = append(out, en.Key+" = "+en.Value+"  <"+en.Source+">")
		}
	}
	return out
}

func TestUserFileWhole(t *testing.T) {
	want := []string{
		"woodpecker.server = https://ci.example.lan/root  </etc/h/config.yaml:3>",
		"woodpecker.dial = 10.0.20.203  </etc/h/config.yaml:4>",
		"woodpecker.ca-file = /etc/h/lab-ca.pem  </etc/h/config.yaml:5>",
		"woodpecker.token-vault = secret/ci/global (field woodpecker_api_token)  </etc/h/config.yaml:6>",
		"vault.address = https://vault.example.lan  </etc/h/config.yaml:10>",
		"vault.dial = 10.0.20.203:8200  </etc/h/config.yaml:11>",
		"kubernetes.context = homelab  </etc/h/config.yaml:13>",
		"forge[git.example.lan].kind = forgejo  </etc/h/config.yaml:15>",
		"forge[git.example.lan].url = https://git.example.lan  </etc/h/config.yaml:15>",
		"forge[git.example.lan].dial = [fd00::5]:8443  </etc/h/config.yaml:15>",
		"forge[git.example.lan].ca-file = /home/u/ca.pem  </etc/h/config.yaml:15>",
		"forge[code.example.lan].kind = unknown; asked when needed  </etc/h/config.yaml:16>",
		"forge[code.example.lan].url = https://code.example.lan  </etc/h/config.yaml:16>",
	}
	for name, text := range map[string]string{
		"lf":             whole,
		"crlf":           strings.ReplaceAll(whole, "\n", "\r\n"),
		"bom":            "\ufeff" + whole,
		"no end newline": strings.TrimSuffix(whole, "\n"),
		"document marks": "---" + whole + "...\n",
	} {
		if diff := cmp.Diff(want, summary(parseWhole(t, text))); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestUserFileEmpty(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# nothing\n", "\ufeff", "---\n", "woodpecker:\nvault: ~\n", "woodpecker:\n  # server: x\n", "{}\n"} {
		if got := summary(parseWhole(t, text)); len(got) > 0 {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestUserFileBad(t *testing.T) {
	const secrets = `: secrets are not kept in this file; set WOODPECKER_TOKEN or use woodpecker.token-vault`
	tests := []struct{ name, text, want string }{
		{"unknown key", "woodpecker:\n  sever: https://a\n", `c.yaml:2: unknown key "sever" in woodpecker; nearest known key: "server"`},
		{"underscore", "woodpecker:\n  ca_file: x\n", `c.yaml:2: unknown key "ca_file" in woodpecker; nearest known key: "ca-file"`},
		{"unknown section", "woodpekcer: {}\n", `c.yaml:1: unknown key "woodpekcer"; nearest known key: "woodpecker"`},
		{"nothing near", "colour: blue\n", `c.yaml:1: unknown key "colour"; known keys: woodpecker, vault, kubernetes, stacks, forge`},
		{"wrong place", "server: https://a\n", `c.yaml:1: unknown key "server"; nearest known key: "woodpecker.server"`},
		{"upper case", "Woodpecker: {}\n", `c.yaml:1: unknown key "Woodpecker"; nearest known key: "woodpecker"`},
		{"long key", strings.Repeat("k", 70) + ": 1\n", `c.yaml:1: unknown key "` + strings.Repeat("k", 40) + `..."; known keys: woodpecker, vault, kubernetes, stacks, forge`},
		{"escape in key", "\"\\e[31m\": 1\n", `c.yaml:1: unknown key "\x1b[31m"; known keys: woodpecker, vault, kubernetes, stacks, forge`},
		{"token", "woodpecker:\n  token: hunter2\n", `c.yaml:2: "token"` + secrets},
		{"vault token", "vault:\n  token: hunter2\n", `c.yaml:2: "token"` + secrets},
		{"forge password", "forge:\n  - {host: a, password: hunter2}\n", `c.yaml:2: "password"` + secrets},
		{"nearly token-vault", "woodpecker:\n  tokenvault: {}\n", `c.yaml:2: unknown key "tokenvault" in woodpecker; nearest known key: "token-vault"`},
		{"nested", "woodpecker:\n  token-vault:\n    path: a/b\n    fields: c\n", "c.yaml has 2 problems: line 2: woodpecker.token-vault needs field; line 4: unknown key \"fields\" in woodpecker.token-vault; nearest known key: \"field\""},

		{"number", "woodpecker:\n  dial: 10.0\n", `c.yaml:2: woodpecker.dial must be a string, not a number; put it into quotes`},
		{"truth", "kubernetes:\n  context: true\n", `c.yaml:2: kubernetes.context must be a string, not true or false; put it into quotes`},
		{"list for string", "woodpecker:\n  server: [https://a]\n", `c.yaml:2: woodpecker.server must be a string, not a list`},
		{"section for string", "woodpecker:\n  server:\n    url: https://a\n", `c.yaml:2: woodpecker.server must be a string, not keys and values`},
		{"string for section", "woodpecker: https://a\n", `c.yaml:1: woodpecker must be keys and values, not a string`},
		{"section for list", "forge:\n  host: a\n", `c.yaml:1: forge must be a list of forges, not keys and values`},
		{"list for file", "- a\n", `c.yaml:1: the file must be keys and values, not a list`},
		{"no space after colon", "woodpecker:https\n", `c.yaml:1: the file must be keys and values, not a string`},
		{"string for entry", "forge:\n  - git.example.lan\n", `c.yaml:2: forge[0] must be keys and values, not a string`},
		{"no value", "woodpecker:\n  server:\n", `c.yaml:2: woodpecker.server has no value; give one or remove the line`},
		{"empty value", "woodpecker:\n  server: ' '\n", `c.yaml:2: woodpecker.server is empty; give a value or remove the line`},
		{"empty list", "forge: []\n", `c.yaml:1: forge is an empty list; give an entry or remove the line`},
		{"empty entry", "forge:\n  -\n", `c.yaml:2: forge[0] needs host`},
		{"number as key", "woodpecker:\n  1: x\n", `c.yaml:2: a number as a key in woodpecker; keys are plain words`},

		{"duplicate", "woodpecker:\n  server: https://a\n  server: https://b\n", `c.yaml:3: key "server" is already set in line 2`},
		{"duplicate section", "vault: {}\nwoodpecker: {}\nvault: {}\n", `c.yaml:3: key "vault" is already set in line 1`},
		{"two documents", "vault: {}\n---\nvault: {}\n", `c.yaml:3: a second document; the file holds one`},
		{"tab", "woodpecker:\n\tserver: https://a\n", `c.yaml:2: a tab in the indentation; use spaces`},
		{"space and tab", "woodpecker:\n  \tserver: https://a\n", `c.yaml:2: a tab in the indentation; use spaces`},
		{"anchor", "woodpecker: &a\n  server: https://a\n", `c.yaml:1: woodpecker uses an anchor, which is not read here; write the value out`},
		{"alias", "vault:\n  address: *a\n", `c.yaml:2: vault.address uses an alias, which is not read here; write the value out`},
		{"merge", "woodpecker:\n  <<: {server: https://a}\n", `c.yaml:2: a merge key as a key in woodpecker; keys are plain words`},
		{"tag", "woodpecker:\n  server: !!str https://a\n", `c.yaml:2: woodpecker.server uses a tag, which is not read here; write the value out`},
		{"directive", "%YAML 1.2\n---\nvault: {}\n", `c.yaml:1: YAML directives are not used here; remove the line`},
		{"syntax", "woodpecker:\n  server: 'https://a\n", `c.yaml:2: not valid YAML: could not find end character of single-quoted text`},
		{"syntax does not quote the file", "woodpecker:\n  token: hunter2: x\n", `c.yaml:2: not valid YAML: mapping value is not allowed in this context`},
		{"address in brackets", "woodpecker:\n  dial: [fd00::5]:8443\n", `c.yaml:2: not valid YAML: value is not allowed in this context; put an address in brackets into quotes`},
		{"indentation", "woodpecker:\n  server: https://a\n    dial: 10.0.0.1\n", `c.yaml:2: not valid YAML: mapping value is not allowed in this context`},
		{"utf-16", "\xff\xfew\x00", `c.yaml: is UTF-16; save it as UTF-8`},
		{"latin-1", "vault: {}\n# caf\xe9\n", `c.yaml:2: not UTF-8`},
		{"zero byte", "vault: {}\n\x00\n", `c.yaml:2: a control character`},
		{"too large", strings.Repeat("#\n", 40000), `c.yaml: larger than 64 KiB: not a configuration file`},
		{"brackets", "forge: " + strings.Repeat("[", 60000), `c.yaml:1: nested too deep`},
		{"brackets on lines", "forge:\n" + strings.Repeat("  [\n", 10000), `c.yaml:34: nested too deep`},
		{"dashes", "forge:\n  " + strings.Repeat("- ", 30000), `c.yaml:2: nested too deep`},

		{"no scheme", "woodpecker:\n  server: ci.example.lan\n", `c.yaml:2: woodpecker.server has no scheme; write https:// before the host`},
		{"no scheme, port", "woodpecker:\n  server: ci.example.lan:8443\n", `c.yaml:2: woodpecker.server has no scheme; write https:// before the host`},
		{"scheme", "woodpecker:\n  server: ftp://ci.example.lan\n", `c.yaml:2: woodpecker.server has scheme "ftp"; it must be https, or http`},
		{"user info", "woodpecker:\n  server: https://u:hunter2@ci.example.lan\n", `c.yaml:2: woodpecker.server contains user info; remove what stands before the @`},
		{"user info, unparsable", "woodpecker:\n  server: https://u:hun ter2@ci.example.lan\n", `c.yaml:2: woodpecker.server is not a URL such as https://ci.example.lan`},
		{"query", "woodpecker:\n  server: https://ci.example.lan?access_token=hunter2\n", `c.yaml:2: woodpecker.server contains a query; remove what begins with ?`},
		{"fragment", "woodpecker:\n  server: https://ci.example.lan#x\n", `c.yaml:2: woodpecker.server contains a fragment; remove what begins with #`},
		{"no host", "woodpecker:\n  server: https:///x\n", `c.yaml:2: woodpecker.server names no host`},
		{"empty port", "woodpecker:\n  server: 'https://ci.example.lan:'\n", `c.yaml:2: woodpecker.server has an empty port`},
		{"port 0", "woodpecker:\n  server: https://ci.example.lan:0\n", `c.yaml:2: woodpecker.server has a port that is not 1 to 65535`},
		{"port too large", "vault:\n  address: https://v.example.lan:65536\n", `c.yaml:2: vault.address has a port that is not 1 to 65535`},
		{"dots", "woodpecker:\n  server: https://ci.example.lan/a/../b\n", `c.yaml:2: woodpecker.server contains . or .. in its path`},
		{"home of another", "woodpecker:\n  ca-file: ~bob/ca.pem\n", `c.yaml:2: woodpecker.ca-file names another user's home; write the whole path`},
		{"mount only", "woodpecker:\n  token-vault: {path: secret, field: f}\n", `c.yaml:2: woodpecker.token-vault.path names only a mount; write MOUNT/PATH such as secret/ci/global`},
		{"vault path dots", "woodpecker:\n  token-vault: {path: secret/../sys, field: f}\n", `c.yaml:2: woodpecker.token-vault.path has an empty, . or .. segment`},
		{"vault path url", "woodpecker:\n  token-vault: {path: 'https://v/a', field: f}\n", `c.yaml:2: woodpecker.token-vault.path is not a path such as secret/ci/global`},
		{"forge host url", "forge:\n  - {host: 'https://git.example.lan'}\n", `c.yaml:2: forge[0].host is a URL; write the host only, such as git.example.lan`},
		{"forge host port", "forge:\n  - {host: 'git.example.lan:22'}\n", `c.yaml:2: forge[0].host contains a port; it belongs into url`},
		{"forge kind", "forge:\n  - {host: a, kind: gitlab}\n", `c.yaml:2: forge[0].kind must be forgejo, gitea or github`},
		{"forge twice", "forge:\n  - {host: a}\n  - {host: A}\n", `c.yaml:3: forge[1]: host a is already listed`},
		{"forge without host", "forge:\n  - kind: gitea\n", `c.yaml:2: forge[0] needs host`},

		{"several", "woodpecker:\n  sever: x\n  dial: 1\nvault:\n  address: x\n", `c.yaml has 3 problems: ` +
			`line 2: unknown key "sever" in woodpecker; nearest known key: "server"; ` +
			`line 3: woodpecker.dial must be a string, not a number; put it into quotes; ` +
			`line 5: vault.address has no scheme; write https:// before the host`},
		{"many", strings.Repeat("x: 1\n", 30), `c.yaml has 30 problems: line 1: unknown key "x"; known keys: woodpecker, vault, kubernetes, stacks, forge` +
			`; line 2: key "x" is already set in line 1; line 3: key "x" is already set in line 1` +
			`; line 4: key "x" is already set in line 1; line 5: key "x" is already set in line 1; and 25 more`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			u, err := ParseUser("c.yaml", []byte(tt.text), "/home/u")
			if err == nil {
				t.Fatalf("accepted: %v", summary(u))
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows a secret")
			}
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
			checkFault(t, err, fault.Usage, "homelab config show --config c.yaml")
			fe, ok := errors.AsType[*FileError](err)
			if !ok || fe.File != "c.yaml" {
				t.Fatalf("no *FileError in %T", err)
			}
			if fe.Error() != tt.want {
				t.Errorf("FileError says %s", fe)
			}
		})
	}
}

func checkFault(t *testing.T, err error, kind fault.Kind, next string) {
	t.Helper()
	fe, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("%T %v is no *fault.Error", err, err)
	}
	if fe.Kind != kind || fe.Next != next {
		t.Errorf("kind %s, next %q; want %s, %q", fe.Kind, fe.Next, kind, next)
	}
	if strings.Contains(fe.What+fe.Why, "\n") {
		t.Errorf("more than a line: %q", err)
	}
}

// What the address itself must look like is the transport's to say; here it
// only has to arrive, with the setting's name before it.
func TestUserFileBadDial(t *testing.T) {
	for _, dial := range []string{"ci.example.lan", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:99999"} {
		_, err := ParseUser("c.yaml", []byte("woodpecker:\n  dial: '"+dial+"'\n"), "")
		if err == nil || !strings.HasPrefix(err.Error(), "c.yaml:2: woodpecker.dial is not an address to dial: ") {
			t.Errorf("%s: %v", dial, err)
		}
	}
}

func TestServerURLs(t *testing.T) {
	for in, want := range map[string]string{
		"https://ci.example.lan":         "https://ci.example.lan",
		" https://ci.example.lan/ ":      "https://ci.example.lan",
		"https://ci.example.lan/a/b//":   "https://ci.example.lan/a/b",
		"http://127.0.0.1:8000":          "http://127.0.0.1:8000",
		"https://[fd00::5]:8443/wp":      "https://[fd00::5]:8443/wp",
		"HTTPS://CI.example.lan":         "https://CI.example.lan",
		"https://ci.example.lan/a%2Fb/c": "https://ci.example.lan/a%2Fb/c",
	} {
		u, err := parseServer(in)
		if err != nil || u.String() != want {
			t.Errorf("%q: %v, %v; want %s", in, u, err, want)
		}
	}
}

func TestKnownKeysAreAccepted(t *testing.T) {
	// Every key that completion and help offer is one the parser takes: an
	// unknown key would be reported beside the wrong value.
	for _, key := range KnownKeys() {
		var b strings.Builder
		indent := ""
		for part := range strings.SplitSeq(key, ".") {
			name, list := strings.CutSuffix(part, "[]")
			b.WriteString(indent + name + ":\n")
			indent += "  "
			if list {
				indent += "  "
			}
		}
		text := strings.TrimSuffix(b.String(), "\n") + " [x]\n"
		if strings.HasPrefix(key, "forge[]") {
			text = "forge:\n  - " + strings.TrimPrefix(key, "forge[].") + ": [x]\n"
		}
		want := "must be a string, not a list"
		if key == "stacks.roots" {
			text, want = strings.Replace(text, "[x]", "{x: y}", 1), "must be a list of directories, not keys and values"
		}
		_, err := ParseUser("c.yaml", []byte(text), "")
		if err == nil || strings.Contains(err.Error(), "unknown key") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

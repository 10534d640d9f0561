package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
)

// InitAnswers is what a first configuration is filled in with; an empty
// answer leaves a commented example.
type InitAnswers struct {
	Server       string // --server
	Dial         string // --dial
	CAFile       string // --ca-file; a relative one is made absolute
	VaultPath    string // --vault-path, with VaultField
	VaultField   string // --vault-field
	VaultAddress string // --vault-address
	Context      string // --context
}

// InitTemplate returns a commented configuration file. Its own parser accepts
// it, filled in or not; a wrong answer is a usage error that names its flag.
func InitTemplate(a InitAnswers) ([]byte, error) {
	if a.CAFile != "" && !strings.HasPrefix(a.CAFile, "~") {
		abs, err := filepath.Abs(a.CAFile)
		if err != nil {
			return nil, fault.Usagef("homelab config init --help", "--ca-file cannot be made absolute").Because(err.Error()).From(err)
		}
		a.CAFile = abs
	}
	if err := a.check(); err != nil {
		return nil, err
	}

	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	// With nothing below it a section is commented out as a whole: "# "
	// before each of its lines, explanations too.
	section := func(name string, filled bool) (indent string) {
		if filled {
			line("%s:", name)
			return "  "
		}
		line("# %s:", name)
		return "#   "
	}
	key := func(indent, name, answer, example string) {
		switch {
		case answer != "":
			line("%s%s: %s", indent, name, yamlString(answer))
		case strings.HasPrefix(indent, "#"):
			line("%s%s: %s", indent, name, example)
		default:
			line("%s# %s: %s", indent, name, example)
		}
	}

	line("# Configuration of homelab. Flags and environment variables win over it;")
	line("# \"homelab config show\" tells where each value in force comes from.")
	line("# Secrets do not belong here. The Woodpecker token is taken from the")
	line("# variable %s, or read from Vault as described below.", EnvToken)
	line("")
	in := section("woodpecker", a.Server != "" || a.Dial != "" || a.CAFile != "" || a.VaultPath != "")
	key(in, "server", a.Server, "https://ci.example.lan")
	line(in + "# Connect to this address (or ADDRESS:PORT) without asking DNS. The name")
	line(in + "# and its certificate stay those of the server's URL.")
	key(in, "dial", a.Dial, "10.0.20.203")
	line(in + "# Trusted in addition to the system's certificates.")
	key(in, "ca-file", a.CAFile, "/etc/ssl/lab-ca.pem")
	line(in + "# Where the token is read when the variable is not set (KV v1 or v2). It")
	line(in + "# is used for the server above only.")
	switch {
	case a.VaultPath != "":
		line("%stoken-vault:", in)
		key(in+"  ", "path", a.VaultPath, "")
		key(in+"  ", "field", a.VaultField, "")
	case strings.HasPrefix(in, "#"):
		line("%stoken-vault: {path: secret/ci/global, field: woodpecker_api_token}", in)
	default:
		line("%s# token-vault: {path: secret/ci/global, field: woodpecker_api_token}", in)
	}
	line("")
	line("# The variable %s wins over the address.", EnvVaultAddr)
	in = section("vault", a.VaultAddress != "")
	key(in, "address", a.VaultAddress, "https://vault.example.lan")
	key(in, "dial", "", "10.0.20.203")
	line("")
	line("# The kubeconfig context to use instead of the current one.")
	in = section("kubernetes", a.Context != "")
	key(in, "context", a.Context, "homelab")
	line("")
	line("# Directories whose stacks/NAME are stacks, in the order they are tried.")
	line("# stacks:")
	line("#   roots: [~/src/app-stacks/stack-orchestrator]")
	line("")
	line("# Hosts of pull requests. Forge tokens go to hosts listed here (and to")
	line("# github.com) only. The kind is forgejo, gitea or github.")
	line("# forge:")
	line("#   - {host: git.example.lan, kind: forgejo, url: https://git.example.lan, dial: 10.0.20.203}")

	data := []byte(b.String())
	if _, err := ParseUser("config.yaml", data, "/"); err != nil {
		return nil, fmt.Errorf("the configuration written is not valid: %w", err) // every answer was checked: a bug
	}
	return data, nil
}

// check judges each answer as the parser will, naming its flag.
func (a InitAnswers) check() error {
	check := func(flag, v string, err error) error {
		if v == "" || err == nil {
			return nil
		}
		return fault.Usagef("homelab config init --help", "--%s %v", flag, err)
	}
	_, server := parseServer(a.Server)
	_, dial := parsePin(a.Dial)
	_, ca := parsePath("/", "/")(a.CAFile)
	_, path := parseVaultPath(a.VaultPath)
	_, field := parseWord(a.VaultField)
	_, vault := parseServer(a.VaultAddress)
	_, context := parseWord(a.Context)
	for _, err := range []error{
		check("server", a.Server, server),
		check("dial", a.Dial, dial),
		check("ca-file", a.CAFile, ca),
		check("vault-path", a.VaultPath, path),
		check("vault-field", a.VaultField, field),
		check("vault-address", a.VaultAddress, vault),
		check("context", a.Context, context),
	} {
		if err != nil {
			return err
		}
	}
	for _, v := range []string{a.Server, a.Dial, a.CAFile, a.VaultPath, a.VaultField, a.VaultAddress, a.Context} {
		if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 || c == '\ufeff' || c == '\ufffd' }) {
			return fault.Usagef("homelab config init --help", "an answer contains a control character")
		}
	}
	switch {
	case (a.VaultPath == "") != (a.VaultField == ""):
		return fault.Usagef("homelab config init --help", "--vault-path and --vault-field go together")
	case a.VaultPath != "" && a.Server == "":
		return fault.Usagef("homelab config init --help", "--vault-path needs --server: the token is for that server only")
	}
	return nil
}

// yamlString writes a string that no YAML reader takes for something else.
func yamlString(s string) string {
	if s[0] >= 'a' && s[0] <= 'z' && only(s, "/._-:") && !strings.HasSuffix(s, ":") && !slices.Contains([]string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s)) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// WriteInit writes a configuration file whole or not at all, mode 0600, in a
// directory made with mode 0700 if it is not there. An existing file is a
// usage error without force; with force a symbolic link stays one and its
// target is replaced.
func WriteInit(path string, data []byte, force bool) error {
	fail := func(err error) error {
		why := err.Error()
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			why = pe.Err.Error()
		}
		return fault.Usagef("ls -ld "+shellWord(filepath.Dir(path)), "configuration file %s cannot be written", path).Because(why).From(err)
	}
	if path == "" {
		return fault.Usagef("homelab config init --help", "no place for the configuration file").
			Because("neither --config nor " + EnvConfig + ", XDG_CONFIG_HOME or HOME is set")
	}
	target := path
	switch st, err := os.Lstat(path); {
	case err == nil && !force:
		return exists(path)
	case err == nil && st.IsDir():
		return fault.Usagef("ls -ld "+shellWord(path), "%s is a directory", path)
	case err == nil:
		if target, err = filepath.EvalSymlinks(path); err != nil {
			return fail(err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fail(err)
	}
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	tmp, err := os.CreateTemp(dir, ".config-*.yaml") // made with mode 0600
	if err != nil {
		return fail(err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone already when the rename succeeded
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fail(err)
	}
	if !force {
		// A rename would replace what somebody else has written meanwhile:
		// the name is claimed first, which exactly one can.
		claim, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return exists(path)
		}
		if err != nil {
			return fail(err)
		}
		if err := claim.Close(); err != nil {
			return fail(err)
		}
	}
	if err := os.Rename(tmp.Name(), target); err != nil {
		return fail(err)
	}
	return nil
}

func exists(path string) error {
	return fault.Usagef("homelab config init --force --config "+shellWord(path), "%s already exists", path).
		Because("it is replaced only with --force")
}

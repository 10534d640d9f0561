package git

import (
	"context"
	"path"
	"slices"
	"strings"
)

// Config is git's effective configuration for a checkout, read once. Keys are
// as git writes them: section and variable in lower case, the part between
// them as it is ("branch.Fan.remote").
type Config struct{ entries []configEntry }

type configEntry struct {
	key, value string
	implied    bool // "[section] key", which means true
}

// Config reads the whole effective configuration in one process.
func (r *Repo) Config(ctx context.Context) (Config, error) {
	res, err := r.ask(ctx, "config", "--list", "-z")
	if err != nil {
		return Config{}, err
	}
	var c Config
	for entry := range strings.SplitSeq(string(res.Stdout), "\x00") {
		if entry == "" {
			continue
		}
		key, value, has := strings.Cut(entry, "\n")
		c.entries = append(c.entries, configEntry{key: key, value: value, implied: !has})
	}
	return c, nil
}

// Get returns the value that counts, the last one; "" when there is none.
func (c Config) Get(key string) string {
	for _, e := range slices.Backward(c.entries) {
		if e.key == key {
			return e.value
		}
	}
	return ""
}

// All returns every value of key, in order.
func (c Config) All(key string) []string {
	var out []string
	for _, e := range c.entries {
		if e.key == key {
			out = append(out, e.value)
		}
	}
	return out
}

// Remotes returns the names of the remotes that have a URL, in the order they
// are first named.
func (c Config) Remotes() []string {
	var out []string
	for _, e := range c.entries {
		name, isRemote := strings.CutPrefix(e.key, "remote.")
		name, isURL := strings.CutSuffix(name, ".url")
		if isRemote && isURL && name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// rewrites says whether insteadOf or pushInsteadOf may change a URL.
func (c Config) rewrites() bool {
	return slices.ContainsFunc(c.entries, func(e configEntry) bool { return strings.HasPrefix(e.key, "url.") })
}

// URLs returns where name is fetched from and every place it is pushed to,
// insteadOf and pushInsteadOf applied. Git is asked only where rewriting is
// configured. URLs may contain passwords. The error is ErrRemote for a name
// that is not configured.
func (r *Repo) URLs(ctx context.Context, c Config, name string) (fetch string, push []string, err error) {
	if all := c.All("remote." + name + ".url"); len(all) > 0 && !c.rewrites() {
		if push = c.All("remote." + name + ".pushurl"); len(push) == 0 {
			push = all
		}
		return all[0], push, nil
	}
	if fetch, err = r.RemoteURL(ctx, name); err != nil {
		return "", nil, err
	}
	push, err = r.PushURLs(ctx, name)
	return fetch, push, err
}

// Bool says whether key is set to what git takes for true.
func (c Config) Bool(key string) bool {
	for _, e := range slices.Backward(c.entries) {
		if e.key != key {
			continue
		}
		if e.implied {
			return true
		}
		switch strings.ToLower(e.value) {
		case "", "0", "false", "no", "off":
			return false
		}
		return true
	}
	return false
}

// Unattended returns r with an ssh that never asks and gives up connecting
// after ten seconds. What the user configured is kept and added to: the
// variable alone would override core.sshCommand, and with it the user's key.
func (r *Repo) Unattended(c Config) *Repo {
	out := *r
	out.env = append(slices.Clip(r.env), "GIT_SSH_COMMAND="+sshCommand(r.env, c))
	return &out
}

// Resolving returns r with network commands that find the hosts of pins
// without asking DNS, as curl --resolve does: URL, SNI and certificate stay
// those of the name. Each pin is "HOST:PORT:ADDRESS", an IPv6 address in
// brackets. It holds for http and https only.
func (r *Repo) Resolving(pins ...string) *Repo {
	out := *r
	out.pins = append(slices.Clip(r.pins), pins...)
	return &out
}

func sshCommand(env []string, c Config) string {
	command := envValue(env, "GIT_SSH_COMMAND")
	if command == "" {
		command = c.Get("core.sshcommand")
	}
	if command == "" {
		if program := envValue(env, "GIT_SSH"); program != "" {
			command = shellQuote(program)
		}
	}
	if command == "" {
		command = "ssh"
	}
	// PuTTY's programs know neither option.
	variant := envValue(env, "GIT_SSH_VARIANT")
	if variant == "" {
		variant = c.Get("ssh.variant")
	}
	if variant == "" || variant == "auto" {
		first, _, _ := strings.Cut(strings.Trim(command, "'\""), " ")
		variant = strings.TrimSuffix(strings.ToLower(path.Base(first)), ".exe")
	}
	switch variant {
	case "plink", "putty", "tortoiseplink", "simple":
		return command
	}
	return command + " -oBatchMode=yes -oConnectTimeout=10"
}

// PushURLs returns every URL that a push to the configured remote name goes
// to, insteadOf and pushInsteadOf applied. They may contain passwords.
func (r *Repo) PushURLs(ctx context.Context, name string) ([]string, error) {
	res, err := r.ask(ctx, "remote", "get-url", "--push", "--all", "--end-of-options", name)
	return strings.Split(strings.TrimSuffix(string(res.Stdout), "\n"), "\n"), err
}

// Identified says whether the configuration or the environment name who
// commits, so that git need not be asked.
func (r *Repo) Identified(c Config) bool {
	for _, role := range []string{"author", "committer"} {
		for _, field := range []string{"name", "email"} {
			env := envValue(r.env, "GIT_"+strings.ToUpper(role+"_"+field))
			if env == "" && c.Get(role+"."+field) == "" && c.Get("user."+field) == "" {
				return false
			}
		}
	}
	return true
}

// Committer returns the identity new commits would be made with, or git's
// refusal to guess one as *CommandError.
func (r *Repo) Committer(ctx context.Context) (string, error) {
	c := r.Local("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
	res, err := Run(ctx, c)
	return strings.TrimSpace(string(res.Stdout)), err
}

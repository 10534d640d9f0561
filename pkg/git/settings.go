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

// PushURLs returns every URL that a push to name goes to, insteadOf and
// pushInsteadOf applied. They may contain passwords. The error is ErrRemote
// for a name that is not configured.
func (r *Repo) PushURLs(ctx context.Context, name string) ([]string, error) {
	if _, err := r.RemoteURL(ctx, name); err != nil {
		return nil, err
	}
	res, err := r.ask(ctx, "remote", "get-url", "--push", "--all", "--end-of-options", name)
	return strings.Split(strings.TrimSuffix(string(res.Stdout), "\n"), "\n"), err
}

// Committer returns the identity new commits would be made with, or git's
// refusal to guess one as *CommandError.
func (r *Repo) Committer(ctx context.Context) (string, error) {
	c := r.Local("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
	res, err := Run(ctx, c)
	return strings.TrimSpace(string(res.Stdout)), err
}

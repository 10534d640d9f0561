package git

import (
	"context"
	"net/url"
	"strings"
	"time"
	"unicode"

	"homelab/pkg/transport"
)

// credentialLimit bounds git's credential helpers: one may unlock a keyring,
// or ask a server.
const credentialLimit = 30 * time.Second

// Credential is what git knows for a server.
type Credential struct {
	User     string // may be empty
	Password transport.Secret
}

// Credential asks git's credential helpers what they have for u, as a fetch
// from there would; ok is false when they have nothing. Nobody is asked: no
// prompt, no askpass program, no window. What is learnt is neither approved nor
// rejected, so that a helper forgets nothing on our account.
//
// The password travels through a pipe only. What helpers print on stderr is
// dropped: it may repeat what they were told. The error is ctx's cause.
func (r *Repo) Credential(ctx context.Context, u *url.URL) (c Credential, ok bool, err error) {
	var in strings.Builder
	for _, f := range []struct{ key, value string }{
		{"protocol", u.Scheme}, {"host", u.Host}, {"path", strings.TrimPrefix(u.Path, "/")},
	} {
		if strings.ContainsFunc(f.value, unicode.IsControl) {
			return Credential{}, false, nil // a line more would be another question
		}
		if f.value != "" {
			in.WriteString(f.key + "=" + f.value + "\n")
		}
	}
	inner, cancel := context.WithTimeoutCause(ctx, credentialLimit, ErrDeadline)
	defer cancel()
	cmd := r.Network("-c", "credential.interactive=false", "credential", "fill")
	cmd.Stdin = strings.NewReader(in.String() + "\n")
	// Set and empty: git then asks neither core.askPass nor SSH_ASKPASS.
	cmd.Set = []string{"GIT_ASKPASS=", "SSH_ASKPASS=", "GCM_INTERACTIVE=never"}
	res, err := Run(inner, cmd)
	if ctx.Err() != nil {
		return Credential{}, false, context.Cause(ctx)
	}
	if err != nil {
		return Credential{}, false, nil // no helper, or none that knows
	}
	for line := range strings.Lines(string(res.Stdout)) {
		switch key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "="); key {
		case "username":
			c.User = value
		case "password":
			// What cannot be a token is as good as none.
			if c.Password, err = transport.NewSecret(value); err != nil {
				return Credential{}, false, nil
			}
		}
	}
	return c, !c.Password.IsZero(), nil
}

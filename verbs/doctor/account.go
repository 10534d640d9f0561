package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// vault looks whether Vault can be reached, if the token is there.
func (p *patient) vault(ctx context.Context) finding {
	e := p.conf
	switch {
	case e.Token.Set:
		return needless("not needed: the token is in %s", e.Token.Source)
	case !e.TokenVault.Set:
		return needless("not configured")
	}
	if err := e.Vault.Ready(); err != nil {
		return plain(err)
	}
	s, err := p.Vault(e)
	if err != nil {
		return plain(err)
	}
	defer s.Close()
	origin, err := transport.OriginOf(e.Vault.Address.V)
	if err != nil {
		return plain(err)
	}
	line := reach(ctx, s.Transport, e.Vault.Address.V.JoinPath("v1", "sys", "health").String())
	f := line.connected(origin.String())
	if f.status != failed && origin.Scheme == "https" {
		f = line.trusted(origin, p.Now())
	}
	switch {
	case f.status == failed && e.Vault.Pin.Set:
		f.why += fmt.Sprintf("; the address is the one of %s", e.Vault.Pin.Source)
		f.fix = p.show()
	case f.status == failed && f.fix == "":
		f.fix = p.show()
	}
	if f.status == failed {
		f.what = "Vault: " + f.what
		f.why = strings.Replace(f.why, "woodpecker.ca-file", "VAULT_CACERT", 1)
		return f
	}
	if f.status == warned {
		f.what = "Vault: " + f.what
		return f
	}
	return good("%s (%s), connected to %s", origin, e.Vault.Address.Source, line.addr)
}

// newToken puts a token into the environment without showing it or leaving it
// in the shell's history.
const newToken = "read -rs WOODPECKER_TOKEN && export WOODPECKER_TOKEN" //nolint:gosec // a command, no credential

// token reads the token from where it is kept.
func (p *patient) token(ctx context.Context) finding {
	e := p.conf
	get, err := p.Token(e)
	if err != nil {
		f := plain(err)
		if f.kind == fault.Denied && !e.TokenVault.Set {
			f.fix = newToken
		}
		return f
	}
	p.secret, err = get(ctx)
	var late *limitError
	switch {
	case errors.As(err, &late):
		return failure(fault.Unreachable, "vault status", "Vault gives no answer").because(late.Error())
	case err != nil:
		return plain(err)
	case e.Token.Set:
		return good("from %s", e.Token.Source)
	}
	return good("from Vault, %s, field %s", e.TokenVault.V.Path, e.TokenVault.V.Field)
}

// user asks whose token it is: reads of public repositories would hide that it
// is not accepted.
func (p *patient) user(ctx context.Context) finding {
	secret := p.secret
	s, err := p.Server(p.conf, func(context.Context) (transport.Secret, error) { return secret, nil })
	if err != nil {
		return plain(err)
	}
	p.known = s
	u, err := s.Client.User(impatient(ctx))
	var api *woodpecker.APIError
	switch {
	case errors.As(err, &api) && api.Class == woodpecker.Refused:
		f := failure(fault.Denied, newToken, "the token is not accepted")
		f.why = fmt.Sprintf("%s; a new one is at %s", api.Words(), p.page("user", "cli-and-api"))
		if !p.conf.Token.Set {
			// "-" lets Vault's own command read the value, unseen.
			t := p.conf.TokenVault.V
			f.fix = ui.Command("vault", "kv", "patch", t.Path, t.Field+"=-")
		}
		return f
	case err != nil:
		return p.trouble(s, err, "the token's user")
	}
	p.login = u.Login
	if u.Admin {
		return good("%s, an administrator of the server", u.Login)
	}
	return good("%s", u.Login)
}

// repository looks for the repository the other verbs would take.
func (p *patient) repository(ctx context.Context) finding {
	places := p.places
	switch {
	case p.Flags.Repo != "":
		places = []pipeline.Candidate{given(p.Flags.Repo)}
	case p.noGit:
		return finding{status: skipped, cause: "git", what: "needs git"}
	case len(places) == 0:
		return needless("none is named: there is no checkout's remote, and no --repo OWNER/NAME")
	}
	found, err := pipeline.Locate(impatient(ctx), p.known.Client, places, false)
	var unknown *pipeline.RepoError
	switch {
	case errors.As(err, &unknown) && unknown.Login != "":
		fix := "git remote -v"
		if p.Flags.Repo != "" {
			fix = ""
		}
		return failure(fault.Denied, fix, "the repository is unknown to the server or not readable by %s", unknown.Login).
			because(strings.Join(unknown.Tried, "; ") + "; repositories are added at " + p.page("repos", "add"))
	case err != nil:
		return p.trouble(p.known, err, "the repository")
	}
	p.found = &found.Repo
	r := found.Repo
	settings := p.page("repos", fmt.Sprint(int64(r.ID)), "settings")
	switch {
	case !r.Active:
		return failure(fault.Absent, "", "%s is disabled in Woodpecker: no push starts a pipeline", r.FullName).because("it is enabled at " + settings)
	case found.Warning != "":
		return warning("git remote -v", "%s", found.Warning)
	}
	return good("%s, id %d, %s", r.FullName, int64(r.ID), r.Visibility)
}

// permissions asks what the token's user may do there.
func (p *patient) permissions(ctx context.Context) finding {
	if p.found == nil {
		return needless("no repository to ask for")
	}
	may, err := p.known.Client.Permissions(impatient(ctx), p.found.ID)
	if err != nil {
		return p.trouble(p.known, err, "the permissions")
	}
	p.rights = may
	name := p.found.FullName
	switch {
	case may.Admin && may.Push:
		return good("%s may read, push and administer", p.login)
	case may.Push:
		return good("%s may read and push", p.login)
	}
	return warning("", "%s may only read %s", p.login, name).
		because("rerun, run, cancel, approve and decline will be refused; Woodpecker takes permissions over from the forge when " + p.login + " logs in at " + p.page("login"))
}

// errPing says that the stream has given a sign of life.
var errPing = errors.New("ping")

// events opens the event stream and waits for its first sign of life. A server
// that could not bear it is not asked: it might crash when we hang up.
func (p *patient) events(ctx context.Context) finding {
	v := p.anyone.Client.Version()
	if !v.StreamSafe() {
		return needless("not used with Woodpecker %s", orUnknown(string(v)))
	}
	s := p.known
	if s == nil || p.login == "" {
		s = p.anyone
	}
	open := func() error {
		return s.Client.Events(ctx, func(woodpecker.StreamEvent) error { return errPing })
	}
	err := open()
	if err != nil && !errors.Is(err, errPing) && ctx.Err() == nil {
		err = open() // it is opened once only; one fault is not a verdict
	}
	const cost = "watches ask every few seconds instead"
	var late *limitError
	switch {
	case errors.Is(err, errPing):
	case errors.As(err, &late):
		return warning("", "the event stream opens and stays silent: something in front of the server holds it back").because(cost)
	default:
		return warning("", "the event stream cannot be used").because(streamWords(err) + "; " + cost)
	}
	if p.found != nil && !p.found.Public() && p.rights.Synced == 0 {
		return warning("", "the event stream works and tells nothing of %s", p.found.FullName).
			because("the server has stored no permission of " + p.login + " for it; " + cost)
	}
	return good("the event stream opens and lives")
}

// streamWords returns what is wrong with a stream, without the names of layers.
func streamWords(err error) string {
	if final, ok := errors.AsType[*transport.FinalError](err); ok {
		return final.Err.Error()
	}
	if api, ok := errors.AsType[*woodpecker.APIError](err); ok {
		return api.Words()
	}
	return err.Error()
}

func orUnknown(s string) string {
	if s == "" {
		return "of no known version"
	}
	return s
}

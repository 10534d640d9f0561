package doctor

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/pipeline"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// patient is what the checks share. Each field is written by one check and
// read by those that wait for it.
type patient struct {
	Deps
	namespace string   // "" is the context's
	carry     []string // flags that a command about the same server must repeat

	conf   *config.Effective      // config
	origin transport.Origin       // server
	anyone *Server                // server: without a token
	proxy  *url.URL               // route; nil none
	line   contact                // tcp
	secret transport.Secret       // token
	login  string                 // user
	known  *Server                // user: with the token
	places []pipeline.Candidate   // git: what the remotes name
	noGit  bool                   // git: it failed
	found  *woodpecker.Repo       // repository
	rights woodpecker.Permissions // permissions
	kube   *kube.Cluster          // cluster
}

// discharge closes what was opened.
func (p *patient) discharge() {
	for _, s := range []*Server{p.anyone, p.known} {
		if s != nil {
			s.Close()
		}
	}
	if p.kube != nil {
		p.kube.Close()
	}
}

// show is the command that tells where a value comes from.
func (p *patient) show() string {
	words := []string{"homelab", "config", "show"}
	if p.Flags.Config != "" {
		words = append(words, "--config", p.Flags.Config)
	}
	return ui.Command(words...)
}

// again returns this verb for another server: its URL and address are left out
// of what is carried on.
func (p *patient) again(server string) string {
	words := []string{"homelab", "doctor", "--server", server}
	for i := 0; i < len(p.carry); i++ {
		switch p.carry[i] {
		case "--server":
			i++
		case "--insecure-http":
		default:
			words = append(words, p.carry[i])
		}
	}
	return ui.Command(words...)
}

// plain returns a fault as a finding of the same kind.
func plain(err error) finding {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return failure(e.Kind, e.Next, "%s", e.What).because(e.Why)
	}
	return failure(fault.KindOf(err), "", "%s", err.Error())
}

// trouble says why a call to s has no answer. do names the call.
func (p *patient) trouble(s *Server, err error, do string) finding {
	var api *woodpecker.APIError
	var late *limitError
	var away *transport.RedirectError
	at := p.origin.String()
	switch {
	case errors.As(err, &late):
		return failure(fault.Unreachable, "", "%s: %s gives no answer", do, at).because(late.Error())
	case errors.As(err, &away) && away.Origin == "https://"+p.origin.Host && p.origin.Scheme == "http":
		return failure(fault.Unreachable, p.again(away.Origin), "%s redirects to https", at).
			because("redirects to another origin are never followed, the token would go along")
	case errors.As(err, &away):
		return failure(fault.Unreachable, p.show(), "%s redirects to %s, so something in front of the server answers, or the URL is not the server's", at, away.Host).
			because("redirects to another origin are never followed, the token would go along")
	case !errors.As(err, &api):
		return plain(err)
	case api.Class == woodpecker.WrongPath:
		f := failure(fault.Unreachable, p.show(), "the base URL is wrong: below %s there is the server's web page and no API", p.conf.Server.V)
		if p.conf.Server.V.Path != "" {
			f.fix = p.again(at)
		} else {
			f.why = "perhaps the server has a root path, as in " + at + "/ci, or it is too old"
		}
		return f
	case api.Status != 0 && s.Client.Version() == "":
		return failure(fault.Unreachable, "curl -sv "+ui.Quote(p.page("version")), "a proxy answers at %s instead of Woodpecker", at).because(api.Words())
	case api.Class == woodpecker.Refused, api.Class == woodpecker.Rejected:
		return failure(fault.Denied, "", "%s is refused", do).because(api.Words())
	}
	return failure(fault.Unreachable, "", "%s: no usable answer", do).because(api.Words())
}

// page returns the address of something below the server's URL.
func (p *patient) page(path ...string) string { return p.conf.Server.V.JoinPath(path...).String() }

// words returns the innermost wording of a connection's error.
func words(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return strings.TrimPrefix(op.Err.Error(), op.Op+": ")
	}
	return err.Error()
}

// patience is how long a call may fail without a break.
const patience = 1500 * time.Millisecond

// impatient lets calls give up soon: who waits for a diagnosis does not want
// to wait for a server to come back. Refusals are confirmed all the same.
func impatient(ctx context.Context) context.Context { return woodpecker.WithPatience(ctx, patience) }

package ci

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

// targetFlags are the flags that say which pipeline is meant.
type targetFlags struct {
	number int64
	event  string
}

func (t *targetFlags) add(c *cobra.Command) {
	c.Flags().Int64Var(&t.number, "number", 0, "the pipeline with this `NUMBER`, whatever its commit")
	c.Flags().StringVar(&t.event, "event", "", "only pipelines of this `EVENT`; default: push first")
}

// asked is what the user named, read from the words alone.
type asked struct {
	number int64
	repo   woodpecker.RepoID // from a pipeline's URL
	page   *url.URL          // that URL
	rev    string
}

// parseArg reads COMMITISH, #N or a pipeline's web address.
func parseArg(arg string, t targetFlags, given bool, help string) (asked, error) {
	if t.number < 0 || t.number == 0 && given {
		return asked{}, fault.Usagef(help, "--number takes a pipeline number, from 1")
	}
	if t.number > 0 {
		if arg != "" {
			return asked{}, fault.Usagef(help, "--number %d and %q both name a pipeline", t.number, arg)
		}
		return asked{number: t.number}, nil
	}
	switch {
	case arg == "":
		return asked{rev: "HEAD"}, nil
	case strings.HasPrefix(arg, "#"):
		n, err := strconv.ParseInt(arg[1:], 10, 64)
		if err != nil || n <= 0 {
			return asked{}, fault.Usagef(help, "%q is no pipeline number", arg)
		}
		return asked{number: n}, nil
	case strings.Contains(arg, "://"):
		return parsePage(arg, help)
	}
	return asked{rev: arg}, nil
}

// parsePage reads BASE/repos/ID/pipeline/NUMBER[/PID].
func parsePage(arg, help string) (asked, error) {
	u, err := url.Parse(arg)
	if err != nil {
		return asked{}, fault.Usagef(help, "%q is no pipeline address", arg)
	}
	m := regexp.MustCompile(`^(.*)/repos/(\d+)/pipeline/(\d+)(?:/\d+)?/?$`).FindStringSubmatch(u.Path)
	if m == nil {
		return asked{}, fault.Usagef(help, "%q is no pipeline address", arg).
			Because("it looks like https://ci.example.lan/repos/2/pipeline/57")
	}
	id, err1 := strconv.ParseInt(m[2], 10, 64)
	n, err2 := strconv.ParseInt(m[3], 10, 64)
	if err1 != nil || err2 != nil || id == 0 || n == 0 {
		return asked{}, fault.Usagef(help, "%q is no pipeline address", arg)
	}
	u.Path, u.RawPath = m[1], ""
	return asked{number: n, repo: woodpecker.RepoID(id), page: u}, nil
}

// sameServer refuses a pipeline's address on another server than the
// configured one: its token must not be tried there.
func (a asked) sameServer(server *url.URL) error {
	if a.page == nil {
		return nil
	}
	page, err := transport.OriginOf(a.page)
	if err != nil {
		return fault.Usagef("", "the pipeline address cannot be used").Because(err.Error())
	}
	own, err := transport.OriginOf(server)
	if err != nil || page != own || strings.Trim(a.page.Path, "/") != strings.Trim(server.Path, "/") {
		return fault.Usagef("homelab config show", "the pipeline address is on %s, and the configured server is %s", page, own)
	}
	return nil
}

// commit resolves what names a commit: by the checkout's git where there is
// one, else 7 to 40 hex digits are taken as they are.
func commit(ctx context.Context, repo *git.Repo, rev string) (id string, prefix bool, err error) {
	if repo == nil {
		hex := strings.ToLower(rev)
		if regexp.MustCompile(`^[0-9a-f]{7,40}$|^[0-9a-f]{64}$`).MatchString(hex) {
			return hex, len(hex) < 40, nil
		}
		e := fault.Usagef("", "%q cannot be resolved: this is no git checkout", rev).
			Because("outside of one a commit is 7 to 40 hex digits; a pipeline is --number N with --repo OWNER/NAME")
		return "", false, e
	}
	c, err := repo.Resolve(ctx, rev)
	if err == nil {
		return string(c), false, nil
	}
	if ctx.Err() != nil {
		return "", false, context.Cause(ctx)
	}
	e := fault.New(fault.Usage, ui.Clean(err.Error()), "").From(err)
	var own *git.OwnershipError
	var unknown *git.UnknownError
	switch {
	case errors.As(err, &own):
		e.Next = own.Advice()
	case errors.As(err, &unknown):
		e.Next = "git fetch --all --tags"
	}
	return "", false, e
}

// session is a target on a server, ready to be looked at.
type session struct {
	conn    *Conn
	target  pipeline.Target
	login   string
	warning string
}

// open resolves the commit, connects and locates the repository, in this
// order: what is wrong with the words is told before anything is contacted.
func (d Deps) open(ctx context.Context, c *cobra.Command, arg string, t targetFlags, write bool, r Reporter) (*session, error) {
	help := c.CommandPath() + " --help"
	if err := d.Flags.Check(c); err != nil {
		return nil, err
	}
	event := woodpecker.Event(t.event)
	if t.event != "" && !knownEvent(event) {
		return nil, fault.Usagef(help, "there is no event %q", t.event).Because("events: " + eventNames())
	}
	a, err := parseArg(arg, t, c.Flags().Changed("number"), help)
	if err != nil {
		return nil, err
	}
	repo, err := d.checkout(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{target: pipeline.Target{Number: a.number, Event: event}}
	if a.number == 0 {
		if s.target.Commit, s.target.Prefix, err = commit(ctx, repo, a.rev); err != nil {
			return nil, err
		}
	}
	if repo != nil {
		s.target.Local = repo
	}
	if err := d.locate(ctx, s, repo, a, write, r); err != nil {
		return s, err
	}
	return s, nil
}

// locate connects to the server and finds the repository on it.
func (d Deps) locate(ctx context.Context, s *session, repo *git.Repo, a asked, write bool, r Reporter) error {
	wanted, err := given(d.Flags.Repo, a)
	if err != nil {
		return err
	}
	conn, err := d.Connect(ctx, r)
	if err != nil {
		return err
	}
	s.conn = conn
	if err := a.sameServer(conn.Server); err != nil {
		return err
	}
	if len(wanted) == 0 {
		if wanted, err = fromRemotes(ctx, repo, conn.Remote); err != nil {
			return err
		}
	}
	found, err := pipeline.Locate(ctx, conn.Client, wanted, write)
	if err != nil {
		return err
	}
	s.target.Repo, s.login, s.warning = found.Repo, found.Login, found.Warning
	return nil
}

func (d Deps) checkout(ctx context.Context) (*git.Repo, error) {
	repo, err := d.Checkout(ctx)
	if err == nil {
		return repo, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	e := fault.New(fault.Usage, ui.Clean(err.Error()), "").From(err)
	if own, ok := errors.AsType[*git.OwnershipError](err); ok {
		e.Next = own.Advice()
	}
	return nil, e
}

// given returns the repository that the words name: --repo, or a pipeline's
// address.
func given(flag string, a asked) ([]pipeline.Candidate, error) {
	switch {
	case a.repo > 0 && flag != "" && flag != strconv.FormatInt(int64(a.repo), 10):
		return nil, fault.Usagef("", "--repo %s and the pipeline address both name a repository", ui.Clean(flag))
	case a.repo > 0:
		return []pipeline.Candidate{{Origin: "the pipeline address", ID: a.repo}}, nil
	case flag == "":
		return nil, nil
	}
	if id, err := strconv.ParseInt(flag, 10, 64); err == nil {
		if id <= 0 {
			return nil, fault.Usagef("", "--repo %s is no repository id", flag)
		}
		return []pipeline.Candidate{{Origin: "--repo", ID: woodpecker.RepoID(id)}}, nil
	}
	for part := range strings.SplitSeq(flag, "/") {
		if part == "" || part == "." || part == ".." || !strings.Contains(flag, "/") {
			return nil, fault.Usagef("", "--repo %s is not OWNER/NAME and no id", ui.Clean(flag))
		}
	}
	return []pipeline.Candidate{{Origin: "--repo", Name: flag}}, nil
}

// Candidates returns where a repository may be found: what --repo names, else
// the checkout's remotes, preferred first.
func Candidates(ctx context.Context, repo *git.Repo, flag, preferred string) ([]pipeline.Candidate, error) {
	if wanted, err := given(flag, asked{}); err != nil || len(wanted) > 0 {
		return wanted, err
	}
	return fromRemotes(ctx, repo, preferred)
}

// fromRemotes returns the places the checkout's remotes name, in the order
// they are asked.
func fromRemotes(ctx context.Context, repo *git.Repo, preferred string) ([]pipeline.Candidate, error) {
	const how = "name it with --repo OWNER/NAME"
	if repo == nil {
		return nil, fault.Usagef("", "no repository: this is no git checkout").Because(how)
	}
	p, err := pipeline.PlacesOf(ctx, repo, preferred)
	if none, ok := errors.AsType[*pipeline.NoRemoteError](err); ok {
		return nil, fault.Usagef("git remote -v", "%s", none.Error())
	}
	if err != nil || len(p.Candidates) > 0 {
		return p.Candidates, err
	}
	why := strings.Join(append(p.Strays, how), "; ")
	return nil, fault.Usagef("git remote -v", "no repository: no remote of this checkout says which").Because(why)
}

func knownEvent(e woodpecker.Event) bool {
	return slices.Contains(woodpecker.Events(), e)
}

func eventNames() string {
	var out []string
	for _, e := range woodpecker.Events() {
		out = append(out, string(e))
	}
	return strings.Join(out, " ")
}

// explain turns what went wrong before or around a verb's own work into a
// fault: what, why, next.
func explain(err error, repoFlag string) *fault.Error {
	var e *fault.Error
	var repo *pipeline.RepoError
	var other *pipeline.OtherHostError
	var ambiguous *pipeline.AmbiguousError
	var api *woodpecker.APIError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &repo) && repo.Login == "":
		return fault.New(fault.Denied, "the server does not accept the token", "homelab doctor").Because(serverWords(repo.Err)).From(err)
	case errors.As(err, &repo):
		next := "homelab doctor"
		if repoFlag == "" {
			next = "git remote -v"
		}
		return fault.New(fault.Denied, "the repository is unknown to the server or not readable by "+repo.Login, next).
			Because(strings.Join(repo.Tried, "; ")).From(err)
	case errors.As(err, &other):
		return fault.Usagef("", "%v", other).Because("to act on it all the same, say --repo " + other.Found.FullName).From(err)
	case errors.As(err, &ambiguous):
		return fault.Usagef("", "%s fits several commits", ambiguous.Prefix).Because(strings.Join(ambiguous.Commits, ", ")).From(err)
	case errors.As(err, &api) && api.Class == woodpecker.Refused:
		return fault.New(fault.Denied, api.Op+" is refused", "homelab doctor").Because(api.Words()).From(err)
	case errors.As(err, &api):
		return fault.New(fault.Unreachable, api.Op+": the server could not be asked", "homelab doctor").Because(api.Words()).From(err)
	}
	return verb.Fault(err)
}

func serverWords(err error) string {
	if api, ok := errors.AsType[*woodpecker.APIError](err); ok {
		return api.Words()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

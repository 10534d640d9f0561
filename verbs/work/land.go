package work

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/landing"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

const (
	landKind    = "work.land"
	landTimeout = time.Hour
	logLines    = 30 // of each failing step
)

type landOptions struct {
	Deps
	landing.Options
	gate string
}

func newLand(d Deps) *cobra.Command {
	o := &landOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "land", Short: "Verify the branch merged with the base, push it, watch CI",
		Long: `Land the branch that is checked out on the base.

The branch is merged with the base's present tip beside your work tree, the
result is verified in a work tree of its own, and exactly that commit is
pushed. If someone else was faster, all of it is done again. Then its pipeline
is watched. Your branch and files move only once the base has accepted.

What verifies is --verify-cmd, else "verify" in .homelab.yaml on the base, else
it is found out (go.mod, Cargo.toml, package.json, Makefile). A run that was
broken off is settled by the next.

A base that takes pull requests only gets one (5): through the forge's API with
FORGEJO_TOKEN, GITEA_TOKEN, GITHUB_TOKEN or what git's credential helpers have,
for hosts listed under "forge" in the configuration; without a token by a push
to refs/for/BASE, on Forgejo and Gitea. Land again once it is merged.

--revert-on-red takes the landing off the base again, by one commit, when its
pipeline fails and, started anew once, fails again; the base was green before;
no commit on top is green; and it was pushed from here, is no revert and was
not reverted yet. What landed since stays, and is verified without it first.
The exit code is 10 all the same, and the branch keeps its work.`,
		Example: `  homelab work land
  homelab work land --verify-cmd 'make check' --require-ci
  homelab work land --dry-run
  homelab work land --gate ci --json
  homelab work land --revert-on-red`,
		Tier: verb.Write, Kind: landKind, Codes: []fault.Kind{
			fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced,
			fault.Unreachable, fault.Timeout, fault.Conflict, fault.LandedRed,
		},
	}, func(c *cobra.Command, _ []string) error {
		ctx, cancel := verb.Bound(c.Context(), d.Flags.Timeout)
		defer cancel()
		return runLand(ctx, c, o)
	})
	d.Flags.Network(c, landTimeout)
	f := c.Flags()
	f.StringVar(&o.Base, "base", "", "land on the branch `B`; default: the remote's default branch")
	f.StringVar(&o.Remote, "remote", "", "land at the remote `R`")
	f.StringVar(&o.VerifyCmd, "verify-cmd", "", "verify with the shell command `CMD`")
	f.BoolVar(&o.NoVerify, "no-verify", false, "push without verifying; the commit says so")
	f.BoolVar(&o.NoWatch, "no-ci-watch", false, "do not wait for CI")
	f.BoolVar(&o.RequireCI, "require-ci", false, "a commit that gets no pipeline is not enough")
	f.BoolVar(&o.RevertOnRed, "revert-on-red", false, "take the landing off the base again when its pipeline fails twice and the base was green")
	f.StringVar(&o.gate, "gate", "", "`ci`: CI tests the candidate on a branch of its own before the base moves")
	f.DurationVar(&o.Appear, "appear-timeout", 90*time.Second, "wait `DUR` for a pipeline to appear")
	f.StringArrayVar(&o.Targets, "wait-deploy", nil, "then wait until the workload `NS/NAME` runs the commit (repeatable); replaces the base's list")
	f.BoolVar(&o.DryRun, "dry-run", false, "say what would be landed and leave nothing")
	return c
}

func (o *landOptions) check(c *cobra.Command) error {
	help := c.CommandPath() + " --help"
	if err := o.Flags.Check(c); err != nil {
		return err
	}
	for _, name := range []string{"base", "remote", "verify-cmd", "gate"} {
		if fl := c.Flags().Lookup(name); fl.Changed && strings.TrimSpace(fl.Value.String()) == "" {
			return fault.Usagef(help, "--%s is empty", name)
		}
	}
	switch {
	case o.gate != "" && o.gate != "ci" && o.gate != "local":
		return fault.Usagef(help, "--gate is local or ci, not %q", o.gate)
	case o.VerifyCmd != "" && o.NoVerify:
		return fault.Usagef(help, "--verify-cmd and --no-verify exclude each other")
	case o.NoWatch && o.RequireCI:
		return fault.Usagef(help, "--no-ci-watch and --require-ci exclude each other")
	case o.NoWatch && o.RevertOnRed:
		return fault.Usagef(help, "--no-ci-watch and --revert-on-red exclude each other: only CI can say that a landing is red")
	case slices.Contains(o.Targets, ""):
		return fault.Usagef(help, "--wait-deploy is empty")
	case o.Appear <= 0:
		return fault.Usagef(help, "--appear-timeout must be positive")
	case strings.HasPrefix(o.Base, "-") || strings.HasPrefix(o.Remote, "-"):
		return fault.Usagef(help, "neither a branch nor a remote begins with a dash")
	}
	o.GateCI = o.gate == "ci"
	return nil
}

func runLand(ctx context.Context, c *cobra.Command, o *landOptions) error {
	if err := o.check(c); err != nil {
		return o.refuse(ctx, err)
	}
	repo, err := o.Checkout(ctx)
	if err == nil && repo == nil {
		err = fault.Usagef("git status", "this is no git checkout, or git is not installed")
	}
	if err == nil && o.Cache == "" {
		err = fault.Usagef("export HOME=/home/YOU", "neither HOME nor XDG_CACHE_HOME says where to verify")
	}
	if err != nil {
		return o.refuse(ctx, err)
	}
	tell := &landTeller{io: o.IO}
	server := &contact{Deps: o.Deps, tell: tell}
	ci := &landing.Server{Check: o.Configured, Connect: server.connect, LogLines: logLines}
	d := landing.Deps{
		Repo: repo, Env: o.Child, Cache: o.Cache, Rules: o.Rules, File: o.File, Tell: tell.update,
		CI: ci, Restarts: ci,
	}
	if o.Forge != nil {
		if d.Forge, err = o.Forge(ctx); err != nil {
			return o.refuse(ctx, err)
		}
	}
	if o.Deploy != nil {
		d.Deploy = o.Deploy(func(text string) { tell.update(landing.Told{Phase: "deploy", Text: text}) })
	}
	tell.story = o.IO.Story(ctx, nil)
	defer tell.story.Close()
	r := landing.Land(ctx, d, o.Options)
	r.Next = o.next(c, r.Next)
	if r.Trouble != nil {
		r.Trouble.Next = r.Next
	}
	return verb.Finish(o.IO, o.view(r, server.client()), r.Kind, r.Trouble)
}

// refuse ends a run that could not begin.
func (o *landOptions) refuse(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	e := verb.Fault(err)
	if own, ok := errors.AsType[*git.OwnershipError](err); ok {
		e = fault.Usagef(own.Advice(), "%v", own)
	}
	return verb.Finish(o.IO, o.view(landing.Result{Kind: e.Kind, Reason: e.Error(), Next: e.Next, Trouble: e}, nil), e.Kind, e)
}

// next completes a command: one that lands again repeats what was asked for,
// one that asks CI speaks of the same server.
func (o *landOptions) next(c *cobra.Command, next string) string {
	var words []string
	switch {
	case next == "homelab work land":
		for _, name := range []string{"base", "remote", "verify-cmd", "gate", "appear-timeout", "timeout"} {
			if fl := c.Flags().Lookup(name); fl.Changed {
				words = append(words, "--"+name, fl.Value.String())
			}
		}
		for _, t := range o.Targets {
			words = append(words, "--wait-deploy", t)
		}
		for _, name := range []string{"no-verify", "no-ci-watch", "require-ci", "revert-on-red"} {
			if fl := c.Flags().Lookup(name); fl.Changed && fl.Value.String() == "true" {
				words = append(words, "--"+name)
			}
		}
	case !strings.HasPrefix(next, "homelab ci "):
		return next
	}
	if o.Flags.Repo != "" {
		words = append(words, "--repo", o.Flags.Repo)
	}
	words = append(words, o.Flags.Carried(c)...)
	if len(words) == 0 {
		return next
	}
	return next + " " + ui.Command(words...)
}

// contact connects to the CI server when the landing asks for it.
type contact struct {
	Deps
	tell *landTeller

	mu   sync.Mutex
	conn *Conn
}

func (k *contact) client() *woodpecker.Client {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil {
		return nil
	}
	return k.conn.Client
}

func (k *contact) connect(ctx context.Context, remote string) (landing.Contact, error) {
	conn, err := k.Connect(ctx, k.tell.reporter())
	if err != nil {
		return landing.Contact{}, err
	}
	k.mu.Lock()
	k.conn = &conn
	k.mu.Unlock()
	candidate := pipeline.Candidate{Origin: "--repo", Name: k.Flags.Repo}
	if k.Flags.Repo == "" {
		r, err := git.ParseRemote(remote)
		if err != nil {
			return landing.Contact{}, fault.Usagef("homelab work land --repo OWNER/NAME", "the landing remote does not say which repository it is in CI").Because(ui.Clean(err.Error()))
		}
		candidate = pipeline.Candidate{Origin: "the landing remote", Name: r.Path, Host: r.Host}
	} else if id, ok := number(k.Flags.Repo); ok {
		candidate = pipeline.Candidate{Origin: "--repo", ID: woodpecker.RepoID(id)}
	}
	found, err := pipeline.Locate(ctx, conn.Client, []pipeline.Candidate{candidate}, false)
	if err != nil {
		return landing.Contact{}, explainCI(err)
	}
	if found.Warning != "" {
		k.tell.warn(found.Warning)
	}
	return landing.Contact{Source: conn.Client, Control: conn.Client, Repo: found.Repo, Renew: conn.Renew}, nil
}

func number(s string) (n int64, ok bool) {
	for _, r := range s {
		if r < '0' || r > '9' || n > 1<<40 {
			return 0, false
		}
		n = n*10 + int64(r-'0')
	}
	return n, n > 0
}

// explainCI words why the CI server could not be asked about the repository.
func explainCI(err error) error {
	var e *fault.Error
	var repo *pipeline.RepoError
	var api *woodpecker.APIError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &repo) && repo.Login == "":
		return fault.New(fault.Denied, "the CI server does not accept the token", "homelab doctor").From(err)
	case errors.As(err, &repo):
		return fault.New(fault.Denied, "the repository is unknown to the CI server or not readable by "+ui.Clean(repo.Login), "homelab work land --repo OWNER/NAME").
			Because(ui.Clean(strings.Join(repo.Tried, "; "))).From(err)
	case errors.As(err, &api) && api.Class == woodpecker.Refused:
		return fault.New(fault.Denied, "the CI server refuses: "+api.Op, "homelab doctor").Because(ui.Clean(api.Words())).From(err)
	case errors.As(err, &api):
		return fault.New(fault.Unreachable, "the CI server could not be asked", "homelab work land").Because(ui.Clean(api.Words())).From(err)
	}
	return err
}

// landTeller tells a landing's updates as lines and as events.
type landTeller struct {
	io    *ui.Streams
	story *ui.Story
}

func (t *landTeller) reporter() Reporter {
	return Reporter{
		Trouble: func(err error) {
			words := err.Error()
			if api, ok := errors.AsType[*woodpecker.APIError](err); ok {
				words = api.Words()
			}
			t.warn("the CI server: " + words + "; asking again")
		},
		Recovered: func(time.Duration) { t.io.Note(ui.L("ci      the server answers again")) },
	}
}

func (t *landTeller) warn(text string) {
	t.io.Event("warning", map[string]string{"text": ui.Clean(text)})
	t.io.Note(ui.Line{ui.T(ui.Waiting, "warning "), ui.T(ui.Plain, text)})
}

// phase is a line of the story: the phase in a column of its own.
func (t *landTeller) phase(name, text string) {
	t.story.Line(ui.L(name + strings.Repeat(" ", max(1, 8-len(name))) + ui.Clean(text)))
}

func (t *landTeller) update(u landing.Update) {
	switch u := u.(type) {
	case landing.Told:
		t.io.Event("phase", map[string]string{"phase": u.Phase, "text": ui.Clean(u.Text)})
		t.phase(u.Phase, u.Text)
	case landing.Line:
		text := ui.Clean(u.Text)
		t.io.Event("verify_line", map[string]string{"text": text})
		t.story.Continue(ui.Line{ui.T(ui.Dim, "verify | "), ui.T(ui.Plain, text)})
	case landing.Raced:
		t.io.Event("race", map[string]any{"tip": u.Tip, "attempt": u.Attempt})
	case landing.Arrived:
		t.io.Event("landed", map[string]any{"commit": u.Commit})
	case landing.Warned:
		t.warn(u.Text)
	case landing.Watched:
		t.watched(u.Update)
	}
}

func (t *landTeller) watched(u pipeline.Update) {
	switch u := u.(type) {
	case pipeline.Found:
		t.ci(u.Row, u.Why)
	case pipeline.Changed:
		if u.Status {
			t.ci(u.Row, "")
		}
	case pipeline.Followed:
		t.io.Event("ci", map[string]any{"number": u.To, "reason": ui.Clean(u.Why)})
		t.phase("ci", u.Why)
	case pipeline.Note:
		t.phase("ci", u.Text)
	case pipeline.Detail:
		t.io.Verbosef("%s", u.Text)
	case pipeline.Tails:
		for _, s := range u.Steps {
			for _, l := range s.LogTail {
				t.story.Continue(ui.Line{ui.T(ui.Dim, s.Workflow+"/"+s.Step+" | "), ui.T(ui.Plain, l)})
			}
		}
	}
}

func (t *landTeller) ci(row woodpecker.Pipeline, why string) {
	t.io.Event("ci", map[string]any{"number": row.Number, "status": row.Status})
	text := "#" + itoa(row.Number) + " " + string(row.Status)
	if why != "" {
		text += ": " + why
	}
	t.phase("ci", text)
}

package pipeline_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/woodsim"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
)

// lab is a simulated server with a balancer in front of it, a client, and what
// a watch told. It lives inside a bubble: no sockets, and only the fake clock.
type lab struct {
	*woodsim.Server
	t      *testing.T
	lb     *faultlb.Balancer
	repo   *woodsim.Repo
	client *woodpecker.Client
	token  string
	local  *checkout
	alter  func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) // nil: as it is

	mu      sync.Mutex
	updates []string
	trouble int
}

// RoundTrip attaches the token, as the stack below a real client does.
func (l *lab) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	token := l.token
	l.mu.Unlock()
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	if l.alter != nil {
		return l.alter(r, func() (*http.Response, error) { return l.lb.RoundTrip(r) })
	}
	return l.lb.RoundTrip(r)
}

// said makes an answer that looks like the server's own.
func said(r *http.Request, status int, body string) *http.Response {
	h := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "X-Woodpecker-Version": {"3.17.0"}}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

type options struct {
	version string
	repo    woodsim.RepoOptions
	lb      faultlb.Options
	sim     woodsim.Options
	perm    woodsim.Perm
}

func newLab(t *testing.T, o options) *lab {
	t.Helper()
	o.sim.Version = o.version
	s := woodsim.New(o.sim)
	s.AddUser(woodsim.User{Login: "ada", Token: "t-ada"})
	if o.repo.FullName == "" {
		o.repo.FullName = "ada/app"
	}
	l := &lab{Server: s, t: t, token: "t-ada", local: &checkout{}, repo: s.AddRepo(o.repo)}
	if o.perm == (woodsim.Perm{}) {
		o.perm = woodsim.Perm{Pull: true, Push: true}
	}
	l.repo.Allow("ada", o.perm)
	l.lb = faultlb.Transport(s.Client(), o.lb)
	t.Cleanup(l.lb.Close)
	base, err := url.Parse("https://ci.example")
	if err != nil {
		t.Fatal(err)
	}
	l.client = woodpecker.New(woodpecker.Options{
		Base: base, Transport: l, Exact: true,
		Trouble: func(error) { l.mu.Lock(); l.trouble++; l.mu.Unlock() },
	})
	return l
}

// locate finds the repository as every verb does before it looks further.
func (l *lab) locate() woodpecker.Repo {
	l.t.Helper()
	at, err := pipeline.Locate(l.t.Context(), l.client, []pipeline.Candidate{{Origin: "--repo", Name: "ada/app"}}, false)
	if err != nil {
		l.t.Fatal(err)
	}
	return at.Repo
}

func (l *lab) target(commit string) pipeline.Target {
	t := pipeline.Target{Repo: l.locate(), Commit: commit}
	if l.local != nil {
		t.Local = l.local
	}
	return t
}

func limits() pipeline.Limits { return pipeline.Limits{Appear: 90 * time.Second, LogLines: 30} }

// await watches and notes what is told, one line per update.
func (l *lab) await(ctx context.Context, t pipeline.Target, o pipeline.Limits) pipeline.Outcome {
	l.t.Helper()
	out, err := pipeline.Await(ctx, l.client, t, o, func(u pipeline.Update) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.updates = append(l.updates, word(u))
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func word(u pipeline.Update) string {
	switch u := u.(type) {
	case pipeline.Found:
		return fmt.Sprintf("found #%d %s %s", u.Row.Number, u.Row.Status, u.Why)
	case pipeline.Changed:
		return fmt.Sprintf("changed #%d %s", u.Row.Number, u.Row.Status)
	case pipeline.Followed:
		return fmt.Sprintf("followed #%d to #%d: %s", u.From, u.To, u.Why)
	case pipeline.Note:
		return "note " + u.Text
	case pipeline.Detail:
		return "detail " + u.Text
	case pipeline.Tails:
		return fmt.Sprintf("tails %d", len(u.Steps))
	}
	return "unknown update"
}

func (l *lab) told() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.updates, "\n")
}

// at does f after d.
func (l *lab) at(d time.Duration, f func()) { time.AfterFunc(d, f) }

// within returns a context whose time is up after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fault.ErrTimeUp)
	t.Cleanup(cancel)
	return ctx
}

// checkout is what a checkout would know.
type checkout struct {
	contains  map[string]git.Answer // by commit: does it contain the target?
	message   string
	noFile    bool
	notPushed bool
	asked     int
}

func (c *checkout) IsAncestor(_ context.Context, _, descendant git.Commit) (git.Answer, error) {
	c.asked++
	if a, ok := c.contains[string(descendant)]; ok {
		return a, nil
	}
	return git.No, nil
}
func (c *checkout) Message(context.Context, git.Commit) (string, error) { return c.message, nil }
func (c *checkout) TreeFiles(context.Context, git.Commit) ([]string, error) {
	if c.noFile {
		return []string{"README.md"}, nil
	}
	return []string{".woodpecker.yml", "README.md"}, nil
}
func (c *checkout) OnRemote(context.Context, git.Commit) (bool, error) { return !c.notPushed, nil }

// want is what a watch must come to.
type want struct {
	verdict   pipeline.Verdict
	reason    string // contained
	advice    pipeline.Advice
	number    int64 // of the hint
	row       int64 // number; 0: no row
	followed  int
	confirmed bool
	from, to  time.Duration // when; to 0: not checked
	requests  int           // at most; 0: not checked
	told      string        // contained in what was told
}

func (l *lab) check(out pipeline.Outcome, took time.Duration, w want) {
	l.t.Helper()
	var row int64
	if out.Row != nil {
		row = out.Row.Number
	}
	if out.Verdict != w.verdict || !strings.Contains(out.Reason, w.reason) {
		l.t.Errorf("%s: %q after %s, want %s: %q", out.Verdict, out.Reason, took, w.verdict, w.reason)
	}
	if out.Hint.Advice != w.advice || out.Hint.Number != w.number {
		l.t.Errorf("hint %+v, want %s %d", out.Hint, w.advice, w.number)
	}
	if row != w.row || len(out.Followed) != w.followed || out.Confirmed != w.confirmed {
		l.t.Errorf("row %d, followed %v, confirmed %t; want %d, %d, %t", row, out.Followed, out.Confirmed, w.row, w.followed, w.confirmed)
	}
	if w.to > 0 && (took < w.from || took > w.to) {
		l.t.Errorf("took %s, want %s to %s", took, w.from, w.to)
	}
	if n := len(l.Requests()); w.requests > 0 && n > w.requests {
		l.t.Errorf("%d requests, want %d at most: %s", n, w.requests, l.asked())
	}
	if !strings.Contains(l.told(), w.told) {
		l.t.Errorf("not told: %q", w.told)
	}
	if bad := l.Unexpected(); len(bad) > 0 {
		l.t.Errorf("asked for what does not exist: %s %s", bad[0].Method, bad[0].Path)
	}
	if l.t.Failed() {
		l.t.Logf("told:\n%s", l.told())
	}
}

func (l *lab) asked() string {
	var b strings.Builder
	var start time.Time
	for _, r := range l.Requests() {
		if start.IsZero() {
			start = r.Time
		}
		fmt.Fprintf(&b, "\n%8s %s %s", r.Time.Sub(start), r.Method, r.Path)
	}
	return b.String()
}

// bubble runs f with a lab inside a bubble: fake time, and no goroutine may be
// left when it ends.
func bubble(t *testing.T, o options, f func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(700 * time.Millisecond) // off the full second, as life is
		f(t, newLab(t, o))
	})
}

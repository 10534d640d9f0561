package woodpecker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/internal/tlstest"
	"homelab/internal/woodsim"
	"homelab/pkg/transport"
	"homelab/pkg/woodpecker"
)

// server is what the contract is tested on.
type server struct {
	client func(t *testing.T, token string) *woodpecker.Client
	token  string
	repo   string // full name; it has at least one pipeline that has ended
	slow   bool   // refusals are confirmed as well, which takes three seconds each
}

// The simulated server, behind a real listener and the whole stack.
func TestContractSimulated(t *testing.T) {
	for _, version := range []string{"3.0.0", "3.13.0", "3.17.0", "dev"} {
		t.Run(version, func(t *testing.T) {
			s := woodsim.New(woodsim.Options{Version: version, RootPath: "/ci"})
			s.AddUser(woodsim.User{Login: "ada", Token: "t-ada"})
			r := s.AddRepo(woodsim.RepoOptions{FullName: "ada/app", Visibility: "private"})
			r.Allow("ada", woodsim.Perm{Pull: true, Push: true})
			r.Push(woodsim.Commit{Message: "a"}, woodsim.Green(0))
			r.Push(woodsim.Commit{Message: "b"}, woodsim.Red("unit", 3))
			r.Tag("v1", woodsim.Commit{Message: "b"}, woodsim.Green(0))
			r.Cron("nightly", woodsim.Commit{Message: "b"}, woodsim.ConfigError("bad yaml"))
			s.Settle()

			ca := tlstest.NewCA(t)
			at := ca.Serve(t, s, "ci.example")
			base, err := url.Parse(at.URL("ci.example") + "/ci/")
			if err != nil {
				t.Fatal(err)
			}
			pin := transport.Pin{Addr: netip.MustParseAddr("127.0.0.1")}
			Contract(t, server{
				token: "t-ada", repo: "ada/app", slow: version == "3.17.0",
				client: func(t *testing.T, token string) *woodpecker.Client {
					return newClient(t, base, &pin, ca.File(t), token)
				},
			})
			writes := s.Writes()
			if bad := s.Unexpected(); len(bad) > 0 || len(writes) > 0 {
				t.Errorf("asked for %+v, changed %+v", bad, writes)
			}
		})
	}
}

// A real server, where one is named. Nothing is changed on it.
func TestContractReal(t *testing.T) {
	base, token, repo := os.Getenv("HOMELAB_TEST_WOODPECKER_SERVER"), os.Getenv("HOMELAB_TEST_WOODPECKER_TOKEN"), os.Getenv("HOMELAB_TEST_WOODPECKER_REPO")
	if base == "" || token == "" || repo == "" {
		t.Skip("no server is named by HOMELAB_TEST_WOODPECKER_SERVER, _TOKEN and _REPO")
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	Contract(t, server{
		token: token, repo: repo, slow: true,
		client: func(t *testing.T, token string) *woodpecker.Client { return newClient(t, u, nil, "", token) },
	})
}

func newClient(t *testing.T, base *url.URL, pin *transport.Pin, ca, token string) *woodpecker.Client {
	t.Helper()
	stack, err := transport.New(transport.Options{
		Base: base, Pin: pin, CAFile: ca, UserAgent: "homelab-test",
		Token: func(context.Context) (transport.Secret, error) {
			if token == "" {
				return transport.Secret{}, nil
			}
			return transport.NewSecret(token)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stack.CloseIdleConnections)
	return woodpecker.New(woodpecker.Options{Base: base, Transport: stack, CloseIdle: stack.CloseIdleConnections})
}

// Contract is what the rest of the program relies on, whichever server
// answers. It only reads, and tries writes that must be refused.
func Contract(t *testing.T, s server) {
	ctx := t.Context()
	c := s.client(t, s.token)
	repo, err := c.Lookup(ctx, s.repo)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := c.Pipelines(ctx, repo.ID, woodpecker.ListOptions{PerPage: 50})
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	ended := rows[slices.IndexFunc(rows, func(r woodpecker.Pipeline) bool { return r.Status.Ended() })]
	quick := woodpecker.Unconfirmed(ctx)

	t.Run("calls", func(t *testing.T) {
		run := func(name string, f func(t *testing.T)) {
			t.Run(name, func(t *testing.T) { t.Parallel(); f(t) })
		}
		run("version", func(t *testing.T) {
			v, err := c.ServerVersion(t.Context())
			if err != nil || v == "" || v != c.Version() {
				t.Errorf("%q, header %q, %v", v, c.Version(), err)
			}
		})
		run("health", func(t *testing.T) {
			if err := c.Healthz(t.Context()); err != nil {
				t.Error(err)
			}
			if h := c.Health(); !h.AnyGood {
				t.Errorf("%+v", h)
			}
		})
		run("clock", func(t *testing.T) {
			if d := time.Since(c.Now()); d.Abs() > 24*time.Hour {
				t.Errorf("the server's clock is %s off", d)
			}
		})
		run("user", func(t *testing.T) {
			u, err := c.User(t.Context())
			if err != nil || u.Login == "" || u.ID <= 0 {
				t.Errorf("%+v %v", u, err)
			}
		})
		run("repository", func(t *testing.T) {
			same, err := c.Repo(t.Context(), repo.ID)
			if err != nil || same != repo {
				t.Errorf("%+v, want %+v, %v", same, repo, err)
			}
			shouted, err := c.Lookup(t.Context(), strings.ToUpper(s.repo))
			if err != nil || shouted.ID != repo.ID {
				t.Errorf("%+v %v", shouted, err)
			}
			if repo.ForgeURL == "" || repo.CloneURL == "" || !repo.Active {
				t.Errorf("%+v", repo)
			}
		})
		run("permissions", func(t *testing.T) {
			p, err := c.Permissions(t.Context(), repo.ID)
			if err != nil || !p.Pull {
				t.Errorf("%+v %v", p, err)
			}
			mine, err := c.UserRepos(t.Context(), repo.FullName[strings.LastIndex(repo.FullName, "/")+1:])
			if err != nil {
				t.Error(err)
			}
			if has := slices.ContainsFunc(mine, func(r woodpecker.Repo) bool { return r.ID == repo.ID }); has != p.Push {
				t.Errorf("among the user's own: %t, push %t", has, p.Push)
			}
		})
		run("list", func(t *testing.T) {
			if !slices.IsSortedFunc(rows, func(a, b woodpecker.Pipeline) int { return int(b.Number - a.Number) }) {
				t.Error("not newest first")
			}
			for _, r := range rows {
				if len(r.Workflows) > 0 || r.Commit == "" || r.Event == "" || r.Status == "" {
					t.Errorf("row %+v", r)
				}
			}
			one, err := c.Pipelines(t.Context(), repo.ID, woodpecker.ListOptions{PerPage: 1})
			if err != nil || len(one) != 1 || one[0].ID < rows[0].ID {
				t.Errorf("one row: %d, %v", len(one), err)
			}
			if len(rows) > 1 {
				two, err := c.Pipelines(t.Context(), repo.ID, woodpecker.ListOptions{Page: 2, PerPage: 1})
				if err != nil || len(two) != 1 || two[0].Number >= one[0].Number {
					t.Errorf("second row: %d, %v", len(two), err)
				}
			}
			far, err := c.Pipelines(t.Context(), repo.ID, woodpecker.ListOptions{Page: 100000})
			if err != nil || len(far) != 0 {
				t.Errorf("far down: %d, %v", len(far), err)
			}
			pushes, err := c.Pipelines(t.Context(), repo.ID, woodpecker.ListOptions{Events: []woodpecker.Event{woodpecker.Push, woodpecker.Tag}})
			if err != nil || slices.ContainsFunc(pushes, func(r woodpecker.Pipeline) bool { return r.Event != woodpecker.Push && r.Event != woodpecker.Tag }) {
				t.Errorf("by event: %v", err)
			}
			if b := rows[len(rows)-1].Branch; b != "" {
				of, err := c.Pipelines(t.Context(), repo.ID, woodpecker.ListOptions{Branch: b})
				if err != nil || len(of) == 0 || slices.ContainsFunc(of, func(r woodpecker.Pipeline) bool { return r.Branch != b }) {
					t.Errorf("by branch: %d, %v", len(of), err)
				}
			}
		})
		run("detail", func(t *testing.T) {
			for _, r := range rows[:min(len(rows), 5)] {
				p, err := c.Pipeline(t.Context(), repo.ID, r.Number)
				if err != nil || p.ID != r.ID || p.Number != r.Number || p.Commit != r.Commit || p.Event != r.Event || p.Created != r.Created {
					t.Errorf("%+v, want %+v, %v", p, r, err)
				}
				for _, w := range p.Workflows {
					if w.ID <= 0 || w.Name == "" || w.State == "" {
						t.Errorf("workflow %+v", w)
					}
					for _, st := range w.Steps {
						if st.ID <= 0 || st.PID <= 0 || st.Name == "" || st.State == "" {
							t.Errorf("step %+v", st)
						}
					}
				}
			}
		})
		run("logs", func(t *testing.T) {
			p, err := c.Pipeline(t.Context(), repo.ID, ended.Number)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range p.Workflows {
				for _, st := range w.Steps {
					if st.Started == 0 {
						continue
					}
					seen := map[int]bool{}
					err := c.Log(t.Context(), repo.ID, p.Number, st.ID, func(e woodpecker.LogEntry) error {
						if seen[e.Line] || e.Line < 0 {
							return fmt.Errorf("line %d twice or negative", e.Line)
						}
						seen[e.Line] = true
						return nil
					})
					if err != nil {
						t.Errorf("%s: %v", st.Name, err)
					}
					stream := c.LogStream(t.Context(), repo.ID, p.Number, st.ID, func(woodpecker.LogEntry) error { return nil })
					if stream == nil {
						t.Errorf("%s: a stream of an ended step goes on", st.Name)
					}
				}
			}
		})
		run("what is not there", func(t *testing.T) {
			_, row := c.Pipeline(quick, repo.ID, 1<<40)
			refused(t, "row", row, http.StatusNotFound)
			refused(t, "log", c.Log(quick, repo.ID, ended.Number, 1<<40, func(woodpecker.LogEntry) error { return nil }), http.StatusNotFound)
			_, name := c.Lookup(quick, s.repo+"-and-no-more")
			refused(t, "name", name, http.StatusNotFound)
			if !s.slow {
				return
			}
			start := time.Now()
			_, err := c.Repo(t.Context(), 1<<40)
			refused(t, "id", err, http.StatusNotFound)
			if d := time.Since(start); d < 3*time.Second || d > 10*time.Second {
				t.Errorf("confirmed in %s", d)
			}
		})
		run("a bad token", func(t *testing.T) {
			if !s.slow {
				t.Skip("one version is enough")
			}
			start := time.Now()
			_, err := s.client(t, "no-such-token").User(t.Context())
			refused(t, "user", err, http.StatusUnauthorized)
			if d := time.Since(start); d < 3*time.Second {
				t.Errorf("believed after %s", d)
			}
		})
		run("queue", func(t *testing.T) {
			start := time.Now()
			if _, err := c.Queue(t.Context()); err != nil {
				var api *woodpecker.APIError
				if !errors.As(err, &api) || api.Class != woodpecker.Refused {
					t.Errorf("%v", err)
				}
			}
			if time.Since(start) > 2*time.Second {
				t.Error("a refusal was doubted")
			}
		})
		run("events", func(t *testing.T) {
			if !c.Version().StreamSafe() && c.Version() != "dev" {
				t.Skip("older servers may not bear it")
			}
			enough := errors.New("enough")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := c.Events(ctx, func(e woodpecker.StreamEvent) error {
				if e.Ping {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) {
				t.Errorf("no ping: %v", err)
			}
			cause := errors.New("given up")
			stop, end := context.WithCancelCause(t.Context())
			err = c.Events(stop, func(woodpecker.StreamEvent) error { end(cause); return nil })
			if !errors.Is(err, cause) {
				t.Errorf("the cause is lost: %v", err)
			}
		})
		run("refused writes", func(t *testing.T) {
			p, err := c.Permissions(t.Context(), repo.ID)
			if err != nil || !p.Push {
				t.Skip("no permission to try them")
			}
			for name, err := range map[string]error{
				"cancel": c.Cancel(t.Context(), repo.ID, ended.Number), "approve": second(c.Approve(t.Context(), repo.ID, ended.Number)),
			} {
				var api *woodpecker.APIError
				if !errors.As(err, &api) || api.Class != woodpecker.Rejected || api.Status != http.StatusBadRequest || api.Text == "" {
					t.Errorf("%s of what has ended: %v", name, err)
				}
			}
			var api *woodpecker.APIError
			if _, err := c.Decline(t.Context(), repo.ID, ended.Number); !errors.As(err, &api) || api.Class != woodpecker.Doubtful {
				t.Errorf("decline of what has ended: %v", err)
			}
			refused(t, "cancel of nothing", c.Cancel(t.Context(), repo.ID, 1<<40), http.StatusNotFound)
		})
	})
}

func refused(t *testing.T, what string, err error, status int) {
	t.Helper()
	var api *woodpecker.APIError
	if !errors.As(err, &api) || api.Class != woodpecker.Refused || api.Status != status {
		t.Errorf("%s: %v, want refused with %d", what, err, status)
	}
}

func second(_ *woodpecker.Pipeline, err error) error { return err }

package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/secret"
)

// machine is a machine with a stack, a deployment directory of it and a
// simulated cluster. Use it in a bubble.
type machine struct {
	*testing.T
	root string
	sim  *kubesim.Sim
	tale *tale
	// death is asked before each write to the cluster; true: the process is dead
	// from now on. With after it dies once the write has come through.
	death func(*http.Request) (dead, after bool)
	dead  atomic.Bool
	seen  func(*http.Request) // told of every write that came through
	end   context.CancelCauseFunc
	// Besides a verb its lease is renewed: who holds this asks death or tells
	// seen, which may look at the cluster themselves.
	turn chan struct{}

	resolver Resolver
}

// newMachine writes the files, relative to a fresh directory, and makes
// the directory "shop" of spec.yml in it, with id shop-1.
func newMachine(t *testing.T, root string, files map[string]string) *machine {
	t.Helper()
	m := &machine{T: t, root: root, sim: kubesim.New(kubesim.Options{}), tale: &tale{}, turn: make(chan struct{}, 1)}
	m.write(files)
	m.write(map[string]string{"kube.yml": "apiVersion: v1\nkind: Config\n"})
	if _, err := directory.Create(t.Context(), directory.Options{
		SpecFile: filepath.Join(root, "spec.yml"), Dir: filepath.Join(root, "shop"), ID: "shop-1", Rules: file.V2,
		Env: m.files(), Now: time.Now(), Random: rand.Reader, Verb: "deploy create",
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) files() file.Env {
	return file.Env{Home: m.root, WorkDir: m.root, RepoBase: filepath.Join(m.root, "cerc")}
}

func (m *machine) dir() string { return filepath.Join(m.root, "shop") }

func (m *machine) write(files map[string]string) {
	m.Helper()
	for name, text := range files {
		path := filepath.Join(m.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			m.Fatal(err)
		}
	}
}

func (m *machine) edit(name, old, fresh string) {
	m.Helper()
	raw, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil || !bytes.Contains(raw, []byte(old)) {
		m.Fatalf("%s has no %q: %v", name, old, err)
	}
	m.write(map[string]string{name: strings.Replace(string(raw), old, fresh, 1)})
}

// world is what a process of this machine works with.
func (m *machine) world() *World {
	return &World{
		Connect: func(context.Context, Access) (Cluster, func(), error) {
			c := kube.New(kubesim.Base(), m, kube.Options{Context: "sim", Random: func() float64 { return 0.5 }})
			return c, c.Close, nil
		},
		HasContext: func(string) bool { return false },
		Secrets: secret.Source{Rand: rand.Reader, Env: func(string) (string, bool) { return "", false }, Read: func(p string) ([]byte, fs.FileMode, error) {
			raw, err := os.ReadFile(p)
			return raw, 0o600, err
		}},
		Resolver: m.resolver, Files: m.files(), Host: "lab", Redact: func(secret.Result) {}, Tell: m.tale, Now: time.Now,
	}
}

// RoundTrip asks the cluster, as long as the process lives.
func (m *machine) RoundTrip(r *http.Request) (*http.Response, error) {
	writes := r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == ""
	after := false
	if writes && m.death != nil {
		m.turn <- struct{}{}
		if !m.dead.Load() {
			var dead bool
			dead, after = m.death(r)
			m.dead.Store(dead)
		}
		<-m.turn
	}
	if m.dead.Load() && !after {
		m.kill()
		return &http.Response{
			StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
			Body: io.NopCloser(strings.NewReader(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"killed","code":400}`)),
		}, nil
	}
	resp, err := m.sim.Transport(kubesim.Admin).RoundTrip(r)
	if after {
		m.kill()
	}
	if writes && err == nil && m.seen != nil {
		m.turn <- struct{}{}
		m.seen(r)
		<-m.turn
	}
	return resp, err
}

func (m *machine) kill() {
	if m.end != nil {
		m.end(errKilled)
	}
}

var errKilled = errors.New("killed")

// run runs a verb under a context that ends with the process.
func (m *machine) run(f func(context.Context, *World) (*Outcome, error)) (*Outcome, error) {
	ctx, end := context.WithCancelCause(m.Context())
	defer end(nil)
	m.end = end
	return f(ctx, m.world())
}

func (m *machine) options(verb string) Options {
	return Options{Dir: m.dir(), Verb: verb, Deadline: time.Now().Add(10 * time.Minute)}
}

func (m *machine) start() {
	m.Helper()
	out, err := m.run(func(ctx context.Context, w *World) (*Outcome, error) { return w.Start(ctx, m.options("start")) })
	if err != nil || out.Verdict != "up" {
		m.Fatalf("start: %+v, %v", out, err)
	}
}

func (m *machine) restart() (*Outcome, error) {
	return m.restartWith(RestartOptions{Options: m.options("restart"), NoPull: true, SpecFile: filepath.Join(m.root, "spec.yml")})
}

func (m *machine) restartWith(o RestartOptions) (*Outcome, error) {
	return m.run(func(ctx context.Context, w *World) (*Outcome, error) { return w.Restart(ctx, o) })
}

func (m *machine) update() (*Outcome, error) {
	return m.run(func(ctx context.Context, w *World) (*Outcome, error) { return w.Update(ctx, m.options("update")) })
}

// journal is what is in the journal now; "" nothing.
func (m *machine) journal() string {
	raw, err := os.ReadFile(filepath.Join(m.dir(), file.StateDir, "journal.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.Fatal(err)
	}
	return string(raw)
}

// tale is a story that keeps its lines.
type tale struct {
	mu      sync.Mutex
	lines   []string
	notices []file.Notice
}

func (t *tale) Stage(string) {}
func (t *tale) Line(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, text)
}

func (t *tale) Notice(n file.Notice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notices = append(t.notices, n)
}
func (t *tale) Rollout(string, []string)      {}
func (t *tale) Progress(int, rollout.Verdict) {}

func (t *tale) says(part string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.lines, func(l string) bool { return strings.Contains(l, part) })
}

func (t *tale) noticed(code string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.notices {
		if x.Code == code {
			n++
		}
	}
	return n
}

func unsafeKind(err error) bool { return fault.KindOf(err) == fault.Unsafe }

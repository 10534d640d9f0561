package run

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"homelab/pkg/artifact"
)

// body is the artifact called name.
func body(name string) []byte { return []byte("artifact " + name + "\n") }

func sum(data []byte) [32]byte { return sha256.Sum256(data) }

func idOf(name string) artifact.ID { return artifact.NewID(sum(body(name))) }

func cand(name string, order int64) artifact.Candidate {
	return artifact.Candidate{
		ID: idOf(name), Kind: artifact.File, Order: order, Size: int64(len(body(name))), Location: name,
		Meta: artifact.Meta{UUID: "00000000-0000-0000-0000-" + idOf(name).Hex()[:12]},
	}
}

// shelf is a source.
type shelf struct {
	mu      sync.Mutex
	offer   *artifact.Candidate
	err     error
	looks   []time.Time
	queries []artifact.Query
	slow    time.Duration
	fetch   func(context.Context, artifact.Candidate, io.Writer) error
}

func (s *shelf) put(name string, order int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := cand(name, order)
	s.offer = &c
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.looks)
}

func (s *shelf) Look(ctx context.Context, q artifact.Query) (artifact.Look, error) {
	if s.slow > 0 {
		ctx, cancel := context.WithTimeout(ctx, s.slow)
		defer cancel()
		<-ctx.Done()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = append(s.looks, time.Now())
	s.queries = append(s.queries, q)
	if s.err != nil {
		return artifact.Look{}, s.err
	}
	if s.offer == nil {
		return artifact.Look{}, nil
	}
	c := *s.offer
	return artifact.Look{Candidate: &c, Seen: c.Location}, nil
}

func (s *shelf) Fetch(ctx context.Context, c artifact.Candidate, w io.Writer) error {
	if s.fetch != nil {
		return s.fetch(ctx, c, w)
	}
	_, err := w.Write(body(c.Location))
	return err
}

func (s *shelf) Answers(f artifact.Form) bool { return f != artifact.ByCommit }

// host is a target, and a prober of it.
type host struct {
	mu        sync.Mutex
	runs      artifact.ID
	bad       map[artifact.ID]bool
	activated []artifact.ID
	paths     []string
	activate  func(context.Context, artifact.Switch) error // before what it does
	unknown   bool
	desk      *Desk
	probed    int
}

func (h *host) Observe(context.Context, []artifact.ID) (artifact.Observation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.unknown:
		return artifact.Observation{Sight: artifact.Unknown, Why: "no hook for that"}, nil
	case h.runs == "":
		return artifact.Observation{Sight: artifact.Nothing}, nil
	}
	return artifact.Observation{Sight: artifact.Runs, ID: h.runs}, nil
}

func (h *host) Stage(context.Context, artifact.Switch) (artifact.Stage, error) {
	return artifact.Stage{}, nil
}

func (h *host) Activate(ctx context.Context, s artifact.Switch) error {
	if h.activate != nil {
		if err := h.activate(ctx, s); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = s.To.ID
	h.activated = append(h.activated, s.To.ID)
	h.paths = append(h.paths, s.ToPath)
	return nil
}

func (h *host) Ready(context.Context, artifact.Switch) (artifact.Readiness, error) {
	return artifact.Readiness{State: artifact.IsReady}, nil
}

func (h *host) Rollback(ctx context.Context, s artifact.Switch) error { return h.Activate(ctx, s) }

func (h *host) Count(baseline bool) int {
	if baseline {
		return 0
	}
	return 1
}

func (h *host) Probe(_ context.Context, c artifact.Candidate, _ bool) []artifact.ProbeResult {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probed++
	return []artifact.ProbeResult{{Probe: "http:x", OK: h.runs == c.ID && !h.bad[c.ID], Detail: "200"}}
}

func (h *host) running() artifact.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs
}

// times is how often something was activated.
func (h *host) times() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.activated)
}

// world is a watch with its source and target.
type world struct {
	tb     testing.TB
	source *shelf
	host   *host
	o      Options
	mu     sync.Mutex
	events []Event
}

// root is a directory that is quick to sync and not too long for a socket.
func root(tb testing.TB) string {
	tb.Helper()
	base := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		base = "/dev/shm"
	}
	dir, err := os.MkdirTemp(base, "run") //nolint:usetesting // a test's own may be slow to sync, and its name long
	if err != nil {
		dir = tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newWorld(tb testing.TB) *world {
	c := artifact.Defaults()
	c.Kind, c.Idempotent, c.Soak, c.Run = artifact.File, true, artifact.OnceSoak, "run1"
	w := &world{tb: tb, source: &shelf{}, host: &host{bad: map[artifact.ID]bool{}}}
	w.o = Options{
		Place: Place{root(tb), "www"}, Config: c, Source: w.source, Target: w.host, Prober: w.host, Desk: NewDesk(),
		From: "shelf:x", To: "host:y", Policy: "p",
		Events: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
		Dice: func() float64 { return 0.5 },
	}
	w.host.desk = w.o.Desk
	return w
}

func (w *world) story() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, e := range w.events {
		b.WriteString(string(e.Type) + " " + string(e.State) + " " + e.Text + "\n")
	}
	return b.String()
}

// turning is a watch in this process that has no ways in, so that its clock
// can be a bubble's.
func (w *world) turning(ctx context.Context) (l *loop, end func() Result) {
	w.tb.Helper()
	l, err := open(ctx, w.o, daemon)
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := l.sink()
	done := make(chan Result)
	go func() {
		l.run(ctx, nil)
		res, err := l.finish(l.now())
		if err != nil {
			w.tb.Error(err)
		}
		stop()
		done <- res
	}()
	return l, func() Result {
		cancel()
		return <-done
	}
}

// deployed has the watch run a and know it.
func (w *world) deployed(ctx context.Context) {
	w.tb.Helper()
	w.source.put("a", 1)
	res, err := w.once(ctx, artifact.Request{})
	if err != nil || res.Outcome.Verdict != artifact.VerdictLive {
		w.tb.Fatalf("%+v %v\n%s", res.Outcome, err, w.story())
	}
}

func (w *world) once(ctx context.Context, r artifact.Request) (Result, error) {
	o := w.o
	o.Config.Soak = artifact.OnceSoak
	return Once(ctx, o, r)
}

func files(tb testing.TB, dir string) []string {
	tb.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, strings.TrimPrefix(p, dir+"/"))
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

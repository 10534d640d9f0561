package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"homelab/internal/buildersim"
	"homelab/internal/tlstest"
)

const (
	watchHinted   = 2.0 // seconds
	watchInterval = 5 * time.Second
	watchMemory   = 50 << 20
	artifactSize  = 10_000_000
)

// guard is a daemon that watches a simulated builder-web and keeps a symbolic
// link on what it offers.
type guard struct {
	web    *buildersim.Builder
	link   string
	listen string
	cmd    *exec.Cmd
	err    bytes.Buffer
	ended  chan struct{}
	n      int
	client http.Client
}

func openGuard(ctx context.Context, b *bench) (*guard, error) {
	g := &guard{web: buildersim.NewBuilder(), ended: make(chan struct{}), client: http.Client{Timeout: 10 * time.Second}}
	ca := tlstest.NewCA(b.t)
	g.web.AddJob("www")
	server := ca.Serve(b.t, g.web, "builds.example.lan")
	home := b.t.TempDir()
	g.link = filepath.Join(home, "www.hvt")
	g.listen = tlstest.Reserve(b.t).String()
	g.offer(1000)
	g.cmd = exec.CommandContext(ctx, b.program("homelab"), "deploy", "watch", "--name", "www",
		"--from", "builder-web+https://builds.example.lan/job/www", "--from-dial", server.Addr.String(), "--from-ca-file", ca.File(b.t),
		"--to", "file:"+g.link, "--state-dir", filepath.Join(home, "state"), "--listen", g.listen,
		"--interval", watchInterval.String(), "--soak", "100ms")
	g.cmd.Dir, g.cmd.Env = home, []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	g.cmd.Stderr = &g.err
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = g.cmd.Wait() // its end is looked at where it was not asked for
		close(g.ended)
	}()
	b.t.Cleanup(func() {
		_ = g.cmd.Process.Signal(syscall.SIGTERM)
		<-g.ended
	})
	return g, g.settled(ctx)
}

// offer uploads a new build of so many bytes and returns its hash.
func (g *guard) offer(size int) string {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(rand.Uint32()) // nothing that could be compressed
	}
	g.n++
	g.web.Add(buildersim.Build{Job: "www", Start: time.Date(2026, 7, 1, 12, g.n, 0, 0, time.UTC), Bytes: body})
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// active waits until the link leads to the artifact.
func (g *guard) active(ctx context.Context, sum string) error {
	return g.until(ctx, "the artifact is not active", func() bool {
		to, err := os.Readlink(g.link)
		return err == nil && strings.Contains(to, sum)
	})
}

// settled waits until nothing is in progress.
func (g *guard) settled(ctx context.Context) error {
	return g.until(ctx, "it does not come to rest", func() bool {
		resp, err := g.client.Get("http://" + g.listen + "/watches/www/status")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var v struct{ State string }
		return json.NewDecoder(resp.Body).Decode(&v) == nil && v.State == "live"
	})
}

func (g *guard) until(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for !done() {
		select {
		case <-g.ended:
			return fmt.Errorf("the watch ended: %s", g.err.String())
		case <-ctx.Done():
			return fmt.Errorf("%s: %s", what, g.err.String())
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func (g *guard) hint() error {
	resp, err := g.client.Post("http://"+g.listen+"/watches/www/hint", "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusAccepted {
		return errors.Join(err, fmt.Errorf("the hint was answered with %d", resp.StatusCode))
	}
	return nil
}

// watching measures how soon what a source offers is active, and what it costs
// to look when there is nothing new.
func watching(ctx context.Context, b *bench) ([]row, error) {
	g, err := openGuard(ctx, b)
	if err != nil {
		return nil, err
	}
	var hinted, polled sample
	for range pick(b, 10, 40) {
		sum := g.offer(artifactSize)
		began := time.Now()
		if err := g.hint(); err != nil {
			return nil, err
		}
		if err := g.active(ctx, sum); err != nil {
			return nil, err
		}
		hinted.add(time.Since(began))
		if err := g.settled(ctx); err != nil {
			return nil, err
		}
		time.Sleep(2 * time.Second) // a watch takes one hint each two seconds
	}
	for range pick(b, 3, 20) {
		time.Sleep(time.Duration(rand.Int64N(int64(watchInterval))))
		sum := g.offer(artifactSize)
		began := time.Now()
		if err := g.active(ctx, sum); err != nil {
			return nil, err
		}
		polled.add(time.Since(began))
		if err := g.settled(ctx); err != nil {
			return nil, err
		}
	}
	time.Sleep(time.Second)
	before := len(g.web.Requests())
	idle := pick(b, 4, 12)
	time.Sleep(time.Duration(idle) * watchInterval)
	asked := g.web.Requests()[before:]
	per := float64(len(asked)) / float64(idle)
	_, peak, _ := memoryOf(g.cmd.Process.Pid)
	values := func(s sample) map[string]float64 {
		v := map[string]float64{}
		s.values("", v)
		return v
	}
	limit := watchInterval.Seconds() + 2
	rows := []row{{
		Name: "watch-hint", What: "deploy watch, from a hint to the switched link, 10 MB over TLS on the loopback", Target: "p95 <= 2 s",
		Measured: hinted.String(), Verdict: judged(hinted.p95() <= watchHinted), Values: values(hinted),
	}, {
		Name: "watch-poll", What: fmt.Sprintf("the same without a hint, looking every %s", watchInterval), Target: fmt.Sprintf("p95 <= %.0f s", limit),
		Measured: polled.String(), Verdict: judged(polled.p95() <= limit), Values: values(polled),
		Beside: "a poller of every five minutes: p50 150 s, p95 285 s by arithmetic",
	}, {
		Name: "watch-idle", What: fmt.Sprintf("requests per interval when nothing is new, over %d intervals", idle), Target: "<= 1 (and one for the edges)",
		Measured: fmt.Sprintf("%.2f", per), Verdict: judged(len(asked) <= idle+1), Values: map[string]float64{"per_interval": per},
	}, {
		Name: "watch-memory", What: "VmHWM of that daemon", Target: "<= 50 MiB",
		Measured: fmt.Sprintf("%.1f MiB", float64(peak)/(1<<20)), Verdict: judged(peak > 0 && peak <= watchMemory),
		Values: map[string]float64{"mib": float64(peak) / (1 << 20)},
	}}
	if peak == 0 {
		rows[3].Measured, rows[3].Verdict = "not told by this system", free
	}
	return rows, nil
}

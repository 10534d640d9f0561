package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"homelab/internal/buildersim"
	"homelab/internal/tlstest"
)

// builds is a simulated builder-web with the job www, and files a plain file
// server, for watches.
type builds struct {
	web    *buildersim.Builder
	second *buildersim.Builder // of somebody else
	files  *buildersim.Files
	last   string // uuid of the newest build
	n      int
}

// Builds begin a minute apart, the first at a time that every script shares.
func (b *builds) start(n int) time.Time {
	return time.Date(2026, 7, 1, 12, n, 0, 0, time.UTC)
}

// cmdBuilds: "builds start" starts both servers: $BUILDS is the source of the
// job www at $BUILDS_DIAL, $BUILDS2 another builder-web, $FILES the address of
// the files at $FILES_DIAL, $KEY a key for signatures.
// "builds sum VAR TEXT" sets VAR to the sha256 of TEXT. Else see do.
func cmdBuilds(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: builds WORD...")
	case args[0] == "start":
		w.builds = &builds{web: buildersim.NewBuilder(), second: buildersim.NewBuilder(), files: buildersim.NewFiles()}
		w.builds.web.AddJob("www")
		w.builds.files.Set(buildersim.Settings{ETags: buildersim.Quoted, LastModified: true})
		s := authority().Serve(w.t, w.builds.web, "builds.example.lan")
		ts.Setenv("BUILDS", "builder-web+https://builds.example.lan/job/www")
		ts.Setenv("BUILDS_DIAL", s.Addr.String())
		f := authority().Serve(w.t, w.builds.files, "dl.example.lan")
		ts.Setenv("FILES", "https://dl.example.lan")
		ts.Setenv("BUILDS2", authority().Serve(w.t, w.builds.second, "127.0.0.1").URL("127.0.0.1"))
		ts.Setenv("KEY", newMinisign(1).key())
		ts.Setenv("LISTEN", tlstest.Reserve(w.t).String()) // for a daemon to listen at
		ts.Setenv("FILES_DIAL", f.Addr.String())
	case args[0] == "sum" && len(args) == 3:
		ts.Setenv(args[1], buildersim.Sum([]byte(args[2])))
	case w.builds == nil:
		ts.Fatalf("builds start comes first")
	default:
		ts.Check(w.builds.do(args))
		ts.Setenv("UUID", w.builds.last)
	}
}

// cmdWatches makes FILE, with its variables filled in, the user's watches file.
func cmdWatches(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: watches FILE")
	}
	text := os.Expand(ts.ReadFile(filepath.Join(ts.Getenv("WORK"), args[0])), ts.Getenv)
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("WORK"), "home", ".config", "homelab", "watches.yaml"), []byte(text), 0o600))
}

// do is one thing that happens to the servers: "add TEXT", a newer build;
// "older TEXT", one that began before all others; "fail", a newer one that
// failed; "delete", the newest goes away; "vanish", the job does; "down", "deny",
// "swap TEXT", another body than announced; "up" ends these three. "put PATH
// TEXT [N]" writes a file of the Nth minute.
func (b *builds) do(args []string) error {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	b.n++
	switch args[0] {
	case "add":
		b.last = b.web.Add(buildersim.Build{Job: "www", Start: b.start(b.n), Bytes: []byte(arg(1))})
	case "older":
		b.web.Add(buildersim.Build{Job: "www", Start: b.start(-b.n), Bytes: []byte(arg(1))})
	case "fail":
		b.last = b.web.Add(buildersim.Build{Job: "www", Start: b.start(b.n)})
	case "delete":
		b.web.Delete(b.last)
	case "vanish":
		b.web.Vanish("www")
	case "down":
		b.web.Next(-1, "", buildersim.Status(http.StatusServiceUnavailable, "text/plain", "down"))
		b.files.Next(-1, "", buildersim.Status(http.StatusServiceUnavailable, "text/plain", "down"))
	case "deny":
		b.web.Next(-1, "", buildersim.Status(http.StatusForbidden, "text/plain", "not for you"))
	case "swap":
		b.web.Next(-1, "/f/", buildersim.Body([]byte(arg(1))))
	case "up":
		b.web.Clear()
		b.files.Clear()
	case "put":
		n, _ := strconv.Atoi(arg(3))
		b.files.Put(arg(1), []byte(arg(2)), b.start(n))
	case "signed", "forged", "sign", "rebuilt":
		if !b.prove(args) {
			return errors.New("no such words")
		}
	case "requests":
		if got := len(b.web.Requests()) + len(b.files.Requests()); strconv.Itoa(got) != arg(1) {
			return fmt.Errorf("%d requests came, not %s", got, arg(1))
		}
	default:
		return errors.New("no such word")
	}
	return nil
}

// beside runs another command while one runs: "run CODE COMMAND...". What it
// printed is in run1.out and run1.err, then run2.out and so on.
func (a *attempt) beside(w *world, getenv func(string) string, words []string) error {
	if len(words) < 2 {
		return errors.New("run needs CODE COMMAND")
	}
	want, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	o := &attempt{args: words[1:], env: a.env, dir: a.dir, within: usually}
	err = o.run(w, getenv)
	w.mu.Lock()
	w.besides++
	name := filepath.Join(w.work, fmt.Sprintf("run%d", w.besides))
	w.mu.Unlock()
	err = errors.Join(err, os.WriteFile(name+".out", o.out, 0o600), os.WriteFile(name+".err", o.err, 0o600))
	switch {
	case err != nil:
		return err
	case o.code != want:
		return fmt.Errorf("exit code %d, not %d:\n%s%s", o.code, want, o.out, o.err)
	}
	return o.check()
}

// post sends an empty POST: "post STATUS URL".
func post(ctx context.Context, words []string) error {
	if len(words) != 2 {
		return errors.New("post needs STATUS URL")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, words[1], nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if strconv.Itoa(resp.StatusCode) != words[0] {
		return fmt.Errorf("%s, not %s", resp.Status, words[0])
	}
	return nil
}

// rewrite replaces a file of the script: "file NAME TEXT...".
func (w *world) rewrite(words []string) error {
	if len(words) < 1 {
		return errors.New("file needs NAME TEXT")
	}
	return os.WriteFile(filepath.Join(w.work, words[0]), []byte(strings.Join(words[1:], " ")+"\n"), 0o600)
}

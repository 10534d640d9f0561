package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"homelab/internal/ptytest"
	"homelab/verbs/legacy"
)

// binaryVar names another binary to prove than the one that was just built:
// the one that is to be released.
const binaryVar = "HOMELAB_TEST_BINARY"

// attempt is one run of a command.
type attempt struct {
	args []string // the command line
	env  []string
	dir  string

	within time.Duration // how long it may take
	steps  []string      // what happens meanwhile
	w, h   int           // of the terminal; 0: pipes

	said  func() []byte   // what it has printed so far; nil on a terminal
	heard map[string]bool // first lines of what "reach" reached

	code     int
	out, err []byte
	term     *ptytest.Term
	signaled time.Time
	ended    time.Time
}

const usually = 30 * time.Second // what a run may take unless a script says otherwise

// parseAttempt reads [within DUR] [during FILE] [signal INT|TERM after TEXT]
// [onpty WxH] COMMAND...
func parseAttempt(ts *testscript.TestScript, args []string) *attempt {
	a := &attempt{within: usually, dir: ts.MkAbs("."), env: environ(ts)}
	var err error
	for len(args) > 1 {
		switch args[0] {
		case "within":
			a.within, err = time.ParseDuration(args[1])
			ts.Check(err)
			args = args[2:]
			continue
		case "during":
			a.steps = strings.Split(ts.ReadFile(filepath.Join(ts.Getenv("WORK"), args[1])), "\n")
			args = args[2:]
			continue
		case "signal":
			if len(args) < 4 || args[2] != "after" {
				ts.Fatalf("usage: signal INT|TERM after TEXT")
			}
			a.steps = []string{"after " + args[3], "signal " + args[1]}
			args = args[4:]
			continue
		case "onpty":
			if _, err := fmt.Sscanf(args[1], "%dx%d", &a.w, &a.h); err != nil {
				ts.Fatalf("usage: onpty WxH")
			}
			args = args[2:]
			continue
		}
		break
	}
	if len(args) == 0 {
		ts.Fatalf("which command?")
	}
	a.args = args
	return a
}

// environ is what a script's commands may see: names that the program or git
// know, and no others.
func environ(ts *testscript.TestScript) []string {
	names := []string{
		"PATH", "HOME", "USER", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME",
		"STATE_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "SSH_ORIGINAL_COMMAND", "SITE", "TERM", "LANG", "LC_ALL", "NO_COLOR", "CI",
		"WOODPECKER_SERVER", "WOODPECKER_TOKEN", "HOMELAB_WOODPECKER_DIAL", "HOMELAB_CONFIG",
		"VAULT_ADDR", "VAULT_TOKEN", "VAULT_CACERT", "VAULT_NAMESPACE", "VAULT_SKIP_VERIFY",
		"FORGEJO_TOKEN", "GITEA_TOKEN", "GITHUB_TOKEN", "GH_TOKEN",
		"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "SSL_CERT_FILE",
		"GITLOG", "GIT_DIR", "KUBECONFIG", "DOCKER_CONFIG", "GOCOVERDIR", "GORACE",
	}
	for name := range gitEnv("") {
		names = append(names, name)
	}
	// To read the machine's own authorities, and to collect what a short run
	// leaves, would be half of what many a run takes.
	out := []string{"GOTRACEBACK=all", "GOGC=400", "SSL_CERT_FILE=" + os.DevNull, "SSL_CERT_DIR=" + filepath.Join(ts.Getenv("WORK"), "no-authorities")}
	for _, n := range names {
		if v := ts.Getenv(n); v != "" {
			out = append(out, n+"="+v)
		}
	}
	return out
}

// watched is a buffer that can be waited for.
type watched struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func newWatched() *watched { return &watched{changed: make(chan struct{})} }

func (b *watched) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Write(p)
	close(b.changed)
	b.changed = make(chan struct{})
	return len(p), nil
}

func (b *watched) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

func (b *watched) until(ctx context.Context, text string) error {
	for {
		b.mu.Lock()
		has, changed := bytes.Contains(b.b.Bytes(), []byte(text)), b.changed
		b.mu.Unlock()
		if has {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %q: %w", text, ctx.Err())
		}
	}
}

// run runs the command with what happens meanwhile. The error is the
// harness's: a step that failed, a command that did not end.
func (a *attempt) run(w *world, getenv func(string) string) error {
	path := a.args[0]
	if other := os.Getenv(binaryVar); other != "" && (path == "homelab" || path == legacy.Name) {
		path = other
	}
	if !strings.Contains(path, "/") {
		for _, dir := range filepath.SplitList(getenv("PATH")) {
			p := filepath.Join(dir, path)
			if st, err := os.Stat(p); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
				path = p
				break
			}
		}
	}
	cmd := exec.Command(path, a.args[1:]...)
	if a.older() {
		cmd.Args[0] = legacy.Name // whatever file it is
	}
	cmd.Dir, cmd.Env = a.dir, append(slices.Clone(a.env), "PWD="+a.dir)
	ctx, cancel := context.WithTimeout(context.Background(), a.within)
	defer cancel()
	if a.w > 0 {
		return a.onPTY(ctx, cmd, w, getenv)
	}
	out, story, both := newWatched(), newWatched(), newWatched()
	cmd.Stdout, cmd.Stderr = io.MultiWriter(out, both), io.MultiWriter(story, both)
	if err := cmd.Start(); err != nil {
		return err
	}
	a.said = both.bytes
	stepped := a.during(ctx, w, getenv, both.until, func(s os.Signal) error { return cmd.Process.Signal(s) }, nil)
	done := make(chan struct{})
	var err error // of the command, once it is done
	go func() { err = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGQUIT) // where it stands is worth seeing
		select {
		case <-done:
		case <-time.After(2 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		a.out, a.err = out.bytes(), story.bytes()
		return fmt.Errorf("still running after %s", a.within)
	}
	a.ended = time.Now()
	cancel()
	a.out, a.err = out.bytes(), story.bytes()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		a.code = exit.ExitCode()
	case err != nil:
		return err
	}
	return a.after(<-stepped)
}

func (a *attempt) onPTY(ctx context.Context, cmd *exec.Cmd, w *world, getenv func(string) string) error {
	t, err := ptytest.Start(cmd, a.w, a.h)
	if err != nil {
		return err
	}
	a.term = t
	until := func(ctx context.Context, text string) error {
		return t.Until(ctx, func(screen string) bool { return strings.Contains(screen, text) })
	}
	stepped := a.during(ctx, w, getenv, until, t.Signal, t)
	code, err := t.Wait(a.within)
	a.ended, a.code = time.Now(), code
	a.out = []byte(t.Screen() + "\n")
	if err != nil {
		return err
	}
	return a.after(<-stepped)
}

// after judges the steps and, if there was a signal, the second it had.
func (a *attempt) after(stepErr error) error {
	if stepErr != nil {
		return stepErr
	}
	if took := a.ended.Sub(a.signaled); !a.signaled.IsZero() && took > time.Second {
		return fmt.Errorf("the signal was answered after %s", took)
	}
	return nil
}

// during carries the steps out, one after the other, while the command runs:
// "after TEXT" waits until it was printed or stands on the screen, "sleep DUR", "signal
// INT|TERM", "type KEYS", "resize WxH", "reach", "reach other" and "touch" (the
// address of this machine that it has printed, where nothing answers), "lab ...",
// "kube ...", "vault ...", "builds ...", "run CODE COMMAND...", "post STATUS URL"
// and "file NAME TEXT...".
func (a *attempt) during(ctx context.Context, w *world, getenv func(string) string,
	until func(context.Context, string) error, signal func(os.Signal) error, t *ptytest.Term,
) <-chan error {
	done := make(chan error, 1)
	head := getenv("HEAD")
	steps := make([]string, 0, len(a.steps))
	for _, s := range a.steps {
		if s = strings.TrimSpace(os.Expand(s, getenv)); s != "" && !strings.HasPrefix(s, "#") {
			steps = append(steps, s)
		}
	}
	go func() {
		for _, line := range steps {
			if err := a.step(ctx, w, getenv, head, line, until, signal, t); err != nil {
				done <- fmt.Errorf("%s: %w", line, err)
				_ = signal(syscall.SIGTERM) // what has no end of its own does not outlast its script
				return
			}
		}
		done <- nil
	}()
	return done
}

func (a *attempt) step(ctx context.Context, w *world, getenv func(string) string, head, line string,
	until func(context.Context, string) error, signal func(os.Signal) error, t *ptytest.Term,
) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "after":
		return until(ctx, rest)
	case "sleep":
		d, err := time.ParseDuration(rest)
		if err != nil {
			return err
		}
		time.Sleep(d)
		return nil
	case "signal":
		sig := syscall.SIGINT
		switch rest {
		case "TERM":
			sig = syscall.SIGTERM
		case "HUP":
			sig = syscall.SIGHUP
		}
		a.signaled = time.Now()
		return signal(sig)
	case "type":
		a.signaled = time.Now()
		return t.Type(strings.ReplaceAll(rest, "^C", "\x03"))
	case "resize":
		var cols, rows int
		if _, err := fmt.Sscanf(rest, "%dx%d", &cols, &rows); err != nil {
			return err
		}
		return t.Resize(cols, rows)
	case "lab":
		_, err := w.do(split(rest), head)
		return err
	case "kube":
		return w.kube.Do(split(rest)...)
	case "vault":
		return w.doVault(split(rest))
	case "builds":
		return w.builds.do(split(rest))
	case "run":
		return a.beside(w, getenv, split(rest))
	case "post":
		return post(ctx, split(rest))
	case "file":
		return w.rewrite(split(rest))
	case "reach":
		return a.reach(ctx, rest == "other")
	case "touch":
		if err := a.reach(ctx, false); err == nil {
			return errors.New("something answers")
		}
		return nil
	}
	return errors.New("unknown step")
}

// reach connects to the address that was printed last, and is done when what
// answers there says who it is and returns what it is told. other: it must be
// one that has not answered before.
func (a *attempt) reach(ctx context.Context, other bool) error {
	all := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(string(a.said()), -1)
	if len(all) == 0 {
		return errors.New("no address was printed")
	}
	for {
		who, err := answer(ctx, all[len(all)-1])
		if err == nil && (!other || !a.heard[who]) {
			if a.heard == nil {
				a.heard = map[string]bool{}
			}
			a.heard[who] = true
			return nil
		}
		if !other {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%q again: %w, %w", who, err, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func answer(ctx context.Context, address string) (who string, err error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	if who, err = in.ReadString('\n'); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "is it you?\n"); err != nil {
		return "", err
	}
	if echo, err := in.ReadString('\n'); err != nil || echo != "is it you?\n" {
		return "", fmt.Errorf("%q comes back, %w", echo, err)
	}
	return who, nil
}

// split splits words as a shell does that knows single quotes only.
func split(s string) []string {
	var out []string
	word, open, some := "", false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'':
			open, some = !open, true
		case c == '\\' && !open && i+1 < len(s):
			i++
			word, some = word+s[i:i+1], true
		case c == ' ' && !open:
			if some {
				out = append(out, word)
			}
			word, some = "", false
		default:
			word, some = word+string(c), true
		}
	}
	if some {
		out = append(out, word)
	}
	return out
}

// cmdExits runs a command and wants this exit code: "exits CODE COMMAND...",
// see parseAttempt for what may stand before the command. Everything a run
// owes its caller whatever the case is checked here, for every run of every
// script.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE [within DUR] [during FILE] [signal INT|TERM after TEXT] [onpty WxH] COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	a := parseAttempt(ts, args[1:])
	err = a.run(worldOf(ts), ts.Getenv)
	a.show(ts)
	a.judge(ts, want, err)
}

func (a *attempt) show(ts *testscript.TestScript) {
	_, _ = ts.Stdout().Write(a.out)
	_, _ = ts.Stderr().Write(a.err)
	worldOf(ts).term = a.term
}

func (a *attempt) judge(ts *testscript.TestScript, want int, err error) {
	switch {
	case err != nil:
		ts.Fatalf("%v", err)
	case a.code != want:
		ts.Fatalf("exit code %d, not %d", a.code, want)
	}
	if a.older() {
		if err := a.checkOlder(); err != nil {
			ts.Fatalf("%v", err)
		}
		return
	}
	if filepath.Base(a.args[0]) != "homelab" {
		return
	}
	if err := a.check(); err != nil {
		ts.Fatalf("%v", err)
	}
}

// cmdVerdict runs a look or a watch twice at once, for people and as JSON, and
// proves that both say the same: "verdict CODE VERDICT PATTERN [within DUR]
// homelab ...". PATTERN is matched against the line on stdout. The streams are
// those of the first run, the object is in result.json.
func cmdVerdict(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: verdict CODE VERDICT PATTERN [within DUR] COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile(args[2])
	ts.Check(err)
	text := parseAttempt(ts, args[3:])
	object := parseAttempt(ts, args[3:])
	if len(object.args) < 3 {
		ts.Fatalf("verdict takes a verb of two words")
	}
	object.args = slices.Insert(slices.Clone(object.args), 3, "--json")
	var other error
	var wait sync.WaitGroup
	wait.Go(func() { other = object.run(worldOf(ts), ts.Getenv) })
	err = text.run(worldOf(ts), ts.Getenv)
	wait.Wait()
	text.show(ts)
	text.judge(ts, want, err)
	ts.Logf("[as JSON]\n%s%s", object.out, object.err)
	object.judge(ts, want, other)
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("WORK"), "result.json"), object.out, 0o644))

	head, err := headOf(object.out)
	ts.Check(err)
	line := strings.TrimSuffix(string(text.out), "\n")
	digits := regexp.MustCompile(`\d+`)
	same := func(s string) string { return digits.ReplaceAllString(s, "N") } // durations may differ by a second
	switch {
	case head.Verdict != args[1]:
		ts.Fatalf("verdict %q, not %q", head.Verdict, args[1])
	case !strings.HasPrefix(line, args[1]+": "):
		ts.Fatalf("the line does not begin with the verdict")
	case !pattern.MatchString(line):
		ts.Fatalf("the line does not match %s", args[2])
	case !strings.Contains(same(line), same(head.Reason)):
		ts.Fatalf("the line does not have JSON's reason %q", head.Reason)
	case head.Next == nil && strings.Contains(line, "; next: "):
		ts.Fatalf("the line has a next command, JSON has none")
	case head.Next != nil && !strings.HasSuffix(same(line), "; next: "+same(*head.Next)):
		ts.Fatalf("the line does not end with JSON's next command %q", *head.Next)
	}
}

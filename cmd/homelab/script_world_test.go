package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"homelab/internal/lab"
	"homelab/internal/ptytest"
	"homelab/internal/tlstest"
	"homelab/internal/vaultsim"
)

// world is what one script has besides its files.
type world struct {
	t       testing.TB
	work    string
	lab     *lab.Lab
	kube    *lab.Kube
	vault   *vaultsim.Vault
	forgive bool // requests for nothing are part of the script
	term    *ptytest.Term

	registry *httptest.Server
	builds   *builds
	hooks    *hooks

	mu        sync.Mutex
	besides   int // commands run beside another
	recorders map[string]*recorder
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func setup(env *testscript.Env) error {
	w := &world{t: env.T().(testing.TB), work: env.WorkDir, recorders: map[string]*recorder{}}
	env.Values[worldKey{}] = w
	home := filepath.Join(env.WorkDir, "home")
	for k, v := range gitEnv(home) {
		env.Setenv(k, v)
	}
	env.Setenv("TERM", "xterm-256color")
	env.Setenv("LANG", "C.UTF-8")
	env.Setenv("ESC", "\x1b")
	env.Setenv("CA", filepath.Join(env.WorkDir, "ca.pem"))
	env.Defer(func() {
		if w.lab != nil && !w.forgive {
			if err := w.lab.Misuse(); err != nil {
				w.t.Errorf("the server complains: %v", err)
			}
		}
	})
	if err := os.WriteFile(filepath.Join(env.WorkDir, "ca.pem"), authority().PEM(), 0o644); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(home, ".config", "homelab"), 0o755)
}

// cmdLab steers the server: "lab start [--no-config] [--no-checkout] FLAGS",
// then what lab.Do takes. Starting leaves the script in a checkout whose HEAD
// is $HEAD, its parent $PARENT, the server is $SERVER at $DIAL, and the token
// in the environment.
func cmdLab(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if len(args) == 0 {
		ts.Fatalf("usage: lab WORD...")
	}
	switch {
	case args[0] == "start":
		w.start(ts, args[1:])
	case args[0] == "forgive":
		w.forgive = true
	case args[0] == "plain":
		ts.Setenv("PLAIN", w.lab.Plain().String())
	case w.lab == nil:
		ts.Fatalf("lab start comes first")
	default:
		n, err := w.do(args, ts.Getenv("HEAD"))
		if neg != (err != nil) {
			ts.Fatalf("lab: %v", err)
		}
		if n > 0 {
			ts.Setenv("N", strconv.FormatInt(n, 10))
		}
	}
}

// do lets rows without a commit be of head. @DIR:REV is what that is in a
// repository right now: commits that a run makes cannot be named beforehand.
func (w *world) do(args []string, head string) (int64, error) {
	args = slices.Clone(args)
	for i, a := range args {
		dir, rev, ok := strings.Cut(strings.TrimPrefix(a, "@"), ":")
		if !ok || !strings.HasPrefix(a, "@") {
			continue
		}
		out, err := exec.Command("git", "-C", filepath.Join(w.work, dir), "rev-parse", "--verify", rev).Output()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", a, err)
		}
		args[i] = strings.TrimSpace(string(out))
	}
	events := []string{"push", "manual", "tag", "cron", "pr", "event"}
	if slices.Contains(events, args[0]) && !slices.Contains(args, "--commit") {
		args = append(slices.Clone(args), "--commit", head)
	}
	return w.lab.Do(args...)
}

func (w *world) start(ts *testscript.TestScript, args []string) {
	var noConfig, noCheckout bool
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		noConfig = noConfig || a == "--no-config"
		noCheckout = noCheckout || a == "--no-checkout"
		return a == "--no-config" || a == "--no-checkout"
	})
	o, err := lab.ParseOptions(args)
	ts.Check(err)
	o.CA = authority()
	w.lab = lab.New(w.t, o)
	ts.Setenv("SERVER", w.lab.URL())
	ts.Setenv("DIAL", w.lab.Dial())
	ts.Setenv("PORT", strconv.Itoa(int(w.lab.Addr.Port())))
	ts.Setenv("WOODPECKER_TOKEN", lab.Token)
	if noConfig {
		ts.Setenv("SSL_CERT_FILE", filepath.Join(w.work, "ca.pem"))
	} else {
		text := fmt.Sprintf("woodpecker:\n  server: %s\n  dial: %s\n  ca-file: %s\n",
			w.lab.URL(), w.lab.Dial(), filepath.Join(w.work, "ca.pem"))
		ts.Check(os.WriteFile(filepath.Join(w.work, "home", ".config", "homelab", "config.yaml"), []byte(text), 0o600))
	}
	if !noCheckout {
		w.enter(ts)
	}
}

// enter copies the checkout and leaves the script in it.
func (w *world) enter(ts *testscript.TestScript) {
	if _, err := os.Stat(filepath.Join(w.work, "app")); err == nil {
		return
	}
	from, err := checkout()
	ts.Check(err)
	app := filepath.Join(w.work, "app")
	ts.Check(os.CopyFS(app, os.DirFS(from)))
	ts.Check(ts.Chdir(app))
	for name, rev := range map[string]string{"HEAD": "HEAD", "PARENT": "HEAD~1"} {
		ts.Setenv(name, w.resolve(ts, rev))
	}
}

func (w *world) resolve(ts *testscript.TestScript, rev string) string {
	ts.Check(ts.Exec("git", "rev-parse", rev))
	return strings.TrimSpace(ts.ReadFile("stdout"))
}

// cmdCommit makes a commit and puts its id into a variable: "commit VAR
// MESSAGE". With --pushed origin's main is there too.
func cmdCommit(ts *testscript.TestScript, neg bool, args []string) {
	pushed := len(args) > 0 && args[0] == "--pushed"
	if pushed {
		args = args[1:]
	}
	if neg || len(args) != 2 {
		ts.Fatalf("usage: commit [--pushed] VAR MESSAGE")
	}
	ts.Check(ts.Exec("git", "add", "--all"))
	ts.Check(ts.Exec("git", "commit", "--quiet", "--allow-empty", "-m", args[1]))
	if pushed {
		ts.Check(ts.Exec("git", "update-ref", "refs/remotes/origin/main", "HEAD"))
	}
	ts.Setenv(args[0], worldOf(ts).resolve(ts, "HEAD"))
}

// cmdVault steers a simulated Vault: "vault start", "vault put PATH FIELD
// VALUE", "vault token TOKEN [PATHS]", "vault state STATE", "vault expire
// TOKEN", "vault delete PATH", "vault requests COUNT". Its address is $VAULT,
// its listener's $VAULT_DIAL.
func cmdVault(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: vault WORD...")
	}
	if args[0] == "start" {
		version := 2
		if len(args) > 1 {
			version, _ = strconv.Atoi(args[1])
		}
		w.vault = vaultsim.New()
		w.vault.Mount("", "secret", version)
		s := w.vault.Serve(w.t, authority(), "vault.example.lan")
		ts.Setenv("VAULT", "https://vault.example.lan")
		ts.Setenv("VAULT_DIAL", s.Addr.String())
		ts.Setenv("VAULT_CACERT", filepath.Join(w.work, "ca.pem"))
		return
	}
	ts.Check(w.doVault(args))
}

func (w *world) doVault(args []string) error {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch args[0] {
	case "put":
		w.vault.Put("", arg(1), map[string]any{arg(2): arg(3), "other_field": "x"})
	case "token":
		w.vault.Token(arg(1), vaultsim.Token{Policies: []string{"ci"}, Read: args[2:]})
	case "all":
		w.vault.Token(arg(1), vaultsim.Token{Policies: []string{"ci"}})
	case "expire":
		w.vault.Token(arg(1), vaultsim.Token{Expired: true})
	case "delete":
		w.vault.Delete("", arg(1), false)
	case "state":
		w.vault.Become(vaultsim.State(arg(1)), "")
	case "requests":
		if n := len(w.vault.Requests()); strconv.Itoa(n) != arg(1) {
			return fmt.Errorf("vault got %d requests, not %s", n, arg(1))
		}
		for _, r := range w.vault.Requests() {
			if strings.Contains(r.Header.Get("Authorization"), "canary") {
				return errors.New("vault got Woodpecker's token")
			}
		}
	default:
		return fmt.Errorf("vault %s?", args[0])
	}
	return nil
}

// recorder is a server that may be reached by mistake and remembers by whom.
type recorder struct {
	mu   sync.Mutex
	said []string // one line per request with its headers
}

func (r *recorder) note(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf("%s %s %s %v", req.Method, req.Host, req.URL, req.Header))
}

// cmdRecorder: "recorder start NAME [HOSTS]" starts a TLS server with a
// certificate that is trusted, at $NAME; "recorder silent NAME" proves that
// nobody came, "recorder some NAME" that somebody did and brought no secret.
func cmdRecorder(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if neg || len(args) < 2 {
		ts.Fatalf("usage: recorder start|silent|some NAME")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r := w.recorders[args[1]]; args[0] {
	case "start":
		r = &recorder{}
		w.recorders[args[1]] = r
		hosts := args[2:]
		if len(hosts) == 0 {
			hosts = []string{"127.0.0.1"}
		}
		s := tlstest.Start(w.t, http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			r.note(req)
			rw.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(rw, "{}")
		}), authority().Cert(w.t, hosts...), tlstest.Options{})
		ts.Setenv(args[1], s.Addr.String())
		ts.Setenv(args[1]+"_PORT", s.Port())
	case "silent":
		r.check(ts, "0")
	case "some":
		r.check(ts, "some")
	default:
		ts.Fatalf("recorder %s?", args[0])
	}
}

func (r *recorder) check(ts *testscript.TestScript, want string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strconv.Itoa(len(r.said)); got != want && (want != "some" || got == "0") {
		ts.Fatalf("%s requests came, not %s: %q", got, want, r.said)
	}
	for _, s := range r.said {
		if strings.Contains(s, "canary") {
			ts.Fatalf("a secret came along: %s", s)
		}
	}
}

// cmdProxy starts a proxy at $NAME that opens tunnels to $DIAL, whoever is
// asked for; requests are counted as a recorder's.
func cmdProxy(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if neg || len(args) != 1 {
		ts.Fatalf("usage: proxy NAME")
	}
	r := &recorder{}
	w.mu.Lock()
	w.recorders[args[0]] = r
	w.mu.Unlock()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	to := w.lab.Dial()
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		// What is meant for the proxy itself is not a leak.
		req.Header.Del("Proxy-Authorization")
		r.note(req)
		if req.Method != http.MethodConnect {
			rw.WriteHeader(http.StatusTeapot)
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		near, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
	})}
	go func() { _ = s.Serve(ln) }()
	w.t.Cleanup(func() { _ = s.Close() })
	ts.Setenv(args[0], ln.Addr().String())
}

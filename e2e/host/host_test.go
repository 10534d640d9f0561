// Package host shows watches with what is on a host beside them: a real
// registry, sshd with a restricted key, systemd and polkit. What this machine
// has not is left out, and scripts/e2e says so.
package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"homelab/e2e/cluster"
)

// A site is where watches deploy to in a test: a program that activates by
// writing down what it was told, and a server that tells what runs.
type site struct {
	t    *testing.T
	home string // HOME of all processes; the program and what it writes are in it
	env  []string
	url  string // of the version
}

// hook takes files and images, and remembers every action that changes something.
const hook = `#!/bin/sh
set -eu
cd "$(dirname "$0")"
case $HOMELAB_ACTION in
observe) cat running 2>/dev/null || echo none ;;
activate | rollback)
  echo "$HOMELAB_ACTION sha256:$HOMELAB_ARTIFACT_SHA256 ${HOMELAB_ARTIFACT_REF:-}" >>actions
  while [ -e slow ]; do sleep 0.1; done
  echo "sha256:$HOMELAB_ARTIFACT_SHA256" >running.new
  mv running.new running ;;
esac
`

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, home: t.TempDir()}
	s.env = []string{
		"HOME=" + s.home, "XDG_CONFIG_HOME=" + s.home, "PATH=" + os.Getenv("PATH"), "DOCKER_CONFIG=" + s.home,
	}
	s.write("hook", hook)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s.running())) })}
	s.url = serve(t, web)
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.home, name) }

func (s *site) write(name, text string) {
	s.t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(s.path(name)), 0o755), os.WriteFile(s.path(name), []byte(text), 0o755))
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(name string) string {
	b, err := os.ReadFile(s.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Error(err)
	}
	return string(b)
}

// running is the id of what the program activated last.
func (s *site) running() string { return strings.TrimSpace(s.read("running")) }

// actions is how often it was told to change something.
func (s *site) actions() int { return strings.Count(s.read("actions"), "\n") }

// A process is one homelab process, or one that leads to it.
type process struct {
	t        *testing.T
	cmd      *exec.Cmd
	done     <-chan struct{}
	out, err story
}

// start runs the program with this site's surroundings and no others.
func (s *site) start(args ...string) *process {
	s.t.Helper()
	return s.spawn(exec.Command(program(s.t), args...))
}

func program(t *testing.T) string {
	t.Helper()
	file := os.Getenv("HOMELAB_E2E_BINARY")
	if file == "" {
		t.Fatal("HOMELAB_E2E_BINARY does not name the program: use scripts/e2e")
	}
	return file
}

func (s *site) spawn(cmd *exec.Cmd) *process {
	s.t.Helper()
	p := &process{t: s.t, cmd: cmd}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.home, append(cmd.Env, s.env...), &p.out, &p.err
	var err error
	if p.done, err = cluster.Spawn(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.done
	})
	return p
}

// run runs the program to its end.
func (s *site) run(args ...string) answer {
	s.t.Helper()
	return s.start(args...).end()
}

// An answer is how a process ended.
type answer struct {
	code     int
	out, err string
}

// result is the last object on stdout.
func (a answer) result(t *testing.T) (r struct {
	Type, Verdict, Reason, State string
	Running                      struct{ ID string }
},
) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(a.out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("%v: exit %d:\n%s%s", err, a.code, a.out, a.err)
	}
	return r
}

// is checks how it ended and what it said on stdout.
func (a answer) is(t *testing.T, code int, says string) answer {
	t.Helper()
	if a.code != code || !strings.Contains(a.out, says) {
		t.Errorf("exit %d, want %d and %q:\n%s%s", a.code, code, says, a.out, a.err)
	}
	return a
}

// end waits until the process has ended.
func (p *process) end() answer {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		p.t.Fatalf("%q is still there:\n%s%s", p.cmd.Args, p.out.String(), p.err.String())
	}
	return answer{p.cmd.ProcessState.ExitCode(), p.out.String(), p.err.String()}
}

// until waits until the words are in the story for the nth time, while the
// process runs.
func (p *process) until(words string, n int) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); strings.Count(p.err.String(), words) < n; time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.done:
			p.t.Fatalf("ended without saying %q %d times:\n%s%s", words, n, p.err.String(), p.out.String())
		default:
		}
		if time.Now().After(end) {
			p.t.Fatalf("did not say %q %d times:\n%s", words, n, p.err.String())
		}
	}
}

// stop ends it by a signal, as a service is stopped.
func (p *process) stop() answer {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.end()
}

// eventually waits until it holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// A story collects what a process writes while others read it.
type story struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *story) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *story) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// serve starts a server on loopback and returns its URL; it ends with the test.
func serve(t *testing.T, s *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.ReadHeaderTimeout = 10 * time.Second
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

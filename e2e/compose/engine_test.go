// Package compose shows stacks on a real container engine: dockerd and the
// compose plugin, on a socket and in a directory of their own. Where no engine
// can be had the tests are skipped, and scripts/e2e says why.
package compose

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"homelab/e2e/cluster"
	"homelab/e2e/machine"
)

// engine is the one of all tests; a test has images and projects of its own.
var engine struct {
	socket, config string
	missing        string // why there is none
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hl-engine-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	stop, err := start(dir)
	if err != nil {
		engine.missing = err.Error()
		fmt.Fprintln(os.Stderr, "e2e: the container engine:", err)
		machine.Lacks("a container engine", err.Error())
	}
	code := m.Run()
	stop()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// start runs dockerd.
func start(dir string) (stop func(), err error) {
	none := func() {}
	daemon, plugin := os.Getenv("HOMELAB_E2E_DOCKERD"), os.Getenv("HOMELAB_E2E_COMPOSE")
	if daemon == "" || plugin == "" {
		return none, errors.New("scripts/e2e found no dockerd, and none that could be installed")
	}
	engine.socket, engine.config = filepath.Join(dir, "docker.sock"), filepath.Join(dir, "client")
	if err := os.MkdirAll(filepath.Join(engine.config, "cli-plugins"), 0o700); err != nil {
		return none, err
	}
	if err := os.Symlink(plugin, filepath.Join(engine.config, "cli-plugins", "docker-compose")); err != nil {
		return none, err
	}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}\n"), 0o600); err != nil {
		return none, err
	}
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return none, err
	}
	defer log.Close()
	// No rules of the machine's firewall, no bridge of its own, no kernel
	// features: it runs in many places and leaves nothing.
	cmd := exec.Command(daemon, "--config-file", filepath.Join(dir, "daemon.json"), "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "--host", "unix://"+engine.socket,
		"--iptables=false", "--bridge=none", "--storage-driver=vfs")
	cmd.Stdout, cmd.Stderr = log, log
	done, err := cluster.Spawn(cmd)
	if err != nil {
		return none, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}
	for end := time.Now().Add(60 * time.Second); ; {
		if exec.Command("docker", "--host", "unix://"+engine.socket, "version").Run() == nil {
			return stop, nil
		}
		select {
		case <-done:
			return none, fmt.Errorf("it ended: %s", tail(log.Name()))
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(end) {
			stop()
			return none, fmt.Errorf("it does not answer: %s", tail(log.Name()))
		}
	}
}

func tail(file string) string {
	b, _ := os.ReadFile(file)
	return string(b[max(0, len(b)-2000):])
}

// A host is one operator's machine that reaches the engine.
type host struct {
	t   *testing.T
	dir string
	env []string
	// tag marks the images and the projects of this test.
	tag string
	cwd string // where homelab runs, below dir
}

func newHost(t *testing.T) *host {
	t.Helper()
	if engine.missing != "" {
		t.Skip("no container engine on this machine: " + engine.missing)
	}
	h := &host{t: t, dir: t.TempDir(), tag: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))}
	home := filepath.Join(h.dir, "home")
	h.file("home/.keep", "")
	h.env = []string{
		"HOME=" + home, "XDG_CONFIG_HOME=" + home + "/.config", "PATH=" + os.Getenv("PATH"),
		"DOCKER_HOST=unix://" + engine.socket, "DOCKER_CONFIG=" + engine.config,
		"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.lan", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.lan",
	}
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) file(name, text string) {
	h.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(h.path(name)), 0o755), os.WriteFile(h.path(name), []byte(text), 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) edit(name, from, to string) {
	h.t.Helper()
	b, err := os.ReadFile(h.path(name))
	if err != nil || !bytes.Contains(b, []byte(from)) {
		h.t.Fatalf("%s has no %q: %v", name, from, err)
	}
	h.file(name, strings.ReplaceAll(string(b), from, to))
}

// run runs a program and returns its stdout; it must succeed.
func (h *host) run(dir, name string, args ...string) string {
	h.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = h.path(dir), h.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, &stderr)
	}
	return strings.TrimSpace(string(out))
}

func (h *host) docker(args ...string) string {
	h.t.Helper()
	return h.run(".", "docker", args...)
}

// image builds the program in a version of its own and imports it under a name
// that only this test has.
func (h *host) image(name, version string) string {
	h.t.Helper()
	bin := filepath.Join(h.t.TempDir(), "app")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", bin, "./app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		h.t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err = errors.Join(
		w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o777}),
		w.WriteHeader(&tar.Header{Name: "app", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(b))}),
	)
	if _, wrong := w.Write(b); wrong != nil || err != nil {
		h.t.Fatal(err, wrong)
	}
	_ = w.Close()
	ref := h.tag + "/" + name
	load := exec.Command("docker", "import", "--change", `ENTRYPOINT ["/app"]`, "--change", "EXPOSE 8080", "-", ref)
	load.Env, load.Stdin = h.env, &archive
	if out, err := load.CombinedOutput(); err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	return ref
}

// answer is how one run of homelab ended.
type answer struct {
	code     int
	out, err string
	result   struct {
		Verdict, Reason, Next string
		ExitCode              int `json:"exit_code"`
		Changed               *bool
	}
}

// homelab runs it with --json; kill, when it is not nil, ends it.
func (h *host) homelab(kill func(*os.Process), args ...string) *answer {
	h.t.Helper()
	cmd := exec.Command(os.Getenv("HOMELAB_E2E_BINARY"), append(args, "--json")...)
	cmd.Dir, cmd.Env = h.path(h.cwd), h.env
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Start(); e != nil {
		h.t.Fatal(e)
	}
	if kill != nil {
		go kill(cmd.Process)
	}
	e := cmd.Wait()
	if exit := (*exec.ExitError)(nil); e != nil && !errors.As(e, &exit) {
		h.t.Fatal(e)
	}
	a := &answer{code: cmd.ProcessState.ExitCode(), out: out.String(), err: err.String()}
	if e := json.Unmarshal(out.Bytes(), &a.result); e != nil && a.code >= 0 {
		h.t.Fatalf("homelab %q: %v\n%s\n%s", args, e, a.out, a.err)
	}
	return a
}

// must runs homelab to a verdict.
func (h *host) must(verdict string, args ...string) *answer {
	h.t.Helper()
	a := h.homelab(nil, args...)
	if a.result.Verdict != verdict {
		h.t.Fatalf("homelab %q ended with %q, %d, not %q:\n%s\n%s", args, a.result.Verdict, a.code, verdict, a.out, a.err)
	}
	return a
}

// text runs homelab for people and returns stdout and the exit code.
func (h *host) text(args ...string) (string, int) {
	h.t.Helper()
	cmd := exec.Command(os.Getenv("HOMELAB_E2E_BINARY"), args...)
	cmd.Dir, cmd.Env = h.dir, h.env
	var stderr bytes.Buffer
	cmd.Stderr = io.MultiWriter(&stderr)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%v\n%s", err, &stderr)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

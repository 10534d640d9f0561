package kube_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
)

// buffer is a bytes.Buffer that a session may write to while it is read.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestExec(t *testing.T) {
	for _, language := range []string{"websocket", "spdy"} {
		t.Run(language, func(t *testing.T) {
			sim, srv := serve(t)
			if language == "spdy" {
				sim.NoWebSockets()
			}
			c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", kubesim.Admin, "")}})
			podWith(sim, "web-1", "web", "side")
			big := strings.Repeat("0123456789abcdef\n", 40_000)
			size := func() func() (uint16, uint16, bool) {
				told := false
				return func() (uint16, uint16, bool) {
					if told {
						return 0, 0, false
					}
					told = true
					return 91, 17, true
				}
			}
			for _, r := range []struct {
				name string
				o    kube.ExecOptions
				code int
				out  string
				err  string
			}{
				{"done", kube.ExecOptions{Command: []string{"true"}}, 0, "", ""},
				{"code", kube.ExecOptions{Command: []string{"sh", "-c", "echo a; echo b >&2; exit 7"}}, 7, "a\n", "b\n"},
				{"arguments", kube.ExecOptions{Command: []string{"args", "-a", "b c", "", "ü&x=1"}}, 0, "<-a>\n<b c>\n<>\n<ü&x=1>\n", ""},
				{"not there", kube.ExecOptions{Command: []string{"nonsense"}}, 127, "", "sh: nonsense: not found\n"},
				{"container", kube.ExecOptions{Container: "side", Command: []string{"where"}}, 0, "shop/web-1 side\n", ""},
				{"stdin", kube.ExecOptions{Command: []string{"cat"}, Stdin: strings.NewReader(big)}, 0, big, ""},
				{"no stdin", kube.ExecOptions{Command: []string{"cat"}}, 0, "", ""},
				{"terminal", kube.ExecOptions{Command: []string{"size"}, TTY: true, Stdin: strings.NewReader(""), Size: size()}, 0, "91x17\r\n", ""},
				{"no terminal", kube.ExecOptions{Command: []string{"tty"}}, 1, "not a tty\n", ""},
			} {
				var out, errs buffer
				r.o.Stdout, r.o.Stderr = &out, &errs
				code, err := c.Exec(t.Context(), "shop", "web-1", r.o)
				if err != nil || code != r.code || out.String() != r.out || errs.String() != r.err {
					t.Errorf("%s: code %d, stdout %.80q, stderr %.80q, %v", r.name, code, out.String(), errs.String(), err)
				}
			}
		})
	}
}

func TestExecFails(t *testing.T) {
	sim, srv := serve(t)
	sim.AddUser(kubesim.User{Name: "reader", Deny: []kubesim.Rule{{Resources: []string{"pods/exec"}}}})
	sim.AddUser(kubesim.User{Name: "creator", Deny: []kubesim.Rule{{Resources: []string{"pods/exec"}, Verbs: []string{"get"}}}})
	podWith(sim, "web-1", "web")
	run := func(ctx context.Context, token, pod string, command ...string) (int, error) {
		c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", token, "")}})
		return c.Exec(ctx, "shop", pod, kube.ExecOptions{Command: command, Stdout: io.Discard, Stderr: io.Discard})
	}
	if _, err := run(t.Context(), "reader-token", "web-1", "true"); !kube.IsForbidden(err) {
		t.Errorf("forbidden: %v", err)
	}
	if n := sim.Count("create", "pods"); n != 2 {
		t.Errorf("a refusal is believed after %d requests", n)
	}
	if code, err := run(t.Context(), "creator-token", "web-1", "false"); err != nil || code != 1 {
		t.Errorf("where only create is permitted: %d %v", code, err)
	}
	if _, err := run(t.Context(), "nobody-token", "web-1", "true"); !kube.IsDenied(err) {
		t.Errorf("unknown user: %v", err)
	}
	if _, err := run(t.Context(), kubesim.Admin, "web-2", "true"); !kube.IsAbsent(err) {
		t.Errorf("no pod: %v", err)
	}
	sim.Forget()
	_, err := run(t.Context(), kubesim.Admin, "web-1", "cut")
	if lost, ok := errors.AsType[*kube.LostError](err); !ok || kube.IsTransient(err) {
		t.Errorf("lost: %v", err)
	} else if !strings.Contains(lost.Error(), "lost") {
		t.Errorf("lost says %q", lost)
	}
	if n := len(sim.Requests()); n != 1 {
		t.Errorf("a command was started %d times", n)
	}
	reason := errors.New("that is enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, reason)
	defer cancel()
	start := time.Now()
	if _, err := run(ctx, kubesim.Admin, "web-1", "sleep"); !errors.Is(err, reason) || time.Since(start) > time.Second {
		t.Errorf("interrupted: %v after %v", err, time.Since(start))
	}
	remove := sim.Inject(kubesim.Fault{Kind: kubesim.HTML, Code: 502})
	if _, err := run(t.Context(), kubesim.Admin, "web-1", "true"); !kube.IsTransient(err) {
		t.Errorf("a proxy's page: %v", err)
	}
	remove()
	srv.Close()
	if _, err := run(t.Context(), kubesim.Admin, "web-1", "true"); !errors.As(err, new(*kube.UnreachableError)) {
		t.Errorf("nobody there: %v", err)
	}
}

package kube_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
)

// ends returns both ends of a connection of this machine.
func ends(t *testing.T) (mine, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if mine, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mine.Close(); theirs.Close() })
	return mine, theirs
}

func podWithPort(sim *kubesim.Sim) {
	sim.Put("pods", kubesim.Object{
		"metadata": kubesim.Object{"namespace": "shop", "name": "web-1"},
		"spec":     kubesim.Object{"containers": []any{kubesim.Object{"name": "web", "ports": []any{kubesim.Object{"containerPort": 80}}}}},
	})
}

func TestTunnel(t *testing.T) {
	for _, language := range []string{"websocket", "spdy"} {
		t.Run(language, func(t *testing.T) {
			sim, srv := serve(t)
			if language == "spdy" {
				sim.NoWebSockets()
			}
			podWithPort(sim)
			c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", kubesim.Admin, "")}})
			ctx, cancel := context.WithCancel(t.Context())
			tunnel, err := c.Tunnel(ctx, "shop", "web-1")
			if err != nil {
				t.Fatal(err)
			}
			cancel() // it ended with the opening
			big := strings.Repeat("0123456789abcdef\n", 20_000)
			said := make(chan string, 3)
			for range 3 { // at a time
				mine, theirs := ends(t)
				go func() {
					if err := tunnel.Carry(theirs, 80); err != nil {
						t.Errorf("carry: %v", err)
					}
				}()
				go func() {
					go func() {
						_, _ = io.WriteString(mine, big)
						_ = mine.(*net.TCPConn).CloseWrite() // the answer is still to come
					}()
					b, err := io.ReadAll(mine)
					if err != nil {
						t.Errorf("read: %v", err)
					}
					said <- string(b)
				}()
			}
			for range 3 {
				if got := <-said; got != "web-1:80\n"+big {
					t.Errorf("%d bytes, %.40q", len(got), got)
				}
			}
			mine, theirs := ends(t)
			err = tunnel.Carry(theirs, 81)
			if refused, ok := errors.AsType[*kube.PortError](err); !ok || refused.Port != 81 || !strings.Contains(refused.Said, "connection refused") {
				t.Errorf("nothing listens: %v", err)
			}
			if b, err := io.ReadAll(mine); len(b) > 0 || err != nil {
				t.Errorf("the connection goes on: %q %v", b, err)
			}

			// Retired, it carries what it carries to its end.
			mine, theirs = ends(t)
			over := make(chan error, 1)
			go func() { over <- tunnel.Carry(theirs, 80) }()
			in := bufio.NewReader(mine)
			if l, err := in.ReadString('\n'); l != "web-1:80\n" {
				t.Fatalf("%q %v", l, err)
			}
			tunnel.Retire()
			_, _ = io.WriteString(mine, "still there\n")
			if l, err := in.ReadString('\n'); l != "still there\n" {
				t.Errorf("%q %v", l, err)
			}
			_ = mine.Close()
			if err := <-over; err != nil {
				t.Errorf("carry: %v", err)
			}
			select {
			case <-tunnel.Down():
			case <-time.After(5 * time.Second):
				t.Fatal("it stays when it is retired")
			}
			_, theirs = ends(t)
			if err := tunnel.Carry(theirs, 80); !errors.Is(err, kube.ErrTunnelDown) {
				t.Errorf("down: %v", err)
			}
			if _, err := theirs.Write([]byte("x")); err != nil {
				t.Errorf("what was not begun is closed: %v", err)
			}

			// The node breaks off.
			if tunnel, err = c.Tunnel(t.Context(), "shop", "web-1"); err != nil {
				t.Fatal(err)
			}
			mine, theirs = ends(t)
			go func() { over <- tunnel.Carry(theirs, 80) }()
			if _, err := bufio.NewReader(mine).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			sim.DropTunnels()
			<-tunnel.Down()
			if err := <-over; err != nil {
				t.Errorf("carry: %v", err)
			}
			if _, err := io.ReadAll(mine); err != nil {
				t.Errorf("its end: %v", err)
			}
		})
	}
}

func TestTunnelFails(t *testing.T) {
	sim, srv := serve(t)
	sim.AddUser(kubesim.User{Name: "reader", Deny: []kubesim.Rule{{Resources: []string{"pods/portforward"}}}})
	sim.AddUser(kubesim.User{Name: "creator", Deny: []kubesim.Rule{{Resources: []string{"pods/portforward"}, Verbs: []string{"get"}}}})
	podWithPort(sim)
	open := func(ctx context.Context, token, pod string) error {
		c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", token, "")}})
		tunnel, err := c.Tunnel(ctx, "shop", pod)
		if err == nil {
			tunnel.Close()
		}
		return err
	}
	if err := open(t.Context(), "reader-token", "web-1"); !kube.IsForbidden(err) {
		t.Errorf("forbidden: %v", err)
	}
	if n := sim.Count("create", "pods"); n != 2 {
		t.Errorf("a refusal is believed after %d requests", n)
	}
	if err := open(t.Context(), "creator-token", "web-1"); err != nil {
		t.Errorf("where only create is permitted: %v", err)
	}
	if err := open(t.Context(), "nobody-token", "web-1"); !kube.IsDenied(err) {
		t.Errorf("unknown user: %v", err)
	}
	if err := open(t.Context(), kubesim.Admin, "web-2"); !kube.IsAbsent(err) {
		t.Errorf("no pod: %v", err)
	}
	remove := sim.Inject(kubesim.Fault{Kind: kubesim.HTML, Code: 502})
	if err := open(t.Context(), kubesim.Admin, "web-1"); !kube.IsTransient(err) {
		t.Errorf("a proxy's page: %v", err)
	}
	remove()
	remove = sim.Inject(kubesim.Fault{Kind: kubesim.Silent})
	reason := errors.New("that is enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, reason)
	defer cancel()
	start := time.Now()
	if err := open(ctx, kubesim.Admin, "web-1"); !errors.Is(err, reason) || time.Since(start) > time.Second {
		t.Errorf("interrupted: %v after %v", err, time.Since(start))
	}
	remove()
	srv.Close()
	if err := open(t.Context(), kubesim.Admin, "web-1"); !errors.As(err, new(*kube.UnreachableError)) {
		t.Errorf("nobody there: %v", err)
	}
}

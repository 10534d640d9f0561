package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"homelab/e2e/cluster"
)

// TestFaults pauses and restarts what all tests share, and therefore runs before
// the parallel ones.
func TestFaults(t *testing.T) {
	began := func(_ *testing.T, s *cluster.Space, p *process) { p.until("image") }
	t.Run("the controllers stand still", func(t *testing.T) {
		play(t, shared.Space(t), scenario{
			setup: deployed("Deployment", oldSHA, "ok"),
			during: func(t *testing.T, s *cluster.Space, p *process) {
				began(t, s, p)
				resume, err := shared.PauseControllers()
				if err != nil {
					t.Fatal(err)
				}
				defer resume()
				s.SetImage("deployments", "web", image(sha, "ok"))
				p.until("has not observed generation")
				time.Sleep(time.Second)
				if o := s.Get("deployments", "web"); o.Observed() == o.Gen() {
					t.Error("a paused controller has observed an update")
				}
			},
			want: ready,
		})
	})
	t.Run("the API server is away", func(t *testing.T) {
		play(t, shared.Space(t), scenario{
			setup: deployed("Deployment", oldSHA, "ok"),
			during: func(t *testing.T, s *cluster.Space, p *process) {
				began(t, s, p)
				if err := shared.RestartAPIServer(context.Background(), 4*time.Second); err != nil {
					t.Fatal(err)
				}
				s.SetImage("deployments", "web", image(sha, "ok"))
			},
			want: ready,
		})
	})
	t.Run("nobody listens", func(t *testing.T) {
		s := shared.Space(t)
		kubeconfig := s.Tool(roleFile).Kubeconfig
		b, err := os.ReadFile(kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := t.TempDir() + "/kubeconfig"
		if err := os.WriteFile(elsewhere, []byte(strings.ReplaceAll(string(b), shared.URL(), "https://127.0.0.1:1")), 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, elsewhere, "deploy", "wait", s.Name+"/web", "--sha", sha, "--timeout", "4s")
		p.end(20 * time.Second)
		check(t, p, want{code: 7, verdict: "unreachable"})
	})
}

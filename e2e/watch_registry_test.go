package e2e

import (
	"strings"
	"testing"
	"time"

	"homelab/e2e/distribution"
)

// A tag of a real registry moves, and a deployment of a real API server
// follows, by digest and with its commit.
func TestWatchRealRegistry(t *testing.T) {
	t.Parallel()
	r := distribution.New(t, "", "")
	w := &watched{t: t, s: shared.Space(t), repo: r.Ref("lab/web")}
	image := w.repo + ":live"
	first := r.Push("lab/web:live", distribution.Image(t, "one", oldSHA))
	w.s.C.Nodes.SetDigest(image, first)
	w.s.Create(workload(t, "Deployment", image, probed(image)...))
	w.s.Complete("deployments", "web")
	u, state := w.s.User(watchRole), t.TempDir()
	once := func(code int, says string) {
		t.Helper()
		p := start(t, u.Kubeconfig, "deploy", "watch", "--once", "--name", "web", "--from", "oci://"+image,
			"--to", "k8s://"+w.s.Name+"/web?container=web", "--take-ownership", "--soak", "0s", "--state-dir", state)
		p.end(2 * time.Minute)
		if p.result.ExitCode != code || !strings.Contains(p.result.Reason, says) {
			t.Errorf("%+v, want %d and %q:\n%s", p.result, code, says, p.err.String())
		}
	}
	runs := func(id, commit string) {
		t.Helper()
		if image, revision := w.written("web"); !strings.HasSuffix(image, "/lab/web:live@"+id) || revision != commit {
			t.Errorf("%s of %s runs, want %s of %s", image, revision, id, commit)
		}
	}
	once(0, "nothing newer")
	second := r.Push("lab/web:live", distribution.Index(t, "two", sha, "linux/amd64", "linux/arm64"))
	once(0, "runs")
	runs(second, sha)
	once(0, "nothing newer")

	// What runs is gone from the registry, so there would be no way back.
	r.Push("lab/web:live", distribution.Image(t, "three", newSHA))
	r.Delete("lab/web", second)
	once(5, "no way back")
	// A registry that cannot be asked does not make that any better.
	r.Kill()
	once(7, "")
	runs(second, sha)
}

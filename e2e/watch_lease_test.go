package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The file for a cluster is taken by one, and with its Role and its Lease, and
// nothing more, two watches take turns: no image is written twice, and what one
// left open when it was killed the other brings to its end.
func TestWatchTakesOver(t *testing.T) {
	t.Parallel()
	w := watching(t, probed)
	text, err := os.ReadFile("../docs/homelab-watch.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := strings.NewReplacer("namespace: shop", "namespace: "+w.s.Name, "resourceNames: [shop]", "resourceNames: [web]").Replace(string(text))
	for doc := range strings.SplitSeq(file, "\n---\n") {
		w.s.Create(doc)
	}
	u := w.s.User(`[]`)
	w.s.Create(`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "the-role"},
		"subjects": [{"kind": "User", "name": "` + u.Name + `"}],
		"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "homelab-watch"}}`)

	watch := func(more ...string) *process {
		t.Helper()
		return start(t, u.Kubeconfig, append([]string{
			"deploy", "watch", "--name", "web", "--from", "oci://" + w.r.image, "--to", "k8s://" + w.s.Name + "/web?container=web",
			"--insecure-registry", strings.TrimSuffix(w.repo, "/web"), "--take-ownership", "--interval", "5s", "--soak", "2s",
			"--lease", w.s.Name + "/homelab-watch", "--state-dir", t.TempDir(),
		}, more...)...)
	}
	one := watch()
	one.until("found running: " + w.old.Short())
	two := watch()
	two.until("standby: lease " + w.s.Name + "/homelab-watch is held by ")
	three := watch("--once")
	if three.end(30 * time.Second); three.result.ExitCode != 9 {
		t.Errorf("%+v", three.result)
	}

	second := w.push()
	one.until("web runs " + second.Short())
	third := w.push()
	one.until("switching, " + second.Short())
	for image := ""; !strings.HasSuffix(image, "@"+string(third)); time.Sleep(20 * time.Millisecond) {
		image, _ = w.written("web")
	}
	one.signal(syscall.SIGKILL)
	<-one.done
	killed := time.Now()
	two.until("the lease is held")
	if took := time.Since(killed); took < 5*time.Second || took > 25*time.Second {
		t.Errorf("taken over after %s", took)
	}
	two.until("web runs " + third.Short())
	two.signal(syscall.SIGTERM)
	if two.end(10 * time.Second); two.result.ExitCode != 143 {
		t.Errorf("%+v", two.result)
	}
	if strings.Contains(two.err.String(), "switching, ") {
		t.Errorf("it was activated twice:\n%s", two.err.String())
	}
	d := w.s.Get("deployments", "web")
	if image, _ := w.written("web"); !strings.HasSuffix(image, "@"+string(third)) {
		t.Errorf("%s runs", image)
	}
	if got := d.Str("metadata", "annotations", "deployment.kubernetes.io/revision"); got != "3" {
		t.Errorf("%s revisions of 3 images", got)
	}
	l := w.s.Get("leases", "homelab-watch")
	if holder, fates := l.Str("spec", "holderIdentity"), l.Str("metadata", "annotations", "homelab/attempted"); holder != "" || strings.Count(fates, `"live"`) != 2 {
		t.Errorf("held by %q: %s", holder, fates)
	}
}

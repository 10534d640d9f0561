package e2e

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"homelab/internal/dockersim"
)

// A dock is a site with a container engine; its kind nodes have the shared
// API server. Tests with one follow each other: it is one cluster for all.
type dock struct {
	*site
	engine *dockersim.Engine
}

func newDock(t *testing.T) *dock {
	t.Helper()
	s := newSite(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := dockersim.New(s.path("docker"), program)
	if err == nil {
		err = e.Kube(s.front.kubeconfig("admin"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range s.env {
		if rest, ok := strings.CutPrefix(v, "PATH="); ok {
			s.env[i] = "PATH=" + e.Bin() + ":" + rest
		}
	}
	s.env = append(s.env, "KUBECONFIG="+s.path("kubeconfig"))
	// The ingress controller runs where kind lets it.
	if err := shared.Nodes.Add(t.Context(), s.name+"-kind", map[string]string{"ingress-ready": "true"}, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = shared.Admin.Do(context.Background(), http.MethodDelete, "/api/v1/nodes/"+s.name+"-kind", "", nil)
		_, _ = shared.Admin.Do(context.Background(), http.MethodPatch, "/api/v1/namespaces/kube-system", "application/merge-patch+json",
			[]byte(`{"metadata": {"annotations": {"homelab/cluster": null}}}`))
	})
	return &dock{s, e}
}

func (d *dock) nodes() []dockersim.Node {
	d.t.Helper()
	n, err := d.engine.Nodes()
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// port is the kiosk for kind: its data under an umbrella.
func (d *dock) port(namespace string) {
	d.t.Helper()
	d.kiosk(namespace)
	for _, dir := range []string{"up", "repo"} {
		d.edit(dir+"/deployment/spec.yml", "deploy-to: k8s\nkube-config: "+d.path("kube.yaml")+"\nimage-registry: reg.test\n",
			"deploy-to: k8s-kind\nkind-mount-root: "+d.path("host")+"\nimage-pull-policy: IfNotPresent\n")
		d.edit(dir+"/compose/docker-compose-kiosk.yml", "acme/web:1-ok", "acme/web:local")
		d.git(dir, "commit", "--quiet", "--all", "-m", "Move to kind")
	}
}

func TestStackOnKind(t *testing.T) {
	d := newDock(t)
	ns := d.namespace()
	d.port(ns)
	if err := d.engine.Image("acme/web:local", "sha256:one"); err != nil {
		t.Fatal(err)
	}
	id := d.deploy("d")
	if got := d.read("d/kind-config.yml"); !strings.Contains(got, d.path("host")) {
		t.Errorf("kind-config.yml:\n%s", got)
	}
	start := []string{"deployment", "start", "--dir", "d", within}
	look := d.in(ns)

	// No cluster runs: nothing but start is of use.
	for _, verb := range []string{"diff", "update"} {
		if r := d.homelab("deployment", verb, "--dir", "d"); r.code != 3 || !strings.Contains(*r.result.Next, "deployment start") {
			t.Errorf("%s without a cluster: %d\n%s", verb, r.code, r.err)
		}
	}
	d.must("stopped", "deployment", "stop", "--dir", "d")
	if r := d.homelab(append(start, "--skip-cluster-management")...); r.code != 3 {
		t.Errorf("start --skip without a cluster: %d\n%s", r.code, r.err)
	}
	if len(d.nodes()) != 0 {
		t.Fatalf("%v", d.nodes())
	}

	// The first start makes it, with its umbrella, and its controller.
	r := d.must("up", start...)
	name := *r.result.Deployment.Cluster
	nodes := d.nodes()
	if len(nodes) != 1 || nodes[0].Cluster != name || !slices.Contains(nodes[0].Mounts, dockersim.Mount{Source: d.path("host"), Destination: "/mnt"}) {
		t.Errorf("the nodes: %+v", nodes)
	}
	for _, line := range []string{"Creating new cluster: " + name, "installing the ingress controller", "loaded image acme/web:local"} {
		if !strings.Contains(r.err, line) {
			t.Errorf("the story does not say %q:\n%s", line, r.err)
		}
	}
	if nodes[0].Images["acme/web:local"] != "sha256:one" {
		t.Errorf("images of the node: %v", nodes[0].Images)
	}
	if v := look.Get("persistentvolumes", id+"-data").Str("spec", "hostPath", "path"); v != "/mnt/data" {
		t.Errorf("the volume is at %s", v)
	}
	if a := look.Get("namespaces", "kube-system").At("metadata", "annotations", "homelab/cluster"); a == nil {
		t.Error("the cluster does not say who made it")
	}
	// Again: the same one, and nothing is written.
	d.silent(func() {
		r := d.must("up", start...)
		if !strings.Contains(r.err, "Using existing cluster: "+name) || strings.Contains(r.err, "umbrella") {
			t.Error(r.err)
		}
		d.must("up", append(start, "--skip-cluster-management")...)
		d.must("up", "deployment", "restart", "--dir", "d", within)
		d.must("same", "deployment", "diff", "--dir", "d")
	})

	// A local image that was built anew comes in, in every mode but one.
	if err := d.engine.Image("acme/web:local", "sha256:two"); err != nil {
		t.Fatal(err)
	}
	d.homelab(append(start, "--no-load-images", "--no-wait")...)
	if got := d.nodes()[0].Images["acme/web:local"]; got != "sha256:one" {
		t.Errorf("--no-load-images brought %s", got)
	}
	d.homelab(append(start, "--skip-cluster-management", "--no-wait")...)
	if got := d.nodes()[0].Images["acme/web:local"]; got != "sha256:two" {
		t.Errorf("the node has %s", got)
	}

	// The controller's image is the spec's, if it names one.
	d.push("deployment/spec.yml", "secrets: {}\n", "secrets: {}\ncaddy-ingress-image: acme/caddy:2-ok\n")
	r = d.must("up", "deployment", "restart", "--dir", "d", within)
	if !strings.Contains(r.err, "-> acme/caddy:2-ok (expect brief ingress downtime)") {
		t.Errorf("the story of the controller:\n%s", r.err)
	}
	caddy := d.in("caddy-system")
	if got := caddy.Get("deployments", "caddy-ingress-controller").Str("spec", "template", "spec", "containers", 0, "image"); got != "acme/caddy:2-ok" {
		t.Errorf("the controller runs %s", got)
	}
	if got := look.Get("namespaces", ns).Str("metadata", "annotations", "homelab/caddy-ingress-image"); got != "acme/caddy:2-ok" {
		t.Errorf("the namespace says %q", got)
	}
	d.silent(func() { d.must("up", "deployment", "restart", "--dir", "d", within) })

	// A second deployment shares the cluster; its data has to be under the umbrella.
	other := d.namespace()
	text := strings.NewReplacer("namespace: "+ns, "namespace: "+other, "stack: stacks/kiosk", "stack: repo/stacks/kiosk",
		d.path("host/data"), d.path("apart/data"), "acme/caddy:2-ok", "acme/caddy:3-ok")
	d.file("b.yml", text.Replace(d.read("repo/deployment/spec.yml")))
	b := d.must("created", "deploy", "create", "--spec-file", "b.yml", "--deployment-dir", "b")
	if *b.result.Deployment.Cluster != name {
		t.Errorf("b joined %s, not %s", *b.result.Deployment.Cluster, name)
	}
	d.silent(func() {
		for _, flags := range [][]string{nil, {"--skip-cluster-management"}, {"--perform-cluster-management"}} {
			r := d.must("conflict", append([]string{"deployment", "start", "--dir", "b"}, flags...)...)
			for _, word := range []string{d.path("apart/data"), "NOT MOUNTED", "kind-mount-root: " + d.path("host")} {
				if !strings.Contains(r.err, word) {
					t.Errorf("the refusal does not say %q:\n%s", word, r.err)
				}
			}
		}
		// Nobody can tell what is mounted: that is no yes.
		if err := d.engine.Blind(true); err != nil {
			t.Fatal(err)
		}
		if r := d.homelab(start...); r.code != 7 {
			t.Errorf("mounts that cannot be inspected: %d\n%s", r.code, r.err)
		}
		if err := d.engine.Blind(false); err != nil {
			t.Fatal(err)
		}
	})
	d.edit("b.yml", d.path("apart/data"), d.path("host/b"))
	d.must("changes", "deploy", "create", "--spec-file", "b.yml", "--deployment-dir", "b", "--update")
	r = d.must("up", "deployment", "start", "--dir", "b", within)
	if !r.told("ingress-image-disputed") {
		t.Errorf("nobody says that two want another controller:\n%s", r.err)
	}

	// It is not deleted while others live there.
	r = d.must("conflict", "deployment", "stop", "--dir", "d", "--perform-cluster-management")
	if !strings.Contains(r.err, other) {
		t.Error(r.err)
	}
	r = d.must("stopped", "deployment", "stop", "--dir", "d")
	if !strings.Contains(r.err, "stays") || len(d.nodes()) != 1 {
		t.Errorf("the cluster went:\n%s", r.err)
	}
	d.must("stopped", "deployment", "stop", "--dir", "b", "--skip-cluster-management", "--delete-volumes", "--delete-namespace")
	if len(d.nodes()) != 1 {
		t.Error("--skip-cluster-management took the cluster")
	}
	// What a test's API server has besides is in the way of deleting it unasked.
	d.must("stopped", "deployment", "stop", "--dir", "d", "--perform-cluster-management", "--force")
	if len(d.nodes()) != 0 {
		t.Errorf("the cluster is still there: %v", d.nodes())
	}
	if d.read("host/data/precious") != "what users own\n" {
		t.Error("data is gone")
	}
}

// TestStackOnKindOfOthers: clusters that are not this deployment's.
func TestStackOnKindOfOthers(t *testing.T) {
	d := newDock(t)
	ns := d.namespace()
	d.port(ns)
	if err := d.engine.Cluster("playground", true, dockersim.Mount{Source: d.path("host"), Destination: "/mnt"}); err != nil {
		t.Fatal(err)
	}
	d.edit("repo/deployment/spec.yml", d.path("host/data"), d.path("host/other")) // the shared API server has seen the first
	d.deploy("d")
	if got := d.read("d/deployment.yml"); !strings.Contains(got, "cluster-id: playground") {
		t.Errorf("create did not join the one cluster:\n%s", got)
	}
	d.edit("d/deployment.yml", "cluster-id: playground", "cluster-id: laconic-mine")
	start := []string{"deployment", "start", "--dir", "d", within}
	before := d.read("d/deployment.yml")
	d.silent(func() {
		for _, flags := range [][]string{nil, {"--skip-cluster-management"}, {"--perform-cluster-management"}} {
			r := d.must("conflict", append(start, flags...)...)
			for _, word := range []string{"laconic-mine", "playground", "cluster-id: playground", "deployment.yml"} {
				if !strings.Contains(r.err, word) {
					t.Errorf("start %v does not say %q:\n%s", flags, word, r.err)
				}
			}
		}
	})
	if d.read("d/deployment.yml") != before || len(d.nodes()) != 1 {
		t.Error("something changed")
	}
	// One that is ours is taken over when that is asked for; the id stays. Not
	// before every guard has passed.
	if err := d.engine.Delete("playground"); err != nil {
		t.Fatal(err)
	}
	if err := d.engine.Cluster("laconic-theirs", true, dockersim.Mount{Source: "/elsewhere", Destination: "/mnt"}); err != nil {
		t.Fatal(err)
	}
	d.must("conflict", append(start, "--perform-cluster-management")...)
	if d.read("d/deployment.yml") != before {
		t.Error("the cluster was taken over although its mounts are wrong")
	}
	if err := d.engine.Delete("laconic-theirs"); err != nil {
		t.Fatal(err)
	}
	if err := d.engine.Cluster("laconic-theirs", true, dockersim.Mount{Source: d.path("host"), Destination: "/mnt"}); err != nil {
		t.Fatal(err)
	}
	r := d.must("up", append(start, "--perform-cluster-management")...)
	if got := d.read("d/deployment.yml"); got != strings.Replace(before, "laconic-mine", "laconic-theirs", 1) || *r.result.Deployment.Cluster != "laconic-theirs" {
		t.Errorf("deployment.yml:\n%s", got)
	}
	d.silent(func() { d.must("up", start...) })
	// A creation that fails leaves nothing.
	d.must("stopped", "deployment", "stop", "--dir", "d", "--skip-cluster-management", "--delete-volumes", "--delete-namespace")
	if err := d.engine.Delete("laconic-theirs"); err != nil {
		t.Fatal(err)
	}
	if err := d.engine.Refuse("kubeadm"); err != nil {
		t.Fatal(err)
	}
	if r := d.homelab(start...); r.code != 1 || len(d.nodes()) != 0 {
		t.Errorf("a creation that fails: %d, %v\n%s", r.code, d.nodes(), r.err)
	}
	if err := d.engine.Break("Cannot connect to the Docker daemon at unix:///var/run/docker.sock."); err != nil {
		t.Fatal(err)
	}
	if r := d.homelab(start...); r.code != 7 || !strings.Contains(r.err, "Cannot connect") {
		t.Errorf("without an engine: %d\n%s", r.code, r.err)
	}
}

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/e2e/cluster"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
)

// A deployer is one deployment as the engine sees it: what is rendered is
// written down here instead of coming from files.
type deployer struct {
	t     *testing.T
	s     *cluster.Space
	c     *kube.Cluster
	scope apply.Scope

	mu     sync.Mutex
	writes []string // requests that change something
}

func newDeployer(t *testing.T) *deployer {
	t.Helper()
	s := shared.Space(t)
	return deploy(t, s, s.Name, "laconic-"+s.Name)
}

// deploy is a deployment with that id in a namespace.
func deploy(t *testing.T, s *cluster.Space, namespace, id string) *deployer {
	t.Helper()
	d := &deployer{t: t, s: s, scope: apply.Scope{
		Dir: "/srv/" + namespace + "/" + id, ID: id, Namespace: namespace, Stack: "acme", Rules: file.V2,
	}}
	var err error
	d.c, err = kube.Connect(kube.Options{
		Kubeconfig: []string{shared.Kubeconfig()}, Explicit: true,
		Log: func(format string, args ...any) {
			line := fmt.Sprintf(format, args...)
			verb, _, _ := strings.Cut(line, " ")
			if slices.Contains([]string{"apply", "create", "update", "patch", "delete"}, verb) && !strings.Contains(line, "dryRun=All") {
				d.mu.Lock()
				d.writes = append(d.writes, line)
				d.mu.Unlock()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.c.Close()
		for _, name := range []string{"data", "db", "log"} {
			_, _ = s.C.Admin.Do(context.Background(), http.MethodDelete, "/api/v1/persistentvolumes/"+id+"-"+name, "", nil)
		}
	})
	return d
}

func (d *deployer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.writes)
	d.writes = nil
	return n
}

// object makes an object of the deployment.
func (d *deployer) object(kind, name, rest string) *unstructured.Unstructured {
	d.t.Helper()
	version := map[string]string{"Deployment": "apps/v1", "Job": "batch/v1", "Ingress": "networking.k8s.io/v1"}[kind]
	if version == "" {
		version = "v1"
	}
	text := fmt.Sprintf(`{"apiVersion": %q, "kind": %q, "metadata": {"name": %q, "labels": {"app": %q, "app.kubernetes.io/stack": "acme"}}, %s}`,
		version, kind, name, d.scope.ID, rest)
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &o.Object); err != nil {
		d.t.Fatalf("%v: %s", err, text)
	}
	if kind == "PersistentVolume" || kind == "PersistentVolumeClaim" {
		l := o.GetLabels()
		l["volume-label"] = name
		o.SetLabels(l)
	}
	return o
}

// volume is a claim and the volume with its path.
func (d *deployer) volume(name, path string) []*unstructured.Unstructured {
	full := d.scope.ID + "-" + name
	return []*unstructured.Unstructured{
		d.object("PersistentVolume", full, `"spec": {"storageClassName": "manual", "accessModes": ["ReadWriteOnce"],
			"capacity": {"storage": "1Gi"}, "hostPath": {"path": "`+path+`"}, "persistentVolumeReclaimPolicy": "Retain"}`),
		d.object("PersistentVolumeClaim", full, `"spec": {"storageClassName": "manual", "accessModes": ["ReadWriteOnce"],
			"volumeName": "`+full+`", "resources": {"requests": {"storage": "1Gi"}}}`),
	}
}

// workload is a Deployment with one container that mounts the claims.
func (d *deployer) workload(name, image, selector string, claims ...string) *unstructured.Unstructured {
	var volumes, mounts []string
	for _, c := range claims {
		volumes = append(volumes, `{"name": "`+c+`", "persistentVolumeClaim": {"claimName": "`+d.scope.ID+"-"+c+`"}}`)
		mounts = append(mounts, `{"name": "`+c+`", "mountPath": "/`+c+`"}`)
	}
	labels := `{"app": "` + d.scope.ID + `"` + selector + `}`
	return d.object("Deployment", d.scope.ID+"-"+name, `"spec": {"replicas": 1, "strategy": {"type": "Recreate"},
		"selector": {"matchLabels": `+labels+`}, "template": {"metadata": {"labels": `+labels+`}, "spec": {
		"terminationGracePeriodSeconds": 1,
		"containers": [{"name": "web", "image": "`+image+`", "ports": [{"containerPort": 80}],
			"resources": {"requests": {"cpu": "0.1", "memory": "64M"}}, "securityContext": {"privileged": false},
			"env": [{"name": "A", "value": "b"}], "volumeMounts": [`+strings.Join(mounts, ",")+`]}],
		"volumes": [`+strings.Join(volumes, ",")+`]}}}`)
}

func (d *deployer) service(name, rest string) *unstructured.Unstructured {
	return d.object("Service", name, `"spec": {`+rest+`}`)
}

// usual is a stack with a bit of everything.
func (d *deployer) usual(image string) []*unstructured.Unstructured {
	id := d.scope.ID
	return append(d.volume("data", "/mnt/"+id+"/data"),
		d.object("ConfigMap", id+"-config", `"data": {"a.conf": "one"}`),
		d.object("Secret", id+"-registry", `"type": "Opaque", "stringData": {"token": "s3cret"}`),
		d.service(id+"-service", `"selector": {"app": "`+id+`"}, "ports": [{"name": "port-80", "port": 80, "targetPort": 80}]`),
		d.workload("deployment", image, "", "data"),
		d.object("Job", id+"-job-init", `"spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": "`+id+`-job"}}, "spec": {
			"restartPolicy": "Never", "containers": [{"name": "init", "image": "acme/init:1-ok"}]}}}`),
		d.object("Ingress", id+"-ingress", `"spec": {"rules": [{"host": "`+id+`.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix",
			"backend": {"service": {"name": "`+id+`-service", "port": {"number": 80}}}}]}}]}`),
	)
}

// plan reads, guards and compares.
func (d *deployer) plan(objects ...*unstructured.Unstructured) *apply.Plan {
	d.t.Helper()
	p, err := d.tryPlan(objects...)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

func (d *deployer) tryPlan(objects ...*unstructured.Unstructured) (*apply.Plan, error) {
	want := apply.Desired{Objects: objects}
	live, err := apply.Read(d.t.Context(), d.c, d.scope)
	if err != nil {
		return nil, err
	}
	if err := live.Complete(d.t.Context(), d.c, d.scope, want); err != nil {
		return nil, err
	}
	conflicts, _ := apply.Guard(live, want, d.scope)
	if err := apply.Refusal(conflicts); err != nil {
		return nil, err
	}
	return apply.Diff(d.t.Context(), d.c, live, want, d.scope)
}

// run brings the objects in, and says what was planned.
func (d *deployer) run(objects ...*unstructured.Unstructured) *apply.Plan {
	d.t.Helper()
	p, err := d.tryRun(nil, objects...)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// tryRun is run that may be stopped by step.
func (d *deployer) tryRun(step func(apply.Step) error, objects ...*unstructured.Unstructured) (*apply.Plan, error) {
	p, err := d.tryPlan(objects...)
	if err != nil || p.Writes() == 0 {
		return p, err
	}
	ctx, cancel := context.WithTimeoutCause(d.t.Context(), time.Minute, fault.ErrTimeUp)
	defer cancel()
	o := apply.Options{Step: step}
	held, lease, err := apply.Hold(ctx, d.c, p, "tests:"+d.scope.Dir, o, nil)
	if err != nil {
		return p, err
	}
	if err := apply.Apply(held, d.c, p, o); err != nil {
		return p, err // as killed: the lease stays
	}
	if err := apply.Prune(held, d.c, p, o); err != nil {
		return p, err
	}
	return p, lease.Release(d.t.Context())
}

// unchanged checks that the objects are there and that nothing more is written.
func (d *deployer) unchanged(objects ...*unstructured.Unstructured) {
	d.t.Helper()
	d.count()
	p := d.run(objects...)
	if n := d.count(); n != 0 || p.Writes() != 0 {
		d.t.Errorf("a second run writes %d times: %s", n, describe(p))
	}
}

func describe(p *apply.Plan) string {
	b, err := json.MarshalIndent(p, "", " ")
	return fmt.Sprintf("%s %v", b, err)
}

func (d *deployer) stop(o apply.DeleteOptions) *apply.Plan {
	d.t.Helper()
	p, err := d.tryStop(o)
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

func (d *deployer) tryStop(o apply.DeleteOptions) (*apply.Plan, error) {
	live, err := apply.Read(d.t.Context(), d.c, d.scope)
	if err != nil {
		return nil, err
	}
	p, conflicts := apply.DeletePlan(live, d.scope, o)
	if err := apply.Refusal(conflicts); err != nil {
		return p, err
	}
	ctx, cancel := context.WithTimeoutCause(d.t.Context(), 90*time.Second, fault.ErrTimeUp)
	defer cancel()
	return p, apply.Delete(ctx, d.c, p, apply.Options{})
}

// legacy writes objects as a client that knows only create does.
func (d *deployer) legacy(objects ...*unstructured.Unstructured) {
	d.t.Helper()
	for _, o := range objects {
		b, err := json.Marshal(o)
		if err != nil {
			d.t.Fatal(err)
		}
		path := d.s.Path(strings.ToLower(o.GetKind())+map[bool]string{true: "es", false: "s"}[o.GetKind() == "Ingress"], "")
		if _, err := d.s.C.Admin.Do(d.t.Context(), http.MethodPost, path+"?fieldManager="+apply.Legacy, "application/json", b); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *deployer) up(name string) {
	d.t.Helper()
	d.s.Complete("deployments", d.scope.ID+"-"+name)
}

func names(changes []apply.Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, c.Ref.String())
	}
	return out
}

func kindOf(err error) fault.Kind { return fault.KindOf(err) }

func TestStackStartsAndIsThenUnchanged(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	d.scope.Namespace += "-own" // not there yet
	t.Cleanup(func() {
		_, _ = d.s.C.Admin.Do(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+d.scope.Namespace, "", nil)
	})
	objects := d.usual("acme/web:1-ok")
	p := d.run(objects...)
	if len(p.Create) != len(objects)+1 || len(p.Update)+len(p.Replace)+len(p.Delete) != 0 {
		t.Errorf("the plan: %s", describe(p))
	}
	if n := d.count(); n != len(objects)+1+2 { // the lease is made and deleted
		t.Errorf("%d writes for %d objects", n, len(objects))
	}
	ns := d.s.Get("namespaces", d.scope.Namespace)
	if ns.Str("metadata", "annotations", apply.AnnotationDir) != d.scope.Dir || ns.Str("metadata", "annotations", apply.AnnotationID) != d.scope.ID {
		t.Errorf("the namespace does not say whose it is: %v", ns.At("metadata"))
	}
	d.unchanged(objects...)

	// Drift is found and undone, and named.
	own := *d.s
	own.Name = d.scope.Namespace
	own.Patch("configmaps", d.scope.ID+"-config", `{"data": {"a.conf": "two"}}`)
	p = d.run(objects...)
	if got := names(p.Update); !slices.Equal(got, []string{"ConfigMap " + d.scope.ID + "-config"}) {
		t.Errorf("updates %v", got)
	}
	if f := p.Update[0].Fields; len(f) != 1 || f[0].Path != "data[a.conf]" || f[0].From != "two" || f[0].To != "one" {
		t.Errorf("fields %+v", f)
	}
	d.unchanged(objects...)
}

func TestStackTakesOverWhatAnotherClientMade(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	d.scope.Rules = file.V1
	id := d.scope.ID
	old := d.usual("acme/web:1-ok")
	// What is no longer rendered: a field, a port, a label, an object.
	service := old[4].DeepCopy()
	ports := `[{"name": "port-80", "port": 80, "targetPort": 80}, {"name": "port-81", "port": 81, "targetPort": 81}]`
	var two []any
	if err := json.Unmarshal([]byte(ports), &two); err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedSlice(service.Object, two, "spec", "ports"); err != nil {
		t.Fatal(err)
	}
	config := old[2].DeepCopy()
	if err := unstructured.SetNestedField(config.Object, "gone", "data", "old.conf"); err != nil {
		t.Fatal(err)
	}
	written := slices.Clone(old)
	written[4], written[2] = service, config
	stale := d.object("ConfigMap", id+"-stale", `"data": {"x": "y"}`)
	hook := d.object("ConfigMap", "made-by-a-hook", `"data": {"x": "y"}`)
	d.legacy(append(written, stale, hook)...)
	d.up("deployment")
	uid := map[string]string{}
	for r, n := range map[string]string{"persistentvolumes": id + "-data", "persistentvolumeclaims": id + "-data", "deployments": id + "-deployment", "services": id + "-service"} {
		uid[r] = d.s.Get(r, n).UID()
	}
	pods := d.s.List("pods", "app="+id)

	p := d.run(old...)
	t.Logf("plan: %s", describe(p))
	if len(p.Create)+len(p.Replace) != 0 {
		t.Errorf("a take-over makes something: %s", describe(p))
	}
	for r, u := range uid {
		name := id + "-data"
		if r == "deployments" {
			name = id + "-deployment"
		} else if r == "services" {
			name = id + "-service"
		}
		if got := d.s.Get(r, name).UID(); got != u {
			t.Errorf("%s %s was made anew", r, name)
		}
	}
	if n := len(d.s.Get("services", id+"-service").List("spec", "ports")); n != 1 {
		t.Errorf("the port that is no longer rendered stayed: %d ports", n)
	}
	if d.s.Get("configmaps", id+"-config").At("data", "old.conf") != nil {
		t.Error("the key that is no longer rendered stayed")
	}
	for _, c := range p.Update {
		for _, f := range c.Fields {
			if !strings.HasPrefix(f.Path, "metadata.") && f.Path != "spec.ports[port-81].port" && !strings.HasPrefix(f.Path, "spec.ports[") && f.Path != "data[old.conf]" {
				t.Errorf("%s: the plan says that %s changes from %q to %q", c.Ref, f.Path, f.From, f.To)
			}
		}
	}
	if got := names(p.Delete); !slices.Equal(got, []string{"ConfigMap " + id + "-stale"}) {
		t.Errorf("deleted %v", got)
	}
	if len(p.Kept) != 1 || p.Kept[0].Name != "made-by-a-hook" {
		t.Errorf("kept %v", p.Kept)
	}
	d.unchanged(old...)
	if sets := d.s.List("replicasets", "app="+id); len(sets) != 1 {
		t.Errorf("%d ReplicaSets", len(sets))
	}
	if now := d.s.List("pods", "app="+id); len(now) != len(pods) || now[0].UID() != pods[0].UID() {
		t.Error("the pod was restarted")
	}
	// An unmarked object that comes later is somebody's own, whatever its name.
	d.legacy(d.object("ConfigMap", id+"-later", `"data": {"x": "y"}`))
	if p := d.plan(old...); p.Writes() != 0 || len(p.Kept) != 2 {
		t.Errorf("after the first prune: %s, kept %v", describe(p), p.Kept)
	}
}

func TestStackStopsAndStartsWithItsData(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	id := d.scope.ID
	objects := d.usual("acme/web:1-ok")
	d.run(objects...)
	d.up("deployment")
	claim := d.s.Get("persistentvolumeclaims", id+"-data").UID()
	volume := d.s.Get("persistentvolumes", id+"-data").UID()
	d.s.Create(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "` + id + `-generated-secrets"}}`)

	p := d.stop(apply.DeleteOptions{})
	if len(p.Fates) != 1 || p.Fates[0].Deleted || p.Fates[0].Path != "/mnt/"+id+"/data" || p.Fates[0].Volume != "data" {
		t.Errorf("fates %+v", p.Fates)
	}
	if left := d.s.List("pods", ""); len(left) != 0 {
		t.Errorf("%d pods are left", len(left))
	}
	for _, r := range []string{"deployments", "jobs", "services", "configmaps", "secrets", "ingresses"} {
		if left := d.s.List(r, "app="+id); len(left) != 0 {
			t.Errorf("%d %s are left", len(left), r)
		}
	}
	d.run(objects...)
	d.up("deployment")
	if got := d.s.Get("persistentvolumeclaims", id+"-data").UID(); got != claim {
		t.Error("the claim was made anew")
	}
	if _, err := d.s.TryGet("secrets", id+"-generated-secrets"); err != nil {
		t.Error(err)
	}
	d.unchanged(objects...)

	// The claim goes and the volume is kept, as when a namespace was deleted.
	d.stop(apply.DeleteOptions{})
	d.s.Delete("persistentvolumeclaims", id+"-data")
	d.s.Until("persistentvolumes", id+"-data", "to be released", func(o cluster.Object) bool { return o.Str("status", "phase") == "Released" })
	var lines []string
	if _, err := d.tryRun(func(s apply.Step) error { lines = append(lines, s.Line); return nil }, objects...); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(lines, "PV "+id+"-data is Released, clearing claimRef for rebinding") {
		t.Errorf("lines %q", lines)
	}
	d.up("deployment")
	if got := d.s.Get("persistentvolumes", id+"-data"); got.UID() != volume || got.Str("status", "phase") != "Bound" {
		t.Errorf("the volume is not the old one, bound: %v", got.At("status"))
	}
	d.unchanged(objects...)

	// With the volumes, nothing of it is left; a second stop has nothing to do.
	d.stop(apply.DeleteOptions{Volumes: true})
	if _, err := d.s.TryGet("persistentvolumes", id+"-data"); cluster.Code(err) != http.StatusNotFound {
		t.Errorf("the volume: %v", err)
	}
	if _, err := d.s.TryGet("secrets", id+"-generated-secrets"); cluster.Code(err) != http.StatusNotFound {
		t.Errorf("the generated secrets: %v", err)
	}
	d.count()
	if p := d.stop(apply.DeleteOptions{Volumes: true}); d.count() != 0 || len(p.Delete) != 0 {
		t.Errorf("a second stop: %s", describe(p))
	}
}

func TestStackLeavesASiblingsVolumesAlone(t *testing.T) {
	t.Parallel()
	// Two deployments of one stack, and both of one id, as old ones are.
	s, s2 := shared.Space(t), shared.Space(t)
	id := "laconic-" + s.Name
	a, b := deploy(t, s, s.Name, id), deploy(t, s2, s2.Name, id)
	c := deploy(t, s2, s2.Name, id+"-c") // another id, the same stack
	a.run(append(a.volume("data", "/mnt/"+id+"/a"), a.workload("deployment", "acme/web:1-ok", "", "data"))...)
	b.run(append(b.volume("db", "/mnt/"+id+"/b"), b.workload("deployment", "acme/web:1-ok", "", "db"))...)
	a.up("deployment")
	b.up("deployment")
	b.stop(apply.DeleteOptions{})
	b.s.Delete("persistentvolumeclaims", id+"-db")

	p := a.stop(apply.DeleteOptions{Volumes: true})
	if len(p.Fates) != 1 || p.Fates[0].PV != id+"-data" {
		t.Errorf("fates %+v", p.Fates)
	}
	if _, err := s.TryGet("persistentvolumes", id+"-data"); cluster.Code(err) != http.StatusNotFound {
		t.Errorf("its own: %v", err)
	}
	if got := s.Get("persistentvolumes", id+"-db"); got.At("metadata", "deletionTimestamp") != nil {
		t.Error("the sibling's volume is being deleted")
	}

	// Nobody gets what another has: neither its name nor its place.
	s.Until("persistentvolumes", id+"-db", "to be released", func(o cluster.Object) bool { return o.Str("status", "phase") == "Released" })
	if _, err := a.tryPlan(a.volume("db", "/mnt/"+id+"/b")...); kindOf(err) != fault.Conflict {
		t.Errorf("the sibling's volume of that name: %v", err)
	}
	c.scope.Dir = b.scope.Dir
	if _, err := c.tryPlan(c.volume("log", "/mnt/"+id+"/b/below")...); err != nil {
		t.Errorf("a volume that was released in its own namespace is its own: %v", err)
	}
	if _, err := a.tryPlan(a.volume("log", "/mnt/"+id+"/b/below")...); kindOf(err) != fault.Conflict || !strings.Contains(err.Error(), id+"-db") {
		t.Errorf("a directory in the sibling's: %v", err)
	}
}

func TestStackRenamesWithoutTwoWriters(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	id := d.scope.ID
	shared := d.volume("data", "/mnt/"+id+"/data")
	before := append(slices.Clone(shared), d.workload("deployment", "acme/web:1-slow-term", "", "data"))
	d.run(before...)
	d.up("deployment")
	pods := d.s.Record("pods")
	// Two pod files now, and other names.
	after := append(slices.Clone(shared),
		d.workload("app-deployment", "acme/web:1-ok", `, "app.kubernetes.io/component": "app"`, "data"),
		d.workload("side-deployment", "acme/side:1-ok", `, "app.kubernetes.io/component": "side"`))
	p := d.run(after...)
	d.up("app-deployment")
	if got := names(p.Delete); !slices.Equal(got, []string{"Deployment " + id + "-deployment"}) {
		t.Errorf("deleted %v", got)
	}
	// Never two pods with the claim at once.
	live := map[string]bool{}
	for _, e := range pods.Events() {
		mounts := false
		for _, v := range e.Object.List("spec", "volumes") {
			mounts = mounts || v.Str("persistentVolumeClaim", "claimName") == id+"-data"
		}
		if !mounts {
			continue
		}
		live[e.Object.UID()] = e.Type != "DELETED"
		n := 0
		for _, l := range live {
			if l {
				n++
			}
		}
		if n > 1 {
			t.Fatalf("two pods have the data at once: %v", live)
		}
	}
	d.unchanged(after...)

	// Something that leaves without an heir goes after the others are there.
	p = d.run(after[:3]...)
	if got := names(p.Delete); !slices.Equal(got, []string{"Deployment " + id + "-side-deployment"}) {
		t.Errorf("deleted %v", got)
	}
}

func TestStackNamespaceHasOneOwner(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	config := d.object("ConfigMap", d.scope.ID+"-config", `"data": {"a": "b"}`)
	d.run(config)
	other := deploy(t, d.s, d.scope.Namespace, d.scope.ID+"x")
	_, err := other.tryPlan(config)
	if kindOf(err) != fault.Conflict || !strings.Contains(err.Error(), d.scope.Dir) || !strings.Contains(err.Error(), other.scope.Dir) {
		t.Errorf("another directory: %v", err)
	}
	if _, err := other.tryStop(apply.DeleteOptions{}); kindOf(err) != fault.Conflict {
		t.Errorf("stop from another directory: %v", err)
	}
	if n := other.count(); n != 0 {
		t.Errorf("%d writes", n)
	}
	if _, err := d.tryStop(apply.DeleteOptions{Namespace: true}); kindOf(err) != fault.Conflict {
		t.Errorf("deleting a namespace that was only adopted: %v", err)
	}
	moved := deploy(t, d.s, d.scope.Namespace, d.scope.ID)
	moved.scope.Dir = "/srv/elsewhere"
	moved.scope.AdoptNamespace = true
	moved.run(config)
	if _, err := d.tryPlan(config); kindOf(err) != fault.Conflict {
		t.Errorf("the old directory after the move: %v", err)
	}
}

func TestStackDeletesTheNamespaceItMade(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	d.scope.Namespace += "-own"
	own := *d.s
	own.Name = d.scope.Namespace
	d.run(append(d.volume("data", "/mnt/"+d.scope.ID), d.workload("deployment", "acme/web:1-ok", "", "data"))...)
	own.Complete("deployments", d.scope.ID+"-deployment")
	own.Create(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "` + d.scope.ID + `-generated-secrets"}}`)
	if _, err := d.tryStop(apply.DeleteOptions{Namespace: true}); kindOf(err) != fault.Conflict {
		t.Errorf("generated secrets would be lost: %v", err)
	}
	own.Delete("secrets", d.scope.ID+"-generated-secrets")
	d.stop(apply.DeleteOptions{Namespace: true})
	if _, err := d.s.TryGet("namespaces", d.scope.Namespace); cluster.Code(err) != http.StatusNotFound {
		t.Errorf("the namespace: %v", err)
	}
	if got := d.s.Get("persistentvolumes", d.scope.ID+"-data"); got.At("metadata", "deletionTimestamp") != nil {
		t.Error("the volume went with the namespace")
	}
	// The volume is taken away also when the namespace is gone.
	if p := d.stop(apply.DeleteOptions{Volumes: true}); len(p.Delete) != 1 {
		t.Errorf("%s", describe(p))
	}
}

func TestStackNamesWhatItTakesFromOthers(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	id := d.scope.ID
	web := d.workload("deployment", "acme/web:1-ok", "")
	d.run(web)
	body := `{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "acme/web:2-ok"}]}}}}`
	if _, err := d.s.C.Admin.Do(t.Context(), http.MethodPatch, d.s.Path("deployments", id+"-deployment")+"?fieldManager=keel",
		cluster.StrategicPatch, []byte(body)); err != nil {
		t.Fatal(err)
	}
	p := d.run(web)
	want := apply.Taken{Path: "spec.template.spec.containers[web].image", Value: "acme/web:2-ok", Manager: "keel"}
	if len(p.Update) != 1 || !slices.Contains(p.Update[0].Taken, want) {
		t.Errorf("%s", describe(p))
	}
	d.unchanged(web)

	// Under an autoscaler the number of pods is not ours.
	d.s.Create(`{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": {"maxReplicas": 5,
		"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "` + id + `-deployment"}}}`)
	d.run(web)
	if n := d.s.Get("deployments", id+"-deployment").Int("spec", "replicas"); n != 1 {
		t.Errorf("%d replicas before the autoscaler has acted", n)
	}
	if _, err := d.s.C.Admin.Do(t.Context(), http.MethodPatch, d.s.Path("deployments", id+"-deployment")+"/scale?fieldManager=autoscaler",
		cluster.MergePatch, []byte(`{"spec": {"replicas": 3}}`)); err != nil {
		t.Fatal(err)
	}
	d.run(web)
	d.unchanged(web)
	if n := d.s.Get("deployments", id+"-deployment").Int("spec", "replicas"); n != 3 {
		t.Errorf("%d replicas, and the autoscaler said 3", n)
	}
}

func TestStackReplacesWhatCannotChange(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	id := d.scope.ID
	web := d.workload("deployment", "acme/web:1-ok", "", "data")
	objects := func(service, secret string, path string) []*unstructured.Unstructured {
		return append(d.volume("data", path), web, d.service("db", service),
			d.object("Secret", id+"-registry", `"type": "`+secret+`", "stringData": {".dockerconfigjson": "{}"}`))
	}
	d.run(objects(`"type": "ExternalName", "externalName": "db.example.com"`, "Opaque", "/mnt/"+id+"/a")...)
	d.up("deployment")
	second := objects(`"ports": [{"port": 5432}], "clusterIP": "None"`, "kubernetes.io/dockerconfigjson", "/mnt/"+id+"/a")
	p := d.run(second...)
	if got := names(p.Replace); !slices.Equal(got, []string{"Secret " + id + "-registry", "Service db"}) {
		t.Errorf("replaced %v", got)
	}
	if strings.Contains(describe(p), "e30=") {
		t.Errorf("the plan shows a secret: %s", describe(p))
	}
	d.unchanged(second...)

	// A volume that moves is refused, and made anew when that was accepted.
	third := objects(`"ports": [{"port": 5432}], "clusterIP": "None"`, "kubernetes.io/dockerconfigjson", "/mnt/"+id+"/b")
	if _, err := d.tryPlan(third...); kindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "/mnt/"+id+"/a") {
		t.Errorf("a moved volume: %v", err)
	}
	d.scope.AcceptVolumes = []string{"data"}
	d.run(third...)
	d.up("deployment")
	d.scope.AcceptVolumes = nil
	if got := d.s.Get("persistentvolumes", id+"-data").Str("spec", "hostPath", "path"); got != "/mnt/"+id+"/b" {
		t.Errorf("the volume is at %s", got)
	}
	d.unchanged(third...)

	// A selector cannot change at all.
	other := d.workload("deployment", "acme/web:1-ok", `, "app.kubernetes.io/component": "web"`)
	if _, err := d.tryPlan(other); kindOf(err) != fault.Conflict {
		t.Errorf("another selector: %v", err)
	}
}

var errKilled = errors.New("killed")

// A run that dies before any of its writes is finished by the next.
func TestStackSurvivesAKillAtEveryWrite(t *testing.T) {
	t.Parallel()
	const most = 18
	ended := make([]bool, most)
	t.Run("at", func(t *testing.T) {
		for n := range most {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				d := newDeployer(t)
				id := d.scope.ID
				old := append(d.volume("data", "/mnt/"+id+"/data"),
					d.workload("deployment", "acme/web:1-ok", "", "data"),
					d.service("db", `"type": "ExternalName", "externalName": "db.example.com"`),
					d.object("ConfigMap", id+"-stale", `"data": {"x": "y"}`))
				d.legacy(old...)
				d.up("deployment")
				claim := d.s.Get("persistentvolumeclaims", id+"-data").UID()
				objects := append(d.volume("data", "/mnt/"+id+"/data"),
					d.object("ConfigMap", id+"-config", `"data": {"a": "b"}`),
					d.service("db", `"ports": [{"port": 5432}]`),
					d.workload("app-deployment", "acme/web:1-ok", `, "app.kubernetes.io/component": "app"`, "data"))
				i := 0
				_, err := d.tryRun(func(apply.Step) error {
					if i++; i > n {
						return errKilled
					}
					return nil
				}, objects...)
				ended[n] = err == nil
				if err != nil && !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				d.run(objects...)
				d.unchanged(objects...)
				d.up("app-deployment")
				if got := d.s.Get("persistentvolumeclaims", id+"-data").UID(); got != claim {
					t.Error("the claim was made anew")
				}
				for r, name := range map[string]string{"deployments": id + "-deployment", "configmaps": id + "-stale"} {
					if _, err := d.s.TryGet(r, name); cluster.Code(err) != http.StatusNotFound {
						t.Errorf("%s %s: %v", r, name, err)
					}
				}
			})
		}
	})
	if !ended[most-1] || ended[most/2] {
		t.Errorf("the kills did not cover the run: %v", ended)
	}
}

func TestStackRunsWaitForEachOther(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	config := d.object("ConfigMap", d.scope.ID+"-config", `"data": {"a": "b"}`)
	p := d.plan(config)
	_, lease, err := apply.Hold(t.Context(), d.c, p, "one", apply.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, fault.ErrTimeUp)
	defer cancel()
	told := ""
	_, _, err = apply.Hold(ctx, d.c, p, "two", apply.Options{}, func(h string) { told = h })
	if kindOf(err) != fault.Timeout || !strings.Contains(err.Error(), "one") || told != "one" {
		t.Errorf("a second run: %v, told %q", err, told)
	}
	if _, again, err := apply.Hold(t.Context(), d.c, p, "one", apply.Options{}, nil); err != nil || again.Waited() {
		t.Errorf("the same run after a kill: %v", err)
	} else if err := again.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Error(err)
	}
	_, third, err := apply.Hold(t.Context(), d.c, p, "two", apply.Options{}, nil)
	if err != nil || third.Waited() {
		t.Fatalf("after the release: %v", err)
	}
	if err := third.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStackStopNamesWhatHoldsIt(t *testing.T) {
	t.Parallel()
	d := newDeployer(t)
	config := d.object("ConfigMap", d.scope.ID+"-config", `"data": {"a": "b"}`)
	d.run(config)
	d.s.Patch("configmaps", d.scope.ID+"-config", `{"metadata": {"finalizers": ["example.com/hold"]}}`)
	live, err := apply.Read(t.Context(), d.c, d.scope)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := apply.DeletePlan(live, d.scope, apply.DeleteOptions{})
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, fault.ErrTimeUp)
	defer cancel()
	err = apply.Delete(ctx, d.c, p, apply.Options{})
	if kindOf(err) != fault.Timeout || !strings.Contains(err.Error(), "example.com/hold") {
		t.Errorf("%v", err)
	}
	d.s.Patch("configmaps", d.scope.ID+"-config", `{"metadata": {"finalizers": null}}`)
}

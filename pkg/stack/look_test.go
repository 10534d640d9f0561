package stack

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/stack/kind"
	"homelab/pkg/stack/render"
)

func TestDecodePod(t *testing.T) {
	for _, r := range []struct {
		name, status, want string
	}{
		{"nothing known", `{}`, " - web:waiting"},
		{"running", `{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"web","ready":true,"restartCount":2,"state":{"running":{}}}]}`, "Running - ready web:running begun"},
		{"crash loop", `{"phase":"Running","containerStatuses":[{"name":"web","restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":1}}}]}`, "Running CrashLoopBackOff web:waiting begun over"},
		{"ended", `{"phase":"Succeeded","containerStatuses":[{"name":"web","state":{"terminated":{"exitCode":0,"reason":"Completed"}}}]}`, "Succeeded Completed web:terminated begun over"},
		{"evicted", `{"phase":"Failed","reason":"Evicted"}`, "Failed Evicted web:waiting over"},
		{"unschedulable", `{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable"}]}`, "Pending Unschedulable web:waiting"},
	} {
		p, err := decodePod([]byte(`{"metadata":{"name":"p","ownerReferences":[{"kind":"Job","name":"j"}]},"spec":{"containers":[{"name":"web","ports":[{"containerPort":80}]}]},"status":` + r.status + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got := p.Phase + " " + p.Reason
		if p.Reason == "" {
			got += "-"
		}
		if p.Ready {
			got += " ready"
		}
		c := p.Containers[0]
		got += " web:" + c.State
		if c.begun {
			got += " begun"
		}
		if c.over {
			got += " over"
		}
		if got != r.want || p.job != "j" || !slices.Equal(p.Ports(), []string{":80->80"}) {
			t.Errorf("%s: %q, not %q (%s, %v)", r.name, got, r.want, p.job, p.Ports())
		}
	}
}

func TestPodFor(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	pod := func(name, hash string, age time.Duration, ready bool) Pod {
		return Pod{
			Name: name, Phase: "Running", Ready: ready, hash: hash, created: at.Add(-age),
			Containers: []PodContainer{{Name: "web", State: "running"}, {Name: "side", State: "waiting"}},
		}
	}
	current := map[string]string{"new": "current", "was": "old"}
	leaving := pod("leaving", "new", time.Second, true)
	leaving.Terminating = true
	job := pod("job", "", time.Second, false)
	job.job = "shop-1-job-init"
	for _, r := range []struct {
		name    string
		pods    []Pod
		service string
		pod     string
		current map[string]string
		want    string
		kind    fault.Kind
	}{
		{"the one", []Pod{pod("a", "new", 0, true)}, "web", "", current, "a", ""},
		{"the youngest", []Pod{pod("a", "new", time.Hour, true), pod("b", "new", time.Minute, true)}, "web", "", current, "b", ""},
		{"of the current revision", []Pod{pod("a", "was", 0, true), pod("b", "new", time.Hour, true)}, "web", "", current, "b", ""},
		{"only an older revision is ready", []Pod{pod("a", "was", 0, true), pod("b", "new", 0, false)}, "web", "", current, "", fault.Absent},
		{"revisions may not be read", []Pod{pod("a", "was", 0, true)}, "web", "", nil, "a", ""},
		{"not ready", []Pod{pod("a", "new", 0, false)}, "web", "", current, "", fault.Absent},
		{"being deleted", []Pod{leaving}, "web", "", current, "", fault.Absent},
		{"the container does not run", []Pod{pod("a", "new", 0, true)}, "side", "", current, "", fault.Absent},
		{"no such container", []Pod{pod("a", "new", 0, true)}, "db", "", current, "", fault.Absent},
		{"a job's pod is never ready", []Pod{job}, "web", "", current, "job", ""},
		{"a service before a job", []Pod{job, pod("a", "new", time.Hour, true)}, "web", "", current, "a", ""},
		{"by name, ready or not", []Pod{pod("a", "was", 0, false)}, "web", "a", nil, "a", ""},
		{"no pod of that name", []Pod{pod("a", "new", 0, true)}, "web", "b", nil, "", fault.Absent},
		{"that pod has no such container", []Pod{pod("a", "new", 0, true)}, "db", "a", nil, "", fault.Usage},
	} {
		got, err := podFor(r.pods, r.service, r.pod, r.current, "shop")
		if got.Name != r.want || r.kind != "" && fault.KindOf(err) != r.kind || r.kind == "" && err != nil {
			t.Errorf("%s: %q, %v", r.name, got.Name, err)
		}
	}
}

func TestTemplateRevisions(t *testing.T) {
	var sets []kube.Object
	for _, s := range []struct{ owner, hash, number string }{{"d", "a", "1"}, {"d", "b", "12"}, {"d", "c", "9"}, {"e", "x", "3"}, {"e", "y", ""}} {
		raw := fmt.Sprintf(`{"metadata":{"name":%q,"labels":{"pod-template-hash":%q},"annotations":{"deployment.kubernetes.io/revision":%q},"ownerReferences":[{"kind":"Deployment","uid":%q}]}}`,
			s.hash, s.hash, s.number, s.owner)
		sets = append(sets, kube.Object{Name: s.hash, Raw: json.RawMessage(raw)})
	}
	got, err := templateRevisions(sets)
	if want := map[string]string{"a": "old", "b": "current", "c": "old", "x": "current"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestJobOf(t *testing.T) {
	for job, want := range map[string]bool{
		"s-job-init": true, "s-job-init-1700000000": true, "s-job-init-data": false, "s-job-init-": false, "s-job-init2": false, "s-job-ini": false, "": false,
	} {
		if jobOf(job, "s-job-init") != want {
			t.Errorf("%q: not %t", job, want)
		}
	}
}

func TestArgv(t *testing.T) {
	if got := argv([]string{"echo a; echo b"}); !slices.Equal(got, []string{"sh", "-c", "echo a; echo b"}) {
		t.Errorf("%q", got)
	}
	if got := argv([]string{"ls", "-l"}); !slices.Equal(got, []string{"ls", "-l"}) {
		t.Errorf("%q", got)
	}
}

func pvAt(name, at string, f func(*corev1.PersistentVolume)) corev1.PersistentVolume {
	pv := corev1.PersistentVolume{}
	pv.Name, pv.Labels = name, map[string]string{"app": "s-1", "volume-label": name}
	pv.Status.Phase = corev1.VolumeBound
	if at != "" {
		pv.Spec.HostPath = &corev1.HostPathVolumeSource{Path: at}
	}
	pv.Spec.StorageClassName = "manual"
	if f != nil {
		f(&pv)
	}
	return pv
}

// Where data really is: what the spec says counts for nothing.
func TestWhereVolumesAre(t *testing.T) {
	node := func(mounts ...kind.Mount) []kind.Node {
		return []kind.Node{{Name: "k-control-plane", Role: "control-plane", Running: true, Mounts: mounts}}
	}
	local := func(pv *corev1.PersistentVolume) {
		pv.Spec.StorageClassName = "standard"
		pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: corev1.NodeSelectorOpIn, Values: []string{"k-worker"}}},
		}}}}
	}
	for _, r := range []struct {
		name     string
		kind     bool
		nodes    []kind.Node
		pv       corev1.PersistentVolume
		place    string
		survives Survival
		local    bool
	}{
		{"below the umbrella", true, node(kind.Mount{Source: "/srv/kind", Destination: "/mnt"}), pvAt("s-1-data", "/mnt/shop/data", nil), "/srv/kind/shop/data on this host", SurvivesCluster, false},
		{"its own mount wins", true, node(kind.Mount{Source: "/srv/kind", Destination: "/mnt"}, kind.Mount{Source: "/data", Destination: "/mnt/data"}), pvAt("s-1-data", "/mnt/data", nil), "/data on this host", SurvivesCluster, false},
		{"not mounted", true, node(kind.Mount{Source: "/srv/kind", Destination: "/mnt2"}), pvAt("s-1-data", "/mnt/data", nil), "inside the node k-control-plane: /mnt/data", SurvivesStop, true},
		{"made by the class", true, node(kind.Mount{Source: "/srv/kind", Destination: "/mnt"}), pvAt("pvc-1", "/var/local-path-provisioner/pvc-1", local), "inside the node k-worker: /var/local-path-provisioner/pvc-1", SurvivesStop, true},
		{"on nodes", false, nil, pvAt("s-1-data", "/srv/data", nil), "/srv/data on the nodes", SurvivesCluster, false},
		{"a class on nodes", false, nil, pvAt("pvc-1", "/opt/pvc-1", local), "/opt/pvc-1, made by the class standard", SurvivesClass, false},
		{"a class far away", false, nil, pvAt("pvc-1", "", func(pv *corev1.PersistentVolume) { pv.Spec.StorageClassName = "ceph" }), "where the class ceph keeps it", SurvivesClass, false},
	} {
		s := storage{id: "s-1", kind: r.kind, nodes: r.nodes, pvs: []corev1.PersistentVolume{r.pv}}
		v := s.view(nil, &s.pvs[0])
		if v.Place != r.place || v.Survives != r.survives || v.NodeLocal != r.local {
			t.Errorf("%s: %q, %q, %t", r.name, v.Place, v.Survives, v.NodeLocal)
		}
	}
	s := storage{id: "s-1", kind: true, unseen: "docker is not there", pvs: []corev1.PersistentVolume{pvAt("s-1-data", "/mnt/data", nil)}}
	if v := s.view(nil, &s.pvs[0]); v.Survives != SurvivesUnknown || !strings.HasPrefix(v.Place, "not known: ") {
		t.Errorf("without an engine: %+v", v)
	}
}

func TestVolumesOfADeployment(t *testing.T) {
	claim := func(ns, name, app, pv string) corev1.PersistentVolumeClaim {
		c := corev1.PersistentVolumeClaim{}
		c.Namespace, c.Name, c.Labels = ns, name, map[string]string{"app": app, "volume-label": name}
		c.Spec.VolumeName, c.Status.Phase = pv, corev1.ClaimBound
		return c
	}
	s := storage{
		id: "s-1", namespace: "shop", dir: "/d/shop", kind: true,
		nodes: []kind.Node{{Name: "k-control-plane", Mounts: []kind.Mount{{Source: "/srv/kind", Destination: "/mnt"}}}},
		spec: []render.Volume{
			{Name: "data", PVC: "s-1-data", PV: "s-1-data", Spec: "/srv/kind/data", HostPath: "/srv/kind/data", NodePath: "/mnt/data"},
			{Name: "cache", PVC: "s-1-cache"},
			{Name: "new", PVC: "s-1-new", PV: "s-1-new", Spec: "/srv/kind/new", HostPath: "/srv/kind/new", NodePath: "/mnt/new"},
			{Name: "moved", PVC: "s-1-moved", PV: "s-1-moved", Spec: "/srv/kind/b", HostPath: "/srv/kind/b", NodePath: "/mnt/b"},
		},
		claims: []corev1.PersistentVolumeClaim{
			claim("shop", "s-1-data", "s-1", "s-1-data"), claim("shop", "s-1-cache", "s-1", "pvc-1"), claim("shop", "s-1-moved", "s-1", "s-1-moved"),
			claim("shop", "s-1-lost", "s-1", "pvc-2"), claim("shop", "somebody", "x", ""), claim("blog", "s-2-db", "s-2", "s-2-db"),
		},
		pvs: []corev1.PersistentVolume{
			pvAt("s-1-data", "/mnt/data", nil), pvAt("pvc-1", "/var/pvc-1", nil), pvAt("pvc-2", "/var/pvc-2", nil), pvAt("s-1-moved", "/mnt/a", nil),
			pvAt("s-1-older", "/mnt/older", nil),
			pvAt("s-2-db", "/var/db", func(pv *corev1.PersistentVolume) { pv.Labels["app"] = "s-2" }),
		},
		owners: map[string]map[string]string{"shop": {"laconic.com/deployment-dir": "/d/shop"}, "blog": {"laconic.com/deployment-dir": "/d/blog"}},
	}
	for i := range s.pvs { // what a class makes carries no label of ours
		if strings.HasPrefix(s.pvs[i].Name, "pvc-") {
			s.pvs[i].Labels = nil
		}
	}
	tell := func(all []VolumeView) string {
		var out []string
		for _, v := range all {
			x := v.Owner + " " + v.Volume
			if v.NodeLocal {
				x += " local"
			}
			if v.Orphaned {
				x += " orphaned"
			}
			if v.Differs != "" {
				x += " differs"
			}
			out = append(out, x)
		}
		return strings.Join(out, "\n")
	}
	if got, want := tell(s.own()), "/d/shop data\n/d/shop cache local\n/d/shop new\n/d/shop moved differs\n/d/shop lost local orphaned\n/d/shop older orphaned"; got != want {
		t.Errorf("its own:\n%s", got)
	}
	want := "/d/blog db local\n/d/shop cache local\n/d/shop lost local orphaned\n/d/shop data\n/d/shop moved differs\n/d/shop new\n/d/shop older orphaned\n/d/shop somebody"
	if got := tell(s.everyone()); got != want {
		t.Errorf("everyone's:\n%s", got)
	}
}

func TestHostsOf(t *testing.T) {
	in := networkingv1.Ingress{}
	in.Spec.Rules = []networkingv1.IngressRule{{Host: "a.example.lan"}, {Host: "b.c.example.lan"}, {Host: "d.org"}}
	in.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"*.example.lan"}, SecretName: "wild"}, {Hosts: []string{"d.org"}, SecretName: "d"}}
	in.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "10.0.0.1"}, {Hostname: "lb.lan"}}
	var got []string
	for _, h := range hostsOf([]networkingv1.Ingress{in}) {
		x := h.Host + " " + h.Address
		if h.TLS != nil {
			x += " " + h.TLS.Secret
		}
		got = append(got, x)
	}
	want := []string{"a.example.lan 10.0.0.1, lb.lan wild", "b.c.example.lan 10.0.0.1, lb.lan", "d.org 10.0.0.1, lb.lan d"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

package apply

import (
	"slices"
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
)

// A start, a second one and a stop against the simulated server, whose fields
// are managed by a real server's code.
func TestAgainstTheSimulatedServer(t *testing.T) {
	sim := kubesim.New(kubesim.Options{})
	t.Cleanup(sim.Close)
	c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
	s := scope()
	labelled := `"labels": {"app": "acme-1", "app.kubernetes.io/stack": "acme"`
	objects := []string{
		pv("acme-1-data", "/mnt/data", "acme-1", ""),
		`{"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": "acme-1-data", ` + labelled + `}},
			"spec": {"volumeName": "acme-1-data", "storageClassName": "manual", "resources": {"requests": {"storage": "1Gi"}}}}`,
		configMap,
		`{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "acme-1-deployment", ` + labelled + `}},
			"spec": {"replicas": 1, "selector": {"matchLabels": {"app": "acme-1"}}, "template": {"metadata": {"labels": {"app": "acme-1"}}, "spec": {
			"containers": [{"name": "web", "image": "web:1"}], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "acme-1-data"}}]}}}}`,
	}
	run := func(texts ...string) *Plan {
		t.Helper()
		p := planned(t, c, s, texts...)
		if p.Writes() == 0 {
			return p
		}
		held, lease, err := Hold(t.Context(), c, p, "test", Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := Apply(held, c, p, Options{}); err != nil {
			t.Fatal(err)
		}
		if err := Prune(held, c, p, Options{}); err != nil {
			t.Fatal(err)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := run(objects...); len(p.Create) != 5 {
		t.Errorf("%+v", p.Create)
	}
	version := sim.Version()
	for range 100 { // the pod comes up meanwhile
		if len(sim.Objects("pods", s.Namespace)) > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if p := run(objects...); p.Writes() != 0 || p.Unchanged != 5 {
		t.Errorf("a second run: %+v from version %d", p, version)
	}
	// A field and an object that go.
	smaller := slices.Clone(objects)
	smaller = slices.Delete(smaller, 2, 3)
	if p := run(smaller...); len(p.Delete) != 1 || sim.Object("configmaps", s.Namespace, "acme-1-c") != nil {
		t.Errorf("%+v", p)
	}
	live, err := Read(t.Context(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	p, conflicts := DeletePlan(live, s, DeleteOptions{Volumes: true})
	if len(conflicts) > 0 {
		t.Fatalf("%+v", conflicts)
	}
	if err := Delete(t.Context(), c, p, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"deployments", "pods", "persistentvolumes", "persistentvolumeclaims"} {
		if left := sim.Objects(r, ""); len(left) > 0 {
			t.Errorf("%d %s are left", len(left), r)
		}
	}
}

// A Service that has to be made anew takes its Endpoints along: one run makes
// both, whether they were there or not.
func TestAServiceMadeAnewHasItsEndpoints(t *testing.T) {
	for _, there := range []bool{false, true} {
		sim := kubesim.New(kubesim.Options{})
		t.Cleanup(sim.Close)
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		s := scope()
		object := func(kind, rest string) string {
			return `{"kind": "` + kind + `", "apiVersion": "v1", "metadata": {"name": "db", "labels": {"app": "acme-1", "app.kubernetes.io/stack": "acme"}}, ` + rest + `}`
		}
		endpoints := object("Endpoints", `"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"name": "port-5432", "port": 5432, "protocol": "TCP"}]}]`)
		was := []string{object("Service", `"spec": {"type": "ExternalName", "externalName": "db.example.com"}`)}
		if there {
			was = append(was, endpoints)
		}
		is := []string{object("Service", `"spec": {"clusterIP": "None", "ports": [{"name": "port-5432", "port": 5432, "protocol": "TCP", "targetPort": 5432}]}`), endpoints}
		for _, objects := range [][]string{was, is} {
			p := planned(t, c, s, objects...)
			if err := Apply(t.Context(), c, p, Options{}); err != nil {
				t.Fatal(err)
			}
			if err := Prune(t.Context(), c, p, Options{}); err != nil {
				t.Fatal(err)
			}
		}
		if sim.Object("endpoints", s.Namespace, "db") == nil {
			t.Errorf("there before: %t: the Endpoints are gone", there)
		}
		if p := planned(t, c, s, is...); p.Writes() != 0 {
			t.Errorf("there before: %t: a second run would write %+v", there, p)
		}
	}
}

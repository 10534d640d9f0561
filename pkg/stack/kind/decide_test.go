package kind

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

func TestAtStart(t *testing.T) {
	mine := Cluster{Name: "laconic-a", Running: true, Ours: true}
	ours := Cluster{Name: "laconic-b", Running: true, Ours: true}
	ours2 := Cluster{Name: "laconic-c", Running: true, Ours: true}
	theirs := Cluster{Name: "dev", Running: true}
	stopped := Cluster{Name: "laconic-a", Ours: true}
	fromID, fromSpec := Wish{Name: "laconic-a", Dir: "d"}, Wish{Name: "laconic-a", FromSpec: true}
	tests := []struct {
		name   string
		mode   Mode
		wish   Wish
		all    []Cluster
		action Action
		use    string
		kind   fault.Kind
		says   string
	}{
		{"runs", Auto, fromID, []Cluster{theirs, mine}, Use, "laconic-a", fault.OK, ""},
		{"runs, skip", Skip, fromID, []Cluster{mine}, Use, "laconic-a", fault.OK, ""},
		{"runs, perform", Perform, fromID, []Cluster{mine, ours}, Use, "laconic-a", fault.OK, ""},
		{"is stopped", Auto, fromID, []Cluster{stopped}, Use, "", fault.Absent, "docker start laconic-a-control-plane"},
		{"none: made", Auto, fromID, nil, Create, "laconic-a", fault.OK, ""},
		{"none, perform: made", Perform, fromID, nil, Create, "laconic-a", fault.OK, ""},
		{"none, skip", Skip, fromID, nil, Use, "", fault.Absent, "kind create cluster --name laconic-a"},
		{"only another", Auto, fromID, []Cluster{ours}, Use, "", fault.Conflict, `write "cluster-id: laconic-b" in deployment.yml`},
		{"only another, named by the spec", Auto, fromSpec, []Cluster{ours}, Use, "", fault.Conflict, `write "kind-cluster-name: laconic-b" in the spec`},
		{"only another, skip", Skip, fromID, []Cluster{ours}, Use, "", fault.Conflict, "laconic-b"},
		{"only another of ours, perform", Perform, fromID, []Cluster{ours, theirs}, TakeOver, "laconic-b", fault.OK, ""},
		{"perform does not edit a spec", Perform, fromSpec, []Cluster{ours}, Use, "", fault.Conflict, "laconic-b"},
		{"perform takes nobody else's", Perform, fromID, []Cluster{theirs}, Use, "", fault.Conflict, "dev"},
		{"perform does not guess", Perform, fromID, []Cluster{ours, ours2}, Use, "", fault.Conflict, "laconic-b, laconic-c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			action, use, err := AtStart(tt.mode, tt.wish, tt.all)
			if tt.kind != fault.OK {
				if fault.KindOf(err) != tt.kind {
					t.Fatalf("error %v, want kind %s", err, tt.kind)
				}
				e := err.(*fault.Error) //nolint:errorlint // AtStart documents its type
				if all := e.What + " " + e.Why + " " + e.Next; !strings.Contains(all, tt.says) {
					t.Errorf("%q does not say %q", all, tt.says)
				}
				return
			}
			if err != nil || action != tt.action || use != tt.use {
				t.Errorf("got %v %q %v, want %v %q", action, use, err, tt.action, tt.use)
			}
		})
	}
}

func TestAtStop(t *testing.T) {
	made := Tenancy{Annotated: true, Named: true}
	with := func(change func(*Tenancy)) Tenancy { x := made; change(&x); return x }
	tests := []struct {
		name    string
		mode    Mode
		t       Tenancy
		force   bool
		deletes bool
		says    string // in the reasons, warnings or the error
		refused bool
	}{
		{"nothing is lost", Auto, made, false, true, "", false},
		{"not made here", Auto, Tenancy{Named: true}, false, false, "homelab did not make it", false},
		{"somebody lives there", Auto, with(func(t *Tenancy) { t.Others = []string{"shop"} }), false, false, "shop", false},
		{"foreign workload", Auto, with(func(t *Tenancy) { t.Foreign = []string{"dev/redis"} }), false, false, "dev/redis", false},
		{"data in the node", Auto, with(func(t *Tenancy) { t.NodeLocal = []string{"shop/db"} }), false, false, "shop/db", false},
		{"certificates", Auto, with(func(t *Tenancy) { t.Certs = []string{"shop.example"} }), false, false, "shop.example", false},
		{"skip", Skip, made, true, false, "", false},
		{"perform", Perform, made, false, true, "", false},
		{"perform, named is enough", Perform, Tenancy{Named: true}, false, true, "", false},
		{"perform on another's", Perform, Tenancy{}, false, false, "homelab made or named", true},
		{"perform beside others", Perform, with(func(t *Tenancy) { t.Others = []string{"shop", "blog"} }), false, false, "shop, blog", true},
		{"perform, forced", Perform, Tenancy{Others: []string{"shop"}}, true, true, "", false},
		{"perform tells of own data", Perform, with(func(t *Tenancy) { t.OwnLocal = []string{"db"} }), false, true, "volume db", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			end, err := AtStop(tt.mode, tt.t, tt.force)
			if (fault.KindOf(err) == fault.Conflict) != tt.refused {
				t.Fatalf("error %v", err)
			}
			if end.Delete != tt.deletes {
				t.Errorf("deletes: %v", end.Delete)
			}
			told := strings.Join(append(end.Reasons, end.Warnings...), "\n")
			if err != nil {
				told = err.Error()
			}
			if !strings.Contains(told, tt.says) {
				t.Errorf("%q does not say %q", told, tt.says)
			}
			if tt.mode == Auto && end.Delete == (len(end.Reasons) > 0) {
				t.Errorf("deletes %v for the reasons %q", end.Delete, end.Reasons)
			}
		})
	}
}

func TestCaddy(t *testing.T) {
	before, after, err := CaddyObjects(Controller{Email: "a@example.org", Backup: true})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range append(before, after...) {
		kinds = append(kinds, o.GetKind()+" "+o.GetName())
		if _, ok := o.Object["status"]; ok {
			t.Errorf("%s has a status", o.GetKind())
		}
	}
	want := []string{
		"Namespace caddy-system", "ServiceAccount caddy-ingress-controller", "ClusterRole caddy-ingress-controller",
		"ClusterRoleBinding caddy-ingress-controller", "ConfigMap caddy-ingress-controller-configmap", "IngressClass caddy",
		"Service caddy-ingress-controller", "Deployment caddy-ingress-controller", "ServiceAccount caddy-cert-backup",
		"Role caddy-cert-backup", "RoleBinding caddy-cert-backup", "CronJob caddy-cert-backup",
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	spec := after[0].Object["spec"].(map[string]any)
	if s := spec["strategy"].(map[string]any)["type"]; s != "Recreate" {
		t.Errorf("strategy %v: host ports would block a rolling update", s)
	}
	if cfg := before[4].Object["data"].(map[string]any); cfg["email"] != "a@example.org" || cfg["acmeCA"] == "" {
		t.Errorf("config %v", cfg)
	}
	_, without, err := CaddyObjects(Controller{})
	if err != nil || len(without) != 1 {
		t.Errorf("without an umbrella mount: %d objects, %v", len(without), err)
	}
}

func TestRestoredSecrets(t *testing.T) {
	const backup = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  metadata: {name: cert-a, namespace: old, uid: x, resourceVersion: "7", labels: {manager: caddy}}
  type: Opaque
  data: {k: dg==}
- apiVersion: v1
  kind: Secret
  metadata: {name: other}
  data: {k: dg==}
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: no, labels: {manager: caddy}}
`
	got, err := RestoredSecrets([]byte(backup))
	if err != nil || len(got) != 1 {
		t.Fatalf("%d objects, %v", len(got), err)
	}
	want := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": map[string]any{"k": "dg=="},
		"metadata": map[string]any{"name": "cert-a", "namespace": "caddy-system", "labels": map[string]any{"manager": "caddy"}},
	}
	if diff := cmp.Diff(want, got[0].Object); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := RestoredSecrets([]byte("a: [")); err == nil {
		t.Error("half a file is taken")
	}
}

package apply

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

func scope() Scope {
	return Scope{Dir: "/srv/d", ID: "acme-1", Namespace: "laconic-acme", Stack: "acme", Rules: file.V2}
}

// cluster makes a Live of objects.
func cluster(t *testing.T, texts ...string) *Live {
	t.Helper()
	l := &Live{Objects: map[Ref]*unstructured.Unstructured{}, asked: map[Ref]bool{}, missed: map[string]error{}}
	for _, text := range texts {
		o := parse(t, text)
		switch o.GetKind() {
		case "Namespace":
			l.Namespace = o
			continue
		case "HorizontalPodAutoscaler":
			l.Scalers = append(l.Scalers, o)
			continue
		case "StorageClass":
			l.Classes = append(l.Classes, o)
			continue
		case "Pod":
			l.Pods = append(l.Pods, o)
			continue
		case "PersistentVolume":
			l.Volumes = append(l.Volumes, o)
		case "PersistentVolumeClaim":
			l.Claims = append(l.Claims, o)
		}
		l.Objects[scope().ref(o)] = o
	}
	return l
}

func desired(t *testing.T, texts ...string) Desired {
	t.Helper()
	var d Desired
	for _, text := range texts {
		d.Objects = append(d.Objects, parse(t, text))
	}
	return d
}

func namespace(annotations string) string {
	return `{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "laconic-acme", "annotations": {` + annotations + `}}}`
}

// pv has a path, an owner's label and a claim "namespace/name/uid", or "".
func pv(name, path, app, claim string) string {
	ref := ""
	if claim != "" {
		p := strings.Split(claim, "/")
		ref = fmt.Sprintf(`, "claimRef": {"namespace": %q, "name": %q, "uid": %q}`, p[0], p[1], p[2])
	}
	return fmt.Sprintf(`{"kind": "PersistentVolume", "apiVersion": "v1", "metadata": {"name": %q, "uid": "pv-%s", "labels": {"app": %q,
		"app.kubernetes.io/stack": "acme", "volume-label": %q}}, "spec": {"hostPath": {"path": %q}, "persistentVolumeReclaimPolicy": "Retain"%s}}`,
		name, name, app, name, path, ref)
}

// pvc asks for a size and names a volume, or "".
func pvc(name, volume, size string) string {
	return fmt.Sprintf(`{"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": %q, "namespace": "laconic-acme", "uid": "pvc-%s", "labels": {"app": "acme-1"}},
		"spec": {"volumeName": %q, "storageClassName": %q, "resources": {"requests": {"storage": %q}}}}`,
		name, name, volume, map[bool]string{true: "manual", false: "standard"}[strings.HasPrefix(volume, "acme-1")], size)
}

func TestGuard(t *testing.T) {
	// What the stack calls db, with labels.
	called := func(kind, labels string) string {
		return `{"kind": "` + kind + `", "apiVersion": "v1", "metadata": {"name": "db", "namespace": "laconic-acme", "labels": {` + labels + `}}}`
	}
	selects := func(labels string) string {
		return `{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "acme-1-deployment", "namespace": "laconic-acme"},
			"spec": {"selector": {"matchLabels": {` + labels + `}}}}`
	}
	data := []string{pv("acme-1-data", "/mnt/data", "acme-1", ""), pvc("acme-1-data", "acme-1-data", "1Gi")}
	empty := []string{strings.Replace(pvc("acme-1-data", "", "1Gi"), `"volumeName": "", `, "", 1)}
	mine := namespace(`"laconic.com/deployment-dir": "/srv/d", "homelab/deployment-id": "acme-1"`)
	bound := []string{mine, pv("acme-1-data", "/mnt/data", "acme-1", "laconic-acme/acme-1-data/u"), pvc("acme-1-data", "acme-1-data", "1Gi")}
	given := `{"kind": "PersistentVolume", "apiVersion": "v1", "metadata": {"name": "pvc-7"}, "spec": {"hostPath": {"path": "/opt/p/pvc-7"},
		"claimRef": {"namespace": "laconic-acme", "name": "acme-1-data", "uid": "u"}}}`
	for _, tc := range []struct {
		name      string
		live      []string
		want      []string
		scope     func(*Scope)
		conflicts []string // codes
		notices   []string // codes
		says      string   // of the first conflict
	}{
		{name: "nothing there"},
		{name: "our namespace", live: []string{mine}},
		{name: "written by the other tool", live: []string{namespace(`"laconic.com/deployment-dir": "/srv/d"`)}},
		{name: "nobody's namespace", live: []string{namespace("")}, notices: []string{"namespace-adopted"}},
		{
			name: "another directory", live: []string{namespace(`"laconic.com/deployment-dir": "/srv/other"`)},
			conflicts: []string{"namespace-owner"}, says: "/srv/other",
		},
		{
			name: "another directory, adopted", live: []string{namespace(`"laconic.com/deployment-dir": "/srv/other"`)},
			scope: func(s *Scope) { s.AdoptNamespace = true }, notices: []string{"namespace-taken"},
		},
		{
			name: "another id from the same directory", live: []string{namespace(`"laconic.com/deployment-dir": "/srv/d", "homelab/deployment-id": "acme-0"`)},
			notices: []string{"deployment-id-changed"},
		},
		{
			name:      "a namespace that is going",
			live:      []string{strings.Replace(mine, `"name"`, `"deletionTimestamp": "2026-01-01T00:00:00Z", "name"`, 1)},
			conflicts: []string{"namespace-terminating"},
		},
		{name: "the same volume", live: bound, want: data},
		{
			name: "another path", live: bound, want: []string{pv("acme-1-data", "/mnt/other", "acme-1", ""), data[1]},
			conflicts: []string{"volume-moved"}, says: "is in /mnt/data (PersistentVolume acme-1-data), and the spec looks for it in /mnt/other",
		},
		{
			name: "another path, accepted", live: bound, want: []string{pv("acme-1-data", "/mnt/other", "acme-1", ""), data[1]},
			scope: func(s *Scope) { s.AcceptVolumes = []string{"data"} }, notices: []string{"volume-accepted"},
		},
		{
			name: "another volume's name was accepted", live: bound, want: []string{pv("acme-1-data", "/mnt/other", "acme-1", ""), data[1]},
			scope: func(s *Scope) { s.AcceptVolumes = []string{"ata"} }, conflicts: []string{"volume-moved"},
		},
		{name: "from a path to empty", live: bound, want: empty, conflicts: []string{"volume-moved"}},
		{
			name: "to empty, the claim is gone", want: empty, conflicts: []string{"volume-moved"},
			live: []string{mine, pv("acme-1-data", "/mnt/data", "acme-1", "laconic-acme/acme-1-data/u")},
		},
		{name: "from empty to a path", live: []string{mine, given, pvc("acme-1-data", "pvc-7", "1Gi")}, want: data, conflicts: []string{"volume-moved"}, says: "/opt/p/pvc-7"},
		{name: "empty as before", live: []string{mine, given, pvc("acme-1-data", "pvc-7", "1Gi")}, want: empty},
		{name: "from empty, never bound", live: []string{mine, empty[0]}, want: data},
		{
			name: "an empty one shrinks", live: []string{mine, given, pvc("acme-1-data", "pvc-7", "2Gi")}, want: empty,
			conflicts: []string{"volume-shrinks"}, says: "2Gi",
		},
		{name: "sizes in other words", live: []string{mine, given, pvc("acme-1-data", "pvc-7", "1024Mi")}, want: empty},
		{name: "a path's nominal size shrinks", live: []string{mine, bound[1], pvc("acme-1-data", "acme-1-data", "2Gi")}, want: data},
		{
			name: "another's on the same path", live: []string{mine, pv("other-data", "/mnt/data", "other", "x/other-data/u")}, want: data,
			conflicts: []string{"volume-shared"}, says: "deployment other in namespace x",
		},
		{
			name: "another's around it", live: []string{mine, pv("other-data", "/mnt/", "other", "")}, want: data,
			conflicts: []string{"volume-shared"},
		},
		{name: "another's beside it", live: []string{mine, pv("other-data", "/mnt/data2", "other", "")}, want: data},
		{
			name: "another's on the same path, v1", live: []string{mine, pv("other-data", "/mnt/data", "other", "")}, want: data,
			scope: func(s *Scope) { s.Rules = file.V1 }, notices: []string{"volume-shared"},
		},
		{
			name: "another's on the same path, accepted", live: []string{mine, pv("other-data", "/mnt/data", "other", "")}, want: data,
			scope: func(s *Scope) { s.AcceptVolumes = []string{"data"} }, notices: []string{"volume-shared"},
		},
		{
			name: "a sibling's of the same id", live: []string{mine, pv("acme-1-data", "/mnt/data", "acme-1", "sibling/acme-1-data/u")}, want: data,
			scope: func(s *Scope) { s.Rules = file.V1 }, conflicts: []string{"volume-shared"}, says: "namespace sibling",
		},
		{
			name: "the same directory's under an earlier id", live: []string{mine, pv("acme-0-data", "/mnt/data", "acme-0", "laconic-acme/acme-0-data/u")}, want: data,
			conflicts: []string{"volume-shared"}, says: "deployment acme-0 in namespace laconic-acme",
		},
		{
			name: "what an earlier deployment left in the namespace", want: data,
			live: []string{mine, strings.Replace(pv("acme-0-data", "/mnt/data", "acme-0", "laconic-acme/acme-0-data/u"), `"spec"`, `"status": {"phase": "Released"}, "spec"`, 1)},
		},
		{name: "a nameless one of this namespace", live: []string{mine, pv("x", "/mnt/data", "", "laconic-acme/x/u")}, want: data},
		{name: "somebody's service", live: []string{mine, called("Service", `"owner": "alice"`)}, want: []string{called("Service", "")}, conflicts: []string{"object-taken"}, says: "Service db"},
		{name: "another deployment's service", live: []string{mine, called("Service", `"app": "acme-0"`)}, want: []string{called("Service", "")}, conflicts: []string{"object-taken"}, says: "belongs to acme-0"},
		{name: "somebody's secret", live: []string{mine, called("Secret", "")}, want: []string{called("Secret", "")}, conflicts: []string{"object-taken"}},
		{name: "our own service", live: []string{mine, called("Service", `"app": "acme-1"`)}, want: []string{called("Service", "")}},
		{
			name: "one that the other tool wrote", want: []string{called("Secret", "")},
			live: []string{mine, strings.Replace(called("Secret", ""), `"name"`, `"managedFields": [{"manager": "OpenAPI-Generator", "operation": "Update"}], "name"`, 1)},
		},
		{name: "our own, of a volume that was renamed", live: []string{mine, pv("acme-1-old", "/mnt/data", "acme-1", "laconic-acme/acme-1-old/u")}, want: data},
		{name: "the same selector", live: []string{mine, selects(`"app": "acme-1"`)}, want: []string{selects(`"app": "acme-1"`)}},
		{
			name: "another selector", live: []string{mine, selects(`"app": "acme-1"`)}, want: []string{selects(`"app": "acme-1", "app.kubernetes.io/component": "web"`)},
			conflicts: []string{"selector"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := scope()
			if tc.scope != nil {
				tc.scope(&s)
			}
			conflicts, notices := Guard(cluster(t, tc.live...), desired(t, tc.want...), s)
			var codes, told []string
			for _, c := range conflicts {
				codes = append(codes, c.Code)
			}
			for _, n := range notices {
				told = append(told, n.Code)
			}
			if !slices.Equal(codes, tc.conflicts) || !slices.Equal(told, tc.notices) {
				t.Fatalf("conflicts %v, notices %v: %+v %+v", codes, told, conflicts, notices)
			}
			if len(conflicts) > 0 {
				if !strings.Contains(conflicts[0].Message, tc.says) {
					t.Errorf("%q does not say %q", conflicts[0].Message, tc.says)
				}
				if fault.KindOf(Refusal(conflicts)) != fault.Conflict || len(conflicts[0].Fix) == 0 {
					t.Errorf("no way out: %v", Refusal(conflicts))
				}
			}
		})
	}
}

func TestNested(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"/mnt/a", "/mnt/a", true},
		{"/mnt/a/", "/mnt/a/../a", true},
		{"/mnt", "/mnt/a/b", true},
		{"/mnt/a/b", "/mnt", true},
		{"/mnt/a", "/mnt/ab", false},
		{"/", "/mnt", true},
	} {
		if got := nested(tc.a, tc.b); got != tc.want {
			t.Errorf("nested(%q, %q) = %v", tc.a, tc.b, got)
		}
	}
}

func TestDeletePlan(t *testing.T) {
	labelled := func(kind, name string) string {
		return `{"kind": "` + kind + `", "apiVersion": "v1", "metadata": {"name": "` + name + `", "namespace": "laconic-acme", "labels": {"app": "acme-1"}}}`
	}
	mine := `"laconic.com/deployment-dir": "/srv/d"`
	generated := `{"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "acme-1-generated-secrets", "namespace": "laconic-acme"}}`
	made := strings.Replace(namespace(mine), `"name"`, `"labels": {"app.kubernetes.io/managed-by": "homelab"}, "name"`, 1)
	bound := []string{pv("acme-1-data", "/mnt/data", "acme-1", "laconic-acme/acme-1-data/u"), pvc("acme-1-data", "acme-1-data", "1Gi")}
	for _, tc := range []struct {
		name     string
		live     []string
		o        DeleteOptions
		want     []string
		conflict string
	}{
		{name: "nothing"},
		{
			name: "in order", live: append([]string{
				namespace(mine), labelled("Secret", "acme-1-registry"), labelled("Service", "acme-1-service"),
				labelled("Deployment", "acme-1-deployment"), labelled("Ingress", "acme-1-ingress"), labelled("Job", "acme-1-job-a"),
				labelled("ConfigMap", "acme-1-c"), generated, labelled("Pod", "loose"),
			}, bound...),
			want: []string{
				"Ingress acme-1-ingress", "Deployment acme-1-deployment", "Job acme-1-job-a", "Service acme-1-service", "ConfigMap acme-1-c",
				"Secret acme-1-registry", "Pod loose",
			},
		},
		{
			name: "with volumes", live: append([]string{namespace(mine), generated}, bound...), o: DeleteOptions{Volumes: true},
			want: []string{"PersistentVolumeClaim acme-1-data", "Secret acme-1-generated-secrets", "PersistentVolume acme-1-data"},
		},
		{
			name: "with volumes, the namespace is gone", live: []string{pv("acme-1-data", "/mnt/data", "acme-1", "laconic-acme/acme-1-data/u")},
			o: DeleteOptions{Volumes: true}, want: []string{"PersistentVolume acme-1-data"},
		},
		{
			name: "a volume that was never claimed", live: []string{pv("acme-1-data", "/mnt/data", "acme-1", "")},
			o: DeleteOptions{Volumes: true}, want: []string{"PersistentVolume acme-1-data"},
		},
		{
			name: "siblings' volumes", o: DeleteOptions{Volumes: true},
			live: []string{
				pv("acme-1-data", "/mnt/data", "acme-1", "sibling/acme-1-data/u"), pv("acme-2-data", "/mnt/2", "acme-2", ""),
				strings.Replace(pv("acme-1-x", "/mnt/3", "acme-1", ""), `"app.kubernetes.io/stack": "acme"`, `"app.kubernetes.io/stack": "other"`, 1),
				strings.Replace(pv("acme-1-y", "/mnt/4", "acme-1", ""), `"volume-label": "acme-1-y"`, `"volume-label": "y"`, 1),
			},
		},
		{name: "another's namespace", live: []string{namespace(`"laconic.com/deployment-dir": "/srv/other"`)}, conflict: "namespace-owner"},
		{name: "the namespace too", live: append([]string{made}, bound...), o: DeleteOptions{Namespace: true}, want: []string{"Namespace laconic-acme"}},
		{name: "a namespace that was adopted", live: []string{namespace(mine)}, o: DeleteOptions{Namespace: true}, conflict: "namespace-foreign"},
		{
			name: "the namespace with generated secrets", live: []string{made, generated}, o: DeleteOptions{Namespace: true}, conflict: "secret-loss",
		},
		{
			name: "the namespace with a volume of a class", live: []string{made, pvc("acme-1-data", "pvc-7", "1Gi")},
			o: DeleteOptions{Namespace: true}, conflict: "volume-loss",
		},
		{
			name: "the namespace with somebody's claim",
			live: []string{made, strings.Replace(pvc("theirs", "pvc-7", "1Gi"), `"app": "acme-1"`, `"app": "x"`, 1)},
			o:    DeleteOptions{Namespace: true, Volumes: true}, conflict: "namespace-shared",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, conflicts := DeletePlan(cluster(t, tc.live...), scope(), tc.o)
			if tc.conflict != "" {
				if len(conflicts) != 1 || conflicts[0].Code != tc.conflict || p.Writes() != 0 {
					t.Fatalf("conflicts %+v, %d writes", conflicts, p.Writes())
				}
				return
			}
			var got []string
			for _, c := range p.Delete {
				got = append(got, c.String())
			}
			if !slices.Equal(got, tc.want) || len(conflicts) > 0 {
				t.Errorf("deletes %q, conflicts %+v", got, conflicts)
			}
		})
	}
	for _, name := range []string{"default", "kube-system"} {
		s := scope()
		s.Namespace = name
		l := cluster(t, strings.Replace(made, "laconic-acme", name, 1))
		if _, conflicts := DeletePlan(l, s, DeleteOptions{Namespace: true, Volumes: true}); len(conflicts) != 1 || conflicts[0].Code != "namespace-system" {
			t.Errorf("%s: %+v", name, conflicts)
		}
	}
}

func TestSelectGone(t *testing.T) {
	thing := func(kind, name, labels string) string {
		return `{"kind": "` + kind + `", "apiVersion": "v1", "metadata": {"name": "` + name + `", "namespace": "laconic-acme", "labels": {"app": "acme-1"` + labels + `}}}`
	}
	ours := `, "app.kubernetes.io/managed-by": "homelab"`
	derived := strings.Replace(thing("Endpoints", "acme-1-service", ours), `"labels"`, `"managedFields": [{"manager": "kube-controller-manager", "operation": "Update"}], "labels"`, 1)
	live := []string{
		thing("Deployment", "acme-1-web-deployment", ""), thing("Deployment", "acme-1-canary", ""), thing("Deployment", "acme-1-rendered-deployment", ours),
		thing("Deployment", "any-name", ours), thing("Service", "acme-1-nodeport-80-tcp", ""), thing("Service", "acme-1-nodeport-80", ""),
		thing("ConfigMap", "acme-1-x", ""), thing("ConfigMap", "elsewhere", ""), thing("Secret", "acme-1-generated-secrets", ours),
		thing("Secret", "acme-1-example.com-tls", ""), thing("Job", "acme-1-job-a", ""), thing("Job", "acme-1-job-b-1700000000", ours),
		thing("PersistentVolumeClaim", "acme-1-old", ours), pv("acme-1-old", "/x", "acme-1", ""), derived,
		strings.Replace(thing("ConfigMap", "acme-1-going", ours), `"labels"`, `"deletionTimestamp": "2026-01-01T00:00:00Z", "labels"`, 1),
		strings.Replace(thing("ConfigMap", "acme-1-other", ours), `"acme-1"`, `"acme-12"`, 1),
	}
	rendered := map[Ref]bool{scope().own("Deployment", "acme-1-rendered-deployment"): true, scope().own("Job", "acme-1-job-b"): true}
	for _, tc := range []struct {
		name, ns   string
		gone, kept []string
	}{
		{
			name: "first", ns: namespace(""),
			gone: []string{
				"ConfigMap acme-1-x", "Service acme-1-nodeport-80-tcp", "Deployment acme-1-web-deployment", "Deployment any-name", "Job acme-1-job-a",
			},
			kept: []string{"Secret acme-1-example.com-tls", "ConfigMap elsewhere", "Service acme-1-nodeport-80", "Deployment acme-1-canary"},
		},
		{
			name: "later", ns: namespace(`"homelab/settled": "true"`),
			gone: []string{"Deployment any-name"},
			kept: []string{
				"Secret acme-1-example.com-tls", "ConfigMap acme-1-x", "ConfigMap elsewhere", "Service acme-1-nodeport-80",
				"Service acme-1-nodeport-80-tcp", "Deployment acme-1-canary", "Deployment acme-1-web-deployment", "Job acme-1-job-a",
			},
		},
	} {
		gone, kept := selectGone(cluster(t, append(live, tc.ns)...), scope(), rendered)
		var got, stay []string
		for _, o := range gone {
			got = append(got, scope().ref(o).String())
		}
		for _, r := range kept {
			stay = append(stay, r.String())
		}
		if !slices.Equal(got, tc.gone) || !slices.Equal(stay, tc.kept) {
			t.Errorf("%s: gone %q, kept %q", tc.name, got, stay)
		}
	}
}

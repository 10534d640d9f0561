package apply

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"homelab/pkg/stack/file"
)

func TestContains(t *testing.T) {
	for _, tc := range []struct {
		live, want string
		yes        bool
	}{
		{`{"a": 1, "b": 2}`, `{"a": 1}`, true},
		{`{"a": 1}`, `{"a": 2}`, false},
		{`{"a": "1"}`, `{"a": 1}`, false},
		{`{}`, `{"a": ""}`, true},
		{`{}`, `{"a": {"b": []}}`, false},
		{`{}`, `{"a": {}}`, true},
		{`{"a": [1, 2]}`, `{"a": [1]}`, false},
		{`{"a": [2, 1]}`, `{"a": [1, 2]}`, false},
		{`{"a": [{"name": "x", "v": 1}, {"name": "added"}]}`, `{"a": [{"name": "x"}]}`, true},
		{`{"a": [{"name": "added"}, {"name": "x", "v": 2}]}`, `{"a": [{"name": "x", "v": 1}]}`, false},
		{`{"requests": {"cpu": "100m"}}`, `{"requests": {"cpu": "0.1"}}`, true},
		{`{"requests": {"cpu": "100m"}}`, `{"requests": {"cpu": "1"}}`, false},
		{`{"cpus": "100m"}`, `{"cpus": "0.1"}`, false},
	} {
		live, want := parse(t, tc.live), parse(t, tc.want)
		if got := contains(live.Object, want.Object); got != tc.yes {
			t.Errorf("%s contains %s: %v", tc.live, tc.want, got)
		}
	}
}

func TestDifferences(t *testing.T) {
	got := differences(
		parse(t, `{"a": {"b": 1, "x": true}, "l": [{"name": "web", "image": "a"}, {"name": "gone"}], "p": ["x"], "s": "same"}`).Object,
		parse(t, `{"a": {"b": 2}, "l": [{"name": "web", "image": "b"}], "p": ["x", "y"], "s": "same", "n": {"example.com/k": ""}}`).Object, false)
	want := []Field{
		{"a.b", "1", "2"},
		{"a.x", "true", ""},
		{"l[web].image", "a", "b"},
		{"l[gone].name", "gone", ""},
		{"n[example.com/k]", "", `""`},
		{"p[1]", "", "y"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	for _, f := range differences(parse(t, `{"data": {"a": "c2VjcmV0"}}`).Object, parse(t, `{"data": {"a": "b3RoZXI="}}`).Object, true) {
		if f != (Field{"data.a", "changed", "changed"}) {
			t.Errorf("a secret: %+v", f)
		}
	}
	long := show(strings.Repeat("x", 1000), false)
	if len(long) != mostShown {
		t.Errorf("%d characters", len(long))
	}
}

// A Deployment, its number of pods and what its template says of its files.
func deployment(extra, checksum string) string {
	if checksum != "" {
		checksum = `"metadata": {"annotations": {"homelab/checksum": "` + checksum + `"}}, `
	}
	return `{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "acme-1-deployment", "labels": {"app": "acme-1"}` + extra + `},
		"spec": {"replicas": 2, "selector": {"matchLabels": {"app": "acme-1"}}, "template": {` + checksum + `"spec": {"containers": [{"name": "web", "image": "a"}],
		"volumes": [{"name": "c", "configMap": {"name": "acme-1-c"}}]}}}}`
}

func TestAdapt(t *testing.T) {
	in := func(text string) string {
		return strings.Replace(text, `"metadata": {`, `"metadata": {"namespace": "laconic-acme", `, 1)
	}
	scaler := `{"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {"name": "h"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "acme-1-deployment"}}}`
	ours := `, "managedFields": [{"manager": "homelab", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]`
	theirs := `, "managedFields": [{"manager": "autoscaler", "operation": "Update", "subresource": "scale", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]`
	coded := `{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "acme-1-c"}, "binaryData": {"a": "Yg=="}}`
	other := strings.Replace(configMap, `"b"`, `"c"`, 1)
	standard := `{"kind": "StorageClass", "metadata": {"name": "standard"}, "allowVolumeExpansion": true}`
	fixed := `{"kind": "StorageClass", "metadata": {"name": "standard"}}`
	for _, tc := range []struct {
		name   string
		live   []string
		want   []string
		rules  file.Rules
		at     []string // of the last object wanted
		value  any
		notice string
	}{
		{name: "replicas", live: []string{in(deployment(ours, ""))}, want: []string{deployment("", "")}, at: []string{"spec", "replicas"}, value: int64(2)},
		{
			name: "replicas nobody but us has set, under an autoscaler", want: []string{deployment("", "")}, at: []string{"spec", "replicas"}, value: int64(7),
			live: []string{strings.Replace(in(deployment(ours, "")), `"replicas": 2`, `"replicas": 7`, 1), scaler},
		},
		{
			name: "replicas the autoscaler has set", want: []string{deployment("", "")}, at: []string{"spec", "replicas"}, value: nil,
			live: []string{in(deployment(theirs, "")), scaler},
		},
		{
			name: "v1, the same files", rules: file.V1, at: []string{"spec", "template", "metadata"}, value: nil,
			live: []string{in(deployment("", "")), in(configMap)}, want: []string{configMap, deployment("", "x")},
		},
		{
			name: "v1, the same files in another form", rules: file.V1, at: []string{"spec", "template", "metadata"}, value: nil,
			live: []string{in(deployment("", "")), in(configMap)}, want: []string{coded, deployment("", "x")},
		},
		{
			name: "v1, other files", rules: file.V1, at: []string{"spec", "template", "metadata", "annotations", "homelab/checksum"}, value: "x",
			live: []string{in(deployment("", "")), in(configMap)}, want: []string{other, deployment("", "x")},
		},
		{
			name: "v1, from then on", rules: file.V1, at: []string{"spec", "template", "metadata", "annotations", "homelab/checksum"}, value: "x",
			live: []string{in(deployment("", "w")), in(configMap)}, want: []string{configMap, deployment("", "x")},
		},
		{
			name: "v2", rules: file.V2, at: []string{"spec", "template", "metadata", "annotations", "homelab/checksum"}, value: "x",
			live: []string{in(deployment("", "")), in(configMap)}, want: []string{configMap, deployment("", "x")},
		},
		{
			name: "a claim that can grow", at: []string{"spec", "resources", "requests", "storage"}, value: "2Gi",
			live: []string{pvc("acme-1-data", "pvc-7", "1Gi"), standard}, want: []string{strings.Replace(pvc("acme-1-data", "", "2Gi"), `"volumeName": "", `, "", 1)},
		},
		{
			name: "a claim that cannot", at: []string{"spec", "resources", "requests", "storage"}, value: "1Gi", notice: "volume-size",
			live: []string{pvc("acme-1-data", "pvc-7", "1Gi"), fixed}, want: []string{strings.Replace(pvc("acme-1-data", "", "2Gi"), `"volumeName": "", `, "", 1)},
		},
		{
			name: "the nominal size of a directory", at: []string{"spec", "resources", "requests", "storage"}, value: "2Gi", notice: "volume-size",
			live: []string{pvc("acme-1-data", "acme-1-data", "2Gi")}, want: []string{pvc("acme-1-data", "acme-1-data", "1Gi")},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := scope()
			s.Rules = tc.rules
			p := &planner{ctx: t.Context(), live: cluster(t, append(tc.live, namespace(""))...), d: desired(t, tc.want...), s: s, plan: &Plan{}}
			if err := p.prepare(); err != nil {
				t.Fatal(err)
			}
			last := p.d.Objects[len(p.d.Objects)-1]
			i := slices.IndexFunc(p.wants, func(w *want) bool { return w.ref == s.ref(last) })
			if got := at(p.wants[i].object.Object, tc.at...); got != tc.value {
				t.Errorf("%v, not %v", got, tc.value)
			}
			told := ""
			for _, n := range p.plan.Notices {
				told += n.Code
			}
			if told != tc.notice {
				t.Errorf("notices %+v", p.plan.Notices)
			}
		})
	}
}

func TestJobsRunOnce(t *testing.T) {
	job := `{"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "acme-1-job-a", "labels": {"app": "acme-1"}}, "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "one"}]}}}}`
	changed := strings.Replace(job, "one", "two", 1)
	for _, tc := range []struct {
		name   string
		before bool
		want   string
		d      func(*Desired)
		writes []string
		notice string
	}{
		{name: "missing", want: job, writes: []string{"PATCH"}},
		{name: "missing, not at start", want: job, d: func(d *Desired) { d.Suspend = []string{"acme-1-job-a"} }},
		{name: "there", before: true, want: job, notice: "job-exists"},
		{name: "there and changed", before: true, want: changed, notice: "job-changed"},
		{name: "there, made anew", before: true, want: job, d: func(d *Desired) { d.Recreate = []string{"acme-1-job-a"} }, writes: []string{"DELETE", "PATCH"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{t: t}
				c := s.client()
				start := func(text string, f func(*Desired)) *Plan {
					d := desired(t, text)
					if f != nil {
						f(&d)
					}
					l, err := Read(t.Context(), c, scope())
					if err != nil {
						t.Fatal(err)
					}
					p, err := Diff(t.Context(), c, l, d, scope())
					if err != nil {
						t.Fatal(err)
					}
					if err := Apply(t.Context(), c, p, Options{}); err != nil {
						t.Fatal(err)
					}
					return p
				}
				if tc.before {
					start(job, nil)
				}
				s.writes = nil
				p := start(tc.want, tc.d)
				var got []string
				for _, w := range s.writes {
					if verb, path, _ := strings.Cut(w, " "); strings.HasSuffix(path, "/jobs/acme-1-job-a") {
						got = append(got, verb)
					}
				}
				told := ""
				for _, n := range p.Notices {
					told += n.Code
				}
				if !slices.Equal(got, tc.writes) || told != tc.notice {
					t.Errorf("writes %q, notices %q", got, told)
				}
			})
		})
	}
}

// Nothing a plan says shows what is in a Secret, kubectl's copy of it included.
func TestPlanHidesSecrets(t *testing.T) {
	secret := func(kind, value string) string {
		return `{"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "acme-1-registry", "labels": {"app": "acme-1"},
			"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "` + value + `"}}, "type": "` + kind + `", "stringData": {"token": "` + value + `"}}`
	}
	for _, next := range []string{secret("Opaque", "marked-two"), secret("kubernetes.io/tls", "marked-two")} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{t: t}
			c := s.client()
			if err := Apply(t.Context(), c, planned(t, c, scope(), secret("Opaque", "marked-one")), Options{}); err != nil {
				t.Fatal(err)
			}
			p := planned(t, c, scope(), next)
			raw, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Update)+len(p.Replace) != 1 || !strings.Contains(string(raw), `"data.token","from":"changed"`) {
				t.Errorf("%s", raw)
			}
			for _, marked := range []string{"marked", "bWFya2Vk"} {
				if strings.Contains(string(raw), marked) {
					t.Errorf("%s", raw)
				}
			}
		})
	}
}

func TestOrder(t *testing.T) {
	var got []string
	for _, k := range kinds() {
		got = append(got, k.name)
	}
	want := []string{
		"Namespace", "RuntimeClass", "PersistentVolume", "PersistentVolumeClaim", "Secret", "ConfigMap", "Service", "Endpoints",
		"Deployment", "Job", "Ingress",
	}
	got = slices.DeleteFunc(got, func(k string) bool { return !slices.Contains(want, k) })
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if _, err := kindOf("Gadget"); err == nil {
		t.Error("a kind nobody knows")
	}
}

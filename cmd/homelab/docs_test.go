package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
)

// The step that is shown for pipelines is one a server takes, and what it runs
// is what the program takes.
func TestDocumentedStep(t *testing.T) {
	text, err := os.ReadFile("../../docs/ci-deploy-step.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		When []struct {
			Event  string
			Branch string
		}
		Steps []struct {
			Name        string
			Image       string
			Commands    []string
			Environment map[string]struct {
				FromSecret string `yaml:"from_secret"`
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if len(file.When) != 1 || file.When[0].Event != "push" {
		t.Errorf("it runs when %+v", file.When)
	}
	ours := 0
	for _, s := range file.Steps {
		if s.Name == "" || s.Image == "" || len(s.Commands) == 0 {
			t.Errorf("step %+v is not whole", s)
		}
		for _, line := range s.Commands {
			for name, from := range s.Environment {
				if from.FromSecret == "" || !slices.ContainsFunc(s.Commands, func(c string) bool { return strings.Contains(c, "$"+name) }) {
					t.Errorf("step %s: %s is no secret, or is not used", s.Name, name)
				}
			}
			if rest, ok := strings.CutPrefix(line, "homelab "); ok {
				ours++
				takes(t, rest)
				if !strings.Contains(rest, `--sha "$CI_COMMIT_SHA"`) {
					t.Errorf("%s: it does not wait for the pipeline's commit", line)
				}
			}
		}
	}
	if ours != 1 {
		t.Errorf("%d commands of this program are shown, not 1", ours)
	}
}

// The role that is shown covers the permissions that are asked for, and only
// reads.
func TestDocumentedRole(t *testing.T) {
	text, err := os.ReadFile("../../docs/deploy-wait-role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type document struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name string }
		Rules      []struct {
			APIGroups []string `yaml:"apiGroups"`
			Resources []string
			Verbs     []string
		}
	}
	got := map[string]string{} // verbs by kind, group and resource
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		var d document
		if err := yaml.UnmarshalWithOptions([]byte(part), &d, yaml.Strict()); err != nil {
			t.Fatal(err)
		}
		if d.APIVersion != "rbac.authorization.k8s.io/v1" || d.Metadata.Name == "" {
			t.Errorf("%s %s of %s", d.Kind, d.Metadata.Name, d.APIVersion)
		}
		for _, r := range d.Rules {
			for _, g := range r.APIGroups {
				for _, res := range r.Resources {
					got[d.Kind+" "+g+"/"+res] = strings.Join(r.Verbs, " ")
				}
			}
		}
	}
	want := map[string]string{
		"Role apps/deployments": "get list watch", "Role apps/statefulsets": "get list watch", "Role apps/daemonsets": "get list watch",
		"Role apps/replicasets": "list watch", "Role apps/controllerrevisions": "list watch",
		"Role /pods": "list watch", "Role /events": "list watch", "Role /pods/log": "get", "Role /persistentvolumeclaims": "get",
		"Role batch/cronjobs": "get list watch", "ClusterRole /nodes": "get", "ClusterRole /namespaces": "get",
	}
	for what, verbs := range want {
		if got[what] != verbs {
			t.Errorf("%s: %q, not %q", what, got[what], verbs)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d permissions are given, not %d: %v", len(got), len(want), got)
	}
}

// What the page about watches shows is what the program takes: its commands,
// the unit's, the one of the ssh key, and the file.
func TestDocumentedWatches(t *testing.T) {
	page, err := os.ReadFile("../../docs/deploy-watch.md")
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile("../../docs/homelab-watch@.service")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	command := regexp.MustCompile("(?m)(?:^|`|command=\"|bin/)homelab (deploy watch [^`\"\n]*)")
	for _, m := range command.FindAllStringSubmatch(string(page)+string(unit), -1) {
		n++
		takesWords(t, split(m[1]))
	}
	if n < 20 {
		t.Errorf("found %d command lines: the pattern goes wrong", n)
	}
	// The file is read whole and strictly: what is asked for is not in it.
	file, err := os.ReadFile("../../docs/watches.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "watches.yaml")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ := inProcess(t, "deploy", "watch", "nobody", "-f", path, "--state-dir", t.TempDir())
	if code != 3 || !strings.Contains(out, "has no watch nobody") {
		t.Errorf("docs/watches.yaml: code %d, %s", code, out)
	}
	var shown struct {
		Watches map[string]any
		Rest    map[string]any `yaml:",inline"`
	}
	if err := yaml.Unmarshal(file, &shown); err != nil || len(shown.Watches) != 3 {
		t.Fatalf("%d watches: %v", len(shown.Watches), err)
	}
	// Everything in the text is understood: what is refused is a program that is
	// not here, a server that is not configured, an expectation no source knows.
	for name, want := range map[string]string{
		"www": "does not know the form commit", "site": "/usr/local/lib/homelab/site", "shop": "no Woodpecker server",
	} {
		code, out, _ := inProcess(t, "deploy", "watch", name, "-f", path, "--state-dir", t.TempDir(), "--once", "--expect", "commit:0123456")
		if code != 64 || !strings.Contains(out, want) {
			t.Errorf("%s: code %d, %s", name, code, out)
		}
	}
}

// manifest is what is read of one object of a file for the cluster.
type manifest struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	Rules    []struct {
		Resources, Verbs []string
		ResourceNames    []string `yaml:"resourceNames"`
	}
	Spec struct {
		Replicas int
		Strategy struct{ Type string }
		Template struct {
			Spec struct {
				ServiceAccountName string `yaml:"serviceAccountName"`
				SecurityContext    struct {
					RunAsNonRoot bool `yaml:"runAsNonRoot"`
				} `yaml:"securityContext"`
				Containers []struct {
					Args []string
				}
			}
		}
	}
}

// The file for the cluster is taken by one; the watch in it is understood, and
// its Role allows what the watch asks for and no more.
func TestDocumentedCluster(t *testing.T) {
	text, err := os.ReadFile("../../docs/homelab-watch.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sim := kubesim.New(kubesim.Options{})
	t.Cleanup(sim.Close)
	sim.Namespace("shop")
	of := map[string]manifest{}
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		var m manifest
		if err := yaml.Unmarshal([]byte(part), &m); err != nil {
			t.Fatal(err)
		}
		raw, err := yaml.YAMLToJSON([]byte(part))
		if err != nil || m.Metadata.Name != "homelab-watch" || m.Metadata.Namespace != "shop" {
			t.Fatalf("%+v %v", m, err)
		}
		of[m.Kind] = m
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		t.Cleanup(c.Close)
		r, known := map[string]kube.Resource{
			"ServiceAccount": kube.Core("serviceaccounts"), "ConfigMap": kube.Core("configmaps"), "PersistentVolumeClaim": kube.Core("persistentvolumeclaims"),
			"Role":        {Group: "rbac.authorization.k8s.io", Version: "v1", Plural: "roles"},
			"RoleBinding": {Group: "rbac.authorization.k8s.io", Version: "v1", Plural: "rolebindings"},
			"Lease":       {Group: "coordination.k8s.io", Version: "v1", Plural: "leases"}, "Deployment": kube.Apps("deployments"),
		}[m.Kind]
		if !known {
			t.Fatalf("what is a %s?", m.Kind)
		}
		if strings.HasPrefix(r.Group, "rbac") || m.Kind == "ServiceAccount" {
			continue // the real control plane's
		}
		if _, err := c.Apply(t.Context(), r, "shop", "homelab-watch", raw, kube.ApplyOptions{Manager: "test"}); err != nil {
			t.Errorf("%s: %v", m.Kind, err)
		}
	}
	if len(of) != 7 {
		t.Errorf("%d kinds of objects", len(of))
	}
	var rules []string
	for _, r := range of["Role"].Rules {
		rules = append(rules, strings.Join(r.Resources, ",")+" "+strings.Join(r.ResourceNames, ",")+": "+strings.Join(r.Verbs, " "))
	}
	if got := strings.Join(rules, "; "); got != "deployments shop: get list watch patch; replicasets : list watch; pods,events : list watch; leases homelab-watch: get update" {
		t.Error(got)
	}
	d := of["Deployment"].Spec
	pod := d.Template.Spec
	if d.Replicas != 1 || d.Strategy.Type != "Recreate" || !pod.SecurityContext.RunAsNonRoot || pod.ServiceAccountName != "homelab-watch" || len(pod.Containers) != 1 {
		t.Fatalf("%+v", d)
	}
	args := pod.Containers[0].Args
	takesWords(t, args)
	// The arguments find the watch, and all of it is understood.
	path := filepath.Join(t.TempDir(), "watches.yaml")
	if err := os.WriteFile(path, []byte(of["ConfigMap"].Data["watches.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, a := range args {
		switch a {
		case "/config/watches.yaml":
			args[i] = path
		case "/state":
			args[i] = t.TempDir()
		}
	}
	code, out, _ := inProcess(t, append(args, "--once", "--expect", "uuid:00000000-0000-0000-0000-000000000000")...)
	if code != 64 || !strings.Contains(out, "does not know the form uuid") && !strings.Contains(out, "cluster") && !strings.Contains(out, "kubeconfig") {
		t.Errorf("code %d, %s", code, out)
	}
}

package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
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

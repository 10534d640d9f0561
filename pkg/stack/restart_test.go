package stack

import (
	"strings"
	"testing"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

func TestUnswapped(t *testing.T) {
	d := &file.Directory{Spec: &file.Spec{File: "spec.yml"}}
	if err := unswapped(d, "shop"); err != nil {
		t.Errorf("without the key: %v", err)
	}
	d.Spec.Maintenance = &file.Backend{Container: "page", Port: 80}
	err := unswapped(d, "shop")
	if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "maintenance-service") {
		t.Errorf("with the key: %v", err)
	}
}

func TestMovedRefusesAnotherDeployment(t *testing.T) {
	dir := func(change func(*file.Directory)) *file.Directory {
		d := &file.Directory{
			Spec:       &file.Spec{Target: file.Kind, Namespace: "shop", Volumes: []file.Volume{{Name: "db", Path: "/srv/kind/db"}}},
			Stack:      &file.Stack{Name: "shop"},
			Deployment: file.Deployment{ClusterID: "laconic-a"},
			Pods:       []file.Source{{Raw: []byte("volumes: {db: }")}},
		}
		if change != nil {
			change(d)
		}
		return d
	}
	for _, tt := range []struct {
		name   string
		change func(*file.Directory)
		says   string // "" is fine
	}{
		{"nothing", nil, ""},
		{"target", func(d *file.Directory) { d.Spec.Target = file.K8s }, "deploy-to"},
		{"stack", func(d *file.Directory) { d.Stack.Name = "blog" }, "stack was shop"},
		{"namespace", func(d *file.Directory) { d.Spec.Namespace = "other" }, "namespace was shop"},
		{"cluster", func(d *file.Directory) { d.Spec.KindClusterName = "lab" }, "cluster was laconic-a"},
		{"a volume lost its path", func(d *file.Directory) { d.Spec.Volumes[0].Path = "" }, "db (/srv/kind/db)"},
		{"a volume is gone from the spec", func(d *file.Directory) { d.Spec.Volumes = nil }, "db (/srv/kind/db)"},
		{"nobody uses the volume any more", func(d *file.Directory) { d.Spec.Volumes, d.Pods[0].Raw = nil, []byte("services: {}") }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := moved(dir(nil), dir(tt.change))
			if tt.says == "" && err != nil || tt.says != "" && (fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

func TestAcceptedVolumesAreKnown(t *testing.T) {
	d := &file.Directory{Spec: &file.Spec{Volumes: []file.Volume{{Name: "data"}}}}
	if err := known(d, []string{"data"}); err != nil {
		t.Error(err)
	}
	if err := known(d, []string{"data", "dat"}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "--accept-volume dat") {
		t.Errorf("a slip: %v", err)
	}
}

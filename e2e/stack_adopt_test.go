package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"

	"homelab/e2e/cluster"
)

// TestStackTakesAnOldDirectoryOver starts with a directory as the older tool
// made it, edited by hand since, and with objects as its client wrote them.
func TestStackTakesAnOldDirectoryOver(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, deployment, id string }{
		{"two ids", "cluster-id: laconic-0123456789abcdef\ndeployment-id: shop-by-hand\n", "shop-by-hand"},
		{"one id", "cluster-id: laconic-0123456789abcdef\n", "laconic-0123456789abcdef"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			ns := s.namespace()
			s.kiosk(ns)
			id := row.id + "-" + ns
			look := s.in(ns)
			s.edit("up/deployment/spec.yml", "  KEY: $generate:hex:16$\n", "")
			s.git("up", "mv", "deployment/spec.yml", "first.yml") // restart is to take the directory's own
			s.git("up", "commit", "--quiet", "--all", "-m", "Move the spec")
			s.git("repo", "pull", "--quiet")
			spec := strings.Replace(s.read("repo/first.yml"), "stack: stacks/kiosk", "stack: "+s.path("repo/stacks/kiosk"), 1)
			files := map[string]string{
				"spec.yml":                             spec + "# by hand\nreplicas: 1\nlabels:\n  team: sales\n",
				"stack.yml":                            s.read("repo/stacks/kiosk/stack.yml"),
				"deployment.yml":                       strings.ReplaceAll(row.deployment, row.id, id) + "stack-source: " + s.path("repo/stacks/kiosk") + "\n",
				"config.env":                           "LOG=info\n",
				"kubeconfig.yml":                       s.read("kube.yaml"),
				"compose/docker-compose-kiosk.yml":     s.read("repo/compose/docker-compose-kiosk.yml"),
				"compose-jobs/docker-compose-seed.yml": s.read("repo/compose-jobs/docker-compose-seed.yml"),
				"config/kiosk/app.conf":                "one\n",
				"data/notes":                           "of the user\n",
			}
			for name, text := range files {
				s.file("d/"+name, text)
			}
			s.must("up", "deployment", "start", "--dir", "d", within)
			unclaim(t, s, look, id)
			before := shape(look, id)
			set := look.List("replicasets", "app="+id)
			rolled := look.Get("deployments", id+"-deployment").Gen()
			if err := os.RemoveAll(s.path("d/.homelab")); err != nil {
				t.Fatal(err)
			}

			d := s.must("up", "deployment", "start", "--dir", "d", within)
			if d.result.Deployment.Render != "v1" || d.result.Deployment.ID != id {
				t.Errorf("%+v", d.result.Deployment)
			}
			if got := shape(look, id); !maps.Equal(got, before) {
				for k := range before {
					if got[k] != before[k] {
						t.Errorf("taking over made %s\n%s\nof\n%s", k, got[k], before[k])
					}
				}
				t.Errorf("%d objects of %d", len(got), len(before))
			}
			if got := look.List("replicasets", "app="+id); len(got) != 1 || got[0].UID() != set[0].UID() || look.Get("deployments", id+"-deployment").Gen() < rolled {
				t.Errorf("taking over restarted pods: %d ReplicaSets", len(got))
			}
			if old := look.Get("services", id+"-service").At("metadata", "labels", "old"); old != nil {
				t.Error("a label that is no longer wanted stays")
			}
			s.silent(func() {
				if d := s.must("same", "deployment", "diff", "--dir", "d"); len(d.touched()) != 0 {
					t.Errorf("%v", d.touched())
				}
				if d := s.must("up", "deployment", "restart", "--dir", "d", within); len(d.touched()) != 0 {
					t.Errorf("%v", d.touched())
				}
				s.must("up", "deployment", "restart", "--dir", "d", within)
			})
			if s.git("repo", "status", "--porcelain") != "" {
				t.Error("the repository is dirty")
			}
			if got := s.read("d/config.env"); !strings.HasSuffix(got, "\nLOG=info\n") || s.read("d/config.env.bak") != files["config.env"] {
				t.Errorf("config.env is\n%s", got)
			}
			delete(files, "config.env")
			for name, text := range files {
				if s.read("d/"+name) != text {
					t.Errorf("%s changed to\n%s", name, s.read("d/"+name))
				}
			}
		})
	}
}

// unclaim makes the live objects what the older tool's client writes: no marks
// of ours, its own field manager, and a label that is no longer wanted.
func unclaim(t *testing.T, s *site, look *cluster.Space, id string) {
	t.Helper()
	var all []cluster.Object
	kinds := []string{"persistentvolumes", "persistentvolumeclaims", "secrets", "configmaps", "services", "deployments", "jobs", "ingresses"}
	for _, r := range kinds {
		for _, o := range look.List(r, "app="+id) {
			o["resource"] = r
			all = append(all, o)
		}
	}
	if len(all) < 7 {
		t.Fatalf("only %d objects", len(all))
	}
	s.must("stopped", "deployment", "stop", "--dir", "d", "--delete-volumes", "--delete-namespace")
	if _, err := shared.Admin.Do(t.Context(), http.MethodPost, "/api/v1/namespaces?fieldManager=OpenAPI-Generator", "application/json",
		[]byte(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "`+look.Name+`", "labels": {"app": "`+id+`"}}}`)); err != nil {
		t.Fatal(err)
	}
	look.Until("serviceaccounts", "default", "to exist", func(cluster.Object) bool { return true })
	kind := map[string][2]string{
		"persistentvolumes": {"v1", "PersistentVolume"}, "persistentvolumeclaims": {"v1", "PersistentVolumeClaim"}, "secrets": {"v1", "Secret"},
		"configmaps": {"v1", "ConfigMap"}, "services": {"v1", "Service"}, "deployments": {"apps/v1", "Deployment"},
		"jobs": {"batch/v1", "Job"}, "ingresses": {"networking.k8s.io/v1", "Ingress"},
	}
	for _, o := range all {
		r := o.Str("resource")
		delete(o, "resource")
		delete(o, "status")
		o["apiVersion"], o["kind"] = kind[r][0], kind[r][1]
		labels, _ := o.At("metadata", "labels").(map[string]any)
		delete(labels, "app.kubernetes.io/managed-by")
		if r == "services" {
			labels["old"] = "yes"
		}
		annotations, _ := o.At("metadata", "annotations").(map[string]any)
		maps.DeleteFunc(annotations, func(k string, _ any) bool {
			return strings.HasPrefix(k, "homelab/") || strings.HasPrefix(k, "deployment.kubernetes.io") || strings.HasPrefix(k, "pv.kubernetes.io")
		})
		o["metadata"] = map[string]any{"name": o.Name(), "labels": labels, "annotations": annotations}
		if template, ok := o.At("spec", "template", "metadata", "annotations").(map[string]any); ok {
			delete(template, "homelab/checksum")
		}
		spec, _ := o.At("spec").(map[string]any)
		delete(spec, "claimRef")
		if r == "services" && spec["clusterIP"] != "None" {
			delete(spec, "clusterIP")
			delete(spec, "clusterIPs")
		}
		if r == "jobs" {
			delete(spec, "selector")
			if l, ok := o.At("spec", "template", "metadata", "labels").(map[string]any); ok {
				maps.DeleteFunc(l, func(k string, _ any) bool { return k != "app" })
			}
		}
		b, err := json.Marshal(o)
		if err == nil {
			_, err = shared.Admin.Do(t.Context(), http.MethodPost, look.Path(r, "")+"?fieldManager=OpenAPI-Generator", "application/json", b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	look.Complete("deployments", id+"-deployment")
	look.Until("persistentvolumeclaims", id+"-data", "to be bound", bound)
}

func bound(o cluster.Object) bool { return o.Str("status", "phase") == "Bound" }

// shape is what must not change when a deployment is taken over.
func shape(look *cluster.Space, id string) map[string]string {
	out := map[string]string{}
	for _, r := range []string{"persistentvolumes", "persistentvolumeclaims", "secrets", "configmaps", "services", "deployments", "jobs", "ingresses"} {
		for _, o := range look.List(r, "app="+id) {
			labels, _ := o.At("metadata", "labels").(map[string]any)
			labels = maps.Clone(labels)
			delete(labels, "app.kubernetes.io/managed-by")
			delete(labels, "old")
			b, err := json.Marshal([]any{
				o.UID(), labels, o.At("spec", "selector"), o.At("spec", "template"), o.At("spec", "hostPath"), o.At("spec", "volumeName"),
				o.At("spec", "clusterIP"), o.At("spec", "ports"), o.At("data"), o.At("binaryData"),
			})
			if err != nil {
				panic(err)
			}
			out[r+" "+o.Name()] = string(b)
		}
	}
	return out
}

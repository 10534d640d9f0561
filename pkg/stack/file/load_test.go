package file

import (
	"os"
	"path/filepath"
	"testing"
)

// write makes files below dir.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"spec.yml":                       "stack: ../stacks/web_shop\ndeploy-to: k8s-kind\nconfig: {A: 'x y', B: true}\ncredentials-files: [~/c.env]\n",
		"stack.yml":                      "version: '1'\nname: other\npods: [web, {name: db}]\njobs: [tidy]\n",
		"deployment.yml":                 "cluster-id: laconic-a\ndeployment-id: laconic-b\nrender: v2\n",
		"config.env":                     "A='x y'\nB=true\n# credentials file: ~/c.env\nTOKEN=t\n",
		"compose/docker-compose-web.yml": "services: {}\n", "compose/docker-compose-db.yml": "services: {}\n",
		"compose-jobs/docker-compose-tidy.yml": "services: {}\n",
		".homelab/state.json":                  `{"hashes": {"kind-config.yml": "ab"}, "x": 1}`,
	})
	d, notices, err := Load(dir, Env{})
	if err != nil || len(notices) != 0 {
		t.Fatal(err, notices)
	}
	if d.Stack.Name != "web_shop" || d.Namespace() != "laconic-web-shop" || d.Cluster() != "laconic-a" || d.Deployment.ID != "laconic-b" ||
		d.Deployment.Rules != V2 || len(d.Pods) != 2 || d.Pods[1].Name != "db" || len(d.Jobs) != 1 || d.Hashes["kind-config.yml"] != "ab" {
		t.Errorf("%+v", d)
	}
	want := []EnvVar{{"A", "x y", false}, {"B", "true", false}, {"TOKEN", "t", true}}
	for i, w := range want {
		if len(d.Env) != len(want) || d.Env[i] != w {
			t.Fatalf("%+v", d.Env)
		}
	}
}

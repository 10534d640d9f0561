package render

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"homelab/pkg/stack/file"
)

// What is remembered renders as what is read, and is forgotten with any change
// of the files, the variables or the rules.
func TestMemory(t *testing.T) {
	d := &file.Directory{
		Path: "/d", Deployment: file.Deployment{Rules: file.V2, ID: "x-1"},
		Env:  []file.EnvVar{{Name: "A", Value: "1"}},
		Pods: []file.Source{{Name: "web", Path: "/d/compose/docker-compose-web.yml", Raw: []byte("services: {a: {image: 'x:$A', depends_on: [b]}, b: {image: y, expose: ['$NONE']}}\n")}},
	}
	m := &Memory{}
	same := func(step string, want bool) {
		t.Helper()
		was := m.key
		got, c := m.load(d, "", nil)
		fresh, f := load(d, nil)
		if len(got) != 1 || got[0].services[0].cfg.Image != fresh[0].services[0].cfg.Image || !reflect.DeepEqual(c.notices, f.notices) {
			t.Fatalf("%s: %+v, not %+v", step, got, fresh)
		}
		if (m.key == was) != want {
			t.Errorf("%s: kept %v", step, m.key == was)
		}
		got[0].services[0].init = true // marks of one render are not those of the next
		c.notice(file.Notice{Code: step})
	}
	same("first", false)
	same("again", true)
	if m.pods[0].services[0].init {
		t.Error("a mark was remembered")
	}
	d.Env[0].Value = "2"
	same("variable", false)
	d.Deployment.Rules = file.V1
	same("rules", false)
	d.Pods[0].Raw = []byte("services: {a: {image: z}}\n")
	same("file", false)

	base := filepath.Join(t.TempDir(), "base.yml")
	if err := os.WriteFile(base, []byte("services: {a: {image: base}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Pods[0].Raw = []byte("services: {a: {extends: {file: " + base + ", service: a}}}\n")
	same("extends", true) // not kept: the key stays that of the file before
	if m.pods[0].services[0].cfg.Image != "z" {
		t.Errorf("kept: %s", m.pods[0].services[0].cfg.Image)
	}
}

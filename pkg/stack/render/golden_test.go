package render

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"homelab/pkg/stack/file"
)

var updateCorpus = flag.Bool("update-corpus", false, "write the golden parts of testdata/corpus anew")

const deploymentText = "cluster-id: laconic-cluster\ndeployment-id: laconic-abcdefgh12345678\n"

// unpack writes the files of an archive into a deployment directory and loads
// it. V2 is what a new directory has.
func unpack(t testing.TB, a *txtar.Archive, rules file.Rules) *file.Directory {
	t.Helper()
	d, err := unpackInto(t.TempDir(), a, rules)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func unpackInto(dir string, a *txtar.Archive, rules file.Rules) (*file.Directory, error) {
	text := deploymentText
	if rules == file.V2 {
		text += "render: v2\n"
	}
	files := []txtar.File{
		{Name: "deployment.yml", Data: []byte(text)},
		{Name: "spec.yml", Data: []byte("stack: demo\ndeploy-to: k8s-kind\n")},
	}
	for _, f := range slices.Concat(files, a.Files) {
		if strings.HasSuffix(f.Name, ".golden") {
			continue
		}
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "stack.yml")); err != nil {
		stack := "name: demo\npods:\n"
		for _, sub := range []string{"compose", "compose-jobs"} {
			list, _ := filepath.Glob(filepath.Join(dir, sub, "docker-compose-*.yml"))
			if sub == "compose-jobs" {
				stack += "jobs:\n"
			}
			for _, p := range list {
				stack += "  - " + strings.TrimSuffix(strings.TrimPrefix(filepath.Base(p), "docker-compose-"), ".yml") + "\n"
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "stack.yml"), []byte(stack), 0o600); err != nil {
			return nil, err
		}
	}
	d, _, err := file.Load(dir, file.Env{})
	return d, err
}

// show writes a render as a person would compare it.
func show(d *file.Directory, r *Result, err error, kinds []string) string {
	var b bytes.Buffer
	if err != nil {
		fmt.Fprintf(&b, "%v\n", err)
		return strings.ReplaceAll(b.String(), d.Path, "D")
	}
	for _, n := range r.Notices {
		fmt.Fprintf(&b, "# %s %s %s:%d %s %s: %s\n", n.Level, n.Code, filepath.Base(n.File), n.Line, n.Service, n.Key, n.Message)
	}
	for _, w := range r.Workloads {
		if len(r.Workloads) > 1 {
			fmt.Fprintf(&b, "# workload %s %v\n", w.Name, w.Claims)
		}
	}
	for _, j := range r.Jobs {
		fmt.Fprintf(&b, "# job %s suspend=%v recreate=%v\n", j.Name, j.Suspend, j.Recreate)
	}
	for _, o := range r.Objects {
		if len(kinds) > 0 && !slices.Contains(kinds, o.GetKind()) {
			continue
		}
		b.WriteString("---\n")
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(o.Object); err != nil {
			panic(err)
		}
	}
	return strings.ReplaceAll(b.String(), d.Path, "D")
}

// TestCorpus renders every archive under both rules and compares the bytes.
// The comment of an archive names the kinds to show after "show:".
func TestCorpus(t *testing.T) {
	list, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(list) == 0 {
		t.Fatal("no corpus", err)
	}
	for _, path := range list {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for line := range strings.Lines(string(a.Comment)) {
				if rest, ok := strings.CutPrefix(line, "show:"); ok {
					kinds = strings.Fields(rest)
				}
			}
			for _, rules := range []file.Rules{file.V1, file.V2} {
				name := fmt.Sprintf("v%d.golden", rules)
				d := unpack(t, a, rules)
				f := Facts{PullSecret: "laconic-abcdefgh12345678-registry"}
				r, err := Render(d, Options{}, f)
				got := show(d, r, err, kinds)
				for range 3 {
					r, err := Render(d, Options{}, f)
					if again := show(d, r, err, kinds); again != got {
						t.Fatalf("%s differs from run to run:\n%s", name, cmp.Diff(got, again))
					}
				}
				i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
				if i < 0 {
					i = len(a.Files)
					a.Files = append(a.Files, txtar.File{Name: name})
				}
				if *updateCorpus {
					a.Files[i].Data = []byte(got)
					continue
				}
				if diff := cmp.Diff(string(a.Files[i].Data), got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if *updateCorpus {
				if err := os.WriteFile(path, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

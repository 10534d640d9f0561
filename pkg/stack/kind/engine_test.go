package kind

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

// fakeDocker puts a program called docker first on the PATH. It answers what
// kind's library and this package ask, and writes every call down.
func fakeDocker(t *testing.T, body string) (*Engine, func() string) {
	t.Helper()
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho \"$*\" >>" + calls + "\n" + body
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return &Engine{Dir: dir, Env: os.Environ()}, func() string {
		raw, err := os.ReadFile(calls)
		if err != nil {
			return ""
		}
		return string(raw)
	}
}

const twoNodes = `
case "$*" in
"ps -a --filter label=io.x-k8s.kind.cluster --format"*) echo laconic-b; echo laconic-a; echo laconic-a;;
"ps -a --filter label=io.x-k8s.kind.cluster=laconic-a --format"*) echo laconic-a-control-plane; echo laconic-a-worker;;
"ps "*) ;;
"inspect --type container laconic-a-control-plane laconic-a-worker") cat <<'JSON'
[{"Name":"/laconic-a-worker","State":{"Running":false},"Config":{"Labels":{"io.x-k8s.kind.role":"worker"}},"Mounts":[]},
 {"Name":"/laconic-a-control-plane","State":{"Running":true},"Config":{"Labels":{"io.x-k8s.kind.role":"control-plane"}},
  "Mounts":[{"Type":"volume","Source":"/v","Destination":"/var"},{"Type":"bind","Source":"/srv/kind","Destination":"/mnt"}]}]
JSON
;;
"image inspect -f {{.Id}} web:local") echo sha256:new;;
"image inspect -f {{.Id}} same:local") echo sha256:same;;
"image inspect"*) echo "Error response from daemon: No such image: x" >&2; exit 1;;
*"crictl inspecti same:local") echo '{"status":{"id":"sha256:same"}}';;
*"crictl inspecti web:local") echo '{"status":{"id":"sha256:old"}}';;
*"containerd config dump") printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "overlayfs"\n';;
"save -o"*) echo archive >"$3";;
*"images import"*) cat >>"$(dirname "$0")/imported";;
*) echo "unexpected: $*" >&2; exit 9;;
esac
`

func TestEngineLooks(t *testing.T) {
	e, _ := fakeDocker(t, twoNodes)
	got, err := e.List(t.Context())
	if diff := cmp.Diff([]string{"laconic-a", "laconic-b"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	nodes, err := e.Nodes(t.Context(), "laconic-a")
	want := []Node{
		{Name: "laconic-a-control-plane", Role: "control-plane", Running: true, Mounts: []Mount{{"/srv/kind", "/mnt"}}},
		{Name: "laconic-a-worker", Role: "worker"},
	}
	if diff := cmp.Diff(want, nodes); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if nodes, err := e.Nodes(t.Context(), "nobody"); err != nil || len(nodes) != 0 {
		t.Errorf("of no cluster: %v, %v", nodes, err)
	}
}

func TestEngineLoadsWhatIsNewer(t *testing.T) {
	e, calls := fakeDocker(t, twoNodes)
	loaded, err := e.Load(t.Context(), "laconic-a", []string{"same:local", "web:local", "ghcr.io/x/elsewhere:1"})
	if diff := cmp.Diff([]string{"web:local"}, loaded); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if n := strings.Count(calls(), "images import"); n != 2 {
		t.Errorf("brought into %d nodes, want 2", n)
	}
	if raw, err := os.ReadFile(filepath.Join(e.Dir, "imported")); err != nil || string(raw) != "archive\narchive\n" {
		t.Errorf("imported %q, %v", raw, err)
	}
}

func TestEngineThatDoesNotAnswer(t *testing.T) {
	e, _ := fakeDocker(t, "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1\n")
	for name, ask := range map[string]func() error{
		"list":  func() error { _, err := e.List(t.Context()); return err },
		"nodes": func() error { _, err := e.Nodes(t.Context(), "x"); return err },
		"image": func() error { _, err := e.LocalID(t.Context(), "web:local"); return err },
		"load":  func() error { _, err := e.Load(t.Context(), "x", []string{"web:local"}); return err },
	} {
		err := ask()
		if fault.KindOf(err) != fault.Unreachable {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f := err.(*fault.Error); !strings.Contains(f.Why, "Cannot connect to the Docker daemon") { //nolint:errorlint // documented
			t.Errorf("%s: why is %q", name, f.Why)
		}
	}
}

func TestEngineIsNotWaitedForAfterTheEnd(t *testing.T) {
	e, _ := fakeDocker(t, "exec sleep 5\n")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	if _, err := e.List(ctx); err == nil {
		t.Error("an ended context got an answer")
	}
}

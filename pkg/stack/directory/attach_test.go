package directory

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSetClusterID(t *testing.T) {
	for _, tt := range []struct{ name, was, want string }{
		{"both ids", "# mine\ncluster-id: laconic-a # old\ndeployment-id: laconic-d\nstack-source: /s\n", "# mine\ncluster-id: laconic-b\ndeployment-id: laconic-d\nstack-source: /s\n"},
		{"an old file keeps its names", "cluster-id: laconic-a\nstack-source: /s\n", "cluster-id: laconic-b\ndeployment-id: laconic-a\nstack-source: /s\n"},
		{"it is already", "cluster-id: laconic-b\ndeployment-id: laconic-d\n", "cluster-id: laconic-b\ndeployment-id: laconic-d\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "deployment.yml")
			if err := os.WriteFile(path, []byte(tt.was), 0o640); err != nil {
				t.Fatal(err)
			}
			if err := SetClusterID(dir, "laconic-b"); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(path)
			if err != nil || string(raw) != tt.want {
				t.Errorf("got %q, %v; want %q", raw, err, tt.want)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
		})
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "deployment.yml"), []byte("deployment-id: laconic-d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := SetClusterID(dir, "laconic-b"); err == nil {
		t.Error("a file without the line was changed")
	}
}

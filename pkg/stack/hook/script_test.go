package hook

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"homelab/pkg/fault"
)

func TestScripts(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		check, run string // what the error says; "" none
		said       []string
	}{
		{name: "good", text: "#!/bin/sh\necho at $(basename $PWD) $PROJECT; cat $KUBECONFIG; echo err >&2\n", mode: 0o755, said: []string{"x: at " + filepath.Base(dir) + " p", "x: private", "x: err"}},
		{name: "without a first line", text: "echo hello\n", mode: 0o755, said: []string{"x: hello"}},
		{name: "fails", text: "#!/bin/sh\necho no luck\nexit 3\n", mode: 0o755, run: "x failed: no luck"},
		{name: "fails in silence", text: "#!/bin/sh\nexit 3\n", mode: 0o755, run: "x failed: exit status 3"},
		{name: "not executable", text: "true\n", mode: 0o644, check: "x is not executable", run: "x failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(tt.name, " ", "-"))
			if err := os.WriteFile(path, []byte(tt.text), tt.mode); err != nil {
				t.Fatal(err)
			}
			s := Script{Path: path, Name: "x", Set: []string{"PROJECT=p"}}
			tell(t, CheckScripts([]Script{s}), fault.Usage, tt.check)
			var said []string
			r := &Runner{Env: []string{"PATH=" + os.Getenv("PATH"), "KUBECONFIG=/nobody"}, Tell: func(l string) { said = append(said, l) }}
			tell(t, r.RunScript(t.Context(), s, []byte("private\n")), fault.Failed, tt.run)
			if !slices.Equal(said, tt.said) {
				t.Errorf("told %q", said)
			}
		})
	}
	tell(t, CheckScripts([]Script{{Path: filepath.Join(dir, "gone"), Name: "x"}}), fault.Usage, "x cannot be read")
	tell(t, CheckScripts([]Script{{Path: dir, Name: "x"}}), fault.Usage, "x is no file")
}

func tell(t *testing.T, err error, kind fault.Kind, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, not %q", err, want)
	}
}

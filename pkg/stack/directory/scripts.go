package directory

import (
	"os"
	"path/filepath"

	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
)

// scripts copies the commands of pods that run around a start.
func (t *tree) scripts() {
	for _, s := range t.in.stack.Scripts("") {
		from := t.env.PodScript(s.Pod, s.Source)
		at := filepath.Join(t.in.stack.Dir, "stack.yml")
		bad := func(why string) {
			t.bad = append(t.bad, file.Problem{File: at, Key: "pods." + s.Pod.Name + "." + s.Key, Message: "names " + from + ", which " + why})
		}
		switch st, err := os.Stat(from); {
		case err != nil:
			bad(reason(err))
		case !st.Mode().IsRegular():
			bad("is no file")
		case st.Mode()&0o111 == 0:
			bad("is not executable")
		default:
			t.copyAny(from, s.Place, t.env.PodScript(s.Pod, ""), file.Pos{File: at})
		}
	}
}

// Scripts returns what a deployment directory would run at a start, of one key
// or of both with "".
func Scripts(d *file.Directory, key string) []hook.Script {
	var out []hook.Script
	for _, s := range d.Stack.Scripts(key) {
		out = append(out, hook.Script{
			Path: filepath.Join(d.Path, filepath.FromSlash(s.Place)), Name: s.Key + " of pod " + s.Pod.Name,
			Set: []string{"CERC_SO_COMPOSE_PROJECT=" + d.Cluster()},
		})
	}
	return out
}

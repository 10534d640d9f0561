package stack

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"homelab/pkg/fault"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
)

// homeKey is where a directory remembers for which project it gave orders, and
// where it was then. Containers say so too, but a stack that is down has none,
// and its volumes carry the name of the project only.
const homeKey = "compose-home"

type composeHome struct {
	Project string `json:"project"`
	Dir     string `json:"dir"`
}

// atHome refuses a copy of another directory: what it would run, or delete, is
// that one's.
func (r *run) atHome() error {
	state, err := file.ReadState(r.d.Path)
	if err != nil {
		return err
	}
	var home composeHome
	if raw, ok := state.Rest[homeKey]; ok {
		if err := json.Unmarshal(raw, &home); err != nil {
			return fault.New(fault.Unsafe, file.StatePath(r.d.Path)+" does not say whose the compose project is", "").Because(err.Error()).From(err)
		}
	}
	if r.o.AdoptNamespace || home.Project != r.compose.project.Name || home.Dir == r.d.Path {
		return nil
	}
	if resolved, err := filepath.EvalSymlinks(home.Dir); err == nil && resolved == r.d.Path {
		return nil
	}
	return r.othersProject(home.Dir, r.d.Path)
}

// keepHome remembers that this directory gives orders for its project.
func (r *run) keepHome() error {
	return directory.Keep(r.d.Path, homeKey, composeHome{r.compose.project.Name, r.d.Path})
}

func (r *run) othersProject(is, own string) error {
	return apply.Refusal([]apply.Conflict{{
		Code: "project-owner", Object: apply.Ref{Kind: "Project", Name: r.compose.project.Name},
		Message: fmt.Sprintf("the compose project %s was brought up from %s, not from %s", r.compose.project.Name, is, own),
		Fix: []string{
			"a copied directory needs a cluster-id of its own in deployment.yml",
			"a directory that was moved takes its containers over with --adopt-namespace",
		},
	}})
}

package render

import (
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/stack/file"
)

// apart judges whether a volume's directory holds nothing of the deployment's
// own: what a workload writes there would be replaced by the next update, and
// it could read the secrets that lie there. Under V1, and of a
// directory further up, it is told only: such a one may be in use.
func (r *renderer) apart(v file.Volume, host string) bool {
	why, above := "", false
	if rest, holds := below(host, filepath.Clean(r.d.Path)); holds {
		why, above = "holds the deployment directory with its secrets", rest != "."
	} else if rest, ok := below(filepath.Clean(r.d.Path), host); ok {
		top, _, _ := strings.Cut(filepath.ToSlash(rest), "/")
		if slices.Contains([]string{
			"compose", "compose-jobs", "config", "configmaps", "pods", "hooks", file.StateDir, "spec.yml", "stack.yml",
			"deployment.yml", "config.env", "kubeconfig.yml", "kind-config.yml", HighMemlockFile,
		}, top) {
			why = "lies in " + top + ", where the deployment's own files are made and replaced"
		}
	}
	switch {
	case why == "":
		return true
	case !r.v2(), above:
		r.tellSpec(file.Warning, "volume-in-directory", "volumes."+v.Name, v.Pos, "%s %s: move it to ./data/%s", v.Path, why, v.Name)
		return true
	}
	r.refuseSpec("volumes."+v.Name, v.Pos, "%s %s: write ./data/%s", v.Path, why, v.Name)
	return false
}

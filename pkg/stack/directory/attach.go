package directory

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

// SetClusterID attaches a deployment to another kind cluster: it replaces the
// cluster-id of its deployment.yml and nothing else. A file without
// deployment-id gets the one it went by until now, so that no object changes
// its name. The lock must be held.
func SetClusterID(dir, name string) error { return setClusterID(dir, name, disk{}) }

func setClusterID(dir, name string, d disk) error {
	path := filepath.Join(dir, "deployment.yml")
	raw, err := os.ReadFile(path) //nolint:gosec // the deployment's own file
	if err != nil {
		return fault.Usagef("", "%s cannot be read", path).Because(reason(err)).From(err)
	}
	was, _, err := file.ParseDeployment(path, raw)
	if err != nil {
		return err
	}
	line := regexp.MustCompile(`(?m)^cluster-id:[^\n]*$`)
	if !line.Match(raw) {
		return fault.Usagef("", "%s has no line cluster-id that could be changed", path)
	}
	text := "cluster-id: " + name
	if was.FallbackID {
		text += "\ndeployment-id: " + was.ID
	}
	done := false
	out := line.ReplaceAllFunc(raw, func(old []byte) []byte {
		if done {
			return old
		}
		done = true
		return []byte(text)
	})
	now, _, err := file.ParseDeployment(path, out)
	if err != nil || now.ClusterID != name || now.ID != was.ID {
		return fault.Usagef("", "%s cannot be changed safely: write cluster-id: %s into it", path, name)
	}
	if bytes.Equal(out, raw) {
		return nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return d.write(path, out, st.Mode().Perm())
}

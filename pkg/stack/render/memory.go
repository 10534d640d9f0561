package render

import (
	"crypto/sha256"
	"encoding/json"
	"slices"

	"homelab/pkg/stack/file"
)

// Memory keeps what compose files came to from one render of a run to the
// next: a restart renders the same files before and after it has asked the
// cluster, and reading them is most of the work. The zero value is empty. It
// belongs to one goroutine.
//
// Files whose services extend other files are not kept: those are read from the
// disk and may have changed.
type Memory struct {
	key  [sha256.Size]byte
	pods []pod
	told collector
}

// load is the function of that name, unless the files are those of the last
// time.
func (m *Memory) load(d *file.Directory, stage string, onDisk func(string) string) ([]pod, *collector) {
	if m == nil {
		return load(d, onDisk)
	}
	key, ok := keyOf(d, stage)
	if !ok {
		return load(d, onDisk)
	}
	if m.key != key {
		pods, c := load(d, onDisk)
		for _, p := range pods {
			if slices.ContainsFunc(p.services, func(s service) bool { return len(s.extends) > 0 }) {
				return pods, c
			}
		}
		m.key, m.pods, m.told = key, pods, *c
	}
	pods := slices.Clone(m.pods)
	for i := range pods {
		pods[i].services = slices.Clone(pods[i].services) // which of them come first is marked there
	}
	return pods, &collector{notices: slices.Clone(m.told.notices), problems: slices.Clone(m.told.problems)}
}

// keyOf is a digest of everything that loading depends on.
func keyOf(d *file.Directory, stage string) (key [sha256.Size]byte, ok bool) {
	raw, err := json.Marshal(struct {
		Rules      file.Rules
		Stage      string
		Env        []file.EnvVar
		Hidden     map[string]string
		Pods, Jobs []file.Source
	}{d.Deployment.Rules, stage, d.Env, hidden(d), d.Pods, d.Jobs})
	return sha256.Sum256(raw), err == nil
}

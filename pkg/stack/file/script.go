package file

import (
	"path"
	"path/filepath"
)

// Script is a command of a pod of another repository, which runs on this
// machine around a start.
type Script struct {
	Pod    Pod
	Key    string // "pre_start_command" or "post_start_command"
	Source string // below the pod's path, as written
	Place  string // in a deployment directory, slash-separated
}

// The keys of scripts.
const (
	PreStart  = "pre_start_command"
	PostStart = "post_start_command"
)

// Scripts returns the commands of a stack's pods in the order they run in:
// those of one key, or of both with "".
func (s *Stack) Scripts(key string) []Script {
	var out []Script
	for _, k := range []string{PreStart, PostStart} {
		for _, p := range s.Pods {
			source := p.PreStart
			if k == PostStart {
				source = p.PostStart
			}
			if source == "" || key != "" && key != k {
				continue
			}
			out = append(out, Script{Pod: p, Key: k, Source: source, Place: path.Join("pods", p.Name, "scripts", filepath.Base(source))})
		}
	}
	return out
}

// command judges what a pod says is to be run.
func (p Pod) command(r *reader, v value, source string) {
	switch {
	case source == "":
	case p.Repository == "":
		r.fail(v, "needs repository: the script comes from there")
	case !filepath.IsLocal(source) || filepath.Clean(source) == ".":
		r.fail(v, "must be a file below the pod's path, not %s", quoted(source))
	}
}

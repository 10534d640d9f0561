// Package stackview is how verbs show stacks and their deployments: the JSON
// that the results of several groups have in common, and notices.
package stackview

import (
	"homelab/pkg/stack/file"
	"homelab/pkg/ui"
)

// The JSON shapes below are public: names do not change, golden files pin
// them. A field that is absent is unknown; null means there is none.

// Deployment says which deployment a result is about. A spec file that no
// directory was made of yet has neither a directory nor an id.
type Deployment struct {
	Dir       *string     `json:"dir"`
	ID        *string     `json:"id"`
	Cluster   *string     `json:"cluster"`
	Namespace *string     `json:"namespace"`
	Target    file.Target `json:"target"`
	Stack     string      `json:"stack"`
	Render    *string     `json:"render"`
}

// Plan is what a run changes or would change: files of a directory, or objects
// of a cluster.
type Plan[T any] struct {
	Create    []T `json:"create"`
	Update    []T `json:"update"`
	Replace   []T `json:"replace"`
	Delete    []T `json:"delete"`
	Unchanged int `json:"unchanged"`
}

// Clean returns a notice that a terminal can be shown.
func Clean(n file.Notice) file.Notice {
	n.File, n.Key, n.Service, n.Message = ui.Clean(n.File), ui.Clean(n.Key), ui.Clean(n.Service), ui.Clean(n.Message)
	return n
}

// Word is what a notice's line begins with, and how it is shown on a terminal.
func Word(l file.Level) (string, ui.Style) {
	switch l {
	case file.Warning:
		return "warning", ui.Waiting
	case file.Ignored:
		return "ignored", ui.Plain
	case file.Changed:
		return "changed", ui.Plain
	case file.Info:
	}
	return "notice", ui.Plain
}

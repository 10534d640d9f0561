// Package about holds the verbs that tell about the program itself: manifest,
// version, completion, help. They work offline and unconfigured.
package about

import (
	"homelab/pkg/ui"
)

// Deps is all this group needs.
type Deps struct {
	IO      *ui.Streams
	Version string // "" for a build without a release
}

package pipeline

import (
	"time"

	"homelab/pkg/ui"
)

// span words a duration as the rest of the program does: 12s, 1m04s.
func span(d time.Duration) string { return ui.Duration(d) }

package run

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"sync"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/store"
	"homelab/pkg/ui"
)

const (
	hookBytes = 64 << 10 // of a hook's output that are kept, its end
	hookLines = 1000     // of one activation that become events
	hookLine  = 4 << 10  // bytes of one line
)

// Desk is what a target may need of its watch before that is open: its store,
// and an ear for what its hooks say. Its methods may be called from anywhere.
type Desk struct {
	mu    sync.Mutex
	files *store.Store
	dry   bool
	seen  map[artifact.ID]bool // that a check would have imported
	lines []string
	size  int
	told  int
	say   func(string)
}

// NewDesk returns a desk for Options.
func NewDesk() *Desk { return &Desk{} }

func (d *Desk) open(files *store.Store, dry bool, say func(string)) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files, d.dry, d.say, d.seen = files, dry, say, map[artifact.ID]bool{}
}

// at is the store, and whether it may only be looked at.
func (d *Desk) at() (*store.Store, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files, d.dry
}

func closed() error {
	return &artifact.Failure{Class: artifact.Transient, What: "the watch is not open"}
}

// Import copies a regular file that was found at path into the store, so that
// there is a way back to it. run names this process. Errors are
// *artifact.Failure.
func (d *Desk) Import(ctx context.Context, run, path string) (artifact.ID, error) {
	files, dry := d.at()
	switch {
	case files == nil:
		return "", closed()
	case !dry:
		return files.Import(ctx, run, path)
	}
	id, err := hashed(path)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.seen[id] = true
	}
	return id, err
}

// Verify hashes id's stored file, as store.Store does.
func (d *Desk) Verify(ctx context.Context, id artifact.ID) error {
	files, _ := d.at()
	switch {
	case files == nil:
		return closed()
	case d.would(id):
		return nil
	}
	return files.Verify(ctx, id)
}

// Has reports whether id's file is in the store.
func (d *Desk) Has(id artifact.ID) bool {
	files, _ := d.at()
	return files != nil && (d.would(id) || files.Has(id))
}

// would reports whether a check found id's file where a run would store it.
func (d *Desk) would(id artifact.ID) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[id]
}

// hashed is what Import would return.
func hashed(path string) (artifact.ID, error) {
	f, err := os.Open(path) //nolint:gosec // the configured target
	if err != nil {
		return "", &artifact.Failure{Class: artifact.Transient, What: err.Error(), Err: err}
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return "", &artifact.Failure{Class: artifact.Hold, Why: artifact.NoWayBack, What: path + " is not a regular file"}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", &artifact.Failure{Class: artifact.Transient, What: err.Error(), Err: err}
	}
	return artifact.NewID([32]byte(sum.Sum(nil))), nil
}

// Path is where id's file is in the store, or would be; "" if id has none or
// the watch is not open.
func (d *Desk) Path(id artifact.ID) string {
	files, _ := d.at()
	if files == nil {
		return ""
	}
	return files.Path(id)
}

// Line takes one line of a hook's output: it is told, and its end is kept as
// evidence of the activation it belongs to.
func (d *Desk) Line(text string) {
	text = ui.Clean(text)
	text = text[:min(len(text), hookLine)]
	d.mu.Lock()
	d.lines, d.size = append(d.lines, text), d.size+len(text)+1
	for d.size > hookBytes {
		d.size -= len(d.lines[0]) + 1
		d.lines = d.lines[1:]
	}
	d.told++
	say, n := d.say, d.told
	d.mu.Unlock()
	switch {
	case say == nil || n > hookLines:
	case n == hookLines:
		say("it says more than is told here")
	default:
		say(text)
	}
}

// fresh forgets what was said before an activation.
func (d *Desk) fresh() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines, d.size, d.told = nil, 0, 0
}

// evidence is the end of what was said, in pieces that are kept whole.
func (d *Desk) evidence() []string {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	const piece = 4000
	for _, l := range d.lines {
		if n := len(all); n > 0 && len(all[n-1])+len(l) < piece {
			all[n-1] += "\n" + l
			continue
		}
		all = append(all, l)
	}
	return all
}

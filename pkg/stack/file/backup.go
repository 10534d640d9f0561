package file

import (
	"path/filepath"
	"strings"
)

// Backup says whether path, below the directory, is a copy that an update kept
// beside the file it replaced. Such a copy is a person's to look at: a
// directory that is mounted whole does not have it. A FILE.bak that the stack
// itself ships is none.
func (d *Directory) Backup(path string) bool {
	rel, err := filepath.Rel(d.Path, path)
	if err != nil || !filepath.IsLocal(rel) || !strings.HasSuffix(rel, ".bak") {
		return false
	}
	name := filepath.ToSlash(rel)
	_, shipped := d.Hashes[name]
	// What is no longer generated is in no record any more, but its copy is.
	return !shipped && len(d.Hashes) > 0
}

package store

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// At is the store in dir for looking only: nothing is made or removed. Path,
// Has, Verify and Room work without the watch's lock, and before there is
// anything.
func At(dir string, o Options) *Store {
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.Free == nil {
		o.Free = free
	}
	return &Store{dir, o}
}

// Room is Hold with DiskFull if there is less than twice the space for size
// bytes, which Fetch would refuse. A size of 0 is not known and fits.
func (s *Store) Room(size int64) error {
	at := *s
	for {
		err := at.room(size)
		up := filepath.Dir(at.dir)
		if !errors.Is(err, fs.ErrNotExist) || up == at.dir {
			return err
		}
		at.dir = up
	}
}

// Package store keeps the files of artifacts by their hash. A file is there
// whole or not at all: it is hashed while it is written, put in place by a
// rename, never written again, and hashed again before it is used.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/digest"
)

// DefaultMaxSize caps an artifact whose size nobody announced, in bytes.
const DefaultMaxSize = 2 << 30

// Options change what a Store does. The zero value is ready.
type Options struct {
	MaxSize int64 // where none is announced; 0: DefaultMaxSize
	// Free returns the free bytes of the file system that holds dir; nil: asks
	// the system.
	Free func(dir string) (int64, error)
}

// Store is one watch's, under its lock.
type Store struct {
	dir string
	o   Options
}

const tmp = ".tmp-"

// Open makes dir if need be and removes what an interrupted download left.
func Open(dir string, o Options) (*Store, error) {
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.Free == nil {
		o.Free = free
	}
	s := &Store{dir, o}
	if err := s.mkdir(filepath.Join(dir, "sha256")); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tmp) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("store: %w", err)
			}
		}
	}
	return s, nil
}

// mkdir makes the directories down to at, which others may pass through but
// not list, whatever the umask: the unit that runs a file may be another user.
func (s *Store) mkdir(at string) error {
	var missing []string
	for d := at; strings.HasPrefix(d, s.dir); d = filepath.Dir(d) {
		missing = append(missing, d)
		if d == s.dir {
			break
		}
	}
	for _, d := range slices.Backward(missing) {
		err := os.Mkdir(d, 0o711) //nolint:gosec // see above
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(d, 0o711) //nolint:gosec // see above
		}
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return fmt.Errorf("store: %w", err)
		}
		if err := errors.Join(os.Chmod(d, 0o711), syncDir(filepath.Dir(d))); err != nil { //nolint:gosec // see above
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// Path is where id's file is, or would be. Only sha256 ids have files; of
// others it is "".
func (s *Store) Path(id artifact.ID) string {
	if checked, err := artifact.ParseID(string(id)); err != nil || checked != id || !strings.HasPrefix(string(id), "sha256:") {
		return ""
	}
	return filepath.Join(s.dir, "sha256", id.Hex()[:2], id.Hex())
}

// Has reports whether id's file is there; Verify whether it is right.
func (s *Store) Has(id artifact.ID) bool {
	path := s.Path(id)
	if path == "" {
		return false
	}
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// Fetch puts c's file in place: fetch writes it. run names this process. A
// file that is there and right is not fetched again. Errors: fetch's own
// (Transient if it is no *artifact.Failure); Refused for more, fewer or other
// bytes than were announced; Hold with DiskFull.
func (s *Store) Fetch(ctx context.Context, run string, c artifact.Candidate, fetch func(context.Context, io.Writer) error) error {
	path := s.Path(c.ID)
	if path == "" {
		return &artifact.Failure{Class: artifact.Refused, What: string(c.ID) + " is not the hash of a file"}
	}
	if s.Verify(ctx, c.ID) == nil {
		return nil
	}
	if err := s.room(c.Size); err != nil {
		return err
	}
	at := filepath.Join(s.dir, tmp+filepath.Base(run))
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // our own directory
	if err != nil {
		return trouble(err)
	}
	defer func() { _ = os.Remove(at) }()
	w := &meter{w: f, sum: sha256.New(), most: s.o.MaxSize}
	if c.Size > 0 {
		w.most = c.Size
	}
	err = fetch(ctx, w)
	switch {
	case w.err != nil:
		err = w.err
	case err != nil:
		err = artifact.FailureOf(err, artifact.Transient)
	default:
		err = w.right(c)
	}
	if err == nil {
		err = trouble(errors.Join(f.Chmod(0o444), f.Sync()))
	}
	if closed := f.Close(); err == nil {
		err = trouble(closed)
	}
	if err != nil {
		return err
	}
	return s.place(at, path)
}

// place renames a whole file to where it belongs.
func (s *Store) place(at, path string) error {
	if err := s.mkdir(filepath.Dir(path)); err != nil {
		return trouble(err)
	}
	if err := os.Rename(at, path); err != nil {
		return trouble(err)
	}
	return trouble(syncDir(filepath.Dir(path)))
}

// room holds a download for which there is less than twice the space.
func (s *Store) room(size int64) error {
	if size <= 0 {
		return nil // the disk itself will say
	}
	have, err := s.o.Free(s.dir)
	if err != nil {
		return trouble(err)
	}
	if have/2 < size {
		return &artifact.Failure{Class: artifact.Hold, Why: artifact.DiskFull, What: fmt.Sprintf("%d bytes are free, twice %d are wanted", have, size)}
	}
	return nil
}

// trouble is an error of the file system as the watch understands it.
func trouble(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &artifact.Failure{Class: artifact.Hold, Why: artifact.DiskFull, What: err.Error(), Err: err}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &artifact.Failure{Class: artifact.Denied, What: err.Error(), Err: err}
	}
	return &artifact.Failure{Class: artifact.Transient, What: err.Error(), Err: err}
}

// meter counts and hashes what is written, and stops at the announced size.
type meter struct {
	w   io.Writer
	sum interface {
		io.Writer
		Sum([]byte) []byte
	}
	n    int64
	most int64
	err  error
}

func (m *meter) Write(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if int64(len(p)) > m.most-m.n {
		m.err = &artifact.Failure{Class: artifact.Refused, What: fmt.Sprintf("more than the %d bytes that were announced or are allowed", m.most)}
		return 0, m.err
	}
	n, err := m.w.Write(p)
	m.n += int64(n)
	_, _ = m.sum.Write(p[:n]) // a hash takes everything
	if err != nil {
		m.err = trouble(err)
	}
	return n, m.err
}

// right compares what came with what was announced.
func (m *meter) right(c artifact.Candidate) error {
	if c.Size > 0 && m.n != c.Size {
		return &artifact.Failure{Class: artifact.Refused, What: fmt.Sprintf("%d bytes came, %d were announced", m.n, c.Size)}
	}
	if got := artifact.NewID([32]byte(m.sum.Sum(nil))); got != c.ID {
		return &artifact.Failure{Class: artifact.Refused, What: fmt.Sprintf("what came is %s, announced was %s", got, c.ID)}
	}
	return nil
}

// Verify hashes id's file. Absent: it is not there; Refused: it is not what it
// was.
func (s *Store) Verify(ctx context.Context, id artifact.ID) error {
	path := s.Path(id)
	if path == "" {
		return &artifact.Failure{Class: artifact.Absent, What: string(id) + " is not a file's hash"}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0) //nolint:gosec // our own directory
	if errors.Is(err, fs.ErrNotExist) {
		return &artifact.Failure{Class: artifact.Absent, What: id.Short() + " is not in the store", Err: err}
	}
	if err != nil {
		return trouble(err)
	}
	defer func() { _ = f.Close() }()
	got, err := digest.Of(ctx, f)
	if err != nil {
		return trouble(err)
	}
	if got != id {
		return &artifact.Failure{Class: artifact.Refused, What: fmt.Sprintf("the stored %s has become %s", id.Short(), got.Short())}
	}
	return nil
}

// Import copies a regular file that was found into the store: the way back
// from the first version a watch brings.
func (s *Store) Import(ctx context.Context, run, path string) (artifact.ID, error) {
	from, err := os.Open(path) //nolint:gosec // the configured target
	if err != nil {
		return "", trouble(err)
	}
	defer func() { _ = from.Close() }()
	info, err := from.Stat()
	if err != nil {
		return "", trouble(err)
	}
	if !info.Mode().IsRegular() {
		return "", &artifact.Failure{Class: artifact.Hold, Why: artifact.NoWayBack, What: path + " is not a regular file"}
	}
	if err := s.room(info.Size()); err != nil {
		return "", err
	}
	at := filepath.Join(s.dir, tmp+filepath.Base(run))
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // our own directory
	if err != nil {
		return "", trouble(err)
	}
	defer func() { _ = os.Remove(at) }()
	id, err := digest.Copy(ctx, f, from)
	if err = errors.Join(err, f.Chmod(0o444), f.Sync(), f.Close()); err != nil {
		return "", trouble(err)
	}
	return id, s.place(at, s.Path(id))
}

// Discard deletes id's file, if there is one.
func (s *Store) Discard(id artifact.ID) error {
	path := s.Path(id)
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return trouble(err)
	}
	return nil
}

// Prune deletes every file but those of keep.
func (s *Store) Prune(keep []artifact.ID) error {
	top := filepath.Join(s.dir, "sha256")
	dirs, err := os.ReadDir(top)
	if err != nil {
		return trouble(err)
	}
	var all []error
	for _, d := range dirs {
		files, err := os.ReadDir(filepath.Join(top, d.Name()))
		all = append(all, err)
		left := len(files)
		for _, f := range files {
			if slices.Contains(keep, artifact.ID("sha256:"+f.Name())) {
				continue
			}
			all = append(all, os.Remove(filepath.Join(top, d.Name(), f.Name())))
			left--
		}
		if left == 0 && err == nil {
			all = append(all, os.Remove(filepath.Join(top, d.Name())))
		}
	}
	return trouble(errors.Join(all...))
}

func free(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * fs.Bsize, nil //nolint:gosec,unconvert // a disk of 8 EiB is far away; Bsize is not int64 everywhere
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // our own directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

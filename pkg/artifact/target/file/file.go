// Package file is the target that is one path of a file system: a symbolic
// link into the store, or a copy, and perhaps a systemd unit that is restarted
// afterwards. The path is replaced by a rename, so that it leads to the old
// file or to the new one, whole, at every moment.
//
// # Between the rename and the restart
//
// A process that is killed there leaves a path that leads to the new file and a
// unit that runs the old one. Which of both runs could not be told afterwards;
// so before the rename a marker says what is about to be restarted, and it goes
// when systemctl has been asked. While it lies there, Observe answers what the
// unit really runs: the version before.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/digest"
	"homelab/pkg/artifact/program"
)

// Deps is what a file target needs.
type Deps struct {
	// Path is where the store has, or would have, id's file; absolute.
	Path func(id artifact.ID) string
	// Import copies the regular file at path into the store.
	Import func(ctx context.Context, path string) (artifact.ID, error)
	// Dir is where the marker lies, and where systemctl runs; absolute. It is not
	// used without a unit.
	Dir string
	Env []string // systemctl gets its PATH, HOME and LANG
	// Tell gets each line of systemctl's output, cleaned; nil: nobody.
	Tell func(line string)
	// Redact is applied to each line first; nil: nothing.
	Redact func(string) string
	// Free returns the free bytes of the file system that holds dir; nil: asks
	// the system.
	Free func(dir string) (int64, error)
}

// Target is a path.
type Target struct {
	s      Spec
	d      Deps
	part   string                 // beside PATH: what will be renamed to it
	said   []string               // by the last restart
	failed map[artifact.ID]string // whose restart failed, and how
	linger time.Duration          // how long a restart goes on after its ctx ended
	step   func(name string)      // tests end the process here; nil: nothing
}

var _ artifact.Target = (*Target)(nil)

// New looks nothing up: whether the path can be written is Stage's to find out.
func New(s Spec, d Deps) (*Target, error) {
	if s.Unit != "" && !filepath.IsAbs(d.Dir) {
		return nil, fmt.Errorf("%q is no absolute directory", d.Dir)
	}
	if d.Free == nil {
		d.Free = free
	}
	part := filepath.Join(filepath.Dir(s.Path), "."+filepath.Base(s.Path)+".part")
	return &Target{s: s, d: d, part: part, linger: linger}, nil
}

// Observe hashes what the path leads to. A link that leads nowhere is nothing;
// what is no file cannot be told.
func (t *Target) Observe(ctx context.Context, _ []artifact.ID) (artifact.Observation, error) {
	o, err := t.found(ctx)
	if err != nil || o.Sight != artifact.Runs {
		return o, err
	}
	if m := t.pending(); m != nil && m.To == o.ID {
		// The unit was never told: it runs what ran before.
		if m.From == "" {
			return artifact.Observation{Sight: artifact.Nothing}, nil
		}
		return artifact.Observation{Sight: artifact.Runs, ID: m.From}, nil
	}
	return o, nil
}

// found is what the path leads to.
func (t *Target) found(ctx context.Context) (artifact.Observation, error) {
	unknown := func(why string) (artifact.Observation, error) {
		return artifact.Observation{Sight: artifact.Unknown, Why: t.s.Path + " " + why}, nil
	}
	id, err := hash(ctx, t.s.Path)
	switch {
	case err == nil:
		return artifact.Observation{Sight: artifact.Runs, ID: id}, nil
	case errors.Is(err, errNoFile):
		return unknown("leads to something that is no file")
	case errors.Is(err, syscall.ELOOP):
		return unknown("is a link that goes round in circles")
	case errors.Is(err, fs.ErrNotExist):
		if st, err := os.Stat(filepath.Dir(t.s.Path)); errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
			return artifact.Observation{}, noDir(t.s.Path)
		}
		return artifact.Observation{Sight: artifact.Nothing}, nil
	case errors.Is(err, syscall.ENOTDIR):
		return artifact.Observation{}, noDir(t.s.Path)
	case ctx.Err() != nil:
		return artifact.Observation{}, context.Cause(ctx)
	}
	return artifact.Observation{}, trouble(err)
}

func noDir(path string) *artifact.Failure {
	return &artifact.Failure{Class: artifact.Absent, What: "there is no directory " + filepath.Dir(path)}
}

// errNoFile is of a path that leads to a directory, a device, a pipe.
var errNoFile = errors.New("is not a regular file")

// open opens a regular file, and hangs at nothing else.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the configured target, or the store
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errNoFile
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func hash(ctx context.Context, path string) (artifact.ID, error) {
	// A device may do something when it is opened.
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return "", errNoFile
	}
	f, err := open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return digest.Of(ctx, f)
}

// Stage finds out whether the path could be replaced, without trying, and
// copies what is found there into the store, if it is the way back and not
// there yet. Whether what is in the store is whole, and what to do about a way
// back that is neither here nor there, is for whoever has the store.
func (t *Target) Stage(ctx context.Context, s artifact.Switch) (artifact.Stage, error) {
	var st artifact.Stage
	if err := taken(s); err != nil {
		return st, err
	}
	o, err := t.found(ctx)
	if err != nil {
		return st, err
	}
	if o.Sight == artifact.Unknown {
		return st, hold(artifact.Preflight, o.Why)
	}
	if err := t.writable(s.To.Size); err != nil {
		return st, err
	}
	if err := t.restartable(ctx); err != nil {
		return st, err
	}
	warning, err := t.wayBack(ctx, s, o)
	if warning != "" {
		st.Warnings = append(st.Warnings, warning)
	}
	if to, err := os.Readlink(t.s.Path); err == nil && o.Sight == artifact.Runs && to != t.d.Path(o.ID) {
		st.Warnings = append(st.Warnings, fmt.Sprintf("%s was a link to %.200q and will not be any more", t.s.Path, to))
	}
	return st, err
}

// taken refuses what this target cannot take.
func taken(s artifact.Switch) error {
	switch {
	case s.To.Kind != artifact.File:
		return hold(artifact.Preflight, fmt.Sprintf("%s is not a file but of kind %s", s.To.ID.Short(), s.To.Kind))
	case !filepath.IsAbs(s.ToPath):
		return hold(artifact.Preflight, fmt.Sprintf("the store has no absolute path for %s", s.To.ID.Short()))
	}
	return nil
}

// writable asks whether the directory would take another file of so many bytes.
// Nothing is written: a check may run beside the process that does.
func (t *Target) writable(size int64) error {
	dir := filepath.Dir(t.s.Path)
	if t.s.Copy {
		have, err := t.d.Free(dir)
		if err != nil {
			return trouble(err)
		}
		if have/2 < size {
			return hold(artifact.DiskFull, fmt.Sprintf("%d bytes are free in %s, twice %d are wanted", have, dir, size))
		}
	}
	if st, err := os.Lstat(t.part); err == nil && foreign(st) {
		return inTheWay(t.part)
	}
	const write, pass = 2, 1
	if err := syscall.Access(dir, write|pass); err != nil {
		return trouble(&fs.PathError{Op: "write to", Path: dir, Err: err})
	}
	return nil
}

// foreign reports whether what lies beside the path is nothing this makes.
func foreign(st fs.FileInfo) bool {
	return !st.Mode().IsRegular() && st.Mode()&fs.ModeSymlink == 0
}

func inTheWay(part string) error {
	return hold(artifact.Preflight, part+" is in the way, and nothing this watch made")
}

// clear removes what an interrupted switch left beside the path.
func (t *Target) clear() error {
	st, err := os.Lstat(t.part)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return trouble(err)
	case foreign(st):
		return inTheWay(t.part)
	}
	return trouble(os.Remove(t.part))
}

// wayBack copies what runs into the store, if it can be found. o is what the
// path leads to.
func (t *Target) wayBack(ctx context.Context, s artifact.Switch, o artifact.Observation) (warning string, err error) {
	if s.From == nil && o.Sight != artifact.Runs {
		return "", nil
	}
	want := o.ID
	if s.From != nil {
		want = s.From.ID
	}
	have, err := hash(ctx, t.d.Path(want))
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err == nil && have == want:
		return "", nil
	case o.ID != want:
		return "", nil // its source may still have it
	}
	got, err := t.d.Import(ctx, t.s.Path)
	if err == nil && got != want {
		err = &artifact.Failure{Class: artifact.Transient, What: t.s.Path + " changed while it was copied"}
	}
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case s.NoRollback:
		return "what runs is not kept: " + err.Error(), nil
	}
	return "", err
}

// Activate makes the path lead to s.To.
func (t *Target) Activate(ctx context.Context, s artifact.Switch) error {
	delete(t.failed, s.To.ID)
	return t.put(ctx, s, true)
}

// Rollback makes it lead to s.To again.
func (t *Target) Rollback(ctx context.Context, s artifact.Switch) error {
	delete(t.failed, s.To.ID)
	return t.put(ctx, s, false)
}

// put replaces the path. Until the rename an error means that nothing was
// changed.
func (t *Target) put(ctx context.Context, s artifact.Switch, forward bool) error {
	t.said = nil
	if err := taken(s); err != nil {
		return err
	}
	if st, err := os.Stat(s.ToPath); err != nil || !st.Mode().IsRegular() {
		return &artifact.Failure{Class: artifact.Failed, What: s.To.ID.Short() + " is not in the store", Err: err}
	}
	if err := t.clear(); err != nil {
		return err
	}
	if err := t.prepare(ctx, s); err != nil {
		_ = os.Remove(t.part)
		return err
	}
	t.at("prepared")
	if t.s.Unit != "" {
		if err := t.mark(s); err != nil {
			_ = os.Remove(t.part)
			return trouble(err)
		}
		t.at("marked")
	}
	if err := os.Rename(t.part, t.s.Path); err != nil {
		return errors.Join(trouble(err), os.Remove(t.part), t.unmark())
	}
	t.at("renamed")
	err := syncDir(filepath.Dir(t.s.Path))
	if t.s.Unit != "" {
		err = errors.Join(err, t.restart(ctx, s, forward))
		t.at("restarted")
		err = errors.Join(err, t.unmark())
	}
	if err != nil {
		return &artifact.Failure{Class: artifact.Failed, What: err.Error(), Err: err}
	}
	return nil
}

func (t *Target) at(step string) {
	if t.step != nil {
		t.step(step)
	}
}

// prepare makes beside the path what will be renamed to it.
func (t *Target) prepare(ctx context.Context, s artifact.Switch) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if !t.s.Copy {
		return trouble(os.Symlink(s.ToPath, t.part))
	}
	from, err := open(s.ToPath)
	if err != nil {
		return trouble(err)
	}
	defer func() { _ = from.Close() }()
	mode, uid, gid := fs.FileMode(0o644), -1, -1
	if st, err := os.Stat(t.s.Path); err == nil && st.Mode().IsRegular() {
		mode = st.Mode().Perm() // what could be executed still can
		if own, ok := st.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(own.Uid), int(own.Gid)
		}
	}
	f, err := os.OpenFile(t.part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return trouble(err)
	}
	got, err := digest.Copy(ctx, f, from)
	t.at("written")
	_ = f.Chown(uid, gid) // whom it belonged to, where that is allowed
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return trouble(err)
	}
	if got != s.To.ID {
		return &artifact.Failure{Class: artifact.Failed, What: fmt.Sprintf("the stored %s has become %s", s.To.ID.Short(), got.Short())}
	}
	return nil
}

// Ready tells how the unit is, as far as systemd can; without a unit the target
// has no opinion.
func (t *Target) Ready(ctx context.Context, s artifact.Switch) (artifact.Readiness, error) {
	if t.s.Unit == "" {
		return artifact.Readiness{State: artifact.IsReady}, nil
	}
	if why := t.failed[s.To.ID]; why != "" {
		return artifact.Readiness{State: artifact.NotReady, Reason: why, Evidence: t.said}, nil
	}
	return t.unitReady(ctx)
}

// Evidence is the end of what the last restart printed, at most 16 texts of at
// most 4 KiB.
func (t *Target) Evidence() []string { return t.said }

func hold(why artifact.Why, what string) *artifact.Failure {
	return &artifact.Failure{Class: artifact.Hold, Why: why, What: what}
}

// trouble is an error of the file system as the watch understands it.
func trouble(err error) error {
	_, sorted := errors.AsType[*artifact.Failure](err)
	switch {
	case err == nil || sorted:
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &artifact.Failure{Class: artifact.Hold, Why: artifact.DiskFull, What: err.Error(), Err: err}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &artifact.Failure{Class: artifact.Denied, What: err.Error(), Err: err}
	}
	return &artifact.Failure{Class: artifact.Transient, What: err.Error(), Err: err}
}

func free(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec,unconvert // a disk of 8 EiB is far away; Bsize is not int64 everywhere
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the configured target's
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// systemctl runs one command of systemd's, as a question or not.
func (t *Target) systemctl(ctx context.Context, question bool, args ...string) program.End {
	p := program.Program{
		Path: "systemctl", Args: args, Env: program.Variables{}.Environ(t.d.Env), Dir: t.d.Dir,
		Answer: question, Sweep: true, Grace: leave, Redact: t.d.Redact,
	}
	if !question {
		p.Tell = t.d.Tell
	}
	return program.Run(ctx, p)
}

// word is the first word of an answer.
func word(end program.End) string {
	if f := strings.Fields(string(end.Answer)); len(f) > 0 {
		return f[0]
	}
	return ""
}

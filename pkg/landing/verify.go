package landing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

const (
	verifyLimit = 20 * time.Minute // of a command that names none
	verifyGrace = 10 * time.Second // to tidy up when the time is up
	hurryGrace  = 700 * time.Millisecond
	remembered  = time.Hour
	logLimit    = 64 << 20
)

// choose decides what verifies the candidate.
func (l *lander) choose(ctx context.Context) error {
	l.commands, l.detected = nil, false
	switch {
	case l.o.NoVerify:
		return nil
	case l.o.VerifyCmd != "":
		l.commands = []Command{{Run: l.o.VerifyCmd}}
		return nil
	case len(l.rules.Verify) > 0:
		if l.commands = selected(l.rules.Verify, l.plan.changed); len(l.commands) == 0 {
			return l.unverifiable("no entry of verify in %s matches what changes (%s)", l.File, listed(l.plan.changed))
		}
		return nil
	case l.gated:
		return nil // CI is the gate
	}
	var err error
	if l.commands, err = l.detection(ctx); err != nil {
		return err
	}
	l.detected = true
	return nil
}

func (l *lander) unverifiable(format string, args ...any) error {
	e := stop(fault.Usage, "homelab work land --verify-cmd COMMAND", format, args...)
	return e.Because("write \"verify: COMMAND\" into " + l.File + " on " + l.out.Base + ", say --verify-cmd, or --no-verify")
}

// verify runs the commands on exactly the candidate, in a work tree of the
// tool's own: in the user's, a fix that is not committed would pass and
// something else be pushed.
func (l *lander) verify(ctx context.Context) error {
	l.out.Verify = &Verification{Command: named(l.commands), Status: VerifySkipped}
	if len(l.commands) == 0 {
		if l.o.NoVerify {
			l.warn("not verified, as asked")
		}
		return l.write(Verified)
	}
	var err error
	if l.plan.tree, err = l.Repo.Tree(ctx, string(l.plan.candidate)); err != nil {
		return err
	}
	key := l.passKey()
	if l.passed(key) {
		l.out.Verify.Status = VerifyRemembered
		l.say("verify", "%s passed on this very tree before", l.out.Verify.Command)
		return l.write(Verified)
	}
	began := time.Now()
	scratch, err := l.scratch(ctx)
	if err != nil {
		return err
	}
	log, err := newTailLog(l.logFile())
	if err != nil {
		return err
	}
	defer func() { _ = log.close() }()
	for _, c := range l.commands {
		l.say("verify", "%s", named([]Command{c}))
		err := l.command(ctx, scratch, c, log)
		l.out.Verify.Elapsed = time.Since(began)
		if err != nil {
			return err
		}
	}
	if err := l.untouched(ctx, scratch); err != nil {
		return err
	}
	l.out.Verify.Status = VerifyPassed
	l.say("verify", "passed in %s", brief(l.out.Verify.Elapsed))
	l.remember(key)
	return l.write(Verified)
}

func brief(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

var errVerifyTime = errors.New("the verification's time is up")

// command runs one command.
func (l *lander) command(ctx context.Context, scratch *git.Repo, c Command, log io.Writer) error {
	limit := c.Timeout
	if limit <= 0 {
		limit = verifyLimit
	}
	dir := filepath.Join(scratch.Root(), filepath.FromSlash(c.Dir))
	if ok, err := inside(scratch.Root(), dir); err != nil || !ok {
		return stop(fault.Usage, "", "verify runs in %s, which is no directory of the candidate", c.Dir)
	}
	inner, cancel := context.WithTimeoutCause(ctx, limit, errVerifyTime)
	defer cancel()
	out := &lineWriter{tell: func(s string) { l.Tell(Line{Text: s}) }, also: log}
	_, err := git.Run(inner, git.Command{
		Dir: dir, Name: "sh", Args: []string{"-c", c.Run}, Env: l.Env, Stdout: out, Stderr: out, Sweep: true, Grace: verifyGrace, Mark: l.verifyMark(),
		Hurry: func(cause error) time.Duration {
			if _, signalled := errors.AsType[*fault.Signal](cause); signalled {
				return hurryGrace
			}
			return verifyGrace
		},
	})
	out.flush()
	failed, ended := errors.AsType[*git.CommandError](err)
	name := named([]Command{c})
	switch {
	case err == nil:
		return nil
	case inner.Err() != nil && ctx.Err() == nil:
		l.out.Verify.Status = VerifyTimeout
		return stop(fault.Timeout, "homelab work land", "%s did not end within %s; nothing was pushed", name, limit).From(err)
	case ctx.Err() != nil:
		if fault.KindOf(context.Cause(ctx)) == fault.Timeout {
			l.out.Verify.Status = VerifyTimeout
		}
		return err
	case !ended:
		return err
	}
	l.out.Verify.Status = VerifyFailed
	end := fmt.Sprintf("exit %d", failed.ExitCode)
	if failed.Signal != "" {
		end = failed.Signal
	}
	l.warn("the whole output is in %s; ignored files (.env, node_modules) are not there when it runs", l.logFile())
	return stop(fault.Failed, "homelab work land", "%s failed (%s) on the candidate; nothing was pushed", name, end).From(err)
}

// inside says whether dir is a directory below root once links are followed.
func inside(root, dir string) (bool, error) {
	r, err := filepath.EvalSymlinks(root)
	if err != nil {
		return false, err
	}
	d, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, err
	}
	info, err := os.Stat(d)
	if err != nil {
		return false, err
	}
	return info.IsDir() && (d == r || strings.HasPrefix(d, r+string(filepath.Separator))), nil
}

// untouched checks that what passed is what will be pushed.
func (l *lander) untouched(ctx context.Context, scratch *git.Repo) error {
	st, err := scratch.Status(ctx, false)
	if err != nil {
		return err
	}
	switch {
	case st.Head != l.plan.candidate:
		l.out.Verify.Status = VerifyFailed
		return stop(fault.Failed, "homelab work land", "the verification moved HEAD from the candidate; nothing was pushed")
	case len(st.Changed) == 0:
		return nil
	}
	// Some files look changed as soon as they are checked out: stored with line
	// ends or in a form that their attributes do not ask for.
	if err := scratch.CheckoutClean(ctx, l.plan.candidate); err != nil {
		return err
	}
	fresh, err := scratch.Tracked(ctx)
	if err != nil {
		return err
	}
	if st.Changed = slices.DeleteFunc(st.Changed, func(p string) bool { return slices.Contains(fresh.Changed, p) }); len(st.Changed) > 0 {
		l.out.Verify.Status = VerifyFailed
		return stop(fault.Failed, "git commit -a", "the verification changed %s: generated files are out of date; nothing was pushed", listed(st.Changed))
	}
	return nil
}

// scratch returns the work tree in which this clone verifies, with exactly the
// candidate in it. It is reused: a checkout of a large repository costs more
// than most tests, and ignored files in it are warm caches.
func (l *lander) scratch(ctx context.Context) (*git.Repo, error) {
	dir := l.scratchDir()
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	// A run that was killed leaves its command to itself, and that would go on
	// changing files below the next one's.
	switch was, err := git.EndLeftover(ctx, l.verifyMark(), verifyGrace); {
	case err != nil:
		return nil, err
	case was:
		l.warn("the verification of a landing that was killed still ran; it was ended")
	}
	repo, err := l.openScratch(ctx, dir)
	if err != nil {
		return nil, err
	}
	if repo == nil {
		if repo, err = l.newScratch(ctx, dir); err != nil {
			return nil, err
		}
	}
	if err := repo.CheckoutClean(ctx, l.plan.candidate); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		// A run that was killed in it may have left anything.
		if repo, err = l.newScratch(ctx, dir); err != nil {
			return nil, err
		}
		if err := repo.CheckoutClean(ctx, l.plan.candidate); err != nil {
			return nil, err
		}
	}
	return repo, l.submodules(ctx, repo)
}

// scratchDir is that work tree's place.
func (l *lander) scratchDir() string {
	sum := sha256.Sum256([]byte(l.Repo.CommonDir()))
	return filepath.Join(l.Cache, "verify", hex.EncodeToString(sum[:8]))
}

// verifyMark names the command that works in it.
func (l *lander) verifyMark() string { return l.scratchDir() + ".process" }

func (l *lander) openScratch(ctx context.Context, dir string) (*git.Repo, error) {
	if there, err := exists(filepath.Join(dir, ".git")); err != nil || !there {
		return nil, err
	}
	repo, err := git.Open(ctx, dir, l.Env)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // it is made anew
	}
	if root, err := filepath.EvalSymlinks(dir); err != nil || repo.Root() != root || repo.CommonDir() != l.Repo.CommonDir() {
		return nil, nil //nolint:nilerr,nilnil // likewise
	}
	if err := os.Remove(filepath.Join(repo.GitDir(), "index.lock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err // this clone's lock is ours: whoever left it is gone
	}
	return repo.Unattended(l.cfg), nil
}

func (l *lander) newScratch(ctx context.Context, dir string) (*git.Repo, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := l.Repo.UnlockWorktree(ctx, dir); err != nil {
		return nil, err
	}
	if err := l.Repo.PruneWorktrees(ctx); err != nil {
		return nil, err
	}
	if err := l.Repo.AddWorktree(ctx, dir, "", l.plan.candidate); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
		return nil, err
	}
	if err := l.Repo.LockWorktree(ctx, dir, "homelab verifies landings here"); err != nil {
		return nil, err
	}
	repo, err := git.Open(ctx, dir, l.Env)
	if err != nil {
		return nil, err
	}
	return repo.Unattended(l.cfg), nil
}

// submodules makes those of the candidate present that the user has checked
// out too.
func (l *lander) submodules(ctx context.Context, scratch *git.Repo) error {
	paths, err := l.Repo.Submodules(ctx)
	if err != nil || len(paths) == 0 {
		return err
	}
	err = scratch.UpdateSubmodules(ctx, paths)
	if c, ok := errors.AsType[*git.ContactError](err); ok && git.NotThere(c.Err) {
		return stop(fault.Failed, "git submodule foreach git push", "a submodule's commit is on no remote; nothing was pushed").Because(c.Text).From(err)
	}
	return err
}

// passKey names a tree with what verified it.
func (l *lander) passKey() string {
	b := fmt.Appendf(nil, "%s\x00", l.plan.tree)
	for _, c := range l.commands {
		b = fmt.Appendf(b, "%q %q\x00", c.Run, c.Dir)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func (l *lander) passFile(key string) string {
	return filepath.Join(l.Repo.CommonDir(), "homelab", "passed", key)
}

func (l *lander) passed(key string) bool {
	info, err := os.Stat(l.passFile(key))
	age := time.Hour * 24
	if err == nil {
		age = time.Since(info.ModTime())
	}
	return age >= 0 && age < remembered
}

// remember notes a pass for an hour; without it the next run verifies again.
func (l *lander) remember(key string) {
	dir := filepath.Dir(l.passFile(key))
	if entries, err := os.ReadDir(dir); err == nil {
		for _, e := range entries {
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > remembered {
				_ = os.Remove(filepath.Join(dir, e.Name())) // it counts no more, removed or not
			}
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		l.warn("the pass cannot be remembered: %v", err)
		return
	}
	if err := writeWhole(l.passFile(key), []byte(named(l.commands)+"\n")); err != nil {
		l.warn("the pass cannot be remembered: %v", err)
	}
}

// lineWriter tells output line by line and passes it on.
type lineWriter struct {
	tell func(string)
	also io.Writer
	rest []byte
}

const longLine = 8 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	if _, err := w.also.Write(p); err != nil {
		return 0, err
	}
	rest := append(w.rest, p...) //nolint:gocritic // w.rest becomes what is left of it
	for {
		i := bytes.IndexByte(rest, '\n')
		next := i + 1
		if i < 0 || i > longLine {
			if len(rest) < longLine {
				w.rest = append(w.rest[:0], rest...)
				return len(p), nil
			}
			i, next = longLine, longLine
		}
		w.tell(strings.ToValidUTF8(string(rest[:i]), "\uFFFD"))
		rest = rest[next:]
	}
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.tell(strings.ToValidUTF8(string(w.rest), "\uFFFD"))
		w.rest = nil
	}
}

// tailLog is a file, and an older half beside it, that keep the last bytes of
// what is written, logLimit at most.
type tailLog struct {
	f     *os.File
	name  string
	size  int64
	limit int64 // of one file; a second one holds what came before
}

func newTailLog(name string) (*tailLog, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // below the clone's own git directory
	if err != nil {
		return nil, err
	}
	return &tailLog{f: f, name: name, limit: logLimit / 2}, nil
}

func (t *tailLog) Write(p []byte) (int, error) {
	if t.size+int64(len(p)) > t.limit && t.size > 0 {
		// The file so far becomes the older half.
		if err := os.Rename(t.name, t.name+".old"); err != nil {
			return 0, err
		}
		_ = t.f.Close() // written through below the new name's sibling
		f, err := os.OpenFile(t.name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, err
		}
		t.f, t.size = f, 0
	}
	n, err := t.f.Write(p)
	t.size += int64(n)
	return n, err
}

func (t *tailLog) close() error { return t.f.Close() }

package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"homelab/pkg/poll"
)

const (
	// defaultMaxOutput is what Run keeps of stdout when the command names no limit.
	defaultMaxOutput = 8 << 20
	// maxStderr is what Run keeps of stderr: the first and the last half of it.
	maxStderr = 64 << 10
	// defaultGrace is how long a cancelled command may tidy up after TERM.
	defaultGrace = 700 * time.Millisecond
	// pipeDelay is how long output is still read once the command has ended:
	// something it left behind may hold the pipe open for ever.
	pipeDelay = 500 * time.Millisecond
)

// Command is one process to run.
type Command struct {
	Dir   string    // where it runs; must be absolute
	Name  string    // a program, looked up in Env's PATH unless it is an absolute path
	Args  []string  // without the program's name
	Env   []string  // the whole environment, "KEY=VALUE"; what points at another repository is removed
	Set   []string  // added to Env; unlike there, what names an index or a work tree stays
	Stdin io.Reader // nil: empty

	// Stdout and Stderr receive the output as it comes; nil: it is kept, within
	// limits, in Result. Both are written from goroutines that have ended when
	// Run returns; if they are the same writer it is written by one at a time.
	Stdout, Stderr io.Writer

	MaxOutput int           // bytes of stdout to keep; 0 means 8 MiB; more is a *TooLargeError
	Grace     time.Duration // between TERM and KILL when ctx ends; 0 means 700 ms

	// Hurry, if set, says instead of Grace how long the command may take when
	// ctx ended for that cause: a person at the keyboard waits less than a
	// deadline does. It must not be longer than Grace.
	Hurry func(cause error) time.Duration

	// Sweep ends what the command left running in its process group when it
	// exits by itself. Git is not swept: it may leave a credential cache.
	Sweep bool
	// SweepFailed does so only if it exits with anything but 0: what failed must
	// not go on changing things behind the back of who decides what follows.
	SweepFailed bool
	// Mark is a file that names the process while it runs, for EndLeftover: what
	// changes things must not go on behind the back of the next process when this
	// one is killed. "" none.
	Mark string
}

// Result is what a process left.
type Result struct {
	Stdout   []byte // empty when the command had a writer of its own
	Stderr   []byte // at most 64 KiB, the middle left out; empty likewise
	ExitCode int    // -1 when it was ended by a signal or never started
}

// ErrNoProgram is in the error of a program that is not in PATH.
var ErrNoProgram = errors.New("program not found")

// StartError is a program that was never started: nothing has happened.
type StartError struct {
	Name string
	Err  error
}

func (e *StartError) Error() string { return "start " + e.Name + ": " + e.Err.Error() }

func (e *StartError) Unwrap() error { return e.Err }

// CommandError is a process that ended with anything but 0. It never shows the
// user info of a URL nor a header value among the arguments.
type CommandError struct {
	Args     []string // the program and its arguments, redacted
	ExitCode int      // -1 when a signal ended it
	Signal   string   // the signal's name, "" for an exit
	Stderr   string   // its last 64 KiB at most, redacted
}

func (e *CommandError) Error() string {
	end := fmt.Sprintf("exit status %d", e.ExitCode)
	if e.Signal != "" {
		end = "ended by signal " + e.Signal
	}
	if why := e.Why(); why != "" {
		end += ": " + why
	}
	return strings.Join(e.Args, " ") + ": " + end
}

// Why returns the line of Stderr that says most: git's last "fatal:" or
// "error:" line without that word, else the last line that is not empty.
func (e *CommandError) Why() string {
	var last, said string
	for line := range strings.Lines(e.Stderr) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "hint:") {
			continue
		}
		last = line
		for _, p := range []string{"fatal: ", "error: "} {
			if rest, ok := strings.CutPrefix(line, p); ok {
				said = rest
			}
		}
	}
	if said != "" {
		return said
	}
	return last
}

// TooLargeError is output past what the caller was ready to keep. The command
// did run to its end.
type TooLargeError struct {
	Args  []string // redacted
	Limit int      // bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s: more than %d bytes of output", strings.Join(e.Args, " "), e.Limit)
}

// Run starts c in a session, and so a process group, of its own and waits for
// its end.
//
// When ctx ends, the whole group gets TERM, c.Grace later KILL; Run returns
// only after that, so no child outlives it. The error is then ctx's cause, and
// Result still holds what was read: a push that was cut off may have reported
// its refs. Otherwise the error is nil for exit status 0, a *CommandError for
// any other end, ErrNoProgram, or a *StartError: it could not be started.
func Run(ctx context.Context, c Command) (Result, error) {
	argv := redactArgs(append([]string{c.Name}, c.Args...))
	none := Result{ExitCode: -1}
	if ctx.Err() != nil {
		return none, fmt.Errorf("%s: %w", strings.Join(argv, " "), context.Cause(ctx))
	}
	env := append(childEnv(c.Env, c.Dir), c.Set...)
	path, err := lookPath(c.Name, env)
	if err != nil {
		return none, err
	}
	if info, err := os.Stat(c.Dir); err != nil {
		return none, &StartError{c.Name, err}
	} else if !info.IsDir() || !filepath.IsAbs(c.Dir) {
		return none, &StartError{c.Name, fmt.Errorf("%s is not an absolute directory", c.Dir)}
	}

	limit := c.MaxOutput
	if limit <= 0 {
		limit = defaultMaxOutput
	}
	grace := c.Grace
	if grace <= 0 {
		grace = defaultGrace
	}
	stdout, stderr := &head{max: limit}, &ends{max: maxStderr / 2}

	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Args[0] = c.Name
	cmd.Dir, cmd.Env, cmd.Stdin = c.Dir, env, c.Stdin
	// A session of its own has a process group of its own and no terminal: what
	// would ask there fails at once, instead of being stopped for ever.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = grace + pipeDelay // for a Stdin that nobody reads; the group is ended below

	// Pipes of our own, so that the leader's end is seen even while something
	// it started still holds its output open.
	var out pipes
	defer out.close()
	if cmd.Stdout, err = out.to(writerOr(c.Stdout, stdout)); err != nil {
		return none, &StartError{c.Name, err}
	}
	cmd.Stderr = cmd.Stdout
	if c.Stderr == nil || !same(c.Stdout, c.Stderr) {
		if cmd.Stderr, err = out.to(writerOr(c.Stderr, stderr)); err != nil {
			return none, &StartError{c.Name, err}
		}
	}

	// The library would kill only the leader, and of "sh -c 'make test'" the
	// leader is the least.
	over, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var killer sync.WaitGroup
	cmd.Cancel = func() error {
		grace := grace
		if c.Hurry != nil {
			grace = min(grace, c.Hurry(context.Cause(ctx)))
		}
		killer.Go(func() {
			if !groupEnds(over, cmd.Process.Pid, grace) {
				_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL)
			}
		})
		return signalGroup(cmd.Process.Pid, syscall.SIGTERM)
	}

	if err := cmd.Start(); err != nil {
		return none, &StartError{c.Name, err}
	}
	if c.Mark != "" {
		mark(c.Mark, cmd.Process.Pid)
	}
	out.started()
	err = cmd.Wait()
	killer.Wait()
	if c.Sweep || c.SweepFailed && !cmd.ProcessState.Success() {
		_ = signalGroup(cmd.Process.Pid, syscall.SIGKILL)
	}
	if c.Mark != "" {
		_ = os.Remove(c.Mark) // one that stays names a process that is gone
	}
	writeErr := out.drain(over, pipeDelay)

	res := Result{Stdout: stdout.buf, Stderr: stderr.bytes(), ExitCode: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	switch {
	case err != nil && ctx.Err() != nil:
		return res, fmt.Errorf("%s: %w", strings.Join(argv, " "), context.Cause(ctx))
	case errors.As(err, &exit):
		e := &CommandError{Args: argv, ExitCode: res.ExitCode, Stderr: redact(string(res.Stderr))}
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal().String()
		}
		return res, e
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return res, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	case writeErr != nil:
		return res, fmt.Errorf("%s: passing on its output: %w", strings.Join(argv, " "), writeErr)
	case stdout.over:
		return res, &TooLargeError{Args: argv, Limit: limit}
	}
	return res, nil
}

// pipes carries a command's output to its writers.
type pipes struct {
	read, write []*os.File
	writers     []io.Writer
	errs        []error
	copying     sync.WaitGroup
}

// to returns the file a child writes to for w to receive it.
func (p *pipes) to(w io.Writer) (*os.File, error) {
	r, f, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.read, p.write, p.writers = append(p.read, r), append(p.write, f), append(p.writers, w)
	return f, nil
}

// started begins to copy; the child has its own ends now.
func (p *pipes) started() {
	for _, f := range p.write {
		_ = f.Close()
	}
	p.errs = make([]error, len(p.read))
	for i, r := range p.read {
		p.copying.Go(func() {
			if _, err := io.Copy(p.writers[i], r); err != nil && !errors.Is(err, os.ErrClosed) {
				p.errs[i] = err
				_, _ = io.Copy(io.Discard, r) // a full pipe would stop the child
			}
		})
	}
}

// drain waits for the rest of the output, at most d: a process that was left
// behind may never close its end. The error is a writer's.
func (p *pipes) drain(ctx context.Context, d time.Duration) error {
	done := make(chan struct{})
	go func() { p.copying.Wait(); close(done) }()
	if _, err := poll.Wait(ctx, d, done); err != nil {
		return err
	}
	for _, r := range p.read {
		_ = r.Close()
	}
	<-done
	return errors.Join(p.errs...)
}

// close releases what a failed start leaves; closing twice does no harm.
func (p *pipes) close() {
	for _, f := range append(p.read, p.write...) {
		_ = f.Close()
	}
}

// same says whether a and b are one writer; writers that cannot be compared
// are two.
func same(a, b io.Writer) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return a == b
}

// signalGroup signals every process of the group. The group's number cannot
// have been given to others while one of its members lives.
func signalGroup(pgid int, s syscall.Signal) error {
	err := syscall.Kill(-pgid, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// groupEnds waits until the process group has no member left, at most d, and
// says whether that was seen. What the leader leaves in its group is given the
// same time as the leader, which is waited for beside this.
func groupEnds(ctx context.Context, pgid int, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		if errors.Is(syscall.Kill(-pgid, 0), syscall.ESRCH) {
			return true
		}
		if poll.Sleep(ctx, 5*time.Millisecond) != nil {
			return false
		}
	}
}

// foreign are the variables by which git tells a child which repository,
// index, object store or history it works on. A hook's environment has them.
func foreign() []string {
	return []string{
		"GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_PREFIX",
		"GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
		"GIT_QUARANTINE_PATH", "GIT_NAMESPACE", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE",
		"GIT_REPLACE_REF_BASE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_CONFIG",
		// How paths are read, and where attributes are: what "git
		// --literal-pathspecs" leaves to its children would hide from a search
		// every .gitattributes there is.
		"GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS", "GIT_ATTR_SOURCE",
	}
}

// childEnv returns env without what names another repository, each key once
// (the last one wins, as in a shell), and with PWD telling the truth: git and
// shells prefer it to the real path.
func childEnv(env []string, dir string) []string {
	drop := foreign()
	at := make(map[string]int, len(env))
	out := make([]string, 0, len(env)+1)
	for _, kv := range append(slices.Clone(env), "PWD="+dir) {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" || slices.Contains(drop, key) {
			continue
		}
		if i, seen := at[key]; seen {
			out[i] = kv
			continue
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	return out
}

func envValue(env []string, key string) string {
	for _, kv := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// lookPath finds name in env's PATH. Relative entries are skipped: a checkout
// must not be able to supply the programs that are run in it.
func lookPath(name string, env []string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if name == "" || strings.ContainsRune(name, filepath.Separator) {
		return "", fmt.Errorf("%q: %w", name, ErrNoProgram)
	}
	for _, dir := range filepath.SplitList(envValue(env, "PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		p := filepath.Join(dir, name)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w in PATH", name, ErrNoProgram)
}

func writerOr(w, otherwise io.Writer) io.Writer {
	if w != nil {
		return w
	}
	return otherwise
}

// head keeps the first max bytes and remembers that there were more.
type head struct {
	buf  []byte
	max  int
	over bool
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.max-len(h.buf))
	h.buf = append(h.buf, p[:n]...)
	h.over = h.over || n < len(p)
	return len(p), nil
}

// ends keeps the first and the last max bytes.
type ends struct {
	first, last []byte
	max         int
	cut         bool
}

func (e *ends) Write(p []byte) (int, error) {
	total := len(p)
	n := min(len(p), e.max-len(e.first))
	e.first, p = append(e.first, p[:n]...), p[n:]
	e.last = append(e.last, p...)
	if extra := len(e.last) - e.max; extra > 0 {
		e.last = append(e.last[:0], e.last[extra:]...)
		e.cut = true
	}
	return total, nil
}

func (e *ends) bytes() []byte {
	if e.cut {
		return bytes.Join([][]byte{e.first, e.last}, []byte("\n[...]\n"))
	}
	return append(e.first, e.last...)
}

// redactArgs returns args fit to be shown: no user info in URLs, no value of
// an HTTP header given by -c.
func redactArgs(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		if key, _, ok := strings.Cut(a, "="); ok && strings.Contains(strings.ToLower(key), "extraheader") {
			a = key + "=[redacted]"
		}
		out[i] = redact(a)
	}
	return out
}

// redact removes the user info from every URL in s. Where what precedes the
// first slash cannot be a host and port it may be a password with a slash in
// it, and everything up to the last @ goes.
func redact(s string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, "://")
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		i += len("://")
		b.WriteString(s[:i])
		s = s[i:]
		end := indexOr(s, " \t\r\n'\"<>", len(s))
		authority := indexOr(s[:end], "/?#", end)
		if _, port, _ := strings.Cut(s[:authority], ":"); !strings.HasPrefix(s, "[") && strings.Trim(port, "0123456789") != "" {
			authority = end
		}
		s = s[strings.LastIndexByte(s[:authority], '@')+1:]
	}
}

func indexOr(s, chars string, otherwise int) int {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return i
	}
	return otherwise
}

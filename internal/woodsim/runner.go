package woodsim

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"
)

// Runner executes the pipelines of one repository for real: it reads the
// pipeline files of a pushed commit from a bare repository on this machine,
// checks the commit out and runs each step's commands in a shell, so that
// statuses, exit codes and logs are true and appear as they happen. It is for
// demonstrations and end-to-end tests; it isolates nothing, so the commands
// must be trusted.
type Runner struct {
	s    *Server
	repo *Repo
	o    RunnerOptions
	tmp  string
	ctx  context.Context //nolint:containedctx // its end is the runner's end
	stop context.CancelFunc
	wg   sync.WaitGroup
	room chan struct{}
}

// RunnerOptions configure a Runner. The zero value is usable.
type RunnerOptions struct {
	StepTimeout time.Duration // 0 means 5 min
	Parallel    int           // workflows at once; 0 means 2
	MaxLines    int           // of one step; the rest is dropped; 0 means 20000
	Env         []string      // for the commands, beside PATH, HOME and CI_*
	Dir         string        // temporary directories are made there; "" means the system's
}

// NewRunner starts a runner; the server must use the real clock.
func NewRunner(r *Repo, o RunnerOptions) (*Runner, error) {
	o.StepTimeout = cmp.Or(o.StepTimeout, 5*time.Minute)
	o.Parallel = cmp.Or(o.Parallel, 2)
	o.MaxLines = cmp.Or(o.MaxLines, 20_000)
	tmp, err := os.MkdirTemp(o.Dir, "woodsim-")
	if err != nil {
		return nil, fmt.Errorf("woodsim: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x := &Runner{s: r.s, repo: r, o: o, tmp: tmp, ctx: ctx, stop: stop, room: make(chan struct{}, o.Parallel)}
	// What is planned happens only when somebody looks, and here nobody else may.
	x.wg.Go(func() {
		for sleep(ctx, nil, 20*time.Millisecond) {
			x.s.tick()
		}
	})
	return x, nil
}

// Close kills what still runs, waits for it and removes the checkouts.
func (x *Runner) Close() {
	x.stop()
	x.wg.Wait()
	_ = os.RemoveAll(x.tmp)
}

// Watch looks at the bare repository's branches and tags every 100 ms and
// treats each change as pushed, so that no hook is needed. What is there at
// the call is not run, but known to manual runs.
func (x *Runner) Watch(repoDir string) error {
	old, err := x.refs(repoDir)
	if err != nil {
		return err
	}
	for ref, sha := range old {
		if _, err := x.head(repoDir, ref, sha); err != nil {
			return err
		}
	}
	x.wg.Go(func() {
		for sleep(x.ctx, nil, 100*time.Millisecond) {
			now, err := x.refs(repoDir)
			if err != nil {
				continue // the repository is just being written
			}
			for _, ref := range sortedKeys(now) {
				if now[ref] != old[ref] {
					_, _ = x.Pushed(repoDir, ref, old[ref], now[ref])
				}
			}
			old = now
		}
	})
	return nil
}

func (x *Runner) refs(dir string) (map[string]string, error) {
	out, err := x.git(dir, "for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", "refs/heads", "refs/tags")
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for l := range strings.Lines(out) {
		if f := strings.Fields(l); len(f) >= 2 {
			refs[f[0]] = f[len(f)-1] // a tag object's commit
		}
	}
	return refs, nil
}

func (x *Runner) git(dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(x.ctx, "git", append([]string{"--git-dir", dir}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// Pushed is what a hook would deliver: ref moved from before to after in the bare
// repository. A commit without pipeline files makes a row that is filtered
// out, a skip marker none. Deleted refs and other refs than branches and tags
// give nil.
func (x *Runner) Pushed(repoDir, ref, before, after string) (*Pipeline, error) {
	branch, isBranch := strings.CutPrefix(ref, "refs/heads/")
	tag, isTag := strings.CutPrefix(ref, "refs/tags/")
	if strings.Trim(after, "0") == "" || !isBranch && !isTag {
		return nil, nil
	}
	c, err := x.head(repoDir, ref, after)
	if err != nil {
		return nil, err
	}
	changed := ""
	if strings.Trim(before, "0") != "" {
		changed, _ = x.git(repoDir, "diff", "--name-only", before, after) // before may be gone after a forced push
	}
	if isTag {
		return x.repo.Tag(tag, c, x.plan(repoDir, c, "tag")), nil
	}
	p := x.plan(repoDir, c, "push")
	p.ChangedFiles = strings.Fields(changed)
	c.Branch = branch
	return x.repo.Push(c, p), nil
}

// head reads the commit and makes it the branch's head for manual runs.
func (x *Runner) head(dir, ref, sha string) (Commit, error) {
	out, err := x.git(dir, "log", "-1", "--format=%an%n%B", sha, "--")
	if err != nil {
		return Commit{}, err
	}
	author, message, _ := strings.Cut(out, "\n")
	c := Commit{SHA: sha, Author: author, Message: strings.TrimRight(message, "\n") + "\n"}
	if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		c.Branch = branch
		x.repo.SetHead(branch, c)
		x.repo.setPlanner(func(c Commit) Plan { return x.plan(dir, c, "manual") })
	}
	return c, nil
}

// plan reads the pipeline files.
func (x *Runner) plan(dir string, c Commit, event string) Plan {
	p := Plan{Configure: 100 * time.Millisecond, Forge: 30 * time.Millisecond, ChangedFiles: []string{}}
	files, err := x.files(dir, c.SHA)
	if err != nil {
		p.FetchError = err.Error()
		return p
	}
	var all []shellWorkflow
	for _, f := range files {
		text, err := x.git(dir, "show", c.SHA+":"+f)
		if err != nil {
			p.FetchError = err.Error()
			return p
		}
		w, err := parseWorkflow(f, text)
		if err != nil {
			p.Errors = append(p.Errors, Notice{Message: fmt.Sprintf("%s: %v", f, err)})
			continue
		}
		if w.filter(event, c.Branch) {
			all = append(all, w)
		}
	}
	if len(p.Errors) > 0 {
		return p
	}
	if len(all) == 0 {
		p.Filtered = true
		return p
	}
	for _, w := range all {
		pw := Workflow{Name: w.name}
		for _, st := range w.steps {
			pw.Steps = append(pw.Steps, Step{Name: st.name, Ignore: st.ignore})
		}
		p.Workflows = append(p.Workflows, pw)
	}
	p.run = func(r *row) { x.execute(r, dir, all) }
	return p
}

func (x *Runner) files(dir, sha string) ([]string, error) {
	out, err := x.git(dir, "ls-tree", "-r", "--name-only", sha, "--", ".woodpecker", ".woodpecker.yml", ".woodpecker.yaml")
	if err != nil {
		return nil, err
	}
	var inDir, single []string
	for f := range strings.FieldsSeq(out) {
		switch ext := path.Ext(f); {
		case ext != ".yml" && ext != ".yaml":
		case path.Dir(f) == ".woodpecker":
			inDir = append(inDir, f)
		case path.Dir(f) == ".":
			single = append(single, f)
		}
	}
	if len(inDir) > 0 {
		return inDir, nil
	}
	slices.Reverse(single) // .yml before .yaml
	return single[:min(len(single), 1)], nil
}

// shellWorkflow is a pipeline file as far as the runner understands it.
type shellWorkflow struct {
	name  string
	when  when
	steps []shellStep
}

type shellStep struct {
	name     string
	commands []string
	env      []string
	ignore   bool
	when     when
}

// when lists alternatives; none means always.
type when []struct{ Event, Branch words }

// words is a word or a list of words.
type words []string

// UnmarshalYAML accepts both, and numbers and truth values as words.
func (w *words) UnmarshalYAML(b []byte) error {
	var list []any
	if err := yaml.Unmarshal(b, &list); err != nil {
		var one any
		if err := yaml.Unmarshal(b, &one); err != nil {
			return err
		}
		if one != nil {
			list = []any{one}
		}
	}
	*w = nil
	for _, v := range list {
		*w = append(*w, fmt.Sprint(v))
	}
	return nil
}

// UnmarshalYAML accepts one condition or a list of them.
func (w *when) UnmarshalYAML(b []byte) error {
	type cond = struct{ Event, Branch words }
	var list []cond
	if err := yaml.Unmarshal(b, &list); err == nil {
		*w = list
		return nil
	}
	var one cond
	if err := yaml.Unmarshal(b, &one); err != nil {
		return err
	}
	*w = []cond{one}
	return nil
}

func (w when) holds(event, branch string) bool {
	for _, c := range w {
		if (len(c.Event) == 0 || slices.Contains(c.Event, event)) &&
			(len(c.Branch) == 0 || event == "tag" || slices.ContainsFunc(c.Branch, func(p string) bool { ok, _ := path.Match(p, branch); return ok })) {
			return true
		}
	}
	return len(w) == 0
}

// filter drops the steps whose condition does not hold and says whether
// anything is left to run.
func (w *shellWorkflow) filter(event, branch string) bool {
	w.steps = slices.DeleteFunc(w.steps, func(s shellStep) bool { return !s.when.holds(event, branch) })
	return w.when.holds(event, branch) && len(w.steps) > 0
}

func parseWorkflow(file, text string) (shellWorkflow, error) {
	base := strings.TrimPrefix(path.Base(file), ".")
	w := shellWorkflow{name: strings.TrimSuffix(base, path.Ext(base))}
	var doc struct {
		When  when
		Steps yaml.MapSlice
	}
	type stepDoc struct {
		Name        string
		Commands    words
		Environment map[string]any
		Failure     string
		When        when
	}
	var list struct {
		When  when
		Steps []stepDoc
	}
	err := yaml.Unmarshal([]byte(text), &list)
	if err != nil {
		if err2 := yaml.Unmarshal([]byte(text), &doc); err2 != nil {
			return w, err
		}
		list.When = doc.When
		for _, item := range doc.Steps {
			b, err := yaml.Marshal(item.Value)
			if err != nil {
				return w, err
			}
			var s stepDoc
			if err := yaml.Unmarshal(b, &s); err != nil {
				return w, err
			}
			s.Name = cmp.Or(s.Name, fmt.Sprint(item.Key))
			list.Steps = append(list.Steps, s)
		}
	}
	if len(list.Steps) == 0 {
		return w, errors.New("invalid or missing steps section")
	}
	w.when = list.When
	for i, s := range list.Steps {
		st := shellStep{
			name: cmp.Or(s.Name, fmt.Sprintf("step_%d", i)), commands: s.Commands,
			ignore: s.Failure == "ignore", when: s.When,
		}
		for _, k := range sortedKeys(s.Environment) {
			st.env = append(st.env, fmt.Sprintf("%s=%v", k, s.Environment[k]))
		}
		w.steps = append(w.steps, st)
	}
	return w, nil
}

// execute is the agent. It is called with the server locked.
func (x *Runner) execute(r *row, dir string, all []shellWorkflow) {
	ctx, cancel := context.WithCancel(x.ctx)
	r.onCancel = cancel
	life := r.life
	for i, w := range r.workflows {
		x.wg.Go(func() {
			select {
			case x.room <- struct{}{}:
				defer func() { <-x.room }()
			case <-ctx.Done():
				return
			}
			x.workflow(ctx, r, life, w, dir, all[i])
		})
	}
}

// with runs f under the lock while the row's life is still the one begun; it
// says whether it did.
func (x *Runner) with(r *row, life int, f func()) bool {
	x.s.lock()
	defer x.s.unlock()
	if r.life != life || r.zombie {
		return false
	}
	f()
	return true
}

func (x *Runner) workflow(ctx context.Context, r *row, life int, w *workflow, dir string, shell shellWorkflow) {
	tree, err := os.MkdirTemp(x.tmp, "checkout-")
	if err != nil {
		return
	}
	defer func() { _ = os.RemoveAll(tree) }()
	if !x.with(r, life, func() { r.begin(w) }) {
		return
	}
	failed := false
	for i, st := range w.steps {
		if failed {
			x.with(r, life, func() { st.state = skipped; x.s.publish(r) })
			continue
		}
		var log *liveLog
		if !x.with(r, life, func() {
			st.state, st.started = running, x.s.unix()
			log = newLiveLog(x.s, st, x.o.MaxLines)
			x.s.publish(r)
		}) {
			return
		}
		var code int
		var note string
		if st.kind == "clone" {
			code, note = x.checkout(ctx, r, dir, tree, log)
		} else {
			code, note = x.step(ctx, r, shell.steps[i-1], tree, log)
		}
		if ctx.Err() != nil {
			x.s.lock()
			if !r.zombie {
				r.stopRunning()
			}
			x.s.unlock()
			return
		}
		failed = (code != 0 || note != "") && !st.plan.Ignore
		x.with(r, life, func() {
			st.plan.Exit, st.plan.Error = code, note
			r.stepEnd(st)
		})
	}
	x.with(r, life, func() {
		w.state, w.finished = w.outcome(), x.s.unix()
		r.ended()
	})
}

func (x *Runner) checkout(ctx context.Context, r *row, dir, tree string, log *liveLog) (int, string) {
	index := filepath.Join(tree, ".woodsim-index")
	cmd := exec.CommandContext(ctx, "git", "--git-dir", dir, "--work-tree", tree, "checkout", "-q", "-f", r.commit, "--", ".")
	cmd.Env = append(os.Environ(), "GIT_INDEX_FILE="+index)
	log.add("+ git checkout " + r.commit)
	code, note := x.run(cmd, log)
	_ = os.Remove(index)
	return code, note
}

func (x *Runner) step(ctx context.Context, r *row, st shellStep, tree string, log *liveLog) (int, string) {
	ctx, cancel := context.WithTimeout(ctx, x.o.StepTimeout)
	defer cancel()
	var script strings.Builder
	for _, c := range st.commands {
		fmt.Fprintf(&script, "echo %s\n%s\n", shellQuote("+ "+c), c)
	}
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", script.String())
	cmd.Dir = tree
	cmd.Env = slices.Concat([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + tree, "LC_ALL=C", "CI=woodpecker",
		"CI_REPO=" + r.repo.o.FullName, "CI_COMMIT_SHA=" + r.commit, "CI_COMMIT_BRANCH=" + r.branch,
		fmt.Sprintf("CI_PIPELINE_NUMBER=%d", r.number), "CI_PIPELINE_EVENT=" + r.event,
	}, x.o.Env, st.env)
	code, note := x.run(cmd, log)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return 137, "timeout"
	}
	return code, note
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// run starts the command in its own process group, copies its output into the
// log line by line and kills the whole group when its context ends.
func (x *Runner) run(cmd *exec.Cmd, log *liveLog) (int, string) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := bufio.NewReaderSize(r, 64<<10)
		for {
			line, err := b.ReadString('\n')
			if line != "" {
				log.add(strings.TrimSuffix(line, "\n"))
			}
			if err != nil {
				return
			}
		}
	}()
	err := cmd.Run()
	_ = w.Close()
	<-read
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, ""
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode(), ""
	case errors.As(err, &exit):
		return 137, ""
	default:
		return 1, err.Error()
	}
}

// liveLog grows while the step runs.
type liveLog struct {
	s     *Server
	st    *step
	began time.Time
	lines []entry
	limit int
}

// newLiveLog begins the step's log. The server is locked.
func newLiveLog(s *Server, st *step, limit int) *liveLog {
	l := &liveLog{s: s, st: st, began: s.clock, limit: limit}
	st.log = logbook{live: true, at: func(i int) entry { return l.lines[i] }}
	return l
}

func (l *liveLog) add(text string) {
	l.s.lock()
	defer l.s.unlock()
	if len(l.lines) >= l.limit {
		return
	}
	now := l.s.clock
	l.lines = append(l.lines, entry{
		line: len(l.lines), offset: now.Sub(l.began), data: []byte(text), written: now, stored: now, sent: now,
	})
	l.st.log.n = len(l.lines)
	l.s.dirty = true
}

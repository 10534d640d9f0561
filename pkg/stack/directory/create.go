package directory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/stack/compose"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
	"homelab/pkg/stack/render"
)

// Cluster is a kind cluster that runs on this machine.
type Cluster struct {
	Name string
	Ours bool // made by this program, or named like one of its own
}

// Options say how a directory is made or brought up to date.
type Options struct {
	SpecFile string // as given
	Dir      string
	Update   bool
	DryRun   bool
	NoHooks  bool
	Hooks    *hook.Runner // runs the stack's hooks; nil: they are refused
	HookArgs []string     // of create hooks
	Stack    string       // what the caller takes the stack to be; "" what the spec says
	Cluster  string       // --cluster
	ID       string       // --deployment-id
	Rules    file.Rules
	Version  string // for created-by
	Verb     string // for the lock and the journal: "deploy create"
	Env      file.Env
	// Clusters lists the kind clusters that run; it is asked for target
	// k8s-kind only, when neither spec nor command line names one.
	Clusters func(context.Context) ([]Cluster, error)
	// Render judges what the files come to; nil is render.Render.
	Render func(*file.Directory, render.Options, render.Facts) (*render.Result, error)
	// Judge may refuse what would only be told; nil refuses nothing.
	Judge func([]file.Notice) error
	// Guard is asked by an update, once all is judged and before anything is
	// replaced; an error leaves everything as it is. The directory is as it will
	// be; what renders it reads its files through machine. Nil asks nobody.
	Guard    func(d *file.Directory, machine render.Machine) error
	StackDir string       // where the stack is; "" where the spec's reference leads
	Locked   bool         // the caller holds the lock, and has settled the journal
	Waiting  func(Holder) // told who has the lock; may be nil
	Now      time.Time
	Random   io.Reader

	disk disk
}

// Plan is what happens to the files of a directory, by their paths in it.
type Plan struct {
	Create, Update, Delete []string
	Unchanged              int
}

// Changes says whether anything does.
func (p Plan) Changes() bool { return len(p.Create)+len(p.Update)+len(p.Delete) > 0 }

// Outcome is what a create or an update did, or would do.
type Outcome struct {
	Dir       string // absolute
	StackDir  string // where the stack is
	Directory *file.Directory
	Rendered  *render.Result
	Plan      Plan
	Edited    []string // files that somebody had edited; theirs is FILE.bak now
	Vanished  []string // keys the spec no longer has
	Notices   []file.Notice
}

// Create makes a deployment directory, or brings one up to date with its
// sources. Everything is read and judged before anything is written; all
// mistakes are reported at once as *file.Problems, others are *fault.Error.
func Create(ctx context.Context, o Options) (*Outcome, error) {
	if o.Render == nil {
		o.Render = render.Render
	}
	o.Rules = cmp.Or(o.Rules, file.V2)
	dir, err := o.place()
	if err != nil {
		return nil, err
	}
	out := &Outcome{Dir: dir}
	if o.Update {
		dir, err = filepath.EvalSymlinks(dir)
		if err != nil {
			return nil, fault.Usagef("", "%s cannot be read", o.Dir).Because(reason(err)).From(err)
		}
		out.Dir = dir
		if !o.DryRun && !o.Locked {
			held, err := Lock(ctx, dir, o.Verb, o.Waiting)
			if err != nil {
				return nil, err
			}
			defer held.Release()
			if _, err := settle(dir, o.disk); err != nil {
				return nil, err
			}
		}
	}
	m := &maker{o: o, out: out, dir: dir}
	if err := m.read(); err != nil {
		return out, err
	}
	if o.Update {
		return out, m.update()
	}
	return out, m.create(ctx)
}

// place returns the directory's absolute path, and judges whether it may be
// made, or is there to be updated.
func (o Options) place() (string, error) {
	const help = "homelab deploy create --help"
	dir := o.Env.Path(o.Dir)
	switch {
	case o.SpecFile == "":
		return "", fault.Usagef(help, "--spec-file is missing")
	case o.Update && (o.Cluster != "" || o.ID != ""):
		return "", fault.Usagef(help, "--update leaves deployment.yml as it is: edit it there instead of giving --cluster or --deployment-id")
	case o.Update && !file.IsDeployment(dir):
		return "", fault.Usagef(help, "%s is no deployment directory", o.Dir).Because("--update needs one; without it, create makes one")
	case o.Update:
		return dir, nil
	}
	if _, err := os.Lstat(dir); err == nil {
		e := fault.Usagef(help, "%s exists", o.Dir)
		if file.IsDeployment(dir) {
			return "", e.Because("--update brings it up to date; --deployment-dir names another one")
		}
		return "", e.Because("it is no deployment directory; --deployment-dir names another place")
	}
	if st, err := os.Stat(filepath.Dir(dir)); err != nil || !st.IsDir() {
		return "", fault.Usagef(help, "%s has no parent directory", o.Dir).Because(filepath.Dir(dir) + " does not exist")
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", fault.Usagef(help, "%s cannot be read", filepath.Dir(dir)).Because(reason(err)).From(err)
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}

// maker is one create or update under way.
type maker struct {
	o     Options
	out   *Outcome
	dir   string
	spec  *file.Spec
	tree  *tree
	rules file.Rules
	dep   file.Deployment

	machine render.Machine // through which the directory is seen as it will be
	creates []string       // hooks that run once the directory is in its place
}

// read reads and judges all sources.
func (m *maker) read() error {
	o := m.o
	m.rules = o.Rules
	if o.Update {
		name := filepath.Join(m.dir, "deployment.yml")
		data, err := read(name)
		if err != nil {
			return err
		}
		dep, notices, err := file.ParseDeployment(filepath.Join(o.Dir, "deployment.yml"), data)
		if err != nil {
			return err
		}
		m.dep, m.rules = dep, dep.Rules
		m.out.Notices = append(m.out.Notices, notices...)
	}
	specPath := o.Env.Path(o.SpecFile)
	data, err := read(specPath)
	if err != nil {
		return err
	}
	spec, notices, specErr := file.ParseSpec(o.SpecFile, data)
	m.out.Notices = append(m.out.Notices, notices...)
	if spec == nil {
		return specErr
	}
	errs := []error{specErr}
	if spec.Target == "" && specErr == nil && !o.Update {
		errs = append(errs, &file.Problems{List: []file.Problem{{File: o.SpecFile, Key: "deploy-to", Message: "is missing"}}})
	}
	m.spec = spec
	var hooks []string
	if spec.Stack != "" {
		stack, notices, err := o.Env.LoadStack(cmp.Or(o.StackDir, spec.Stack))
		m.out.Notices = append(m.out.Notices, notices...)
		errs = append(errs, asProblem(err, o.SpecFile))
		if err == nil {
			errs = append(errs, file.Unsupported(stack))
			m.out.StackDir = stack.Dir
			hooks = StackHooks(o.Env, stack)
			in, err := load(o.Env, stack)
			errs = append(errs, err)
			if err == nil {
				m.tree = gather(o.Env, spec, in, m.rules, hooks)
				if !o.Update && !o.NoHooks {
					m.creates = hook.For(hook.Create, hooks)
				}
				if len(m.creates) > 0 {
					m.tree.missing = nil // the hooks may make them; it is judged after them
				}
				errs = append(errs, m.tree.problems(m.rules))
				m.out.Notices = append(m.out.Notices, m.tree.notices...)
			}
			if o.Stack != "" {
				if dir, _, err := o.Env.Find(o.Stack); err != nil || dir != stack.Dir {
					return fault.Usagef("homelab deploy create --help", "--stack %s contradicts %s", o.Stack, o.SpecFile).
						Because("the spec says stack: " + spec.Stack + "; leave the flag out")
				}
			}
		}
	}
	if err := file.Join(errs...); err != nil {
		return err
	}
	told, err := judgeHooks(o.Hooks, hooks, o.NoHooks)
	if err != nil {
		return err
	}
	m.out.Notices = append(m.out.Notices, told...)
	if len(o.HookArgs) > 0 && len(m.creates) == 0 {
		m.out.Notices = append(m.out.Notices, file.Notice{
			Code: "hook-arguments", Level: file.Ignored, File: o.SpecFile,
			Message: "no hook takes the arguments: the stack has none of create, or they are not run",
		})
	}
	if o.Update {
		return nil
	}
	m.dep = file.Deployment{
		StackSource: m.tree.in.stack.Dir, SpecSource: specPath, Rules: m.rules, CreatedBy: strings.TrimSpace("homelab " + o.Version),
	}
	return nil
}

// problems returns what gathering found. Under V1 a missing source is only
// warned of: the old tool made the directory all the same.
func (t *tree) problems(rules file.Rules) error {
	list := t.bad
	for _, x := range t.missing {
		if rules == file.V1 {
			t.notices = append(t.notices, file.Notice{
				Code: "bind-missing", Level: file.Warning, File: x.problem.File, Line: x.problem.Line, Key: x.problem.Key,
				Message: x.problem.Message + "; start will refuse it",
			})
			continue
		}
		list = append(list, x.problem)
	}
	if len(list) == 0 {
		return nil
	}
	return &file.Problems{List: list}
}

// ids decides deployment-id and cluster-id of a new directory.
func (m *maker) ids(ctx context.Context) error {
	o := m.o
	fresh := func() (string, error) { return file.FreshID(o.Now, o.Random) }
	var err error
	if m.dep.ID = o.ID; o.ID == "" {
		if m.dep.ID, err = fresh(); err != nil {
			return err
		}
	}
	if m.spec.Target != file.Kind {
		if o.Cluster != "" {
			return fault.Usagef("homelab deploy create --help", "--cluster is for deploy-to k8s-kind only")
		}
		m.dep.ClusterID = m.dep.ID
		return nil
	}
	if name := m.spec.KindClusterName; name != "" {
		if o.Cluster != "" && o.Cluster != name {
			return fault.Usagef("homelab deploy create --help", "--cluster %s contradicts kind-cluster-name: %s", o.Cluster, name)
		}
		m.dep.ClusterID = name
		return nil
	}
	if m.dep.ClusterID = o.Cluster; o.Cluster != "" {
		return nil
	}
	all, err := o.Clusters(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && fault.KindOf(err) == fault.Unreachable:
		// Without its engine no cluster runs: the first start makes one.
		m.out.Notices = append(m.out.Notices, file.Notice{
			Code: "engine-unreachable", Level: file.Warning, File: "deployment.yml", Key: "cluster-id",
			Message: "the container engine does not answer, so no kind cluster runs: the deployment gets a cluster of its own, unless --cluster names another one",
		})
	case err != nil:
		return err
	}
	name, foreign, err := choose(all)
	if err != nil {
		return err
	}
	if foreign {
		m.out.Notices = append(m.out.Notices, file.Notice{
			Code: "foreign-cluster", Level: file.Info, File: "deployment.yml", Key: "cluster-id",
			Message: "kind cluster " + name + " is not ours: it is used, never deleted",
		})
	}
	if name == "" {
		if name, err = fresh(); err != nil {
			return err
		}
	}
	m.dep.ClusterID = name
	return nil
}

// choose returns the running kind cluster that a new deployment joins, "" for
// none; foreign when it is not ours.
func choose(all []Cluster) (name string, foreign bool, err error) {
	if len(all) == 1 {
		return all[0].Name, !all[0].Ours, nil
	}
	var ours, names []string
	for _, c := range all {
		names = append(names, c.Name)
		if c.Ours {
			ours = append(ours, c.Name)
		}
	}
	switch {
	case len(all) == 0:
		return "", false, nil
	case len(ours) == 1:
		return ours[0], false, nil
	}
	slices.Sort(names)
	return "", false, fault.Usagef("homelab deploy create --help", "several kind clusters run: %s", strings.Join(names, ", ")).
		Because("--cluster says which one the deployment joins")
}

// create makes the directory in a stage beside its place, then renames it.
func (m *maker) create(ctx context.Context) (err error) {
	if err := m.ids(ctx); err != nil {
		return err
	}
	raw := m.dep.Marshal()
	if _, _, err := file.ParseDeployment("deployment.yml", raw); err != nil {
		problems := file.AsProblems(err)
		if len(problems) > 0 {
			return fault.Usagef("homelab deploy create --help", "%s %s", problems[0].Key, problems[0].Message).From(err)
		}
		return err
	}
	parent := filepath.Dir(m.dir)
	if m.o.DryRun {
		if parent, err = os.MkdirTemp("", "homelab-create-"); err != nil {
			return err
		}
		defer os.RemoveAll(parent) //nolint:errcheck // a temporary directory
	}
	stage := filepath.Join(parent, "."+filepath.Base(m.dir)+".homelab-stage")
	d := m.o.disk
	if err := d.mkdir(stage, 0o755); err != nil {
		return unwritable(m.o.Dir, err)
	}
	if err := d.mkdir(filepath.Join(stage, file.StateDir), 0o700); err != nil {
		return unwritable(m.o.Dir, err)
	}
	// The lock moves with the directory: whoever sees it in its place finds it
	// locked. A stage that nobody holds is one that a kill left.
	held, err := Lock(ctx, stage, m.o.Verb, m.o.Waiting)
	if err != nil {
		return err
	}
	defer held.Release()
	placed := false
	defer func() {
		if !placed && err != nil {
			_ = d.removeAll(stage)
		}
	}()
	if exists(m.dir) {
		return fault.Usagef("homelab deploy create --help", "%s exists", m.o.Dir).Because("somebody else made it meanwhile")
	}
	if err := clearStage(stage, d); err != nil {
		return unwritable(m.o.Dir, err)
	}
	m.tree.put("deployment.yml", node{data: raw}, file.Pos{})
	if err := m.fill(stage, nil); err != nil {
		return err
	}
	m.out.Plan.Create = sortedKeys(m.tree.files)
	if m.o.DryRun {
		return nil
	}
	for _, v := range m.dataDirs() {
		rel, err := filepath.Rel(m.dir, v)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		if err := d.mkdir(filepath.Join(stage, rel), 0o755); err != nil {
			return unwritable(v, err)
		}
	}
	if err := record(stage, m.hashes(), d); err != nil {
		return err
	}
	if err := d.rename(stage, m.dir); err != nil {
		return unwritable(m.o.Dir, err)
	}
	placed = true
	if err := m.runCreate(ctx); err != nil {
		return errors.Join(err, os.RemoveAll(m.dir))
	}
	return nil
}

// clearStage empties a stage but for its lock.
func clearStage(stage string, d disk) error {
	list, err := os.ReadDir(stage)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() == file.StateDir {
			continue
		}
		if err := d.removeAll(filepath.Join(stage, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// fill writes the files to the stage, judges the directory they will be, and
// adds what only the judgement tells: the files for kind. gone are paths that
// will be no more.
func (m *maker) fill(stage string, gone map[string]bool) error {
	d := m.o.disk
	for _, name := range sortedKeys(m.tree.files) {
		if err := putNode(d, stage, name, m.tree.files[name]); err != nil {
			return unwritable(filepath.Join(m.o.Dir, name), err)
		}
	}
	dir, _, err := file.LoadAs(stage, m.o.Dir, m.o.Env)
	if err != nil {
		return err
	}
	staged := dir.Path
	dir.Path = m.dir
	move := func(list []file.Source) {
		for i := range list {
			if rel, err := filepath.Rel(staged, list[i].Path); err == nil {
				list[i].Path = filepath.Join(m.dir, rel)
			}
		}
	}
	move(dir.Pods)
	move(dir.Jobs)
	m.out.Directory = dir
	m.machine = render.Machine{
		Home: m.o.Env.Home, WorkDir: m.o.Env.WorkDir, Files: overlay{dir: m.dir, stage: staged, gone: gone},
	}
	judge := m.o.Render
	if dir.Spec.EffectiveTarget() == file.Compose {
		judge = composed(staged)
	}
	missing := render.MissingWarned
	if len(m.creates) > 0 {
		missing = render.MissingLater
	}
	got, err := judge(dir, render.Options{Missing: missing, Machine: m.machine}, render.Facts{})
	if err != nil {
		return rendered(err)
	}
	m.out.Rendered = got
	m.out.Notices = append(m.out.Notices, got.Notices...)
	if m.o.Judge != nil {
		if err := m.o.Judge(m.out.Notices); err != nil {
			return err
		}
	}
	if dir.Spec.Target != file.Kind {
		return nil
	}
	kind := render.KindNode{Mounts: got.Mounts, HostPorts: got.HostPorts}
	if dir.Spec.Security.UnlimitedMemlock {
		kind.MemlockSpec = filepath.Join(m.dir, render.HighMemlockFile)
		m.tree.put(render.HighMemlockFile, node{data: render.HighMemlockSpec()}, file.Pos{})
		if err := putNode(d, stage, render.HighMemlockFile, m.tree.files[render.HighMemlockFile]); err != nil {
			return unwritable(render.HighMemlockFile, err)
		}
	}
	m.tree.put(kindConfig, node{data: render.KindConfig(kind)}, file.Pos{})
	return putNode(d, stage, kindConfig, m.tree.files[kindConfig])
}

// composed judges files that lie in a stage for compose, which needs no objects.
func composed(stage string) func(*file.Directory, render.Options, render.Facts) (*render.Result, error) {
	return func(d *file.Directory, o render.Options, _ render.Facts) (*render.Result, error) {
		p, err := compose.Make(compose.Input{Directory: d, Machine: o.Machine, Stage: stage})
		if err != nil {
			return nil, err
		}
		out := &render.Result{Notices: p.Notices}
		for _, v := range p.Volumes {
			out.Volumes = append(out.Volumes, render.Volume{Name: v.Name, HostPath: v.Path})
		}
		return out, nil
	}
}

const kindConfig = "kind-config.yml"

// rendered returns a render's problems as this package's.
func rendered(err error) error {
	p, ok := errors.AsType[*render.Problems](err)
	if !ok {
		return err
	}
	out := &file.Problems{}
	for _, x := range p.All {
		out.List = append(out.List, file.Problem(x))
	}
	return out
}

func putNode(d disk, dir, name string, n node) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := d.mkdir(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return d.write(path, n.data, n.mode)
}

// dataDirs are the directories of relative volumes, absolute: on kind they are
// mounted into the node and must be there.
func (m *maker) dataDirs() []string {
	if m.spec.Target == file.K8s {
		return nil
	}
	var out []string
	for _, v := range m.spec.Volumes {
		if v.Path != "" && !filepath.IsAbs(v.Path) && !strings.HasPrefix(v.Path, "~") {
			out = append(out, filepath.Join(m.dir, v.Path))
		}
	}
	return out
}

// hashes are those of everything that was generated.
func (m *maker) hashes() map[string]string {
	out := map[string]string{}
	for name, n := range m.tree.files {
		if name != "deployment.yml" {
			out[name] = file.Hash(n.data)
		}
	}
	return out
}

// update brings the directory's files up to date with the tree.
func (m *maker) update() error {
	d := m.o.disk
	state, err := file.ReadState(m.dir)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(filepath.Join(m.dir, "spec.yml"))
	if err == nil {
		m.out.Vanished = vanished(old, m.spec.Raw)
	}
	for _, key := range m.out.Vanished {
		m.out.Notices = append(m.out.Notices, file.Notice{
			Code: "key-vanished", Level: file.Warning, File: m.o.SpecFile, Key: key,
			Message: "the spec no longer has " + key,
		})
	}
	retired := m.retired(state.Hashes)
	gone := map[string]bool{}
	for _, name := range retired {
		gone[filepath.Join(m.dir, filepath.FromSlash(name))] = true
	}
	stage, err := os.MkdirTemp("", "homelab-update-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage) //nolint:errcheck // a temporary directory
	judged := *m
	judged.o.disk = disk{}
	dep, err := read(filepath.Join(m.dir, "deployment.yml"))
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(stage, "deployment.yml"), dep, 0o644); err != nil {
		return err
	}
	if err := judged.fill(stage, gone); err != nil {
		return err
	}
	m.out.Directory.Hashes = state.Hashes
	changes, hashes := m.compare(state.Hashes, retired)
	if m.o.Guard != nil {
		if err := m.o.Guard(m.out.Directory, judged.machine); err != nil {
			return err
		}
	}
	if m.o.DryRun {
		return nil
	}
	for _, v := range m.dataDirs() {
		if !exists(v) {
			if err := d.mkdir(v, 0o755); err != nil {
				return unwritable(v, err)
			}
		}
	}
	if len(changes) == 0 {
		return record(m.dir, hashes, d)
	}
	return m.sync(changes, hashes)
}

// sync puts the changed files in place, through a stage and the journal.
func (m *maker) sync(changes []Change, hashes map[string]string) error {
	d, stage := m.o.disk, stageOf(m.dir)
	if err := d.mkdir(stage, 0o700); err != nil {
		return unwritable(m.o.Dir, err)
	}
	for _, c := range changes {
		if c.Action != actionPut && c.Action != actionUpdate {
			continue
		}
		n := m.tree.files[c.Path]
		if c.Path == kindConfig+".new" {
			n = m.tree.files[kindConfig]
		}
		n.mode = c.Mode
		if err := putNode(d, stage, c.Path, n); err != nil {
			return unwritable(filepath.Join(m.o.Dir, c.Path), err)
		}
	}
	j := &Journal{dir: m.dir, disk: d}
	rel := file.StateDir + "/stage"
	e := Entry{Verb: m.o.Verb, PID: os.Getpid(), Began: m.o.Now.UTC(), Stage: rel, Sync: changes, Hashes: hashes}
	if err := j.Write(e); err != nil {
		return unwritable(m.o.Dir, err)
	}
	if err := finishSync(m.dir, e, d); err != nil {
		return fault.New(fault.Unsafe, m.o.Dir+" is half updated", "").
			Because(reason(err) + "; the next run finishes it").From(err)
	}
	return j.Clear()
}

// compare says what happens to each file, and which hashes are recorded then.
func (m *maker) compare(recorded map[string]string, retired []string) ([]Change, map[string]string) {
	var out []Change
	hashes := m.hashes()
	edited := func(name string, data []byte) {
		if h, ok := recorded[name]; ok && h != file.Hash(data) {
			m.out.Edited = append(m.out.Edited, name)
			m.out.Notices = append(m.out.Notices, file.Notice{
				Code: "local-edit", Level: file.Warning, File: filepath.Join(m.o.Dir, name),
				Message: fmt.Sprintf("%s was edited here; that version is now %s.bak", name, name),
			})
		}
	}
	for _, name := range sortedKeys(m.tree.files) {
		n := m.tree.files[name]
		path := filepath.Join(m.dir, filepath.FromSlash(name))
		data, err := os.ReadFile(path) //nolint:gosec // a file of the deployment directory
		switch {
		case name == kindConfig && err == nil && !bytes.Equal(data, n.data) && recorded[name] != file.Hash(data):
			// Its mounts are fixed by now, or a person wrote it.
			out = append(out, m.besides(n.data)...)
			if h, ok := recorded[name]; ok {
				hashes[name] = h
			} else {
				delete(hashes, name)
			}
		case errors.Is(err, fs.ErrNotExist):
			m.out.Plan.Create = append(m.out.Plan.Create, name)
			out = append(out, Change{Path: name, Action: actionPut, Mode: n.mode, Secret: n.secret})
		case err == nil && bytes.Equal(data, n.data):
			m.out.Plan.Unchanged++
			if st, err := os.Stat(path); n.secret && err == nil && st.Mode().Perm()&0o077 != 0 {
				out = append(out, Change{Path: name, Action: actionMode, Secret: true})
			}
		default:
			edited(name, data)
			m.out.Plan.Update = append(m.out.Plan.Update, name)
			out = append(out, Change{Path: name, Action: actionUpdate, Mode: n.mode, Secret: n.secret})
		}
	}
	for _, name := range retired {
		if data, err := os.ReadFile(filepath.Join(m.dir, filepath.FromSlash(name))); err == nil {
			edited(name, data)
		}
		m.out.Plan.Delete = append(m.out.Plan.Delete, name)
		out = append(out, Change{Path: name, Action: actionRetire, Secret: name == "kubeconfig.yml" || name == "config.env"})
	}
	return out, hashes
}

// besides writes a kind-config.yml that may not be put in place next to it.
func (m *maker) besides(data []byte) []Change {
	name := kindConfig + ".new"
	m.out.Notices = append(m.out.Notices, file.Notice{
		Code: "kind-config-kept", Level: file.Warning, File: filepath.Join(m.o.Dir, kindConfig),
		Message: kindConfig + " is not the one that was generated, and stays; what this spec needs is " + name,
	})
	old, err := os.ReadFile(filepath.Join(m.dir, name))
	if err == nil && bytes.Equal(old, data) {
		m.out.Plan.Unchanged++
		return nil
	}
	if err == nil {
		m.out.Plan.Update = append(m.out.Plan.Update, name)
		return []Change{{Path: name, Action: actionUpdate, Mode: 0o644}}
	}
	m.out.Plan.Create = append(m.out.Plan.Create, name)
	return []Change{{Path: name, Action: actionPut, Mode: 0o644}}
}

// retired returns the files that were generated and are no longer: those that
// are recorded, and, in a directory of the old tool, which recorded nothing,
// compose files that no pod or job has.
func (m *maker) retired(recorded map[string]string) []string {
	var out []string
	add := func(name string) {
		top, _, _ := strings.Cut(name, "/")
		if _, still := m.tree.files[name]; still || top == "data" || top == file.StateDir || !filepath.IsLocal(filepath.FromSlash(name)) ||
			name == "deployment.yml" || slices.Contains(out, name) {
			return
		}
		// What is generated for kind is known only after the judgement.
		if m.spec.Target == file.Kind && (name == kindConfig || name == render.HighMemlockFile && m.spec.Security.UnlimitedMemlock) {
			return
		}
		if st, err := os.Lstat(filepath.Join(m.dir, filepath.FromSlash(name))); err == nil && st.Mode().IsRegular() {
			out = append(out, name)
		}
	}
	for _, name := range sortedKeys(recorded) {
		add(name)
	}
	if len(recorded) == 0 {
		for _, sub := range []string{"compose", "compose-jobs"} {
			list, err := os.ReadDir(filepath.Join(m.dir, sub))
			if err != nil {
				continue
			}
			for _, e := range list {
				if strings.HasPrefix(e.Name(), "docker-compose-") && strings.HasSuffix(e.Name(), ".yml") {
					add(sub + "/" + e.Name())
				}
			}
		}
	}
	return out
}

package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/poll"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/compose"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
	"homelab/pkg/stack/secret"
	"homelab/pkg/transport"
)

// composeContext stands where results of clusters name their context.
const composeContext = "compose"

// ComposeService is what a target is called that is no Deployment.
const ComposeService rollout.Kind = "service"

// What compose objects are called in plans.
const (
	serviceKind = "Service"
	volumeKind  = "Volume"
)

// Files of a directory's state that compose reads.
const (
	overrideFile  = "override.yml"
	generatedFile = "generated.env"
	boundKey      = "compose-bound" // in state.json: service -> fingerprint of what it mounts
)

// composed is a run for compose.
type composed struct {
	project   *compose.Project
	generated map[string]string
	live      []compose.Container
	hashes    map[string]string    // service -> what its configuration comes to
	ids       map[string]string    // image reference -> id on this machine
	bound     map[string]string    // service -> fingerprint of what it mounts now
	moved     []string             // services whose mounted files have changed since they were made
	stale     []string             // of those, the ones that were not made anew
	before    map[string]time.Time // container id -> when it was started, before the orders
	replace   []string             // volumes of the engine whose data is elsewhere by now
}

// composed tells whether the directory is run by the engine of this machine.
func (r *run) composed() bool { return r.d.Spec.EffectiveTarget() == file.Compose }

// composeRender judges the files of a directory for compose.
func (r *run) composeRender() (*render.Result, error) {
	have, err := r.readGenerated()
	if err != nil {
		return nil, err
	}
	p, err := compose.Make(compose.Input{Directory: r.d, Images: r.o.Images, Generated: have, Machine: r.machine})
	if err != nil {
		return nil, err
	}
	for _, s := range r.o.Services {
		if !slices.ContainsFunc(p.Services, func(x compose.Service) bool { return x.Name == s }) {
			return nil, fault.Usagef("", "there is no service %q", s).Because("the services are " + strings.Join(serviceNames(p), ", "))
		}
	}
	r.compose.project, r.compose.generated = p, have
	out := &render.Result{Notices: p.Notices}
	if len(p.Services) > 0 {
		all := render.Workload{Name: p.Name, Images: map[string]string{}}
		for _, s := range p.Services {
			all.Images[s.Name] = s.Image
		}
		out.Workloads = []render.Workload{all}
	}
	return out, nil
}

func serviceNames(p *compose.Project) []string {
	var out []string
	for _, s := range p.Services {
		out = append(out, s.Name)
	}
	return out
}

// readGenerated reads the values that were generated once.
func (r *run) readGenerated() (map[string]string, error) {
	path := filepath.Join(r.d.Path, file.StateDir, generatedFile)
	raw, err := os.ReadFile(path) //nolint:gosec // our own file
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, fault.New(fault.Usage, "the generated values of this deployment cannot be read", "").Because(err.Error()).From(err)
	}
	list, err := file.ParseEnv(path, raw, nil)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, v := range list {
		out[v.Name] = v.Value
	}
	return out, nil
}

// composeRefused is what only clusters can be asked for.
func (r *run) composeRefused() error {
	flag := ""
	switch {
	case r.o.Expected.Commit != "":
		flag = "--sha"
	case r.o.RollbackOnFailure:
		flag = "--rollback-on-failure"
	default:
		return nil
	}
	return fault.Usagef("", "%s is not supported with deploy-to: compose", flag)
}

// composePrepare looks at what runs, asks every guard and makes the plan.
// Nothing is written.
func (r *run) composePrepare(ctx context.Context) error {
	if err := r.composeRefused(); err != nil {
		return err
	}
	if err := r.composeLook(ctx); err != nil {
		return err
	}
	if err := r.composeVolumes(ctx); err != nil {
		return err
	}
	return r.composePlan(ctx)
}

// composeLook lists what runs, and refuses what is another directory's.
func (r *run) composeLook(ctx context.Context) error {
	live, err := r.w.Docker.Containers(ctx, r.compose.project.Name)
	if err != nil {
		return err
	}
	r.compose.live = live
	r.out.Context = composeContext
	own := filepath.Join(r.d.Path, "compose")
	for _, c := range live {
		dir := c.WorkDir
		if resolved, err := filepath.EvalSymlinks(dir); err == nil {
			dir = resolved
		}
		if dir == "" || dir == own || r.o.AdoptNamespace {
			continue
		}
		return r.othersProject(c.WorkDir, own)
	}
	return r.atHome()
}

// composeVolumes compares where volumes have their data with where the spec
// says it is.
func (r *run) composeVolumes(ctx context.Context) error {
	var conflicts []apply.Conflict
	r.compose.replace = nil
	for _, v := range r.compose.project.Volumes {
		if v.Object == "" {
			continue
		}
		device, there, err := r.w.Docker.Device(ctx, v.Object)
		if err != nil {
			return err
		}
		if !there {
			r.plan.Create = append(r.plan.Create, apply.Change{Ref: apply.Ref{Kind: volumeKind, Name: v.Object}})
			continue
		}
		if device != "" {
			device = filepath.Clean(device)
		}
		is := device
		if is == "" {
			is = "the engine's volume " + v.Object
		}
		want := v.Path
		if want == "" {
			want = "the engine's volume " + v.Object
		}
		ref := apply.Ref{Kind: volumeKind, Name: v.Object}
		switch {
		case device == v.Path:
			r.plan.Unchanged++
		case device == "" || !slices.Contains(r.o.AcceptVolumes, v.Name):
			c := apply.Conflict{
				Code: "volume-moved", Object: ref, Volume: v.Name,
				Message: fmt.Sprintf("the data of volume %s is in %s, and the spec says %s", v.Name, is, want),
				Fix:     []string{"move the data, then --accept-volume " + v.Name},
			}
			if device == "" {
				c.Fix = []string{"copy the data, stop the stack, then: docker volume rm " + v.Object}
			}
			conflicts = append(conflicts, c)
		default:
			r.compose.replace = append(r.compose.replace, v.Object)
			r.plan.Replace = append(r.plan.Replace, apply.Change{Ref: ref, Why: "its data is in " + want + " now", Fields: []apply.Field{{Path: "device", From: device, To: v.Path}}})
		}
	}
	return apply.Refusal(conflicts)
}

// composePlan compares services with their containers.
func (r *run) composePlan(ctx context.Context) error {
	c := &r.compose
	dir, err := os.MkdirTemp("", "homelab-compose-") // 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	call, err := r.composeStage(dir)
	if err != nil {
		return err
	}
	if c.hashes, err = r.w.Docker.Hashes(ctx, call); err != nil {
		return err
	}
	recorded, err := r.boundBefore()
	if err != nil {
		return err
	}
	c.ids, c.bound, c.moved = map[string]string{}, map[string]string{}, nil
	for _, s := range c.project.Services {
		if len(r.o.Services) > 0 && !slices.Contains(r.o.Services, s.Name) {
			continue
		}
		if _, asked := c.ids[s.Image]; !asked {
			if c.ids[s.Image], err = r.w.Docker.ImageID(ctx, s.Image); err != nil {
				return err
			}
		}
		if c.bound[s.Name], err = compose.Fingerprint(s); err != nil && r.machine.Files == nil {
			return fault.New(fault.Usage, "what service "+s.Name+" mounts cannot be read", "").Because(err.Error()).From(err)
		}
		r.compare(s, c.hashes[s.Name], recorded[s.Name])
	}
	for _, x := range c.live {
		ref := apply.Ref{Kind: serviceKind, Name: x.Service}
		if slices.Contains(serviceNames(c.project), x.Service) || len(r.o.Services) > 0 ||
			slices.ContainsFunc(r.plan.Delete, func(d apply.Change) bool { return d.Ref == ref }) {
			continue
		}
		r.plan.Delete = append(r.plan.Delete, apply.Change{Ref: ref, Why: "no compose file has it"})
	}
	return nil
}

// compare adds one service to the plan.
func (r *run) compare(s compose.Service, hash, bound string) {
	c, ref := &r.compose, apply.Ref{Kind: serviceKind, Name: s.Name}
	var why []string
	var fields []apply.Field
	add := func(text string) {
		if !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	n := 0
	var started time.Time // the oldest of its containers
	for _, x := range c.live {
		if x.Service != s.Name {
			continue
		}
		if n++; n == 1 || x.Started.Before(started) {
			started = x.Started
		}
		id := c.ids[s.Image]
		switch {
		case x.Image != s.Image:
			add("another image")
			fields = []apply.Field{{Path: "image", From: x.Image, To: s.Image}}
		case id != "" && x.ImageID != id:
			add(s.Image + " is another image by now")
			fields = []apply.Field{{Path: "image", From: x.ImageID, To: id}}
		case hash != "" && x.Hash != hash:
			add("its configuration has changed")
		}
		if x.State != "running" && (!s.Once || x.State != "exited" || x.ExitCode != 0) {
			add("it is " + x.State)
		}
	}
	if n == 0 && s.Scale > 0 {
		r.plan.Create = append(r.plan.Create, apply.Change{Ref: ref})
		return
	}
	if n != s.Scale {
		add(fmt.Sprintf("%d of %d containers", n, s.Scale))
	}
	switch now := c.bound[s.Name]; {
	case bound != "" && now != bound:
		add("the files it mounts have changed")
		c.moved = append(c.moved, s.Name)
	case bound == "" && now != "" && compose.Newest(s).After(started):
		// Nobody kept what it mounted when it was made: that run was cut off, or
		// was not ours. A file that was put in place since is not what it sees.
		add("the files it mounts have changed since it was started")
		c.moved = append(c.moved, s.Name)
	}
	if r.o.Recreate {
		add("it is made anew")
		if !slices.Contains(c.moved, s.Name) {
			c.moved = append(c.moved, s.Name)
		}
	}
	if len(why) == 0 {
		r.plan.Unchanged++
		return
	}
	r.plan.Update = append(r.plan.Update, apply.Change{Ref: ref, Why: strings.Join(why, "; "), Fields: fields})
}

// composeStage writes what one command needs besides the compose files to a
// directory of this run. Files of a restart that are not in their place yet are
// written there as well.
func (r *run) composeStage(dir string) (compose.Call, error) {
	p := r.compose.project
	call := compose.Call{Project: p}
	env := filepath.Join(r.d.Path, "config.env")
	if files := r.machine.Files; files != nil {
		for _, s := range r.d.Pods {
			at := filepath.Join(dir, filepath.Base(s.Path))
			if err := os.WriteFile(at, s.Raw, 0o600); err != nil {
				return call, err
			}
			call.Files = append(call.Files, at)
		}
		raw, err := files.ReadFile(env)
		if err != nil {
			return call, err
		}
		env = filepath.Join(dir, "config.env")
		if err := os.WriteFile(env, raw, 0o600); err != nil {
			return call, err
		}
	}
	if _, err := os.Stat(env); err == nil {
		call.Env = append(call.Env, env)
	}
	if len(r.d.Spec.Generated) > 0 {
		all := maps.Clone(r.compose.generated)
		for _, g := range r.d.Spec.Generated {
			if _, there := all[g.Name]; !there {
				all[g.Name] = "generated"
			}
		}
		at := filepath.Join(dir, generatedFile)
		if err := os.WriteFile(at, envText(all), 0o600); err != nil {
			return call, err
		}
		call.Env = append(call.Env, at)
	}
	if p.Override != nil {
		call.Override = filepath.Join(dir, overrideFile)
		if err := os.WriteFile(call.Override, p.Override, 0o600); err != nil {
			return call, err
		}
	}
	return call, nil
}

// envText is an environment file of generated values: they need no quotes.
func envText(values map[string]string) []byte {
	var b bytes.Buffer
	b.WriteString("# Made once, and kept: these values are data.\n")
	for _, name := range slices.Sorted(maps.Keys(values)) {
		b.WriteString(name + "=" + values[name] + "\n")
	}
	return b.Bytes()
}

// composeCall is how the commands of this deployment are given.
func (r *run) composeCall() compose.Call {
	call := compose.Call{Project: r.compose.project}
	for _, at := range []string{filepath.Join(r.d.Path, "config.env"), r.statePath(generatedFile)} {
		if _, err := os.Stat(at); err == nil {
			call.Env = append(call.Env, at)
		}
	}
	if call.Project.Override != nil {
		call.Override = r.statePath(overrideFile)
	}
	return call
}

func (r *run) statePath(name string) string { return filepath.Join(r.d.Path, file.StateDir, name) }

// boundBefore are the fingerprints of what services mounted when they were made.
func (r *run) boundBefore() (map[string]string, error) {
	s, err := file.ReadState(r.d.Path)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	if raw, ok := s.Rest[boundKey]; ok {
		if err := json.Unmarshal(raw, &out); err != nil {
			return map[string]string{}, nil //nolint:nilerr // unknown, as at first
		}
	}
	return out, nil
}

// keepBound keeps the fingerprints of what was made.
func (r *run) keepBound(bound map[string]string) error {
	was, err := r.boundBefore()
	if err != nil {
		return err
	}
	now := map[string]string{}
	for _, s := range r.compose.project.Services {
		v, made := bound[s.Name]
		if !made {
			v = was[s.Name]
		}
		if v != "" {
			now[s.Name] = v
		}
	}
	if maps.Equal(was, now) {
		return nil
	}
	s, err := file.ReadState(r.d.Path)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if s.Rest == nil {
		s.Rest = map[string]json.RawMessage{}
	}
	s.Rest[boundKey] = raw
	out, err := s.Marshal()
	if err != nil {
		return err
	}
	return replaceFile(file.StatePath(r.d.Path), out)
}

// replaceFile puts a file that only its owner may read in place whole.
func replaceFile(path string, data []byte) error {
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, data) { //nolint:gosec // our own file
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// composeWrite does what was planned, and sees it up.
func (r *run) composeWrite(ctx context.Context) error {
	if r.o.DryRun {
		r.composePlanned()
		return nil
	}
	if r.machine.Files != nil { // the files of a restart are in their place now
		r.machine.Files = nil
		r.plan = r.freshPlan()
		if _, err := r.composeRender(); err != nil {
			return err
		}
		if err := r.composePrepare(ctx); err != nil {
			return err
		}
	}
	changes := r.composeChanges() > 0
	if err := r.tellPlan(); err != nil {
		return err
	}
	call, done, err := r.composeOrders(ctx, changes)
	if err != nil {
		return err
	}
	defer done()
	var failed error
	if changes || r.compose.project.Pull == "always" {
		if failed, err = r.composeUp(ctx, call); err != nil {
			return err
		}
	}
	if !changes { // what runs may have been brought up by other means
		if err := r.keepBound(r.compose.bound); err != nil {
			return err
		}
	}
	if failed == nil {
		if err := r.startHooks(ctx); err != nil {
			return err
		}
	}
	if r.o.NoWait {
		if failed != nil {
			return failed
		}
		if err := r.handOver(ctx); err != nil {
			return err
		}
		return r.composeUnseen()
	}
	r.w.Tell.Stage("wait")
	if err := r.composeWait(ctx, failed); err != nil {
		return err
	}
	if r.out.Kind != fault.OK {
		return nil
	}
	if err := r.handOver(ctx); err != nil {
		return err
	}
	return r.journal.Clear()
}

// composeOrders makes what the commands need: values that are generated once,
// the file that overrides, directories of volumes, credentials.
func (r *run) composeOrders(ctx context.Context, changes bool) (compose.Call, func(), error) {
	nothing := func() {}
	login, err := r.composeToken(changes)
	if err != nil {
		return compose.Call{}, nothing, err
	}
	if err := r.journal.Write(r.entry()); err != nil {
		return compose.Call{}, nothing, err
	}
	if err := r.keepHome(); err != nil {
		return compose.Call{}, nothing, err
	}
	if err := r.keepOverrides(); err != nil {
		return compose.Call{}, nothing, err
	}
	all, made, err := secret.Fresh(r.d, r.w.Secrets, r.compose.generated)
	if err != nil {
		return compose.Call{}, nothing, err
	}
	r.compose.generated = all
	if made {
		if err := replaceFile(r.statePath(generatedFile), envText(all)); err != nil {
			return compose.Call{}, nothing, err
		}
		// What is rendered with them is known only now.
		if _, err := r.composeRender(); err != nil {
			return compose.Call{}, nothing, err
		}
	}
	if o := r.compose.project.Override; o != nil {
		if err := replaceFile(r.statePath(overrideFile), o); err != nil {
			return compose.Call{}, nothing, err
		}
	}
	for _, v := range r.compose.project.Volumes {
		if v.Path == "" || v.Object == "" {
			continue
		}
		if err := os.MkdirAll(v.Path, 0o755); err != nil { //nolint:gosec // data that containers of any user write
			return compose.Call{}, nothing, fault.New(fault.Denied, "the directory of volume "+v.Name+" cannot be made", "").Because(err.Error()).From(err)
		}
	}
	call := r.composeCall()
	if made {
		if r.compose.hashes, err = r.w.Docker.Hashes(ctx, call); err != nil {
			return call, nothing, err
		}
	}
	if login == nil {
		return call, nothing, nil
	}
	dir, remove, err := compose.Login(r.w.DockerConfig, login.server, login.user, login.token)
	if err != nil {
		return call, nothing, err
	}
	call.Config = dir
	return call, remove, nil
}

// login is what a registry asks for.
type login struct {
	server, user string
	token        transport.Secret
}

// composeToken reads what images are pulled with; nil when nothing is pulled
// with anything. Without a token, images that are here will do.
func (r *run) composeToken(changes bool) (*login, error) {
	reg, token, notices, err := secret.Token(r.d, r.w.Secrets)
	if err != nil || reg == nil || !changes && r.compose.project.Pull != "always" {
		return nil, err
	}
	r.notices(notices)
	if !token.IsZero() {
		r.w.Redact(secret.Result{Tokens: []transport.Secret{token}})
		return &login{reg.Server, reg.Username, token}, nil
	}
	for ref, id := range r.compose.ids {
		if compose.From(ref, reg.Server) && (id == "" || r.compose.project.Pull == "always") {
			return nil, fault.New(fault.Denied, "no token for the registry "+reg.Server+": "+secret.TokenSource(reg)+" is not set", "").
				Because("this machine has to pull " + ref)
		}
	}
	r.notices([]file.Notice{{
		Code: "registry-token-missing", Level: file.Info, File: reg.Pos.File, Line: reg.Pos.Line, Key: "registry-credentials",
		Message: secret.TokenSource(reg) + " has no token: the images that are on this machine are run",
	}})
	return nil, nil
}

// composeUp gives the orders. The first error is docker's own verdict, which
// may be only that something is not up yet.
func (r *run) composeUp(ctx context.Context, call compose.Call) (failed, err error) {
	r.w.Tell.Stage("apply")
	r.compose.before = map[string]time.Time{}
	for _, x := range r.compose.live {
		r.compose.before[x.ID] = x.Started
	}
	only := r.only()
	for _, v := range r.compose.replace {
		// Nothing may hold it while it is replaced; its data is on the host.
		if err := r.w.Docker.Down(ctx, call, false); err != nil {
			return nil, err
		}
		if err := r.w.Docker.RemoveVolume(ctx, v); err != nil {
			return nil, err
		}
	}
	if n := r.compose.moved; len(n) > 0 && len(r.compose.replace) == 0 {
		failed = r.w.Docker.Up(ctx, call, compose.UpOptions{Services: n, Recreate: true})
	}
	if failed == nil {
		o := compose.UpOptions{Wait: !r.o.NoWait, Services: nil}
		if !r.o.Deadline.IsZero() {
			o.Left = max(time.Second, r.o.Deadline.Sub(r.w.Now())-2*time.Second)
		}
		o.Only = only
		failed = r.w.Docker.Up(ctx, call, o)
	}
	switch k := fault.KindOf(failed); {
	case failed == nil:
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case k == fault.Unreachable, k == fault.Denied:
		return nil, failed
	}
	bound := r.compose.bound
	if failed != nil && len(r.compose.moved) > 0 {
		if bound, err = r.unmade(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.keepBound(bound); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		word string
		list []apply.Change
	}{{"Created", r.plan.Create}, {"Updated", r.plan.Update}, {"Replaced", r.plan.Replace}, {"Deleted", r.plan.Delete}} {
		for _, c := range part.list {
			if failed == nil {
				r.w.Tell.Line(part.word + " " + c.String())
			}
		}
	}
	return failed, nil
}

// only are the services that the orders name; nil: all. What is taken down so
// that a volume can be replaced comes up again, whoever was asked for.
func (r *run) only() []string {
	out := slices.Clone(r.o.Services)
	if len(out) == 0 || len(r.compose.replace) == 0 {
		return out
	}
	for _, x := range r.compose.live {
		if x.State == "running" && !slices.Contains(out, x.Service) && slices.Contains(serviceNames(r.compose.project), x.Service) {
			out = append(out, x.Service)
		}
	}
	return out
}

// unmade finds the services that were to be made anew and were not, and returns
// the fingerprints that hold without them.
func (r *run) unmade(ctx context.Context) (map[string]string, error) {
	live, err := r.w.Docker.Containers(ctx, r.compose.project.Name)
	if err != nil {
		return nil, err
	}
	bound := maps.Clone(r.compose.bound)
	r.compose.stale = nil
	for _, name := range r.compose.moved {
		if slices.ContainsFunc(live, func(x compose.Container) bool {
			_, old := r.compose.before[x.ID]
			return x.Service == name && old
		}) {
			r.compose.stale = append(r.compose.stale, name)
			delete(bound, name)
		}
	}
	return bound, nil
}

// composeObserve looks once at every service that was asked for.
func (r *run) composeObserve(ctx context.Context) ([]rollout.Verdict, error) {
	live, err := r.w.Docker.Containers(ctx, r.compose.project.Name)
	if err != nil {
		return nil, err
	}
	r.compose.live = live
	var out []rollout.Verdict
	for _, s := range r.wanted() {
		id, err := r.w.Docker.ImageID(ctx, s.Image)
		if err != nil {
			return nil, err
		}
		out = append(out, compose.Judge(s, live, id, r.w.Now()))
	}
	return out, nil
}

// wanted are the services that this run is about.
func (r *run) wanted() []compose.Service {
	var out []compose.Service
	for _, s := range r.compose.project.Services {
		if len(r.o.Services) == 0 || slices.Contains(r.o.Services, s.Name) {
			out = append(out, s)
		}
	}
	return out
}

// composeWait looks until every service is up, one has failed, or time is up.
// failed is what docker made of it.
func (r *run) composeWait(ctx context.Context, failed error) error {
	began := r.w.Now()
	var verdicts []rollout.Verdict
	for {
		var err error
		if verdicts, err = r.composeObserve(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		has := func(o rollout.Outcome) bool {
			return slices.ContainsFunc(verdicts, func(v rollout.Verdict) bool { return v.Outcome == o })
		}
		if has(rollout.Absent) && failed != nil {
			return failed // what could not be made says why
		}
		if failed != nil && !has(rollout.Failed) && (r.behind() || !has(rollout.Pending) && r.asBefore()) {
			return failed // what runs is what ran before
		}
		late := !r.o.Deadline.IsZero() && r.o.Deadline.Sub(r.w.Now()) < 500*time.Millisecond
		if has(rollout.Failed) || has(rollout.Absent) || !has(rollout.Pending) || late {
			break
		}
		if poll.Sleep(ctx, 500*time.Millisecond) != nil {
			return context.Cause(ctx)
		}
	}
	r.composeTargets(ctx, verdicts, r.w.Now().Sub(began))
	r.composeVerdict()
	return nil
}

// behind tells whether a container is still the one from before.
func (r *run) behind() bool {
	if len(r.compose.stale) > 0 {
		return true
	}
	for _, s := range r.wanted() {
		for _, c := range r.compose.live {
			if c.Service == s.Name && (c.Image != s.Image || c.Hash != r.compose.hashes[s.Name]) {
				return true
			}
		}
	}
	return false
}

// asBefore tells whether no container was made or started by the orders.
func (r *run) asBefore() bool {
	return !slices.ContainsFunc(r.compose.live, func(c compose.Container) bool {
		started, there := r.compose.before[c.ID]
		return !there || !started.Equal(c.Started)
	})
}

// composeTargets turns verdicts into targets; of what failed the last lines
// are told.
func (r *run) composeTargets(ctx context.Context, verdicts []rollout.Verdict, took time.Duration) {
	r.out.Targets = nil
	for i, s := range r.wanted() {
		v := verdicts[i]
		if v.Outcome == rollout.Pending {
			v.Outcome = rollout.Timeout
			v.Sentence = "is not up: " + v.Sentence
			v.Next = "homelab deployment status --dir " + r.o.Dir
		}
		if v.Outcome == rollout.Failed {
			r.w.Tell.Line(s.Name + " " + v.Sentence)
			var log bytes.Buffer
			if err := r.w.Docker.Logs(ctx, r.composeCall(), compose.LogOptions{Services: []string{s.Name}, Tail: 10, Bare: true}, &log); err == nil {
				v.Cause.LogTail = nonEmpty(log.String())
			}
			for _, l := range v.Cause.LogTail {
				r.w.Tell.Line("  " + l)
			}
			v.Next = "homelab deployment logs --dir " + r.o.Dir + " " + s.Name
		}
		r.out.Targets = append(r.out.Targets, Target{
			Name: s.Name, Of: ComposeService, Verdict: v, Kind: rollout.KindOf(v.Outcome, context.Cause(ctx)), Took: took,
		})
	}
}

func nonEmpty(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// composeVerdict says what the services come to together.
func (r *run) composeVerdict() {
	out := r.out
	kinds := []fault.Kind{fault.OK}
	for _, t := range out.Targets {
		kinds = append(kinds, t.Kind)
	}
	if out.Kind = fault.Worst(kinds...); out.Kind != fault.OK {
		for _, t := range out.Targets {
			if t.Kind == out.Kind {
				out.Verdict, out.Reason, out.Next = string(t.Verdict.Outcome), t.Name+" "+t.Verdict.Sentence, t.Verdict.Next
				break
			}
		}
		if out.Next == "" {
			out.Next = "homelab deployment status --dir " + r.o.Dir
		}
		return
	}
	out.Verdict = verdictUp
	switch n := len(out.Targets); n {
	case 0:
		out.Reason = "no services to run"
	case 1:
		out.Reason = out.Targets[0].Name + " runs what the directory says"
	default:
		out.Reason = fmt.Sprintf("%d services run what the directory says", n)
	}
	if s := Summary(r.plan); s != "nothing" {
		out.Reason += "; " + s
	} else {
		out.Reason += "; nothing had changed"
	}
}

func (r *run) composeChanges() int {
	p := r.plan
	return len(p.Create) + len(p.Update) + len(p.Replace) + len(p.Delete)
}

// freshPlan begins a plan.
func (r *run) freshPlan() *apply.Plan {
	r.out.Plan = &apply.Plan{}
	return r.out.Plan
}

func (r *run) composePlanned() {
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "same", "nothing would change"
	if r.composeChanges() > 0 {
		r.out.Verdict, r.out.Reason = "changes", "would change "+Summary(r.plan)
	}
}

func (r *run) composeUnseen() error {
	r.out.Kind, r.out.Verdict = fault.OK, "changes"
	r.out.Reason = "applied, not verified: " + Summary(r.plan)
	if r.composeChanges() == 0 {
		r.out.Verdict, r.out.Reason = "same", "nothing to apply; not verified"
	}
	r.out.Next = "homelab deployment status --dir " + r.o.Dir
	return r.journal.Clear()
}

// composeDiff says what an update would change.
func (r *run) composeDiff(ctx context.Context) error {
	if err := r.composePrepare(ctx); err != nil {
		return err
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "same", "what runs is what the directory says"
	if r.composeChanges() > 0 {
		r.out.Verdict, r.out.Reason = "changes", "would change "+Summary(r.plan)
		r.out.Next = "homelab deployment update --dir " + r.o.Dir
	}
	return nil
}

// composeStop takes a project down.
func (r *run) composeStop(ctx context.Context, o StopOptions) error {
	c := &r.compose
	if c.project == nil { // its files do not render
		c.project = r.bareProject()
	}
	r.plan = r.freshPlan()
	if err := r.composeLook(ctx); err != nil {
		return err
	}
	for _, x := range c.live {
		change := apply.Change{Ref: apply.Ref{Kind: serviceKind, Name: x.Service}}
		if !slices.ContainsFunc(r.plan.Delete, func(d apply.Change) bool { return d.Ref == change.Ref }) {
			r.plan.Delete = append(r.plan.Delete, change)
		}
	}
	for _, v := range c.project.Volumes {
		if v.Object == "" {
			continue
		}
		device, there, err := r.w.Docker.Device(ctx, v.Object)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		end := VolumeEnd{Volume: v.Name, PV: v.Object, Place: device, Deleted: o.Volumes}
		if device == "" {
			end.Place = "the engine's volume " + v.Object
		}
		r.out.Volumes = append(r.out.Volumes, end)
		if o.Volumes {
			r.plan.Delete = append(r.plan.Delete, apply.Change{Ref: apply.Ref{Kind: volumeKind, Name: v.Object}})
		} else {
			r.plan.Unchanged++
		}
	}
	if o.DryRun {
		r.composePlanned()
		return nil
	}
	entry := r.entry()
	for _, d := range r.plan.Delete {
		entry.Deletions = append(entry.Deletions, d.String())
	}
	if err := r.journal.Write(entry); err != nil {
		return err
	}
	r.w.Tell.Stage("delete")
	call := compose.Call{Project: c.project}
	if len(c.project.Files) > 0 {
		dir, err := os.MkdirTemp("", "homelab-compose-") // 0700
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
		if call, err = r.composeStage(dir); err != nil {
			return err
		}
	}
	if err := r.w.Docker.Down(ctx, call, o.Volumes); err != nil {
		return err
	}
	if left, err := r.w.Docker.Containers(ctx, c.project.Name); err != nil {
		return err
	} else if len(left) > 0 {
		return fault.New(fault.Timeout, "the container "+left[0].Name+" is still there", "homelab deployment stop --dir "+r.o.Dir)
	}
	for _, d := range r.plan.Delete {
		r.w.Tell.Line("Deleted " + d.String())
	}
	if err := r.keepBound(nil); err != nil {
		return err
	}
	if o.Volumes {
		if err := os.Remove(r.statePath(generatedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.stopped("stopped; " + kept(r.out.Volumes))
}

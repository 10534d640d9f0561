package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/notify"
	"homelab/pkg/artifact/run"
	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
)

// WatchSpec is what a watch was told, checked for its form. Whether source,
// target and probes can be understood is said by who makes them; that contacts
// nothing either.
type WatchSpec struct {
	artifact.Config

	From, Artifact, FromSums string
	FromDial, FromCAFile     string
	FromTokenFile            string
	InsecureRegistry         []string

	To        string
	Args      []string
	Env       []string // names of variables the hook gets
	ReadyHook bool

	ProbeTexts    []WatchProbe
	AfterRollback string

	State   string // the directory of all watches' state, absolute
	MaxSize int64  // bytes

	Listen          string
	ListenTokenFile string

	Lease string // NAMESPACE/NAME; "" none

	Proofs WatchProofs

	Notify []notify.Spec

	Expect artifact.Expectation
	Wait   time.Duration
}

// WatchProbe is one probe: as a flag gives it, or in parts as a file does.
type WatchProbe struct {
	Text  string
	Parts []config.Part
}

// watchFlags are the flags of a watch. Most of them are keys of a watches file
// too, which sets them as if they had been given.
type watchFlags struct {
	file, name string

	from, artifact, fromSums         string
	fromDial, fromCA, fromToken      string
	insecureRegistry                 []string
	to                               string
	args, env                        []string
	idempotent, readyHook            bool
	takeOwnership, repositoryChange  bool
	probes                           []string
	afterRollback                    string
	once, check, expectFromEnv       bool
	expect                           string
	wait                             time.Duration
	interval                         time.Duration
	initial, onDrift                 string
	allowDowngrade, noRollback       bool
	windows                          []string
	minAge, maxAge                   time.Duration
	activateTimeout, readyTimeout    time.Duration
	soak, grace, staleAfter, timeout time.Duration
	stateDir                         string
	keep                             int
	maxSize                          string
	listen, listenToken              string
	lease                            string

	read   *config.Watches // the file, if it was read already
	parts  []WatchProbe    // of the file
	proofs proofFlags

	receivers []notify.Spec // of the file
}

const (
	leastInterval = 5 * time.Second
	leastDocker   = time.Minute // docker.io counts requests
	expectWait    = 60 * time.Second
)

func (o *watchFlags) add(f *pflag.FlagSet) {
	d := artifact.Defaults()
	f.StringVarP(&o.file, "file", "f", "", "the watches `FILE`; default: the user's, else /etc/homelab/watches.yaml")
	f.StringVar(&o.name, "name", "", "the watch's `NAME`; default: from the target")
	f.StringVar(&o.from, "from", "", "the `SOURCE`: builder-web+https://, https://, oci:// or woodpecker:")
	f.StringVar(&o.artifact, "artifact", "", "with woodpecker: where a pipeline's artifact is, a `TEMPLATE` with {sha}, {shaN} or {number}")
	f.StringVar(&o.fromSums, "from-sums", "", "with https: the `URL` of the list of hashes that names the file")
	f.StringVar(&o.fromDial, "from-dial", "", "reach the source at `ADDR[:PORT]` instead of asking DNS; its name stays the URL's")
	f.StringVar(&o.fromCA, "from-ca-file", "", "trust the authorities in `FILE` for the source too")
	f.StringVar(&o.fromToken, "from-token-file", "", "the `FILE` with the source's read token")
	f.StringArrayVar(&o.insecureRegistry, "insecure-registry", nil, "a `HOST` whose registry is asked by plain http")
	f.StringVar(&o.to, "to", "", "the `TARGET`: k8s://NS/[KIND/]NAME?container=C, stack:DIR?container=C, file:PATH or exec:PATH")
	f.StringArrayVar(&o.args, "arg", nil, "an `ARGUMENT` of the hook")
	f.StringArrayVar(&o.env, "env", nil, "the `NAME` of a variable the hook gets as it is here")
	f.BoolVar(&o.idempotent, "idempotent", false, "the hook may activate the same artifact twice: an interrupted attempt is finished")
	f.BoolVar(&o.readyHook, "ready-hook", false, "the hook is asked whether the artifact is ready")
	f.BoolVar(&o.takeOwnership, "take-ownership", false, "take the image's field from who owns it, once")
	f.BoolVar(&o.repositoryChange, "allow-repository-change", false, "the image may come from another repository than the present one")
	f.StringArrayVar(&o.probes, "probe", nil, "a `PROBE`: http:URL [status=N] [body=TEXT] [header=NAME:VALUE] [dial=ADDR], tcp:HOST:PORT or exec:PATH")
	f.StringVar(&o.afterRollback, "after-rollback", "", "run `PATH` after a rollback whose probes passed")
	f.BoolVar(&o.once, "once", false, "look once, deploy what is newer, prove it and end")
	f.BoolVar(&o.check, "check", false, "say whether it would work; change nothing")
	f.StringVar(&o.expect, "expect", "", "with --once: wait for the artifact `ID`, sha256:HEX, uuid:UUID or commit:HEX")
	f.BoolVar(&o.expectFromEnv, "expect-from-env", false, "with --once: the same from SSH_ORIGINAL_COMMAND; empty means only a look")
	f.DurationVar(&o.wait, "wait", 0, "with --once: wait `DUR` for it; default: 60s with an expectation, else 0")
	f.DurationVar(&o.interval, "interval", d.Interval, "look every `DUR`, 5s at least")
	f.StringVar(&o.initial, "initial", string(d.Initial), "what a first start does with what runs: `adopt or deploy`")
	f.StringVar(&o.onDrift, "on-drift", string(d.OnDrift), "when somebody else changes what runs: `hold, adopt or enforce`")
	f.BoolVar(&o.allowDowngrade, "allow-downgrade", false, "this time, what is older or ran before may come too")
	f.BoolVar(&o.noRollback, "no-rollback", false, "this time, go on without a way back")
	f.StringArrayVar(&o.windows, "window", nil, "switch only within `HOURS`: \"Mon-Fri 08:00-18:00 Europe/London\"")
	f.DurationVar(&o.minAge, "min-age", 0, "deploy nothing younger than `DUR`")
	f.DurationVar(&o.maxAge, "max-age", 0, "deploy nothing older than `DUR`")
	f.DurationVar(&o.activateTimeout, "activate-timeout", d.ActivateTimeout, "an activation may take `DUR`")
	f.DurationVar(&o.readyTimeout, "ready-timeout", d.ReadyTimeout, "the probes must have passed within `DUR`")
	f.DurationVar(&o.soak, "soak", d.Soak, "then they must go on passing for `DUR`; with --once and no daemon 5s")
	f.DurationVar(&o.grace, "grace", d.Grace, "after a signal a running hook gets `DUR`")
	f.StringVar(&o.stateDir, "state-dir", "", "keep state below `DIR`; default: $STATE_DIRECTORY, else $XDG_STATE_HOME/homelab/watch")
	f.IntVar(&o.keep, "keep", d.Keep, "keep the files of `N` versions")
	f.StringVar(&o.maxSize, "max-size", "2GiB", "refuse an artifact of more than `SIZE` where its size is not announced")
	f.StringVar(&o.listen, "listen", "", "take hints and tell the story by http at `ADDR:PORT`")
	f.StringVar(&o.listenToken, "listen-token-file", "", "the `FILE` with the token that status and events need beyond the loopback")
	f.StringVar(&o.lease, "lease", "", "act only while holding the Kubernetes Lease `NAMESPACE/NAME`, where several machines have this watch")
	f.DurationVar(&o.staleAfter, "stale-after", d.StaleAfter, "say so after `DUR` without a good look; 0: never")
	f.DurationVar(&o.timeout, "timeout", 0, "end what has not begun to switch after `DUR`; 0 means never")
	o.proofs.add(f)
}

// flagError is of a flag that is not there, or does not fit.
func flagError(c *cobra.Command, err error) error {
	return fault.Usagef(c.CommandPath()+" --help", "%s", ui.Clean(err.Error()))
}

// watchKeys are the keys of a watches file: the names of the flags that
// describe a watch, and not those that speak of one run.
func watchKeys() config.WatchesKeys {
	k := config.WatchesKeys{
		Shared:   []string{"listen", "listen-token-file", "state-dir"},
		Sections: proofSections(),
		Watch:    []string{notifyKey},
		Parts: map[string][]string{
			"probe":   {"http", "tcp", "exec", "status", "body", "header", "dial"},
			notifyKey: notify.Keys(),
		},
		Lists: notify.ListKeys(),
		Refused: map[string]string{
			"allow-downgrade": "it holds for one invocation; give the flag",
			"no-rollback":     "it holds for one invocation; give the flag",
			"name":            "the key below watches is the name",
		},
	}
	for _, name := range []string{"once", "check", "expect", "expect-from-env", "wait", "file", "timeout"} {
		k.Refused[name] = "it is of one invocation, not of a watch; give the flag"
	}
	for _, name := range k.Shared {
		k.Refused[name] = "it stands at the top of the file, beside watches"
	}
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(watchFlags).add(set)
	set.VisitAll(func(f *pflag.Flag) {
		if k.Refused[f.Name] == "" {
			k.Watch = append(k.Watch, f.Name)
		}
	})
	return k
}

// load reads the watches file and the watch in it that is meant, and sets the
// flags that were not given.
func (o *watchFlags) load(f *pflag.FlagSet, help string, env WatchEnv, names []string) error {
	path, named := env.File(o.file)
	w, err := o.read, error(nil)
	if w == nil {
		w, err = config.ReadWatches(path, watchKeys())
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && !named {
			return fault.Usagef(help, "there is no watches file to find %s in", ui.Clean(names[0])).
				Because("looked for " + path + "; name one with -f, or describe the watch with --from and --to").From(err)
		}
		return err
	}
	o.read = w
	x := w.Named(names[0])
	if x == nil {
		e := fault.New(fault.Absent, fmt.Sprintf("%s has no watch %s", path, ui.Clean(names[0])), "")
		if near := w.Nearest(names[0]); near != "" {
			return e.Because("did you mean " + near + "?")
		}
		return e
	}
	if err := checkName(x.Name); err != nil {
		return w.Problem(x.Line, err.Error())
	}
	for _, s := range w.Shared {
		// A single run listens nowhere: the daemon beside it does.
		if strings.HasPrefix(s.Key, "listen") && (o.once || o.check) {
			continue
		}
		if err := o.set(f, w, s); err != nil {
			return err
		}
	}
	for _, s := range x.Settings {
		if err := o.set(f, w, s); err != nil {
			return err
		}
	}
	o.name = x.Name
	return nil
}

// set sets a flag to what the file says, unless the command line has it.
func (o *watchFlags) set(f *pflag.FlagSet, w *config.Watches, s config.Setting) error {
	if s.Key == notifyKey {
		return o.notified(w, s)
	}
	fl := f.Lookup(s.Key)
	if fl == nil || fl.Changed {
		return nil
	}
	if len(s.Values)+len(s.Parts) > 1 && fl.Value.Type() != "stringArray" {
		return w.Problem(s.Line, s.Key+" has several values and takes one")
	}
	for _, v := range s.Values {
		// Value.Set leaves Changed as it is: what is given by hand stays told apart.
		if err := fl.Value.Set(v); err != nil {
			return w.Problem(s.Line, fmt.Sprintf("%s: %q does not fit: %v", s.Key, v, err))
		}
	}
	for _, p := range s.Parts {
		o.parts = append(o.parts, WatchProbe{Parts: p})
	}
	return nil
}

// checkName says in words why name cannot be a watch's.
func checkName(name string) error {
	if err := run.CheckName(name); err != nil {
		return errors.New(ui.Clean(err.Error()))
	}
	return nil
}

// nameOf makes a name from a target: what people call it.
func nameOf(to string) string {
	to, _, _ = strings.Cut(to, "?")
	to = strings.TrimSuffix(to, "/")
	base := to[strings.LastIndexAny(to, "/:")+1:]
	if ext := filepath.Ext(base); ext != base {
		base = strings.TrimSuffix(base, ext)
	}
	return base
}

// spec checks every flag and returns what was asked for, before anything is
// contacted.
func (o *watchFlags) spec(set *pflag.FlagSet, help string, env WatchEnv, args []string) (WatchSpec, error) {
	no := func(format string, a ...any) (WatchSpec, error) { return WatchSpec{}, fault.Usagef(help, format, a...) }
	given := set.Changed
	var empty string
	set.Visit(func(f *pflag.Flag) {
		v := f.Value.String()
		if values, ok := f.Value.(pflag.SliceValue); ok && slices.Contains(values.GetSlice(), "") && f.Name != "arg" {
			v = ""
		}
		if v == "" {
			empty = f.Name
		}
	})
	switch {
	case empty != "":
		return no("--%s is empty", empty)
	case len(args) > 0 && (args[0] == "pin" || args[0] == "unpin"):
		return no("deploy watch %s is not built yet", args[0])
	case len(args) > 0 && (given("from") || given("to") || given("name")):
		return no("a watch of the file has its own source, target and name: leave out --from, --to and --name, or %s", ui.Clean(args[0]))
	case len(args) == 0 && given("file"):
		return no("which watch of the file? Give its name")
	case len(args) == 0 && o.from == "" && o.to == "":
		return no("nothing to watch: give --from and --to, or the name of a watch in the watches file")
	}
	if err := o.together(help, given); err != nil {
		return WatchSpec{}, err
	}
	if len(args) > 0 {
		if err := o.load(set, help, env, args); err != nil {
			return WatchSpec{}, err
		}
	}
	switch {
	case o.from == "":
		return no("there is no source: --from")
	case o.to == "":
		return no("there is no target: --to")
	}
	if o.name == "" {
		o.name = nameOf(o.to)
		if checkName(o.name) != nil {
			return no("the target gives no usable name: choose one with --name")
		}
	}
	if err := checkName(o.name); err != nil {
		return no("%s", err)
	}
	s, err := o.values(help, given)
	if err != nil {
		return s, err
	}
	if o.expectFromEnv {
		// What somebody sent who may only make us look: one expectation, or nothing.
		// What they do not name is not waited for.
		if o.expect = env.SSHCommand; o.expect == "" {
			s.Wait = 0
		}
	}
	if o.expect != "" {
		if s.Expect, err = artifact.ParseExpectation(o.expect); err != nil {
			return no("%s", ui.Clean(err.Error()))
		}
		if !given("wait") {
			s.Wait = expectWait
		}
	}
	s.State, err = stateDir(o.stateDir, env, help)
	return s, err
}

// fresh returns flags that were given what set was given, and nothing else:
// what a file said is forgotten.
func fresh(set *pflag.FlagSet) (*watchFlags, *pflag.FlagSet) {
	o, out := &watchFlags{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	o.add(out)
	set.Visit(func(f *pflag.Flag) {
		to := out.Lookup(f.Name)
		if to == nil {
			return
		}
		values := []string{f.Value.String()}
		if s, ok := f.Value.(pflag.SliceValue); ok {
			values = s.GetSlice()
		}
		for _, v := range values {
			_ = out.Set(f.Name, v) // it was taken before
		}
	})
	return o, out
}

// together refuses flags that contradict each other.
func (o *watchFlags) together(help string, given func(string) bool) error {
	switch {
	case o.once && o.check:
		return fault.Usagef(help, "--once and --check exclude each other")
	case o.expect != "" && o.expectFromEnv:
		return fault.Usagef(help, "--expect and --expect-from-env exclude each other")
	case !o.once && (given("expect") || o.expectFromEnv || given("wait")):
		return fault.Usagef(help, "--expect, --expect-from-env and --wait need --once")
	case (o.once || o.check) && (given("listen") || given("listen-token-file")):
		return fault.Usagef(help, "--listen is the daemon's: it does not go with --once and --check")
	}
	return nil
}

// values reads the flags that are of a watch itself, whoever gave them.
func (o *watchFlags) values(help string, given func(string) bool) (WatchSpec, error) {
	no := func(format string, a ...any) (WatchSpec, error) { return WatchSpec{}, fault.Usagef(help, format, a...) }
	s := WatchSpec{
		From: o.from, Artifact: o.artifact, FromSums: o.fromSums, FromDial: o.fromDial, FromCAFile: o.fromCA,
		FromTokenFile: o.fromToken, InsecureRegistry: o.insecureRegistry,
		To: o.to, Args: o.args, Env: o.env, ReadyHook: o.readyHook, AfterRollback: o.afterRollback,
		Listen: o.listen, ListenTokenFile: o.listenToken, Lease: o.lease, Wait: o.wait, ProbeTexts: slices.Clone(o.parts), Notify: o.receivers,
		Config: artifact.Config{
			Name: o.name, Once: o.once, Timeout: o.timeout, Interval: o.interval, StaleAfter: o.staleAfter,
			Initial: artifact.Initial(o.initial), OnDrift: artifact.OnDrift(o.onDrift), AllowDowngrade: o.allowDowngrade,
			NoRollback: o.noRollback, TakeOwnership: o.takeOwnership, AllowRepositoryChange: o.repositoryChange,
			Idempotent: o.idempotent, MinAge: o.minAge, MaxAge: o.maxAge,
			ActivateTimeout: o.activateTimeout, ReadyTimeout: o.readyTimeout, Soak: o.soak, Grace: o.grace, Keep: o.keep,
		},
	}
	for _, p := range o.probes {
		s.ProbeTexts = append(s.ProbeTexts, WatchProbe{Text: p})
	}
	for name, d := range map[string]time.Duration{
		"wait": o.wait, "timeout": o.timeout, "stale-after": o.staleAfter, "min-age": o.minAge, "max-age": o.maxAge, "soak": o.soak, "grace": o.grace,
	} {
		if d < 0 {
			return no("--%s must not be negative", name)
		}
	}
	for name, d := range map[string]time.Duration{"activate-timeout": o.activateTimeout, "ready-timeout": o.readyTimeout} {
		if d <= 0 {
			return no("--%s must be longer than 0", name)
		}
	}
	least := leastInterval
	if onDocker(o.from) || onDocker(o.artifact) {
		least = leastDocker
		if s.Interval == artifact.Defaults().Interval && !given("interval") {
			s.Interval = least
		}
	}
	switch {
	case s.Interval < least:
		return no("--interval is %s at least, not %s", least, s.Interval)
	case o.keep < 1:
		return no("--keep must be at least 1")
	case o.minAge > 0 && o.maxAge > 0 && o.minAge >= o.maxAge:
		return no("--min-age and --max-age leave no age that may be deployed")
	case s.Initial != artifact.AdoptFirst && s.Initial != artifact.DeployFirst:
		return no("--initial is adopt or deploy, not %s", ui.Clean(o.initial))
	case s.OnDrift != artifact.HoldDrift && s.OnDrift != artifact.AdoptDrift && s.OnDrift != artifact.EnforceDrift:
		return no("--on-drift is hold, adopt or enforce, not %s", ui.Clean(o.onDrift))
	}
	for _, w := range o.windows {
		h, err := artifact.ParseHours(w)
		if err != nil {
			return no("--%s", ui.Clean(err.Error()))
		}
		s.Windows = append(s.Windows, h)
	}
	var err error
	s.ReproduceWait = o.proofs.wait
	if s.Proofs, err = o.proofs.values(help, given); err != nil {
		return s, err
	}
	if s.MaxSize, err = parseSize(o.maxSize); err != nil {
		return no("--max-size %s: %v", ui.Clean(o.maxSize), err)
	}
	if s.Listen != "" {
		host, port, err := net.SplitHostPort(s.Listen)
		if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 || host == "" {
			return no("--listen is ADDRESS:PORT, such as 127.0.0.1:7777, not %s", ui.Clean(s.Listen))
		}
	} else if s.ListenTokenFile != "" {
		return no("--listen-token-file needs --listen")
	}
	// Beside a daemon, which soaks on, this is not used.
	if o.once && o.soak == artifact.Defaults().Soak && !given("soak") {
		s.Soak = artifact.OnceSoak
	}
	return s, nil
}

// onDocker says whether a source is at docker.io, which counts requests.
func onDocker(from string) bool {
	rest, ok := strings.CutPrefix(from, "oci://")
	host, _, _ := strings.Cut(rest, "/")
	return ok && (host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io")
}

// parseSize reads a number of bytes: 1500000, 500M, 2GiB. Units are powers of
// 1024.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTiBkmgtb")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 {
		return 0, errors.New("want a size such as 500MiB or 2GiB")
	}
	shift, ok := map[string]int{"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s[len(digits):]), "b"), "i")]
	if !ok || n > (1<<62)>>shift {
		return 0, errors.New("want a size such as 500MiB or 2GiB")
	}
	return n << shift, nil
}

// stateDir is where all watches keep their state.
func stateDir(flag string, env WatchEnv, help string) (string, error) {
	dir := flag
	if dir == "" {
		dir = env.State
	}
	if dir == "" {
		return "", fault.Usagef(help, "there is no place for the state: --state-dir, or set HOME")
	}
	abs, err := filepath.Abs(filepath.Join(env.Dir, dir))
	if filepath.IsAbs(dir) {
		abs, err = filepath.Clean(dir), nil
	}
	if err != nil {
		return "", fault.Usagef(help, "--state-dir %s: %v", ui.Clean(dir), err)
	}
	return abs, nil
}

package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/lease"
	"homelab/pkg/artifact/probe"
	watchrun "homelab/pkg/artifact/run"
	websource "homelab/pkg/artifact/source"
	"homelab/pkg/artifact/source/builderweb"
	"homelab/pkg/artifact/source/image"
	"homelab/pkg/artifact/source/pipeline"
	"homelab/pkg/artifact/source/web"
	"homelab/pkg/artifact/target/file"
	"homelab/pkg/artifact/target/hook"
	"homelab/pkg/artifact/target/workload"
	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/registry"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
	"homelab/verbs/deploy"
)

const watchHelp = "homelab deploy watch --help"

func (a *app) watchDeps() deploy.WatchDeps {
	return deploy.WatchDeps{Env: a.watchEnv, Build: a.buildWatch, Together: a.watchesTogether(), Signals: a.watchSignals, Secret: a.secretFile, Notify: a.notify}
}

func (a *app) watchEnv() deploy.WatchEnv {
	command, _ := a.env.Lookup(config.EnvSSHCommand)
	return deploy.WatchEnv{Dir: a.dir, State: a.env.WatchState(), SSHCommand: command, File: a.env.WatchesPath}
}

func (a *app) watchSignals(patience time.Duration) deploy.WatchSignals {
	if a.signals == nil {
		return deploy.WatchSignals{}
	}
	stop, hangup := a.signals.take(patience)
	return deploy.WatchSignals{Stop: stop, Reload: hangup}
}

// notify is the service manager's socket, if one waits for this process.
func (a *app) notify() watchrun.Notify {
	n := watchrun.Notify{}
	n.Socket, _ = a.env.Lookup(config.EnvNotifySocket)
	usec, _ := a.env.Lookup(config.EnvWatchdog)
	pid, given := a.env.Lookup(config.EnvWatchdogPID)
	if us, err := strconv.ParseInt(usec, 10, 64); err == nil && us > 0 && (!given || pid == strconv.Itoa(os.Getpid())) {
		n.Watchdog = time.Duration(us) * time.Microsecond
	}
	return n
}

// secretFile reads a file with one secret and keeps that out of all output.
func (a *app) secretFile(path string) (transport.Secret, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the person's own choice
	if err != nil {
		return transport.Secret{}, fault.Usagef(watchHelp, "the token's file cannot be read").Because(err.Error())
	}
	s, err := transport.NewSecret(string(data))
	if err != nil {
		return transport.Secret{}, fault.Usagef(watchHelp, "%s holds no token", ui.Clean(path)).Because(err.Error())
	}
	a.redact.Add(s)
	return s, nil
}

// hostConfig is the configuration of the host and its user alone: a watch runs
// for months, whatever checkout it was started in.
func (a *app) hostConfig() (*config.Effective, error) {
	e, err := config.Load(config.Options{Env: a.env, Flags: a.given()})
	if err != nil {
		return nil, err
	}
	for _, n := range e.Notes {
		a.streams.Verbosef("configuration: %s", n)
	}
	return e, nil
}

// watchParts puts one watch together.
type watchParts struct {
	*app
	s    deploy.WatchSpec
	e    *config.Effective
	out  watchrun.Options
	desk *watchrun.Desk

	common   *watchCommon      // of the watches of this process; nil: there is one
	registry *registry.Client  // of the target, and of a source without a way of its own
	asks     *websource.Client // of the source's origin, if files come from one
	asked    *url.URL
}

// buildWatch understands and makes source, target and probes of a watch.
// Everything is understood before anything is made, and nothing is contacted.
func (a *app) buildWatch(_ context.Context, s deploy.WatchSpec) (watchrun.Options, error) {
	e, err := a.hostConfig()
	if err != nil {
		return watchrun.Options{}, err
	}
	return (&watchParts{app: a, s: s, e: e}).build()
}

// build makes everything of it.
func (w *watchParts) build() (watchrun.Options, error) {
	s := w.s
	w.desk = watchrun.NewDesk()
	w.out = watchrun.Options{Config: s.Config, Desk: w.desk}
	for _, step := range []func() error{w.pair, w.source, w.target, w.probes, w.proofs, w.lease, w.receivers} {
		if err := step(); err != nil {
			return watchrun.Options{}, err
		}
	}
	return w.out, nil
}

func (w *watchParts) scheme(of string) string {
	scheme, _, _ := strings.Cut(of, ":")
	return scheme
}

// pair refuses flags that belong to another source or target.
func (w *watchParts) pair() error {
	from, to := w.scheme(w.s.From), w.scheme(w.s.To)
	no := func(flag, why string) error { return fault.Usagef(watchHelp, "--%s %s", flag, why) }
	images := from == "oci" || to == "k8s" || to == "stack" || strings.HasPrefix(w.s.Artifact, image.Scheme)
	switch {
	case w.s.Artifact != "" && from != "woodpecker":
		return no("artifact", "goes with woodpecker: as the source")
	case w.s.FromSums != "" && from != "https":
		return no("from-sums", "goes with https:// as the source")
	case len(w.s.InsecureRegistry) > 0 && !images:
		return no("insecure-registry", "goes with images")
	case w.s.FromTokenFile != "" && from == "oci":
		return no("from-token-file", "does not go with oci://: credentials of registries are those of the docker configuration")
	case w.s.FromTokenFile != "" && strings.HasPrefix(w.s.Artifact, image.Scheme):
		return no("from-token-file", "is of an https:// artifact: credentials of registries are those of the docker configuration")
	case to != "exec" && (len(w.s.Args) > 0 || len(w.s.Env) > 0 || w.s.ReadyHook || w.s.Idempotent):
		return no("arg, --env, --ready-hook and --idempotent", "go with exec: as the target")
	case to != "k8s" && to != "stack" && (w.s.TakeOwnership || w.s.AllowRepositoryChange):
		return no("take-ownership and --allow-repository-change", "go with k8s:// and stack: as the target")
	}
	return nil
}

// source makes where artifacts come from.
func (w *watchParts) source() error {
	switch scheme := w.scheme(w.s.From); scheme {
	case "builder-web+https":
		spec, err := builderweb.Parse(w.s.From)
		if err != nil {
			return err
		}
		client, err := w.client(spec.Base())
		if err != nil {
			return err
		}
		w.came(spec.String(), artifact.File, builderweb.New(spec, builderweb.Deps{HTTP: client, MaxSize: w.s.MaxSize}))
	case "https":
		spec, err := web.Parse(w.s.From, w.s.FromSums)
		if err != nil {
			return err
		}
		base, err := spec.Base()
		if err != nil {
			return err
		}
		client, err := w.client(base)
		if err != nil {
			return err
		}
		src, err := web.New(spec, web.Deps{HTTP: client, MaxSize: w.s.MaxSize})
		if err != nil {
			return err
		}
		w.came(spec.String(), artifact.File, src)
	case "oci":
		spec, err := image.Parse(w.s.From)
		if err != nil {
			return err
		}
		client, err := w.registryOf(spec.Registry)
		if err != nil {
			return err
		}
		w.came(spec.String(), artifact.Image, image.New(spec, w.images(client, spec.Registry)))
	case "woodpecker":
		return w.pipeline()
	case "git+https", "git+ssh", "git", "stack":
		return fault.Usagef(watchHelp, "--from %s: is not built yet", ui.Clean(scheme))
	default:
		return fault.Usagef(watchHelp, "--from %s is no source", ui.Clean(w.s.From)).
			Because("there are builder-web+https://, https://, oci:// and woodpecker:")
	}
	return nil
}

// came takes the source over.
func (w *watchParts) came(from string, kind artifact.Kind, s artifact.Source) {
	w.out.From, w.out.Config.Kind, w.out.Source = from, kind, s
}

// pipeline makes a source that waits for green pipelines at the configured
// server, as a guest if there is no token.
func (w *watchParts) pipeline() error {
	spec, err := pipeline.Parse(w.s.From, w.s.Artifact)
	if err != nil {
		return err
	}
	if missing := w.e.MissingServer(); missing != nil {
		return missing
	}
	server, err := w.woodpeckerServer()
	if err != nil {
		return err
	}
	d := pipeline.Deps{Server: server}
	if spec.Kind() == artifact.Image {
		client, err := w.registryOf(spec.Registry())
		if err != nil {
			return err
		}
		d.Images = w.images(client, spec.Registry())
	} else if d.File, err = w.files(); err != nil {
		return err
	}
	w.came(spec.String(), spec.Kind(), pipeline.New(spec, d))
	return nil
}

// files returns what finds the artifact of a pipeline, which is at one origin
// for all of them.
func (w *watchParts) files() (func(address string) (artifact.Source, error), error) {
	u, err := url.Parse(w.s.Artifact)
	if err != nil {
		return nil, fault.Usagef(watchHelp, "--artifact %s is no URL", ui.Clean(w.s.Artifact))
	}
	client, err := w.client(&url.URL{Scheme: u.Scheme, Host: u.Host})
	if err != nil {
		return nil, err
	}
	return func(address string) (artifact.Source, error) {
		spec, err := web.Parse(address, "")
		if err != nil {
			return nil, err
		}
		return web.New(spec, web.Deps{HTTP: client, MaxSize: w.s.MaxSize})
	}, nil
}

// transportTo makes the way to one origin of the source: its pin, its CA and
// its token are sent nowhere else.
func (w *watchParts) transportTo(base *url.URL) (*transport.Stack, error) {
	o := transport.Options{
		Base: base, CAFile: w.s.FromCAFile, Proxy: w.e.Proxy, UserAgent: w.userAgent(), Log: w.log(), Redact: &w.redact,
	}
	if w.s.FromDial != "" {
		pin, err := transport.ParsePin(w.s.FromDial)
		if err != nil {
			return nil, fault.Usagef(watchHelp, "--from-dial %v", err)
		}
		o.Pin = &pin
	}
	if w.s.FromTokenFile != "" {
		secret, err := w.secretFile(w.s.FromTokenFile)
		if err != nil {
			return nil, err
		}
		o.Token = func(context.Context) (transport.Secret, error) { return secret, nil }
	}
	return w.stackTo(o, w.s.FromDial, w.s.FromTokenFile)
}

// client is what asks one origin.
func (w *watchParts) client(base *url.URL) (*websource.Client, error) {
	stack, err := w.transportTo(base)
	if err != nil {
		return nil, err
	}
	w.asked = base
	w.asks = w.clientOf(base, stack, w.shared())
	return w.asks, nil
}

// registryOf is the client for images; that of a source with a pin or a CA of
// its own, for the registry host, goes its own way.
func (w *watchParts) registryOf(host string) (*registry.Client, error) {
	o := registry.Options{Insecure: w.s.InsecureRegistry, UserAgent: w.userAgent(), Proxy: w.e.Proxy, Log: w.log()}
	if host != "" && (w.s.FromDial != "" || w.s.FromCAFile != "") {
		stack, err := w.transportTo(&url.URL{Scheme: "https", Host: host})
		if err != nil {
			return nil, err
		}
		o.Transport = stack
		return w.registryWith(o, host, w.s.FromDial, w.s.FromCAFile)
	}
	if w.registry == nil {
		c, err := w.registryWith(o)
		if err != nil {
			return nil, err
		}
		w.registry = c
	}
	return w.registry, nil
}

// target makes what is deployed to.
func (w *watchParts) target() error {
	scheme, rest, _ := strings.Cut(w.s.To, ":")
	takes := func(kinds ...artifact.Kind) error {
		if slices.Contains(kinds, w.out.Config.Kind) {
			return nil
		}
		return fault.Usagef(watchHelp, "the source offers a %s, which %s: does not take", w.out.Config.Kind, scheme)
	}
	switch scheme {
	case "k8s":
		if err := takes(artifact.Image); err != nil {
			return err
		}
		return w.workload()
	case "file":
		spec, err := file.Parse(rest)
		if err == nil {
			err = takes(artifact.File)
		}
		if err != nil {
			return err
		}
		t, err := file.New(spec, file.Deps{
			Path: w.desk.Path, Import: func(ctx context.Context, path string) (artifact.ID, error) { return w.desk.Import(ctx, w.s.Run, path) },
			Dir: w.dir(), Env: w.env.Child(), Tell: w.desk.Line, Redact: w.redact.String,
		})
		if err != nil {
			return err
		}
		w.out.To, w.out.Target, w.out.Config.Idempotent = spec.String(), t, true
	case "exec":
		spec, err := hook.Parse(rest, hook.Spec{Args: w.s.Args, Env: w.s.Env, Ready: w.s.ReadyHook, Idempotent: w.s.Idempotent})
		if err != nil {
			return err
		}
		t, err := hook.New(spec, w.hookDeps())
		if err != nil {
			return err
		}
		w.out.To, w.out.Target = spec.String(), t
		w.out.Config.Idempotent = spec.Idempotent
		w.out.Config.Blind, w.out.NeedObserve = w.s.Once, !w.s.Once
	case "stack":
		if err := w.stackTarget(rest, takes); err != nil {
			return err
		}
	case "compose":
		return fault.Usagef(watchHelp, "--to %s: is not built yet", scheme)
	default:
		return fault.Usagef(watchHelp, "--to %s is no target", ui.Clean(w.s.To)).Because("there are k8s://, stack:, file: and exec:")
	}
	if w.s.AfterRollback != "" {
		after, err := hook.NewAfter(w.s.AfterRollback, w.hookDeps())
		if err != nil {
			return err
		}
		w.out.AfterRollback = after.Run
	}
	return nil
}

// dir is the watch's own directory.
func (w *watchParts) dir() string { return watchrun.Place{Root: w.s.State, Name: w.s.Name}.Dir() }

func (w *watchParts) hookDeps() hook.Deps {
	return hook.Deps{
		Env: w.env.Child(), Dir: filepath.Join(w.dir(), "work"), Watch: w.s.Name, Run: w.s.Run, Tell: w.desk.Line, Redact: w.redact.String,
	}
}

// seer is a workload that tells by itself when it changes.
type seer struct{ *workload.Target }

// See tells of changes; known ids are the target's own affair.
func (s seer) See(ctx context.Context, _ func() []artifact.ID, saw func(artifact.Observation)) error {
	return s.Watch(ctx, saw)
}

func (w *watchParts) workload() error {
	spec, err := workload.Parse(w.s.To)
	if err != nil {
		return err
	}
	cluster, err := w.cluster(spec.Namespace)
	if err != nil {
		return err
	}
	images, err := w.registryOf("")
	if err != nil {
		return err
	}
	w.out.To, w.out.Config.Idempotent = spec.String(), true
	w.out.Target = seer{workload.New(spec, workload.Deps{Cluster: cluster, Registry: images})}
	return nil
}

// lease makes what says whose turn it is. Its name for this process is another
// one on each machine, and for each state directory: a lock there keeps two of
// them apart, so that the next process may go on at once where one was killed.
func (w *watchParts) lease() error {
	if w.s.Lease == "" {
		return nil
	}
	spec, err := lease.Parse(w.s.Lease)
	if err != nil {
		return err
	}
	cluster, err := w.cluster(spec.Namespace)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fault.Usagef(watchHelp, "--lease: this machine has no name").Because(err.Error())
	}
	state := fnv.New32a()
	_, _ = state.Write([]byte(w.dir())) // never fails
	w.out.Lease = lease.New(spec, cluster, fmt.Sprintf("%s_%s_%08x", host, w.s.Name, state.Sum32()))
	return nil
}

// probes makes what is asked whether a version is well.
func (w *watchParts) probes() error {
	var specs []probe.Spec
	for _, p := range w.s.ProbeTexts {
		spec, err := probe.Parse(p.Text)
		if p.Parts != nil {
			parts := map[string]string{}
			for _, x := range p.Parts {
				parts[x.Key] = x.Value
			}
			spec, err = probe.FromMap(parts)
		}
		if err != nil {
			return err
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 {
		return nil
	}
	p, err := probe.New(specs, probe.Deps{
		Transport: transport.Options{Proxy: w.e.Proxy, UserAgent: w.userAgent(), Log: w.log(), Redact: &w.redact},
		Env:       w.env.Child(), Dir: filepath.Join(w.dir(), "work"), Watch: w.s.Name, Run: w.s.Run, Redact: w.redact.String,
	})
	if err != nil {
		return err
	}
	w.out.Prober = p
	return nil
}

package main

import (
	"context"
	"crypto/rand"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/config"
	"homelab/pkg/git"
	"homelab/pkg/kube"
	"homelab/pkg/registry"
	"homelab/pkg/rollout"
	"homelab/pkg/stack"
	"homelab/pkg/stack/compose"
	"homelab/pkg/stack/hook"
	"homelab/pkg/stack/kind"
	"homelab/pkg/stack/secret"
	"homelab/verbs/deployment"
	"homelab/verbs/verb/workload"
)

func (a *app) deploymentDeps() deployment.Deps {
	return deployment.Deps{
		IO: a.streams, Flags: a.flags, World: a.world, Checkout: a.checkout,
		WithCI: func(ctx context.Context) bool {
			e, err := a.config(ctx)
			return err == nil && e.Server.Set && e.MissingToken() == nil
		},
	}
}

// world joins what the workflows of a deployment stand on.
func (a *app) world(ctx context.Context, tell stack.Story) (*stack.World, error) {
	e, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	return a.worldOf(e, tell)
}

// worldOf is world by the configuration e.
func (a *app) worldOf(e *config.Effective, tell stack.Story) (*stack.World, error) {
	files, err := a.stackEnvOf(e)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	engine := &kind.Engine{Dir: files.WorkDir, Env: a.env.Child(), Log: a.streams.Verbosef}
	hidden := config.TokenNames()
	return &stack.World{
		Connect: func(ctx context.Context, x stack.Access) (stack.Cluster, func(), error) {
			return a.reach(ctx, e, x, hidden)
		},
		Hide: func(names []string) {
			hidden = append(hidden, names...)
			config.Hide(names)
			engine.Env = slices.DeleteFunc(slices.Clone(engine.Env), func(pair string) bool {
				name, _, _ := strings.Cut(pair, "=")
				return slices.Contains(names, name)
			})
		},
		HasContext: func(name string) bool {
			return kube.HasContext(kube.Options{Kubeconfig: e.Kubeconfig.V, Explicit: e.Kubeconfig.Set}, name)
		},
		Engine: engine,
		Hooks:  a.hooks(files.WorkDir, lines(tell)),
		Kubeconfig: func(_ context.Context, x stack.Access) ([]byte, error) {
			o := kube.Options{Kubeconfig: e.Kubeconfig.V, Explicit: e.Kubeconfig.Set, Content: x.Content, Context: x.Context, Namespace: x.Namespace}
			if x.Kubeconfig != "" {
				o.Kubeconfig, o.Explicit = []string{x.Kubeconfig}, true
			}
			return kube.Private(o)
		},
		Docker:       &compose.Engine{Env: a.env.Child(), Log: a.streams.Verbosef},
		DockerConfig: a.dockerConfig(),
		Secrets: secret.Source{
			Env: a.env.Lookup, Home: files.Home, Rand: rand.Reader,
			Read: func(path string) ([]byte, fs.FileMode, error) {
				st, err := os.Stat(path)
				if err != nil {
					return nil, 0, err
				}
				raw, err := os.ReadFile(path) //nolint:gosec // the spec names it
				return raw, st.Mode(), err
			},
		},
		Images: func(context.Context, stack.Cluster, string) (rollout.Images, error) {
			return &images{
				options: registry.Options{UserAgent: a.userAgent(), Proxy: e.Proxy, Log: a.log()},
				clients: map[string]*registry.Client{},
			}, nil
		},
		History: func(ctx context.Context, commit string) rollout.History {
			repo, err := a.checkout(ctx)
			if err != nil || repo == nil {
				return nil
			}
			return &workload.History{Repo: repo, Commit: git.Commit(commit)}
		},
		Resolver: net.DefaultResolver, Files: files, Git: a.env.Child(), Host: host,
		Redact: func(r secret.Result) {
			for _, t := range r.Tokens {
				a.redact.Add(t)
			}
		},
		Tell: tell, Now: time.Now, Lenient: a.older.is,
	}, nil
}

// lines is where a story's lines go; a look without a story has none.
func lines(tell stack.Story) func(string) {
	if tell == nil {
		return func(string) {}
	}
	return tell.Line
}

// hooks runs what stacks bring along; tell is told what it prints.
func (a *app) hooks(dir string, tell func(string)) *hook.Runner {
	return &hook.Runner{Env: a.env.Child(), WorkDir: dir, Tell: tell}
}

// reach connects to a deployment's own cluster. Nothing is dialled.
func (a *app) reach(_ context.Context, e *config.Effective, x stack.Access, hidden []string) (stack.Cluster, func(), error) {
	path, _ := a.env.Lookup("PATH")
	o := kube.Options{
		Kubeconfig: e.Kubeconfig.V, Explicit: e.Kubeconfig.Set, Content: x.Content, Context: x.Context, Namespace: x.Namespace,
		UserAgent: a.userAgent(), Path: path, Hide: hidden, Proxy: e.Proxy,
		Stdin: a.streams.Interactive(),
		Warn:  func(text string) { a.streams.Verbosef("the API server warns: %s", text) },
		Log:   a.log(),
	}
	switch {
	case x.Kubeconfig != "":
		o.Kubeconfig, o.Explicit = []string{x.Kubeconfig}, true
	case len(x.Content) > 0:
		o.Kubeconfig, o.Explicit = nil, false // what the engine says is all there is
	}
	c, err := kube.Connect(o)
	if err != nil {
		return nil, nil, err
	}
	return c, c.Close, nil
}

// dockerConfig is where docker's command line keeps what is the user's.
func (a *app) dockerConfig() string {
	if dir, ok := a.env.Lookup("DOCKER_CONFIG"); ok && dir != "" {
		return dir
	}
	return filepath.Join(a.env.Home(), ".docker")
}

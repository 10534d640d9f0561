package main

import (
	"context"
	"encoding/json"
	"net"
	"net/url"
	"runtime/debug"
	"strconv"

	watchrun "homelab/pkg/artifact/run"
	"homelab/pkg/artifact/share"
	websource "homelab/pkg/artifact/source"
	"homelab/pkg/artifact/source/builderweb"
	"homelab/pkg/artifact/source/image"
	"homelab/pkg/artifact/source/pipeline"
	"homelab/pkg/artifact/source/web"
	"homelab/pkg/config"
	"homelab/pkg/kube"
	"homelab/pkg/registry"
	"homelab/pkg/transport"
	"homelab/pkg/woodpecker"
	"homelab/verbs/deploy"
)

// gcPercent is for a process that waits nearly all of its time, and is one of
// many on a small host: what is left of a look goes soon.
const gcPercent = 40

// watchCommon is what the watches of one process have in common: ways to
// servers, and what they ask there. All of it is made anew when the watches
// file is read again, as certificates and tokens may be others then; how often
// a host may be asked is not.
type watchCommon struct {
	pool  *share.Pool
	e     *config.Effective
	alike map[string]int // watches of the same source, with the same way to it

	stacks     map[string]*transport.Stack
	ways       map[string]int // stacks by host
	registries map[string]*registry.Client
	clusters   map[string]*kube.Cluster
	server     *woodpecker.Client
}

// watchesTogether makes the watches of one process.
func (a *app) watchesTogether() func([]deploy.WatchSpec) func(context.Context, deploy.WatchSpec) (watchrun.Options, error) {
	pool := share.New()
	return func(all []deploy.WatchSpec) func(context.Context, deploy.WatchSpec) (watchrun.Options, error) {
		if _, chosen := a.env.Lookup("GOGC"); !chosen {
			debug.SetGCPercent(gcPercent)
		}
		c := &watchCommon{
			pool: pool, alike: map[string]int{}, stacks: map[string]*transport.Stack{}, registries: map[string]*registry.Client{},
			clusters: map[string]*kube.Cluster{}, ways: map[string]int{},
		}
		for _, s := range all {
			c.alike[sourceKey(s)]++
		}
		return func(_ context.Context, s deploy.WatchSpec) (watchrun.Options, error) {
			if c.e == nil {
				e, err := a.hostConfig()
				if err != nil {
					return watchrun.Options{}, err
				}
				c.e = e
			}
			return (&watchParts{app: a, s: s, e: c.e, common: c}).build()
		}
	}
}

// sourceKey is the same for watches that ask the same source in the same way.
func sourceKey(s deploy.WatchSpec) string {
	from := s.From
	for _, read := range []func() (string, error){
		func() (string, error) { spec, err := builderweb.Parse(s.From); return spec.String(), err },
		func() (string, error) { spec, err := web.Parse(s.From, s.FromSums); return spec.String(), err },
		func() (string, error) { spec, err := image.Parse(s.From); return spec.String(), err },
		func() (string, error) { spec, err := pipeline.Parse(s.From, s.Artifact); return spec.String(), err },
	} {
		if canonical, err := read(); err == nil {
			from = canonical
			break
		}
	}
	key, _ := json.Marshal([]any{from, s.Artifact, s.FromSums, s.FromDial, s.FromCAFile, s.FromTokenFile, s.InsecureRegistry}) // text and lists of it
	return string(key)
}

// shared names what this watch may ask together with others; "" nothing.
func (w *watchParts) shared() string {
	if w.common == nil {
		return ""
	}
	key := sourceKey(w.s)
	if w.common.alike[key] < 2 {
		return ""
	}
	return key
}

// host is what all watches have in common at a server; nil there is one watch.
func (w *watchParts) host(u *url.URL) *share.Host {
	if w.common == nil {
		return nil
	}
	o, err := transport.OriginOf(u)
	if err != nil {
		return nil
	}
	return w.common.pool.Host(net.JoinHostPort(o.Host, strconv.Itoa(int(o.Port))))
}

// hostNamed is host for a registry.
func (w *watchParts) hostNamed(registry string) *share.Host {
	return w.host(&url.URL{Scheme: "https", Host: registry})
}

// stackTo is a way to one server that all have who reach it in the same way.
func (w *watchParts) stackTo(o transport.Options, how ...string) (*transport.Stack, error) {
	if w.common == nil {
		return transport.New(o)
	}
	key, _ := json.Marshal(append([]string{o.Base.Scheme, o.Base.Host, o.CAFile}, how...)) // a list of texts
	if s := w.common.stacks[string(key)]; s != nil {
		return s, nil
	}
	s, err := transport.New(o)
	if err == nil {
		w.common.stacks[string(key)] = s
		w.common.ways[o.Base.Host]++
	}
	return s, err
}

// registryWith is a client for images that all have who ask in the same way.
func (w *watchParts) registryWith(o registry.Options, how ...string) (*registry.Client, error) {
	if w.common == nil {
		return registry.New(o)
	}
	key, _ := json.Marshal(append(how, o.Insecure...)) // a list of texts
	if c := w.common.registries[string(key)]; c != nil {
		return c, nil
	}
	c, err := registry.New(o)
	if err == nil {
		w.common.registries[string(key)] = c
	}
	return c, err
}

// cluster is the connection to the cluster, for what is in the namespace.
func (w *watchParts) cluster(namespace string) (*kube.Cluster, error) {
	if w.common == nil {
		return w.connectCluster(w.e, namespace)
	}
	if c := w.common.clusters[namespace]; c != nil {
		return c, nil
	}
	c, err := w.connectCluster(w.e, namespace)
	if err == nil {
		w.common.clusters[namespace] = c
	}
	return c, err
}

// images is r as the source of several watches.
func (w *watchParts) images(r *registry.Client, host string) image.Registry {
	if w.common == nil {
		return r
	}
	return image.Together(r, w.hostNamed(host), w.shared())
}

// woodpeckerServer is the configured server, as a guest if there is no token.
func (w *watchParts) woodpeckerServer() (pipeline.Server, error) {
	if w.common != nil && w.common.server != nil {
		return pipeline.Together(w.common.server, w.host(w.e.Server.V), w.shared()), nil
	}
	var token func(context.Context) (transport.Secret, error)
	if w.e.MissingToken() == nil {
		tokens, err := w.tokens(w.e)
		if err != nil {
			return nil, err
		}
		token = tokens.get
	}
	stack, err := w.stack(w.e, token)
	if err != nil {
		return nil, err
	}
	c := woodpecker.New(woodpecker.Options{
		Base: w.e.Server.V, Transport: stack, CloseIdle: stack.CloseIdleConnections, Log: w.log(),
	})
	if w.common == nil {
		return c, nil
	}
	w.common.server = c
	return pipeline.Together(c, w.host(w.e.Server.V), w.shared()), nil
}

// clientOf is what asks one origin through a stack.
func (w *watchParts) clientOf(base *url.URL, stack *transport.Stack, shared string) *websource.Client {
	o := websource.Options{
		Next: stack, CloseIdle: stack.CloseIdleConnections, Log: w.log(), Jitter: 0.25, Host: w.host(base), Shared: shared,
	}
	if common := w.common; common != nil {
		// All watches have been made before the first one asks.
		o.Brief = func() bool { return common.ways[base.Host] > share.MostConns }
	}
	return websource.NewClient(o)
}

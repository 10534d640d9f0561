package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"homelab/pkg/kube"
	"homelab/pkg/registry"
	"homelab/pkg/rollout"
	"homelab/verbs/deploy"
)

// images returns what asks registries, for one run.
func (a *app) images(ctx context.Context, conn deploy.Conn, o deploy.ImageOptions) (rollout.Images, error) {
	e, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	out := &images{
		options: registry.Options{Insecure: o.Insecure, UserAgent: a.userAgent(), Proxy: e.Proxy, Log: a.log()},
		clients: map[string]*registry.Client{},
	}
	if o.UsePullSecrets {
		out.secrets = conn.Cluster
	}
	return out, nil
}

// secretReader reads one object of a cluster.
type secretReader interface {
	Get(ctx context.Context, r kube.Resource, ns, name string) (kube.Object, error)
}

// images answers a wait's questions about images: one client per set of pull
// secrets, the user's own credentials otherwise.
type images struct {
	options registry.Options
	secrets secretReader // nil: pull secrets are not to be read

	mu      sync.Mutex
	clients map[string]*registry.Client
}

var _ rollout.Images = (*images)(nil)

// Image resolves a reference. What could not be asked or was refused is told
// as such; it is never a finding.
func (i *images) Image(ctx context.Context, reference string, target rollout.Target) rollout.ImageAnswer {
	client, err := i.client(ctx, target)
	if err != nil {
		return rollout.ImageAnswer{Err: err.Error()}
	}
	got, err := client.Resolve(ctx, reference)
	if err != nil {
		return rollout.ImageAnswer{Err: err.Error()}
	}
	out := rollout.ImageAnswer{Digest: got.Digest, Closure: got.Closure}
	add := func(revision string) {
		if revision != "" && !slices.Contains(out.Revisions, revision) {
			out.Revisions = append(out.Revisions, revision)
		}
	}
	add(got.Revision)
	for _, p := range got.Platforms {
		add(p.Revision)
	}
	return out
}

func (i *images) client(ctx context.Context, target rollout.Target) (*registry.Client, error) {
	var names []string
	if i.secrets != nil {
		names = target.Template.PullSecrets
	}
	key := target.Namespace + "\x00" + strings.Join(names, "\x00")
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.clients[key]; c != nil {
		return c, nil
	}
	o := i.options
	for _, name := range names {
		if config := i.pullSecret(ctx, target.Namespace, name); config != nil {
			o.PullSecrets = append(o.PullSecrets, config)
		}
	}
	c, err := registry.New(o)
	if err != nil {
		return nil, err
	}
	i.clients[key] = c
	return c, nil
}

// pullSecret reads the docker configuration of a pull secret; nil when it may
// not be read or is of another kind.
func (i *images) pullSecret(ctx context.Context, ns, name string) []byte {
	o, err := i.secrets.Get(ctx, kube.Core("secrets"), ns, name)
	if err != nil {
		return nil
	}
	var secret struct {
		Data map[string]string `json:"data"`
	}
	if json.Unmarshal(o.Raw, &secret) != nil {
		return nil
	}
	config, err := base64.StdEncoding.DecodeString(secret.Data[".dockerconfigjson"])
	if err != nil || len(config) == 0 {
		return nil
	}
	return config
}

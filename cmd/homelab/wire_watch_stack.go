package main

import (
	"context"

	"homelab/pkg/artifact"
	target "homelab/pkg/artifact/target/stack"
	"homelab/pkg/registry"
	"homelab/pkg/rollout"
	"homelab/pkg/stack"
)

// stackTarget makes one container of a deployment directory what is deployed to.
// Its files are judged; nothing is contacted.
func (w *watchParts) stackTarget(rest string, takes func(...artifact.Kind) error) error {
	spec, err := target.Parse(rest)
	if err == nil {
		err = takes(artifact.Image)
	}
	if err != nil {
		return err
	}
	client, err := w.registryOf("")
	if err != nil {
		return err
	}
	t, err := target.New(spec, target.Deps{Stack: w.stacks, Registry: client, Dir: w.dir(), Tell: w.desk.Line})
	if err != nil {
		return err
	}
	w.out.To, w.out.Target, w.out.Config.Idempotent = spec.String(), t, true
	return nil
}

// stacks are the deployments of this machine as a watch sees them: by the
// configuration of the host and its user.
func (w *watchParts) stacks(tell stack.Story) (target.Stack, error) {
	world, err := w.worldOf(w.e, tell)
	if err != nil {
		return nil, err
	}
	world.Images = func(context.Context, stack.Cluster, string) (rollout.Images, error) {
		return &images{
			options: registry.Options{Insecure: w.s.InsecureRegistry, UserAgent: w.userAgent(), Proxy: w.e.Proxy, Log: w.log()},
			clients: map[string]*registry.Client{},
		}, nil
	}
	return world, nil
}

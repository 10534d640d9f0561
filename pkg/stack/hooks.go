package stack

import (
	"context"
	"maps"
	"path/filepath"

	"homelab/pkg/fault"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
)

// startHooks runs the start hooks of the directory, once everything is applied:
// at every start and restart.
func (r *run) startHooks(ctx context.Context) error {
	if r.o.NoHooks || r.w.Hooks == nil || r.o.Verb != "start" && r.o.Verb != "restart" {
		return nil
	}
	hooks := hook.For(hook.Start, directory.Hooks(r.d.Path))
	if len(hooks) == 0 {
		return nil
	}
	images := map[string]string{}
	for _, w := range r.rules.Workloads {
		maps.Copy(images, w.Images)
	}
	c, err := directory.HookContext(r.d, images, nil)
	if err != nil {
		return err
	}
	config, err := r.kubeconfig(ctx)
	if err != nil {
		return err
	}
	for _, h := range hooks {
		e := r.entry()
		e.Hook = filepath.Base(h)
		if err := r.journal.Write(e); err != nil {
			return err
		}
		if _, err := r.w.Hooks.Run(ctx, hook.Start, h, c, config); err != nil {
			if f, ok := err.(*fault.Error); ok && f.Next == "" { //nolint:errorlint // Run documents its type
				f.Next = "homelab deployment " + r.o.Verb + " --dir " + r.o.Dir
			}
			return err
		}
	}
	return r.journal.Write(r.entry())
}

// kubeconfig is the text of a kubeconfig that reaches this deployment's cluster
// and no other; none for a stack that runs without one.
func (r *run) kubeconfig(ctx context.Context) ([]byte, error) {
	a := Access{Namespace: r.d.Namespace()}
	switch r.d.Spec.Target {
	case file.K8s:
		a.Kubeconfig = filepath.Join(r.d.Path, "kubeconfig.yml")
	case file.Kind:
		a.Context = "kind-" + r.d.Cluster()
		if !r.w.HasContext(a.Context) {
			content, err := r.w.Engine.Kubeconfig(ctx, r.d.Cluster())
			if err != nil {
				return nil, err
			}
			a.Content = content
		}
	case file.Compose, "":
		return nil, nil
	}
	return r.w.Kubeconfig(ctx, a)
}

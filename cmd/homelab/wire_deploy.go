package main

import (
	"context"

	"homelab/pkg/config"
	"homelab/pkg/kube"
	"homelab/pkg/pipeline"
	"homelab/pkg/rollout"
	"homelab/pkg/woodpecker"
	"homelab/verbs/ci"
	"homelab/verbs/deploy"
)

func (a *app) deployDeps() deploy.Deps {
	return deploy.Deps{
		IO: a.streams, Flags: a.flags, Checkout: a.checkout,
		Cluster: a.cluster, Images: a.images, Pipeline: a.pipelineFact,
		Stacks: a.stackDeps(), Watch: a.watchDeps(),
	}
}

// cluster makes the connection to the configured cluster. Nothing is dialled.
func (a *app) cluster(ctx context.Context, namespace string) (deploy.Conn, error) {
	e, err := a.config(ctx)
	if err != nil {
		return deploy.Conn{}, err
	}
	c, err := a.connectCluster(e, namespace)
	if err != nil {
		return deploy.Conn{}, err
	}
	return deploy.Conn{
		Cluster: c, Context: c.Context(), Namespace: namespace,
		WithCI: e.Server.Set && e.MissingToken() == nil,
		Close:  c.Close,
	}, nil
}

// connectCluster makes the client of the cluster that e names. Nothing is
// dialled.
func (a *app) connectCluster(e *config.Effective, namespace string) (*kube.Cluster, error) {
	host, _ := a.env.Lookup(config.EnvKubeHost)
	port, _ := a.env.Lookup(config.EnvKubePort)
	path, _ := a.env.Lookup("PATH")
	return kube.Connect(kube.Options{
		Kubeconfig: e.Kubeconfig.V, Explicit: e.Kubeconfig.Set, Context: e.Context.V, Namespace: namespace,
		InCluster: kube.ServiceAccount{Host: host, Port: port},
		UserAgent: a.userAgent(), Path: path, Hide: config.TokenNames(), Proxy: e.Proxy,
		Stdin: a.streams.Interactive(),
		Warn:  func(text string) { a.streams.Verbosef("the API server warns: %s", text) },
		Log:   a.log(),
	})
}

// pipelineFact looks once at the commit's pipeline: a hint for somebody who
// waits for an image that CI never made. What cannot be told is no hint.
func (a *app) pipelineFact(ctx context.Context, commit string) *rollout.PipelineFact {
	conn, err := a.connect(ctx, ci.Reporter{})
	if err != nil {
		return nil
	}
	repo, err := a.checkout(ctx)
	if err != nil {
		return nil
	}
	wanted, err := ci.Candidates(ctx, repo, a.flags.Repo, conn.Remote)
	if err != nil {
		return nil
	}
	found, err := pipeline.Locate(ctx, conn.Client, wanted, false)
	if err != nil {
		return nil
	}
	target := pipeline.Target{Repo: found.Repo, Commit: commit, Prefix: len(commit) < 40}
	if repo != nil {
		target.Local = repo
	}
	out, err := pipeline.Await(ctx, conn.Client, target, pipeline.Limits{Once: true}, func(pipeline.Update) {})
	if err != nil || out.Row == nil {
		return nil
	}
	return &rollout.PipelineFact{
		Number: out.Row.Number, Status: string(out.Row.Status),
		Failed: out.Verdict == pipeline.Failure || out.Row.Status == woodpecker.Error,
	}
}

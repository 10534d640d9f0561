package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/kind"
	"homelab/verbs/deploy"
)

func (a *app) stackDeps() deploy.StackDeps {
	return deploy.StackDeps{Env: a.stackEnv, Clusters: a.kindClusters, Version: a.version}
}

// stackEnv says where stacks are found and what paths mean.
func (a *app) stackEnv(ctx context.Context) (file.Env, error) {
	e, err := a.config(ctx)
	if err != nil {
		return file.Env{}, err
	}
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return file.Env{}, err
	}
	return file.Env{Home: a.env.Home(), WorkDir: dir, RepoBase: e.RepoBase.V, Roots: e.StackRoots.V}, nil
}

// kindClusters lists the kind clusters that run. Without docker there are
// none: kind runs its nodes in it.
func (a *app) kindClusters(ctx context.Context) ([]directory.Cluster, error) {
	if !a.hasProgram("docker") {
		return nil, nil
	}
	engine := &kind.Engine{Dir: a.dir, Env: a.env.Child(), Log: a.streams.Verbosef}
	names, err := engine.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []directory.Cluster
	for _, name := range names {
		nodes, err := engine.Nodes(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(nodes) > 0 && !slices.ContainsFunc(nodes, func(n kind.Node) bool { return !n.Running }) {
			out = append(out, directory.Cluster{Name: name, Ours: strings.HasPrefix(name, "laconic-")})
		}
	}
	return out, nil
}

// hasProgram says whether PATH has an executable of that name.
func (a *app) hasProgram(name string) bool {
	path, _ := a.env.Lookup("PATH")
	for _, dir := range filepath.SplitList(path) {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

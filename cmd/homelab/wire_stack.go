package main

import (
	"context"
	"os"
	"path/filepath"

	"homelab/pkg/config"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/verbs/deploy"
)

func (a *app) stackDeps() deploy.StackDeps {
	return deploy.StackDeps{Env: a.stackEnv, Clusters: a.kindClusters, Version: a.version, Rules: a.rules(), Hooks: a.hooks}
}

// stackEnv says where stacks are found and what paths mean.
func (a *app) stackEnv(ctx context.Context) (file.Env, error) {
	e, err := a.config(ctx)
	if err != nil {
		return file.Env{}, err
	}
	return a.stackEnvOf(e)
}

// stackEnvOf is stackEnv by the configuration e.
func (a *app) stackEnvOf(e *config.Effective) (file.Env, error) {
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return file.Env{}, err
	}
	base := e.RepoBase.V
	if a.older.local {
		if base, err = a.besides(); err != nil {
			return file.Env{}, err
		}
	}
	return file.Env{Home: a.env.Home(), WorkDir: dir, RepoBase: base, Roots: e.StackRoots.V}, nil
}

// rules are those that new directories are made with: under the older name
// they stay the older tool's.
func (a *app) rules() file.Rules {
	if a.older.is {
		return file.V1
	}
	return file.V2
}

// kindClusters lists the kind clusters that run. Without docker there are
// none: kind runs its nodes in it.
func (a *app) kindClusters(ctx context.Context) ([]directory.Cluster, error) {
	if !a.hasProgram("docker") {
		return nil, nil
	}
	w, err := a.world(ctx, nil)
	if err != nil {
		return nil, err
	}
	all, err := w.Clusters(ctx, "", "")
	if err != nil {
		return nil, err
	}
	var out []directory.Cluster
	for _, c := range all {
		if c.Running {
			out = append(out, directory.Cluster{Name: c.Name, Ours: c.Ours})
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

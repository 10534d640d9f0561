package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/internal/kubesim"
	"homelab/internal/rig"
)

const (
	workload = "shop/web"
	oldImage = "registry.example/web:4b825dc6" // a name that is reserved and resolves nowhere
	mover    = "image-updater"                 // who moves the image in the cluster
	moveLate = 1200 * time.Millisecond
)

// setUpCluster starts a simulated cluster that runs an old image, and what
// carries images from a pipeline into it: the commands push and deploy, which
// the returned environment of its steps leads to, and a loop that moves the
// image later, as an image updater would.
func (s *stage) setUpCluster(t *rig.T) (env []string, err error) {
	s.cluster = kubesim.New(kubesim.Options{})
	server := s.cluster.Serve(t)
	s.env = append(s.env, "KUBECONFIG="+server.Kubeconfig(t, "lab", kubesim.Admin, "shop"))
	s.cluster.Deploy(kubesim.Workload{Namespace: "shop", Name: "web", Image: oldImage, Replicas: 2, Probe: true})

	dir := t.TempDir()
	pushed, deployed := filepath.Join(dir, "pushed"), filepath.Join(dir, "deployed")
	for name, text := range map[string]string{
		"push":   "#!/bin/sh\necho \"$1\" >>'" + pushed + "' && echo \"$1: pushed\"\n",
		"deploy": "#!/bin/sh\necho \"$1 $2\" >>'" + deployed + "' && echo \"$1: asked for $2\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { stop(); <-done })
	go func() {
		defer close(done)
		s.moveImages(ctx, pushed, deployed)
	}()
	return []string{"PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH")}, nil
}

// moveImages lets the cluster follow what was asked for, some time after
// somebody began to watch, so that there is something to see. An image that was
// not pushed cannot be pulled.
func (s *stage) moveImages(ctx context.Context, pushed, deployed string) {
	watches := func() int { return s.cluster.Count("watch", "deployments") }
	for done := 0; ; {
		if !until(ctx, func() bool { return len(words(deployed)) > done }) {
			return
		}
		before, seen := watches(), time.Time{}
		if !until(ctx, func() bool {
			if seen.IsZero() && watches() > before {
				seen = time.Now()
			}
			return !seen.IsZero() && time.Since(seen) > moveLate
		}) {
			return
		}
		asked := words(deployed)
		done = len(asked)
		target, image, _ := strings.Cut(asked[done-1], " ") // the newest; those before it are passed over
		plan := kubesim.Plan{Writer: mover, Pod: kubesim.Life{Start: 300 * time.Millisecond, Ready: 500 * time.Millisecond}}
		if !slices.Contains(words(pushed), image) {
			plan.Pod.PullError = fmt.Sprintf("failed to resolve reference %q: %s: not found", image, image)
		}
		s.cluster.Rollout(target, image, plan)
	}
}

// until looks every 50 ms; false when ctx ended first.
func until(ctx context.Context, done func() bool) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// words returns a file's whole lines; none when it is not there yet.
func words(file string) []string {
	data, err := os.ReadFile(file)
	end := strings.LastIndexByte(string(data), '\n')
	if err != nil || end < 0 {
		return nil
	}
	return strings.Split(string(data[:end]), "\n")
}

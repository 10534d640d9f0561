package kind

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/exec"
	"sigs.k8s.io/kind/pkg/log"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// Node is one node of a kind cluster: a container of this machine.
type Node struct {
	Name    string
	Role    string // "control-plane", "worker", "external-load-balancer"
	Running bool
	Mounts  []Mount
}

// Mount is a bind mount of a node's container.
type Mount struct {
	Source      string `json:"Source"`      // on this machine
	Destination string `json:"Destination"` // in the node
}

// Engine is the container engine of this machine with the kind clusters on it.
// Its methods return *fault.Error of kind Unreachable when the engine does not
// answer.
type Engine struct {
	Dir string   // where commands run
	Env []string // their whole environment
	Log func(format string, args ...any)
}

const (
	askTimeout  = 30 * time.Second
	loadTimeout = 10 * time.Minute
	readyWait   = 3 * time.Minute
)

func (e *Engine) provider() *cluster.Provider {
	return cluster.NewProvider(cluster.ProviderWithDocker(), cluster.ProviderWithLogger(logger{e.Log}))
}

// List returns the names of the kind clusters that exist, running or not.
func (e *Engine) List(ctx context.Context) ([]string, error) {
	names, err := within(ctx, askTimeout, e.provider().List)
	if err != nil {
		return nil, e.unreachable("the kind clusters of this machine cannot be listed", err)
	}
	slices.Sort(names)
	return names, nil
}

// Create makes the cluster called name from the text of a kind configuration
// and waits until its node is ready. The context kind-NAME goes into the
// kubeconfig that kubectl would use. A failed creation leaves nothing.
func (e *Engine) Create(ctx context.Context, name string, config []byte) error {
	_, err := within(ctx, 0, func() (struct{}, error) {
		return struct{}{}, e.provider().Create(name,
			cluster.CreateWithRawConfig(config), cluster.CreateWithWaitForReady(readyWait),
			cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false))
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fault.New(fault.Failed, "the kind cluster "+name+" could not be made", "").Because(sentence(err)).From(err)
}

// Delete removes the cluster called name and its context; none is no error.
func (e *Engine) Delete(ctx context.Context, name string) error {
	_, err := within(ctx, 0, func() (struct{}, error) { return struct{}{}, e.provider().Delete(name, "") })
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fault.New(fault.Failed, "the kind cluster "+name+" could not be deleted", "kind delete cluster --name "+name).Because(sentence(err)).From(err)
}

// Kubeconfig returns a kubeconfig with the one context kind-NAME.
func (e *Engine) Kubeconfig(ctx context.Context, name string) ([]byte, error) {
	text, err := within(ctx, askTimeout, func() (string, error) { return e.provider().KubeConfig(name, false) })
	if err != nil {
		return nil, e.unreachable("the kubeconfig of the kind cluster "+name+" cannot be read", err)
	}
	return []byte(text), nil
}

// Nodes returns the nodes of the cluster called name with what they have
// mounted; none when there is no such cluster.
func (e *Engine) Nodes(ctx context.Context, name string) ([]Node, error) {
	handles, err := e.handles(ctx, name)
	if err != nil || len(handles) == 0 {
		return nil, err
	}
	args := []string{"inspect", "--type", "container"}
	for _, h := range handles {
		args = append(args, h.String())
	}
	raw, err := e.docker(ctx, askTimeout, args...)
	if err != nil {
		return nil, e.unreachable("the nodes of the kind cluster "+name+" cannot be inspected", err)
	}
	found, err := parseNodes(raw)
	if err != nil {
		return nil, e.unreachable("the nodes of the kind cluster "+name+" cannot be inspected", err)
	}
	return found, nil
}

func (e *Engine) handles(ctx context.Context, name string) ([]nodes.Node, error) {
	all, err := within(ctx, askTimeout, func() ([]nodes.Node, error) { return e.provider().ListNodes(name) })
	if err != nil {
		return nil, e.unreachable("the nodes of the kind cluster "+name+" cannot be listed", err)
	}
	return all, nil
}

// parseNodes reads what "docker inspect" prints of node containers.
func parseNodes(raw []byte) ([]Node, error) {
	var containers []struct {
		Name   string
		State  struct{ Running bool }
		Config struct{ Labels map[string]string }
		Mounts []struct{ Type, Source, Destination string }
	}
	if err := json.Unmarshal(raw, &containers); err != nil {
		return nil, fmt.Errorf("docker inspect: %w", err)
	}
	var out []Node
	for _, c := range containers {
		n := Node{Name: strings.TrimPrefix(c.Name, "/"), Role: c.Config.Labels["io.x-k8s.kind.role"], Running: c.State.Running}
		for _, m := range c.Mounts {
			if m.Type == "bind" {
				n.Mounts = append(n.Mounts, Mount{m.Source, m.Destination})
			}
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Load brings those of refs into every node of the cluster called name that
// this machine has and a node lacks or has another build of, and returns them.
// What this machine does not have is left to the cluster to pull.
func (e *Engine) Load(ctx context.Context, name string, refs []string) ([]string, error) {
	handles, err := e.handles(ctx, name)
	if err != nil {
		return nil, err
	}
	var loaded []string
	for _, ref := range refs {
		id, err := e.LocalID(ctx, ref)
		if err != nil {
			return loaded, err
		}
		if id == "" {
			continue
		}
		done := false
		for _, h := range handles {
			has, err := within(ctx, askTimeout, func() (string, error) { return nodeutils.ImageID(h, ref) })
			if ctx.Err() != nil {
				return loaded, context.Cause(ctx)
			}
			if err == nil && has == id {
				continue
			}
			if err := e.load(ctx, h, ref); err != nil {
				return loaded, fault.New(fault.Failed, "the image "+ref+" could not be brought into the node "+h.String(), "").Because(sentence(err)).From(err)
			}
			done = true
		}
		if done {
			loaded = append(loaded, ref)
		}
	}
	return loaded, nil
}

func (e *Engine) load(ctx context.Context, n nodes.Node, ref string) error {
	dir, err := os.MkdirTemp("", "homelab-image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	archive := filepath.Join(dir, "image.tar")
	if _, err := e.docker(ctx, loadTimeout, "save", "-o", archive, ref); err != nil {
		return err
	}
	f, err := os.Open(archive) //nolint:gosec // made above
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	_, err = within(ctx, loadTimeout, func() (struct{}, error) { return struct{}{}, nodeutils.LoadImageArchive(n, f) })
	return err
}

// LocalID returns the id of an image of this machine, "sha256:..."; "" when
// there is none of that name.
func (e *Engine) LocalID(ctx context.Context, ref string) (string, error) {
	raw, err := e.docker(ctx, askTimeout, "image", "inspect", "-f", "{{.Id}}", ref)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	}
	if failed, ok := errors.AsType[*git.CommandError](err); ok && strings.Contains(strings.ToLower(failed.Why()), "no such image") {
		return "", nil
	}
	return "", e.unreachable("the images of this machine cannot be inspected", err)
}

func (e *Engine) docker(ctx context.Context, limit time.Duration, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("no answer in "+limit.String()))
	defer cancel()
	res, err := git.Run(ctx, git.Command{Dir: e.Dir, Name: "docker", Args: args, Env: e.Env})
	return res.Stdout, err
}

func (e *Engine) unreachable(what string, err error) error {
	if _, told := errors.AsType[*fault.Error](err); told {
		return err
	}
	return fault.New(fault.Unreachable, what, "docker info").Because(sentence(err)).From(err)
}

// within calls f, which knows no contexts, and returns its answer or, when ctx
// ends or limit passes first, why it was not waited for. 0 is no limit.
func within[T any](ctx context.Context, limit time.Duration, f func() (T, error)) (T, error) {
	if limit > 0 {
		bounded, cancel := context.WithTimeoutCause(ctx, limit, errors.New("no answer in "+limit.String()))
		defer cancel()
		ctx = bounded
	}
	type answer struct {
		v   T
		err error
	}
	ch := make(chan answer, 1)
	go func() {
		v, err := f()
		ch <- answer{v, err}
	}()
	select {
	case a := <-ch:
		return a.v, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// sentence returns an error of kind's library as one line: what the command
// that failed has said, which the error's own text leaves out, else that text.
func sentence(err error) string {
	text := err.Error()
	if run := exec.RunErrorForError(err); run != nil {
		if out := bytes.TrimSpace(run.Output); len(out) > 0 {
			text = string(out)
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// logger hands what kind's library says to the verbose story.
type logger struct {
	to func(format string, args ...any)
}

func (l logger) say(format string, args ...any) {
	if l.to != nil {
		l.to("kind: "+format, args...)
	}
}

func (l logger) Warn(m string)             { l.say("%s", m) }
func (l logger) Warnf(f string, a ...any)  { l.say(f, a...) }
func (l logger) Error(m string)            { l.say("%s", m) }
func (l logger) Errorf(f string, a ...any) { l.say(f, a...) }
func (l logger) Info(m string)             { l.say("%s", m) }
func (l logger) Infof(f string, a ...any)  { l.say(f, a...) }
func (l logger) Enabled() bool             { return l.to != nil }
func (l logger) V(level log.Level) log.InfoLogger {
	if level > 0 {
		return log.NoopInfoLogger{}
	}
	return l
}

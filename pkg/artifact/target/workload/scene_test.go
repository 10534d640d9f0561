package workload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	hub "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"homelab/internal/kubesim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/target/workload"
	"homelab/pkg/kube"
	"homelab/pkg/registry"
)

// The field manager of whoever deployed before.
const stranger = "keel"

// No credentials of this machine are used.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "workload-")
	if err == nil {
		err = os.Setenv("DOCKER_CONFIG", dir)
	}
	if err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A scene is a simulated cluster behind TLS, a registry on loopback, and the
// target as one user of both.
type scene struct {
	t      *testing.T
	sim    *kubesim.Sim
	srv    *kubesim.Server
	host   string // of the registry
	down   atomic.Bool
	target *workload.Target
	spec   workload.Spec
	client *registry.Client
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, sim: kubesim.New(kubesim.Options{})}
	s.srv = s.sim.Serve(t)
	store := hub.New(hub.Logger(log.New(io.Discard, "", 0)))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.down.Load() {
			panic(http.ErrAbortHandler)
		}
		store.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	s.host = strings.TrimPrefix(h.URL, "http://")
	var err error
	if s.client, err = registry.New(registry.Options{}); err != nil {
		t.Fatal(err)
	}
	s.spec = workload.Spec{Kind: "deployment", Namespace: "shop", Name: "web", Container: "web"}
	s.target = s.as(kubesim.Admin, s.spec)
	return s
}

// cluster is the API server as the token's user sees it.
func (s *scene) cluster(token string) *kube.Cluster {
	s.t.Helper()
	c, err := kube.Connect(kube.Options{Kubeconfig: []string{s.srv.Kubeconfig(s.t, "lab", token, "")}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func (s *scene) as(token string, spec workload.Spec) *workload.Target {
	s.t.Helper()
	return workload.New(spec, workload.Deps{Cluster: s.cluster(token), Registry: s.client})
}

// repo is the repository of the tests.
func (s *scene) repo() string { return s.host + "/web" }

// push makes an image and moves the tag to it.
func (s *scene) push(tag string) artifact.ID {
	s.t.Helper()
	i, err := random.Image(64, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.put(tag, i)
}

func (s *scene) put(tag string, i v1.Image) artifact.ID {
	s.t.Helper()
	ref, err := name.NewTag(s.repo()+":"+tag, name.Insecure)
	if err == nil {
		err = remote.Write(ref, i)
	}
	d, _ := i.Digest()
	if err != nil {
		s.t.Fatal(err)
	}
	return artifact.ID(d.String())
}

// pushIndex makes an index of one image, moves the tag to it and returns both
// digests and that of the image's configuration.
func (s *scene) pushIndex(tag string) (index, child, config artifact.ID) {
	s.t.Helper()
	i, err := random.Image(64, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	x := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: i, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
	})
	ref, err := name.NewTag(s.repo()+":"+tag, name.Insecure)
	if err == nil {
		err = remote.WriteIndex(ref, x)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	a, _ := x.Digest()
	b, _ := i.Digest()
	c, _ := i.ConfigName()
	return artifact.ID(a.String()), artifact.ID(b.String()), artifact.ID(c.String())
}

// forget deletes a manifest from the registry.
func (s *scene) forget(id artifact.ID) {
	s.t.Helper()
	ref, err := name.NewDigest(s.repo()+"@"+string(id), name.Insecure)
	if err == nil {
		err = remote.Delete(ref)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// runs makes the workload as if it had been there for long, written by writer.
func (s *scene) runs(image string, id artifact.ID, change ...func(*kubesim.Workload)) {
	s.t.Helper()
	if id != "" {
		s.sim.SetDigest(image, s.repo()+"@"+string(id))
	}
	w := kubesim.Workload{Namespace: "shop", Name: "web", Image: image, Replicas: 2, Probe: true}
	for _, f := range change {
		f(&w)
	}
	s.sim.Deploy(w)
	s.wrote(stranger)
}

// wrote makes somebody the writer of the image, by an update.
func (s *scene) wrote(manager string) {
	s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
		for _, f := range o["metadata"].(kubesim.Object)["managedFields"].([]any) {
			f.(kubesim.Object)["manager"] = manager
		}
	})
}

// own makes the target the owner of what runs, as an earlier switch would have.
func (s *scene) own() {
	s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
		o["metadata"].(kubesim.Object)["managedFields"] = []any{kubesim.Object{
			"manager": s.spec.Manager(), "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
			"fieldsV1": kubesim.Object{"f:spec": kubesim.Object{"f:template": kubesim.Object{"f:spec": kubesim.Object{"f:containers": kubesim.Object{
				`k:{"name":"web"}`: kubesim.Object{".": kubesim.Object{}, "f:name": kubesim.Object{}, "f:image": kubesim.Object{}},
			}}}}},
		}}
	})
}

// template is the stored pod template.
func (s *scene) template() kubesim.Object {
	o := s.sim.Object("deployments", "shop", "web")
	return o["spec"].(kubesim.Object)["template"].(kubesim.Object)
}

// image is what is written for a container.
func (s *scene) image(container string) string {
	for _, c := range s.template()["spec"].(kubesim.Object)["containers"].([]any) {
		if c.(kubesim.Object)["name"] == container {
			return fmt.Sprint(c.(kubesim.Object)["image"])
		}
	}
	return ""
}

func (s *scene) annotation() string {
	m, _ := s.template()["metadata"].(kubesim.Object)
	a, _ := m["annotations"].(kubesim.Object)
	v, _ := a[workload.RevisionKey].(string)
	return v
}

// to is a switch from what runs to an image of the repository under a tag.
func (s *scene) to(tag string, id, from artifact.ID) artifact.Switch {
	w := artifact.Switch{
		Watch: "shop", Run: "r1", Attempt: 1,
		To: artifact.Candidate{ID: id, Kind: artifact.Image, Ref: s.repo() + ":" + tag + "@" + string(id)},
	}
	if from != "" {
		w.From = &artifact.Version{Candidate: artifact.Candidate{ID: from, Kind: artifact.Image, Ref: s.repo() + "@" + string(from)}}
	}
	return w
}

// back is the rollback of w.
func back(w artifact.Switch) artifact.Switch {
	w.To, w.From, w.Back = w.From.Candidate, &artifact.Version{Candidate: w.To}, true
	return w
}

// fails checks a failure's class and returns what it holds.
func fails(t *testing.T, err error, class artifact.Class, says string) artifact.Failure {
	t.Helper()
	f, ok := errors.AsType[*artifact.Failure](err)
	if !ok {
		t.Fatalf("%v is no failure; want %s", err, class)
	}
	if f.Class != class || !strings.Contains(f.Error(), says) {
		t.Errorf("%v (%s, %s), want %s saying %q", f, f.Class, f.Why, class, says)
	}
	return *f
}

// until asks Ready until it says so.
func (s *scene) until(w artifact.Switch, state artifact.ReadyState) artifact.Readiness {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := s.target.Ready(s.t.Context(), w)
		switch {
		case err != nil:
			s.t.Fatal(err)
		case r.State == state:
			return r
		case time.Now().After(deadline):
			s.t.Fatalf("never %s: %+v", state, r)
		}
	}
}

// A meddler is a cluster in which something happens right before each write.
type meddler struct {
	workload.Cluster
	before func(dry bool)
}

func (m meddler) Apply(ctx context.Context, r kube.Resource, ns, name string, body []byte, o kube.ApplyOptions) (kube.Object, error) {
	m.before(o.DryRun)
	return m.Cluster.Apply(ctx, r, ns, name, body, o)
}

func (s *scene) meddled(f func(dry bool)) *workload.Target {
	return workload.New(s.spec, workload.Deps{Cluster: meddler{s.cluster(kubesim.Admin), f}, Registry: s.client})
}

// writes are the queries of all PATCHes so far.
func (s *scene) writes() []url.Values {
	var out []url.Values
	for _, r := range s.sim.Requests() {
		if r.Method == http.MethodPatch {
			out = append(out, r.Query)
		}
	}
	return out
}

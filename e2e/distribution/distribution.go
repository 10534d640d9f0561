// Package distribution runs the registry that most have, the one of Debian's
// docker-registry, on loopback for a test.
package distribution

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/bcrypt"

	"homelab/e2e/cluster"
	"homelab/e2e/machine"
)

// A Registry is one process. It ends with the test.
type Registry struct {
	Addr string // host:port
	Dir  string // its storage; another one before Start is another registry at the same address

	t              *testing.T
	binary         string
	user, password string
	cmd            *exec.Cmd
	done           <-chan struct{}
}

// New starts one, which asks for the user's password, if there is a user. Where
// none can be had the test is skipped.
func New(t *testing.T, user, password string) *Registry {
	t.Helper()
	r := &Registry{t: t, binary: machine.Need(t, "HOMELAB_E2E_REGISTRY", "a registry"), Dir: t.TempDir(), user: user, password: password}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.Addr = free.Addr().String()
	_ = free.Close()
	r.Start()
	t.Cleanup(r.Kill)
	return r
}

// Start starts the process and returns when it answers.
func (r *Registry) Start() {
	r.t.Helper()
	work := r.t.TempDir()
	config := fmt.Sprintf(`version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q, secret: loopback}
`, r.Dir, r.Addr)
	if r.user != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(r.password), bcrypt.MinCost)
		users := filepath.Join(work, "users")
		if err := errors.Join(err, os.WriteFile(users, []byte(r.user+":"+string(hash)+"\n"), 0o600)); err != nil {
			r.t.Fatal(err)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: lab, path: %q}}\n", users)
	}
	file := filepath.Join(work, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		said, up := r.serve(file, end)
		if up {
			return
		}
		// While nobody listened there, somebody's connection may have had the port.
		if !strings.Contains(said, "address already in use") || time.Now().After(end) {
			r.t.Fatalf("the registry: %s", said)
		}
	}
}

// serve runs the process and returns when it answers, or what it said when it
// does not.
func (r *Registry) serve(config string, end time.Time) (said string, up bool) {
	r.t.Helper()
	log, err := os.Create(config + ".log")
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	all := func() string {
		b, _ := os.ReadFile(log.Name())
		return string(b)
	}
	r.cmd = exec.Command(r.binary, "serve", config)
	r.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OTEL_TRACES_EXPORTER=none"}
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if r.done, err = cluster.Spawn(r.cmd); err != nil {
		r.t.Fatal(err)
	}
	for ; ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-r.done:
			return all(), false
		default:
		}
		if resp, err := http.Get("http://" + r.Addr + "/v2/"); err == nil {
			_ = resp.Body.Close()
			return "", true
		}
		if time.Now().After(end) {
			r.Kill()
			return "it does not answer: " + all(), false
		}
	}
}

// Kill ends the process at once.
func (r *Registry) Kill() {
	_ = r.cmd.Process.Signal(syscall.SIGKILL)
	<-r.done
}

// Ref is the repository under the tag.
func (r *Registry) Ref(repositoryTag string) string { return r.Addr + "/" + repositoryTag }

// Image is one for linux/amd64 with this text in its only layer; the commit is
// its label.
func Image(t *testing.T, text, commit string) v1.Image {
	t.Helper()
	return image(t, "linux/amd64", text, commit)
}

// Index is one of such images for these platforms, "os/arch".
func Index(t *testing.T, text, commit string, platforms ...string) v1.ImageIndex {
	t.Helper()
	x := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		system, arch, _ := strings.Cut(p, "/")
		x = mutate.AppendManifests(x, mutate.IndexAddendum{
			Add:        image(t, p, text+p, commit),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: system, Architecture: arch}},
		})
	}
	return x
}

func image(t *testing.T, platform, text, commit string) v1.Image {
	t.Helper()
	i, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer([]byte(text), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	c, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, _ = strings.Cut(platform, "/")
	c.Config.Labels = map[string]string{"org.opencontainers.image.revision": commit}
	if i, err = mutate.ConfigFile(i, c); err != nil {
		t.Fatal(err)
	}
	return i
}

func (r *Registry) reach() []remote.Option {
	if r.user == "" {
		return nil
	}
	return []remote.Option{remote.WithAuth(&authn.Basic{Username: r.user, Password: r.password})}
}

// Push makes it, an image or an index, what the tag serves and returns its
// digest.
func (r *Registry) Push(repositoryTag string, what remote.Taggable) string {
	r.t.Helper()
	ref, err := name.NewTag(r.Ref(repositoryTag))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := remote.Push(ref, what, r.reach()...); err != nil {
		r.t.Fatal(err)
	}
	d, err := remote.Head(ref, r.reach()...)
	if err != nil {
		r.t.Fatal(err)
	}
	return d.Digest.String()
}

// Delete removes a manifest and so every tag that serves it.
func (r *Registry) Delete(repository, digest string) {
	r.t.Helper()
	ref, err := name.NewDigest(r.Addr + "/" + repository + "@" + digest)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := remote.Delete(ref, r.reach()...); err != nil {
		r.t.Fatal(err)
	}
}

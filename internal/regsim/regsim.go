// Package regsim is a container registry for tests: go-containerregistry's own,
// in this process, with what arrives counted and with faults in front of it. It
// is a plain http.Handler, so that it works behind a real listener and, through
// InProcess, inside a testing/synctest bubble.
package regsim

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"homelab/internal/woodsim"
)

// Server is a registry. All methods are safe for concurrent use.
type Server struct {
	inner http.Handler

	mu    sync.Mutex
	gate  func(http.ResponseWriter, *http.Request) bool
	asked []string
}

// New returns an empty registry.
func New() *Server {
	return &Server{inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

// ServeHTTP notes the request and answers it, unless the gate does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	gate := s.gate
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if gate == nil || !gate(w, r) {
		s.inner.ServeHTTP(w, r)
	}
}

// InProcess reaches the registry without a socket, under any name.
func (s *Server) InProcess() http.RoundTripper { return woodsim.InProcess(s) }

// Gate puts f before the registry; what it answers true for it has answered
// itself. Pushes do not pass it. nil: no gate.
func (s *Server) Gate(f func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = f
}

// Asked returns what arrived since the last call, as "METHOD /path".
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := slices.Clone(s.asked)
	s.asked = nil
	return asked
}

// Image is what Push makes.
type Image struct {
	Text      string   // its one layer: another text is another digest
	Revision  string   // its revision label; "" none
	Platforms []string // an index of them; nil: one linux/amd64 manifest
}

// Push makes i what path ("shop/web:main") serves and returns its digest.
func (s *Server) Push(path string, i Image) (string, error) {
	ref, err := name.NewTag("registry.test/" + path)
	if err != nil {
		return "", err
	}
	var what interface {
		remote.Taggable
		Digest() (v1.Hash, error)
	}
	if what, err = image(i, "linux/amd64"); err != nil {
		return "", err
	}
	if i.Platforms != nil {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, p := range i.Platforms {
			one, err := image(i, p)
			if err != nil {
				return "", err
			}
			platform, err := v1.ParsePlatform(p)
			if err != nil {
				return "", err
			}
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: platform}})
		}
		what = index
	}
	if err := remote.Push(ref, what, remote.WithTransport(woodsim.InProcess(s.inner))); err != nil {
		return "", fmt.Errorf("push of %s: %w", path, err)
	}
	d, err := what.Digest()
	return d.String(), err
}

func image(i Image, platform string) (v1.Image, error) {
	out, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte(i.Text+platform), types.OCILayer))
	if err != nil {
		return nil, err
	}
	c, err := out.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	var arch string
	c.OS, arch, _ = strings.Cut(platform, "/")
	c.Architecture, c.Variant, _ = strings.Cut(arch, "/")
	if i.Revision != "" {
		c.Config.Labels = map[string]string{"org.opencontainers.image.revision": i.Revision}
	}
	return mutate.ConfigFile(out, c)
}

package registry

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	hub "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// What is known by digest is asked for all the same, and only a registry that
// says no twice is believed.
func TestAnswers(t *testing.T) {
	var lies, asked atomic.Int64
	store := hub.New(hub.Logger(log.New(io.Discard, "", 0)))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodGet {
			asked.Add(1)
			if lies.Add(-1) >= 0 {
				http.Error(w, `{"errors": [{"code": "MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
				return
			}
		}
		store.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	i, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := i.Digest()
	repo := strings.TrimPrefix(h.URL, "http://") + "/web"
	ref, err := name.NewDigest(repo+"@"+d.String(), name.Insecure)
	if err == nil {
		err = remote.Write(ref, i)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(t.Context(), ref.String()); err != nil {
		t.Fatal(err)
	}
	asked.Store(0)
	if err := c.Answers(t.Context(), ref.String()); err != nil || asked.Load() != 1 {
		t.Errorf("%v after %d questions", err, asked.Load())
	}
	lies.Store(1)
	if err := c.Answers(t.Context(), ref.String()); err != nil {
		t.Errorf("one 404 was believed: %v", err)
	}
	if err := remote.Delete(ref); err != nil {
		t.Fatal(err)
	}
	if no, ok := errors.AsType[*RefusedError](c.Answers(t.Context(), ref.String())); !ok || !no.Absent() {
		t.Errorf("%v, want that it is absent", no)
	}
	if err := c.Answers(t.Context(), "A:B:C"); !errors.As(err, new(*InvalidError)) {
		t.Errorf("%v", err)
	}
	h.Close()
	if err := c.Answers(t.Context(), ref.String()); !errors.As(err, new(*UnreachableError)) {
		t.Errorf("%v", err)
	}
}

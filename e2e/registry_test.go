package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A registry on loopback has one repository, web, with one image under all its
// tags: stable, and what begins with a v. They move together. It is only read.
type registry struct {
	image string // the reference with the tag

	mu    sync.Mutex
	tag   string            // the digest under the tag
	blobs map[string][]byte // by digest
	kinds map[string]string // media types, of manifests
}

func newRegistry(t *testing.T) *registry {
	r := &registry{blobs: map[string][]byte{}, kinds: map[string]string{}}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.image = strings.TrimPrefix(s.URL, "http://") + "/web:stable"
	return r
}

// push makes an image labelled with the commit, moves the tag there and
// returns its digest.
func (r *registry) push(t *testing.T, commit string) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	add := func(kind string, v any) (digest string, size int) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		digest = fmt.Sprintf("sha256:%x", sha256.Sum256(b))
		r.blobs[digest], r.kinds[digest] = b, kind
		return digest, len(b)
	}
	config, size := add("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []any{}},
		"config": map[string]any{"Labels": map[string]any{"org.opencontainers.image.revision": commit}},
	})
	r.tag, _ = add("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []any{},
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
	})
	return r.tag
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.URL.Path == "/v2/" {
		return
	}
	_, digest, _ := strings.Cut(q.URL.Path, "/v2/web/")
	_, digest, _ = strings.Cut(digest, "/") // after manifests or blobs
	if digest == "stable" || strings.HasPrefix(digest, "v") {
		digest = r.tag
	}
	b, ok := r.blobs[digest]
	if !ok {
		http.Error(w, `{"errors": [{"code": "MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", r.kinds[digest])
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	if q.Method == http.MethodGet {
		_, _ = w.Write(b)
	}
}

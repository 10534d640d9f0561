package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"homelab/pkg/registry"
)

const (
	one = "1111111111111111111111111111111111111111"
	two = "2222222222222222222222222222222222222222"
)

// hub is a registry in this process, on plain http on the loopback.
type hub struct {
	*testing.T
	host   string
	asked  atomic.Int64
	gate   atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	client *registry.Client
}

func newHub(t *testing.T) *hub {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // not this machine's
	h := &hub{T: t}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" && r.Method != http.MethodHead {
			h.asked.Add(1)
		}
		if g := h.gate.Load(); g != nil && (*g)(w, r) {
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	h.host = u.Host
	if h.client, err = registry.New(registry.Options{Log: t.Logf}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hub) ref(tag string) name.Reference {
	r, err := name.ParseReference(h.host+"/shop/web"+tag, name.Insecure)
	if err != nil {
		h.Fatal(err)
	}
	return r
}

func (h *hub) push(tag string, what remote.Taggable) string {
	h.Helper()
	if err := remote.Push(h.ref(tag), what); err != nil {
		h.Fatal(err)
	}
	raw, err := what.RawManifest()
	if err != nil {
		h.Fatal(err)
	}
	d, _, err := v1.SHA256(strings.NewReader(string(raw)))
	if err != nil {
		h.Fatal(err)
	}
	return d.String()
}

func (h *hub) resolve(tag string) registry.Image {
	h.Helper()
	i, err := h.client.Resolve(h.Context(), h.host+"/shop/web"+tag)
	if err != nil {
		h.Fatal(err)
	}
	return i
}

// image has one layer, a label if there is one, and a platform.
func (h *hub) image(arch, label string) v1.Image {
	i, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte("layer of "+arch+label), types.OCILayer))
	if err != nil {
		h.Fatal(err)
	}
	c, err := i.ConfigFile()
	if err != nil {
		h.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	if label != "" {
		c.Config.Labels = map[string]string{registry.RevisionKey: label}
	}
	if i, err = mutate.ConfigFile(i, c); err != nil {
		h.Fatal(err)
	}
	return i
}

func digest(t *testing.T, i interface{ Digest() (v1.Hash, error) }) v1.Hash {
	t.Helper()
	d, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func config(t *testing.T, i v1.Image) string {
	t.Helper()
	c, err := i.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return c.String()
}

func TestImage(t *testing.T) {
	h := newHub(t)
	for n, c := range []struct {
		image          v1.Image
		revision, from string
	}{
		{h.image("amd64", one), one, registry.FromLabel},
		{h.image("arm64", ""), "", ""},
		{mutate.Annotations(h.image("amd64", ""), map[string]string{registry.RevisionKey: one}).(v1.Image), one, registry.FromManifest},
		{mutate.Annotations(h.image("amd64", one), map[string]string{registry.RevisionKey: two}).(v1.Image), one, registry.FromLabel},
	} {
		tag := fmt.Sprint(":v", n)
		d := h.push(tag, c.image)
		i := h.resolve(tag)
		if i.Revision != c.revision || i.RevisionFrom != c.from || i.Digest != d || i.Ref != h.host+"/shop/web"+tag {
			t.Errorf("%d: %+v", n, i)
		}
		if want := []string{d, config(t, c.image)}; !slices.Equal(i.Closure, want) {
			t.Errorf("%d: closure %v, want %v", n, i.Closure, want)
		}
		if len(i.Platforms) != 1 || !strings.HasPrefix(i.Platforms[0].Name, "linux/a") {
			t.Errorf("%d: platforms %+v", n, i.Platforms)
		}
	}
}

func add(i v1.Image, p string, annotations map[string]string) mutate.IndexAddendum {
	platform, _ := v1.ParsePlatform(p)
	return mutate.IndexAddendum{Add: i, Descriptor: v1.Descriptor{Platform: platform, Annotations: annotations}}
}

func TestIndex(t *testing.T) {
	h := newHub(t)
	amd, arm := h.image("amd64", one), h.image("arm64", one)
	index := mutate.AppendManifests(empty.Index, add(amd, "linux/amd64", nil), add(arm, "linux/arm64/v8", nil))
	d := h.push(":both", index)
	i := h.resolve(":both")
	want := []string{d, digest(t, amd).String(), config(t, amd), digest(t, arm).String(), config(t, arm)}
	if !slices.Equal(i.Closure, want) || i.Digest != d || i.Revision != one {
		t.Errorf("%+v, want closure %v", i, want)
	}
	if !i.Has(config(t, arm)) || i.Has("sha256:0") {
		t.Error("Has is wrong")
	}
	// What runs may name the platform's manifest only.
	child := h.resolve("@" + digest(t, arm).String())
	if child.Revision != one || !slices.Equal(child.Closure, want[3:]) {
		t.Errorf("child %+v", child)
	}
	before := h.asked.Load()
	h.resolve("@" + d)
	if n := h.asked.Load() - before; n != 0 {
		t.Errorf("%d requests for what is known by digest", n)
	}

	// Platforms that contradict: each has its own, all together none.
	mixed := mutate.AppendManifests(empty.Index, add(amd, "linux/amd64", nil), add(h.image("arm64", two), "linux/arm64/v8", nil))
	h.push(":mixed", mixed)
	i = h.resolve(":mixed")
	if i.Revision != "" {
		t.Errorf("%+v", i)
	}
	for platform, want := range map[string]string{"linux/amd64": one, "linux/arm64": two, "linux/arm": "", "": ""} {
		if r, _ := i.On(platform); r != want {
			t.Errorf("on %q %q", platform, r)
		}
	}

	bare := h.image("amd64", "")
	for n, c := range []struct {
		index v1.ImageIndex
		from  string
	}{
		{mutate.Annotations(mutate.AppendManifests(empty.Index, add(bare, "linux/amd64", nil)), map[string]string{registry.RevisionKey: two}).(v1.ImageIndex), registry.FromIndex},
		{mutate.AppendManifests(empty.Index, add(bare, "linux/amd64", map[string]string{registry.RevisionKey: two})), registry.FromDescriptor},
		{mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: mutate.AppendManifests(empty.Index, add(h.image("amd64", two), "linux/amd64", nil))}), registry.FromLabel},
	} {
		tag := fmt.Sprint(":index", n)
		h.push(tag, c.index)
		if i := h.resolve(tag); i.Revision != two || i.RevisionFrom != c.from {
			t.Errorf("%d: %+v", n, i)
		}
	}
}

// attested is an index as BuildKit pushes it.
func (h *hub) attested(predicate, statement string) v1.ImageIndex {
	amd := h.image("amd64", "")
	layer := static.NewLayer([]byte(statement), "application/vnd.in-toto+json")
	sbom := static.NewLayer([]byte(`{"predicate":{"materials":[{"digest":{"gitCommit":"`+two+`"}}]}}`), "application/vnd.in-toto+json")
	at, err := mutate.Append(empty.Image,
		mutate.Addendum{Layer: sbom, Annotations: map[string]string{"in-toto.io/predicate-type": "https://spdx.dev/Document"}},
		mutate.Addendum{Layer: layer, Annotations: map[string]string{"in-toto.io/predicate-type": predicate}})
	if err != nil {
		h.Fatal(err)
	}
	at = mutate.MediaType(at, types.OCIManifestSchema1)
	return mutate.AppendManifests(empty.Index, add(amd, "linux/amd64", nil), add(at, "unknown/unknown", map[string]string{
		"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest(h.T, amd).String(),
	}))
}

func TestAttestation(t *testing.T) {
	h := newHub(t)
	const v02, v1s = "https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1"
	for n, c := range []struct{ predicate, statement, want string }{
		{v02, `{"predicate":{"metadata":{"https://mobyproject.org/buildkit@v1#metadata":{"vcs":{"revision":"` + one + `"}}}}}`, one},
		{v1s, `{"predicate":{"runDetails":{"metadata":{"buildkit_metadata":{"vcs":{"revision":"` + one + `"}}}}}}`, one},
		{v1s, `{"predicate":{"buildDefinition":{"resolvedDependencies":[
			{"uri":"pkg:docker/alpine@3","digest":{"sha256":"` + two + `"}},
			{"uri":"https://git.example.lan/shop/web.git#main","digest":{"sha1":"` + one + `"}}]}}}`, one},
		{v1s, `{"predicate":{"buildDefinition":{"resolvedDependencies":[{"uri":"git+https://x/y","digest":{"gitCommit":"` + one + `"}}]}}}`, one},
		// Two sources: which one is meant is not said.
		{v1s, `{"predicate":{"buildDefinition":{"resolvedDependencies":[{"uri":"git+https://x/y","digest":{"gitCommit":"` + one + `"}},
			{"uri":"git+https://x/z","digest":{"gitCommit":"` + two + `"}}]}}}`, ""},
		{v1s, `{"predicate":{}}`, ""},
		{v1s, `not JSON`, ""},
	} {
		tag := fmt.Sprint(":at", n)
		h.push(tag, h.attested(c.predicate, c.statement))
		i := h.resolve(tag)
		if i.Revision != c.want || c.want != "" && i.RevisionFrom != registry.FromAttestation {
			t.Errorf("%d: %+v", n, i)
		}
		if len(i.Platforms) != 1 || len(i.Closure) != 3 {
			t.Errorf("%d: the attestation counts as an image: %+v", n, i)
		}
	}
}

func TestMovingTag(t *testing.T) {
	h := newHub(t)
	first := h.push(":latest", h.image("amd64", one))
	if i := h.resolve(":latest"); i.Digest != first || i.Revision != one {
		t.Errorf("%+v", i)
	}
	second := h.push(":latest", h.image("amd64", two))
	if i := h.resolve(":latest"); i.Digest != second || i.Revision != two || second == first {
		t.Errorf("%+v", i)
	}
	if i := h.resolve("@" + first); i.Revision != one {
		t.Errorf("%+v", i)
	}
}

func TestErrors(t *testing.T) {
	h := newHub(t)
	h.push(":ok", h.image("amd64", one))
	ctx := t.Context()
	var refused *registry.RefusedError
	var away *registry.UnreachableError

	_, err := h.client.Resolve(ctx, h.host+"/shop/web:none")
	if !errors.As(err, &refused) || !refused.Absent() {
		t.Errorf("absent: %v", err)
	}
	for _, code := range []int{401, 403} {
		deny := func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"no"}]}`)
			return true
		}
		h.gate.Store(&deny)
		_, err = h.client.Resolve(ctx, h.host+"/shop/web:ok")
		if !errors.As(err, &refused) || refused.Absent() || refused.Code != code {
			t.Errorf("%d: %v", code, err)
		}
	}
	// Two answers of overload are survived, and cost a second and a half.
	var left atomic.Int64
	left.Store(2)
	busy := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") || left.Add(-1) < 0 {
			return false
		}
		w.WriteHeader(503)
		return true
	}
	h.gate.Store(&busy)
	if i := h.resolve(":ok"); i.Revision != one {
		t.Errorf("%+v", i)
	}
	left.Store(99)
	if _, err = h.client.Resolve(ctx, h.host+"/shop/web:ok"); !errors.As(err, &away) {
		t.Errorf("overloaded: %v", err)
	}
	if n := 99 - left.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	html := func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>sign in</html>")
			return true
		}
		return false
	}
	h.gate.Store(&html)
	if _, err = h.client.Resolve(ctx, h.host+"/shop/web:ok"); !errors.As(err, &away) {
		t.Errorf("a proxy's page: %v", err)
	}
	h.gate.Store(nil)

	var invalid *registry.InvalidError
	if _, err = h.client.Resolve(ctx, "UPPER case"); !errors.As(err, &invalid) {
		t.Errorf("invalid: %v", err)
	}
	mine := errors.New("mine")
	hang := func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	h.gate.Store(&hang)
	short, cancel := context.WithTimeoutCause(ctx, 50*time.Millisecond, mine)
	defer cancel()
	if _, err = h.client.Resolve(short, h.host+"/shop/web:ok"); !errors.Is(err, mine) {
		t.Errorf("ended: %v", err)
	}
	h.gate.Store(nil)
}

// Plain http is for the loopback and for hosts that were named, although the
// library would use it for private addresses.
func TestPlainHTTP(t *testing.T) {
	h := newHub(t)
	h.push(":ok", h.image("amd64", one))
	var asked []string
	reroute := roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Scheme)
		if r.URL.Scheme == "https" {
			return nil, fmt.Errorf("lab: %w", http.ErrSchemeMismatch)
		}
		r = r.Clone(r.Context())
		r.URL.Host = h.host
		return http.DefaultTransport.RoundTrip(r)
	})
	for _, host := range []string{"10.9.8.7:5000", "reg.local", "192.168.1.2"} {
		for _, insecure := range []bool{false, true} {
			asked = nil
			o := registry.Options{Transport: reroute}
			if insecure {
				o.Insecure = []string{host}
			}
			c, err := registry.New(o)
			if err != nil {
				t.Fatal(err)
			}
			i, err := c.Resolve(t.Context(), host+"/shop/web:ok")
			var plain *registry.PlainError
			switch {
			case insecure && (err != nil || i.Revision != one):
				t.Errorf("%s, allowed: %v", host, err)
			case !insecure && (err == nil || slices.Contains(asked, "http")):
				t.Errorf("%s: %v after %v", host, err, asked)
			case !insecure && !errors.As(err, &plain):
				t.Errorf("%s: %v", host, err)
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestCredentials(t *testing.T) {
	h := newHub(t)
	h.push(":ok", h.image("amd64", one))
	gate := func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == "lab" && p == "hunter2" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
		w.WriteHeader(401)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return true
	}
	h.gate.Store(&gate)
	login := func(host string) []byte {
		b, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"auth": "bGFiOmh1bnRlcjI="}}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ask := func(secrets ...[]byte) error {
		c, err := registry.New(registry.Options{PullSecrets: secrets, Log: func(format string, args ...any) {
			if s := fmt.Sprintf(format, args...); strings.Contains(s, "hunter2") || strings.Contains(s, "bGFiOmh1bnRlcjI=") {
				t.Errorf("the log shows %q", s)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Resolve(t.Context(), h.host+"/shop/web:ok")
		return err
	}
	var refused *registry.RefusedError
	if err := ask(); !errors.As(err, &refused) || refused.Code != 401 {
		t.Errorf("without: %v", err)
	}
	for key, good := range map[string]bool{
		h.host: true, "http://" + h.host: true, h.host + "/shop": true, "https://" + h.host + "/v2/": true, "127.*.0." + strings.TrimPrefix(h.host, "127.0.0."): true,
		h.host + "/sho": false, "127.0.0.1": false, "example.lan": false,
	} {
		if err := ask(login(key)); (err == nil) != good {
			t.Errorf("pull secret for %s: %v", key, err)
		}
	}
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), login(h.host), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ask(login("example.lan")); err != nil {
		t.Errorf("the user's own: %v", err)
	}
	if _, err := registry.New(registry.Options{PullSecrets: [][]byte{[]byte("hunter2")}}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("broken secret: %v", err)
	}
}

package registry_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/regsim"
	"homelab/pkg/registry"
)

const host, web = "reg.example.lan", "reg.example.lan/shop/web:main"

func newSim(t *testing.T, insecure ...string) (*regsim.Server, *registry.Client) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // not this machine's
	s := regsim.New()
	c, err := registry.New(registry.Options{Transport: s.InProcess(), Insecure: insecure})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func push(t *testing.T, s *regsim.Server, i regsim.Image) string {
	t.Helper()
	d, err := s.Push("shop/web:main", i)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func serves(t *testing.T, c *registry.Client, want string) {
	t.Helper()
	if got, err := c.Tag(t.Context(), web); err != nil || got != want {
		t.Fatalf("%s, %v; want %s", got, err, want)
	}
}

func TestTagCostsOneHead(t *testing.T) {
	s, c := newSim(t)
	first := push(t, s, regsim.Image{Text: "1", Platforms: []string{"linux/amd64", "linux/arm64"}})
	serves(t, c, first)
	s.Asked()
	for range 3 {
		serves(t, c, first)
		if got := s.Asked(); !slices.Equal(got, []string{"HEAD /v2/shop/web/manifests/main"}) {
			t.Fatalf("%q", got)
		}
	}
	second := push(t, s, regsim.Image{Text: "2"})
	serves(t, c, second)
	if got := s.Asked(); len(got) != 1 || first == second {
		t.Errorf("%q", got)
	}
}

// A HEAD that tells too little is made up for by GET, which is remembered; a
// proxy's page is no manifest and teaches nothing.
func TestTagWithoutHeaders(t *testing.T) {
	for _, header := range []string{"Docker-Content-Digest", "Content-Type", "Content-Length", "405"} {
		s, c := newSim(t)
		want := push(t, s, regsim.Image{Text: "1"})
		page := true
		s.Gate(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case page && strings.Contains(r.URL.Path, "/manifests/"):
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, "<html>sign in</html>")
				return true
			case r.Method != http.MethodHead:
				return false
			case header == "405":
				w.WriteHeader(http.StatusMethodNotAllowed)
				return true
			}
			for name, v := range map[string]string{
				"Docker-Content-Digest": want, "Content-Type": "application/vnd.oci.image.manifest.v1+json", "Content-Length": "7",
			} {
				if name != header {
					w.Header().Set(name, v)
				}
			}
			w.WriteHeader(http.StatusOK)
			return true
		})
		if _, err := c.Tag(t.Context(), web); !errors.As(err, new(*registry.UnreachableError)) {
			t.Fatalf("%s: a page: %v", header, err)
		}
		page = false
		s.Asked()
		serves(t, c, want)
		serves(t, c, want)
		const path = " /v2/shop/web/manifests/main"
		if got := s.Asked(); !slices.Equal(got, []string{"HEAD" + path, "GET" + path, "GET" + path}) {
			t.Errorf("%s: %q", header, got)
		}
	}
}

func TestTagRefused(t *testing.T) {
	s, c := newSim(t)
	want := push(t, s, regsim.Image{Text: "1"})
	var code atomic.Int32
	s.Gate(func(w http.ResponseWriter, r *http.Request) bool {
		if code.Load() == 0 || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.WriteHeader(int(code.Load()))
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no"}]}`)
		return true
	})
	ask := func(t *testing.T, status, requests int, took time.Duration) {
		t.Helper()
		s.Asked()
		start := time.Now()
		_, err := c.Tag(t.Context(), web)
		var refused *registry.RefusedError
		if !errors.As(err, &refused) || refused.Code != status || refused.Absent() != (status == 404) || refused.Denied() == refused.Absent() {
			t.Errorf("%v, want %d", err, status)
		}
		asked := slices.DeleteFunc(s.Asked(), func(a string) bool { return a == "GET /v2/" })
		if len(asked) != requests || time.Since(start) != took {
			t.Errorf("%q in %s; want %d in %s", asked, time.Since(start), requests, took)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		code.Store(404)
		ask(t, 404, 3, 3*time.Second)
		ask(t, 404, 1, 0) // believed before
		code.Store(403)
		ask(t, 403, 3, 3*time.Second) // another answer
		ask(t, 403, 1, 0)
		code.Store(0)
		serves(t, c, want)
		code.Store(404)
		ask(t, 404, 5, 15*time.Second) // it was there
		ask(t, 404, 1, 0)

		// A refusal that goes away meanwhile is none.
		code.Store(0)
		serves(t, c, want)
		code.Store(404)
		go func() {
			time.Sleep(5 * time.Second)
			code.Store(0)
		}()
		serves(t, c, want)

		code.Store(503)
		s.Asked()
		if _, err := c.Tag(t.Context(), web); !errors.As(err, new(*registry.UnreachableError)) || len(s.Asked()) != 1 {
			t.Errorf("503: %v", err)
		}
	})
}

func TestTagLimited(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"Retry-After: 90": 90 * time.Second, "RateLimit-Reset: 30": 30 * time.Second, "X: y": 0, "Retry-After: 99999999": time.Hour,
	} {
		for _, part := range []string{"/v2/", "/manifests/"} { // also where credentials are found out
			s, c := newSim(t)
			push(t, s, regsim.Image{Text: "1"})
			s.Gate(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, part) {
					return false
				}
				name, v, _ := strings.Cut(header, ": ")
				w.Header().Set(name, v)
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			})
			_, err := c.Tag(t.Context(), web)
			var limited *registry.LimitedError
			if !errors.As(err, &limited) || limited.After != want || !errors.As(err, new(*registry.UnreachableError)) {
				t.Errorf("%s: %v", header, err)
			}
			s.Asked()
			if _, err := c.Resolve(t.Context(), web); !errors.As(err, &limited) || len(s.Asked()) > 2 {
				t.Errorf("%s: resolving: %v", header, err)
			}
		}
	}
}

// Plain http is for named hosts, and a token's realm is a host of its own.
func TestTagRealm(t *testing.T) {
	for _, realm := range []string{"http://auth.example.lan/token", "http://" + host + "/token"} {
		s, c := newSim(t, host)
		want := push(t, s, regsim.Image{Text: "1"})
		s.Gate(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.TLS != nil || r.URL.Scheme == "https":
				w.WriteHeader(http.StatusBadGateway)
			case r.URL.Path == "/token":
				fmt.Fprint(w, `{"token":"t0ken"}`)
			case r.Header.Get("Authorization") == "Bearer t0ken":
				return false
			default:
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="lab"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
			return true
		})
		_, err := c.Tag(t.Context(), web)
		var plain *registry.PlainError
		if strings.Contains(realm, host) {
			serves(t, c, want)
			s.Asked()
			serves(t, c, want)
			if got := s.Asked(); len(got) != 1 {
				t.Errorf("a token is fetched once: %q", got)
			}
		} else if !errors.As(err, &plain) || plain.Host != "auth.example.lan" || slices.Contains(s.Asked(), "GET /token") {
			t.Errorf("%v", err)
		}
	}
}

// A login that was renewed in the docker configuration is found.
func TestTagCredentials(t *testing.T) {
	s, c := newSim(t)
	want := push(t, s, regsim.Image{Text: "1"})
	login := func(password string) {
		auth := base64.StdEncoding.EncodeToString([]byte("lab:" + password))
		text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, auth)
		if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := "one"
	s.Gate(func(w http.ResponseWriter, r *http.Request) bool {
		if _, p, _ := r.BasicAuth(); p == good {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	login("one")
	synctest.Test(t, func(t *testing.T) {
		serves(t, c, want)
		good = "two"
		login("two")
		serves(t, c, want)
		s.Asked()
		serves(t, c, want)
		if got := s.Asked(); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
}

func TestCheckTag(t *testing.T) {
	for ref, ok := range map[string]bool{
		web: true, "localhost/x:1": true, "127.0.0.1:5000/a/b/c:v1.2_3-x": true, "docker.io/nginx:1": true,
		host + "/shop/web": false, "shop/web:main": false, host + "/shop/web@sha256:" + strings.Repeat("a", 64): false,
		host + "/shop/web:": false, host + "/Shop:x": false, host + "/:x": false, host + "/a:b/c": false, host + "/a:" + strings.Repeat("x", 129): false, "": false,
		host + "/shop/web:a b": false, host + "/shop/web:\x1b": false,
	} {
		if err := registry.CheckTag(ref); (err == nil) != ok || err != nil && !errors.As(err, new(*registry.InvalidError)) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	_, c := newSim(t)
	if _, err := c.Tag(t.Context(), host+"/shop/web@sha256:"+strings.Repeat("a", 64)); !errors.As(err, new(*registry.InvalidError)) {
		t.Errorf("a digest: %v", err)
	}
}

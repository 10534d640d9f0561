package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"homelab/e2e/cluster"
)

// A site is one operator's machine: a home, repositories, deployment
// directories, and a way to the cluster that counts and may cut.
type site struct {
	t     *testing.T
	dir   string
	env   []string
	front *front
	n     int // namespaces so far
	name  string
}

// newSite makes a site in which nothing of this machine is seen.
func newSite(t *testing.T) *site {
	t.Helper()
	// Names of namespaces and volumes are the cluster's: a space has one nobody
	// else has.
	s := &site{t: t, dir: t.TempDir(), name: shared.Space(t).Name}
	if real, err := filepath.EvalSymlinks(s.dir); err == nil {
		s.dir = real
	}
	s.front = newFront(t)
	home := filepath.Join(s.dir, "home")
	s.file("home/.keep", "")
	s.file("tmp/.keep", "")
	s.file("kube.yaml", s.front.kubeconfig("lab"))
	s.env = []string{
		"HOME=" + home, "XDG_CONFIG_HOME=" + home + "/.config", "DOCKER_CONFIG=" + home, "TMPDIR=" + s.path("tmp"),
		"PATH=" + os.Getenv("PATH"), "HTTPS_PROXY=http://127.0.0.1:1", // no registry is there
		"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.lan", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.lan",
	}
	return s
}

// namespace is one that no other test uses; it and the volumes of its claims
// go with the test.
func (s *site) namespace() string {
	s.n++
	name := fmt.Sprintf("%s-%d", s.name, s.n)
	s.t.Cleanup(func() {
		ctx := context.Background()
		_, _ = shared.Admin.Do(ctx, http.MethodDelete, "/api/v1/namespaces/"+name, "", nil)
		b, err := shared.Admin.Do(ctx, http.MethodGet, "/api/v1/persistentvolumes", "", nil)
		var all cluster.Object
		if err != nil || json.Unmarshal(b, &all) != nil {
			return
		}
		for _, v := range all.List("items") {
			if v.Str("spec", "claimRef", "namespace") == name {
				_, _ = shared.Admin.Do(ctx, http.MethodDelete, "/api/v1/persistentvolumes/"+v.Name(), "", nil)
			}
		}
	})
	return name
}

// in is a namespace as the administrator sees it.
func (s *site) in(namespace string) *cluster.Space {
	return shared.Look(s.t, namespace)
}

func (s *site) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

// file writes a file.
func (s *site) file(name, text string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// edit replaces a text in a file, which has it.
func (s *site) edit(name, from, to string) {
	s.t.Helper()
	text := s.read(name)
	if !strings.Contains(text, from) {
		s.t.Fatalf("%s has no %q:\n%s", name, from, text)
	}
	s.file(name, strings.Replace(text, from, to, 1))
}

// files are all files of a directory with their content and mode, but for
// those of the lock and the journal's own directory.
func (s *site) files(dir string) map[string]string {
	s.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(s.path(dir), func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(s.path(dir), p)
		if err != nil || strings.HasPrefix(rel, ".homelab") {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		out[rel] = info.Mode().String() + " " + string(b)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// A deed is one run of homelab that is over.
type deed struct {
	code     int
	out, err string
	result   stackResult
}

// stackResult is what the verbs of stacks end in.
type stackResult struct {
	Kind, Verdict, Reason string
	ExitCode              int     `json:"exit_code"`
	Next                  *string `json:"next"`
	Deployment            struct {
		Dir, ID, Namespace, Target, Stack, Render string
		Cluster                                   *string
	}
	Plan *struct {
		Create, Update, Replace, Delete changes
		Unchanged                       int
	}
	Targets []struct{ Verdict, Reason string }
	Volumes []struct {
		Volume, Place string
		Deleted       bool
	}
	Notices []struct{ Code, Level, Message string }
}

// changes are of objects, or of files: those have names only.
type changes []struct {
	Kind, Namespace, Name, Why string
	Fields                     []struct{ Path, From, To string }
}

func (c *changes) UnmarshalJSON(b []byte) error {
	var files []string
	if json.Unmarshal(b, &files) == nil {
		for _, f := range files {
			*c = append(*c, changes{{Kind: "file", Name: f}}...)
		}
		return nil
	}
	type plain changes
	return json.Unmarshal(b, (*plain)(c))
}

// told says whether a notice has the code.
func (d *deed) told(code string) bool {
	for _, n := range d.result.Notices {
		if n.Code == code {
			return true
		}
	}
	return false
}

// touched lists what a plan changes: "+Deployment x".
func (d *deed) touched() []string {
	var out []string
	if p := d.result.Plan; p != nil {
		for sign, list := range map[string]changes{"+": p.Create, "~": p.Update, "!": p.Replace, "-": p.Delete} {
			for _, c := range list {
				out = append(out, sign+c.Kind+" "+c.Name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// homelab runs the program to its end. It is told where it is run by the
// site's directory, and who it is by nothing else.
func (s *site) homelab(args ...string) *deed {
	s.t.Helper()
	return s.with(nil, args...)
}

// with is homelab with more of an environment.
func (s *site) with(env []string, args ...string) *deed {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 100*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv("HOMELAB_E2E_BINARY"), append(slices.Clone(args), "--json")...)
	cmd.Dir, cmd.Env = s.dir, append(slices.Clone(s.env), env...)
	var out, story bytes.Buffer
	began := time.Now()
	cmd.Stdout, cmd.Stderr = &out, &story
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.front.serve(cmd.Process)
	_ = cmd.Wait()
	s.front.serve(nil)
	d := &deed{code: cmd.ProcessState.ExitCode(), out: out.String(), err: story.String()}
	s.t.Logf("%5.1fs homelab %s: exit %d", time.Since(began).Seconds(), strings.Join(args, " "), d.code)
	if d.code < 0 {
		return d // killed
	}
	if err := json.Unmarshal(out.Bytes(), &d.result); err != nil {
		s.t.Fatalf("homelab %s: %v: exit %d\n%s%s", strings.Join(args, " "), err, d.code, d.err, d.out)
	}
	if d.result.ExitCode != d.code {
		s.t.Errorf("exit %d, and the result says %d", d.code, d.result.ExitCode)
	}
	return d
}

// must is homelab with the verdict it has to come to.
func (s *site) must(verdict string, args ...string) *deed {
	s.t.Helper()
	return s.check(s.homelab(args...), verdict, args...)
}

func (s *site) check(d *deed, verdict string, args ...string) *deed {
	s.t.Helper()
	good := slices.Contains([]string{"up", "stopped", "same", "changes", "created"}, verdict)
	if d.result.Verdict != verdict || good != (d.code == 0) {
		s.t.Fatalf("homelab %s: %s (%d), not %s: %s\n%s", strings.Join(args, " "), d.result.Verdict, d.code, verdict, d.result.Reason, d.err)
	}
	return d
}

// silent checks that the run f writes nothing to the cluster.
func (s *site) silent(f func()) {
	s.t.Helper()
	before := len(s.front.written())
	f()
	if w := s.front.written()[before:]; len(w) > 0 {
		s.t.Errorf("%d writes where none were due: %v", len(w), w)
	}
}

// git runs git in a directory of the site.
func (s *site) git(dir string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = s.path(dir), s.env
	b, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, b)
	}
	return strings.TrimSpace(string(b))
}

// shop is a stack with a bit of everything, in a repository that follows
// another one, and its spec for a namespace.
func (s *site) shop(namespace string) {
	s.t.Helper()
	for name, text := range map[string]string{
		"stacks/shop/stack.yml": "version: \"1.0\"\nname: shop\ndescription: what is sold\npods:\n  - shop\n  - back\n  - old\njobs:\n  - seed\n",
		"compose/docker-compose-shop.yml": `services:
  web:
    image: acme/web:1-ok
    ports: ["80"]
    environment:
      LOG: ${LOG:-info}
    volumes:
      - data:/data
      - conf:/etc/conf:ro
      - ../config/shop/app.conf:/etc/app.conf:ro
volumes:
  data:
  conf:
`,
		"compose/docker-compose-back.yml":      "services:\n  back:\n    image: acme/back:1-ok\n    healthcheck: {test: \"true\"}\n    ports: [\"8080\"]\n",
		"compose/docker-compose-old.yml":       "services:\n  old:\n    image: acme/old:1-ok\n    healthcheck: {test: \"true\"}\n    ports: [\"9090\"]\n",
		"compose-jobs/docker-compose-seed.yml": "services:\n  seed:\n    image: acme/seed:1-ok\n    labels:\n      laconic.suspend: \"true\"\n",
		"config/shop/app.conf":                 "one\n",
		"config/conf/a.conf":                   "two\n",
		"deployment/spec.yml": `stack: stacks/shop
deploy-to: k8s
kube-config: ` + s.path("kube.yaml") + `
image-registry: reg.test
namespace: ` + namespace + `
config:
  LOG: info
network:
  ports:
    web:
     - '80'
    back:
     - '8080'
    old:
     - '9090'
  http-proxy:
    - host-name: ` + namespace + `.example.com
      routes:
        - path: /
          proxy-to: web:80
volumes:
  data: ` + s.path("host/data") + `
configmaps:
  conf: ./configmaps/conf
secrets: {}
`,
	} {
		s.file("up/"+name, text)
	}
	s.git("up", "init", "--quiet", "--initial-branch=main")
	s.git("up", "add", "--all")
	s.git("up", "commit", "--quiet", "-m", "Add the shop")
	s.git(".", "clone", "--quiet", "--no-hardlinks", "up", "repo")
	s.file("host/data/precious", "what users own\n")
}

// push changes a file of the repository's origin.
func (s *site) push(name, from, to string) {
	s.t.Helper()
	s.edit("up/"+name, from, to)
	s.git("up", "commit", "--quiet", "--all", "-m", "Change "+name)
}

// deploy makes the deployment directory of the shop.
func (s *site) deploy(dir string, args ...string) string {
	s.t.Helper()
	args = append([]string{"deploy", "create", "--spec-file", "deployment/spec.yml", "--deployment-dir", s.path(dir)}, args...)
	from := *s
	from.dir = s.path("repo") // the spec says where its stack is from there
	return from.must("created", args...).result.Deployment.ID
}

// A front stands between homelab and the API server: it counts what is written
// and can kill the process that writes.
type front struct {
	t    *testing.T
	url  string
	cert []byte

	mu     sync.Mutex
	proc   *os.Process
	writes []write
	seen   int                       // writes of the process
	kill   func(n int, w write) bool // after the n-th write took effect, and before it is answered
	before func(w write)
}

// A write is a request that changes something.
type write struct {
	Method, Path string
	Body         []byte
}

func (w write) String() string { return w.Method + " " + w.Path }

// lease says whether it is about the lock between machines.
func (w write) lease() bool {
	return strings.Contains(w.Path, "/leases/") || strings.HasSuffix(w.Path, "/leases")
}

type writeKey struct{}

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{t: t}
	var config struct {
		Clusters []struct {
			Cluster struct {
				CA string `json:"certificate-authority"`
			}
		}
		Users []struct {
			User struct {
				Cert string `json:"client-certificate"`
				Key  string `json:"client-key"`
			}
		}
	}
	b, err := os.ReadFile(shared.Kubeconfig())
	if err == nil {
		err = json.Unmarshal(b, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(config.Users[0].User.Cert, config.Users[0].User.Key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(config.Clusters[0].Cluster.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	to, err := url.Parse(shared.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header.Del("Authorization") // the connection says who speaks
		},
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true,
		},
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			if w, ok := r.Request.Context().Value(writeKey{}).(write); ok && r.StatusCode/100 == 2 {
				return f.wrote(w)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "" {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
			x := write{r.Method, r.URL.Path, b}
			r = r.WithContext(context.WithValue(r.Context(), writeKey{}, x))
			f.mu.Lock()
			before := f.before
			f.mu.Unlock()
			if before != nil {
				before(x)
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	f.url = server.URL
	f.cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return f
}

// kubeconfig is one whose only context has the name.
func (f *front) kubeconfig(context string) string {
	b, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": context,
		"clusters": []any{map[string]any{"name": context, "cluster": map[string]any{"server": f.url, "certificate-authority-data": f.cert}}},
		"users":    []any{map[string]any{"name": context, "user": map[string]any{"token": "not-looked-at"}}},
		"contexts": []any{map[string]any{"name": context, "context": map[string]any{"cluster": context, "user": context}}},
	}, "", " ")
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}

// serve says which process writes now.
func (f *front) serve(p *os.Process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proc, f.seen = p, 0
}

// killAt ends each process as soon as its n-th write took effect; 0 spares all.
func (f *front) killAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kill = nil
	if n > 0 {
		f.kill = func(i int, _ write) bool { return i == n }
	}
}

func (f *front) wrote(w write) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes = append(f.writes, w)
	f.seen++
	if f.kill != nil && f.kill(f.seen, w) && f.proc != nil {
		_ = f.proc.Kill()
		return fmt.Errorf("killed at %s", w)
	}
	return nil
}

func (f *front) written() []write {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.writes)
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

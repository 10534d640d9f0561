package kube_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/kubesim"
	"homelab/internal/tlstest"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
)

func serve(t *testing.T) (*kubesim.Sim, *kubesim.Server) {
	t.Helper()
	sim := kubesim.New(kubesim.Options{})
	srv := sim.Serve(t)
	sim.Put("deployments", deployment("web", 1))
	return sim, srv
}

func connect(t *testing.T, o kube.Options) *kube.Cluster {
	t.Helper()
	c, err := kube.Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestConnect(t *testing.T) {
	sim, srv := serve(t)
	lab := srv.Kubeconfig(t, "lab", kubesim.Admin, "shop")
	other := srv.Kubeconfig(t, "other", "unknown-token", "")
	var warnings []string
	c := connect(t, kube.Options{
		Kubeconfig: []string{filepath.Join(t.TempDir(), "missing"), lab, other}, UserAgent: "homelab/test",
		Warn: func(s string) { warnings = append(warnings, s) },
	})
	if c.Context() != "lab" || c.Namespace() != "shop" || c.Server() != srv.URL {
		t.Errorf("%s %s %s", c.Context(), c.Namespace(), c.Server())
	}
	if sim.Count("", "") != 0 || srv.Conns() != 0 {
		t.Error("something was dialled")
	}
	sim.Warn(`apps/v1 "old" is deprecated`)
	for range 2 {
		o, err := c.Get(t.Context(), kube.Apps("deployments"), "shop", "web")
		if err != nil || o.Name != "web" || o.Namespace != "shop" || o.UID == "" || o.ResourceVersion != "1002" {
			t.Fatalf("%+v %v", o, err)
		}
		if !bytes.Contains(o.Raw, []byte(`"kind":"Deployment"`)) {
			t.Errorf("raw %s", o.Raw)
		}
	}
	if len(warnings) != 1 || warnings[0] != `apps/v1 "old" is deprecated` {
		t.Errorf("warnings %q", warnings)
	}
	q := sim.Requests()[0]
	if q.User != "admin" || q.Header.Get("User-Agent") != "homelab/test" || len(q.Query) != 0 {
		t.Errorf("asked %+v", q)
	}
	if srv.Conns() != 1 {
		t.Errorf("%d connections", srv.Conns())
	}

	second := connect(t, kube.Options{Kubeconfig: []string{lab, other}, Context: "other", Namespace: "mine"})
	if second.Context() != "other" || second.Namespace() != "mine" {
		t.Errorf("%s %s", second.Context(), second.Namespace())
	}
	sim.Forget()
	_, err := second.Get(t.Context(), kube.Apps("deployments"), "shop", "web")
	if !kube.IsDenied(err) || kube.IsTransient(err) || sim.Count("get", "") != 3 {
		t.Errorf("%v after %d", err, sim.Count("get", ""))
	}
}

func TestConnectUsage(t *testing.T) {
	_, srv := serve(t)
	lab := srv.Kubeconfig(t, "lab", kubesim.Admin, "")
	write := func(text string) string {
		name := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	missing := filepath.Join(t.TempDir(), "missing")
	b, err := os.ReadFile(lab)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		o    kube.Options
		want string
	}{
		{"nothing", kube.Options{}, "no cluster is configured"},
		{"no file there", kube.Options{Kubeconfig: []string{missing}}, "no kubeconfig at " + missing},
		{"the named file is missing", kube.Options{Kubeconfig: []string{missing}, Explicit: true}, "cannot be read"},
		{"not YAML", kube.Options{Kubeconfig: []string{write("{")}}, "kubeconfig is invalid"},
		{"unknown context", kube.Options{Kubeconfig: []string{lab}, Context: "nope"}, `no context "nope": it has lab`},
		{"no current context", kube.Options{Kubeconfig: []string{write(strings.Replace(string(b), "current-context: lab", "", 1))}}, "choose one with --context: lab"},
		{"dangling user", kube.Options{Kubeconfig: []string{write(strings.NewReplacer("user: lab", "user: gone", "ca.pem", filepath.Join(filepath.Dir(lab), "ca.pem")).Replace(string(b)))}}, `there is no user "gone"`},
		{"dangling cluster", kube.Options{Kubeconfig: []string{write(strings.Replace(string(b), "cluster: lab", "cluster: gone", 1))}}, `there is no cluster "gone"`},
		{"no CA file", kube.Options{Kubeconfig: []string{write(string(b))}}, "unusable"},
		{"removed auth provider", kube.Options{Kubeconfig: []string{write(strings.Replace(strings.Replace(string(b),
			", certificate-authority: ca.pem", "", 1), `user: {token: "admin-token"}`, "user: {auth-provider: {name: gcp}}", 1))}}, "gcp"},
		{"missing plugin", kube.Options{Kubeconfig: []string{execConfig(t, srv, "no-such-plugin", "")}, Path: "/usr/bin:."}, "credential plugin no-such-plugin of context \"lab\" is not installed: get it"},
		{"no service account", kube.Options{InCluster: kube.ServiceAccount{Host: "10.0.0.1", Port: "443", Dir: t.TempDir()}}, "no service account token"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := kube.Connect(c.o)
			if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestInCluster(t *testing.T) {
	sim, srv := serve(t)
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("ca.crt", string(srv.CA()))
	put("namespace", "shop\n")
	put("token", "first-token\n")
	sim.AddUser(kubesim.User{Name: "first"})
	sim.AddUser(kubesim.User{Name: "second"})
	c := connect(t, kube.Options{InCluster: kube.ServiceAccount{Host: "127.0.0.1", Port: srv.Port(), Dir: dir}})
	if c.Context() != kube.InCluster || c.Namespace() != "shop" {
		t.Errorf("%s %s", c.Context(), c.Namespace())
	}
	get := func() {
		t.Helper()
		if _, err := c.Get(t.Context(), kube.Apps("deployments"), "shop", "web"); err != nil {
			t.Fatal(err)
		}
	}
	get()
	// The kubelet rotates the token; a 401 makes it be read anew.
	put("token", "second-token")
	sim.RemoveUser("first-token")
	get()
	all := sim.Requests()
	if last := all[len(all)-1]; last.User != "second" || len(all) != 3 {
		t.Errorf("%d requests, the last by %q", len(all), last.User)
	}
}

// execConfig is a kubeconfig whose user is an exec plugin.
func execConfig(t *testing.T, srv *kubesim.Server, command, extra string) string {
	t.Helper()
	name := srv.Kubeconfig(t, "lab", "TOKEN", "")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), `user: {token: "TOKEN"}`, `user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: `+command+`
      installHint: get it from the lab
      interactiveMode: IfAvailable
`+extra, 1)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// script writes an executable shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPlugin(t *testing.T) {
	sim, srv := serve(t)
	sim.AddUser(kubesim.User{Name: "fresh"})
	dir := t.TempDir()
	t.Setenv("LAB_SECRET", "hush")
	// Its first token is refused: the 401 makes it be asked again.
	p := script(t, `
echo "run" >>`+dir+`/runs
echo "go to https://login.example.lan" >&2
echo "secret=[$LAB_SECRET] mine=[$MINE]" >>`+dir+`/env
n=$(wc -l <`+dir+`/runs)
token=stale-token; [ $n -gt 1 ] && token=fresh-token
[ -t 0 ] || read line && token=had-stdin
echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"'$token'"}}'
`)
	var mu sync.Mutex
	var lines []string
	errBefore := os.Stderr
	c := connect(t, kube.Options{
		Kubeconfig: []string{execConfig(t, srv, p, "      env: [{name: MINE, value: kept}]\n")}, Hide: []string{"LAB_SECRET"},
		Plugin: func(s string) { mu.Lock(); defer mu.Unlock(); lines = append(lines, s) },
	})
	if os.Stderr != errBefore {
		t.Error("os.Stderr was not put back")
	}
	if _, err := c.Get(t.Context(), kube.Apps("deployments"), "shop", "web"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(lines) != 2 || lines[0] != "go to https://login.example.lan" {
		t.Errorf("it said %q", lines)
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil || !strings.HasPrefix(string(env), "secret=[] mine=[kept]\n") {
		t.Errorf("it saw %q %v", env, err)
	}
}

func TestPluginFails(t *testing.T) {
	sim, srv := serve(t)
	dir := t.TempDir()
	p := script(t, "echo run >>"+dir+"/runs\necho first words >&2\nprintf 'token expired, run lab login' >&2\nexit 3\n")
	c := connect(t, kube.Options{Kubeconfig: []string{execConfig(t, srv, p, "")}})
	_, err := c.Get(t.Context(), kube.Apps("deployments"), "shop", "web")
	var plugin *kube.PluginError
	if !errors.As(err, &plugin) || !kube.IsDenied(err) || kube.IsTransient(err) {
		t.Fatalf("got %v", err)
	}
	if !strings.HasSuffix(plugin.Stderr, "first words\ntoken expired, run lab login\n") || !strings.HasSuffix(err.Error(), ": token expired, run lab login") {
		t.Errorf("stderr %q, error %v", plugin.Stderr, err)
	}
	runs, _ := os.ReadFile(filepath.Join(dir, "runs"))
	if string(runs) != "run\nrun\nrun\n" || sim.Count("", "") != 0 {
		t.Errorf("ran %q, %d requests", runs, sim.Count("", ""))
	}
}

// A plugin that waits for a person does not hold up the end.
func TestPluginHangs(t *testing.T) {
	_, srv := serve(t)
	dir := t.TempDir()
	p := script(t, "until [ -e "+dir+"/end ]; do sleep 0.05; done\n")
	t.Cleanup(func() { _ = os.WriteFile(filepath.Join(dir, "end"), nil, 0o600); time.Sleep(100 * time.Millisecond) })
	c := connect(t, kube.Options{Kubeconfig: []string{execConfig(t, srv, p, "")}})
	mine := errors.New("mine")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, mine)
	defer cancel()
	start := time.Now()
	if _, err := c.Get(ctx, kube.Apps("deployments"), "shop", "web"); !errors.Is(err, mine) || time.Since(start) > time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestProxy(t *testing.T) {
	_, srv := serve(t)
	var asked []string
	c := connect(t, kube.Options{
		Kubeconfig: []string{srv.Kubeconfig(t, "lab", kubesim.Admin, "")},
		Proxy:      func(u *url.URL) (*url.URL, error) { asked = append(asked, u.Host); return nil, nil },
	})
	if _, err := c.Get(t.Context(), kube.Apps("deployments"), "shop", "web"); err != nil || len(asked) != 1 {
		t.Errorf("%v %v", asked, err)
	}
}

func TestAnswers(t *testing.T) {
	sim, srv := serve(t)
	c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", kubesim.Admin, "")}})
	get := func() error {
		_, err := c.Get(t.Context(), kube.Apps("deployments"), "shop", "web")
		return err
	}
	list := func() error {
		_, _, err := c.List(t.Context(), kube.Apps("deployments"), "shop", kube.Query{})
		return err
	}
	cases := []struct {
		fault     kubesim.Fault
		transient bool
		want      string
	}{
		{kubesim.Fault{Kind: kubesim.HTML, Code: 401}, true, "401: Unauthorized, not a Kubernetes answer (text/html)"},
		{kubesim.Fault{Kind: kubesim.HTML, Code: 403}, true, "403: Forbidden, not a Kubernetes answer (text/html)"},
		{kubesim.Fault{Kind: kubesim.HTML, Code: 404}, true, "404: Not Found, not a Kubernetes answer (text/html)"},
		{kubesim.Fault{Kind: kubesim.HTML, Code: 302}, true, "302: Found, not a Kubernetes answer (text/html)"},
		{kubesim.Fault{Kind: kubesim.HTML, Code: 200}, true, "the answer is no Kubernetes object"},
		{kubesim.Fault{Kind: kubesim.Empty}, true, "cut off"},
		{kubesim.Fault{Kind: kubesim.Cut}, true, ""},
		{kubesim.Fault{Kind: kubesim.Refuse}, true, ""},
		{kubesim.Fault{Kind: kubesim.Status, Code: 429, RetryAfter: 3}, true, "429: too many requests, please try again later"},
		{kubesim.Fault{Kind: kubesim.Status, Code: 500}, true, "500: etcdserver: request timed out"},
		{kubesim.Fault{Kind: kubesim.Status, Code: 504}, true, "504: Timeout: Too large resource version"},
		{kubesim.Fault{Kind: kubesim.Status, Code: 401}, false, "401: Unauthorized"},
		{kubesim.Fault{Kind: kubesim.Status, Code: 422}, false, "422: "},
	}
	for _, k := range cases {
		for verb, ask := range map[string]func() error{"get": get, "list": list} {
			t.Run(fmt.Sprint(k.fault.Kind, " ", k.fault.Code, " ", verb), func(t *testing.T) {
				if err := get(); err != nil {
					t.Fatal(err)
				}
				remove := sim.Inject(k.fault)
				err := ask()
				remove()
				if err == nil || kube.IsTransient(err) != k.transient || !strings.Contains(err.Error(), k.want) {
					t.Errorf("got %v", err)
				}
				if bad := !c.Health().FailingSince.IsZero(); bad != k.transient {
					t.Errorf("health %+v", c.Health())
				}
				var s *kube.StatusError
				if errors.As(err, &s) && s.RetryAfter != time.Duration(k.fault.RetryAfter)*time.Second {
					t.Errorf("retry after %v", s.RetryAfter)
				}
			})
		}
	}
	_, err := c.Get(t.Context(), kube.Apps("deployments"), "shop", "gone")
	if !kube.IsAbsent(err) || kube.IsTransient(err) || kube.IsDenied(err) {
		t.Errorf("absent: %v", err)
	}
	u, err := kube.Connect(kube.Options{Kubeconfig: []string{deadConfig(t, srv)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Get(t.Context(), kube.Apps("deployments"), "shop", "web"); !kube.IsTransient(err) || u.Health().AnyGood {
		t.Errorf("nobody there: %v", err)
	}
}

// deadConfig points where nobody listens.
func deadConfig(t *testing.T, srv *kubesim.Server) string {
	t.Helper()
	name := srv.Kubeconfig(t, "lab", kubesim.Admin, "")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte(srv.URL), []byte("https://"+tlstest.Reserve(t).String()), 1)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestList(t *testing.T) {
	sim, srv := serve(t)
	c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", kubesim.Admin, "")}})
	for i := range 20 {
		sim.Put("pods", kubesim.Object{"metadata": kubesim.Object{
			"namespace": "shop", "name": fmt.Sprintf("web-%02d", i), "labels": kubesim.Object{"app": "web", "even": strconv.FormatBool(i%2 == 0)},
		}})
	}
	items, rv, err := c.List(t.Context(), kube.Core("pods"), "shop", kube.Query{Labels: "app=web,even in (true)"})
	if err != nil || len(items) != 10 || rv != strconv.Itoa(sim.Version()) || items[1].Name != "web-02" {
		t.Errorf("%d items at %s: %v", len(items), rv, err)
	}
	items, _, err = c.List(t.Context(), kube.Core("pods"), "", kube.Query{Limit: 3})
	if err != nil || len(items) != 3 {
		t.Errorf("%d items: %v", len(items), err)
	}
	if items, _, err = c.List(t.Context(), kube.Core("nodes"), "", kube.Query{}); err != nil || len(items) != 0 {
		t.Errorf("%d nodes: %v", len(items), err)
	}
	if _, _, err = c.List(t.Context(), kube.Core("pods"), "shop", kube.Query{Labels: "a in"}); err == nil {
		t.Error("a broken selector is accepted")
	}
}

func TestLog(t *testing.T) {
	sim, srv := serve(t)
	c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", kubesim.Admin, "")}})
	sim.Put("pods", kubesim.Object{"metadata": kubesim.Object{"namespace": "shop", "name": "web-1"}})
	sim.SetLog("shop", "web-1", "web", true, "one\ntwo\nthree\n")
	b, err := c.Log(t.Context(), "shop", "web-1", kube.LogOptions{Container: "web", Previous: true, Tail: 2})
	if err != nil || string(b) != "two\nthree\n"[:len(b)] || len(b) < 9 {
		t.Errorf("%q %v", b, err)
	}
	if q := sim.Requests()[0].Query.Encode(); q != "container=web&limitBytes=65536&previous=true&tailLines=2" {
		t.Errorf("asked %s", q)
	}
	var s *kube.StatusError
	if _, err = c.Log(t.Context(), "shop", "web-1", kube.LogOptions{Container: "web"}); !errors.As(err, &s) || s.Code != 400 || !s.Refused() {
		t.Errorf("not started: %v", err)
	}
}

// The clock is the server's, to half a second, whatever the local one says.
func TestNow(t *testing.T) {
	for _, skew := range []time.Duration{0, 300 * time.Millisecond, time.Hour, -90 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(123 * time.Millisecond)
			sim := kubesim.New(kubesim.Options{Now: func() time.Time { return time.Now().Add(skew) }})
			c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
			for range 5 {
				if _, _, err := c.List(t.Context(), kube.Core("pods"), "", kube.Query{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(370 * time.Millisecond)
			}
			if off := c.Now().Sub(time.Now().Add(skew)); off.Abs() > 500*time.Millisecond || skew == 0 && off != 0 {
				t.Errorf("skew %v: off by %v", skew, off)
			}
		})
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		start := time.Now()
		for range 100 {
			if _, _, err := c.List(t.Context(), kube.Core("pods"), "", kube.Query{}); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d != 3*time.Second { // 40 at once, 60 at 20 a second
			t.Errorf("took %v", d)
		}
	})
}

func TestPersist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		sim.Down(10 * time.Second)
		start := time.Now()
		err := c.Persist(t.Context(), func(ctx context.Context) error {
			_, err := c.Get(ctx, kube.Apps("deployments"), "shop", "web")
			return err
		})
		if !kube.IsAbsent(err) || time.Since(start) < 10*time.Second || time.Since(start) > 16*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		sim.Inject(kubesim.Fault{Kind: kubesim.Status, Code: http.StatusTooManyRequests, RetryAfter: 20, Times: 1})
		start = time.Now()
		_ = c.Persist(t.Context(), func(ctx context.Context) error {
			_, err := c.Get(ctx, kube.Apps("deployments"), "shop", "web")
			return err
		})
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}

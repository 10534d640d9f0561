package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"homelab/e2e/cluster"
)

// kiosk is a small stack that has one of everything a start writes.
func (s *site) kiosk(namespace string) {
	s.t.Helper()
	for name, text := range map[string]string{
		"stacks/kiosk/stack.yml": "version: \"1.0\"\nname: kiosk\npods:\n  - kiosk\njobs:\n  - seed\n",
		"compose/docker-compose-kiosk.yml": `services:
  web:
    image: acme/web:1-ok
    ports: ["80"]
    volumes:
      - data:/data
      - ../config/kiosk/app.conf:/etc/app.conf:ro
volumes:
  data:
`,
		"compose-jobs/docker-compose-seed.yml": "services:\n  seed:\n    image: acme/seed:1-done\n",
		"config/kiosk/app.conf":                "one\n",
		"deployment/spec.yml": `stack: stacks/kiosk
deploy-to: k8s
kube-config: ` + s.path("kube.yaml") + `
image-registry: reg.test
namespace: ` + namespace + `
config:
  LOG: info
  KEY: $generate:hex:16$
network:
  ports:
    web:
     - '80'
  http-proxy:
    - host-name: ` + namespace + `.example.com
      routes:
        - path: /
          proxy-to: web:80
volumes:
  data: ` + s.path("host/data") + `
registry-credentials:
  server: reg.test
  username: ada
  token-file: ` + s.path("token") + `
secrets: {}
`,
	} {
		s.file("up/"+name, text)
	}
	s.file("token", "t0ken-canary\n")
	s.git("up", "init", "--quiet", "--initial-branch=main")
	s.git("up", "add", "--all")
	s.git("up", "commit", "--quiet", "-m", "Add the kiosk")
	s.git(".", "clone", "--quiet", "--no-hardlinks", "up", "repo")
	s.file("host/data/precious", "what users own\n")
}

// owned is what must survive every way a run may end, "" for what is not there.
func owned(look *cluster.Space, id string) map[string]string {
	out := map[string]string{}
	for _, x := range [][2]string{
		{"persistentvolumes", id + "-data"}, {"persistentvolumeclaims", id + "-data"}, {"secrets", id + "-generated-secrets"},
	} {
		o, err := look.TryGet(x[0], x[1])
		if err == nil {
			out[x[0]] = o.UID() + fmt.Sprint(o.At("data"), o.At("spec", "hostPath"))
		}
	}
	return out
}

// holds is everything in a namespace that a deployment made there.
func holds(look *cluster.Space) []string {
	var out []string
	for _, r := range []string{
		"deployments", "services", "configmaps", "secrets", "ingresses", "jobs", "persistentvolumeclaims", "leases", "endpoints",
	} {
		for _, o := range look.List(r, "app") {
			out = append(out, r+" "+o.Name())
		}
	}
	return out
}

// TestStackKilledAtEveryWrite ends each verb with SIGKILL right after each of
// its writes, and repeats it: the second run ends as an undisturbed one does,
// and what users own is never gone.
func TestStackKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	started := func(s *site) { s.must("up", "deployment", "start", "--dir", "d", within) }
	for _, verb := range []struct {
		name    string
		prepare func(s *site) // the situation before
		run     []string
		verdict string
		gone    []string // of what users own, once the verb is through
	}{
		{name: "start", prepare: func(*site) {}, run: []string{"start", within}, verdict: "up"},
		{name: "restart", prepare: func(s *site) {
			started(s)
			s.push("compose/docker-compose-kiosk.yml", "acme/web:1-ok", "acme/web:2-ok")
			s.push("config/kiosk/app.conf", "one", "two")
			// The pod file is called otherwise, and so are its objects.
			s.git("up", "mv", "compose/docker-compose-kiosk.yml", "compose/docker-compose-stand.yml")
			s.push("stacks/kiosk/stack.yml", "  - kiosk\n", "  - stand\n  - side\n")
			s.file("up/compose/docker-compose-side.yml", "services:\n  side:\n    image: acme/side:1-ok\n    healthcheck: {test: \"true\"}\n")
			s.git("up", "add", "--all")
			s.git("up", "commit", "--quiet", "-m", "Add a side")
		}, run: []string{"restart", within}, verdict: "up"},
		{name: "stop", prepare: started, run: []string{"stop"}, verdict: "stopped"},
		{
			name: "stop-all", prepare: started, run: []string{"stop", "--delete-volumes", "--delete-namespace"}, verdict: "stopped",
			gone: []string{"persistentvolumes", "persistentvolumeclaims", "secrets"},
		},
	} {
		t.Run(verb.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"deployment", "--dir", "d"}, verb.run...)
			make := func(t *testing.T) (*site, *cluster.Space, string) {
				s := newSite(t)
				ns := s.namespace()
				s.kiosk(ns)
				id := s.deploy("d", "--deployment-id", "laconic-"+ns)
				verb.prepare(s)
				return s, s.in(ns), id
			}
			s, look, id := make(t)
			before := len(s.front.written())
			s.must(verb.verdict, args...)
			writes := s.front.written()[before:]
			end := strings.ReplaceAll(strings.Join(holds(look), "\n"), id, "ID")
			if len(writes) < 6 {
				t.Fatalf("only %d writes: %v", len(writes), writes)
			}
			for n := range len(writes) {
				what := writes[n]
				t.Run(fmt.Sprint(n+1), func(t *testing.T) {
					t.Parallel()
					s, look, id := make(t)
					had := owned(look, id)
					s.front.killAt(n + 1)
					if d := s.homelab(args...); d.code >= 0 {
						t.Fatalf("it was not killed at write %d, %v:\n%s", n+1, what, d.err)
					}
					s.front.killAt(0)
					now := owned(look, id)
					for k, v := range had {
						if now[k] != v && !slices.Contains(verb.gone, k) {
							t.Errorf("killed at %v: %s were %s and are %s", what, k, v, now[k])
						}
					}
					s.must(verb.verdict, args...)
					then := owned(look, id)
					for k := range maps.Keys(now) {
						if then[k] != now[k] && !slices.Contains(verb.gone, k) {
							t.Errorf("finished after %v: %s were %s and are %s", what, k, now[k], then[k])
						}
					}
					if got := strings.ReplaceAll(strings.Join(holds(look), "\n"), id, "ID"); got != end {
						t.Errorf("killed at %v it ends with\n%s\nnot\n%s", what, got, end)
					}
					s.silent(func() { s.must(verb.verdict, args...) })
					if s.read("host/data/precious") != "what users own\n" || s.read("d/spec.yml") != s.read("repo/deployment/spec.yml") {
						t.Error("files of the user changed")
					}
				})
			}
		})
	}
}

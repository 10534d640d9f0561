package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

const (
	stackPods     = 40
	stackFew      = 2 // pods of an ordinary stack
	stackServices = 5 // of each pod

	stackRender  = 0.3 // seconds
	stackRestart = 1.0 // seconds
	stackWrites  = 2
	stackMemory  = 120 << 20
)

// estate is a large stack in a repository of its own, with a cluster to run
// it on.
type estate struct {
	*cluster
	pods int
	repo string // the clone that holds stack and spec
	dir  string // the deployment directory
}

// newEstate writes a stack of so many pods, commits and pushes it, and makes a
// deployment directory of it.
func newEstate(ctx context.Context, b *bench, pods int) (*estate, error) {
	e := &estate{cluster: openCluster(b), pods: pods}
	e.repo, e.dir = filepath.Join(e.home, "shop"), filepath.Join(e.home, "deployment")
	e.env = append(e.env, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	inlined, err := e.inline()
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		filepath.Join(e.home, ".gitconfig"):               "[user]\n\tname = Ada\n\temail = ada@example.lan\n",
		filepath.Join(e.home, "cluster.yml"):              inlined,
		filepath.Join(e.repo, "spec.yml"):                 e.spec(),
		filepath.Join(e.repo, "stacks", "shop/stack.yml"): "version: \"1.0\"\nname: shop\npods:\n",
	}
	for p := range e.pods {
		name := fmt.Sprintf("part-%02d", p)
		files[filepath.Join(e.repo, "stacks", "shop/stack.yml")] += "  - " + name + "\n"
		files[filepath.Join(e.repo, "compose", "docker-compose-"+name+".yml")] = composeFile(p)
		files[filepath.Join(e.repo, "config", name, "app.conf")] = strings.Repeat(fmt.Sprintf("setting = %d\n", p), 200)
	}
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			return nil, err
		}
	}
	y := yard{env: e.env}
	bare := filepath.Join(e.home, "shop.git")
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", bare},
		{"init", "--quiet", "--initial-branch=main", e.repo},
		{"-C", e.repo, "remote", "add", "origin", "file://" + bare},
		{"-C", e.repo, "add", "."},
		{"-C", e.repo, "commit", "--quiet", "-m", "A shop of many services"},
		{"-C", e.repo, "push", "--quiet", "-u", "origin", "main"},
	} {
		if err := y.git(ctx, e.home, args...); err != nil {
			return nil, err
		}
	}
	_, err = e.run(ctx, b, "deploy", "create", "--spec-file", filepath.Join(e.repo, "spec.yml"), "--deployment-dir", e.dir)
	return e, err
}

// inline is the kubeconfig with the authority's certificate in it: a
// deployment directory takes a copy of the file alone.
func (e *estate) inline() (string, error) {
	text, err := os.ReadFile(e.kubeconfig)
	if err != nil {
		return "", err
	}
	return strings.Replace(string(text), "certificate-authority: ca.pem",
		"certificate-authority-data: "+base64.StdEncoding.EncodeToString(e.ca), 1), nil
}

func (e *estate) spec() string {
	var b strings.Builder
	fmt.Fprintf(&b, "stack: %s\ndeploy-to: k8s\nkube-config: %s\n", filepath.Join(e.repo, "stacks", "shop"), filepath.Join(e.home, "cluster.yml"))
	b.WriteString("config:\n  LOG_LEVEL: info\n  DATABASE: postgres://db.example.lan:5432/shop\nvolumes:\n")
	for p := range e.pods {
		fmt.Fprintf(&b, "  data-%02d:\n", p)
	}
	b.WriteString("network:\n  http-proxy:\n    - host-name: shop.example.lan\n      routes:\n")
	for p := range e.pods {
		fmt.Fprintf(&b, "        - {path: /%02d, proxy-to: \"web-%02d-0:8080\"}\n", p, p)
	}
	return b.String()
}

// composeFile is a pod of several services as people write them.
func composeFile(p int) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for s := range stackServices {
		fmt.Fprintf(&b, `  web-%02[1]d-%[2]d:
    image: registry.example.lan/shop/web:v1.%[1]d.%[2]d
    restart: unless-stopped
    command: ["serve", "--port", "%[3]d"]
    environment:
      NAME: web-%02[1]d-%[2]d
      LOG: ${LOG_LEVEL}
      DATABASE_URL: ${DATABASE}?pool=4
      CACHE: "redis://cache-%02[1]d:6379/%[2]d"
    ports:
      - "%[3]d"
    healthcheck:
      test: ["CMD", "wget", "-q", "-O-", "http://localhost:%[3]d/health"]
      interval: 10s
      timeout: 3s
      retries: 3
    volumes:
      - data-%02[1]d:/data
      - ../config/part-%02[1]d/app.conf:/etc/app/app.conf:ro
    deploy:
      resources:
        reservations: {cpus: "0.1", memory: 64M}
        limits: {cpus: "1", memory: 256M}
`, p, s, 8080+s)
	}
	fmt.Fprintf(&b, "volumes:\n  data-%02d:\n", p)
	return b.String()
}

// run runs the program, which has to end well.
func (e *estate) run(ctx context.Context, b *bench, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, b.program("homelab"), args...)
	cmd.Dir, cmd.Env = e.home, e.env
	p, err := finish(ctx, cmd, nil)
	if err == nil && p.code != 0 {
		err = fmt.Errorf("homelab %s: exit code %d: %s%s", strings.Join(args, " "), p.code, p.err.String(), p.out.String())
	}
	return p, err
}

// deployed is what is read of a result.
type deployed struct {
	Verdict string `json:"verdict"`
	Plan    struct {
		Create, Update, Replace, Delete []json.RawMessage
		Unchanged                       int `json:"unchanged"`
	} `json:"plan"`
}

// stacks measures what the files of a stack of many services come to, and
// restarts that find nothing to do.
func stacks(ctx context.Context, b *bench) ([]row, error) {
	many, err := newEstate(ctx, b, stackPods)
	if err != nil {
		return nil, err
	}
	rows, err := many.renders(ctx, b)
	if err != nil {
		return rows, err
	}
	few, err := newEstate(ctx, b, stackFew)
	if err != nil {
		return rows, err
	}
	usual, err := few.restarts(ctx, b)
	if err != nil {
		return rows, err
	}
	large, err := many.restarts(ctx, b)
	if err != nil {
		return rows, err
	}
	restart := row{
		Name: "stack-restart", What: "deployment restart of " + few.String() + " that finds nothing changed, git pull included, from start to exit",
		Target: "p95 <= 1 s", Measured: usual.took.String(), Verdict: judged(usual.took.p95() <= stackRestart), Values: map[string]float64{},
		Beside: fmt.Sprintf("%s: %s", many, large.took),
	}
	usual.took.values("", restart.Values)
	large.took.values("many_", restart.Values)
	writes := max(usual.writes, large.writes)
	mib := float64(large.peak) / (1 << 20)
	memory := row{
		Name: "stack-memory", What: "VmHWM of deployment start and restart of " + many.String(), Target: "<= 120 MiB",
		Measured: fmt.Sprintf("%.1f MiB", mib), Verdict: judged(large.peak > 0 && large.peak <= stackMemory), Values: map[string]float64{"mib": mib},
		Beside: fmt.Sprintf("%s: %.1f MiB", few, float64(usual.peak)/(1<<20)),
	}
	if large.peak == 0 {
		memory.Measured, memory.Verdict = "not told by this system", free
	}
	return append(rows, restart, row{
		Name: "stack-writes", What: "writes that these restarts send to the API server, at most", Target: "<= 2",
		Measured: fmt.Sprint(writes), Verdict: judged(writes <= stackWrites),
		Values: map[string]float64{"writes": float64(writes), "requests": float64(usual.requests), "many_requests": float64(large.requests)},
		Beside: fmt.Sprintf("%d requests in all for %s, %d for %s", usual.requests, few, large.requests, many),
	}, memory), nil
}

// String is how large the stack is.
func (e *estate) String() string {
	return fmt.Sprintf("a stack of %d services in %d Deployments", e.pods*stackServices, e.pods)
}

// repeated is what restarts without changes came to.
type repeated struct {
	took             sample
	writes, requests int   // of one, at most
	peak             int64 // of one, or of the start before
}

// restarts brings the stack up and restarts it.
func (e *estate) restarts(ctx context.Context, b *bench) (repeated, error) {
	var out repeated
	first, err := e.run(ctx, b, "deployment", "start", "--dir", e.dir, "--json", "--timeout", "2m")
	if err != nil {
		return out, err
	}
	out.peak = first.peak
	for i := range pick(b, 8, 30) + 1 {
		e.sim.Forget()
		began := time.Now()
		p, err := e.run(ctx, b, "deployment", "restart", "--dir", e.dir, "--json", "--timeout", "1m")
		if err != nil {
			return out, err
		}
		var d deployed
		if err := json.Unmarshal(p.out.Bytes(), &d); err != nil {
			return out, err
		}
		if n := len(d.Plan.Create) + len(d.Plan.Update) + len(d.Plan.Replace) + len(d.Plan.Delete); d.Verdict != "up" || n > 0 || d.Plan.Unchanged < e.pods {
			return out, fmt.Errorf("a restart without changes: %s", p.out.String())
		}
		if i > 0 { // the first finds the files on the disk
			out.took.add(p.exited.Sub(began))
		}
		all, writes := e.sim.Requests(), 0
		for _, r := range all {
			if !slices.Contains([]string{"get", "list", "watch"}, r.Verb) {
				writes++
			}
		}
		out.writes, out.requests, out.peak = max(out.writes, writes), max(out.requests, len(all)), max(out.peak, p.peak)
	}
	return out, nil
}

// renders measures how long the files of a directory take to be objects.
func (e *estate) renders(ctx context.Context, b *bench) ([]row, error) {
	env := file.Env{Home: e.home, WorkDir: e.home}
	var own, whole sample
	var cold time.Duration
	objects := 0
	for i := range pick(b, 10, 40) + 1 {
		began := time.Now()
		d, _, err := file.Load(e.dir, env)
		if err != nil {
			return nil, err
		}
		r, err := render.Render(d, render.Options{Machine: render.Machine{Home: e.home, WorkDir: e.home}}, render.Facts{})
		if err != nil {
			return nil, err
		}
		objects = len(r.Objects)
		if i == 0 {
			cold = time.Since(began)
			continue
		}
		own.add(time.Since(began))
	}
	for range pick(b, 5, 20) {
		began := time.Now()
		p, err := e.run(ctx, b, "deploy", "create", "--spec-file", filepath.Join(e.repo, "spec.yml"), "--deployment-dir", e.dir, "--update", "--dry-run")
		if err != nil {
			return nil, err
		}
		whole.add(p.exited.Sub(began))
	}
	r := row{
		Name: "stack-render", What: fmt.Sprintf("%d services in %d files to %d objects, the files read from the disk", e.pods*stackServices, e.pods, objects),
		Target: "p50 <= 300 ms", Measured: own.String(), Verdict: judged(own.p50() <= stackRender),
		Values: map[string]float64{"cold": cold.Seconds()},
		Beside: fmt.Sprintf("the first time in a process: %s; deploy create --update --dry-run as a process: %s", seconds(cold.Seconds()), whole),
	}
	own.values("", r.Values)
	whole.values("create_", r.Values)
	return []row{r}, nil
}

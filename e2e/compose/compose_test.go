package compose

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// stand makes the repository of a small stack: a service with data, one that
// runs to its end before it, and a spec.
func (h *host) stand() {
	h.t.Helper()
	for name, text := range map[string]string{
		"stacks/stand/stack.yml": "version: \"1.0\"\nname: stand\npods: [web]\n",
		"compose/docker-compose-web.yml": `services:
  web:
    image: ` + h.tag + `/web:1
    environment: {GREETING: "${GREETING}"}
    ports: ["8080"]
    volumes:
      - data:/data
      - cache:/cache
      - ../config/web/app.conf:/app.conf:ro
    healthcheck: {test: [CMD, /app, healthy], interval: 1s, retries: 3, start_period: 2s}
    depends_on:
      prepare: {condition: service_completed_successfully}
  prepare:
    image: ` + h.tag + `/web:1
    command: [append, /data/prepared]
    volumes: ["data:/data"]
volumes:
  data:
  cache:
`,
		"config/web/app.conf": "one\n",
		"deployment/spec.yml": `stack: stacks/stand
deploy-to: compose
config:
  GREETING: 'hello # there'
network:
  ports:
    web:
     - '127.0.0.1::8080'
volumes:
  data: ./data/data
  cache:
`,
	} {
		h.file("up/"+name, text)
	}
	h.run("up", "git", "init", "--quiet", "--initial-branch=main")
	h.commit("Begin")
	h.run(".", "git", "clone", "--quiet", "up", "repo")
}

func (h *host) commit(subject string) {
	h.t.Helper()
	h.run("up", "git", "add", "--all")
	h.run("up", "git", "commit", "--quiet", "-m", subject)
}

// deploy makes a deployment directory of the stack; what it leaves on the
// engine goes with the test.
func (h *host) deploy(dir string) (project string) {
	h.t.Helper()
	project = "laconic-" + h.tag + "-" + dir
	h.t.Cleanup(func() {
		for _, kind := range [][]string{{"container", "rm", "--force"}, {"network", "rm"}, {"volume", "rm", "--force"}} {
			list := []string{kind[0], "ls", "--quiet", "--filter", "label=com.docker.compose.project=" + project}
			if kind[0] == "container" {
				list = append(list, "--all")
			}
			if ids := strings.Fields(h.docker(list...)); len(ids) > 0 {
				h.docker(append(kind, ids...)...)
			}
		}
	})
	h.cwd = "repo" // the spec says where its stack is from there
	h.must("created", "deploy", "create", "--spec-file", "deployment/spec.yml", "--deployment-dir", "../"+dir, "--deployment-id", project)
	h.cwd = ""
	return project
}

// get asks the web service where homelab says that it listens.
func (h *host) get(dir string) string {
	h.t.Helper()
	addr, code := h.text("deployment", "port", "--dir", dir, "web", "8080")
	if code != 0 {
		h.t.Fatalf("deployment port ended with %d", code)
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + strings.TrimSpace(addr) + "/")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(b))
}

func (h *host) container(project, service string) string {
	h.t.Helper()
	return h.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.project="+project, "--filter", "label=com.docker.compose.service="+service)
}

func (h *host) volumes(project string) string {
	h.t.Helper()
	return h.docker("volume", "ls", "--quiet", "--filter", "label=com.docker.compose.project="+project)
}

// From a spec to a running stack, a change that comes by git, one that is ill,
// and down again: data stays until it is asked away, and that of another
// deployment of the same stack stays even then.
func TestStory(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.image("web:1", "1")
	h.image("web:2", "2")
	h.image("web:3", "3-ill")
	h.stand()
	project, other := h.deploy("d"), h.deploy("sibling")

	if got := h.must("absent", "deployment", "status", "--dir", "d"); got.code != 3 {
		t.Errorf("status of what never ran: %d", got.code)
	}
	h.must("up", "deployment", "start", "--dir", "d")
	h.must("up", "deployment", "start", "--dir", "sibling")
	if got := h.get("d"); got != "1 hello # there" {
		t.Errorf("it says %q", got)
	}
	if _, err := os.Stat(h.path("d/data/data/prepared")); err != nil {
		t.Error(err)
	}
	h.must("up", "deployment", "status", "--dir", "d")
	if out, code := h.text("deployment", "exec", "--dir", "d", "web", "--", "/app", "cat", "/app.conf"); code != 0 || out != "one\n" {
		t.Errorf("exec: %d, %q", code, out)
	}
	if out, code := h.text("deployment", "exec", "--dir", "d", "web", "--", "/app", "exit", "7"); code != 1 {
		t.Errorf("exec: %d, %q", code, out)
	}
	if out, _ := h.text("deployment", "logs", "--dir", "d", "web"); !strings.Contains(out, "app: version 1 greets with hello # there") {
		t.Errorf("logs: %q", out)
	}
	if out, _ := h.text("deployment", "ps", "--dir", "d"); !strings.Contains(out, project+"-web-1") || !strings.Contains(out, "->8080") {
		t.Errorf("ps: %q", out)
	}

	// Again: nothing is ordered.
	before := h.container(project, "web")
	if again := h.must("up", "deployment", "start", "--dir", "d"); again.result.Changed != nil && *again.result.Changed {
		t.Errorf("it changed something: %s", again.out)
	}
	if now := h.container(project, "web"); now != before {
		t.Error("the container was made anew")
	}
	h.must("same", "deployment", "diff", "--dir", "d")

	// A change comes by git.
	h.edit("up/compose/docker-compose-web.yml", h.tag+"/web:1", h.tag+"/web:2")
	h.edit("up/config/web/app.conf", "one", "two")
	h.commit("Two")
	h.must("up", "deployment", "restart", "--dir", "d")
	if got := h.get("d"); got != "2 hello # there" {
		t.Errorf("after the restart it says %q", got)
	}
	if out, _ := h.text("deployment", "exec", "--dir", "d", "web", "--", "/app", "cat", "/app.conf"); out != "two\n" {
		t.Errorf("its file says %q", out)
	}
	if got := h.get("sibling"); got != "1 hello # there" {
		t.Errorf("the sibling says %q", got)
	}

	// An image of the same name that is another one really runs.
	h.image("web:2", "2b")
	h.must("up", "deployment", "update", "--dir", "d")
	if got := h.get("d"); got != "2b hello # there" {
		t.Errorf("after the tag moved it says %q", got)
	}

	// One that is ill is no success, and says so.
	h.edit("up/compose/docker-compose-web.yml", h.tag+"/web:2", h.tag+"/web:3")
	h.commit("Three")
	ill := h.homelab(nil, "deployment", "restart", "--dir", "d", "--timeout", "60s")
	if ill.code != 1 || ill.result.Verdict != "failed" || !strings.Contains(ill.result.Reason, "web") {
		t.Errorf("an ill service ended with %d, %s: %s\n%s", ill.code, ill.result.Verdict, ill.result.Reason, ill.err)
	}
	if st := h.homelab(nil, "deployment", "status", "--dir", "d"); st.code == 0 {
		t.Errorf("status of an ill service: %s", st.out)
	}
	h.run("up", "git", "revert", "--no-edit", "HEAD")
	h.must("up", "deployment", "restart", "--dir", "d")

	// Down, and up with the data in place.
	h.file("d/data/data/precious", "what users own\n")
	had := h.volumes(project)
	h.must("stopped", "deployment", "stop", "--dir", "d")
	if got := h.volumes(project); got != had || had == "" {
		t.Errorf("volumes were %q and are %q", had, got)
	}
	h.must("up", "deployment", "start", "--dir", "d")
	if out, _ := h.text("deployment", "exec", "--dir", "d", "web", "--", "/app", "cat", "/data/precious"); out != "what users own\n" {
		t.Errorf("the data says %q", out)
	}
	kept := h.volumes(other)
	h.must("stopped", "deployment", "stop", "--dir", "d", "--delete-volumes")
	if got := h.volumes(project); got != "" {
		t.Errorf("volumes %q are left", got)
	}
	if got := h.volumes(other); got != kept || kept == "" {
		t.Errorf("the sibling's volumes were %q and are %q", kept, got)
	}
	if got := h.get("sibling"); got != "1 hello # there" {
		t.Errorf("the sibling says %q", got)
	}
	if b, err := os.ReadFile(h.path("d/data/data/precious")); err != nil || string(b) != "what users own\n" {
		t.Errorf("data on the host: %q, %v", b, err)
	}
	h.must("stopped", "deployment", "stop", "--dir", "sibling", "--delete-volumes")
}

// Killed at any moment, the next run ends as an undisturbed one.
func TestKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.image("web:1", "1")
	h.image("web:2", "2")
	h.stand()
	project := h.deploy("d")
	h.file("d/data/data/precious", "what users own\n")
	for i, after := range []time.Duration{50, 200, 400, 800, 1500, 2500} {
		t.Run((after * time.Millisecond).String(), func(t *testing.T) {
			kill := func(p *os.Process) {
				time.Sleep(after * time.Millisecond)
				_ = p.Kill()
			}
			h.homelab(kill, "deployment", "start", "--dir", "d")
			h.must("up", "deployment", "start", "--dir", "d")
			from, to := 1+i%2, 2-i%2
			h.edit("up/compose/docker-compose-web.yml", fmt.Sprintf("%s/web:%d", h.tag, from), fmt.Sprintf("%s/web:%d", h.tag, to))
			h.commit(fmt.Sprint("To ", to))
			h.homelab(kill, "deployment", "restart", "--dir", "d")
			h.must("up", "deployment", "restart", "--dir", "d")
			if got := h.get("d"); got != fmt.Sprint(to, " hello # there") {
				t.Errorf("it says %q", got)
			}
			h.homelab(kill, "deployment", "stop", "--dir", "d")
			h.must("stopped", "deployment", "stop", "--dir", "d")
			if left := h.container(project, "web") + h.container(project, "prepare"); left != "" {
				t.Errorf("containers %s are left", left)
			}
			if h.volumes(project) == "" {
				t.Error("the volume is gone")
			}
			if b, err := os.ReadFile(h.path("d/data/data/precious")); err != nil || string(b) != "what users own\n" {
				t.Errorf("data on the host: %q, %v", b, err)
			}
		})
	}
}

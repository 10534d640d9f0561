// Package dockersim plays the program docker as far as kind and homelab call
// it: nodes of kind clusters with their mounts, local images and those in a
// node, and a cluster's making and unmaking. What a node's API server is, a
// test says: the kubeconfig in its admin.conf. The state is a directory, so
// that every call is a process of its own, as with the real one.
package dockersim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// EnvDir names the variable with the state's directory.
const EnvDir = "DOCKERSIM"

// A Node is one container of a kind cluster.
type Node struct {
	Name, Cluster, Role string
	Running             bool
	Mounts              []Mount
	Ports               []string
	Images              map[string]string // reference to id
}

// A Mount is a bind mount.
type Mount struct{ Source, Destination string }

// Engine is the state as tests see it.
type Engine struct{ Dir string }

// state is what the file of an Engine holds.
type state struct {
	Nodes  []Node
	Images map[string]string // of this machine
	Broken string            // what every call says; "" for none
	Blind  bool              // containers cannot be inspected
	Refuse []string          // words of commands that fail in a node: kubeadm
	Kube   string            // the API server's kubeconfig
}

// New makes a directory with an empty engine, and in its bin a docker that is
// the program, called as dockersim.
func New(dir, program string) (*Engine, error) {
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return nil, err
	}
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' \"$@\"\n", EnvDir, dir, program)
	if err := os.WriteFile(filepath.Join(dir, "bin", "docker"), []byte(script), 0o755); err != nil {
		return nil, err
	}
	e := &Engine{dir}
	return e, e.change(func(*state) {})
}

// Bin is the directory to put first into PATH.
func (e *Engine) Bin() string { return filepath.Join(e.Dir, "bin") }

// Cluster makes a cluster of one node.
func (e *Engine) Cluster(name string, running bool, mounts ...Mount) error {
	return e.change(func(s *state) {
		s.Nodes = append(s.Nodes, Node{
			Name: name + "-control-plane", Cluster: name, Role: "control-plane", Running: running, Mounts: mounts, Images: map[string]string{},
		})
	})
}

// Delete takes a cluster away.
func (e *Engine) Delete(cluster string) error {
	return e.change(func(s *state) {
		s.Nodes = slices.DeleteFunc(s.Nodes, func(n Node) bool { return n.Cluster == cluster })
	})
}

// Image gives this machine an image.
func (e *Engine) Image(ref, id string) error {
	return e.change(func(s *state) { s.Images[ref] = id })
}

// Kube says which API server the nodes have, by the text of a kubeconfig.
func (e *Engine) Kube(config string) error { return e.change(func(s *state) { s.Kube = config }) }

// Break makes every call fail with the text; "" ends that.
func (e *Engine) Break(text string) error { return e.change(func(s *state) { s.Broken = text }) }

// Blind says whether containers can be inspected.
func (e *Engine) Blind(yes bool) error { return e.change(func(s *state) { s.Blind = yes }) }

// Refuse makes commands fail in nodes that begin with one of the words.
func (e *Engine) Refuse(words ...string) error {
	return e.change(func(s *state) { s.Refuse = words })
}

// Nodes are the nodes there are.
func (e *Engine) Nodes() ([]Node, error) {
	var out []Node
	err := e.change(func(s *state) { out = s.Nodes })
	return out, err
}

// Calls are the command lines so far, without the program.
func (e *Engine) Calls() ([]string, error) {
	b, err := os.ReadFile(filepath.Join(e.Dir, "calls"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"), err
}

// change reads the state, and writes what f makes of it, alone.
func (e *Engine) change(f func(*state)) error {
	l, err := os.OpenFile(filepath.Join(e.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	path := filepath.Join(e.Dir, "state.json")
	var s state
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.Images == nil {
		s.Images = map[string]string{}
	}
	f(&s)
	now, err := json.MarshalIndent(s, "", " ")
	if err != nil || bytes.Equal(now, b) {
		return err
	}
	// Whoever called may kill this process at any moment.
	if err := os.WriteFile(path+".new", now, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Main is the program docker.
func Main() {
	os.Exit(run(&Engine{os.Getenv(EnvDir)}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(e *Engine, args []string, in io.Reader, out, story io.Writer) int {
	if f, err := os.OpenFile(filepath.Join(e.Dir, "calls"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		_, _ = f.WriteString(strings.ReplaceAll(strings.Join(args, " "), "\n", " ") + "\n")
		_ = f.Close()
	}
	code := 0
	fail := func(format string, a ...any) {
		fmt.Fprintf(story, format+"\n", a...)
		code = 1
	}
	input := []byte{}
	if slices.Contains(args, "-i") {
		input, _ = io.ReadAll(in)
	}
	err := e.change(func(s *state) {
		if s.Broken != "" {
			fail("%s", s.Broken)
			return
		}
		c := call{s: s, args: args, in: input, out: out, fail: fail}
		c.do()
	})
	if err != nil {
		fail("dockersim: %v", err)
	}
	return code
}

// call is one command line.
type call struct {
	s    *state
	args []string
	in   []byte
	out  io.Writer
	fail func(format string, a ...any)
}

func (c *call) say(format string, a ...any) { fmt.Fprintf(c.out, format+"\n", a...) }

// after is the argument that follows flag, or is joined to it.
func (c *call) after(flag string) string {
	for i, a := range c.args {
		if a == flag && i+1 < len(c.args) {
			return c.args[i+1]
		}
		if v, ok := strings.CutPrefix(a, flag+"="); ok {
			return v
		}
	}
	return ""
}

func (c *call) all(flag string) []string {
	var out []string
	for i, a := range c.args {
		if a == flag && i+1 < len(c.args) {
			out = append(out, c.args[i+1])
		} else if v, ok := strings.CutPrefix(a, flag+"="); ok {
			out = append(out, v)
		}
	}
	return out
}

func (c *call) node(name string) *Node {
	for i := range c.s.Nodes {
		if c.s.Nodes[i].Name == name {
			return &c.s.Nodes[i]
		}
	}
	return nil
}

func (c *call) do() {
	line := strings.Join(c.args, " ")
	switch {
	case line == "-v":
		c.say("Docker version 28.0.0, build simulated")
	case c.args[0] == "info":
		c.info(line)
	case c.args[0] == "ps":
		c.ps()
	case c.args[0] == "network":
		c.network(line)
	case strings.HasPrefix(line, "image inspect") || strings.HasPrefix(line, "inspect --type=image"):
		c.image()
	case c.args[0] == "inspect":
		c.inspect(line)
	case c.args[0] == "save":
		if err := os.WriteFile(c.after("-o"), []byte("archive of "+c.args[len(c.args)-1]), 0o600); err != nil {
			c.fail("%v", err)
		}
	case c.args[0] == "run":
		c.run()
	case c.args[0] == "logs":
		c.say("Reached target Multi-User System.")
	case c.args[0] == "exec":
		c.exec()
	case c.args[0] == "rm":
		c.s.Nodes = slices.DeleteFunc(c.s.Nodes, func(n Node) bool { return slices.Contains(c.args, n.Name) })
	default:
		c.fail("dockersim plays no %q", line)
	}
}

func (c *call) info(line string) {
	switch {
	case strings.Contains(line, "SecurityOptions"):
		c.say("'[]'")
	case strings.Contains(line, "DriverStatus"):
		c.say("[]")
	case strings.Contains(line, ".Driver"):
		c.say("overlay2")
	default:
		c.say(`{"CgroupDriver":"systemd","CgroupVersion":"2","MemoryLimit":true,"PidsLimit":true,"CPUShares":true,"SecurityOptions":[]}`)
	}
}

func (c *call) ps() {
	_, cluster, one := strings.Cut(c.after("--filter"), "io.x-k8s.kind.cluster=")
	for _, n := range c.s.Nodes {
		switch {
		case one && n.Cluster == cluster:
			c.say("%s", n.Name)
		case !one:
			c.say("%s", n.Cluster)
		}
	}
}

func (c *call) network(line string) {
	switch {
	case strings.HasPrefix(line, "network ls") && strings.Contains(line, ".Name"):
		c.say("kind")
	case strings.HasPrefix(line, "network ls"):
		c.say("0123456789ab")
	case strings.Contains(line, "IPAM"):
		c.say("172.18.0.0/16 ")
	case strings.Contains(line, "mtu"):
		c.say("1500")
	}
}

func (c *call) image() {
	ref := c.args[len(c.args)-1]
	id, ok := c.s.Images[ref]
	switch {
	case strings.HasPrefix(ref, "kindest/"):
		c.say("sha256:node")
	case !ok:
		c.fail("Error response from daemon: No such image: %s", ref)
	default:
		c.say("%s", id)
	}
}

// portFormat is how kind asks where a node's API server is.
var portFormat = regexp.MustCompile(`NetworkSettings.Ports`)

// serverLine finds the API server in a kubeconfig, JSON or YAML.
var serverLine = regexp.MustCompile(`server"?:\s*"?(https?://[^\s",}]+)`)

func (c *call) inspect(line string) {
	switch {
	case c.s.Blind:
		c.fail("Error response from daemon: containers cannot be inspected")
	case strings.Contains(line, "desktop.docker.io"):
		c.say("")
	case portFormat.MatchString(line):
		m := serverLine.FindStringSubmatch(c.s.Kube)
		if m == nil {
			c.fail("the nodes have no API server")
			return
		}
		u, err := url.Parse(m[1])
		if err != nil {
			c.fail("%v", err)
			return
		}
		c.say("%s\t%s", u.Hostname(), u.Port())
	case strings.Contains(line, "NetworkSettings.Networks"):
		c.say("172.18.0.2,fc00::2")
	case strings.Contains(line, "kind.role"):
		if n := c.node(c.args[len(c.args)-1]); n != nil {
			c.say("%s", n.Role)
		}
	default:
		list := []any{}
		for _, name := range c.args[1:] {
			n := c.node(name)
			if n == nil {
				continue
			}
			mounts := []any{map[string]any{"Type": "volume", "Source": "/var/lib/docker/volumes/x/_data", "Destination": "/var"}}
			for _, m := range n.Mounts {
				mounts = append(mounts, map[string]any{"Type": "bind", "Source": m.Source, "Destination": m.Destination, "Propagation": "rslave"})
			}
			list = append(list, map[string]any{
				"Name": "/" + n.Name, "State": map[string]any{"Running": n.Running},
				"Config": map[string]any{"Labels": map[string]any{"io.x-k8s.kind.role": n.Role, "io.x-k8s.kind.cluster": n.Cluster}}, "Mounts": mounts,
			})
		}
		b, err := json.Marshal(list)
		if err != nil {
			c.fail("%v", err)
		}
		c.say("%s", b)
	}
}

// run starts a node.
func (c *call) run() {
	n := Node{Name: c.after("--name"), Running: true, Images: map[string]string{}}
	for _, l := range c.all("--label") {
		key, value, _ := strings.Cut(l, "=")
		switch key {
		case "io.x-k8s.kind.cluster":
			n.Cluster = value
		case "io.x-k8s.kind.role":
			n.Role = value
		}
	}
	for _, v := range c.all("--volume") {
		if p := strings.Split(v, ":"); len(p) > 1 && strings.HasPrefix(p[0], "/") && !strings.HasPrefix(p[1], "/lib/modules") {
			n.Mounts = append(n.Mounts, Mount{p[0], p[1]})
		}
	}
	n.Ports = c.all("--publish")
	c.s.Nodes = append(c.s.Nodes, n)
}

// exec runs a command in a node.
func (c *call) exec() {
	rest := c.args[1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		if rest[0] == "-e" {
			rest = rest[1:]
		}
		rest = rest[1:]
	}
	if len(rest) < 2 {
		c.fail("exec what?")
		return
	}
	n := c.node(rest[0])
	line := strings.Join(rest[1:], " ")
	switch {
	case n == nil || !n.Running:
		c.fail("Error response from daemon: container %s is not running", rest[0])
	case slices.ContainsFunc(c.s.Refuse, func(w string) bool { return strings.HasPrefix(line, w) }):
		c.fail("%s: refused", line)
	case line == "cat /kind/version":
		c.say("v1.35.0")
	case line == "cat /etc/kubernetes/admin.conf":
		c.say("%s", c.s.Kube)
	case line == "containerd config dump":
		c.say("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"overlayfs\"")
	case strings.HasPrefix(line, "cat "):
		c.say("{}")
	case strings.HasPrefix(line, "crictl inspecti "):
		ref := rest[len(rest)-1]
		if n.Images[ref] == "" {
			c.fail("no such image %q present", ref)
			return
		}
		c.say(`{"status":{"id":%q}}`, n.Images[ref])
	case strings.Contains(line, "images import"):
		ref, ok := strings.CutPrefix(string(c.in), "archive of ")
		if !ok {
			c.fail("no archive")
			return
		}
		n.Images[ref] = c.s.Images[ref]
	case strings.Contains(line, "get nodes"):
		c.say("'True'")
	}
}

// Package composesim plays the program docker as far as deployments to compose
// call it: projects with their containers and volumes, images that are here or
// in a registry that asks for a login. The state is a directory, named by
// EnvDir, so that every call is a process of its own, as with the real one.
//
// A label "sim.exit" lets a service's containers end with that code,
// "sim.health" gives them that health. Files in the directory steer the rest:
// "broken" is what every call fails with, "up-fails" what every up, "images" lists REF ID, "registry"
// lists REF ID that can be pulled with a login; "digests" lists ID REPOSITORY@DIGEST; "calls" has the command lines,
// and what they saw of variables that they should not; "files" has what the
// containers have, below the service's name, where exec runs the real thing;
// "pushed" lists what was pushed, unless there is a "push-denied".
package composesim

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"homelab/internal/shellsim"
)

// EnvDir names the variable with the state's directory.
const EnvDir = "COMPOSESIM"

type container struct {
	ID, Project, Service, Image, ImageID, Hash, WorkDir, State, Health string
	Exit                                                               int
	Started                                                            time.Time
	Ports                                                              []map[string]any
}

type state struct {
	N          int
	Containers []container
	Volumes    map[string]map[string]string // name -> driver options
	Projects   map[string]string            // volume -> project
}

type sim struct {
	dir    string
	images map[string]string
	state
}

// Main is the program docker.
func Main() {
	s := &sim{dir: os.Getenv(EnvDir)}
	code := s.run(os.Args[1:])
	os.Exit(code)
}

func (s *sim) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sim) list(name string) map[string]string {
	raw, _ := os.ReadFile(s.path(name))
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 2 {
			out[f[0]] = f[1]
		}
	}
	return out
}

func (s *sim) run(args []string) int {
	f, err := os.OpenFile(s.path("calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = fmt.Fprintln(f, strings.Join(args, " "))
		if v, set := os.LookupEnv("NO_PROXY"); set {
			_, _ = fmt.Fprintln(f, "  sees NO_PROXY="+v, "for", args[len(args)-1])
		}
		if strings.Contains(strings.Join(os.Environ(), " "), "canary") {
			_, _ = fmt.Fprintln(f, "  sees a canary")
		}
		_ = f.Close()
	}
	if text, err := os.ReadFile(s.path("broken")); err == nil {
		return fail("%s", strings.TrimSpace(string(text)))
	}
	raw, err := os.ReadFile(s.path("state.json"))
	if err == nil {
		err = json.Unmarshal(raw, &s.state)
	}
	if err != nil && !os.IsNotExist(err) {
		return fail("%v", err)
	}
	if s.Volumes == nil {
		s.Volumes, s.Projects = map[string]map[string]string{}, map[string]string{}
	}
	s.images = s.list("images")
	code := s.call(args)
	raw, _ = json.Marshal(s.state)
	if err := os.WriteFile(s.path("state.json"), raw, 0o600); err != nil {
		return fail("%v", err)
	}
	return code
}

func fail(format string, args ...any) int {
	_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
	return 1
}

func show(v any) {
	raw, _ := json.Marshal(v)
	_, _ = fmt.Println(string(raw))
}

func (s *sim) call(args []string) int {
	switch strings.Join(args[:min(2, len(args))], " ") {
	case "image inspect":
		if slices.Contains(args, "{{json .RepoDigests}}") {
			return s.digests(args[len(args)-1])
		}
		id, ok := s.images[args[len(args)-1]]
		if !ok {
			return fail("Error: No such image: %s", args[len(args)-1])
		}
		_, _ = fmt.Println(id)
		return 0
	case "image tag":
		s.images[args[3]] = s.images[args[2]]
		return s.add("images", args[3])
	case "image push":
		ref := args[len(args)-1]
		if s.has(s.path("push-denied")) {
			return fail("denied: requested access to the resource is denied")
		}
		return s.add("pushed", ref)
	case "volume inspect":
		opts, ok := s.Volumes[args[2]]
		if !ok {
			return fail("Error response from daemon: get %s: no such volume", args[2])
		}
		show([]any{map[string]any{"Name": args[2], "Driver": "local", "Options": opts}})
		return 0
	case "volume ls":
		for name, p := range s.Projects {
			if strings.HasSuffix(args[3], "="+p) {
				_, _ = fmt.Println(name)
			}
		}
		return 0
	case "volume rm":
		delete(s.Volumes, args[2])
		delete(s.Projects, args[2])
		return 0
	}
	switch args[0] {
	case "inspect":
		return s.inspect(args[3:])
	case "exec":
		if files := s.path("files"); slices.Contains(args, "sh") && s.has(files) {
			at := slices.Index(args, "sh")
			i := slices.IndexFunc(s.Containers, func(c container) bool { return c.ID == args[at-1] })
			if i < 0 {
				return fail("Error response from daemon: No such container: %s", args[at-1])
			}
			return shellsim.Run(filepath.Join(files, s.Containers[i].Service), args[at:], os.Stdin, os.Stdout, os.Stderr)
		}
		_, _ = fmt.Println("ran", strings.Join(args[1:], " "))
		if slices.Contains(args, "seven") {
			return 7
		}
		return 0
	case "compose":
		return s.compose(args[1:])
	}
	return fail("docker: unknown command: docker %s", args[0])
}

// add adds an image to a list.
func (s *sim) add(list, ref string) int {
	f, err := os.OpenFile(s.path(list), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fail("%v", err)
	}
	defer f.Close()
	_, _ = fmt.Fprintln(f, ref, s.images[ref])
	return 0
}

// digests are those of an image, which the reference that pinned it tells, or
// the file "digests", which lists ID REPOSITORY@DIGEST.
func (s *sim) digests(image string) int {
	out := []string{}
	for ref, id := range s.images {
		base, digest, pinned := strings.Cut(ref, "@")
		if id != image && ref != image || !pinned {
			continue
		}
		if i := strings.LastIndex(base, ":"); i > strings.LastIndex(base, "/") {
			base = base[:i]
		}
		out = append(out, base+"@"+digest)
	}
	if named := s.list("digests")[image]; named != "" {
		out = append(out, named)
	}
	slices.Sort(out)
	show(slices.Compact(out))
	return 0
}

func (s *sim) has(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (s *sim) inspect(ids []string) int {
	out := []any{}
	for _, c := range s.Containers {
		if !slices.Contains(ids, c.ID) {
			continue
		}
		st := map[string]any{"Status": c.State, "ExitCode": c.Exit, "StartedAt": c.Started}
		if c.Health != "" {
			st["Health"] = map[string]any{"Status": c.Health}
		}
		out = append(out, map[string]any{
			"Id": c.ID, "Name": "/" + c.Project + "-" + c.Service + "-1", "Image": c.ImageID, "State": st, "RestartCount": 0,
			"Config": map[string]any{"Image": c.Image, "Labels": map[string]string{
				"com.docker.compose.service": c.Service, "com.docker.compose.config-hash": c.Hash,
				"com.docker.compose.project.working_dir": c.WorkDir, "com.docker.compose.oneoff": "False",
			}},
		})
	}
	show(out)
	return 0
}

// order is a parsed command line of compose.
type order struct {
	files, env    []string
	project, dir  string
	verb          string
	flags, others []string
}

func parse(args []string) order {
	var o order
	for i := 0; i < len(args); i++ {
		value := func() string { i++; return args[i] }
		switch a := args[i]; {
		case a == "-f" && o.verb == "":
			o.files = append(o.files, value())
		case a == "-p":
			o.project = value()
		case a == "--project-directory":
			o.dir = value()
		case a == "--env-file":
			o.env = append(o.env, value())
		case slices.Contains([]string{"--ansi", "--format", "--tail", "--since", "--wait-timeout", "--pull", "--hash"}, a):
			o.flags = append(o.flags, a, value())
		case strings.HasPrefix(a, "-"):
			o.flags = append(o.flags, a)
		case o.verb == "":
			o.verb = a
		default:
			o.others = append(o.others, a)
		}
	}
	return o
}

func (o order) has(flag string) bool { return slices.Contains(o.flags, flag) }

func (o order) load() (*types.Project, error) {
	env, err := dotenv.GetEnvFromFile(map[string]string{}, o.env)
	if err != nil {
		return nil, err
	}
	d := types.ConfigDetails{WorkingDir: o.dir, Environment: env}
	for _, f := range o.files {
		d.ConfigFiles = append(d.ConfigFiles, types.ConfigFile{Filename: f})
	}
	return loader.LoadWithContext(context.Background(), d, func(l *loader.Options) { l.SetProjectName(o.project, true) })
}

func hash(s types.ServiceConfig) string {
	s.DependsOn = nil
	raw, _ := json.Marshal(s)
	return fmt.Sprintf("%x", sha256.Sum256(raw))
}

func (s *sim) compose(args []string) int {
	o := parse(args)
	switch o.verb {
	case "ps":
		for _, c := range s.Containers {
			if c.Project == o.project {
				show(map[string]any{"ID": c.ID, "Service": c.Service, "Publishers": c.Ports})
			}
		}
		return 0
	case "down":
		s.Containers = slices.DeleteFunc(s.Containers, func(c container) bool { return c.Project == o.project })
		for v, p := range s.Projects {
			if o.has("--volumes") && p == o.project {
				delete(s.Volumes, v)
				delete(s.Projects, v)
			}
		}
		return 0
	case "logs":
		for _, c := range s.Containers {
			if c.Project == o.project && (len(o.others) == 0 || slices.Contains(o.others, c.Service)) {
				if !o.has("--no-log-prefix") {
					_, _ = fmt.Printf("%s-1  | %s ", c.Service, c.Started.Format(time.RFC3339Nano))
				}
				_, _ = fmt.Println("hello of " + c.Service)
			}
		}
		return 0
	}
	p, err := o.load()
	if err != nil {
		return fail("%v", err)
	}
	switch o.verb {
	case "config":
		for _, name := range p.ServiceNames() {
			_, _ = fmt.Println(name, hash(p.Services[name]))
		}
		return 0
	case "up":
		return s.up(o, p)
	}
	return fail("unknown compose command %q", o.verb)
}

// pull brings an image here, if the registry has it and is shown a login.
func (s *sim) pull(ref string) error {
	if _, here := s.images[ref]; here {
		return nil
	}
	id, there := s.list("registry")[ref]
	host, _, _ := strings.Cut(ref, "/")
	var config struct {
		Auths map[string]struct{ Auth string }
	}
	raw, err := os.ReadFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"))
	if err == nil {
		err = json.Unmarshal(raw, &config)
	}
	if err != nil || !there || config.Auths[host].Auth == "" {
		return fmt.Errorf("Error response from daemon: pull access denied for %s, repository does not exist or may require 'docker login'", ref) //nolint:staticcheck // docker's own words
	}
	s.images[ref] = id
	f, err := os.OpenFile(s.path("images"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, ref, id)
	return err
}

func (s *sim) up(o order, p *types.Project) int {
	if text, err := os.ReadFile(s.path("up-fails")); err == nil {
		return fail("%s", strings.TrimSpace(string(text)))
	}
	for _, c := range p.Services {
		if err := s.pull(c.Image); err != nil {
			return fail("%v", err)
		}
	}
	for _, v := range p.Volumes {
		if _, there := s.Volumes[v.Name]; !there {
			s.Volumes[v.Name], s.Projects[v.Name] = v.DriverOpts, o.project
		}
	}
	if o.has("--remove-orphans") {
		s.Containers = slices.DeleteFunc(s.Containers, func(c container) bool {
			_, is := p.Services[c.Service]
			return c.Project == o.project && !is
		})
	}
	code := 0
	for _, name := range p.ServiceNames() {
		if len(o.others) > 0 && !slices.Contains(o.others, name) {
			continue
		}
		cfg := p.Services[name]
		i := slices.IndexFunc(s.Containers, func(c container) bool { return c.Project == o.project && c.Service == name })
		if i >= 0 && (o.has("--force-recreate") || s.Containers[i].Hash != hash(cfg) || s.Containers[i].ImageID != s.images[cfg.Image]) {
			s.Containers = slices.Delete(s.Containers, i, i+1)
			i = -1
		}
		if i < 0 {
			s.N++
			i = len(s.Containers)
			c := container{
				ID: fmt.Sprintf("%064d", s.N), Project: o.project, Service: name, Image: cfg.Image, ImageID: s.images[cfg.Image],
				Hash: hash(cfg), WorkDir: o.dir,
			}
			for _, port := range cfg.Ports {
				c.Ports = append(c.Ports, map[string]any{"URL": port.HostIP, "TargetPort": port.Target, "PublishedPort": 32000 + s.N, "Protocol": port.Protocol})
			}
			s.Containers = append(s.Containers, c)
		}
		c := &s.Containers[i]
		c.State, c.Health, c.Exit, c.Started = "running", cfg.Labels["sim.health"], 0, time.Now().Add(-time.Minute).UTC()
		if x := cfg.Labels["sim.exit"]; x != "" {
			c.State = "exited"
			_, _ = fmt.Sscan(x, &c.Exit)
			code = 1
		}
		if c.Health == "unhealthy" {
			code = 1
		}
	}
	if o.has("--wait") && code != 0 {
		return fail("container failed")
	}
	return 0
}

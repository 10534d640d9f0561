package compose

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// Engine is the container engine of this machine, behind docker's command
// line. Its errors are *fault.Error: Unreachable when the engine or its
// compose plugin does not answer, Denied when a registry refuses, else Failed.
type Engine struct {
	Env []string // their whole environment, before Environment
	Log func(format string, args ...any)
}

const (
	askTimeout = 30 * time.Second
	// endGrace is what a command gets to tidy up when its time is over: docker
	// leaves containers half made otherwise.
	endGrace = 700 * time.Millisecond
)

// Port is a published port.
type Port struct {
	Host      string `json:"URL"`
	Published int    `json:"PublishedPort"`
	Target    int    `json:"TargetPort"`
	Protocol  string `json:"Protocol"`
}

// Container is one container of a project.
type Container struct {
	ID, Name, Service string
	State             string // "created", "running", "restarting", "exited", "dead", "paused", "removing"
	Health            string // "starting", "healthy", "unhealthy"; "" without a health check
	ExitCode          int
	Restarts          int
	Error             string // why it could not be started
	Started           time.Time
	Image             string // the reference it was made of
	ImageID           string // what it runs
	Hash              string // of its service's configuration
	WorkDir           string // the directory its project was brought up from
	Ports             []Port
}

// Volume of the engine.
type engineVolume struct {
	Name    string
	Driver  string
	Options map[string]string
}

// Containers returns the containers of a project, stopped ones too, by name.
func (e *Engine) Containers(ctx context.Context, project string) ([]Container, error) {
	const what = "the containers of this deployment cannot be listed"
	raw, err := e.ask(ctx, what, append(bare(project), "ps", "--all", "--no-trunc", "--format", "json")...)
	if err != nil {
		return nil, err
	}
	list, err := parsePS(raw)
	if err != nil {
		return nil, e.fail(what, err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	args := []string{"inspect", "--type", "container"}
	for _, c := range list {
		args = append(args, c.ID)
	}
	raw, err = e.ask(ctx, what, args...)
	if err != nil {
		return nil, err
	}
	out, err := parseInspect(raw, list)
	if err != nil {
		return nil, e.fail(what, err)
	}
	return out, nil
}

// listed is a line of "docker compose ps --format json".
type listed struct {
	ID         string
	Name       string
	Service    string
	Publishers []Port
}

// parsePS reads one object per line, or a list of them as older releases print.
func parsePS(raw []byte) ([]listed, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, nil
	}
	var out []listed
	if raw[0] == '[' {
		err := json.Unmarshal(raw, &out)
		return out, err
	}
	for d := json.NewDecoder(bytes.NewReader(raw)); ; {
		var c listed
		err := d.Decode(&c)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("docker compose ps: %w", err)
		}
		out = append(out, c)
	}
}

// parseInspect reads what "docker inspect" says of listed containers. Those of
// "docker compose run" are left out.
func parseInspect(raw []byte, list []listed) ([]Container, error) {
	var all []struct {
		ID     string `json:"Id"`
		Name   string
		Image  string
		Config struct {
			Image  string
			Labels map[string]string
		}
		RestartCount int
		State        struct {
			Status    string
			ExitCode  int
			Error     string
			StartedAt time.Time
			Health    *struct{ Status string }
		}
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("docker inspect: %w", err)
	}
	var out []Container
	for _, x := range all {
		l := x.Config.Labels
		if strings.EqualFold(l["com.docker.compose.oneoff"], "true") {
			continue
		}
		c := Container{
			ID: x.ID, Name: strings.TrimPrefix(x.Name, "/"), Service: l["com.docker.compose.service"], State: x.State.Status,
			ExitCode: x.State.ExitCode, Restarts: x.RestartCount, Error: x.State.Error, Started: x.State.StartedAt,
			Image: x.Config.Image, ImageID: x.Image, Hash: l["com.docker.compose.config-hash"], WorkDir: l["com.docker.compose.project.working_dir"],
		}
		if h := x.State.Health; h != nil && h.Status != "none" {
			c.Health = h.Status
		}
		for _, p := range list {
			if strings.HasPrefix(x.ID, p.ID) {
				c.Ports = slices.DeleteFunc(p.Publishers, func(p Port) bool { return p.Published == 0 })
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Hashes returns what each service's configuration comes to, as the label of
// its containers has it. No engine is asked.
func (e *Engine) Hashes(ctx context.Context, c Call) (map[string]string, error) {
	const what = "docker compose cannot read this deployment"
	out := map[string]string{}
	if len(c.Project.Services) == 0 {
		return out, nil
	}
	raw, err := e.run(ctx, askTimeout, c, nil, append(c.base(), "config", "--hash", "*")...)
	if err != nil {
		f := e.fail(what, err)
		if f.Kind == fault.Failed {
			f.Kind = fault.Usage
		}
		return nil, f
	}
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		if name, hash, ok := strings.Cut(strings.TrimSpace(s.Text()), " "); ok {
			out[name] = hash
		}
	}
	return out, nil
}

// ImageID returns the id of an image of this machine; "" when there is none.
func (e *Engine) ImageID(ctx context.Context, ref string) (string, error) {
	raw, err := e.run(ctx, askTimeout, Call{}, nil, "image", "inspect", "-f", "{{.Id}}", ref)
	if absent(err) {
		return "", nil
	}
	if err != nil {
		return "", e.fail("the images of this machine cannot be inspected", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// Digests returns the names by which registries know an image of this machine,
// REPOSITORY@sha256:HEX each; none for one that was built or loaded here, or is
// not there.
func (e *Engine) Digests(ctx context.Context, image string) ([]string, error) {
	raw, err := e.run(ctx, askTimeout, Call{}, nil, "image", "inspect", "-f", "{{json .RepoDigests}}", image)
	if absent(err) {
		return nil, nil
	}
	var out []string
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		return nil, e.fail("the images of this machine cannot be inspected", err)
	}
	return out, nil
}

// Device returns where a volume of the engine has its data on this host, ""
// when the engine keeps it; false when there is no such volume.
func (e *Engine) Device(ctx context.Context, volume string) (string, bool, error) {
	raw, err := e.run(ctx, askTimeout, Call{}, nil, "volume", "inspect", volume)
	if absent(err) {
		return "", false, nil
	}
	var list []engineVolume
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return "", false, e.fail("the volume "+volume+" cannot be inspected", err)
	}
	if len(list) == 0 {
		return "", false, nil
	}
	return list[0].Options["device"], true, nil
}

// VolumesOf lists the volumes that were made for a project.
func (e *Engine) VolumesOf(ctx context.Context, project string) ([]string, error) {
	raw, err := e.ask(ctx, "the volumes of this deployment cannot be listed", "volume", "ls", "--filter", "label=com.docker.compose.project="+project, "--format", "{{.Name}}")
	if err != nil {
		return nil, err
	}
	out := strings.Fields(string(raw))
	slices.Sort(out)
	return out, nil
}

// RemoveVolume removes a volume of the engine whose data is elsewhere.
func (e *Engine) RemoveVolume(ctx context.Context, volume string) error {
	_, err := e.ask(ctx, "the volume "+volume+" cannot be replaced", "volume", "rm", volume)
	return err
}

// absent tells whether the engine has answered that there is no such thing.
func absent(err error) bool {
	f, ok := errors.AsType[*git.CommandError](err)
	return ok && strings.Contains(strings.ToLower(f.Stderr), "no such")
}

// Up brings a project up. What it says on the way goes to the log.
func (e *Engine) Up(ctx context.Context, c Call, o UpOptions) error {
	_, err := e.run(ctx, 0, c, nil, c.up(o)...)
	if err == nil {
		return nil
	}
	return e.fail("docker compose up failed", err)
}

// Down takes a project down and waits until it is gone.
func (e *Engine) Down(ctx context.Context, c Call, volumes bool) error {
	_, err := e.run(ctx, 0, c, nil, c.down(volumes)...)
	if err == nil {
		return nil
	}
	return e.fail("docker compose down failed", err)
}

// Logs writes log lines to out as they come.
func (e *Engine) Logs(ctx context.Context, c Call, o LogOptions, out io.Writer) error {
	_, err := e.run(ctx, 0, c, &streams{out: out}, c.logs(o)...)
	if err == nil {
		return nil
	}
	return e.fail("the logs cannot be read", err)
}

// Exec runs a command in a container, without a terminal, and returns its exit
// code. The error is about running it, not of it.
func (e *Engine) Exec(ctx context.Context, container string, argv []string, in io.Reader, out, errs io.Writer) (int, error) {
	said := &last{to: errs}
	args := []string{"exec"}
	if in != nil {
		args = append(args, "-i")
	}
	_, err := e.run(ctx, 0, Call{}, &streams{in: in, out: out, errs: said}, append(append(args, container), argv...)...)
	if err == nil {
		return 0, nil
	}
	f, ok := errors.AsType[*git.CommandError](err)
	if !ok || f.ExitCode < 0 {
		return 0, e.fail("the command cannot be run", err)
	}
	f.Stderr = said.text()
	if down(f.Stderr) {
		return 0, e.fail("the command cannot be run", err)
	}
	return f.ExitCode, nil
}

// streams are a command's own.
type streams struct {
	in        io.Reader
	out, errs io.Writer
}

// last passes on what is written and remembers its end.
type last struct {
	to  io.Writer
	buf []byte
}

func (l *last) Write(p []byte) (int, error) {
	const keep = 4 << 10
	l.buf = append(l.buf, p...)
	if extra := len(l.buf) - keep; extra > 0 {
		l.buf = append(l.buf[:0], l.buf[extra:]...)
	}
	return l.to.Write(p)
}

func (l *last) text() string { return string(l.buf) }

// ask runs a short command.
func (e *Engine) ask(ctx context.Context, what string, args ...string) ([]byte, error) {
	out, err := e.run(ctx, askTimeout, Call{}, nil, args...)
	if err != nil {
		return nil, e.fail(what, err)
	}
	return out, nil
}

func (e *Engine) run(ctx context.Context, limit time.Duration, c Call, s *streams, args ...string) ([]byte, error) {
	if limit > 0 {
		bounded, cancel := context.WithTimeoutCause(ctx, limit, errors.New("no answer in "+limit.String()))
		defer cancel()
		ctx = bounded
	}
	set := map[string]bool{}
	if c.Project != nil {
		for _, name := range c.Project.Set {
			set[name] = true
		}
	}
	// A compose file around the working directory is nobody's here.
	env := Environment(e.Env, set)
	if c.Config != "" {
		env = append(env, "DOCKER_CONFIG="+c.Config)
	}
	cmd := git.Command{Dir: "/", Name: "docker", Args: args, Env: env, Grace: endGrace}
	if s != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.errs
	}
	if e.Log != nil {
		e.Log("docker %s", strings.Join(args, " "))
	}
	res, err := git.Run(ctx, cmd)
	if e.Log != nil {
		for line := range strings.Lines(string(res.Stderr)) {
			e.Log("docker: %s", strings.TrimSpace(line))
		}
	}
	return res.Stdout, err
}

// down tells whether docker said that its engine does not answer.
func down(said string) bool {
	said = strings.ToLower(said)
	return slices.ContainsFunc([]string{
		"cannot connect to the docker daemon", "error during connect", "failed to connect to the docker api",
		"permission denied while trying to connect", "no answer from the docker",
	}, func(s string) bool { return strings.Contains(said, s) })
}

// fail sorts what went wrong.
func (e *Engine) fail(what string, err error) *fault.Error {
	if told, ok := errors.AsType[*fault.Error](err); ok {
		return told
	}
	if errors.Is(err, git.ErrNoProgram) {
		return fault.New(fault.Unreachable, what, "docker version").Because("docker is not installed: it is not in PATH").From(err)
	}
	f, ok := errors.AsType[*git.CommandError](err)
	if !ok {
		return fault.New(fault.Unreachable, what, "docker version").Because(err.Error()).From(err)
	}
	said := strings.ToLower(f.Stderr)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(said, w) })
	}
	why := f.Why()
	if why == "" {
		why = fmt.Sprintf("docker ended with %d", f.ExitCode)
	}
	switch {
	case down(said):
		return fault.New(fault.Unreachable, what, "docker version").Because(why).From(err)
	case has("'compose' is not a docker command", "unknown command: docker compose", "unknown shorthand flag: 'p'", "unknown flag: --ansi"):
		return fault.New(fault.Unreachable, what, "docker compose version").Because("docker has no compose plugin: " + why).From(err)
	case has("pull access denied", "unauthorized", "authentication required", "denied: ", "403 forbidden", "no basic auth credentials"):
		if strings.Contains(said, "ghcr.io") {
			why += " (a token for ghcr.io needs the scope read:packages)"
		}
		return fault.New(fault.Denied, what, "").Because(why).From(err)
	}
	return fault.New(fault.Failed, what, "").Because(why).From(err)
}

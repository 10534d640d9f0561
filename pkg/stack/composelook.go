package stack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/stack/compose"
)

// composeList looks for a verb that changes nothing: whose containers they are
// is not judged.
func (r *run) composeList(ctx context.Context) error {
	r.out.Context = composeContext
	if r.compose.project == nil { // its files do not render
		r.compose.project = r.bareProject()
	}
	live, err := r.w.Docker.Containers(ctx, r.compose.project.Name)
	r.compose.live = live
	return err
}

// bareProject is what is known of a directory whose files do not render.
func (r *run) bareProject() *compose.Project {
	p := &compose.Project{Name: r.d.Deployment.ClusterID, Dir: r.d.Path}
	for _, v := range r.d.Spec.Volumes {
		p.Volumes = append(p.Volumes, compose.Volume{Name: v.Name, Object: p.Name + "_" + v.Name})
	}
	return p
}

// composePods are the containers of a deployment, as pods of one container.
func (r *run) composePods() []Pod {
	var out []Pod
	for _, c := range r.compose.live {
		p := Pod{
			Namespace: r.compose.project.Name, Name: c.Name, Component: c.Service, Phase: phase(c), Reason: c.Error,
			Ready: c.State == "running" && (c.Health == "" || c.Health == "healthy"), Started: c.Started, Restarts: c.Restarts,
		}
		one := PodContainer{Name: c.Service, Image: c.Image, State: "waiting", Reason: c.Health, Ready: p.Ready, Restarts: c.Restarts}
		switch c.State {
		case "running":
			one.State = "running"
		case "exited", "dead":
			code := c.ExitCode
			one.State, one.ExitCode = "terminated", &code
		}
		if c.Health == "healthy" {
			one.Reason = ""
		}
		for _, port := range c.Ports {
			one.Ports = append(one.Ports, Port{Number: port.Target, Protocol: strings.ToUpper(port.Protocol), Host: port.Host, Published: port.Published})
		}
		p.Reason = firstText(p.Reason, one.Reason)
		p.Containers = []PodContainer{one}
		out = append(out, p)
	}
	return out
}

func firstText(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// phase is the state of a container in the words for pods.
func phase(c compose.Container) string {
	switch {
	case c.State == "running":
		return "Running"
	case c.State == "exited" && c.ExitCode == 0:
		return "Succeeded"
	case c.State == "exited", c.State == "dead":
		return "Failed"
	}
	return "Pending"
}

// composePs lists the containers of a deployment.
func (r *run) composePs(ctx context.Context) ([]Pod, error) {
	if err := r.composeList(ctx); err != nil {
		return nil, err
	}
	pods := r.composePods()
	ready := 0
	for _, p := range pods {
		if p.Ready {
			ready++
		}
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", fmt.Sprintf("%s, %d running", counted(len(pods), "container"), ready)
	if len(pods) == 0 {
		r.out.Reason = "no containers"
	}
	return pods, nil
}

func counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// composeStatus looks at a deployment once.
func (r *run) composeStatus(ctx context.Context) (*Status, error) {
	st := &Status{}
	if err := r.composeList(ctx); err != nil {
		return st, err
	}
	if len(r.compose.live) == 0 {
		return st, fault.New(fault.Absent, "nothing of "+r.d.Stack.Name+" runs as the compose project "+r.compose.project.Name, "homelab deployment start --dir "+r.o.Dir)
	}
	verdicts, err := r.composeObserve(ctx)
	if err != nil {
		return st, err
	}
	r.composeTargets(ctx, verdicts, 0)
	st.Pods = r.composePods()
	if st.Volumes, err = r.composeViews(ctx); err != nil {
		return st, err
	}
	st.Drift = r.composeDrift(ctx)
	if err := ctx.Err(); err != nil {
		return st, context.Cause(ctx)
	}
	r.composeVerdict()
	if r.out.Kind == fault.OK {
		r.out.Reason = counted(len(r.out.Targets), "service") + " up"
	}
	if r.out.Kind == fault.OK && st.Drift.Verdict == "changes" {
		r.out.Reason += "; the directory says something else by now"
		r.out.Next = "homelab deployment diff --dir " + r.o.Dir
	}
	return st, nil
}

// composeDrift says whether an update would change something.
func (r *run) composeDrift(ctx context.Context) Drift {
	r.plan = r.freshPlan()
	if err := r.composePrepare(ctx); err != nil {
		return Drift{Verdict: "unknown", Reason: strings.TrimSpace(err.Error())}
	}
	if r.composeChanges() == 0 {
		return Drift{Verdict: "same", Reason: "what runs is what the directory says"}
	}
	return Drift{Verdict: "changes", Reason: "an update would change " + Summary(r.plan)}
}

// composeLogs hands on the lines of containers, by time; when it follows, as
// they come.
func (r *run) composeLogs(ctx context.Context, o LogOptions, emit func(LogLine) error) (LogEnd, error) {
	var end LogEnd
	switch {
	case o.Job != "":
		return end, fault.Usagef("", "--job is not supported with deploy-to: compose")
	case o.Previous:
		return end, fault.Usagef("", "--previous is not supported with deploy-to: compose").Because("the engine keeps one log of all runs of a container")
	}
	if err := r.composeList(ctx); err != nil {
		return end, err
	}
	names := map[string]compose.Container{}
	per := map[string]int{}
	for _, c := range r.compose.live {
		if len(o.Services) > 0 && !slices.Contains(o.Services, c.Service) {
			continue
		}
		names[c.Name], names[strings.TrimPrefix(c.Name, r.compose.project.Name+"-")] = c, c
		per[c.Service]++
		end.Pods++
	}
	if end.Pods == 0 {
		return end, fault.New(fault.Absent, "no container of "+r.d.Stack.Name+" is there", "homelab deployment ps --dir "+r.o.Dir)
	}
	var all []LogLine
	w := &lineWriter{line: func(text []byte) error {
		l := parseLine(text, names, r.compose.project.Name)
		l.Several = per[l.Container] > 1
		if o.Follow {
			end.Lines++
			return emit(l)
		}
		all = append(all, l)
		return nil
	}}
	lo := compose.LogOptions{Services: o.Services, Tail: o.Tail, Follow: o.Follow, Times: true}
	if o.Since > 0 {
		lo.Since = strconv.FormatFloat(o.Since.Seconds(), 'f', -1, 64) + "s"
	}
	err := r.w.Docker.Logs(ctx, r.composeCall(), lo, w)
	if err == nil {
		err = w.flush()
	}
	slices.SortStableFunc(all, func(a, b LogLine) int { return a.Time.Compare(b.Time) })
	for _, l := range all {
		end.Lines++
		if err := emit(l); err != nil {
			return end, err
		}
	}
	if ctx.Err() != nil {
		return end, context.Cause(ctx)
	}
	if err != nil {
		return end, err
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", counted(end.Lines, "line")+" printed"
	if end.Lines == 0 {
		r.out.Reason = "no logs available"
	}
	return end, nil
}

// parseLine reads "NAME  | TIME TEXT".
func parseLine(text []byte, names map[string]compose.Container, project string) LogLine {
	name, rest, ok := bytes.Cut(text, []byte("|"))
	if !ok {
		return LogLine{Text: text}
	}
	called := strings.TrimSpace(string(name))
	l := LogLine{Pod: called, Container: called, Text: bytes.TrimPrefix(rest, []byte(" "))}
	if c, known := names[called]; known {
		l.Pod, l.Container = c.Name, c.Service
	} else if i := strings.LastIndexByte(called, '-'); i > 0 { // it came while they were followed
		l.Pod, l.Container = project+"-"+called, called[:i]
	}
	stamp, after, _ := bytes.Cut(l.Text, []byte(" "))
	if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
		l.Time, l.Text = at, after
	}
	return l
}

// lineWriter hands on whole lines.
type lineWriter struct {
	line func([]byte) error
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		one := bytes.Clone(bytes.TrimSuffix(w.rest[:i], []byte("\r")))
		w.rest = w.rest[i+1:]
		if err := w.line(one); err != nil {
			return 0, err
		}
	}
}

func (w *lineWriter) flush() error {
	if len(w.rest) == 0 {
		return nil
	}
	return w.line(w.rest)
}

// composeExec runs a command in a container of a service.
func (r *run) composeExec(ctx context.Context, o ExecOptions) (Exec, error) {
	out := Exec{Container: o.Service}
	if err := r.composeList(ctx); err != nil {
		return out, err
	}
	i := slices.IndexFunc(r.compose.live, func(c compose.Container) bool {
		return c.Service == o.Service && c.State == "running" && (o.Pod == "" || c.Name == o.Pod)
	})
	if i < 0 {
		what := "no container of " + o.Service + " runs"
		if o.Pod != "" {
			what = "the container " + o.Pod + " of " + o.Service + " does not run"
		}
		return out, fault.New(fault.Absent, what, "homelab deployment ps --dir "+r.o.Dir)
	}
	c := r.compose.live[i]
	out.Pod = c.Name
	in := o.Stdin
	if in != nil {
		in = struct{ io.Reader }{in} // the command has no terminal, and must not find one
	}
	code, err := r.w.Docker.Exec(ctx, c.ID, argv(o.Command), in, o.Stdout, o.Stderr)
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if err != nil {
		return out, err
	}
	out.Code = &code
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", "the command in "+c.Name+" returned 0"
	if code != 0 {
		r.out.Kind, r.out.Verdict = fault.Failed, fault.Failed.Name()
		r.out.Reason = fmt.Sprintf("container command returned error exit status %d", code)
	}
	return out, nil
}

// composeVolumeList tells where the data of volumes is.
func (r *run) composeVolumeList(ctx context.Context, all bool) ([]VolumeView, error) {
	if all {
		return nil, fault.Usagef("", "--cluster is not supported with deploy-to: compose").Because("there is no cluster to ask")
	}
	if err := r.composeList(ctx); err != nil {
		return nil, err
	}
	views, err := r.composeViews(ctx)
	if err != nil {
		return nil, err
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", volumeCount(views)
	return views, nil
}

func (r *run) composeViews(ctx context.Context) ([]VolumeView, error) {
	var out []VolumeView
	p := r.compose.project
	known := map[string]bool{}
	for _, v := range p.Volumes {
		view := VolumeView{Volume: v.Name, InSpec: true, Owner: r.d.Path, ID: r.d.Deployment.ID, Path: v.Path}
		for _, s := range r.d.Spec.Volumes {
			if s.Name == v.Name {
				view.Spec = s.Path
			}
		}
		device, there, err := "", false, error(nil)
		if v.Object != "" {
			known[v.Object] = true
			if device, there, err = r.w.Docker.Device(ctx, v.Object); err != nil {
				return nil, err
			}
		}
		view.engine(v.Object, device, there)
		switch {
		case !there:
			view.Place = "nothing is there yet"
			if v.Path != "" {
				view.Place += "; it will be " + v.Path
			}
		case v.Path != "" && filepath.Clean(device) != v.Path || v.Path == "" && device != "":
			view.Differs = "its data is in " + view.Place + ", and the spec says " + firstText(v.Path, "the engine")
		}
		out = append(out, view)
	}
	objects, err := r.w.Docker.VolumesOf(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	for _, name := range objects {
		if known[name] {
			continue
		}
		device, there, err := r.w.Docker.Device(ctx, name)
		if err != nil {
			return nil, err
		}
		view := VolumeView{Volume: strings.TrimPrefix(name, p.Name+"_"), Orphaned: true, Owner: r.d.Path, ID: r.d.Deployment.ID}
		view.engine(name, device, there)
		out = append(out, view)
	}
	return out, nil
}

// engine fills in what the engine says of a volume.
func (v *VolumeView) engine(name, device string, there bool) {
	v.Engine = true
	if there {
		v.Phase = "Bound"
	}
	switch {
	case !there:
	case device != "":
		v.PV, v.Path, v.Place, v.Survives = name, device, device+" on this host", SurvivesCluster
	default:
		v.PV, v.Place, v.Survives = name, "the engine's volume "+name, SurvivesStop
	}
}

// composePort tells where the engine publishes a port of a service.
func (r *run) composePort(ctx context.Context, o PortOptions) ([]Published, error) {
	if err := r.composeList(ctx); err != nil {
		return nil, err
	}
	var out []Published
	for _, c := range r.compose.live {
		for _, p := range c.Ports {
			if c.Service == o.Service && p.Target == o.Port && p.Protocol == o.Protocol {
				out = append(out, Published{Container: c.Name, Host: p.Host, Port: p.Published})
			}
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Absent, o.what()+" is not published", "homelab deployment ps --dir "+r.o.Dir)
	}
	return out, nil
}

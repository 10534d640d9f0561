package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
)

// exchangePause is how long a container gets to have a value before it is asked
// again.
const exchangePause = 2 * time.Second

// mostExchanged is the longest value that is handed over, and the most that is
// kept of what a script says, in bytes.
const mostExchanged = 64 << 10

// place is a container that runs.
type place struct {
	name      string // of its pod, for people
	namespace string
	container string // in a pod; an id for compose
}

// exchange hands values from container to container, as the stack's config
// says, at every start and restart. The one that has a value brings
// /docker-entrypoint-scripts.d/export-VARIABLE.sh, which prints it once it is
// there; the one that takes it brings /scripts/import-VARIABLE.sh, which gets it
// as its argument. A value that is not there yet is waited for until the time is
// up.
func (r *run) exchange(ctx context.Context) error {
	if r.o.DryRun || r.o.Verb != "start" && r.o.Verb != "restart" {
		return nil
	}
	for i, x := range r.d.Stack.Exchange {
		if i == 0 {
			r.w.Tell.Stage("exchange")
		}
		if concerned, err := r.takes(ctx, x); err != nil {
			return err
		} else if !concerned {
			continue
		}
		if err := r.handOne(ctx, x); err != nil {
			return err
		}
		// Never the value itself: it may be a secret.
		r.w.Tell.Line(fmt.Sprintf("%s has %s of %s as %s", x.Container, x.Source, x.From, x.Variable))
	}
	return nil
}

// takes tells whether a start of some services only is about both containers:
// then they run, be it because another one depends on them.
func (r *run) takes(ctx context.Context, x file.Exchange) (bool, error) {
	if len(r.o.Services) == 0 {
		return true, nil
	}
	for _, c := range []string{x.Container, x.From} {
		if all, err := r.places(ctx, directory.ContainerOf(r.d, c)); err != nil || len(all) == 0 {
			return false, err
		}
	}
	return true, nil
}

func (r *run) handOne(ctx context.Context, x file.Exchange) error {
	value, err := r.exported(ctx, x)
	if err != nil {
		return err
	}
	to, err := r.awaitPlaces(ctx, x, x.Container)
	if err != nil {
		return err
	}
	script := "/scripts/import-" + x.Variable + ".sh"
	for _, p := range to {
		// By standard input: arguments stand in logs of clusters and in lists of
		// processes.
		out, code, err := r.script(ctx, p, []string{"sh", "-c", `exec sh "$0" "$(cat)"`, script}, strings.NewReader(value))
		if err != nil {
			return r.exchangeFault(ctx, x, p, err)
		}
		if code != 0 {
			return fault.New(fault.Failed, exchanged(x)+" failed in "+p.name, r.again()).
				Because(fmt.Sprintf("%s ended with %d: %s", script, code, hidden(out.last(), value)))
		}
	}
	return nil
}

// exported waits until a container has a value.
func (r *run) exported(ctx context.Context, x file.Exchange) (string, error) {
	script := "/docker-entrypoint-scripts.d/export-" + x.Source + ".sh"
	waits := false
	for {
		from, err := r.awaitPlaces(ctx, x, x.From)
		if err != nil {
			return "", err
		}
		p := from[0]
		out, code, err := r.script(ctx, p, []string{"sh", script}, nil)
		if err != nil && !passing(err) || ctx.Err() != nil {
			return "", r.exchangeFault(ctx, x, p, err)
		}
		value := strings.TrimRight(out.out.String(), "\r\n")
		why := ""
		switch {
		case err != nil:
			why = err.Error()
		case missing(script, code, out.errs.String()):
			return "", fault.New(fault.Failed, exchanged(x)+" is not possible", r.again()).
				Because(fmt.Sprintf("%s has no %s: %s", p.name, script, lastOf(out.errs.String())))
		case code != 0:
			// What it printed is, or begins, the value.
			why = fmt.Sprintf("%s ended with %d: %s", script, code, hidden(lastOf(out.errs.String()), out.out.String()))
		case out.out.Len() > mostExchanged:
			return "", fault.New(fault.Failed, exchanged(x)+" is not possible", "").
				Because(fmt.Sprintf("%s prints more than %d bytes", script, mostExchanged))
		case strings.TrimSpace(value) == "":
			why = script + " prints nothing"
		default:
			return value, nil
		}
		if !waits {
			r.w.Tell.Line("waiting for " + x.Source + " of " + x.From)
			waits = true
		}
		if err := r.pause(ctx, x, why); err != nil {
			return "", err
		}
	}
}

// awaitPlaces waits until a container of the current revision runs, and returns
// all of them.
func (r *run) awaitPlaces(ctx context.Context, x file.Exchange, service string) ([]place, error) {
	for {
		all, err := r.places(ctx, directory.ContainerOf(r.d, service))
		if err != nil && !passing(err) || ctx.Err() != nil {
			if ctx.Err() != nil {
				return nil, r.late(ctx, x, "no container of "+service+" runs")
			}
			return nil, err
		}
		if len(all) > 0 {
			return all, nil
		}
		if err := r.pause(ctx, x, "no container of "+service+" runs"); err != nil {
			return nil, err
		}
	}
}

// pause waits before a container is asked again; the error says that there is
// no time for it, and what it would have been waited for.
func (r *run) pause(ctx context.Context, x file.Exchange, why string) error {
	if d := r.o.Deadline; !d.IsZero() && d.Sub(r.w.Now()) <= exchangePause+500*time.Millisecond {
		return r.tooLate(x, why)
	}
	if poll.Sleep(ctx, exchangePause) != nil {
		return r.late(ctx, x, why)
	}
	return nil
}

// late says why nothing is waited for any more.
func (r *run) late(ctx context.Context, x file.Exchange, why string) error {
	cause := context.Cause(ctx)
	if fault.KindOf(cause) == fault.Timeout {
		return r.tooLate(x, why)
	}
	return cause
}

func (r *run) tooLate(x file.Exchange, why string) error {
	return fault.New(fault.Timeout, "time is up: "+exchanged(x)+" was not possible yet", r.again()).Because(why)
}

func (r *run) again() string { return "homelab deployment " + r.o.Verb + " --dir " + r.o.Dir }

func exchanged(x file.Exchange) string {
	return fmt.Sprintf("handing %s.%s to %s.%s", x.From, x.Source, x.Container, x.Variable)
}

// exchangeFault words why a script could not be run to its end.
func (r *run) exchangeFault(ctx context.Context, x file.Exchange, p place, err error) error {
	if ctx.Err() != nil {
		return r.late(ctx, x, p.name+" did not answer")
	}
	if lost, ok := errors.AsType[*kube.LostError](err); ok {
		return fault.New(fault.Unreachable, exchanged(x)+" was cut off in "+p.name, r.again()).Because(lost.Err.Error()).From(err)
	}
	return told(exchanged(x)+" failed in "+p.name, err)
}

// passing tells whether an error of reading is worth another look: the pod is
// being replaced, or the connection was.
func passing(err error) bool {
	if err == nil {
		return true
	}
	if _, decided := errors.AsType[*fault.Error](err); decided {
		return false
	}
	_, lost := errors.AsType[*kube.LostError](err)
	return lost || kube.IsAbsent(err) || fault.KindOf(told("", err)) == fault.Unreachable
}

// missing tells whether a shell has said that there is no such script: 2 of
// dash and busybox, 127 of bash.
func missing(script string, code int, said string) bool {
	said = strings.ToLower(said)
	return (code == 2 || code == 127) && strings.Contains(said, strings.ToLower(script)) &&
		(strings.Contains(said, "no such file") || strings.Contains(said, "can't open") || strings.Contains(said, "cannot open"))
}

// said is what a script printed.
type said struct{ out, errs bounded }

// last is the last line of what went wrong.
func (s *said) last() string { return lastOf(s.errs.String(), s.out.String()) }

// lastOf is the last line of the first text that says something.
func lastOf(texts ...string) string {
	for _, text := range texts {
		if all := strings.Split(strings.TrimSpace(text), "\n"); all[len(all)-1] != "" {
			return all[len(all)-1]
		}
	}
	return "it says nothing"
}

// hidden takes a value out of what a script says, and each line of it: only the
// last line of what is said is told.
func hidden(text, value string) string {
	const least = 4 // shorter lines are brackets and blanks
	for _, part := range append([]string{strings.TrimRight(value, "\r\n")}, strings.Split(value, "\n")...) {
		if part = strings.TrimSpace(part); len(part) >= least {
			text = strings.ReplaceAll(text, part, "[the value]")
		}
	}
	return text
}

// bounded keeps a little more than a value may have.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := mostExchanged + 1 - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// script runs a command in a container.
func (r *run) script(ctx context.Context, p place, command []string, in io.Reader) (*said, int, error) {
	out := &said{}
	if r.composed() {
		code, err := r.w.Docker.Exec(ctx, p.container, command, in, &out.out, &out.errs)
		return out, code, err
	}
	code, err := r.c.Exec(ctx, p.namespace, p.name, kube.ExecOptions{
		Container: p.container, Command: command, Stdin: in, Stdout: &out.out, Stderr: &out.errs,
	})
	return out, code, err
}

// places are the containers of a service that run what the directory says.
func (r *run) places(ctx context.Context, container string) ([]place, error) {
	if r.composed() {
		live, err := r.w.Docker.Containers(ctx, r.compose.project.Name)
		if err != nil {
			return nil, err
		}
		var out []place
		for _, c := range live {
			if c.Service == container && c.State == "running" {
				out = append(out, place{name: c.Name, container: c.ID})
			}
		}
		return out, nil
	}
	pods, err := r.pods(ctx, false)
	if err != nil {
		return nil, err
	}
	current, err := r.revisions(ctx)
	if err != nil {
		return nil, err
	}
	return placesIn(pods, container, current), nil
}

// placesIn picks the pods whose container runs and is of the current revision.
func placesIn(pods []Pod, container string, current map[string]string) []place {
	var out []place
	for _, p := range pods {
		if p.Terminating || current[p.hash] == "old" {
			continue
		}
		for _, c := range p.Containers {
			if c.Name == container && !c.Init && c.State == "running" {
				out = append(out, place{name: p.Name, namespace: p.Namespace, container: c.Name})
			}
		}
	}
	return out
}

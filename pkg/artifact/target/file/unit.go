package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/program"
	"homelab/pkg/poll"
)

const (
	askLimit     = 10 * time.Second // for a question to systemd
	restartLimit = 2 * time.Minute  // without a deadline
	restartLeast = 10 * time.Second // however late it is: the path has been replaced
	leave        = time.Second
	linger       = 5 * time.Second // of a restart after its ctx ended
)

// errLimit is the cause of a context that one of the limits ended.
var errLimit = errors.New("its time was up")

// restartable asks systemd whether there is such a unit.
func (t *Target) restartable(ctx context.Context) error {
	if t.s.Unit == "" {
		return nil
	}
	inner, cancel := context.WithTimeoutCause(ctx, askLimit, errLimit)
	defer cancel()
	end := t.systemctl(inner, true, "show", "--property=LoadState", "--value", t.s.Unit)
	state := word(end)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case end.How == program.NotStarted:
		return hold(artifact.Preflight, "systemctl: "+end.String())
	case !end.OK():
		return &artifact.Failure{Class: artifact.Transient, What: "systemctl show " + t.s.Unit + ": " + end.String()}
	case state == "not-found":
		return &artifact.Failure{Class: artifact.Absent, What: "systemd knows no unit " + t.s.Unit}
	case state == "masked" || state == "bad-setting" || state == "error":
		return hold(artifact.Preflight, fmt.Sprintf("unit %s is %s and cannot be restarted", t.s.Unit, state))
	}
	return nil
}

// restart restarts the unit. The path leads to the new file already, so this is
// not given up lightly: an end of ctx leaves it some seconds.
func (t *Target) restart(ctx context.Context, s artifact.Switch, forward bool) error {
	limit := restartLimit
	if !s.Deadline.IsZero() {
		limit = max(time.Until(s.Deadline), restartLeast)
	}
	inner, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit, errLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if poll.Sleep(inner, t.linger) == nil {
			cancel()
		}
	})
	defer stop()
	end := t.systemctl(inner, false, "restart", t.s.Unit)
	t.said = end.Said
	if end.OK() {
		return nil
	}
	why := fmt.Sprintf("systemctl restart %s: %s", t.s.Unit, end)
	if forward { // of a way back the probes decide alone
		if t.failed == nil {
			t.failed = map[artifact.ID]string{}
		}
		t.failed[s.To.ID] = why
	}
	return errors.New(why)
}

// unitReady is systemd's opinion, one look.
func (t *Target) unitReady(ctx context.Context) (artifact.Readiness, error) {
	inner, cancel := context.WithTimeoutCause(ctx, askLimit, errLimit)
	defer cancel()
	end := t.systemctl(inner, true, "is-active", t.s.Unit)
	state := word(end)
	r := artifact.Readiness{State: artifact.IsReady, Reason: "unit " + t.s.Unit + " is " + state}
	switch {
	case ctx.Err() != nil:
		return artifact.Readiness{}, context.Cause(ctx)
	case end.How != program.Exited:
		r.State, r.Reason = artifact.NotAsked, "systemctl is-active "+t.s.Unit+": "+end.String()
	case state == "failed":
		r.State, r.Evidence = artifact.NotReady, t.said
	case state == "activating" || state == "deactivating":
		r.State = artifact.NotYet
	}
	return r, nil
}

// marker says that the path may lead to To while the unit still runs From.
type marker struct {
	Path string      `json:"path"`
	To   artifact.ID `json:"to"`
	From artifact.ID `json:"from"` // "" nothing ran
}

func (t *Target) marker() string { return filepath.Join(t.d.Dir, "restart.json") }

// mark is on disk before the path is replaced.
func (t *Target) mark(s artifact.Switch) error {
	m := marker{Path: t.s.Path, To: s.To.ID}
	if s.From != nil {
		m.From = s.From.ID
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(t.d.Dir, 0o711); err != nil { //nolint:gosec // the store below it is passed through by others
		return err
	}
	at := t.marker() + ".part"
	f, err := os.OpenFile(at, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // our own directory
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(at, t.marker()), syncDir(t.d.Dir))
}

func (t *Target) unmark() error {
	if t.s.Unit == "" {
		return nil
	}
	if err := os.Remove(t.marker()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// pending is the restart that a killed process did not ask for; nil none.
func (t *Target) pending() *marker {
	if t.s.Unit == "" {
		return nil
	}
	raw, err := os.ReadFile(t.marker())
	var m marker
	if err != nil || json.Unmarshal(raw, &m) != nil || m.Path != t.s.Path {
		return nil
	}
	return &m
}

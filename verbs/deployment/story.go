package deployment

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"homelab/pkg/rollout"
	"homelab/pkg/stack"
	"homelab/pkg/stack/file"
	"homelab/pkg/ui"
	"homelab/verbs/verb/stackview"
	"homelab/verbs/verb/workload"
)

const heartbeat = 30 * time.Second

// teller tells a workflow's story: a line for each thing that was done, then
// the rollouts as deploy wait shows them.
type teller struct {
	ctx context.Context //nolint:containedctx // of the view, which ends with the run
	io  *ui.Streams

	mu    sync.Mutex
	told  []file.Notice
	rolls *workload.Teller
	began time.Time
}

func newTeller(ctx context.Context, io *ui.Streams) *teller {
	return &teller{ctx: ctx, io: io, began: time.Now()}
}

// Stage names the part of the run that begins.
func (t *teller) Stage(name string) { t.io.Event("stage", map[string]string{"name": name}) }

// Line tells one thing that was done.
func (t *teller) Line(text string) {
	text = ui.Clean(text)
	t.io.Event("line", map[string]string{"text": text})
	t.io.Note(ui.L(text))
}

// Notice tells a notice, once.
func (t *teller) Notice(n file.Notice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Contains(t.told, n) {
		return
	}
	t.told = append(t.told, n)
	word, style := stackview.Word(n.Level)
	where := stack.Place(n)
	if where == "" && n.Level == file.Info {
		word = "" // it is of no file: one more line of the story
	}
	if where != "" {
		where += ": "
	}
	t.io.Event("notice", stackview.Clean(n))
	if word != "" {
		word += ": "
	}
	t.io.Note(ui.Line{ui.T(style, word), ui.T(ui.Plain, ui.Clean(where+n.Message))})
}

// Rollout begins a wait for these workloads.
func (t *teller) Rollout(namespace string, names []string) {
	var refs []workload.Ref
	for _, n := range names {
		refs = append(refs, workload.Ref{Kind: rollout.Deployment, Namespace: namespace, Name: n})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rolls = workload.NewTeller(t.io, refs)
	t.rolls.Begin(t.ctx, heartbeat)
}

// Progress tells how one of them stands.
func (t *teller) Progress(i int, v rollout.Verdict) {
	t.mu.Lock()
	rolls := t.rolls
	t.mu.Unlock()
	rolls.Update(i, v)
}

func (t *teller) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rolls != nil {
		t.rolls.Close()
	}
}

// explain tells why what is not ready is not.
func (t *teller) explain(out *stack.Outcome, shown []workload.Target) {
	t.mu.Lock()
	rolls := t.rolls
	t.mu.Unlock()
	if rolls == nil || len(shown) == 0 {
		return
	}
	verdicts := make([]rollout.Verdict, len(out.Targets))
	for i, x := range out.Targets {
		verdicts[i] = x.Verdict
	}
	rolls.Explain(verdicts, shown)
	for _, j := range out.Jobs {
		if j.State == "failed" {
			t.io.Note(ui.L(ui.Clean(fmt.Sprintf("Job %s failed: %s", j.Name, j.Reason))))
		}
	}
}

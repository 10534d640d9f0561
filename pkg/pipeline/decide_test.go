package pipeline

import (
	"strings"
	"testing"
	"time"

	"homelab/pkg/woodpecker"
)

const (
	sha1 = "41bdff3000000000000000000000000000000001"
	sha2 = "3f2c1ab000000000000000000000000000000002"
	sha3 = "9a8b7c6000000000000000000000000000000003"
)

// wf makes a workflow from words: "test failure unit:failure/3 lint:success".
func wf(words string) woodpecker.Workflow {
	f := strings.Fields(words)
	w := woodpecker.Workflow{Name: f[0], State: woodpecker.Status(f[1]), ID: int64(len(words))}
	for i, s := range f[2:] {
		name, state, _ := strings.Cut(s, ":")
		state, exit, _ := strings.Cut(state, "/")
		st := woodpecker.Step{ID: w.ID*100 + int64(i), PID: i + 2, Name: name, State: woodpecker.Status(state), Started: 1000, Finished: 1010 + int64(i)}
		if exit != "" {
			st.ExitCode = int(exit[0] - '0')
		}
		w.Steps = append(w.Steps, st)
	}
	return w
}

func row(status woodpecker.Status, flows ...string) woodpecker.Pipeline {
	p := woodpecker.Pipeline{ID: 9, Number: 57, Status: status, Commit: sha1, Event: woodpecker.Push, Branch: "main", Started: 1000, Finished: 1080}
	for i, f := range flows {
		w := wf(f)
		w.ID = int64(i + 1)
		p.Workflows = append(p.Workflows, w)
	}
	return p
}

func with(p woodpecker.Pipeline, f func(*woodpecker.Pipeline)) woodpecker.Pipeline { f(&p); return p }

func errs(messages ...string) func(*woodpecker.Pipeline) {
	return func(p *woodpecker.Pipeline) {
		for _, m := range messages {
			text, warn := strings.CutPrefix(m, "warning ")
			p.Errors = append(p.Errors, woodpecker.Message{Message: text, IsWarning: warn})
		}
	}
}

func cancelled(c woodpecker.CancelInfo) func(*woodpecker.Pipeline) {
	return func(p *woodpecker.Pipeline) { p.Cancel = &c }
}

// Ages of a status, by how a reading is to be judged.
const (
	second = 2 * time.Second  // the second, two seconds on
	long   = 11 * time.Second // many, for eleven seconds
)

func TestDecide(t *testing.T) {
	const wait = Verdict("wait")
	tests := []struct {
		name    string
		row     woodpecker.Pipeline
		age     time.Duration
		gate    Gate
		ff      bool
		version woodpecker.Version
		verdict Verdict // wait: not final
		again   time.Duration
		reason  string // or note, for wait
		hint    Hint
		failed  int // workflows behind a red verdict
	}{
		// success
		{name: "green", row: row("success", "lint success", "test success"), verdict: Success, reason: "passed in 1m20s"},
		{name: "green, ignored and warned", row: with(row("success", "lint success fmt:failure/1 vet:success", "test success"), errs("warning a", "warning b")), verdict: Success, reason: "passed in 1m20s; 1 ignored failure, 2 warnings"},
		{name: "nothing ran", row: row("success", "lint skipped", "test skipped"), verdict: Success, reason: "passed, but nothing ran"},
		{name: "some skipped", row: row("success", "lint skipped", "test success"), verdict: Success, reason: "passed in"},
		{name: "success, failed workflow, at first", row: row("success", "lint success", "test failure unit:failure/3"), verdict: wait, again: time.Second},
		{name: "success, failed workflow, still", row: row("success", "lint success", "test failure unit:failure/3"), age: long, verdict: Failure, reason: "the server says success, but step unit of workflow test exited with 3", hint: Hint{Advice: SeeLogs, Step: "test/unit"}, failed: 1},
		{name: "success, killed workflow, still", row: row("success", "test killed unit:killed"), age: long, verdict: Failure, reason: "the server says success, but step unit of workflow test was killed", hint: Hint{Advice: SeeLogs, Step: "test/unit"}, failed: 1},
		{name: "success, running workflow, at first", row: row("success", "lint success", "test running"), verdict: wait, again: time.Second},
		{name: "success, running workflow, still", row: row("success", "lint success", "test running"), age: long, verdict: wait, reason: "these have not ended: test"},
		{name: "success, workflow of unknown state, still", row: row("success", "lint success", "test paused"), age: long, verdict: wait, reason: "these have not ended: test"},
		{name: "success, running and failed workflow, still", row: row("success", "lint failure", "test running"), age: long, verdict: Failure, reason: "the server says success, but workflow lint ended as failure", hint: Hint{Advice: SeeLogs}, failed: 1},
		{name: "success without workflows, at first", row: row("success"), verdict: wait, again: time.Second},
		{name: "success without workflows, still", row: row("success"), age: long, verdict: wait, reason: "lists no workflows"},
		{name: "success, a step runs", row: row("success", "test success unit:running"), verdict: wait, again: time.Second},
		{name: "success, a step runs on", row: row("success", "lint success", "test success unit:running"), age: long, verdict: wait, reason: "these have not ended: test"},
		{name: "success, a step of unknown state", row: row("success", "test success unit:meditating"), age: long, verdict: wait, reason: "these have not ended: test"},
		{name: "success, steps that ended otherwise", row: row("success", "test success unit:skipped e2e:canceled db:killed vet:failure/1"), verdict: Success, reason: "passed in 1m20s; 1 ignored failure"},
		{name: "success, a service is still stopping", row: with(row("success", "test success db:running"), func(p *woodpecker.Pipeline) { p.Workflows[0].Steps[0].Type = "service" }), verdict: Success, reason: "passed in"},
		{name: "gate ended, a step of it runs", row: row("running", "lint success vet:running", "test running"), gate: Gate{Only: []string{"lint"}}, verdict: wait},
		{name: "never closed, a step runs", row: row("running", "lint success vet:running"), age: time.Hour, verdict: wait},
		// failure
		{name: "red", row: row("failure", "lint success", "test failure build:success unit:failure/3 e2e:skipped"), verdict: Failure, reason: "step unit of workflow test exited with 3", hint: Hint{Advice: SeeLogs, Step: "test/unit"}, failed: 1},
		{name: "red, two steps, the first to end", row: row("failure", "a failure x:success y:failure/2", "b failure z:failure/1"), verdict: Failure, reason: "step z of workflow b exited with 1 (and 1 more failed step)", hint: Hint{Advice: SeeLogs, Step: "b/z"}, failed: 2},
		{name: "red, step killed by nobody", row: row("failure", "test failure unit:killed"), verdict: Failure, reason: "step unit of workflow test was killed", hint: Hint{Advice: SeeLogs, Step: "test/unit"}, failed: 1},
		{name: "red, agent's complaint", row: with(row("failure", "test failure"), func(p *woodpecker.Pipeline) { p.Workflows[0].Error = "no space left" }), verdict: Failure, reason: "workflow test failed: no space left", hint: Hint{Advice: SeeLogs}, failed: 1},
		{name: "failure, all green, at first", row: row("failure", "test success"), verdict: wait, again: time.Second},
		{name: "failure, all green, still", row: row("failure", "test success"), age: long, verdict: Failure, reason: "the pipeline failed", hint: Hint{Advice: SeeLogs}},
		{name: "failure, one still running, at first", row: row("failure", "lint failure", "test running"), verdict: wait, again: time.Second},
		{name: "failure, one still running, still", row: row("failure", "lint failure", "test running"), age: long, verdict: Failure, reason: "workflow lint ended as failure", hint: Hint{Advice: SeeLogs}, failed: 1},
		{name: "failure without workflows, still", row: with(row("failure"), errs("compile: no")), age: long, verdict: Failure, reason: "the pipeline failed: compile: no", hint: Hint{Advice: SeeLogs}},
		// the gate
		{name: "gate green, pipeline red", row: row("failure", "lint success", "test failure unit:failure/3"), gate: Gate{Only: []string{"lint"}}, verdict: Success, reason: "lint passed; others failed: test"},
		{name: "gate ignores the red one", row: row("failure", "lint success", "test failure unit:failure/3"), gate: Gate{Ignore: []string{"test"}}, verdict: Success, reason: "lint passed; others failed: test"},
		{name: "gate red", row: row("failure", "lint failure vet:failure/1", "test failure unit:failure/3"), gate: Gate{Only: []string{"lint"}}, verdict: Failure, reason: "step vet of workflow lint exited with 1", hint: Hint{Advice: SeeLogs, Step: "lint/vet"}, failed: 1},
		{name: "gate: one matrix variant red", row: row("failure", "test success", "test failure unit:failure/3", "lint success"), gate: Gate{Only: []string{"test"}}, verdict: Failure, reason: "step unit of workflow test exited with 3", hint: Hint{Advice: SeeLogs, Step: "test/unit"}, failed: 1},
		{name: "gate skipped, pipeline red", row: row("failure", "lint failure vet:failure/1", "deploy skipped"), gate: Gate{Only: []string{"deploy"}}, verdict: Failure, reason: "deploy was skipped because the pipeline failed: step vet of workflow lint exited with 1", hint: Hint{Advice: SeeLogs, Step: "lint/vet"}, failed: 1},
		{name: "gate half skipped, pipeline red", row: row("failure", "lint failure", "test success", "deploy skipped"), gate: Gate{Ignore: []string{"lint"}}, verdict: Failure, reason: "deploy was skipped because", hint: Hint{Advice: SeeLogs}, failed: 1},
		{name: "gate skipped, pipeline green", row: row("success", "lint success", "deploy skipped"), gate: Gate{Only: []string{"deploy"}}, verdict: Absent, reason: "deploy was skipped: nothing that counts ran", hint: Hint{Advice: TryStatus}},
		{name: "gate: no such workflow", row: row("running", "lint running", "test pending"), gate: Gate{Only: []string{"tset"}}, verdict: Absent, reason: "no workflow is called tset; there are: lint, test", hint: Hint{Advice: TryStatus}},
		{name: "gate: no such workflow, nothing listed yet", row: row("running"), gate: Gate{Only: []string{"test"}}, verdict: wait},
		{name: "gate: no workflows at all", row: row("success"), gate: Gate{Only: []string{"test"}}, age: long, verdict: Absent, reason: "the server lists no workflows", hint: Hint{Advice: TryStatus}},
		{name: "gate leaves nothing", row: row("running", "lint running"), gate: Gate{Ignore: []string{"lint"}}, verdict: Absent, reason: "no workflow is left to count; there are: lint", hint: Hint{Advice: TryStatus}},
		{name: "gate ended, others run on, green", row: row("running", "lint success", "test running"), gate: Gate{Only: []string{"lint"}}, verdict: Success, reason: "lint passed; the pipeline is still running"},
		{name: "gate ended, others run on, red", row: row("running", "lint failure vet:failure/1", "test running"), gate: Gate{Only: []string{"lint"}}, verdict: Failure, reason: "step vet of workflow lint exited with 1", hint: Hint{Advice: SeeLogs, Step: "lint/vet"}, failed: 1},
		{name: "gate skipped, others run on", row: row("running", "deploy skipped", "test running"), gate: Gate{Only: []string{"deploy"}}, verdict: wait},
		{name: "gate running", row: row("running", "lint success", "test running"), gate: Gate{Only: []string{"test"}}, verdict: wait},
		{name: "gate: one matrix variant runs on", row: row("running", "test success", "test running"), gate: Gate{Only: []string{"test"}}, verdict: wait},
		{name: "gate ended, success, another never ends", row: row("success", "lint success", "test running"), gate: Gate{Only: []string{"lint"}}, verdict: Success, reason: "passed in"},
		{name: "gate does not excuse an error", row: with(row("error"), errs("bad yaml")), gate: Gate{Only: []string{"lint"}}, verdict: Errored, reason: "bad yaml"},
		{name: "gate does not excuse a cancellation", row: with(row("killed", "lint success"), cancelled(woodpecker.CancelInfo{ByUser: "eve"})), age: second, gate: Gate{Only: []string{"lint"}}, version: "3.17.0", verdict: Canceled, reason: "cancelled by eve", hint: Hint{Advice: Rerun}},
		{name: "gate does not excuse a block", row: row("blocked", "lint blocked"), gate: Gate{Only: []string{"lint"}}, verdict: Blocked, reason: "waits for approval", hint: Hint{Advice: Approve}},
		// running
		{name: "running", row: row("running", "lint success", "test running"), verdict: wait},
		{name: "running, one failed", row: row("running", "lint failure", "test running"), verdict: wait},
		{name: "fail fast", row: row("running", "lint failure vet:failure/1", "test running"), ff: true, verdict: Failure, reason: "step vet of workflow lint exited with 1; the pipeline is still running", hint: Hint{Advice: SeeLogs, Step: "lint/vet"}, failed: 1},
		{name: "fail fast, not gated", row: row("running", "lint failure vet:failure/1", "test running"), ff: true, gate: Gate{Only: []string{"test"}}, verdict: wait},
		{name: "fail fast, a failed step is none", row: row("running", "test running unit:failure/3"), ff: true, verdict: wait},
		{name: "pending", row: row("pending", "test pending"), verdict: wait},
		{name: "created", row: row("created"), verdict: wait},
		{name: "never closed, at first", row: row("running", "lint success", "test success"), age: 59 * time.Second, verdict: wait},
		{name: "never closed, green", row: row("running", "lint success", "test success"), age: 60 * time.Second, verdict: Success, reason: "the server never closed the pipeline"},
		{name: "never closed, red", row: row("running", "lint success", "test failure unit:failure/3"), age: 60 * time.Second, verdict: Failure, reason: "step unit of workflow test exited with 3; the server never closed the pipeline", hint: Hint{Advice: SeeLogs, Step: "test/unit"}, failed: 1},
		{name: "never closed, pending", row: row("pending", "test success"), age: 60 * time.Second, verdict: Success, reason: "never closed"},
		{name: "never closed, gate skipped, red beside it", row: row("running", "lint failure", "deploy skipped"), gate: Gate{Only: []string{"deploy"}}, age: 60 * time.Second, verdict: Failure, reason: "deploy was skipped because", hint: Hint{Advice: SeeLogs}, failed: 1},
		{name: "never closed, gate skipped", row: row("running", "lint success", "deploy skipped"), gate: Gate{Only: []string{"deploy"}}, age: 60 * time.Second, verdict: Absent, reason: "deploy was skipped; the server never closed", hint: Hint{Advice: TryStatus}},
		{name: "no workflows for a minute", row: row("running"), age: 2 * time.Minute, verdict: wait},
		// error
		{name: "error", row: with(row("error"), errs("warning odd", "did not find expected node", "second")), verdict: Errored, reason: "did not find expected node"},
		{name: "error, forge", row: with(row("error"), errs("could not load config from forge: 500")), verdict: Errored, reason: "not the commit's fault", hint: Hint{Advice: RunBranch, Branch: "main"}},
		{name: "error, rerun without a file", row: with(row("error"), errs("pipeline definition not found")), verdict: Errored, reason: "never stored", hint: Hint{Advice: RunBranch, Branch: "main"}},
		{name: "error without words, at first", row: row("error"), verdict: wait, again: time.Second},
		{name: "error with a warning only, at first", row: with(row("error"), errs("warning odd")), verdict: wait, again: time.Second},
		{name: "error without words, still", row: row("error"), age: second, verdict: Errored, reason: "the server gives no reason", hint: Hint{Advice: SeePage}},
		{name: "error of a workflow", row: row("error", "test error unit:error"), age: second, verdict: Errored, reason: "step unit of workflow test failed", hint: Hint{Advice: SeePage}, failed: 1},
		// held, declined, skipped
		{name: "declined", row: with(row("declined", "test declined"), func(p *woodpecker.Pipeline) { p.ReviewedBy = "bob" }), verdict: Declined, reason: "declined by bob"},
		{name: "declined by nobody", row: row("declined"), verdict: Declined, reason: "declined by a person"},
		{name: "blocked", row: row("blocked", "test blocked"), verdict: Blocked, reason: "waits for approval", hint: Hint{Advice: Approve}},
		{name: "blocked without workflows, at first", row: row("blocked"), verdict: wait, again: time.Second},
		{name: "blocked without workflows, still", row: row("blocked"), age: second, verdict: Blocked, reason: "waits for approval", hint: Hint{Advice: Approve}},
		{name: "skipped", row: row("skipped"), verdict: Absent, reason: "nothing ran", hint: Hint{Advice: RunBranch, Branch: "main"}},
		// cancelled
		{name: "killed, at first", row: with(row("killed", "test killed"), cancelled(woodpecker.CancelInfo{ByUser: "eve"})), version: "3.17.0", verdict: wait, again: 2 * time.Second},
		{name: "killed by a user", row: with(row("killed", "test running"), cancelled(woodpecker.CancelInfo{ByUser: "eve"})), age: second, version: "3.17.0", verdict: Canceled, reason: "cancelled by eve", hint: Hint{Advice: Rerun}},
		{name: "killed before 3.14, steps go on", row: row("killed", "test running"), age: second, version: "3.13.0", verdict: wait, again: 2 * time.Second},
		{name: "killed on a nameless build, steps go on", row: row("killed", "test running"), age: second, version: "dev", verdict: wait, again: 2 * time.Second},
		{name: "killed before 3.14, for long", row: row("killed", "test running"), age: long, version: "3.13.0", verdict: Canceled, reason: "agent was lost, or somebody cancelled it", hint: Hint{Advice: Rerun}},
		{name: "killed before 3.14, all ended", row: row("killed", "test killed"), age: second, version: "3.13.0", verdict: Canceled, reason: "agent was lost", hint: Hint{Advice: Rerun}},
		{name: "killed by a step that failed", row: with(row("killed", "lint killed", "test killed unit:failure/3 e2e:killed"), cancelled(woodpecker.CancelInfo{ByStep: "unit"})), age: second, version: "3.17.0", verdict: Failure, reason: "step unit of workflow test failed and cancelled the rest", hint: Hint{Advice: SeeLogs, Step: "test/unit"}, failed: 1},
		{name: "killed by a step whose workflow still stops", row: with(row("killed", "test running unit:failure/3 e2e:running"), cancelled(woodpecker.CancelInfo{ByStep: "unit"})), age: second, version: "3.17.0", verdict: Failure, reason: "step unit of workflow test failed and cancelled the rest", hint: Hint{Advice: SeeLogs, Step: "test/unit"}, failed: 1},
		{name: "killed by a step that did not fail", row: with(row("killed", "test killed unit:success"), cancelled(woodpecker.CancelInfo{ByStep: "unit"})), age: second, version: "3.17.0", verdict: Canceled, reason: "cancelled by step unit", hint: Hint{Advice: Rerun}},
		{name: "superseded", row: with(row("killed", "test killed"), cancelled(woodpecker.CancelInfo{By: 58})), age: second, version: "3.17.0", verdict: Superseded, reason: "superseded by #58", hint: Hint{Advice: WatchRow, Number: 58}},
		{name: "canceled and superseded", row: with(row("canceled", "test skipped"), cancelled(woodpecker.CancelInfo{By: 58})), age: second, version: "3.17.0", verdict: Superseded, reason: "superseded by #58", hint: Hint{Advice: WatchRow, Number: 58}},
		{name: "a restart's inherited successor", row: with(row("killed", "test killed"), cancelled(woodpecker.CancelInfo{By: 56})), age: second, version: "3.17.0", verdict: Canceled, reason: "agent was lost", hint: Hint{Advice: Rerun}},
		{name: "its own successor", row: with(row("killed", "test killed"), cancelled(woodpecker.CancelInfo{By: 57})), age: second, version: "3.17.0", verdict: Canceled, reason: "agent was lost", hint: Hint{Advice: Rerun}},
		{name: "canceled", row: row("canceled", "test canceled"), age: second, version: "3.17.0", verdict: Canceled, reason: "cancelled before it started", hint: Hint{Advice: Rerun}},
		{name: "canceled by a user", row: with(row("canceled", "test canceled"), cancelled(woodpecker.CancelInfo{ByUser: "eve"})), age: second, version: "3.17.0", verdict: Canceled, reason: "cancelled by eve", hint: Hint{Advice: Rerun}},
		{name: "the limit", row: with(row("killed", "test killed"), func(p *woodpecker.Pipeline) { p.Finished = p.Started + 3600 }), age: second, version: "3.17.0", verdict: Canceled, reason: "hit the repository's limit of 60 min", hint: Hint{Advice: Rerun}},
		{name: "a green restart's inherited cancellation", row: with(row("success", "test success"), cancelled(woodpecker.CancelInfo{ByUser: "eve", By: 58})), verdict: Success, reason: "passed in"},
		// unknown
		{name: "unknown", row: row("meditating", "test success"), age: time.Hour, verdict: wait, reason: `"meditating", a status this version does not know`},
		{name: "unknown, fail fast", row: row("meditating", "test failure"), ff: true, verdict: wait, reason: "meditating"},
		{name: "no status", row: row("", "test success"), age: time.Hour, verdict: wait, reason: `""`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(5000, 0)
			m := remember(memory{}, tt.row, now.Add(-tt.age))
			if tt.age > 0 {
				m = remember(m, tt.row, now)
			}
			d := decide(reading{
				row: tt.row, gate: tt.gate, failFast: tt.ff, version: tt.version, timeout: time.Hour, memory: m, now: now,
			})
			if tt.verdict == wait {
				if d.final || d.again != tt.again || !strings.Contains(d.note, tt.reason) {
					t.Fatalf("final %t %s, again %s, note %q", d.final, d.verdict, d.again, d.note)
				}
				return
			}
			if !d.final || d.verdict != tt.verdict || !strings.Contains(d.reason, tt.reason) {
				t.Fatalf("final %t %s: %q (again %s), want %s: %q", d.final, d.verdict, d.reason, d.again, tt.verdict, tt.reason)
			}
			if d.hint != tt.hint || len(d.failed) != tt.failed {
				t.Errorf("hint %+v, %d failed, want %+v, %d", d.hint, len(d.failed), tt.hint, tt.failed)
			}
			if d.verdict == Success && d.ended {
				t.Error("a pass looks for a successor")
			}
		})
	}
}

// allStatuses are those the client knows, as the server's source lists them.
func allStatuses() []woodpecker.Status {
	return []woodpecker.Status{
		woodpecker.Created, woodpecker.Pending, woodpecker.Running, woodpecker.Blocked, woodpecker.Success, woodpecker.Failure,
		woodpecker.Error, woodpecker.Killed, woodpecker.Canceled, woodpecker.Declined, woodpecker.Skipped,
	}
}

// Whatever the statuses of pipeline and workflow: green needs success of both,
// or all workflows ended for a minute; and what has ended is judged in the end.
func TestDecideEveryStatus(t *testing.T) {
	odd := woodpecker.Status("meditating")
	for _, status := range append(allStatuses(), odd) {
		for _, flow := range append(allStatuses(), odd, "") {
			for _, age := range []time.Duration{0, 2 * time.Second, 11 * time.Second, time.Hour} {
				for _, gate := range []Gate{{}, {Only: []string{"test"}}} {
					for _, once := range []bool{false, true} {
						p := row(status)
						if flow != "" {
							p = row(status, "test "+string(flow))
						}
						now := time.Unix(9000, 0)
						m := remember(remember(memory{}, p, now.Add(-age)), p, now)
						d := decide(reading{row: p, gate: gate, once: once, version: "3.17.0", memory: m, now: now})
						name := string(status) + "/" + string(flow)
						active := status == woodpecker.Created || status == woodpecker.Pending || status == woodpecker.Running
						if d.final && d.verdict == Success {
							ok := status == woodpecker.Success && (flow == woodpecker.Success || flow == woodpecker.Skipped) ||
								status == woodpecker.Failure && gate.Named() && flow == woodpecker.Success ||
								active && gate.Named() && flow == woodpecker.Success ||
								active && age >= neverClosed && (flow == woodpecker.Success || flow == woodpecker.Skipped)
							if !ok {
								t.Errorf("%s after %s, gate %v: green", name, age, gate)
							}
						}
						if !d.final && status == odd && !strings.Contains(d.note, "meditating") {
							t.Errorf("%s: an unknown status is not named: %q", name, d.note)
						}
						if d.final && status == odd {
							t.Errorf("%s: an unknown status ended as %s", name, d.verdict)
						}
						if d.final && d.reason == "" {
							t.Errorf("%s: %s without a reason", name, d.verdict)
						}
						flowEnded := flow == "" || flow.Ended()
						empty := status == woodpecker.Success && flow == ""
						if !d.final && status.Ended() && flowEnded && age == time.Hour && (!empty || gate.Named()) {
							t.Errorf("%s: not judged after an hour", name)
						}
						if status == woodpecker.Blocked && age >= time.Second && (!d.final || d.verdict != Blocked) {
							t.Errorf("%s: %s", name, d.verdict)
						}
					}
				}
			}
		}
	}
}

func TestRemember(t *testing.T) {
	t0 := time.Unix(1000, 0)
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	m := remember(memory{}, row("running", "a success"), at(0))
	m = remember(m, row("running", "a success"), at(5))
	if m.readings != 2 || !m.since.Equal(at(0)) || !m.endedSince.Equal(at(0)) {
		t.Errorf("%+v", m)
	}
	m = remember(m, row("running", "a running"), at(6))
	if !m.endedSince.IsZero() {
		t.Errorf("a workflow runs again, ended since %s", m.endedSince)
	}
	m = remember(m, row("killed", "a killed"), at(7))
	if m.readings != 1 || !m.since.Equal(at(7)) {
		t.Errorf("a new status: %+v", m)
	}
	m = remember(m, row("success", "a success"), at(9))
	if m.readings != 1 || !m.since.Equal(at(9)) || !m.endedSince.Equal(at(7)) {
		t.Errorf("flipped: %+v", m)
	}
}

func TestProgress(t *testing.T) {
	now := time.Unix(1100, 0)
	for want, p := range map[string]woodpecker.Pipeline{
		"step unit of workflow test since 1m40s": row("running", "test running unit:running"),
		"running since 1m40s":                    row("running", "test running"),
		"pending since 10s":                      with(row("pending"), func(p *woodpecker.Pipeline) { p.Created = 1090 }),
		"created":                                row("created"),
	} {
		if got := progress(p, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

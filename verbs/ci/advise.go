package ci

import (
	"strconv"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func trim(s string) string { return strings.TrimSpace(s) }

func verbHeader(kind string, e *fault.Error) ui.Header { return verb.NewFailure(kind, e).Header }

// kindOf maps a verdict to how the run ends. o's error tells the two signals
// apart.
func kindOf(o pipeline.Outcome) fault.Kind {
	switch o.Verdict {
	case pipeline.Success:
		return fault.OK
	case pipeline.Failure, pipeline.Errored, pipeline.Declined:
		return fault.Failed
	case pipeline.Blocked:
		return fault.Held
	case pipeline.Canceled, pipeline.Superseded:
		return fault.Replaced
	case pipeline.Absent:
		return fault.Absent
	case pipeline.Pending, pipeline.Running, pipeline.Timeout:
		return fault.Timeout
	case pipeline.Denied:
		return fault.Denied
	case pipeline.Unreachable:
		return fault.Unreachable
	case pipeline.Interrupted:
		if k := fault.KindOf(o.Err); k == fault.Terminated {
			return k
		}
		return fault.Interrupted
	}
	return fault.Bug
}

// phrase turns a hint into a command that survives pasting. carry are the
// words that every command needs to speak of the same place; resume is the
// whole command that goes on with this one.
type phrase struct {
	carry []string // --repo, --server ... as far as they were given or are needed
	page  page
	// upstream is the branch that the checkout's current one follows; "" when
	// there is none.
	upstream func() string
	// push is the command that publishes the current branch; "" on a detached
	// HEAD.
	push   func() string
	resume func(number int64) string
}

func (p phrase) command(words ...string) string {
	return ui.Command(append(append([]string{"homelab", "ci"}, words...), p.carry...)...)
}

// runBranch returns the command that starts a pipeline of branch. A name that
// looks like a flag comes after the flags.
func (p phrase) runBranch(branch string) string {
	if !strings.HasPrefix(branch, "-") {
		return p.command("run", branch)
	}
	return p.command("run") + " -- " + ui.Quote(branch)
}

// next returns the command for a hint about the outcome's row; "" for none.
func (p phrase) next(o pipeline.Outcome) string {
	n := o.Hint.Number
	if n == 0 && o.Row != nil {
		n = o.Row.Number
	}
	if n == 0 {
		n = o.Target.Number
	}
	number := []string{"--number", itoa(n)}
	switch o.Hint.Advice {
	case pipeline.NoAdvice, pipeline.AskUsage:
		return ""
	case pipeline.SeeLogs:
		words := append([]string{"logs"}, number...)
		if o.Hint.Step != "" {
			return p.command(append(words, "--step", o.Hint.Step)...)
		}
		return p.command(append(words, "--failed")...)
	case pipeline.WatchRow:
		return p.command(append([]string{"watch"}, number...)...)
	case pipeline.Rerun:
		return p.command(append([]string{"rerun"}, number...)...)
	case pipeline.RunBranch:
		branch := o.Hint.Branch
		if branch == "" {
			if branch = p.upstream(); branch == "" {
				return p.command("list") // no branch is known that could be run
			}
		}
		return p.runBranch(branch)
	case pipeline.Approve:
		return p.command(append([]string{"approve"}, number...)...)
	case pipeline.PushCommit:
		return p.push()
	case pipeline.SeePage:
		if o.Row == nil && o.Target.Number > 0 {
			return p.command("list") // there is no such page
		}
		if n > 0 {
			return p.page(n)
		}
		return "homelab doctor"
	case pipeline.SeeDoctor:
		return ui.Command(append([]string{"homelab", "doctor"}, p.carry...)...)
	case pipeline.FetchFirst:
		return "git fetch"
	case pipeline.Resume:
		return p.resume(n)
	case pipeline.TryStatus:
		if n > 0 {
			return p.command(append([]string{"status"}, number...)...)
		}
		return p.command("status", o.Target.Commit)
	}
	return ""
}

// told returns the error to tell on stderr for ends that are no verdict about
// the commit; nil for the others, which the story and the result tell.
func told(kind fault.Kind, o pipeline.Outcome, next string) *fault.Error {
	switch kind {
	case fault.Denied, fault.Unreachable:
		return fault.New(kind, subject(o.Target.Repo.FullName, o.Row, o.Target.Commit)+": "+string(o.Verdict), next).Because(o.Reason)
	case fault.OK, fault.Failed, fault.Absent, fault.Held, fault.Replaced, fault.Timeout, fault.Conflict,
		fault.LandedRed, fault.Unsafe, fault.Usage, fault.Bug, fault.Interrupted, fault.Terminated:
	}
	return nil
}

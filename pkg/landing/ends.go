package landing

import (
	"errors"
	"fmt"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
)

// endOfWatch is how a landing ends that is on the base, by what CI says of it.
// wait: whether a deploy can still be waited for.
func endOfWatch(o pipeline.Outcome, require bool) (kind fault.Kind, deployable bool) {
	switch o.Verdict {
	case pipeline.Success:
		return fault.OK, true
	case pipeline.Failure, pipeline.Errored, pipeline.Declined, pipeline.Canceled, pipeline.Superseded:
		return fault.LandedRed, false
	case pipeline.Blocked:
		return fault.Held, false
	case pipeline.Absent:
		if o.Confirmed && !require {
			return fault.OK, false // no pipeline, so no image either
		}
		return fault.Absent, false
	case pipeline.Denied:
		return fault.Denied, false
	case pipeline.Unreachable:
		return fault.Unreachable, false
	case pipeline.Timeout, pipeline.Pending, pipeline.Running:
		return fault.Timeout, false
	case pipeline.Interrupted:
		return signalOf(o), false
	}
	return fault.Bug, false
}

// endOfGate is how a landing ends whose candidate CI was asked about before
// the base moved. OK is the only way on.
func endOfGate(o pipeline.Outcome) fault.Kind {
	switch o.Verdict {
	case pipeline.Success:
		return fault.OK
	case pipeline.Failure, pipeline.Errored, pipeline.Declined:
		return fault.Failed
	case pipeline.Canceled, pipeline.Superseded:
		return fault.Replaced
	case pipeline.Blocked:
		return fault.Held
	case pipeline.Absent:
		return fault.Absent
	case pipeline.Denied:
		return fault.Denied
	case pipeline.Unreachable:
		return fault.Unreachable
	case pipeline.Timeout, pipeline.Pending, pipeline.Running:
		return fault.Timeout
	case pipeline.Interrupted:
		return signalOf(o)
	}
	return fault.Bug
}

func signalOf(o pipeline.Outcome) fault.Kind {
	if sig, ok := errors.AsType[*fault.Signal](o.Err); ok {
		return sig.Kind()
	}
	return fault.Interrupted
}

// endOfDeploy is how a landing ends by what the deploy came to: a verdict of
// no is red, what a person must do or what is not known stays itself.
func endOfDeploy(k fault.Kind) fault.Kind {
	switch k {
	case fault.Failed, fault.Replaced, fault.LandedRed, fault.Conflict, fault.Unsafe:
		return fault.LandedRed
	case fault.OK, fault.Absent, fault.Denied, fault.Held, fault.Unreachable, fault.Timeout,
		fault.Usage, fault.Bug, fault.Interrupted, fault.Terminated:
		return k
	}
	return fault.Bug
}

// step is what a re-run does about an unfinished landing.
type step string

// Every step.
const (
	startAnew   step = "start anew"
	askRemote   step = "ask" // whether a push arrived
	lookAtPull  step = "look at the pull request"
	watchAgain  step = "watch again"
	landTheRest step = "land the rest" // it landed, and there are commits since
	nothingToDo step = "nothing"
)

// resumeStep is the table of what to do about a landing that was left in
// phase. fresh: the branch has commits the base has not.
func resumeStep(p Phase, fresh bool) step {
	switch p {
	case Begun, Integrated, Verified, Staged:
		return startAnew
	case Pushing:
		return askRemote
	case Proposed:
		return lookAtPull
	case OnBase:
		if fresh {
			return landTheRest
		}
		return watchAgain
	case Done:
		return nothingToDo
	}
	return startAnew
}

// ciWords is a pipeline's name in one line: "CI #812 green".
func ciWords(o *pipeline.Outcome) string {
	if o == nil {
		return ""
	}
	name := "CI"
	if o.Row != nil {
		name = fmt.Sprintf("CI #%d", o.Row.Number)
	}
	if o.Verdict == pipeline.Success {
		return name + " green"
	}
	return fmt.Sprintf("%s %s", name, o.Verdict)
}

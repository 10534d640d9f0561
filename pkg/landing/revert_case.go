package landing

import (
	"fmt"

	"homelab/pkg/git"
	"homelab/pkg/pipeline"
)

// redCase is all that decides whether a red landing is taken off the base.
type redCase struct {
	Landed git.Commit
	Base   git.Commit // what it landed on

	Pushed  bool       // this tool pushed it to the base
	Pull    int64      // > 0: it was merged as that pull request
	Reverts git.Commit // a commit of the landing that undoes what the base had; "" none
	Undone  git.Commit // a commit of the base that undid the landing already; "" none

	Verdict pipeline.Verdict // of its pipeline
	Number  int64            // that pipeline's
	Of      git.Commit       // whose pipeline it is

	Before   pipeline.Verdict // of Base's own pipeline; Absent without one
	Unproven string           // why it is not known whether a commit on top is green; "" it is
	Green    git.Commit       // a commit on top of it that is green; "" none

	Again       pipeline.Verdict // how the one restart ended; "" there was none yet
	AgainNumber int64
	NoRestart   string // why the pipeline could not be restarted
}

// revertStep is what follows from a redCase.
type revertStep string

// Every step.
const (
	leaveIt   revertStep = "leave it"
	restartCI revertStep = "restart the pipeline"
	undoIt    revertStep = "undo it"
)

// judge says what to do about a red landing and, if it is to be left, why.
// Every condition must hold, and what is not known does not hold. What costs
// nothing is asked first: a pipeline is restarted only when all else speaks
// for the revert.
func (r redCase) judge() (revertStep, string) {
	leave := func(format string, args ...any) (revertStep, string) { return leaveIt, fmt.Sprintf(format, args...) }
	switch {
	case r.Verdict != pipeline.Failure:
		return leave("its pipeline ended as %s, and only a failure is reverted", r.Verdict)
	case r.Of != r.Landed:
		return leave("the pipeline that failed is of %s, which contains it", r.Of.Short())
	case r.Pull > 0:
		return leave("it was merged as pull request #%d and not pushed from here", r.Pull)
	case !r.Pushed:
		return leave("nothing here shows that it was pushed from here")
	case r.Reverts != "":
		return leave("its commit %s is a revert itself", r.Reverts.Short())
	case r.Undone != "":
		return leave("%s undid it already", r.Undone.Short())
	case r.Before == pipeline.Absent:
		return leave("%s before it has no pipeline of its own, so it is not known to be green", r.Base.Short())
	case r.Before != pipeline.Success:
		return leave("the pipeline of %s before it is not green (%s)", r.Base.Short(), r.Before)
	case r.Green != "":
		return leave("%s, which contains it, is green", r.Green.Short())
	case r.Unproven != "":
		return leave("whether a commit on top of it is green is not known: %s", r.Unproven)
	case r.NoRestart != "":
		return leave("#%d could not be restarted: %s", r.Number, r.NoRestart)
	case r.Again == "":
		return restartCI, ""
	case r.Again == pipeline.Success:
		return leave("#%d, started anew as #%d, is green", r.Number, r.AgainNumber)
	case r.Again != pipeline.Failure:
		return leave("#%d, started anew as #%d, ended as %s", r.Number, r.AgainNumber, r.Again)
	}
	return undoIt, ""
}

package woodpecker

// Status is the state of a pipeline, workflow or step as the server writes it.
// Servers add values between versions; one that is not listed here is never
// taken for an end.
type Status string

// The states of Woodpecker 3.17. Source: server/model/const.go.
const (
	Created  Status = "created" // pipeline only: the configuration is not fetched yet, the row may vanish
	Pending  Status = "pending"
	Running  Status = "running"
	Blocked  Status = "blocked" // waits for a person
	Success  Status = "success"
	Failure  Status = "failure"
	Error    Status = "error" // configuration or system; usually without workflows
	Killed   Status = "killed"
	Canceled Status = "canceled" // never started; since 3.14
	Declined Status = "declined"
	Skipped  Status = "skipped"
)

// Known says whether s is a state this client has a meaning for.
func (s Status) Known() bool {
	switch s {
	case Created, Pending, Running, Blocked, Success, Failure, Error, Killed, Canceled, Declined, Skipped:
		return true
	}
	return false
}

// Ended says whether the server will not move s on by itself. An unknown state
// has not ended.
func (s Status) Ended() bool {
	switch s {
	case Success, Failure, Error, Killed, Canceled, Declined, Skipped:
		return true
	case Created, Pending, Running, Blocked:
		return false
	}
	return false
}

// Bad says whether s is an end that is not a pass. Skipped is neither.
func (s Status) Bad() bool {
	switch s {
	case Failure, Error, Killed, Canceled, Declined:
		return true
	case Created, Pending, Running, Blocked, Success, Skipped:
		return false
	}
	return false
}

// Event is what made a pipeline.
type Event string

// The events of Woodpecker 3.17.
const (
	Push                Event = "push"
	PullRequest         Event = "pull_request"
	PullRequestClosed   Event = "pull_request_closed"
	PullRequestMetadata Event = "pull_request_metadata"
	Tag                 Event = "tag"
	Release             Event = "release"
	Cron                Event = "cron"
	Manual              Event = "manual"
	Deployment          Event = "deployment"
)

// Events lists every event a flag may name.
func Events() []Event {
	return []Event{Push, Manual, PullRequest, PullRequestClosed, PullRequestMetadata, Tag, Deployment, Cron, Release}
}

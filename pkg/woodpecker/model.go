package woodpecker

import (
	"encoding/json"
	"time"
)

// RepoID identifies a repository on one server; it survives renames.
type RepoID int64

// Repo is a repository as the server knows it.
type Repo struct {
	ID            RepoID `json:"id"`
	FullName      string `json:"full_name"`
	ForgeURL      string `json:"forge_url"`
	CloneURL      string `json:"clone_url"`
	CloneURLSSH   string `json:"clone_url_ssh"`
	DefaultBranch string `json:"default_branch"`
	Timeout       int64  `json:"timeout"` // minutes
	Visibility    string `json:"visibility"`
	Active        bool   `json:"active"`
	ConfigFile    string `json:"config_file"`               // empty: the default names
	ConfigService string `json:"config_extension_endpoint"` // not empty: configuration may come from elsewhere
}

// Public says whether anyone may read the repository, and its events reach
// every stream.
func (r Repo) Public() bool { return r.Visibility == "public" }

// Permissions are what the token's user may do with a repository.
type Permissions struct {
	Pull   bool  `json:"pull"`
	Push   bool  `json:"push"`
	Admin  bool  `json:"admin"`
	Synced int64 `json:"synced"` // Unix seconds; 0: nothing is stored for this user
}

// User is the token's owner.
type User struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
	Admin bool   `json:"admin"`
}

// Message is an error or warning of a pipeline's configuration.
type Message struct {
	Type      string `json:"type"`
	Message   string `json:"message"`
	IsWarning bool   `json:"is_warning"`
}

// CancelInfo says who ended a pipeline (since 3.14). A restart inherits its
// origin's, so it counts only for a row that was cancelled itself.
type CancelInfo struct {
	ByUser string `json:"canceled_by_user"`
	ByStep string `json:"canceled_by_step"`
	By     int64  `json:"superseded_by"` // number of the successor; 0: none
}

// Pipeline is one run. Rows of a list carry no workflows; a detail does.
// Build variables and mail addresses of the answer are not decoded, so that
// no output can carry them.
type Pipeline struct {
	ID         int64       `json:"id"`     // identifies the row for ever
	Number     int64       `json:"number"` // per repository, from 1; reused when a row is deleted
	Parent     int64       `json:"parent"` // number of the row this restarts; 0: none
	Event      Event       `json:"event"`
	Status     Status      `json:"status"`
	Errors     []Message   `json:"errors"`
	Created    int64       `json:"created"` // Unix seconds, as are the next two; 0: not yet
	Started    int64       `json:"started"`
	Finished   int64       `json:"finished"`
	Updated    int64       `json:"updated"`
	Commit     string      `json:"commit"`
	Branch     string      `json:"branch"` // target branch for pull requests; may be empty for tags
	Ref        string      `json:"ref"`
	Refspec    string      `json:"refspec"`
	Title      string      `json:"title"`
	Message    string      `json:"message"`
	Author     string      `json:"author"`
	Sender     string      `json:"sender"`
	ForgeURL   string      `json:"forge_url"`
	ReviewedBy string      `json:"reviewed_by"`
	Cancel     *CancelInfo `json:"cancel_info"`
	Workflows  []Workflow  `json:"workflows"`
}

// Workflow is one pipeline file's part of a run. Matrix variants share Name
// and differ in Environ.
type Workflow struct {
	ID       int64             `json:"id"`
	PID      int               `json:"pid"`
	Name     string            `json:"name"`
	State    Status            `json:"state"`
	Error    string            `json:"error"`
	Started  int64             `json:"started"`
	Finished int64             `json:"finished"`
	Environ  map[string]string `json:"environ"`
	Steps    []Step            `json:"children"`
}

// Step is one container's run.
type Step struct {
	ID       int64  `json:"id"` // what log addresses use; PID is what web addresses use
	PID      int    `json:"pid"`
	PPID     int    `json:"ppid"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	State    Status `json:"state"`
	Error    string `json:"error"`
	ExitCode int    `json:"exit_code"` // 0 while running as well: read State first
	Started  int64  `json:"started"`   // Unix seconds; 0 until it has started
	Finished int64  `json:"finished"`
}

// LogEntry is one line of a step's log.
type LogEntry struct {
	ID     int64  `json:"id"`
	StepID int64  `json:"step_id"`
	Time   int64  `json:"time"` // seconds since the log began
	Line   int    `json:"line"` // from 0; the order
	Data   []byte `json:"data"` // one line without its newline
	Type   int    `json:"type"`
}

// Queue is the server's work queue; only administrators may read it.
type Queue struct {
	Pending       []json.RawMessage `json:"pending"`
	WaitingOnDeps []json.RawMessage `json:"waiting_on_deps"`
	Running       []json.RawMessage `json:"running"`
	Stats         struct {
		Workers int `json:"worker_count"`
	} `json:"stats"`
	Paused bool `json:"paused"`
}

// Moment turns the server's Unix seconds into a time; 0 is the zero time.
func Moment(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

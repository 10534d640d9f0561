package woodsim

import (
	"fmt"
	"time"
)

// Plan is the life of one pipeline. All durations are zero unless said
// otherwise, so that the zero Plan is a pipeline without workflows that
// succeeds at once.
type Plan struct {
	Delay     time.Duration // operation → row is inserted: the hook on its way
	Configure time.Duration // inserted as created → configuration fetched, workflows stored
	Queue     time.Duration // pending → the first workflow may start: waiting for an agent
	Workflows []Workflow
	Gap       time.Duration // the last workflow ended → the pipeline's own end is written
	Forge     time.Duration // an end is written → its event is sent: the forge is told first
	KillDelay time.Duration // cancelled → running steps have stopped; 0 means 30 ms

	Blocked     bool     // waits for approval; approving runs the plan from pending
	Filtered    bool     // no file, or when: leaves nothing: the row is deleted again
	Errors      []Notice // no Configure error: warnings; one that is no warning: the row ends as error
	FetchError  string   // the forge did not hand out the file: error, "could not load config from forge: …"
	Unstored    bool     // the configuration is not kept: a restart becomes an error row
	RerunBroken bool     // a restart fails to compile: 500 and an error row
	Stuck       bool     // the pipeline's end is never written
	Status      string   // end status instead of the one merged from the workflows
	Flip        string   // written FlipAfter after a cancellation, as servers before 3.14 did
	FlipAfter   time.Duration

	Rerun *Plan // plan of a restart; nil: this plan again, without Delay

	Variables    map[string]string
	ChangedFiles []string // nil means the default of one pipeline file

	run func(*row) // a real executor instead of planned times
}

// Notice is an entry of a pipeline's errors.
type Notice struct {
	Type    string // "" means "compiler"
	Message string
	Warning bool
}

// Workflow is one planned workflow. Its end follows from its steps.
type Workflow struct {
	Name    string            // "" means "woodpecker", as for a single .woodpecker.yml
	Environ map[string]string // matrix values
	Start   time.Duration     // after the pipeline's queueing
	Steps   []Step
	NoClone bool          // leaves out the clone step that otherwise comes first
	Takes   time.Duration // lifetime of a workflow without steps
	Gap     time.Duration // the last step ended → the workflow's end is written
	Error   string        // the agent's complaint; makes the workflow a failure
	Status  string        // end status instead of the merged one; "skipped" never starts
}

// Step is one planned step. Steps follow each other; after a failure that is
// not ignored the rest is skipped.
type Step struct {
	Name     string
	Type     string        // "" means "commands"; a "service" runs until the others have ended
	Start    time.Duration // after the previous step's end, or with Parallel after the workflow's start
	Parallel bool
	Takes    time.Duration
	Exit     int
	Error    string // text in the step; with Exit 0 it fails as well
	Ignore   bool   // failure: ignore
	Always   bool   // runs after a failure too
	Cancel   bool   // failure: cancel, its failure cancels the pipeline
	State    string // end state instead of the one that follows from Exit and Error
	Log      Log
}

// Log is what a step writes. Lines are spread evenly over the step's time.
type Log struct {
	Lines    []string
	Exact    []Line             // instead of Lines, when times matter
	Count    int                // instead of both: this many lines, each made by Line when it is asked for
	Line     func(i int) string // nil: a text with the number
	Delay    time.Duration      // written → found in the REST log
	Lag      time.Duration      // written → sent on the log stream
	Shuffled bool               // the REST array is not in order
	Lossy    int                // the stream leaves out every Lossy-th line
}

// Line is one log line with its own time.
type Line struct {
	At    time.Duration // after the step's start
	Delay time.Duration // on top of Log.Delay: lines may arrive out of order
	Data  string
	Null  bool // data is null
	Type  int  // 0 stdout, 1 stderr, 2 exit code, 3 metadata, 4 progress
}

// Green is one workflow of two steps that passes after d.
func Green(d time.Duration) Plan {
	return Plan{Workflows: []Workflow{{Steps: []Step{
		{Name: "build", Takes: d / 2, Log: Log{Lines: []string{"+ make build"}}},
		{Name: "test", Takes: d - d/2, Log: Log{Lines: []string{"+ make test", "ok"}}},
	}}}}
}

// Red passes one step, then step fails with exit after one second and a last
// step is skipped. Without lines the step has a short log of its own.
func Red(step string, exit int, lines ...string) Plan {
	if len(lines) == 0 {
		lines = []string{"+ make " + step, "--- FAIL: TestCacheKey (0.02s)", "FAIL"}
	}
	return Plan{Workflows: []Workflow{{Steps: []Step{
		{Name: "build", Takes: time.Second, Log: Log{Lines: []string{"+ make build"}}},
		{Name: step, Takes: time.Second, Exit: exit, Log: Log{Lines: lines}},
		{Name: "publish", Takes: time.Second},
	}}}}
}

// Running has one step that takes d; with a long d it is still running.
func Running(d time.Duration) Plan {
	return Plan{Workflows: []Workflow{{Steps: []Step{
		{Name: "build", Takes: d, Log: Log{Lines: []string{"+ make build", "compiling"}}},
	}}}}
}

// Blocked waits for approval and then lives as next says.
func Blocked(next Plan) Plan { next.Blocked = true; return next }

// Filtered appears as created for d and is then deleted.
func Filtered(d time.Duration) Plan { return Plan{Configure: d, Filtered: true} }

// ConfigError ends as error with the message at once.
func ConfigError(message string) Plan { return Plan{Errors: []Notice{{Message: message}}} }

// Ignored passes after d although the named step failed with failure: ignore.
func Ignored(step string, exit int, d time.Duration) Plan {
	p := Green(d)
	p.Workflows[0].Steps = append(p.Workflows[0].Steps[:1:1],
		Step{Name: step, Exit: exit, Ignore: true, Log: Log{Lines: []string{"+ " + step, "warning"}}},
		p.Workflows[0].Steps[1])
	return p
}

// Multi runs the given plans' workflows side by side, named by the map's keys
// in the order given.
func Multi(names []string, plans ...Plan) Plan {
	var out Plan
	for i, p := range plans {
		for _, w := range p.Workflows {
			if i < len(names) {
				w.Name = names[i]
			}
			out.Workflows = append(out.Workflows, w)
		}
	}
	return out
}

// HugeLog passes; its only step writes count lines of width bytes, made when
// they are asked for.
func HugeLog(d time.Duration, count, width int) Plan {
	return Plan{Workflows: []Workflow{{Steps: []Step{{Name: "build", Takes: d, Log: Log{Count: count, Line: func(i int) string {
		return fmt.Sprintf("%0*d", width, i)
	}}}}}}}
}

// Scenario gives the usual plans by name, for scripts.
func Scenario(name string) (Plan, bool) {
	p, ok := scenarios()[name]
	return p, ok
}

// ScenarioNames lists what Scenario knows, sorted.
func ScenarioNames() []string { return sortedKeys(scenarios()) }

func scenarios() map[string]Plan {
	stuck := Green(time.Second)
	stuck.Stuck = true
	warned := Green(time.Second)
	warned.Errors = []Notice{{Type: "linter", Message: "Set a when: filter", Warning: true}}
	fetch := Plan{FetchError: "500 Internal Server Error"}
	skipped := Plan{Workflows: []Workflow{{Status: "skipped", Steps: []Step{{Name: "build"}}}}}
	return map[string]Plan{
		"green":        Green(2 * time.Second),
		"red":          Red("test", 3),
		"running":      Running(time.Hour),
		"pending":      {Queue: 24 * time.Hour, Workflows: Green(time.Second).Workflows},
		"blocked":      Blocked(Green(2 * time.Second)),
		"filtered":     Filtered(500 * time.Millisecond),
		"config-error": ConfigError("did not find expected node content"),
		"fetch-error":  fetch,
		"ignored":      Ignored("lint", 1, 2*time.Second),
		"warnings":     warned,
		"stuck":        stuck,
		"all-skipped":  skipped,
		"unstored":     {Unstored: true, Workflows: Red("test", 3).Workflows},
		"two-one-red":  Multi([]string{"lint", "test"}, Green(time.Second), Red("unit", 3)),
		"late-log":     lateLog(),
		"huge-log":     HugeLog(time.Second, 800_000, 64),
	}
}

func lateLog() Plan {
	p := Red("test", 3)
	p.Workflows[0].Steps[1].Log.Delay = 900 * time.Millisecond
	p.Workflows[0].Steps[1].Log.Shuffled = true
	return p
}

package stack

import (
	"context"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/compose"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
	"homelab/pkg/stack/kind"
	"homelab/pkg/stack/secret"
)

// Cluster is an API server as the workflows use it; *kube.Cluster is one.
type Cluster interface {
	apply.Client
	rollout.Cluster
	Console
	Context() string
	Serves(ctx context.Context, group string) (bool, error)
}

// Access says how a deployment's cluster is reached: a directory decides, never
// the current context.
type Access struct {
	Kubeconfig string // a file that holds it alone; "" for the user's own files
	Content    []byte // the text of a kubeconfig, instead of a file
	Context    string // "" is the file's current context
	Namespace  string
}

// Engine is the container engine with its kind clusters; *kind.Engine is one.
type Engine interface {
	List(ctx context.Context) ([]string, error)
	Nodes(ctx context.Context, name string) ([]kind.Node, error)
	Kubeconfig(ctx context.Context, name string) ([]byte, error)
	Maker
	Loader
}

// Maker makes and deletes kind clusters.
type Maker interface {
	Create(ctx context.Context, name string, config []byte) error
	Delete(ctx context.Context, name string) error
}

// Loader brings local images into kind clusters.
type Loader interface {
	Load(ctx context.Context, name string, refs []string) ([]string, error)
	LocalID(ctx context.Context, ref string) (string, error)
}

// World is what the workflows stand on. All of it is required, unless said.
type World struct {
	// Connect makes a connection; nothing is dialled.
	Connect func(ctx context.Context, a Access) (Cluster, func(), error)
	// HasContext says whether the user's kubeconfig has a context of that name.
	HasContext func(name string) bool
	Engine     Engine
	// Docker runs what is deployed to compose; DockerConfig is docker's own
	// directory of the user.
	Docker       *compose.Engine
	DockerConfig string
	Secrets      secret.Source
	Hooks        *hook.Runner // nil: stacks with hooks are refused
	// Kubeconfig is the text of a configuration that holds the cluster of a and no
	// other. Required with Hooks.
	Kubeconfig func(ctx context.Context, a Access) ([]byte, error)
	// Images answers for the registries of one connection; nil: nobody is asked.
	Images func(ctx context.Context, c Cluster, namespace string) (rollout.Images, error)
	// History answers for the commit of --sha; nil without a checkout.
	History func(ctx context.Context, commit string) rollout.History
	// Resolver answers for new hosts of http-proxy; nil: nobody is asked.
	Resolver Resolver
	Files    file.Env // of the user: directories, roots of stacks
	Git      []string // environment of git
	Host     string   // this machine's name, for the lease
	Redact   func(r secret.Result)
	// Hide keeps variables out of the environment of whatever else is started;
	// nil: nothing is.
	Hide func(names []string)
	Tell Story
	// Lenient goes on, with a warning, when the container engine cannot say what
	// a kind cluster has mounted, as the older tool did.
	Lenient bool
	Now     func() time.Time
}

// Story is told what happens as it happens. Its methods may be called from
// several goroutines.
type Story interface {
	Stage(name string)                              // "[2/4]" and its like are the listener's
	Line(text string)                               // one thing that was done
	Notice(n file.Notice)                           // each once
	Rollout(namespace string, deployments []string) // a wait for these begins
	Progress(workload int, v rollout.Verdict)       // of that wait
}

// Options are what every verb that writes can be told.
type Options struct {
	Dir     string
	Verb    string // "start", for the lock, the journal and the story
	DryRun  bool
	NoWait  bool
	Strict  bool
	NoHooks bool

	Services       []string          // compose only: nothing but these and what they depend on; nil: all
	Images         map[string]string // container -> reference
	Expected       rollout.Expected  // the commit of --sha; the zero value asks for none
	Containers     []string          // those that Expected is about; nil: all
	AdoptNamespace bool
	AcceptVolumes  []string

	Mode         kind.Mode
	NoLoadImages bool
	WaitJobs     bool
	Force        bool
	Recreate     bool // restart the pods even if nothing differs

	RollbackOnFailure bool // a failed wait is followed by going back to the last good revision
	// Anew begins the time limit again, for going back; nil: what is left of it.
	Anew func() (context.Context, context.CancelFunc, time.Time)

	// Admit is asked once the directory's lock is held, before anything else is
	// done; its error ends the run. nil: nobody is asked.
	Admit func() error
	// Planned is told what will be written, before anything is; its error ends the
	// run. nil: nobody is told.
	Planned func(*apply.Plan) error

	Deadline time.Time // zero: none
	CI       bool      // a CI server is configured, so that its verbs can be recommended
}

// Identity says which deployment a result is about.
type Identity struct {
	Dir       string
	ID        string
	Cluster   string // kind only; "" elsewhere
	Namespace string
	Target    file.Target
	Stack     string
	Rules     file.Rules
}

// Origin is a file that a deployment is made from, with its commit.
type Origin struct {
	Path   string
	Commit git.Commit // "" outside of git
}

// Target is one Deployment, or service of compose, and what its wait came to.
type Target struct {
	Name    string
	Of      rollout.Kind // "" is a Deployment
	Verdict rollout.Verdict
	Kind    fault.Kind
	Took    time.Duration
}

// Outcome is what a workflow came to. It is returned also beside an error, as
// far as it is known by then.
type Outcome struct {
	Verdict string // "up", "stopped", "same", "changes", "held", "conflict", or a rollout's
	Kind    fault.Kind
	Reason  string
	Next    string

	Deployment Identity
	Spec       Origin
	Stack      Origin
	Context    string
	Plan       *apply.Plan
	Targets    []Target
	Jobs       []JobEnd
	Volumes    []VolumeEnd
	Notices    []file.Notice
	Pushed     []Pushed // by push-images
	Revision   int      // that was recorded, or was there already; 0: none
}

// JobEnd is how a Job stood when the wait was over.
type JobEnd struct {
	Name   string
	State  string // "complete", "failed", "running", "suspended"
	Reason string
}

// VolumeEnd is what became of a volume.
type VolumeEnd struct {
	Volume  string
	Claim   string
	PV      string
	Place   string // where its data is, in words
	Deleted bool   // the objects; data on a host always stays
}

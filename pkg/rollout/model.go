package rollout

import (
	"slices"
	"strings"
	"time"
)

// Kind is a kind of workload that can be waited for.
type Kind string

// The kinds, as results and commands name them.
const (
	Deployment  Kind = "deployment"
	StatefulSet Kind = "statefulset"
	DaemonSet   Kind = "daemonset"
	CronJob     Kind = "cronjob"
)

// ParseKind returns the kind that word names, by its name or short name in any
// case; false for any other word.
func ParseKind(word string) (Kind, bool) {
	switch strings.ToLower(word) {
	case "deployment", "deploy":
		return Deployment, true
	case "statefulset", "sts":
		return StatefulSet, true
	case "daemonset", "ds":
		return DaemonSet, true
	case "cronjob", "cj":
		return CronJob, true
	default:
		return "", false
	}
}

// Owner is the controller of an object; zero when it has none.
type Owner struct{ Kind, Name, UID string }

// Meta is what every object has.
type Meta struct {
	Namespace, Name, UID, ResourceVersion string

	Generation    int64
	Created       time.Time
	Deleted       time.Time     // deletionTimestamp; zero while nobody deletes it
	DeletionGrace time.Duration // of a deletion; zero when there is none
	Finalizers    []string
	Labels        map[string]string
	Annotations   map[string]string // of targets and ReplicaSets, only those a rule reads
	Owner         Owner
}

// Terminating reports whether the object is being deleted.
func (m Meta) Terminating() bool { return !m.Deleted.IsZero() }

// Condition is one entry of a status' conditions.
type Condition struct {
	Type, Status, Reason, Message string
	Transition, Update            time.Time // zero when absent
}

// Probe is the timing of a probe with the server's defaults filled in.
type Probe struct {
	InitialDelay, Timeout, Period time.Duration
	Failures, Successes           int32
}

// hint is the time after which a container that starts as planned has been
// reported ready, counted from its start.
func (p Probe) hint() time.Duration {
	return p.InitialDelay + p.Timeout + time.Duration(p.Failures+p.Successes-3)*p.Period + p.Period/2 + p.Timeout
}

// Container is one container of a template.
type Container struct {
	Name, Image string
	Init        bool   // an init container, native sidecars included
	Sidecar     bool   // an init container that keeps running
	Readiness   *Probe // nil: it is ready as soon as it runs
	MemoryLimit string // as written; "" none
	// Env holds the literal values of the variables that name a revision.
	Env map[string]string
}

// Template is a pod template, trimmed.
type Template struct {
	// Hash tells templates apart: equal exactly when the templates are equal as
	// JSON, unknown fields included, but for the label the controller adds.
	Hash string
	// Shape is as Hash, blind to empty values too: controllers that decode and
	// encode a template again add and drop those.
	Shape           string
	Containers      []Container // init containers first, each in template order
	Labels          map[string]string
	Annotations     map[string]string
	PullSecrets     []string // imagePullSecrets by name, for a registry client
	ServiceAccount  string
	NodeSelector    map[string]string
	RestartPolicy   string
	ReadinessGates  []string
	TerminationWait time.Duration // terminationGracePeriodSeconds; 0 when absent
}

// Container returns the container called name.
func (t Template) Container(name string) (Container, bool) {
	i := slices.IndexFunc(t.Containers, func(c Container) bool { return c.Name == name })
	if i < 0 {
		return Container{}, false
	}
	return t.Containers[i], true
}

// sameImages reports whether both templates have the same containers with the
// same image references.
func (t Template) sameImages(o Template) bool {
	return slices.EqualFunc(t.Containers, o.Containers, func(a, b Container) bool {
		return a.Name == b.Name && a.Image == b.Image && a.Init == b.Init
	})
}

// Requirement is one expression of a label selector.
type Requirement struct {
	Key, Operator string // In, NotIn, Exists, DoesNotExist
	Values        []string
}

// Selector is a label selector as a workload carries it; the zero value
// selects nothing and is written "".
type Selector struct {
	Labels map[string]string
	Exprs  []Requirement
}

// String is the selector as a query parameter writes it.
func (s Selector) String() string {
	var parts []string
	for k, v := range s.Labels {
		parts = append(parts, k+"="+v)
	}
	for _, r := range s.Exprs {
		switch r.Operator {
		case "In":
			parts = append(parts, r.Key+" in ("+strings.Join(r.Values, ",")+")")
		case "NotIn":
			parts = append(parts, r.Key+" notin ("+strings.Join(r.Values, ",")+")")
		case "Exists":
			parts = append(parts, r.Key)
		case "DoesNotExist":
			parts = append(parts, "!"+r.Key)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// Matches reports whether the selector selects an object with labels. The
// empty selector and an operator it does not know select nothing.
func (s Selector) Matches(labels map[string]string) bool {
	if len(s.Labels) == 0 && len(s.Exprs) == 0 {
		return false
	}
	for k, v := range s.Labels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	for _, r := range s.Exprs {
		got, ok := labels[r.Key]
		in := ok && slices.Contains(r.Values, got)
		switch r.Operator {
		case "In":
			if !in {
				return false
			}
		case "NotIn":
			if in {
				return false
			}
		case "Exists":
			if !ok {
				return false
			}
		case "DoesNotExist":
			if ok {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// Manager is one entry of managedFields, reduced to what tells who writes
// images.
type Manager struct {
	Name, Operation string
	Time            time.Time
	Images          []string // containers whose image field it owns
}

// Status is the counters of a workload. For a DaemonSet Replicas is the
// number of nodes that should run it.
type Status struct {
	Observed                            int64 // observedGeneration; 0 when never observed
	Replicas, Updated, Ready, Available int32
	Terminating                         *int32 // nil when the server does not report it
	Misscheduled, Current               int32  // DaemonSet
	CurrentRevision, UpdateRevision     string // StatefulSet: names of ControllerRevisions
}

// Update strategies.
const (
	RollingUpdate = "RollingUpdate"
	Recreate      = "Recreate"
	OnDelete      = "OnDelete"
)

// Target is the workload that is waited for. Source: apps/v1, batch/v1.
type Target struct {
	Meta
	Kind             Kind
	Replicas         int32 // wanted; absent is 1; a DaemonSet's is in Status
	Paused           bool
	Suspended        bool // CronJob
	Strategy         string
	MaxUnavailable   string // number or percentage as written; "" when absent
	MinReady         time.Duration
	ProgressDeadline time.Duration // 0: none
	Partition        int32
	FirstOrdinal     int32
	Parallel         bool // podManagementPolicy
	Selector         Selector
	Template         Template
	Status           Status
	Conditions       []Condition
	Managers         []Manager
}

// Condition returns the condition of type t; ok is false when there is none.
func (t Target) Condition(kind string) (Condition, bool) { return condition(t.Conditions, kind) }

func condition(cs []Condition, kind string) (Condition, bool) {
	i := slices.IndexFunc(cs, func(c Condition) bool { return c.Type == kind })
	if i < 0 {
		return Condition{}, false
	}
	return cs[i], true
}

// ReplicaSet is one revision of a Deployment.
type ReplicaSet struct {
	Meta
	Replicas   int32 // wanted
	Status     Status
	Conditions []Condition
	Template   Template
}

// Revision is one ControllerRevision of a DaemonSet or StatefulSet.
type Revision struct {
	Meta
	Number   int64
	Hash     string // label controller-revision-hash
	Template Template
}

// State is one state of a container; the zero value is none.
type State struct {
	Is                StateKind
	Reason, Message   string
	ExitCode          int32 // of a terminated one
	Started, Finished time.Time
}

// StateKind is which of its three states a container is in.
type StateKind string

// The states of a container; "" when it has none yet.
const (
	Waiting    StateKind = "waiting"
	Running    StateKind = "running"
	Terminated StateKind = "terminated"
)

// ContainerStatus is a container of a pod: what was asked for, and how it is.
type ContainerStatus struct {
	Name     string
	Image    string // of the spec; the status may show another name of the same digest
	ImageID  string
	Init     bool
	Sidecar  bool
	Probe    *Probe // readiness
	Ready    bool
	Started  bool
	Restarts int32
	State    State
	Last     State
	Memory   string // limit as written; "" none
	Seen     bool   // the kubelet has reported it
}

// Pod is one pod. Source: core/v1.
type Pod struct {
	Meta
	Node          string // "" while not bound
	Phase         string
	Reason        string // of the pod as a whole, such as Evicted
	Message       string
	Started       time.Time
	Conditions    []Condition
	Containers    []ContainerStatus // init containers first, in spec order
	RestartPolicy string
	Gates         []string // readiness gates by condition type
	Claims        []string // PersistentVolumeClaims by name
}

// Hash is the label that ties a pod of a DaemonSet or StatefulSet to its
// revision; "" when absent.
func (p Pod) Hash() string { return p.Labels["controller-revision-hash"] }

// Condition returns the condition of type kind.
func (p Pod) Condition(kind string) (Condition, bool) { return condition(p.Conditions, kind) }

// Ready reports whether the pod is ready.
func (p Pod) Ready() bool {
	c, ok := p.Condition("Ready")
	return ok && c.Status == "True"
}

// Over reports whether the pod has ended, in success or failure.
func (p Pod) Over() bool { return p.Phase == "Failed" || p.Phase == "Succeeded" }

// Active reports whether the pod counts as a replica: neither over nor being
// deleted.
func (p Pod) Active() bool { return !p.Over() && !p.Terminating() }

// Event is one event about an object.
type Event struct {
	Name                  string
	Type, Reason, Message string
	Count                 int32
	First, Last           time.Time
	Involved              Owner
	FieldPath             string // such as spec.containers{web}
}

// Node is one node.
type Node struct {
	Name          string
	Ready         string // True, False, Unknown; "" when not reported
	ReadyReason   string
	Since         time.Time
	Unschedulable bool
	Taints        []string // keys
}

// Claim is one PersistentVolumeClaim.
type Claim struct {
	Meta
	Phase        string // Pending, Bound, Lost
	StorageClass string
}

// Namespace is a namespace, as far as it is read.
type Namespace struct {
	Meta
	Phase string
}

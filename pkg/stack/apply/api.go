package apply

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"homelab/pkg/kube"
	"homelab/pkg/stack/file"
)

// What this package writes on objects, and reads from them.
const (
	Manager = "homelab"           // the field manager of every write
	Legacy  = "OpenAPI-Generator" // what laconic-so's client is called; operation Update

	LabelApp       = "app"
	LabelStack     = "app.kubernetes.io/stack"
	LabelManagedBy = "app.kubernetes.io/managed-by"
	LabelVolume    = "volume-label"

	AnnotationDir     = "laconic.com/deployment-dir"
	AnnotationID      = "homelab/deployment-id"
	AnnotationApplied = "homelab/applied" // hash of the desired object
	AnnotationSettled = "homelab/settled" // on the namespace: its first prune is through
)

// Client is a cluster as this package uses it; *kube.Cluster is one. Reads
// confirm refusals themselves and are repeated here.
type Client interface {
	Get(ctx context.Context, r kube.Resource, namespace, name string) (kube.Object, error)
	List(ctx context.Context, r kube.Resource, namespace string, q kube.Query) ([]kube.Object, string, error)
	Dynamic() (dynamic.Interface, error)
	Now() time.Time // of the server, for leases
}

// Scope is one deployment on one cluster.
//
// A Scope without ID is a set of objects that belong to no deployment, such as
// an ingress controller: nothing is listed by label, no namespace is owned,
// nothing is pruned; Complete, Diff and Apply do the rest.
type Scope struct {
	Dir       string // the real path of the deployment directory
	ID        string
	Namespace string
	Stack     string // basename of the stack's reference
	Rules     file.Rules

	AdoptNamespace bool     // the namespace's owner is replaced
	AcceptVolumes  []string // volumes (as in the spec) that may move or share

	// NamespaceAnnotations are written on the namespace besides ownership.
	NamespaceAnnotations map[string]string
}

// accepts says whether the volume of that claim may be replaced.
func (s Scope) accepts(claim string) bool {
	return slices.ContainsFunc(s.AcceptVolumes, func(v string) bool { return s.ID+"-"+v == claim })
}

// Desired is what a deployment was rendered to.
type Desired struct {
	Objects  []*unstructured.Unstructured // any order; the Namespace is made by Diff
	Suspend  []string                     // names of Jobs that are not made at start
	Recreate []string                     // names of Jobs that are deleted and made anew
}

// Ref names an object. It is comparable.
type Ref struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"` // "" for cluster-scoped objects
	Name      string `json:"name"`
}

// String is "Deployment acme-deployment".
func (r Ref) String() string { return r.Kind + " " + r.Name }

// Live is what the cluster holds, as far as it concerns one deployment.
type Live struct {
	Namespace *unstructured.Unstructured         // nil: missing
	Objects   map[Ref]*unstructured.Unstructured // labelled as the deployment's, or asked for by Complete
	Volumes   []*unstructured.Unstructured       // every PersistentVolume of the cluster, by name
	Claims    []*unstructured.Unstructured       // every PersistentVolumeClaim of the namespace
	Pods      []*unstructured.Unstructured       // of the deployment and its Jobs
	Scalers   []*unstructured.Unstructured       // HorizontalPodAutoscalers of the namespace
	Classes   []*unstructured.Unstructured       // StorageClasses

	asked  map[Ref]bool     // absent unless in Objects
	missed map[string]error // kinds that could not be listed
}

// Scales says whether an autoscaler decides how many pods a Deployment has.
func (l *Live) Scales(deployment string) bool {
	return slices.ContainsFunc(l.Scalers, func(h *unstructured.Unstructured) bool {
		return text(h, "spec", "scaleTargetRef", "kind") == "Deployment" && text(h, "spec", "scaleTargetRef", "name") == deployment
	})
}

// Conflict is a reason not to write: exit code 9. Of a conflict with Volume,
// --accept-volume names the way out.
type Conflict struct {
	Code    string // namespace-owner, namespace-terminating, volume-moved, volume-shrinks, volume-shared, selector
	Object  Ref
	Volume  string   // of the spec; "" unless it is about one
	Message string   // one sentence naming what is there and where
	Fix     []string // lines: what to write in a file, or a command
}

// Field is a difference between what is live and what it becomes. Values are
// JSON, shortened; those of a Secret are never shown ("changed").
type Field struct {
	Path string `json:"path"`           // spec.template.spec.containers[web].image
	From string `json:"from,omitempty"` // "" when it is new
	To   string `json:"to,omitempty"`   // "" when it goes
}

// Taken is a field that another manager set to another value, and loses.
type Taken struct {
	Path    string `json:"path"`
	Value   string `json:"value"`
	Manager string `json:"manager"`
}

// Change is one object of a plan.
type Change struct {
	Ref
	Why    string  `json:"why,omitempty"` // for Replace and Delete
	Fields []Field `json:"fields,omitempty"`
	Taken  []Taken `json:"taken,omitempty"`
}

// Plan is what a run would write. The exported part is for results.
type Plan struct {
	Create    []Change `json:"create"`
	Update    []Change `json:"update"`
	Replace   []Change `json:"replace"`
	Delete    []Change `json:"delete"`    // by Prune, or before a Deployment that takes over a claim
	Unchanged int      `json:"unchanged"` // rendered objects that need no write

	Notices []file.Notice `json:"-"`
	Kept    []Ref         `json:"-"` // carry the deployment's label, are not rendered and not ours: they stay
	Fates   []Fate        `json:"-"` // of DeletePlan: what becomes of each volume

	scope Scope
	blind error    // of DeletePlan: what was to be deleted could not be read
	steps []action // of Apply, in order
	prune []action // of Prune
}

// Writes counts the requests that Apply and Prune (or Delete) would write with;
// 0 means that neither sends anything.
func (p *Plan) Writes() int {
	n := 0
	for _, a := range slices.Concat(p.steps, p.prune) {
		if a.Action != Awaited {
			n++
		}
	}
	return n
}

// Fate is what stop does with a volume.
type Fate struct {
	Volume  string `json:"volume"` // of the spec
	Claim   string `json:"claim"`  // "" when there is none
	PV      string `json:"pv"`     // "" when there is none
	Path    string `json:"path"`   // on the node; "" when a class provisions it
	Deleted bool   `json:"deleted"`
}

// Action is what one write does to an object.
type Action string

// The actions of steps.
const (
	Created  Action = "create"
	Updated  Action = "update"
	Replaced Action = "replace" // deleted and made anew: two steps, Deleted and Created follow
	Deleted  Action = "delete"
	Migrated Action = "migrate" // field ownership handed over; no value changes
	Released Action = "release" // a PersistentVolume's claim reference is cleared
	Retained Action = "retain"  // a PersistentVolume keeps its data when it is deleted
	Awaited  Action = "await"   // nothing is written: it is waited until the object is gone
)

// Step is a write that is about to be sent.
type Step struct {
	Action Action
	Ref
	Line string // the story's line, told once the write is through; "" none
}

// Options go with every function that writes.
type Options struct {
	// Step is called before each write, for the journal; an error stops the
	// run there. nil: not called.
	Step func(Step) error
	// Done is called after each write that is through. nil: not called.
	Done func(Step)
}

// DeleteOptions are what stop takes away beyond the workloads.
type DeleteOptions struct {
	Volumes   bool // claims, volumes that are ours, generated secrets
	Namespace bool
}

// action is one write of a plan, and what it needs to be repeated safely.
type action struct {
	Step
	object *unstructured.Unstructured // as desired, for Created and Updated
	uid    string                     // of what is deleted or awaited: another object of that name is left alone
}

var _ Client = (*kube.Cluster)(nil)

package render

import (
	compose "github.com/compose-spec/compose-go/v2/types"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/stack/file"
)

// Options are what a command line adds to the files.
type Options struct {
	Images map[string]string // container -> image reference; wins over image-overrides

	Machine Machine // the files that ship with the stack are read from here
	Stage   string  // where the files of the directory lie while it is being made; "" in its place
	Missing Missing // what a bind source that does not exist means
	Memory  *Memory // of the renders before; nil: none
}

// Missing says what a bind source that does not exist means.
type Missing int

// The meanings. Hooks of create may write a source, so it is judged after them.
const (
	MissingRefused Missing = iota // it is a mistake
	MissingWarned                 // under V1 a warning, else a mistake
	MissingLater                  // nothing yet
)

// Facts is what only the cluster knows. The zero value is a cluster of which
// nothing is known: it renders all the same.
type Facts struct {
	Certificates []Certificate       // Ready and valid cert-manager Certificates of the namespace
	NoCertCRDs   bool                // the cluster has no cert-manager
	Endpoints    map[string][]string // external-services with a selector: name -> pod addresses
	HostPaths    map[string]string   // PV name -> hostPath of a live one: under V1 it keeps its path
	PullSecret   string              // name of the Secret pods pull with, when there will be one; "" none
}

// Certificate is a TLS certificate that is there already.
type Certificate struct {
	Secret   string
	DNSNames []string
}

// Result is what a directory comes to.
type Result struct {
	Objects   []*unstructured.Unstructured // by kind and name, Deployments as Workloads; apply sorts kinds
	Workloads []Workload                   // the Deployments, in the order they are applied: depends_on, then the stack's
	Jobs      []Job
	Volumes   []Volume
	Mounts    []Mount    // what the kind node must have mounted for these volumes
	HostPorts []HostPort // what the kind node must pass on, besides 80 and 443
	Notices   []file.Notice
}

// Workload is a Deployment and what its containers must run.
type Workload struct {
	Name   string            // of the Deployment
	Pod    string            // POD
	Images map[string]string // container -> rendered image reference, init containers too
	Claims []string          // PVCs its pods mount
}

// Job is a rendered Job.
type Job struct {
	Name     string // ID-job-JOB
	Job      string // JOB
	Suspend  bool   // label laconic.suspend: not at start
	Recreate bool   // label laconic.recreate-job: deleted and made anew
	Images   map[string]string
}

// Volume is a named volume, and where its data is.
type Volume struct {
	Name     string
	PVC      string // ID-VOLUME
	PV       string // "" when the class provisions it
	Spec     string // the path as the spec has it; "" none
	HostPath string // on this host (k8s-kind) or the nodes (k8s), absolute; "" none
	NodePath string // of the PV: inside the node for kind; "" none
	Size     string // of the request, as rendered
	Pods     []string
	Jobs     []string
}

// Mount is one extraMount of the kind node.
type Mount struct {
	HostPath, ContainerPath string
	Umbrella                bool   // the kind-mount-root
	Role                    string // of the node; "" means control-plane
	Node                    int    // which of that role's nodes, from 0
}

// pod is a pod file, loaded.
type pod struct {
	name     string // POD
	job      bool   // it is a job file
	src      file.Source
	project  *compose.Project
	services []service      // in file order, without those a profile hides
	volumes  []string       // the top-level volumes, in file order
	lines    map[string]int // "volumes.data" -> line, of what stands at the top level
}

// service is one service of a pod file.
type service struct {
	name      string // as written
	container string // as a DNS label
	cfg       compose.ServiceConfig
	init      bool // laconic.init-container, or another service waits for its end
	line      int  // where it begins in the file

	keys   map[string]int     // key -> line, of the service and what it extends
	env    []string           // names of environment, in file order
	mounts map[string]written // target of a volumes entry -> how it is written
	labels map[string]string  // labels, of either form
	res    rawResources       // deploy.resources as written, variables put in
	ports  []string           // ports as written, without variables put in

	extends []string // files it extends services of, as written
}

// written is what compose fills in and the file may not have said.
type written struct {
	line   int
	rw, ro bool // the option stands there
}

// rawResources is deploy.resources as text: compose reads the sizes in its
// own way.
type rawResources struct {
	set bool
	file.Resources
}

// collector gathers what is told of the files.
type collector struct {
	notices  []file.Notice
	problems []Problem
}

// Problem is a mistake that makes a directory impossible to render.
type Problem struct {
	File    string
	Line    int
	Service string
	Key     string
	Message string
}

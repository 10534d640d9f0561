package kind

import (
	"fmt"
	"slices"
	"strings"

	"homelab/pkg/fault"
)

// Mode says who manages clusters: the flags --perform-cluster-management and
// --skip-cluster-management.
type Mode int

// The modes.
const (
	Auto    Mode = iota // made when there is none, deleted when nothing is lost by it
	Perform             // also taken over, and deleted with the deployment
	Skip                // never made, never deleted
)

// Cluster is one kind cluster of this machine.
type Cluster struct {
	Name    string
	Running bool // every node's container runs
	Ours    bool
}

// Action is what start does about its cluster.
type Action int

// The actions.
const (
	Use      Action = iota // the cluster of that name
	Create                 // make it
	TakeOver               // attach to another one, and write that down
)

// Wish is what a deployment says about its cluster.
type Wish struct {
	Name     string // kind-cluster-name of its spec, else its cluster-id
	FromSpec bool   // Name is the spec's, which only a person edits
	Dir      string
}

// AtStart decides which cluster a start uses. The error is what a person must
// decide (Conflict), or that there is nothing to use (Absent).
func AtStart(mode Mode, w Wish, all []Cluster) (Action, string, error) {
	others := names(all, func(c Cluster) bool { return c.Name != w.Name })
	switch c, there := find(all, w.Name); {
	case there && c.Running:
		return Use, w.Name, nil
	case there:
		return Use, w.Name, fault.New(fault.Absent, "the kind cluster "+w.Name+" is there and does not run", "docker start "+w.Name+"-control-plane").
			Because("a container of its nodes is stopped")
	case mode == Skip && len(all) == 0:
		return Use, w.Name, fault.New(fault.Absent, "there is no kind cluster "+w.Name, w.start("--perform-cluster-management")).
			Because("--skip-cluster-management uses one that runs: make it with kind create cluster --name " + w.Name + ", or let homelab make it")
	case len(all) == 0:
		return Create, w.Name, nil
	case mode == Perform && !w.FromSpec:
		ours := names(all, func(c Cluster) bool { return c.Ours && c.Running })
		if len(ours) == 1 {
			return TakeOver, ours[0], nil
		}
		if len(ours) > 1 {
			return Use, w.Name, w.other("several kind clusters run, and none is "+w.Name, others)
		}
	}
	return Use, w.Name, w.other("the kind cluster "+w.Name+" does not run", others)
}

// other says that only clusters of other names are there.
func (w Wish) other(what string, others []string) error {
	line, in := "cluster-id: "+others[0], "deployment.yml"
	if w.FromSpec {
		line, in = "kind-cluster-name: "+others[0], "the spec"
	}
	return fault.New(fault.Conflict, what+"; there is "+strings.Join(others, ", "), "").
		Because(fmt.Sprintf("to attach this deployment to it, write %q in %s; its names and volumes stay", line, in))
}

func (w Wish) start(flag string) string {
	words := "homelab deployment start"
	if w.Dir != "" {
		words += " --dir " + w.Dir
	}
	return words + " " + flag
}

// Tenancy is what stands in the way of deleting a cluster.
type Tenancy struct {
	Annotated bool     // homelab made it
	Named     bool     // its name is one of ours
	Others    []string // namespaces that other deployments own
	Foreign   []string // workloads that belong to nobody we know
	NodeLocal []string // volumes inside a node, of any deployment
	OwnLocal  []string // those of this deployment
	Certs     []string // ingress certificates without a backup
}

// Ours tells whether the cluster may be called ours.
func (t Tenancy) Ours() bool { return t.Annotated || t.Named }

// End is what a stop does about its cluster.
type End struct {
	Delete   bool
	Reasons  []string // why it stays
	Warnings []string // what goes with it
}

// AtStop decides whether a stop deletes the cluster. It is asked twice: before
// anything is stopped, when an error (Conflict) leaves everything as it is.
func AtStop(mode Mode, t Tenancy, force bool) (End, error) {
	switch mode {
	case Skip:
		return End{}, nil
	case Perform:
		if why := t.refusals(); len(why) > 0 && !force {
			return End{}, fault.New(fault.Conflict, "the kind cluster is not deleted: "+strings.Join(why, "; "), "").
				Because("nothing was stopped; --skip-cluster-management stops this deployment alone, --force deletes the cluster all the same")
		}
		var warnings []string
		for _, v := range t.OwnLocal {
			warnings = append(warnings, "volume "+v+" lies inside the node and goes with the cluster")
		}
		return End{Delete: true, Warnings: warnings}, nil
	case Auto:
	}
	why := t.refusals()
	if !t.Annotated {
		why = append([]string{"homelab did not make it"}, slices.DeleteFunc(why, func(s string) bool { return s == notOurs })...)
	}
	if len(t.Foreign) > 0 {
		why = append(why, "it runs "+list(t.Foreign))
	}
	if len(t.NodeLocal) > 0 {
		why = append(why, "volumes lie inside its node: "+list(t.NodeLocal))
	}
	if len(t.Certs) > 0 {
		why = append(why, "ingress certificates have no backup: "+list(t.Certs))
	}
	return End{Delete: len(why) == 0, Reasons: why}, nil
}

const notOurs = "it is not one that homelab made or named"

func (t Tenancy) refusals() []string {
	var why []string
	if !t.Ours() {
		why = append(why, notOurs)
	}
	if len(t.Others) > 0 {
		why = append(why, "other deployments live there, and would fail until a new cluster is made: "+list(t.Others))
	}
	return why
}

// Named tells whether a cluster's name marks it as ours.
func Named(name, fromSpec string) bool {
	return strings.HasPrefix(name, "laconic-") || fromSpec != "" && name == fromSpec
}

func find(all []Cluster, name string) (Cluster, bool) {
	i := slices.IndexFunc(all, func(c Cluster) bool { return c.Name == name })
	if i < 0 {
		return Cluster{}, false
	}
	return all[i], true
}

func names(all []Cluster, want func(Cluster) bool) []string {
	var out []string
	for _, c := range all {
		if want(c) {
			out = append(out, c.Name)
		}
	}
	slices.Sort(out)
	return out
}

// list names at most five.
func list(s []string) string {
	if len(s) > 5 {
		return strings.Join(s[:5], ", ") + fmt.Sprintf(" and %d more", len(s)-5)
	}
	return strings.Join(s, ", ")
}

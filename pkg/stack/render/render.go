package render

import (
	"iter"

	"homelab/pkg/stack/file"
)

// renderer is one render under way.
type renderer struct {
	d      *file.Directory
	o      Options
	f      Facts
	c      *collector
	pods   []pod
	jobs   []pod
	result *Result
	memory map[string]map[string]string // pod and container -> field -> amount as text

	root    string       // kind-mount-root, cleaned; "" none: set by volumes
	storage storage      // set by volumes
	ca      certificates // set by network
}

// v2 reports which rules hold.
func (r *renderer) v2() bool { return r.d.Deployment.Rules == file.V2 }

// id returns the prefix of every object's name.
func (r *renderer) id() string { return r.d.Deployment.ID }

// Render returns what a directory comes to. The error is *Problems, all of
// them at once.
func Render(d *file.Directory, o Options, f Facts) (*Result, error) {
	r := &renderer{d: d, o: o, f: f, result: &Result{}}
	loaded, c := o.Memory.load(d, o.Stage, r.onDisk)
	r.c = c
	for _, p := range loaded {
		if p.job {
			r.jobs = append(r.jobs, p)
		} else {
			r.pods = append(r.pods, p)
		}
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	r.unique()
	after := r.depend()
	r.unknownContainers()
	r.volumes()
	r.network()
	r.credentials()
	r.workloads(after)
	r.validate()
	if err := c.err(); err != nil {
		return nil, err
	}
	r.sort()
	r.result.Notices = c.notices
	return r.result, nil
}

// read reads a file of the directory.
func (r *renderer) read(path string) ([]byte, error) {
	path = r.onDisk(path)
	switch info, err := r.o.Machine.files().Stat(path); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, refusef("it is %s", fileKind(info.Mode()))
	case info.Size() > configMapBudget:
		return nil, refusef("it holds %d bytes, more than any object can", info.Size())
	}
	return r.o.Machine.files().ReadFile(path)
}

// each walks the pods, then the jobs, each in the stack's order.
func (r *renderer) each() iter.Seq[*pod] {
	return func(yield func(*pod) bool) {
		for _, list := range [][]pod{r.pods, r.jobs} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

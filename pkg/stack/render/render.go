package render

import (
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
}

// v2 reports which rules hold.
func (r *renderer) v2() bool { return r.d.Deployment.Rules == file.V2 }

// id returns the prefix of every object's name.
func (r *renderer) id() string { return r.d.Deployment.ID }

// Render returns what a directory comes to. The error is *Problems, all of
// them at once.
func Render(d *file.Directory, o Options, f Facts) (*Result, error) {
	loaded, c := load(d)
	r := &renderer{d: d, o: o, f: f, c: c, result: &Result{}}
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
	r.volumes()
	r.network()
	if err := c.err(); err != nil {
		return nil, err
	}
	r.result.Notices = c.notices
	return r.result, nil
}

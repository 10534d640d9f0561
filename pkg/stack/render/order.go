package render

import (
	"maps"
	"slices"

	compose "github.com/compose-spec/compose-go/v2/types"

	"homelab/pkg/stack/file"
)

// depend judges depends_on: which services of a pod must end before its
// containers start, and which pods are applied before others. after[i] are the
// pods that pod i comes after.
func (r *renderer) depend() (after [][]int) {
	after = make([][]int, len(r.pods))
	where := map[string]int{} // service -> index of its pod; jobs have none
	hidden := map[string]bool{}
	for p := range r.each() {
		for name := range p.project.Services {
			hidden[name] = true
		}
	}
	for i := range r.pods {
		for _, s := range r.pods[i].services {
			if _, ok := where[s.name]; !ok {
				where[s.name] = i
			}
		}
	}
	self := 0
	for p := range r.each() {
		for i := range p.services {
			s := &p.services[i]
			for _, name := range slices.Sorted(maps.Keys(s.cfg.DependsOn)) {
				d := s.cfg.DependsOn[name]
				own := p.service(name)
				other, known := where[name]
				switch {
				case own != nil:
					r.inside(p, s, own, d)
				case known:
					if !p.job && other != self {
						after[self] = append(after[self], other)
					}
					if d.Condition != compose.ServiceConditionStarted {
						r.tell(p, s, file.Changed, "depends-on-condition", "depends_on",
							"the pod of %s is applied first, but nothing waits until %s", name, condition(d.Condition))
					}
				case hidden[name]:
					r.tell(p, s, file.Changed, "depends-on-hidden", "depends_on", "%s runs by itself, or not at all: nothing waits for it", name)
				case d.Required:
					r.refuse(p, s, "depends_on", "there is no service %q in any file of this stack", name)
				}
			}
		}
		self++
	}
	return after
}

// inside judges a dependency between two containers of one pod.
func (r *renderer) inside(p *pod, s, on *service, d compose.ServiceDependency) {
	switch d.Condition {
	case compose.ServiceConditionCompletedSuccessfully:
		if on.init {
			return
		}
		if r.v2() && r.canPrecede(p, on, nil) {
			on.init = true
			return
		}
		r.tell(p, s, file.Changed, "depends-on-condition", "depends_on",
			"%s runs beside %s, which does not wait until %s", on.name, s.name, condition(d.Condition))
	case compose.ServiceConditionHealthy:
		if on.init {
			return
		}
		r.tell(p, s, file.Changed, "depends-on-condition", "depends_on",
			"both are containers of one pod, and nothing waits until %s", condition(d.Condition))
	default:
		r.tell(p, s, file.Info, "depends-on-pod", "depends_on", "both are containers of one pod and start together")
	}
}

// canPrecede reports whether a service can run to its end before the pod's
// containers start: it must not need one of them.
func (r *renderer) canPrecede(p *pod, s *service, seen []string) bool {
	if slices.Contains(seen, s.name) {
		return false
	}
	for name, d := range s.cfg.DependsOn {
		on := p.service(name)
		if on == nil {
			continue
		}
		ends := on.init || d.Condition == compose.ServiceConditionCompletedSuccessfully
		if !ends || !r.canPrecede(p, on, append(seen, s.name)) {
			return false
		}
	}
	return true
}

// condition tells what a condition waits for.
func condition(c string) string {
	switch c {
	case compose.ServiceConditionHealthy:
		return "it is healthy"
	case compose.ServiceConditionCompletedSuccessfully:
		return "it has ended well"
	default:
		return "it has started"
	}
}

func (p *pod) service(name string) *service {
	for i := range p.services {
		if p.services[i].name == name {
			return &p.services[i]
		}
	}
	return nil
}

// sorted returns the init containers of a pod in the order they must run, then
// the others, each in file order otherwise.
func (p *pod) sorted() (inits, mains []*service) {
	done := map[string]bool{}
	var visit func(s *service)
	visit = func(s *service) {
		if done[s.name] {
			return
		}
		done[s.name] = true
		for i := range p.services {
			on := &p.services[i]
			if _, ok := s.cfg.DependsOn[on.name]; ok && on.init {
				visit(on)
			}
		}
		inits = append(inits, s)
	}
	for i := range p.services {
		if s := &p.services[i]; s.init {
			visit(s)
		} else {
			mains = append(mains, s)
		}
	}
	return inits, mains
}

// order returns the pods' indices with every pod behind those it comes after.
// Pods that come after each other stay in the stack's order.
func order(after [][]int) []int {
	seen := make([]bool, len(after))
	var out []int
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		for _, j := range slices.Sorted(slices.Values(after[i])) {
			visit(j)
		}
		out = append(out, i)
	}
	for i := range after {
		visit(i)
	}
	return out
}

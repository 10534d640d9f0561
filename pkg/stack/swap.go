package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"homelab/pkg/fault"
	"homelab/pkg/flock"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

// What bringing everything back may take once the run itself has ended. After a
// signal the process has little more than a second left; what does not fit is in
// the journal.
const (
	swapBack       = 15 * time.Second
	swapBackSignal = time.Second
)

// swap is what a restart has changed to show its maintenance page, as it was
// before. It is in the journal before the first write, so that whoever comes
// next can bring it back.
type swap struct {
	Namespace string     `json:"namespace"`
	Ingress   string     `json:"ingress"`
	UID       string     `json:"uid"`   // of the Ingress
	Rules     []any      `json:"rules"` // of the Ingress
	Service   string     `json:"service"`
	Port      int64      `json:"port"`
	Scaled    []replicas `json:"scaled"`
}

// replicas is how many pods a Deployment had.
type replicas struct {
	Name  string `json:"name"`
	UID   string `json:"uid"`
	Count int64  `json:"count"`
}

func ingresses() kube.Resource {
	return kube.Resource{Group: "networking.k8s.io", Version: "v1", Plural: "ingresses"}
}

// behindPage does what restarts pods. With a maintenance-service, and if the
// plan restarts more than the page itself, the page is shown meanwhile, and the
// other Deployments are taken down before they come up again. However that ends,
// what was changed for it is brought back.
func (r *run) behindPage(ctx context.Context, during func() error) error {
	others := behind(r.rules.Page, r.rules.Workloads, r.plan)
	if r.o.Verb != "restart" || r.o.NoWait || len(others) == 0 {
		return during()
	}
	err := r.swapIn(ctx, others)
	if err == nil {
		err = during()
	}
	return r.swapOut(ctx, err)
}

// behind are the Deployments that go down behind a page: all but its own,
// if the plan changes one of them. One that is only made now has nobody who
// waits for it.
func behind(page *render.Page, all []render.Workload, plan *apply.Plan) []string {
	if page == nil || plan == nil {
		return nil
	}
	var others []string
	for _, w := range all {
		if w.Name != page.Workload {
			others = append(others, w.Name)
		}
	}
	if !slices.ContainsFunc(slices.Concat(plan.Update, plan.Replace), func(c apply.Change) bool {
		return c.Kind == "Deployment" && slices.Contains(others, c.Name)
	}) {
		return nil
	}
	return others
}

// unpaged tells why a restart of a spec with maintenance-service shows no page,
// and refuses what would leave it standing.
func (r *run) unpaged() error {
	m := r.d.Spec.Maintenance
	if m == nil || r.composed() || r.rules.Page == nil {
		return nil
	}
	if r.o.NoWait {
		return fault.Usagef("homelab deployment update --no-wait --dir "+r.o.Dir, "--no-wait and maintenance-service exclude each other").
			Because("the page is taken away when the stack was seen up; update shows none")
	}
	message := ""
	switch page := *r.rules.Page; {
	case len(r.d.Spec.Proxies) == 0:
		message = "there is no http-proxy: nothing leads to the page, and it is not shown"
	case !slices.ContainsFunc(r.rules.Workloads, func(w render.Workload) bool { return w.Name != page.Workload }):
		message = "the page is in the one pod that restarts, and is not shown: put " + m.Container + " into a pod file of its own"
	default:
		return nil
	}
	n := []file.Notice{{
		Code: "maintenance-not-shown", Level: file.Ignored, File: r.d.Spec.File, Line: m.Pos.Line, Key: "maintenance-service", Message: message,
	}}
	r.notices(n)
	if r.o.Strict {
		return strict(n)
	}
	return nil
}

// swapIn points the Ingress at the page once its pods are ready, takes the
// others down and up again.
func (r *run) swapIn(ctx context.Context, others []string) error {
	page := *r.rules.Page
	if len(r.d.Spec.Proxies) == 0 {
		return nil
	}
	if v := r.pageUp(ctx, page.Workload); v.Outcome != rollout.Ready {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.w.Tell.Line("the maintenance page is not shown: " + page.Workload + " " + v.Sentence)
		return nil // the wait for everything comes to the same, and says it
	}
	s, pointed, err := r.before(ctx, others)
	if err != nil || s == nil {
		return err
	}
	r.swap = s
	if err := r.journal.Write(r.entry()); err != nil {
		r.swap = nil // nothing was changed
		return err
	}
	if err := r.point(ctx, s.Ingress, pointed); err != nil {
		return told("Ingress "+s.Ingress+" cannot be pointed at the maintenance page", err)
	}
	r.w.Tell.Line(fmt.Sprintf("Ingress %s leads to the maintenance page %s:%d", s.Ingress, s.Service, s.Port))
	var down []string
	for _, d := range s.Scaled {
		if err := scale(ctx, r.c, s.Namespace, d.Name, 0); err != nil {
			return told("Deployment "+d.Name+" cannot be scaled down", err)
		}
		down = append(down, d.Name)
	}
	r.w.Tell.Line("scaled down: " + strings.Join(down, ", "))
	if err := apply.Drained(ctx, r.c, r.scope, down); err != nil {
		return err
	}
	for _, d := range s.Scaled {
		if err := scale(ctx, r.c, s.Namespace, d.Name, d.Count); err != nil {
			return told("Deployment "+d.Name+" cannot be scaled up again", err)
		}
	}
	r.w.Tell.Line("scaled up again: " + strings.Join(down, ", "))
	return nil
}

// pageUp waits for the pods of the page as they were applied.
func (r *run) pageUp(ctx context.Context, name string) rollout.Verdict {
	c := rollout.Config{Kind: rollout.Deployment, Namespace: r.scope.Namespace, Name: name, Deadline: r.o.Deadline}
	for _, w := range r.rules.Workloads {
		if w.Name == name {
			c.Images = w.Images
		}
	}
	return rollout.Wait(ctx, r.c, []rollout.Config{c}, rollout.Sources{}, func(int, rollout.Verdict) {})[0]
}

// before reads what a swap is about to change, and what the rules become. nil:
// there is nothing to point at the page.
func (r *run) before(ctx context.Context, others []string) (*swap, []any, error) {
	page := *r.rules.Page
	s := &swap{Namespace: r.scope.Namespace, Ingress: r.scope.ID + "-ingress", Service: page.Service, Port: int64(page.Port)}
	ingress, err := there(ctx, r.c, ingresses(), s.Namespace, s.Ingress)
	if err != nil || ingress == nil {
		return nil, nil, told("Ingress "+s.Ingress+" cannot be read", err)
	}
	s.UID = string(ingress.GetUID())
	s.Rules, _, _ = unstructured.NestedSlice(ingress.Object, "spec", "rules")
	for _, name := range others {
		d, err := there(ctx, r.c, kube.Apps("deployments"), s.Namespace, name)
		if err != nil {
			return nil, nil, told("Deployment "+name+" cannot be read", err)
		}
		if d == nil {
			continue
		}
		n, set, _ := unstructured.NestedInt64(d.Object, "spec", "replicas")
		if !set {
			n = 1
		}
		if n > 0 {
			s.Scaled = append(s.Scaled, replicas{Name: name, UID: string(d.GetUID()), Count: n})
		}
	}
	return s, s.pointed(), nil
}

// swapOut brings back what swapIn has changed. err is how the run went so far,
// and stays what is told unless the end of the swap fails.
func (r *run) swapOut(ctx context.Context, err error) error {
	if r.swap == nil {
		return err
	}
	limit := swapBack
	if _, signal := errors.AsType[*fault.Signal](context.Cause(ctx)); signal {
		limit = swapBackSignal
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if back := r.swap.restore(after, r.c); back != nil {
		return r.stillSwapped(back, err)
	}
	r.w.Tell.Line("Ingress " + r.swap.Ingress + " leads to its services again")
	r.swap = nil
	return errors.Join(err, r.journal.Write(r.entry()))
}

// stillSwapped says that the end of a swap failed. The journal keeps what it
// takes, and any verb that writes brings it back first.
func (r *run) stillSwapped(back, before error) error {
	why := back.Error()
	if before != nil {
		why = before.Error() + "; then " + why
	}
	return fault.New(fault.Unsafe, "the maintenance page of "+r.scope.Namespace+" is still shown", "homelab deployment restart --dir "+r.o.Dir).
		Because(why).From(back)
}

// settleSwap brings back what a restart that was cut off has left.
func (r *run) settleSwap(ctx context.Context, raw json.RawMessage) error {
	var s swap
	if err := json.Unmarshal(raw, &s); err != nil {
		return fault.New(fault.Unsafe, "an interrupted restart has shown its maintenance page, and it is not known what stood there", "kubectl get ingress --namespace "+r.scope.Namespace).
			Because("the journal of " + r.d.Path + ": " + err.Error()).From(err)
	}
	c, done, err := r.w.connect(ctx, r.d)
	if fault.KindOf(err) == fault.Absent {
		return nil // with the cluster went all of it
	}
	if err != nil {
		return err
	}
	defer done()
	r.w.Tell.Line("a restart was cut off behind its maintenance page: bringing Ingress " + s.Ingress + " and the replicas back")
	if err := s.restore(ctx, c); err != nil {
		if r.w.gone(ctx, r.d, told("", err)) {
			return nil
		}
		if e := told("the Ingress and the replicas of "+s.Namespace+" cannot be brought back", err); fault.KindOf(e) == fault.Unreachable || fault.KindOf(e) == fault.Denied || ctx.Err() != nil {
			return e
		}
		return r.stillSwapped(err, nil)
	}
	return nil
}

// displaced says in a look that a run shows its maintenance page, or has left it
// standing: whoever visits the stack sees that, however well its pods are.
func (r *run) displaced() {
	e, err := directory.OpenJournal(r.d.Path).Read()
	if err != nil || e == nil || e.Swap == nil || r.out.Kind == fault.Unsafe {
		return
	}
	var s swap
	if json.Unmarshal(e.Swap, &s) != nil || !s.stands(r.live) {
		return
	}
	out := r.out
	if busy, err := flock.Held(directory.LockPath(r.d.Path)); err == nil && busy {
		if out.Kind == fault.OK {
			out.Kind, out.Verdict, out.Next = fault.Timeout, string(rollout.Timeout), "homelab deployment status --dir "+r.o.Dir
			out.Reason = fmt.Sprintf("process %d (%s) shows the maintenance page", e.PID, e.Verb)
		}
		return
	}
	out.Kind, out.Verdict, out.Next = fault.Unsafe, fault.Unsafe.Name(), "homelab deployment restart --dir "+r.o.Dir
	out.Reason = "a " + e.Verb + " was cut off behind its maintenance page: hosts lead there or Deployments are scaled to 0 until a verb that writes brings them back"
}

// swapping says whether the journal knows of a maintenance page: Deployments are
// scaled to 0 behind one.
func (r *run) swapping() bool {
	e, err := directory.OpenJournal(r.d.Path).Read()
	return err != nil || e != nil && e.Swap != nil
}

// stands tells whether any of what a swap changes is still as it made it.
func (s *swap) stands(live *apply.Live) bool {
	for _, d := range s.Scaled {
		o := live.Objects[apply.Ref{Kind: "Deployment", Namespace: s.Namespace, Name: d.Name}]
		if o == nil || string(o.GetUID()) != d.UID {
			continue
		}
		if n, set, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); set && n == 0 {
			return true
		}
	}
	o := live.Objects[apply.Ref{Kind: "Ingress", Namespace: s.Namespace, Name: s.Ingress}]
	if o == nil || string(o.GetUID()) != s.UID {
		return false
	}
	rules, _, _ := unstructured.NestedSlice(o.Object, "spec", "rules")
	_, changed := s.back(rules)
	return changed
}

// restore brings back what a swap has changed, and nothing that somebody has
// changed since. It may be repeated.
func (s *swap) restore(ctx context.Context, c Cluster) error {
	for _, d := range s.Scaled {
		live, err := there(ctx, c, kube.Apps("deployments"), s.Namespace, d.Name)
		if err != nil {
			return err
		}
		if live == nil || string(live.GetUID()) != d.UID {
			continue
		}
		if n, set, _ := unstructured.NestedInt64(live.Object, "spec", "replicas"); !set || n != 0 {
			continue
		}
		if err := scale(ctx, c, s.Namespace, d.Name, d.Count); err != nil {
			return fmt.Errorf("deployment %s: %w", d.Name, err)
		}
	}
	live, err := there(ctx, c, ingresses(), s.Namespace, s.Ingress)
	if err != nil || live == nil || string(live.GetUID()) != s.UID {
		return err
	}
	rules, _, _ := unstructured.NestedSlice(live.Object, "spec", "rules")
	back, changed := s.back(rules)
	if !changed {
		return nil
	}
	return patch(ctx, c, ingresses(), s.Namespace, s.Ingress, map[string]any{"spec": map[string]any{"rules": back}})
}

func (r *run) point(ctx context.Context, ingress string, rules []any) error {
	return patch(ctx, r.c, ingresses(), r.scope.Namespace, ingress, map[string]any{"spec": map[string]any{"rules": rules}})
}

func scale(ctx context.Context, c Cluster, namespace, name string, n int64) error {
	return patch(ctx, c, kube.Apps("deployments"), namespace, name, map[string]any{"spec": map[string]any{"replicas": n}})
}

// there reads an object; nil when there is none.
func there(ctx context.Context, c Cluster, res kube.Resource, namespace, name string) (*unstructured.Unstructured, error) {
	o, err := c.Get(ctx, res, namespace, name)
	if kube.IsAbsent(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	return decode(o)
}

// pointed are the rules with every path leading to the page.
func (s *swap) pointed() []any {
	out := copied(s.Rules)
	for _, p := range paths(out) {
		p.path["backend"] = map[string]any{"service": map[string]any{"name": s.Service, "port": map[string]any{"number": s.Port}}}
	}
	return out
}

// back are live rules with each path that leads to the page leading to where it
// led before. Paths that are new, or that lead elsewhere by now, stay.
func (s *swap) back(live []any) (rules []any, changed bool) {
	out := copied(live)
	was := paths(copied(s.Rules))
	for _, p := range paths(out) {
		if !s.isPage(p.path["backend"]) {
			continue
		}
		i := slices.IndexFunc(was, func(w rulePath) bool { return w.host == p.host && w.path["path"] == p.path["path"] })
		if i < 0 || s.isPage(was[i].path["backend"]) {
			continue
		}
		p.path["backend"] = was[i].path["backend"]
		changed = true
	}
	return out, changed
}

func (s *swap) isPage(backend any) bool {
	b, _ := backend.(map[string]any)
	name, _, _ := unstructured.NestedString(b, "service", "name")
	port, _, _ := unstructured.NestedFieldNoCopy(b, "service", "port", "number")
	return name == s.Service && fmt.Sprint(port) == fmt.Sprint(s.Port)
}

// rulePath is one path of one host, in place.
type rulePath struct {
	host any
	path map[string]any
}

func paths(rules []any) []rulePath {
	var out []rulePath
	for _, r := range rules {
		rule, _ := r.(map[string]any)
		list, _, _ := unstructured.NestedFieldNoCopy(rule, "http", "paths")
		all, _ := list.([]any)
		for _, p := range all {
			if m, ok := p.(map[string]any); ok {
				out = append(out, rulePath{rule["host"], m})
			}
		}
	}
	return out
}

func copied(rules []any) []any {
	out, _ := runtime.DeepCopyJSONValue(rules).([]any)
	return out
}

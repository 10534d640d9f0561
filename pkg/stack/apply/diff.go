package apply

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/kube"
	"homelab/pkg/stack/file"
)

// Diff compares d with what is live and plans the writes. Where the annotation
// homelab/applied does not settle that an object is as it should be, a dry run
// of its apply is asked for; nothing is written. live has to be complete for
// d, and free of conflicts. The error is a *fault.Error: an object the server
// refuses is Failed, or Conflict for a field that cannot be changed; Denied;
// Unreachable; or ctx's cause.
func Diff(ctx context.Context, c Client, live *Live, d Desired, s Scope) (*Plan, error) {
	p := &planner{ctx: ctx, c: c, live: live, d: d, s: s, plan: &Plan{
		Create: []Change{}, Update: []Change{}, Replace: []Change{}, Delete: []Change{}, scope: s,
	}}
	if err := p.prepare(); err != nil {
		return nil, err
	}
	p.replacedClaims()
	if err := p.judge(); err != nil {
		return nil, err
	}
	p.order()
	if s.ID != "" {
		p.leftovers()
	}
	return p.plan, nil
}

type planner struct {
	ctx  context.Context //nolint:containedctx // lives as long as the call of Diff
	c    Client
	live *Live
	d    Desired
	s    Scope
	plan *Plan

	wants   []*want
	early   []*unstructured.Unstructured // Deployments that go before others start
	claims  map[string]bool              // claims that are replaced
	volumes map[string]bool              // PersistentVolumes that are replaced
	cleared map[Ref]bool                 // deleted before anything is written
}

// want is one desired object and what becomes of it.
type want struct {
	ref    Ref
	object *unstructured.Unstructured // as it will be sent
	live   *unstructured.Unstructured // nil: missing
	do     Action                     // "" when there is nothing to do
	change Change
	moves  bool // its ownership is handed over first
}

// prepare makes the objects as they will be sent, in the order of kinds.
func (p *planner) prepare() error {
	if p.s.ID != "" {
		ns := &unstructured.Unstructured{Object: object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": p.s.Namespace}}}
		a := map[string]string{AnnotationDir: p.s.Dir, AnnotationID: p.s.ID}
		maps.Copy(a, p.s.NamespaceAnnotations)
		made := p.live.Namespace == nil
		if made || p.live.Namespace.GetAnnotations()[AnnotationSettled] != "" {
			a[AnnotationSettled] = "true"
		}
		ns.SetAnnotations(a)
		if made || p.live.Namespace.GetLabels()[LabelManagedBy] == Manager {
			// Who made it decides whether stop may delete it.
			ns.SetLabels(map[string]string{LabelManagedBy: Manager})
		}
		p.wants = append(p.wants, &want{ref: p.s.ref(ns), object: ns, live: p.live.Namespace})
	}
	for _, o := range p.d.Objects {
		k, err := kindOf(o.GetKind())
		if err != nil {
			return failed(p.ctx, err, o.GetName())
		}
		w := &want{ref: p.s.ref(o)}
		if k.name == "Namespace" && p.s.ID != "" {
			continue
		}
		if w.object, err = plain(o); err != nil {
			return failed(p.ctx, err, w.ref.String())
		}
		if !k.cluster {
			w.object.SetNamespace(w.ref.Namespace)
		}
		w.live = p.live.Objects[w.ref]
		if p.s.ID != "" {
			labels := w.object.GetLabels()
			if labels == nil {
				labels = map[string]string{}
			}
			labels[LabelManagedBy] = Manager
			w.object.SetLabels(labels)
		}
		p.wants = append(p.wants, w)
	}
	slices.SortStableFunc(p.wants, func(a, b *want) int { return cmp.Compare(rank(a.ref.Kind), rank(b.ref.Kind)) })
	for _, w := range p.wants {
		p.adapt(w)
		if p.s.ID == "" || w.ref.Kind != "Namespace" { // several write on a deployment's namespace
			a := w.object.GetAnnotations()
			if a == nil {
				a = map[string]string{}
			}
			delete(a, AnnotationApplied)
			w.object.SetAnnotations(a)
			a[AnnotationApplied] = hash(w.object)
			w.object.SetAnnotations(a)
		}
	}
	return nil
}

// adapt leaves out, or takes over, what only the live object can decide.
func (p *planner) adapt(w *want) {
	switch {
	case w.live == nil:
	case w.ref.Kind == "Deployment":
		p.adaptReplicas(w)
		p.adaptChecksum(w)
	case w.ref.Kind == "PersistentVolumeClaim":
		p.adaptStorage(w)
	}
}

// adaptReplicas leaves the number of pods to an autoscaler. While nobody but us
// has set it, leaving it out would make the server fall back to one: then the
// live number is said instead, and the autoscaler's first step takes it over.
func (p *planner) adaptReplicas(w *want) {
	if !p.live.Scales(w.ref.Name) {
		return
	}
	spec, ok := w.object.Object["spec"].(object)
	if !ok {
		return
	}
	delete(spec, "replicas")
	others := func(e metav1.ManagedFieldsEntry) bool { return !isOurs(e) && !isLegacy(e) && e.Subresource != "status" }
	if n := at(w.live.Object, "spec", "replicas"); n != nil && !owns(w.live, others, "spec", "replicas") {
		spec["replicas"] = n
	}
}

const checksum = "homelab/checksum"

// adaptChecksum leaves the checksum of mounted files out of a template that has
// none, while the files are what they were: adding it would restart the pods.
func (p *planner) adaptChecksum(w *want) {
	path := []string{"spec", "template", "metadata", "annotations"}
	if p.s.Rules != file.V1 || at(w.object.Object, append(path, checksum)...) == nil || at(w.live.Object, append(path, checksum)...) != nil {
		return
	}
	for _, o := range p.d.Objects {
		if k := o.GetKind(); k != "ConfigMap" && k != "Secret" || !mounts(w.object, k, o.GetName()) {
			continue
		}
		have := p.live.Objects[p.s.ref(o)]
		now, err := plain(o)
		if have == nil || err != nil || !reflect.DeepEqual(content(have), content(now)) {
			return
		}
	}
	unstructured.RemoveNestedField(w.object.Object, append(path, checksum)...)
	if a, ok := at(w.object.Object, path...).(object); ok && len(a) == 0 {
		unstructured.RemoveNestedField(w.object.Object, path...)
		if m, ok := at(w.object.Object, path[:3]...).(object); ok && len(m) == 0 {
			unstructured.RemoveNestedField(w.object.Object, path[:3]...)
		}
	}
}

// content is what files of a ConfigMap or Secret hold, whichever way they are
// written.
func content(o *unstructured.Unstructured) map[string]string {
	out := map[string]string{}
	coded := []string{"binaryData"}
	if o.GetKind() == "Secret" {
		coded = []string{"data"}
	} else if m, ok := o.Object["data"].(object); ok {
		for key, v := range m {
			out[key], _ = v.(string)
		}
	}
	for _, field := range coded {
		m, _ := o.Object[field].(object)
		for key, v := range m {
			s, _ := v.(string)
			raw, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				raw = []byte(s)
			}
			out[key] = string(raw)
		}
	}
	return out
}

// mounts says whether the pods of a Deployment mount that ConfigMap or Secret.
func mounts(deployment *unstructured.Unstructured, kind, name string) bool {
	source, field := "configMap", "name"
	if kind == "Secret" {
		source, field = "secret", "secretName"
	}
	for _, v := range list(at(deployment.Object, "spec", "template", "spec", "volumes")) {
		if at(v, source, field) == name {
			return true
		}
		for _, part := range list(at(v, "projected", "sources")) {
			if at(part, source, "name") == name {
				return true
			}
		}
	}
	return false
}

// adaptStorage keeps the size of a claim that cannot be changed.
func (p *planner) adaptStorage(w *want) {
	order := compareStorage(w.live, w.object)
	static := text(w.object, "spec", "volumeName") != ""
	class := text(w.live, "spec", "storageClassName")
	grows := slices.ContainsFunc(p.live.Classes, func(c *unstructured.Unstructured) bool {
		return c.GetName() == class && at(c.Object, "allowVolumeExpansion") == true
	})
	bound := text(w.live, "spec", "volumeName") != ""
	switch {
	case order == 0, order < 0 && grows && bound && !static, order > 0 && !static && bound:
		return // equal, grown by the class, or Guard's business
	}
	if !static {
		p.plan.Notices = append(p.plan.Notices, notice("volume-size", file.Changed, fmt.Sprintf(
			"%s keeps its %s: its class cannot make it %s", w.ref, storage(w.live), storage(w.object))))
	} else {
		p.plan.Notices = append(p.plan.Notices, notice("volume-size", file.Info, fmt.Sprintf(
			"%s keeps its nominal %s instead of %s: the size of a directory is not limited by it", w.ref, storage(w.live), storage(w.object))))
	}
	_ = unstructured.SetNestedField(w.object.Object, storage(w.live), "spec", "resources", "requests", "storage")
}

// replacedClaims finds the claims and volumes that cannot become what is wanted
// and that were accepted to be made anew, or hold nothing yet.
func (p *planner) replacedClaims() {
	p.claims, p.volumes = map[string]bool{}, map[string]bool{}
	for _, m := range moves(p.live, p.d, p.s) {
		if !p.s.accepts(m.claim) {
			continue
		}
		p.claims[m.claim] = p.live.Objects[p.s.own("PersistentVolumeClaim", m.claim)] != nil
		if v := p.live.volume(m.claim); v != nil && ours(v, p.s) {
			p.volumes[v.GetName()] = true
		}
	}
	for _, w := range p.wants {
		// A claim that is bound to nothing holds nothing, and is made anew when
		// its volume or class changes: both cannot be edited.
		if w.ref.Kind == "PersistentVolumeClaim" && w.live != nil && text(w.live, "spec", "volumeName") == "" &&
			(text(w.object, "spec", "volumeName") != "" ||
				text(w.object, "spec", "storageClassName") != "" && text(w.object, "spec", "storageClassName") != text(w.live, "spec", "storageClassName")) {
			p.claims[w.ref.Name] = true
		}
	}
}

// homeless says that an object's namespace is yet to be made: until then the
// server refuses whatever it is asked about it.
func (p *planner) homeless(r Ref) bool {
	if p.s.ID != "" {
		return p.live.Namespace == nil
	}
	return slices.ContainsFunc(p.wants, func(w *want) bool {
		return w.ref.Kind == "Namespace" && w.ref.Name == r.Namespace && w.live == nil
	})
}

// judge decides what becomes of each object.
func (p *planner) judge() error {
	g := newGroup()
	for _, w := range p.wants {
		w.change = Change{Ref: w.ref}
		switch {
		case w.live == nil && w.ref.Kind == "Job" && slices.Contains(p.d.Suspend, w.ref.Name):
		case w.live == nil:
			w.do = Created
			if !p.homeless(w.ref) {
				g.do(func() error { _, err := p.dryRun(w.object); return err })
			}
		case w.ref.Kind == "Job":
			p.judgeJob(w)
		default:
			if w.change.Why = p.replaced(w); w.change.Why != "" {
				w.do = Replaced
				w.change.Fields = p.fields(w, w.live, merged(w))
				continue
			}
			g.do(func() error { return p.judgeLive(w) })
		}
	}
	if err := g.wait(); err != nil {
		return err
	}
	p.claimed()
	for _, w := range p.wants {
		switch w.do {
		case Created:
			p.plan.Create = append(p.plan.Create, w.change)
		case Updated:
			p.plan.Update = append(p.plan.Update, w.change)
		case Replaced:
			p.plan.Replace = append(p.plan.Replace, w.change)
		case Deleted, Migrated, Released, Retained, Awaited:
		default:
			switch {
			case p.released(w):
				w.change.Why = "it is Released, its claimRef is cleared"
				p.plan.Update = append(p.plan.Update, w.change)
			case w.live != nil:
				p.plan.Unchanged++
			}
		}
	}
	return nil
}

// judgeJob: a Job that is there has run, or runs, and is never run again.
func (p *planner) judgeJob(w *want) {
	if slices.Contains(p.d.Recreate, w.ref.Name) {
		w.do, w.change.Why = Replaced, "it is made anew at every start"
		return
	}
	same := w.live.GetAnnotations()[AnnotationApplied] == w.object.GetAnnotations()[AnnotationApplied]
	if !same && w.live.GetAnnotations()[AnnotationApplied] == "" {
		same = contains(at(w.live.Object, "spec", "template", "spec"), at(w.object.Object, "spec", "template", "spec"))
	}
	if same {
		p.plan.Notices = append(p.plan.Notices, notice("job-exists", file.Info, "Job "+w.ref.Name+" already exists, skipping"))
		return
	}
	p.plan.Notices = append(p.plan.Notices, notice("job-changed", file.Ignored, fmt.Sprintf(
		"Job %s already exists and is not run again, although it has changed: delete it, or label its service laconic.recreate-job", w.ref.Name)))
}

// anew says that an object is made anew; it has been judged before.
func (p *planner) anew(r Ref) bool {
	return slices.ContainsFunc(p.wants, func(w *want) bool { return w.ref == r && w.do == Replaced })
}

// replaced says why an object has to be deleted and made anew, or "".
func (p *planner) replaced(w *want) string {
	have, want := w.live, w.object
	switch w.ref.Kind {
	case "Service":
		was, is := text(have, "spec", "type"), cmp.Or(text(want, "spec", "type"), "ClusterIP")
		if (was == "ExternalName") != (is == "ExternalName") {
			return fmt.Sprintf("type %s cannot become %s", was, is)
		}
		if is != "ExternalName" && (text(have, "spec", "clusterIP") == "None") != (text(want, "spec", "clusterIP") == "None") {
			return "a Service with an address cannot become headless, or the reverse"
		}
	case "Endpoints":
		// Its controller takes them along with the Service.
		if p.anew(Ref{Kind: "Service", Namespace: w.ref.Namespace, Name: w.ref.Name}) {
			return "its Service is made anew, and takes it along"
		}
	case "Secret":
		if was, is := text(have, "type"), cmp.Or(text(want, "type"), "Opaque"); was != is {
			return fmt.Sprintf("type %s cannot become %s", was, is)
		}
	case "RuntimeClass":
		if was, is := text(have, "handler"), text(want, "handler"); was != is {
			return fmt.Sprintf("handler %s cannot become %s", was, is)
		}
	case "PersistentVolumeClaim":
		if p.claims[w.ref.Name] {
			return "its volume is another one"
		}
	case "PersistentVolume":
		if p.volumes[w.ref.Name] {
			return "its place is another one"
		}
	case "Deployment":
		for _, claim := range claimsOf(have) {
			if p.claims[claim] {
				return "its volume " + claim + " is made anew"
			}
		}
	}
	if at(have.Object, "immutable") == true && !contains(have.Object, want.Object) {
		return "it is immutable"
	}
	return ""
}

// judgeLive compares one object with its live form, by a dry run if need be.
func (p *planner) judgeLive(w *want) error {
	secret := w.ref.Kind == "Secret"
	w.moves = w.ref.Kind != "Namespace" && legacy(w.live)
	applied := w.object.GetAnnotations()[AnnotationApplied]
	if !w.moves && w.live.GetAnnotations()[AnnotationApplied] == applied && contains(w.live.Object, w.object.Object) {
		return nil
	}
	if w.ref.Kind == "Namespace" && contains(w.live.Object, w.object.Object) {
		return nil
	}
	result, err := p.dryRun(w.object)
	var s *kube.StatusError
	if err != nil && w.moves && errors.As(err, &s) && s.Code == http.StatusUnprocessableEntity {
		// Judged together with fields that will be gone: not what will be sent.
		result, err = nil, nil
	}
	if err != nil {
		return err
	}
	if result != nil {
		w.change.Fields = p.fields(w, w.live, result)
	} else {
		w.change.Fields = p.fields(w, w.live, merged(w))
	}
	if w.moves {
		w.change.Fields = append(w.change.Fields, leaving(w.live, w.object, p.filled(w), secret)...)
	}
	if len(w.change.Fields) == 0 && !w.moves {
		return nil
	}
	w.do = Updated
	w.change.Taken = taken(w.live, w.object, secret)
	if w.ref.Kind == "PersistentVolume" || w.ref.Kind == "Namespace" {
		w.change.Taken = nil // controllers' own fields
	}
	return nil
}

// filled is what the server makes of the object when there is none yet: what
// it fills in is not lost by being handed over. nil when it does not say.
func (p *planner) filled(w *want) *unstructured.Unstructured {
	probe := w.object.DeepCopy()
	probe.SetName(w.ref.Name + "-x")
	// Numbers that only one object can have.
	for _, port := range list(at(probe.Object, "spec", "ports")) {
		if m, ok := port.(object); ok {
			delete(m, "nodePort")
		}
	}
	o, err := p.dryRun(probe)
	if err != nil {
		return nil
	}
	o.SetName(w.ref.Name)
	return o
}

// merged is the live object with everything that is desired.
func merged(w *want) *unstructured.Unstructured {
	o := w.live.DeepCopy()
	overlay(o.Object, w.object.Object)
	return o
}

func overlay(to, from object) {
	for key, v := range from {
		if m, ok := v.(object); ok {
			if t, ok := to[key].(object); ok {
				overlay(t, m)
				continue
			}
		}
		to[key] = v
	}
}

// fields are the differences that matter to a reader.
func (p *planner) fields(w *want, from, to *unstructured.Unstructured) []Field {
	a, err := plain(from)
	if err != nil {
		return nil
	}
	b, err := plain(to)
	if err != nil {
		return nil
	}
	for _, o := range []*unstructured.Unstructured{a, b} {
		unannotate(o, AnnotationApplied)
		delete(o.Object, "apiVersion")
		delete(o.Object, "kind")
	}
	if w.ref.Kind != "Secret" {
		return differences(a.Object, b.Object, false)
	}
	// Annotations may hold the data too: kubectl keeps the whole object in one.
	open := func(o *unstructured.Unstructured) object {
		return object{"type": o.Object["type"], "metadata": object{"labels": at(o.Object, "metadata", "labels")}}
	}
	out := differences(open(a), open(b), false)
	for _, o := range []*unstructured.Unstructured{a, b} {
		delete(o.Object, "type")
		unstructured.RemoveNestedField(o.Object, "metadata", "labels")
	}
	return append(out, differences(a.Object, b.Object, true)...)
}

// dryRun asks the server what an apply would come to.
func (p *planner) dryRun(o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	k, err := kindOf(o.GetKind())
	if err != nil {
		return nil, err
	}
	d, err := p.c.Dynamic()
	if err != nil {
		return nil, err
	}
	var out *unstructured.Unstructured
	err = persist(p.ctx, func(ctx context.Context) error {
		return kube.Confirm(ctx, func() error {
			var err error
			out, err = resourceOf(d, k, o.GetNamespace()).Apply(ctx, o.GetName(), o,
				metav1.ApplyOptions{FieldManager: Manager, Force: true, DryRun: []string{metav1.DryRunAll}})
			return err
		})
	})
	if err != nil {
		return nil, failed(p.ctx, err, p.s.ref(o).String())
	}
	return out, nil
}

// claimsOf are the claims that the pods of a Deployment or Job mount.
func claimsOf(o *unstructured.Unstructured) []string {
	return podClaims(at(o.Object, "spec", "template", "spec"))
}

func podClaims(spec any) []string {
	var out []string
	for _, v := range list(at(spec, "volumes")) {
		if name, ok := at(v, "persistentVolumeClaim", "claimName").(string); ok {
			out = append(out, name)
		}
	}
	return out
}

// claimed lists the claims that change hands: what a Deployment that is made,
// or that did not mount them so far, takes from one that is no longer rendered.
func (p *planner) claimed() {
	starts := map[string]bool{}
	for _, w := range p.wants {
		if w.ref.Kind != "Deployment" {
			continue
		}
		var had []string
		if w.live != nil {
			had = claimsOf(w.live)
		}
		for _, claim := range claimsOf(w.object) {
			if !slices.Contains(had, claim) {
				starts[claim] = true
			}
		}
	}
	for _, o := range p.gone() {
		if o.GetKind() != "Deployment" {
			continue
		}
		var shared []string
		for _, claim := range claimsOf(o) {
			if starts[claim] || p.claims[claim] {
				shared = append(shared, claim)
			}
		}
		if len(shared) > 0 {
			p.plan.Delete = append(p.plan.Delete, Change{Ref: p.s.ref(o), Why: "it is no longer rendered, and " + strings.Join(shared, ", ") + " goes to another Deployment"})
			p.early = append(p.early, o)
		}
	}
}

// gone are the live objects of the deployment that are no longer rendered and
// are ours to delete, in the order of kinds and names.
func (p *planner) gone() []*unstructured.Unstructured {
	rendered := map[Ref]bool{}
	for _, w := range p.wants {
		rendered[w.ref] = true
	}
	gone, kept := selectGone(p.live, p.s, rendered)
	p.plan.Kept = kept
	return gone
}

// selectGone chooses from the live objects with the deployment's label those
// that are no longer rendered. Unmarked ones go only until the first prune is
// through, and only if laconic-so would have given them their name; others are
// somebody's own.
func selectGone(live *Live, s Scope, rendered map[Ref]bool) (gone []*unstructured.Unstructured, kept []Ref) {
	settled := live.Namespace != nil && live.Namespace.GetAnnotations()[AnnotationSettled] != ""
	refs := slices.SortedFunc(maps.Keys(live.Objects), func(a, b Ref) int {
		return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(a.Name, b.Name))
	})
	for _, r := range refs {
		o := live.Objects[r]
		k, err := kindOf(r.Kind)
		switch {
		case err != nil, !k.pruned, rendered[r], r.Namespace != s.Namespace, o.GetLabels()[LabelApp] != s.ID:
		case o.GetDeletionTimestamp() != nil, derived(o):
		case r.Kind == "Secret" && r.Name == s.ID+"-generated-secrets":
		case r.Kind == "Job" && runOf(r, s, rendered):
		case o.GetLabels()[LabelManagedBy] == Manager, !settled && formed(r, s):
			gone = append(gone, o)
		default:
			kept = append(kept, r)
		}
	}
	return gone, kept
}

// derived says that a controller made o from another object, which takes it
// along: Endpoints of a Service carry its labels.
func derived(o *unstructured.Unstructured) bool {
	if len(o.GetOwnerReferences()) > 0 {
		return true
	}
	if o.GetKind() != "Endpoints" {
		return false
	}
	entries := o.GetManagedFields()
	return len(entries) > 0 && !slices.ContainsFunc(entries, func(e metav1.ManagedFieldsEntry) bool { return e.Manager != "kube-controller-manager" })
}

// runOf says that a Job is a single run of a rendered one: its name and a time.
func runOf(r Ref, s Scope, rendered map[Ref]bool) bool {
	i := strings.LastIndexByte(r.Name, '-')
	if i < 0 || i == len(r.Name)-1 || strings.Trim(r.Name[i+1:], "0123456789") != "" {
		return false
	}
	return rendered[s.own("Job", r.Name[:i])]
}

// formed says that r's name is one a renderer gives, of this deployment.
func formed(r Ref, s Scope) bool {
	rest, ok := strings.CutPrefix(r.Name, s.ID+"-")
	if !ok {
		return false
	}
	switch r.Kind {
	case "Deployment":
		return rest == "deployment" || strings.HasSuffix(rest, "-deployment")
	case "Service":
		return rest == "service" || strings.HasSuffix(rest, "-service") ||
			regexp.MustCompile(`^nodeport-[0-9]+-(tcp|udp)$`).MatchString(rest)
	case "Endpoints":
		return false // named as external services, like nothing else
	case "Ingress":
		return rest == "ingress"
	case "Job":
		return strings.HasPrefix(rest, "job-")
	case "Secret":
		return slices.Contains([]string{"registry", "image-pull-secret", "ca-certificates", "credentials"}, rest)
	case "ConfigMap":
		return true // named as volumes
	}
	return false
}

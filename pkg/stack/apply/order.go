package apply

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func deletion(s Scope, o *unstructured.Unstructured, why string) []action {
	r := s.ref(o)
	line := "Deleted " + r.String()
	if why != "" {
		line += ": " + why
	}
	uid := string(o.GetUID())
	return []action{
		{Step: Step{Action: Deleted, Ref: r, Line: line}, uid: uid},
		{Step: Step{Action: Awaited, Ref: r}, uid: uid},
	}
}

// order puts the writes into the order in which they are sent.
func (p *planner) order() {
	var out []action
	volumesDone, earlyDone := false, false
	for _, w := range p.wants {
		if !volumesDone && rank(w.ref.Kind) >= rank("PersistentVolume") {
			out, volumesDone = append(out, p.clearClaims()...), true
		}
		if !earlyDone && rank(w.ref.Kind) >= rank("Deployment") {
			for _, o := range p.early {
				if !p.cleared[p.s.ref(o)] {
					out = append(out, deletion(p.s, o, "its volumes go to another Deployment")...)
				}
			}
			earlyDone = true
		}
		if p.released(w) {
			out = append(out, action{Step: Step{
				Action: Released, Ref: w.ref,
				Line: fmt.Sprintf("PV %s is Released, clearing claimRef for rebinding", w.ref.Name),
			}})
		}
		if w.moves {
			out = append(out, action{Step: Step{Action: Migrated, Ref: w.ref}})
		}
		if w.do == "" {
			continue
		}
		if w.do == Replaced && !p.cleared[w.ref] {
			out = append(out, deletion(p.s, w.live, w.change.Why)...)
		}
		do := w.do
		if do == Replaced {
			do = Created
		}
		out = append(out, action{Step: Step{Action: do, Ref: w.ref, Line: line(do, w)}, object: w.object})
	}
	p.plan.steps = out
}

func line(do Action, w *want) string {
	word := "Created"
	if do == Updated {
		word = "Updated"
	}
	if server := registry(w.object); server != "" {
		return word + " registry secret '" + w.ref.Name + "' for " + server
	}
	out := word + " " + w.ref.String()
	if w.ref.Kind != "Deployment" {
		return out
	}
	strategy := cmp.Or(text(w.object, "spec", "strategy", "type"), "RollingUpdate")
	switch {
	case do == Created:
		return out + " (strategy: " + strategy + ")"
	case strategy == "RollingUpdate":
		return out + " (rolling update)"
	}
	return out + " (recreate)"
}

// registry is whose credentials a Secret holds; "" for any other object. A
// registry that is known under several addresses is named by its shortest.
func registry(o *unstructured.Unstructured) string {
	if text(o, "type") != "kubernetes.io/dockerconfigjson" {
		return ""
	}
	raw, err := base64.StdEncoding.DecodeString(text(o, "data", ".dockerconfigjson"))
	if err != nil {
		return ""
	}
	var c struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	if json.Unmarshal(raw, &c) != nil || len(c.Auths) == 0 {
		return ""
	}
	return slices.MinFunc(slices.Sorted(maps.Keys(c.Auths)), func(a, b string) int { return cmp.Compare(len(a), len(b)) })
}

// released says that a volume still names a claim that is gone.
func (p *planner) released(w *want) bool {
	if w.ref.Kind != "PersistentVolume" || w.live == nil || w.do == Replaced {
		return false
	}
	return stale(w.live, p.live.Objects[p.s.own("PersistentVolumeClaim", text(w.live, "spec", "claimRef", "name"))], p.s)
}

// stale says that a volume of ours is reserved for a claim that is not the
// live one.
func stale(v, claim *unstructured.Unstructured, s Scope) bool {
	uid := text(v, "spec", "claimRef", "uid")
	if uid == "" || text(v, "spec", "claimRef", "namespace") != s.Namespace {
		return false
	}
	return claim == nil || string(claim.GetUID()) != uid
}

// clearClaims takes the claims and volumes away that are made anew: first
// whatever mounts them, or the claims would not go.
func (p *planner) clearClaims() []action {
	p.cleared = map[Ref]bool{}
	var out []action
	remove := func(o *unstructured.Unstructured, why string) {
		r := p.s.ref(o)
		if !p.cleared[r] {
			p.cleared[r] = true
			out = append(out, deletion(p.s, o, why)...)
		}
	}
	for _, w := range p.wants {
		if w.do == Replaced && w.ref.Kind == "Deployment" {
			remove(w.live, w.change.Why)
		}
	}
	for _, o := range p.early {
		if slices.ContainsFunc(claimsOf(o), func(c string) bool { return p.claims[c] }) {
			remove(o, "its volumes go to another Deployment")
		}
	}
	for _, w := range p.wants {
		if w.ref.Kind != "PersistentVolumeClaim" || w.do != Replaced {
			continue
		}
		if v := p.live.volume(text(w.live, "spec", "volumeName")); v != nil && text(v, "spec", "persistentVolumeReclaimPolicy") != "Retain" {
			out = append(out, action{Step: Step{
				Action: Retained, Ref: p.s.ref(v),
				Line: fmt.Sprintf("PV %s keeps its data", v.GetName()),
			}})
		}
		remove(w.live, w.change.Why)
	}
	for _, w := range p.wants {
		if w.ref.Kind == "PersistentVolume" && w.do == Replaced {
			remove(w.live, w.change.Why)
		}
	}
	return out
}

// leftovers plans what Prune deletes.
func (p *planner) leftovers() {
	early := map[Ref]bool{}
	for _, o := range p.early {
		early[p.s.ref(o)] = true
	}
	gone := p.gone()
	// What leads to pods first, what they read last.
	slices.Reverse(gone)
	for _, o := range gone {
		r := p.s.ref(o)
		if early[r] {
			continue
		}
		p.plan.Delete = append(p.plan.Delete, Change{Ref: r, Why: "it is no longer rendered"})
		p.plan.prune = append(p.plan.prune, deletion(p.s, o, "it is no longer rendered")[:1]...)
	}
	if p.live.Namespace == nil || p.live.Namespace.GetAnnotations()[AnnotationSettled] != "" {
		return
	}
	for _, w := range p.wants {
		if w.ref.Kind == "Namespace" {
			ns := w.object.DeepCopy()
			a := ns.GetAnnotations()
			a[AnnotationSettled] = "true"
			ns.SetAnnotations(a)
			p.plan.prune = append(p.plan.prune, action{Step: Step{Action: Updated, Ref: w.ref}, object: ns})
		}
	}
}

package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"homelab/pkg/ui"
)

type jsonManager struct {
	Manager   string          `json:"manager"`
	Operation string          `json:"operation"`
	Time      time.Time       `json:"time"`
	FieldsV1  json.RawMessage `json:"fieldsV1"`
}

// managers reduces managedFields to the entries that own the image of a
// container below the pod spec that path leads to. Entries that do not parse
// own nothing: the field only ever explains.
func managers(entries []jsonManager, path []string) []Manager {
	var out []Manager
	for _, e := range entries {
		spec := e.FieldsV1
		for _, step := range path {
			spec = fields(spec)[step]
		}
		var images []string
		for _, list := range []string{"f:containers", "f:initContainers"} {
			for key, item := range fields(fields(spec)[list]) {
				if _, ok := fields(item)["f:image"]; !ok {
					continue
				}
				var name struct {
					Name string `json:"name"`
				}
				if k, ok := strings.CutPrefix(key, "k:"); ok && json.Unmarshal([]byte(k), &name) == nil && name.Name != "" {
					images = append(images, name.Name)
				}
			}
		}
		if len(images) > 0 {
			slices.Sort(images)
			out = append(out, Manager{Name: ui.Clean(e.Manager), Operation: e.Operation, Time: e.Time, Images: slices.Compact(images)})
		}
	}
	return out
}

// fields returns the members of a set of fields; nil when raw is none.
func fields(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

// writer is who last wrote the image of a gated container; nil when nobody is
// known to have.
func (a *assessor) writer() *Writer {
	var last *Writer
	for _, m := range a.t.Managers {
		owns := len(a.gate.containers) == 0
		for _, name := range m.Images {
			owns = owns || slices.Contains(a.gate.containers, name)
		}
		if owns && !m.Time.IsZero() && (last == nil || m.Time.After(last.Time)) {
			last = &Writer{Manager: orText(m.Name, "unknown"), Time: m.Time}
		}
	}
	return last
}

// hints says what is known of who moves the image. None of it decides.
func (a *assessor) hints() {
	t := a.t
	why := func(format string, args ...any) { a.v.Why = append(a.v.Why, fmt.Sprintf(format, args...)) }
	value := func(key string) string { return orText(t.Annotations[key], t.Labels[key]) }

	if policy := value("keel.sh/policy"); policy == "never" {
		why("Keel is told never to update it (keel.sh/policy: never)")
	} else if every, ok := keelInterval(value("keel.sh/pollSchedule")); policy != "" && ok && !a.c.Deadline.IsZero() && a.now.Add(every).After(a.c.Deadline) {
		why("Keel polls every %s, and the wait ends in %s", short(every), short(a.c.Deadline.Sub(a.now)))
	}
	for _, owner := range []struct{ key, tool string }{
		{"kustomize.toolkit.fluxcd.io/name", "Flux (Kustomization %s)"},
		{"helm.toolkit.fluxcd.io/name", "Flux (HelmRelease %s)"},
		{"argocd.argoproj.io/tracking-id", "Argo CD (%s)"},
		{"argocd.argoproj.io/instance", "Argo CD (%s)"},
	} {
		if v := value(owner.key); v != "" {
			why("it is owned by "+owner.tool+", which writes what its source says", ui.Clean(v))
		}
	}
	if value("kustomize.toolkit.fluxcd.io/reconcile") == "disabled" {
		why("Flux is told not to reconcile it")
	}
	if a.rev.rs != nil && a.rev.rs.Annotations[historyAnnotation] != "" {
		var names []string
		for _, m := range t.Managers {
			if !slices.Contains(names, m.Name) {
				names = append(names, m.Name)
			}
		}
		text := "this template was replaced before and is back"
		if len(names) > 1 {
			text += ": " + strings.Join(names, " and ") + " write its image"
		}
		why("%s", text)
	}
	for _, f := range a.found(a.gate) {
		if a.s.Ancestry[f].Answer == Yes && a.v.Outcome == Pending {
			why("%s is newer: it descends from %s; --accept-newer takes it", f[:min(12, len(f))], a.c.Expected.short())
		}
	}
	if p := a.s.Pipeline; p != nil && p.Failed {
		why("the commit's pipeline %d ended as %s", p.Number, p.Status)
		if a.c.WithPipelines && a.v.Next == "" && a.c.Expected.Commit != "" {
			a.v.Next = "homelab ci watch " + a.c.Expected.Commit
		}
	}
}

// keelInterval reads a schedule of the form "@every 5m".
func keelInterval(schedule string) (time.Duration, bool) {
	text, ok := strings.CutPrefix(schedule, "@every ")
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(strings.TrimSpace(text))
	return d, err == nil && d > 0
}

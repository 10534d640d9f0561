package apply

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

// Guard says why d must not be applied to live, and what is worth a notice. It
// is pure; live has to be complete for d.
func Guard(live *Live, d Desired, s Scope) ([]Conflict, []file.Notice) {
	if s.ID == "" {
		return nil, nil
	}
	conflicts, notices := guardNamespace(live, s)
	for _, m := range moves(live, d, s) {
		switch {
		case s.accepts(m.claim):
			notices = append(notices, notice("volume-accepted", file.Info, m.message+"; its objects are replaced, the data stays where it is"))
		default:
			conflicts = append(conflicts, Conflict{
				Code: m.code, Object: s.own("PersistentVolumeClaim", m.claim), Volume: m.volume, Message: m.message,
				Fix: []string{"write the old place into volumes." + m.volume + " again, or move the data and add --accept-volume " + m.volume},
			})
		}
	}
	shared, more := guardShared(live, d, s)
	conflicts, notices = append(conflicts, shared...), append(notices, more...)
	conflicts = append(conflicts, guardTaken(live, d, s)...)
	for _, want := range d.Objects {
		r := s.ref(want)
		have := live.Objects[r]
		if r.Kind != "Deployment" || have == nil {
			continue
		}
		was, is := at(have.Object, "spec", "selector"), at(want.Object, "spec", "selector")
		if p, err := plain(want); err == nil {
			is = at(p.Object, "spec", "selector")
		}
		if !reflect.DeepEqual(was, is) {
			conflicts = append(conflicts, Conflict{
				Code: "selector", Object: r,
				Message: fmt.Sprintf("%s selects its pods by %s and would by %s, which cannot be changed", r, show(was, false), show(is, false)),
				Fix:     []string{"homelab deployment stop --dir " + quote(s.Dir), "homelab deployment start --dir " + quote(s.Dir)},
			})
		}
	}
	return conflicts, notices
}

func notice(code string, level file.Level, message string) file.Notice {
	return file.Notice{Code: code, Level: level, Message: message}
}

// guardNamespace judges whose namespace it is.
func guardNamespace(live *Live, s Scope) ([]Conflict, []file.Notice) {
	ns := live.Namespace
	if ns == nil {
		return nil, nil
	}
	r := Ref{Kind: "Namespace", Name: s.Namespace}
	if ns.GetDeletionTimestamp() != nil {
		return []Conflict{{
			Code: "namespace-terminating", Object: r,
			Message: "namespace " + s.Namespace + " is being deleted",
			Fix:     []string{"kubectl wait --for=delete namespace/" + s.Namespace},
		}}, nil
	}
	var notices []file.Notice
	a := ns.GetAnnotations()
	dir, id := a[AnnotationDir], a[AnnotationID]
	switch {
	case dir == "":
		notices = append(notices, notice("namespace-adopted", file.Info,
			"namespace "+s.Namespace+" is there and belongs to no deployment: it is adopted"))
	case dir == s.Dir:
		if id != "" && id != s.ID {
			notices = append(notices, notice("deployment-id-changed", file.Warning,
				fmt.Sprintf("namespace %s belonged to deployment id %s: its objects and volumes stay under that name", s.Namespace, id)))
		}
	case s.AdoptNamespace:
		notices = append(notices, notice("namespace-taken", file.Info,
			fmt.Sprintf("namespace %s belonged to %s and is taken over for %s", s.Namespace, dir, s.Dir)))
	default:
		return []Conflict{{
			Code: "namespace-owner", Object: r,
			Message: fmt.Sprintf("namespace %s belongs to the deployment in %s, this one is in %s", s.Namespace, dir, s.Dir),
			Fix: []string{
				"write namespace: " + s.Namespace + "-" + suffix(s) + " into spec.yml",
				"if that directory was moved here: add --adopt-namespace",
			},
		}}, nil
	}
	return nil, notices
}

// suffix is a proposal for a second namespace: the end of the deployment's id.
func suffix(s Scope) string {
	if len(s.ID) > 4 {
		return strings.Trim(s.ID[len(s.ID)-4:], "-")
	}
	return "2"
}

// move is a volume whose data is elsewhere than d would look for it, or a claim
// that cannot become what d wants.
type move struct {
	volume, claim string
	code          string
	message       string
}

// moves compares where the data of each volume is with where d looks for it.
func moves(live *Live, d Desired, s Scope) []move {
	paths := map[string]string{}
	for _, o := range d.Objects {
		if o.GetKind() == "PersistentVolume" {
			paths[o.GetName()] = hostPath(o)
		}
	}
	var out []move
	for _, want := range d.Objects {
		if want.GetKind() != "PersistentVolumeClaim" {
			continue
		}
		name := want.GetName()
		volume := strings.TrimPrefix(name, s.ID+"-")
		say := func(code, format string, args ...any) {
			out = append(out, move{volume, name, code, fmt.Sprintf(format, args...)})
		}
		claim := live.Objects[s.ref(want)]
		wanted, bound := text(want, "spec", "volumeName"), text(claim, "spec", "volumeName")
		to := "an empty volume of the cluster"
		if wanted != "" {
			to = paths[wanted]
		}
		kept := live.volume(name)
		if kept != nil && !ours(kept, s) {
			kept = nil // guardShared's business
		}
		switch {
		case bound != "" && bound != wanted && (wanted != "" || ours(live.volume(bound), s)):
			// An empty one is bound to what a class gave it, which is nobody's by label.
			say("volume-moved", "the data of volume %s is in %s, and the spec looks for it in %s", volume, place(live, bound), to)
		case wanted != "" && live.volume(wanted) != nil && ours(live.volume(wanted), s) && hostPath(live.volume(wanted)) != paths[wanted]:
			say("volume-moved", "the data of volume %s is in %s, and the spec looks for it in %s", volume, place(live, wanted), to)
		case wanted == "" && claim == nil && kept != nil && hostPath(kept) != "":
			say("volume-moved", "the data of volume %s is in %s, and the spec looks for it in %s", volume, place(live, name), to)
		case bound != "" && wanted == "" && compareStorage(claim, want) > 0:
			say("volume-shrinks", "volume %s has %s and the spec asks for %s: claims cannot shrink", volume, storage(claim), storage(want))
		}
	}
	return out
}

// place is where a PersistentVolume has its data, in words.
func place(live *Live, name string) string {
	v := live.volume(name)
	if p := hostPath(v); p != "" {
		return p + " (PersistentVolume " + name + ")"
	}
	return "PersistentVolume " + name
}

func storage(claim *unstructured.Unstructured) string {
	return text(claim, "spec", "resources", "requests", "storage")
}

// compareStorage compares what two claims request; 0 also when one cannot be read.
func compareStorage(a, b *unstructured.Unstructured) int {
	x, err := resource.ParseQuantity(storage(a))
	if err != nil {
		return 0
	}
	y, err := resource.ParseQuantity(storage(b))
	if err != nil {
		return 0
	}
	return x.Cmp(y)
}

// ours says that a PersistentVolume is this deployment's and no sibling's: its
// label, and a claim in its namespace, or no claim and names that are ours.
// Old deployments of one cluster share ids, so that the label alone does not
// tell.
func ours(v *unstructured.Unstructured, s Scope) bool {
	if v == nil || v.GetLabels()[LabelApp] != s.ID {
		return false
	}
	if at(v.Object, "spec", "claimRef") == nil {
		return v.GetLabels()[LabelStack] == s.Stack && strings.HasPrefix(v.GetName(), s.ID+"-") &&
			v.GetLabels()[LabelVolume] == v.GetName()
	}
	return text(v, "spec", "claimRef", "namespace") == s.Namespace
}

// guardShared finds volumes of others at the same, or a nested, place.
func guardShared(live *Live, d Desired, s Scope) (conflicts []Conflict, notices []file.Notice) {
	mine := map[string]bool{}
	for _, o := range d.Objects {
		if o.GetKind() == "PersistentVolume" {
			mine[o.GetName()] = true
		}
	}
	for _, want := range d.Objects {
		if want.GetKind() != "PersistentVolume" {
			continue
		}
		name := want.GetName()
		volume := strings.TrimPrefix(name, s.ID+"-")
		if have := live.volume(name); have != nil && foreign(have, s) {
			conflicts = append(conflicts, Conflict{
				Code: "volume-shared", Object: s.ref(want), Volume: volume,
				Message: fmt.Sprintf("PersistentVolume %s is there and belongs to %s", name, belongs(have)),
				Fix:     []string{"give this deployment an id of its own: deployment-id in deployment.yml"},
			})
			continue
		}
		p := hostPath(want)
		for _, v := range live.Volumes {
			q := hostPath(v)
			if p == "" || q == "" || mine[v.GetName()] || !nested(p, q) || !foreign(v, s) {
				continue
			}
			message := fmt.Sprintf("volume %s would write to %s, where PersistentVolume %s of %s has %s", volume, p, v.GetName(), belongs(v), q)
			switch {
			case s.accepts(name):
				notices = append(notices, notice("volume-shared", file.Info, message+"; accepted"))
			case s.Rules == file.V1:
				notices = append(notices, notice("volume-shared", file.Warning, message))
			default:
				conflicts = append(conflicts, Conflict{
					Code: "volume-shared", Object: s.ref(want), Volume: volume, Message: message,
					Fix: []string{"give volumes." + volume + " a path of its own, or add --accept-volume " + volume},
				})
			}
		}
	}
	return conflicts, notices
}

// foreign says that a PersistentVolume is somebody else's. One of this namespace
// is too while it is claimed and its label names another deployment: after an
// edit of the id the pods of the old one still run. Released, it is left over.
func foreign(v *unstructured.Unstructured, s Scope) bool {
	app, ns := v.GetLabels()[LabelApp], text(v, "spec", "claimRef", "namespace")
	switch {
	case ns == "":
		return app != s.ID
	case ns != s.Namespace:
		return true
	}
	return app != "" && app != s.ID && text(v, "status", "phase") != "Released"
}

func belongs(v *unstructured.Unstructured) string {
	owner := v.GetLabels()[LabelApp]
	if owner == "" {
		owner = "an unknown owner"
	} else {
		owner = "deployment " + owner
	}
	if ns := text(v, "spec", "claimRef", "namespace"); ns != "" {
		owner += " in namespace " + ns
	}
	return owner
}

// nested says that two directories are the same or one lies in the other.
func nested(a, b string) bool {
	a, b = path.Clean(a), path.Clean(b)
	in := func(a, b string) bool { return a == b || strings.HasPrefix(b, strings.TrimSuffix(a, "/")+"/") }
	return in(a, b) || in(b, a)
}

// Refusal joins conflicts to one error, nil for none. Its kind is Conflict.
func Refusal(cs []Conflict) error {
	if len(cs) == 0 {
		return nil
	}
	what := cs[0].Message
	if len(cs) > 1 {
		what = fmt.Sprintf("%d things are in the way", len(cs))
	}
	var why []string
	next := ""
	for _, c := range cs {
		if len(cs) > 1 {
			why = append(why, c.Message)
		}
		for _, f := range c.Fix {
			command := strings.HasPrefix(f, "homelab ") || strings.HasPrefix(f, "kubectl ")
			switch {
			case command && next == "":
				next = f
			case !command && !slices.Contains(why, f):
				why = append(why, f)
			}
		}
	}
	return fault.New(fault.Conflict, what, next).Because(strings.Join(why, "; "))
}

// quote makes a path survive pasting into a shell.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("-_./:@", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

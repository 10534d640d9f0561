package kubesim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// Expect says how the next rollout of a Deployment goes that is written
// through the API ("shop/web").
func (s *Sim) Expect(target string, p Plan) {
	s.brain.work.Lock()
	defer s.brain.work.Unlock()
	s.expected[target] = p
}

// modify answers everything but GET. Fields are managed as by a real server:
// its own code and schemas do it.
func (s *Sim) modify(w http.ResponseWriter, r *http.Request, q *Request, answered func(int), refuse func(int, string, int)) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(400, err.Error(), 0)
		return
	}
	var body Object
	patch := []Object{}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch {
	case len(raw) == 0:
	case kind == "application/json-patch+json":
		err = json.Unmarshal(raw, &patch)
	default:
		err = json.Unmarshal(raw, &body)
	}
	if err != nil {
		refuse(400, "error decoding: "+err.Error(), 0)
		return
	}
	s.brain.work.Lock()
	defer s.brain.work.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	name := q.Name
	if r.Method == http.MethodPost {
		name = str(meta(body)["name"])
	}
	refused := func(code int, format string, args ...any) {
		s.mu.Unlock()
		refuse(code, fmt.Sprintf(format, args...), 0)
		s.mu.Lock()
	}
	k := s.kinds[q.Resource]
	full := strings.TrimSuffix(q.Resource+"."+k.group, ".")
	var live Object
	if was := s.live[q.Resource][q.Namespace+"/"+name]; was != nil {
		live = clone(was.object)
	}
	apply := kind == "application/apply-patch+yaml"
	switch {
	case live == nil && r.Method != http.MethodPost && !apply:
		refused(404, "%s %q not found", full, name)
		return
	case live != nil && r.Method == http.MethodPost:
		refused(409, "%s %q already exists", full, name)
		return
	case live == nil && !k.cluster && s.live["namespaces"]["/"+q.Namespace] == nil:
		refused(404, "namespaces %q not found", q.Namespace)
		return
	}
	if r.Method == http.MethodDelete {
		var o metav1.DeleteOptions
		if len(raw) > 0 {
			_ = json.Unmarshal(raw, &o)
		}
		m := meta(live)
		if p := o.Preconditions; p != nil && (p.UID != nil && string(*p.UID) != m["uid"] || p.ResourceVersion != nil && *p.ResourceVersion != m["resourceVersion"]) {
			refused(409, "Precondition failed: UID or resourceVersion of %s %q", full, name)
			return
		}
		s.remove(q.Resource, live)
		s.mu.Unlock()
		answered(200)
		s.body(w, []byte(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}`), nil)
		s.mu.Lock()
		return
	}
	next, code, message, causes := s.change(q, r.Method, kind, k, live, body, patch)
	if code != 0 && len(causes) > 0 {
		o := statusObject(code, message, 0)
		o["details"] = Object{"name": name, "group": k.group, "kind": q.Resource, "causes": causes}
		s.mu.Unlock()
		answered(code)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(o)
		s.mu.Lock()
		return
	}
	if code != 0 {
		refused(code, "%s", message)
		return
	}
	if !k.cluster {
		meta(next)["namespace"] = q.Namespace
	}
	s.fill(q.Resource, next)
	if q.Query.Get("dryRun") == "" {
		if live == nil || !same(live, next) {
			next = s.put(q.Resource, next)
			s.settle(q.Resource, next)
		}
	} else if live == nil {
		setDefault(meta(next), "uid", "dry-run")
	}
	out, err := json.Marshal(next)
	if err != nil {
		panic(err)
	}
	s.mu.Unlock()
	code = 200
	if live == nil {
		code = 201
	}
	answered(code)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(out)
	s.mu.Lock()
}

// change is what a write makes of live, or why it is refused.
func (s *Sim) change(q *Request, method, kind string, k kind, live, body Object, patch []Object) (next Object, code int, message string, causes []any) {
	gvk := schema.GroupVersionKind{Group: k.group, Version: k.version, Kind: k.kind}
	was := &unstructured.Unstructured{Object: numbers(live)}
	if live == nil {
		was.Object = Object{}
	}
	was.SetGroupVersionKind(gvk)
	m, err := manager(s.types(), gvk)
	if err != nil {
		return nil, 500, err.Error(), nil
	}
	who := q.Query.Get("fieldManager")
	if who == "" {
		who, _, _ = strings.Cut(q.Header.Get("User-Agent"), "/")
	}
	var o runtime.Object
	if kind == "application/apply-patch+yaml" {
		if who == "" {
			return nil, 400, "fieldManager is required for apply patch", nil
		}
		force, _ := strconv.ParseBool(q.Query.Get("force"))
		if rv := str(meta(body)["resourceVersion"]); live != nil && rv != "" && rv != meta(live)["resourceVersion"] {
			return nil, 409, changedSince, nil
		}
		if uid := str(meta(body)["uid"]); uid != "" && (live == nil || uid != meta(live)["uid"]) {
			return nil, 409, fmt.Sprintf("uid mismatch: the provided object specified uid %s", uid), nil
		}
		if o, err = m.Apply(was, &unstructured.Unstructured{Object: numbers(body)}, who, force); err != nil {
			var said apierrors.APIStatus
			if errors.As(err, &said) && said.Status().Details != nil {
				for _, c := range said.Status().Details.Causes {
					causes = append(causes, Object{"reason": string(c.Type), "message": c.Message, "field": c.Field})
				}
			}
			return nil, 409, err.Error(), causes
		}
	} else {
		want := body
		if method == http.MethodPatch {
			want = clone(live)
			if patch != nil && kind == "application/json-patch+json" {
				for _, p := range patch {
					if p["op"] != "replace" {
						return nil, 422, "kubesim plays no JSON patch but replace", nil
					}
					path := strings.Split(strings.TrimPrefix(str(p["path"]), "/"), "/")
					at := want
					for _, step := range path[:len(path)-1] {
						at = child(at, step)
					}
					at[path[len(path)-1]] = p["value"]
				}
			} else {
				mergePatch(want, body)
			}
		}
		if rv := str(meta(want)["resourceVersion"]); live != nil && rv != "" && rv != meta(live)["resourceVersion"] {
			return nil, 409, changedSince, nil
		}
		now := &unstructured.Unstructured{Object: numbers(want)}
		now.SetGroupVersionKind(gvk)
		if o, err = m.Update(was, now, who); err != nil {
			return nil, 422, err.Error(), nil
		}
	}
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil, 500, fmt.Sprintf("%T", o), nil
	}
	return clone(u.Object), 0, "", nil
}

const changedSince = "the object has been modified; please apply your changes to the latest version and try again"

// mergePatch merges by RFC 7386.
func mergePatch(to, from Object) {
	for key, v := range from {
		m, isMap := v.(Object)
		switch {
		case v == nil:
			delete(to, key)
		case isMap:
			mergePatch(child(to, key), m)
		default:
			to[key] = v
		}
	}
}

// numbers copies o with whole numbers as such, as field managers want them.
func numbers(o Object) Object {
	raw, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	var out Object
	if err := utiljson.Unmarshal(raw, &out); err != nil {
		panic(err)
	}
	return out
}

// same says whether a write changed nothing but times of managers.
func same(a, b Object) bool {
	strip := func(o Object) string {
		o = clone(o)
		fields, _ := meta(o)["managedFields"].([]any)
		for _, f := range fields {
			delete(f.(Object), "time")
		}
		raw, err := json.Marshal(o)
		if err != nil {
			panic(err)
		}
		return string(raw)
	}
	return strip(a) == strip(b)
}

func (s *Sim) types() managedfields.TypeConverter {
	s.typesOnce.Do(func() { s.typesOf = applyconfigurations.NewTypeConverter(scheme.Scheme) })
	return s.typesOf
}

func manager(types managedfields.TypeConverter, gvk schema.GroupVersionKind) (*managedfields.FieldManager, error) {
	return managedfields.NewDefaultFieldManager(types, asIs{}, asIs{}, asIs{}, gvk, gvk.GroupVersion(), "", nil)
}

// asIs stands for the conversions and defaults of a server: there is one
// version of everything, and fill fills in.
type asIs struct{}

func (asIs) Convert(_, _, _ any) error { return nil }

func (asIs) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}

func (asIs) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func (asIs) Default(runtime.Object) {}

func (asIs) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{Object: Object{}}
	u.SetGroupVersionKind(gvk)
	return u, nil
}

// fill puts in what a server does, as far as anybody here looks at it.
func (s *Sim) fill(resource string, o Object) {
	switch resource {
	case "namespaces":
		setDefault(child(meta(o), "labels"), "kubernetes.io/metadata.name", meta(o)["name"])
		setDefault(child(o, "status"), "phase", "Active")
	case "deployments":
		spec := child(o, "spec")
		setDefault(spec, "replicas", 1.0)
		setDefault(spec, "progressDeadlineSeconds", 600.0)
		strategy := child(spec, "strategy")
		setDefault(strategy, "type", "RollingUpdate")
		if strategy["type"] == "RollingUpdate" {
			setDefault(child(strategy, "rollingUpdate"), "maxSurge", 1.0)
			setDefault(child(strategy, "rollingUpdate"), "maxUnavailable", 0.0)
		}
		child(o, "status")
	case "services":
		spec := child(o, "spec")
		setDefault(spec, "type", "ClusterIP")
		if spec["type"] != "ExternalName" {
			setDefault(spec, "clusterIP", "10.0.0.1")
		}
	case "secrets":
		setDefault(o, "type", "Opaque")
	case "persistentvolumes":
		setDefault(child(o, "spec"), "persistentVolumeReclaimPolicy", "Retain")
		setDefault(child(o, "status"), "phase", "Available")
	case "persistentvolumeclaims":
		setDefault(child(o, "spec"), "storageClassName", "standard")
		setDefault(child(o, "status"), "phase", "Pending")
	}
}

// settle starts what controllers do about an object; s.mu and the brain's work
// are held.
func (s *Sim) settle(resource string, o Object) {
	m := meta(o)
	ns, name := str(m["namespace"]), str(m["name"])
	switch resource {
	case "persistentvolumes", "persistentvolumeclaims":
		s.bind()
	case "jobs":
		if child(o, "status")["conditions"] == nil {
			job := clone(o)
			s.brain.after(500*time.Millisecond, func() {
				s.set("jobs", job, Object{"succeeded": 1, "completionTime": s.stamp(), "conditions": []any{Object{
					"type": "Complete", "status": "True", "lastTransitionTime": s.stamp(),
				}}})
			})
		}
	case "deployments":
		key := s.loadKey(ns, "deployment", name)
		l := s.brain.loads[key]
		template := child(child(o, "spec"), "template")
		h := hash(template)
		if l == nil {
			container := ""
			if all := containers(template); len(all) > 0 {
				container = str(all[0]["name"])
			}
			l = &load{
				Workload: Workload{Kind: "Deployment", Namespace: ns, Name: name, Container: container, Deadline: 10 * time.Minute},
				resource: "deployments",
			}
			s.brain.loads[key] = l
			if len(s.live["nodes"]) == 0 {
				s.put("nodes", Object{
					"metadata": Object{"name": "node-1"}, "spec": Object{},
					"status": Object{"conditions": []any{Object{"type": "Ready", "status": "True", "lastTransitionTime": s.stamp()}}},
				})
			}
		}
		if l.template != h {
			l.template, l.made, l.progress, l.since = h, 0, "", s.o.Now()
			l.plan = s.expected[ns+"/"+name]
			delete(s.expected, ns+"/"+name)
		}
		s.soon(l, l.plan.Observe)
	}
}

// bind joins claims and volumes as their controller does; s.mu is held.
func (s *Sim) bind() {
	for _, r := range maps.Clone(s.live["persistentvolumes"]) {
		ref := child(child(clone(r.object), "spec"), "claimRef")
		if uid := str(ref["uid"]); uid != "" {
			claim := s.live["persistentvolumeclaims"][str(ref["namespace"])+"/"+str(ref["name"])]
			if (claim == nil || meta(claim.object)["uid"] != uid) && at(r.object, "status.phase") == "Bound" {
				v := clone(r.object)
				child(v, "status")["phase"] = "Released"
				s.put("persistentvolumes", v)
			}
		} else if at(r.object, "status.phase") == "Released" {
			v := clone(r.object)
			child(v, "status")["phase"] = "Available"
			s.put("persistentvolumes", v)
		}
	}
	for _, r := range maps.Clone(s.live["persistentvolumeclaims"]) {
		claim := clone(r.object)
		m := meta(claim)
		if at(claim, "status.phase") == "Bound" {
			continue
		}
		name := at(claim, "spec.volumeName")
		if name == "" { // as the class of a kind cluster
			name = "pvc-" + str(m["uid"])
			s.put("persistentvolumes", Object{
				"metadata": Object{"name": name},
				"spec": Object{
					"hostPath": Object{"path": "/var/local-path-provisioner/" + name}, "persistentVolumeReclaimPolicy": "Delete",
					"storageClassName": child(claim, "spec")["storageClassName"],
				},
				"status": Object{"phase": "Available"},
			})
		}
		volume := s.live["persistentvolumes"]["/"+name]
		if volume == nil {
			continue
		}
		v := clone(volume.object)
		ref := Object{}
		if had, ok := child(v, "spec")["claimRef"].(Object); ok {
			ref = had
		}
		free := len(ref) == 0 || ref["uid"] == nil && ref["namespace"] == m["namespace"] && ref["name"] == m["name"]
		if !free && ref["uid"] != m["uid"] {
			continue
		}
		child(v, "spec")["claimRef"] = Object{"kind": "PersistentVolumeClaim", "namespace": m["namespace"], "name": m["name"], "uid": m["uid"]}
		child(v, "status")["phase"] = "Bound"
		s.put("persistentvolumes", v)
		child(claim, "spec")["volumeName"] = name
		child(claim, "status")["phase"] = "Bound"
		s.put("persistentvolumeclaims", claim)
	}
}

// remove deletes an object and what goes with it; s.mu and the brain's work are
// held.
func (s *Sim) remove(resource string, o Object) {
	m := meta(o)
	ns, name := str(m["namespace"]), str(m["name"])
	leave := func(after time.Duration, done func()) {
		m["deletionTimestamp"] = s.stamp()
		s.put(resource, o)
		s.brain.after(after, done)
	}
	if held, _ := m["finalizers"].([]any); len(held) > 0 {
		leave(0, func() {})
		return
	}
	switch resource {
	case "deployments":
		l := s.brain.loads[s.loadKey(ns, "deployment", name)]
		if l == nil {
			s.drop(resource, ns, name)
			return
		}
		var look func()
		look = func() {
			left := s.pods(l)
			for _, p := range left {
				s.terminate(l, p)
			}
			if len(left) > 0 {
				s.brain.after(100*time.Millisecond, look)
				return
			}
			for _, set := range s.Objects("replicasets", ns) {
				if owners, _ := meta(set)["ownerReferences"].([]any); len(owners) > 0 && owners[0].(Object)["uid"] == m["uid"] {
					s.Delete("replicasets", ns, str(meta(set)["name"]))
				}
			}
			s.Delete(resource, ns, name)
			delete(s.brain.loads, s.loadKey(ns, "deployment", name))
		}
		leave(0, look)
	case "namespaces":
		child(o, "status")["phase"] = "Terminating"
		leave(50*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for r, all := range s.live {
				for _, x := range maps.Clone(all) {
					if meta(x.object)["namespace"] == name {
						s.drop(r, name, str(meta(x.object)["name"]))
					}
				}
			}
			s.drop(resource, "", name)
			s.bind()
		})
	case "services":
		// As the controller of Endpoints does, whoever made them.
		s.drop(resource, ns, name)
		s.drop("endpoints", ns, name)
	default:
		s.drop(resource, ns, name)
		s.bind()
	}
}

package kubesim

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/streaming/pkg/httpstream"
)

// Object is a Kubernetes object as JSON has it.
type Object = map[string]any

// kind is what the API says about a resource.
type kind struct {
	group, version, kind string
	cluster              bool     // not namespaced
	fields               []string // field selectors beyond metadata.name and metadata.namespace
}

func kinds() map[string]kind {
	return map[string]kind{
		"deployments":            {group: "apps", version: "v1", kind: "Deployment"},
		"statefulsets":           {group: "apps", version: "v1", kind: "StatefulSet"},
		"daemonsets":             {group: "apps", version: "v1", kind: "DaemonSet"},
		"replicasets":            {group: "apps", version: "v1", kind: "ReplicaSet"},
		"controllerrevisions":    {group: "apps", version: "v1", kind: "ControllerRevision"},
		"cronjobs":               {group: "batch", version: "v1", kind: "CronJob"},
		"pods":                   {version: "v1", kind: "Pod", fields: []string{"spec.nodeName", "status.phase"}},
		"persistentvolumeclaims": {version: "v1", kind: "PersistentVolumeClaim"},
		"nodes":                  {version: "v1", kind: "Node", cluster: true},
		"namespaces":             {version: "v1", kind: "Namespace", cluster: true, fields: []string{"status.phase"}},
		"secrets":                {version: "v1", kind: "Secret", fields: []string{"type"}},
		"serviceaccounts":        {version: "v1", kind: "ServiceAccount"},
		"configmaps":             {version: "v1", kind: "ConfigMap"},
		"services":               {version: "v1", kind: "Service"},
		"endpoints":              {version: "v1", kind: "Endpoints"},
		"persistentvolumes":      {version: "v1", kind: "PersistentVolume", cluster: true},
		"jobs":                   {group: "batch", version: "v1", kind: "Job"},
		"ingresses":              {group: "networking.k8s.io", version: "v1", kind: "Ingress"},
		"ingressclasses":         {group: "networking.k8s.io", version: "v1", kind: "IngressClass", cluster: true},
		"leases":                 {group: "coordination.k8s.io", version: "v1", kind: "Lease"},
		"storageclasses":         {group: "storage.k8s.io", version: "v1", kind: "StorageClass", cluster: true},
		"runtimeclasses":         {group: "node.k8s.io", version: "v1", kind: "RuntimeClass", cluster: true},
		"roles":                  {group: "rbac.authorization.k8s.io", version: "v1", kind: "Role"},
		"rolebindings":           {group: "rbac.authorization.k8s.io", version: "v1", kind: "RoleBinding"},
		"clusterroles":           {group: "rbac.authorization.k8s.io", version: "v1", kind: "ClusterRole", cluster: true},
		"clusterrolebindings":    {group: "rbac.authorization.k8s.io", version: "v1", kind: "ClusterRoleBinding", cluster: true},

		"horizontalpodautoscalers": {group: "autoscaling", version: "v2", kind: "HorizontalPodAutoscaler"},
		"events": {version: "v1", kind: "Event", fields: []string{
			"involvedObject.uid", "involvedObject.name", "involvedObject.kind", "involvedObject.namespace", "reason", "type",
		}},
	}
}

// Options of New. The zero value is a server with the local clock.
type Options struct {
	Now          func() time.Time // the server's clock for timestamps and Date; nil: time.Now
	BookmarkGap  time.Duration    // 0: a minute, as a real server
	FirstVersion int              // of the resourceVersions; 0: 1000
}

// Sim is the API server. It is an http.Handler and safe for concurrent use.
type Sim struct {
	o Options

	mu        sync.Mutex
	kinds     map[string]kind
	rv        int
	oldest    int // watching from before it is 410
	uids      int
	live      map[string]map[string]*record // resource, then namespace/name
	log       []change                      // every write, oldest first
	changed   chan struct{}                 // closed and replaced at each write
	users     map[string]User               // by token
	faults    []*Fault
	requests  []*Request
	watches   map[*watch]struct{}
	down      time.Time
	careless  bool // ignores selectors
	warning   string
	logs      map[string]*logText // namespace/pod/container/previous
	cutLogs   chan struct{}       // closed and replaced when followed logs are cut
	commands  func(*Command) int  // plays what exec starts; nil: Play
	noSockets bool                // no WebSockets
	digests   map[string]string   // imageIDs by reference, where SetDigest says so

	ports    func(*Forwarded) error         // plays what listens in pods; nil: Answer
	tunnels  map[httpstream.Connection]bool // that stand
	expected map[string]Plan                // of rollouts written through the API; the brain's work guards it

	typesOnce sync.Once
	typesOf   managedfields.TypeConverter

	brain brain
}

type record struct {
	object Object
	raw    []byte // with kind and apiVersion
}

// change is one write.
type change struct {
	rv       int
	resource string
	now, was *record // nil: deleted, created
}

// New returns an empty server with the namespace default and one user who may
// do everything, whose token is Admin.
func New(o Options) *Sim {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.BookmarkGap == 0 {
		o.BookmarkGap = time.Minute
	}
	if o.FirstVersion == 0 {
		o.FirstVersion = 1000
	}
	s := &Sim{
		o: o, kinds: kinds(), rv: o.FirstVersion, oldest: o.FirstVersion, live: map[string]map[string]*record{},
		changed: make(chan struct{}), users: map[string]User{}, watches: map[*watch]struct{}{}, logs: map[string]*logText{}, cutLogs: make(chan struct{}), expected: map[string]Plan{}, digests: map[string]string{},
	}
	s.brain.s, s.brain.loads = s, map[string]*load{}
	s.AddUser(User{Name: "admin", Token: Admin})
	s.Namespace("default")
	return s
}

// Close ends all watches and whatever the brain still had to do.
func (s *Sim) Close() {
	s.brain.stop()
	s.DropWatches()
}

// Namespace makes a namespace.
func (s *Sim) Namespace(name string) {
	s.Put("namespaces", Object{"metadata": Object{"name": name}, "status": Object{"phase": "Active"}})
}

// Version is the newest resourceVersion.
func (s *Sim) Version() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rv
}

// Put creates or replaces an object. It sets what a server sets: uid,
// resourceVersion, creationTimestamp, and generation, which grows with spec.
// A uid that is given is kept, so the same name can come back as another
// object. The stored object is returned.
func (s *Sim) Put(resource string, o Object) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(resource, o)
}

// Update changes an object in place; it panics when there is none.
func (s *Sim) Update(resource, ns, name string, f func(Object)) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.live[resource][ns+"/"+name]
	if r == nil {
		panic(fmt.Sprintf("kubesim: no %s %s/%s", resource, ns, name))
	}
	o := clone(r.object)
	f(o)
	return s.put(resource, o)
}

// Object returns a copy of an object, or nil.
func (s *Sim) Object(resource, ns, name string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.live[resource][ns+"/"+name]; r != nil {
		return clone(r.object)
	}
	return nil
}

// Objects returns copies of all objects of a resource in a namespace ("" is
// all), by name.
func (s *Sim) Objects(resource, ns string) []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Object
	for _, k := range slices.Sorted(maps.Keys(s.live[resource])) {
		if ns == "" || strings.HasPrefix(k, ns+"/") {
			out = append(out, clone(s.live[resource][k].object))
		}
	}
	return out
}

// Delete removes an object, if there is one.
func (s *Sim) Delete(resource, ns, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(resource, ns, name)
}

// drop is Delete while s.mu is held.
func (s *Sim) drop(resource, ns, name string) {
	k := ns + "/" + name
	was := s.live[resource][k]
	if was == nil {
		return
	}
	delete(s.live[resource], k)
	s.rv++
	// A DELETED event carries the version of the deletion.
	last := clone(was.object)
	meta(last)["resourceVersion"] = strconv.Itoa(s.rv)
	s.write(change{rv: s.rv, resource: resource, was: s.record(resource, last)})
}

func (s *Sim) put(resource string, o Object) Object {
	k, known := s.kinds[resource]
	if !known {
		panic("kubesim: unknown resource " + resource)
	}
	o = clone(o)
	o["apiVersion"], o["kind"] = strings.TrimPrefix(k.group+"/"+k.version, "/"), k.kind
	m := meta(o)
	if !k.cluster && m["namespace"] == nil {
		m["namespace"] = "default"
	}
	name := str(m["namespace"]) + "/" + str(m["name"])
	was := s.live[resource][name]
	s.rv++
	m["resourceVersion"] = strconv.Itoa(s.rv)
	if was == nil {
		s.uids++
		setDefault(m, "uid", fmt.Sprintf("00000000-0000-4000-8000-%012d", s.uids))
		setDefault(m, "creationTimestamp", s.stamp())
		if o["spec"] != nil {
			setDefault(m, "generation", 1.0)
		}
	} else {
		old := meta(was.object)
		setDefault(m, "uid", old["uid"])
		setDefault(m, "creationTimestamp", old["creationTimestamp"])
		if g, ok := old["generation"].(float64); ok && k.group != "" {
			if !reflect.DeepEqual(o["spec"], was.object["spec"]) {
				g++
			}
			m["generation"] = g
		}
	}
	r := s.record(resource, o)
	if s.live[resource] == nil {
		s.live[resource] = map[string]*record{}
	}
	s.live[resource][name] = r
	s.write(change{rv: s.rv, resource: resource, now: r, was: was})
	return clone(o)
}

func (s *Sim) record(_ string, o Object) *record {
	raw, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return &record{object: o, raw: raw}
}

// write publishes a change; s.mu is held.
func (s *Sim) write(c change) {
	s.log = append(s.log, c)
	close(s.changed)
	s.changed = make(chan struct{})
}

// stamp is the server's time as Kubernetes writes it.
func (s *Sim) stamp() string { return s.o.Now().UTC().Format(time.RFC3339) }

func setDefault(o Object, key string, v any) {
	if o[key] == nil {
		o[key] = v
	}
}

// meta returns o's metadata, made if missing.
func meta(o Object) Object { return child(o, "metadata") }

// child returns the object below key, made if missing.
func child(o Object, key string) Object {
	c, ok := o[key].(Object)
	if !ok {
		c = Object{}
		o[key] = c
	}
	return c
}

func str(v any) string { s, _ := v.(string); return s }

func num(v any) int { f, _ := v.(float64); return int(f) }

// clone copies o as a trip through JSON would: every number becomes what JSON
// makes of it. Only values of other types really make the trip.
func clone(o Object) Object {
	if o == nil {
		return nil
	}
	c := make(Object, len(o))
	for k, v := range o {
		c[k] = copied(v)
	}
	return c
}

func copied(v any) any {
	switch v := v.(type) {
	case nil, string, bool, float64:
		return v
	case int:
		return float64(v)
	case int32:
		return float64(v)
	case int64:
		return float64(v)
	case Object:
		if v == nil {
			return nil
		}
		return clone(v)
	case []any:
		if v == nil {
			return nil
		}
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = copied(e)
		}
		return c
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var c any
	if err := json.Unmarshal(b, &c); err != nil {
		panic(err)
	}
	return c
}

// at finds the value at a dotted path, as text.
func at(o Object, path string) string {
	var v any = o
	for p := range strings.SplitSeq(path, ".") {
		m, _ := v.(Object)
		v = m[p]
	}
	return str(v)
}

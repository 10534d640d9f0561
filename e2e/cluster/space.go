package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a test waits for what should come within seconds: the
// machine may be busy with other tests.
const patience = 60 * time.Second

// A Space is one test's namespace, and what the test does there as the
// administrator. What goes wrong ends the test, except in the methods Try....
type Space struct {
	Name string
	C    *Cluster

	t   testing.TB
	ctx context.Context
}

// spaces numbers the namespaces.
var spaces atomic.Int64

// Space makes a namespace for the test and waits until pods can be made in it.
// It is deleted at the test's end, and nobody waits for that.
func (c *Cluster) Space(t testing.TB) *Space {
	t.Helper()
	s := &Space{Name: fmt.Sprintf("t%d", spaces.Add(1)), C: c, t: t, ctx: t.Context()}
	s.Create(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "` + s.Name + `"}}`)
	t.Cleanup(func() {
		if t.Failed() {
			s.tell()
		}
		_, _ = c.Admin.Do(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+s.Name, "", nil)
	})
	s.Until("serviceaccounts", "default", "to exist", func(Object) bool { return true })
	return s
}

// Look is a namespace that a test does not make itself.
func (c *Cluster) Look(t testing.TB, name string) *Space {
	return &Space{Name: name, C: c, t: t, ctx: t.Context()}
}

// tell logs what the cluster has to say about a test that failed.
func (s *Space) tell() {
	s.ctx = context.Background()
	for _, e := range s.List("events", "") {
		s.t.Logf("%s event: %s %s: %s: %s", s.Name, e.Str("involvedObject", "kind"), e.Str("involvedObject", "name"), e.Str("reason"), e.Str("message"))
	}
	for _, r := range []string{"deployments", "statefulsets", "daemonsets", "replicasets"} {
		for _, o := range s.List(r, "") {
			b, err := json.Marshal(o.At("status"))
			s.t.Logf("%s %s %s: generation %d, %s %v", s.Name, r, o.Name(), o.Gen(), b, err)
		}
	}
}

// groups says where a resource lives.
var groups = map[string]string{
	"": "/api/v1", "namespaces": "/api/v1", "pods": "/api/v1", "events": "/api/v1", "secrets": "/api/v1", "configmaps": "/api/v1",
	"serviceaccounts": "/api/v1", "resourcequotas": "/api/v1", "limitranges": "/api/v1", "persistentvolumeclaims": "/api/v1", "nodes": "/api/v1",
	"deployments": "/apis/apps/v1", "replicasets": "/apis/apps/v1", "statefulsets": "/apis/apps/v1", "daemonsets": "/apis/apps/v1",
	"controllerrevisions": "/apis/apps/v1", "cronjobs": "/apis/batch/v1", "jobs": "/apis/batch/v1",
	"poddisruptionbudgets": "/apis/policy/v1",
	"roles":                "/apis/rbac.authorization.k8s.io/v1", "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
	"clusterroles": "/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings": "/apis/rbac.authorization.k8s.io/v1",
	"validatingwebhookconfigurations":   "/apis/admissionregistration.k8s.io/v1",
	"validatingadmissionpolicies":       "/apis/admissionregistration.k8s.io/v1",
	"validatingadmissionpolicybindings": "/apis/admissionregistration.k8s.io/v1",
	"selfsubjectaccessreviews":          "/apis/authorization.k8s.io/v1",
	"storageclasses":                    "/apis/storage.k8s.io/v1",
	"priorityclasses":                   "/apis/scheduling.k8s.io/v1",
	"persistentvolumes":                 "/api/v1",
	"services":                          "/api/v1",
	"endpoints":                         "/api/v1",
	"ingresses":                         "/apis/networking.k8s.io/v1",
	"leases":                            "/apis/coordination.k8s.io/v1",
	"horizontalpodautoscalers":          "/apis/autoscaling/v2",
}

// clusterWide are the resources that live in no namespace.
var clusterWide = []string{
	"namespaces", "nodes", "clusterroles", "clusterrolebindings", "validatingwebhookconfigurations", "storageclasses", "priorityclasses",
	"persistentvolumes", "validatingadmissionpolicies", "validatingadmissionpolicybindings", "selfsubjectaccessreviews",
}

// Path is the API path of a resource: of one object, or with an empty name of
// all in the namespace.
func (s *Space) Path(resource, name string) string {
	group, ok := groups[resource]
	if !ok {
		s.t.Fatalf("where does %s live?", resource)
	}
	p := group
	if !slices.Contains(clusterWide, resource) {
		p += "/namespaces/" + s.Name
	}
	p += "/" + resource
	if name != "" {
		p += "/" + name
	}
	return p
}

var (
	kindLine  = regexp.MustCompile(`(?m)^kind:\s*(\w+)|"kind":\s*"(\w+)"`)
	nameLine  = regexp.MustCompile(`(?m)^  name:\s*(\S+)`) // the first is the object's own
	documents = regexp.MustCompile(`(?m)^---\s*$`)
)

// resource is the plural of the first kind the text names.
func (s *Space) resource(text string) string {
	m := kindLine.FindStringSubmatch(text)
	if m == nil {
		s.t.Fatalf("no kind in %s", text)
	}
	kind := strings.ToLower(m[1] + m[2])
	if strings.HasSuffix(kind, "y") {
		return strings.TrimSuffix(kind, "y") + "ies"
	}
	if strings.HasSuffix(kind, "ss") {
		return kind + "es"
	}
	return kind + "s"
}

// Create makes an object from its text, JSON or YAML.
func (s *Space) Create(text string) Object {
	s.t.Helper()
	o, err := s.TryCreate(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// TryCreate is Create that returns the server's refusal.
func (s *Space) TryCreate(text string) (Object, error) {
	s.t.Helper()
	return s.do(http.MethodPost, s.Path(s.resource(text), ""), "application/yaml", text)
}

// CreateFile makes the objects of a YAML file. What is there already stays as
// it is.
func (s *Space) CreateFile(file string) []Object {
	s.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []Object
	for _, text := range documents.Split(string(b), -1) {
		if !kindLine.MatchString(text) {
			continue // only a comment
		}
		o, err := s.TryCreate(text)
		if Code(err) == http.StatusConflict {
			o, err = s.TryGet(s.resource(text), nameLine.FindStringSubmatch(text)[1])
		}
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func (s *Space) do(method, path, kind, body string) (Object, error) {
	b, err := s.C.Admin.Do(s.ctx, method, path, kind, []byte(body))
	if err != nil {
		return nil, err
	}
	var o Object
	return o, json.Unmarshal(b, &o)
}

// Get reads one object.
func (s *Space) Get(resource, name string) Object {
	s.t.Helper()
	o, err := s.TryGet(resource, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// TryGet is Get that returns the server's refusal.
func (s *Space) TryGet(resource, name string) (Object, error) {
	s.t.Helper()
	return s.do(http.MethodGet, s.Path(resource, name), "", "")
}

// List reads all objects with the labels; "" asks for all.
func (s *Space) List(resource, labels string) []Object {
	s.t.Helper()
	o, err := s.do(http.MethodGet, s.Path(resource, "")+"?labelSelector="+url.QueryEscape(labels), "", "")
	if err != nil {
		s.t.Fatal(err)
	}
	return o.List("items")
}

// Patch merges JSON into an object.
func (s *Space) Patch(resource, name, patch string) Object {
	s.t.Helper()
	o, err := s.do(http.MethodPatch, s.Path(resource, name), MergePatch, patch)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// SetImage gives the workload's container called as the workload another image,
// as `kubectl set image` does.
func (s *Space) SetImage(resource, name, image string) Object {
	s.t.Helper()
	body := fmt.Sprintf(`{"spec": {"template": {"spec": {"containers": [{"name": %q, "image": %q}]}}}}`, name, image)
	o, err := s.do(http.MethodPatch, s.Path(resource, name), StrategicPatch, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// Restart changes the template's annotation, as `kubectl rollout restart` does.
func (s *Space) Restart(resource, name string) Object {
	s.t.Helper()
	return s.Patch(resource, name, `{"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "`+
		time.Now().Format(time.RFC3339Nano)+`"}}}}}`)
}

// Delete deletes an object, leaving its dependents to the garbage collector.
func (s *Space) Delete(resource, name string) {
	s.t.Helper()
	if _, err := s.do(http.MethodDelete, s.Path(resource, name), "", ""); err != nil {
		s.t.Fatal(err)
	}
}

// Gone waits until there is no such object.
func (s *Space) Gone(resource, name string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		_, err := s.TryGet(resource, name)
		if Code(err) == http.StatusNotFound {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %v for %s %s to be gone", patience, resource, name)
		}
	}
}

// Until waits until the object is there and cond holds, and returns it.
func (s *Space) Until(resource, name, what string, cond func(Object) bool) Object {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		o, err := s.TryGet(resource, name)
		if err == nil && cond(o) {
			return o
		}
		if time.Now().After(deadline) {
			b, _ := json.MarshalIndent(o, "", " ")
			s.t.Fatalf("waited %v for %s %s %s; %v\n%s", patience, resource, name, what, err, b)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Complete waits until every number in a workload's status says that the
// rollout is over, which is what `kubectl rollout status` waits for.
func (s *Space) Complete(resource, name string) Object {
	s.t.Helper()
	return s.Until(resource, name, "to be rolled out", Complete)
}

// Complete says whether every number in a workload's status says so.
func Complete(o Object) bool {
	if o.Observed() < o.Gen() {
		return false
	}
	if o.Str("kind") == "DaemonSet" {
		n := o.Int("status", "desiredNumberScheduled")
		return o.Int("status", "updatedNumberScheduled") == n && o.Int("status", "numberAvailable") == n
	}
	n := 1
	if o.At("spec", "replicas") != nil {
		n = o.Int("spec", "replicas")
	}
	for _, count := range []string{"replicas", "updatedReplicas", "readyReplicas", "availableReplicas"} {
		if o.Int("status", count) != n {
			return false
		}
	}
	return true
}

// Pods are the workload's pods with the image, or all with "".
func (s *Space) Pods(name, image string) []Object {
	s.t.Helper()
	return slices.DeleteFunc(s.List("pods", "app="+name), func(p Object) bool {
		return image != "" && p.Str("spec", "containers", 0, "image") != image
	})
}

// PodsUntil waits until cond holds for the workload's pods with the image.
func (s *Space) PodsUntil(name, image, what string, cond func([]Object) bool) []Object {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		pods := s.Pods(name, image)
		if cond(pods) {
			return pods
		}
		if time.Now().After(deadline) {
			b, _ := json.MarshalIndent(pods, "", " ")
			s.t.Fatalf("waited %v for the pods of %s %s\n%s", patience, name, what, b)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// ReplicaSet is the deployment's ReplicaSet with the image, waited for.
func (s *Space) ReplicaSet(name, image string) Object {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		for _, rs := range s.List("replicasets", "app="+name) {
			if rs.Str("spec", "template", "spec", "containers", 0, "image") == image {
				return rs
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %v for a ReplicaSet of %s with %s", patience, name, image)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A Recording holds every change of one resource in the namespace, in the
// order the server told them.
type Recording struct {
	mu     sync.Mutex
	events []Event
}

// Record starts a recording, which ends with the test. A break of the stream
// leaves a gap: do not restart the API server under it.
func (s *Space) Record(resource string) *Recording {
	s.t.Helper()
	r := &Recording{}
	path := s.Path(resource, "")
	listed := make(chan struct{})
	ctx := s.ctx
	go func() {
		err := s.C.Admin.watch(ctx, path, func(e Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		}, func() { close(listed) })
		if ctx.Err() == nil {
			s.t.Errorf("the recording of %s broke: %v", resource, err)
		}
	}()
	<-listed // what changes from now on is recorded
	return r
}

// Events are the changes so far.
func (r *Recording) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Any says whether cond held in any of the changes so far.
func (r *Recording) Any(cond func(Object) bool) bool {
	return slices.ContainsFunc(r.Events(), func(e Event) bool { return cond(e.Object) })
}

// Node makes a node of the test's own, and Labels picks it: pods get there with
// a node selector for the label e2e=NAMESPACE and a toleration for everything.
func (s *Space) Node(name string) string {
	s.t.Helper()
	name = s.Name + "-" + name
	if err := s.C.Nodes.Add(s.ctx, name, map[string]string{"e2e": s.Name}, true); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_, _ = s.C.Admin.Do(context.Background(), http.MethodDelete, "/api/v1/nodes/"+name, "", nil)
	})
	return name
}

// A User is somebody with a static token and no rights but those given.
type User struct {
	Name       string
	Kubeconfig string // its only context, e2e, has the test's namespace
	Client     *Client
}

// User makes a user with the rules, JSON of a Role's rules, in the namespace.
func (s *Space) User(rules string) User {
	s.t.Helper()
	u := s.stranger()
	s.Create(`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "` + u.Name + `"}, "rules": ` + rules + `}`)
	s.bind(u, u.Name)
	return u
}

// stranger is a user with no rights at all.
func (s *Space) stranger() User {
	s.t.Helper()
	l, err := s.C.newUser(s.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	client, err := s.C.client(l)
	if err != nil {
		s.t.Fatal(err)
	}
	return User{Name: l.user.name, Kubeconfig: l.file, Client: client}
}

// Tool is a user with the rights a file grants, a Role and perhaps a
// ClusterRole, less those on the resources named.
func (s *Space) Tool(file string, without ...string) User {
	s.t.Helper()
	u := s.stranger()
	made := s.CreateFile(file)
	if made[0].Str("kind") != "Role" {
		s.t.Fatalf("%s does not begin with a Role", file)
	}
	var rules []any
	for _, r := range made[0].List("rules") {
		l, _ := r.At("resources").([]any)
		r["resources"] = slices.DeleteFunc(slices.Clone(l), func(v any) bool {
			return slices.Contains(without, fmt.Sprint(v))
		})
		if r.At("resources", 0) != nil {
			rules = append(rules, r)
		}
	}
	b, err := json.Marshal(rules)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Create(`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "` + u.Name + `"}, "rules": ` + string(b) + `}`)
	for _, o := range made[1:] {
		if o.Str("kind") != "ClusterRole" {
			continue
		}
		s.Create(`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "` + u.Name + `"},
			"subjects": [{"kind": "User", "name": "` + u.Name + `"}],
			"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "` + o.Name() + `"}}`)
	}
	s.bind(u, u.Name)
	return u
}

// bind gives the user the role, and waits until the server knows.
func (s *Space) bind(u User, role string) {
	s.t.Helper()
	s.Create(`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "` + u.Name + `"},
		"subjects": [{"kind": "User", "name": "` + u.Name + `"}],
		"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "` + role + `"}}`)
	rules := s.Get("roles", role).List("rules")
	if len(rules) == 0 {
		return
	}
	r := rules[len(rules)-1]
	ask := fmt.Sprintf(`{"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes":
		{"namespace": %q, "verb": %q, "group": %q, "resource": %q, "name": %q}}}`,
		s.Name, r.Str("verbs", 0), r.Str("apiGroups", 0), r.Str("resources", 0), r.Str("resourceNames", 0))
	if resource, sub, ok := strings.Cut(r.Str("resources", 0), "/"); ok {
		ask = strings.Replace(ask, `"resource": "`+resource+"/"+sub+`"`, `"resource": "`+resource+`", "subresource": "`+sub+`"`, 1)
	}
	deadline := time.Now().Add(patience)
	for {
		b, err := u.Client.Do(s.ctx, http.MethodPost, s.Path("selfsubjectaccessreviews", ""), "application/json", []byte(ask))
		var o Object
		if err == nil && json.Unmarshal(b, &o) == nil && o.At("status", "allowed") == true {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %v for %s to have its rights: %v %s", patience, u.Name, err, b)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

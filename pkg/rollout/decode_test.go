package rollout

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const deploymentJSON = `{
 "apiVersion":"apps/v1","kind":"Deployment",
 "metadata":{"name":"web","namespace":"shop","uid":"u1","resourceVersion":"9","generation":4,"creationTimestamp":"2030-01-01T00:00:00Z",
  "labels":{"app":"web"},
  "annotations":{"keel.sh/policy":"force","kubectl.kubernetes.io/last-applied-configuration":"{}","deployment.kubernetes.io/revision":"3"},
  "managedFields":[
   {"manager":"helm","operation":"Update","time":"2030-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:template":{"f:spec":{"f:containers":{
     "k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:name":{}},"k:{\"name\":\"proxy\"}":{"f:image":{}}},"f:initContainers":{"k:{\"name\":\"migrate\"}":{"f:image":{}}}}}}}},
   {"manager":"keel","operation":"Update","time":"2030-01-02T00:00:00Z","fieldsV1":{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{"f:image":{}}}}}}}},
   {"manager":"hpa","operation":"Update","time":"2030-01-03T00:00:00Z","fieldsV1":{"f:spec":{"f:replicas":{}}}},
   {"manager":"kcm","operation":"Update","subresource":"status","time":"2030-01-03T00:00:00Z","fieldsV1":{"f:status":{"f:containers":{}}}},
   {"manager":"odd","operation":"Update","fieldsV1":{"f:spec":7}},
   {"manager":"none","operation":"Update"}]},
 "spec":{"progressDeadlineSeconds":600,"minReadySeconds":5,"paused":true,
  "selector":{"matchLabels":{"app":"web"},"matchExpressions":[{"key":"tier","operator":"In","values":["a","b"]},{"key":"x","operator":"DoesNotExist"}]},
  "strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"}},
  "template":{"metadata":{"creationTimestamp":null,"labels":{"app":"web"},"annotations":{"git-sha":"3f9c2ab"}},
   "spec":{"restartPolicy":"Always","terminationGracePeriodSeconds":30,"imagePullSecrets":[{"name":"reg"}],
    "initContainers":[{"name":"mesh","image":"istio/proxyv2","restartPolicy":"Always"},{"name":"migrate","image":"reg.lan/web:1"}],
    "containers":[{"name":"web","image":"reg.lan/web:1","resources":{"limits":{"memory":"64Mi"}},
      "env":[{"name":"GIT_SHA","value":"3f9c2ab"},{"name":"PASSWORD","value":"secret"},{"name":"VERSION","valueFrom":{"fieldRef":{}}}],
      "readinessProbe":{"httpGet":{"path":"/"},"initialDelaySeconds":2,"periodSeconds":5}}]}}},
 "status":{"observedGeneration":3,"replicas":4,"updatedReplicas":1,"readyReplicas":3,"availableReplicas":2,"terminatingReplicas":1,
  "conditions":[{"type":"Progressing","status":"True","reason":"ReplicaSetUpdated","message":"a\u001b[31mb","lastUpdateTime":"2030-01-01T00:00:01Z","lastTransitionTime":"2030-01-01T00:00:00Z"}]}}`

func TestDecodeDeployment(t *testing.T) {
	d, err := DecodeTarget(Deployment, []byte(deploymentJSON))
	if err != nil {
		t.Fatal(err)
	}
	one := int32(1)
	if d.Replicas != 1 || !d.Paused || d.MinReady != 5*time.Second || d.ProgressDeadline != 10*time.Minute || d.MaxUnavailable != "25%" || d.Strategy != RollingUpdate ||
		d.Generation != 4 || d.UID != "u1" || !reflect.DeepEqual(d.Status, Status{Observed: 3, Replicas: 4, Updated: 1, Ready: 3, Available: 2, Terminating: &one}) {
		t.Errorf("%+v", d)
	}
	if got := d.Selector.String(); got != "!x,app=web,tier in (a,b)" {
		t.Error(got)
	}
	if c, ok := d.Condition("Progressing"); !ok || c.Message != "ab" || c.Update.Second() != 1 {
		t.Errorf("%+v", c)
	}
	if want := map[string]string{"keel.sh/policy": "force", "deployment.kubernetes.io/revision": "3"}; !reflect.DeepEqual(d.Annotations, want) {
		t.Errorf("%v", d.Annotations)
	}
	var names []string
	for _, c := range d.Template.Containers {
		names = append(names, c.Name)
	}
	if strings.Join(names, " ") != "mesh migrate web" || !d.Template.Containers[0].Sidecar || d.Template.Containers[1].Sidecar || !d.Template.Containers[1].Init {
		t.Errorf("%+v", d.Template.Containers)
	}
	web := d.Template.Containers[2]
	if !reflect.DeepEqual(web.Env, map[string]string{"GIT_SHA": "3f9c2ab"}) || web.MemoryLimit != "64Mi" {
		t.Errorf("%+v", web)
	}
	if want := (Probe{InitialDelay: 2 * time.Second, Timeout: time.Second, Period: 5 * time.Second, Failures: 3, Successes: 1}); *web.Readiness != want {
		t.Errorf("%+v", web.Readiness)
	}
	// 2 + 1 + (3+1-3)*5 + 5/2 + 1 seconds
	if got := web.Readiness.hint(); got != 11500*time.Millisecond {
		t.Error(got)
	}
	if len(d.Managers) != 2 || d.Managers[0].Name != "helm" || !reflect.DeepEqual(d.Managers[0].Images, []string{"migrate", "proxy", "web"}) ||
		d.Managers[1].Name != "keel" || !reflect.DeepEqual(d.Managers[1].Images, []string{"web"}) {
		t.Errorf("%+v", d.Managers)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"metadata":{"name":"a","uid":"b"}}`, `{"metadata":{"name":"a","uid":"b"},"spec":{"template":7}}`, `{"metadata":7}`} {
		if _, err := DecodeTarget(Deployment, []byte(bad)); err == nil {
			t.Errorf("%s: decoded", bad)
		}
	}
	if d, _ := DecodeTarget(Deployment, []byte(strings.Replace(deploymentJSON, `"progressDeadlineSeconds":600`, `"progressDeadlineSeconds":2147483647`, 1))); d.ProgressDeadline != 0 {
		t.Errorf("a deadline that is none: %v", d.ProgressDeadline)
	}
}

func TestDecodeOtherKinds(t *testing.T) {
	const tmpl = `"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"web","image":"web:1"}]}}`
	s, err := DecodeTarget(StatefulSet, []byte(`{"metadata":{"name":"db","uid":"u"},"spec":{"replicas":0,"podManagementPolicy":"Parallel","ordinals":{"start":5},
		"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":2,"maxUnavailable":1}},`+tmpl+`},"status":{"updateRevision":"db-2","currentRevision":"db-1"}}`))
	if err != nil || s.Replicas != 0 || !s.Parallel || s.FirstOrdinal != 5 || s.Partition != 2 || s.MaxUnavailable != "1" || s.Status.UpdateRevision != "db-2" {
		t.Errorf("%+v %v", s, err)
	}
	d, err := DecodeTarget(DaemonSet, []byte(`{"metadata":{"name":"agent","uid":"u"},"spec":{"updateStrategy":{"type":"OnDelete"},`+tmpl+`},
		"status":{"desiredNumberScheduled":5,"currentNumberScheduled":4,"updatedNumberScheduled":3,"numberReady":2,"numberAvailable":1,"numberMisscheduled":6}}`))
	if want := (Status{Replicas: 5, Current: 4, Updated: 3, Ready: 2, Available: 1, Misscheduled: 6}); err != nil || d.Strategy != OnDelete || !reflect.DeepEqual(d.Status, want) {
		t.Errorf("%+v %v", d, err)
	}
	c, err := DecodeTarget(CronJob, []byte(`{"metadata":{"name":"nightly","uid":"u","managedFields":[{"manager":"flux","time":"2030-01-01T00:00:00Z","fieldsV1":{"f:spec":{"f:jobTemplate":{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{"f:image":{}}}}}}}}}}]},
		"spec":{"suspend":true,"jobTemplate":{"spec":{`+tmpl+`}}},"status":{"active":[{}],"lastScheduleTime":"2030-01-01T00:00:00Z"}}`))
	if err != nil || !c.Suspended || c.Template.Containers[0].Image != "web:1" || len(c.Managers) != 1 || c.Managers[0].Name != "flux" {
		t.Errorf("%+v %v", c, err)
	}
	r, err := DecodeRevision([]byte(`{"metadata":{"name":"agent-1","uid":"r","labels":{"controller-revision-hash":"abc"},"ownerReferences":[{"kind":"DaemonSet","name":"agent","uid":"u","controller":true}]},
		"revision":7,"data":{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"app":"web"}},"spec":{"containers":[{"name":"web","image":"web:1","resources":{}}]}}}}}`))
	if err != nil || r.Number != 7 || r.Hash != "abc" || r.Owner.UID != "u" || r.Template.Shape != d.Template.Shape || r.Template.Hash == d.Template.Hash {
		t.Errorf("%+v %v", r, err)
	}
	if r, err = DecodeRevision([]byte(`{"metadata":{},"data":{"odd":1}}`)); err != nil || r.Template.Shape != "" {
		t.Errorf("%+v %v", r, err)
	}
}

func TestFingerprint(t *testing.T) {
	base := `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"a","image":"b"}]}}`
	hash := func(s string) string {
		h, _, err := fingerprint([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for _, r := range []struct {
		name, s string
		same    bool
	}{
		{"the controller's label", `{"metadata":{"labels":{"app":"web","pod-template-hash":"x"}},"spec":{"containers":[{"name":"a","image":"b"}]}}`, true},
		{"the order of keys", `{"spec":{"containers":[{"image":"b","name":"a"}]},"metadata":{"labels":{"app":"web"}}}`, true},
		{"null", `{"metadata":{"creationTimestamp":null,"labels":{"app":"web"}},"spec":{"containers":[{"name":"a","image":"b"}]}}`, true},
		{"a field nobody knows", `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"a","image":"b","newField":1}]}}`, false},
		{"another label", `{"metadata":{"labels":{"app":"web","x":"y"}},"spec":{"containers":[{"name":"a","image":"b"}]}}`, false},
		{"a null in a list keeps its place", `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[null,{"name":"a","image":"b"}]}}`, false},
		{"an empty selector is not an absent one", `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"a","image":"b"}],"sel":{}}}`, false},
		{"large numbers stay apart", `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"a","image":"b"}],"n":9007199254740993}}`, false},
	} {
		if got := hash(r.s) == hash(base); got != r.same {
			t.Errorf("%s: same is %v", r.name, got)
		}
	}
	if hash(`{"n":9007199254740993}`) == hash(`{"n":9007199254740992}`) {
		t.Error("numbers are rounded")
	}
}

func TestDecodePod(t *testing.T) {
	p, err := DecodePod([]byte(`{"metadata":{"name":"web-1","uid":"p","deletionTimestamp":"2030-01-01T00:00:30Z","deletionGracePeriodSeconds":30,"finalizers":["f"],
	 "ownerReferences":[{"kind":"X","uid":"no"},{"kind":"ReplicaSet","name":"web-5c","uid":"rs","controller":true}]},
	 "spec":{"nodeName":"n1","restartPolicy":"Always","readinessGates":[{"conditionType":"lb"}],"volumes":[{"persistentVolumeClaim":{"claimName":"data"}},{"emptyDir":{}}],
	  "initContainers":[{"name":"init","image":"i"},{"name":"mesh","image":"m","restartPolicy":"Always"}],"containers":[{"name":"web","image":"w"},{"name":"late","image":"l"}]},
	 "status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],
	  "initContainerStatuses":[{"name":"mesh","state":{"running":{"startedAt":"2030-01-01T00:00:00Z"}}},{"name":"init","state":{"terminated":{"exitCode":0,"reason":"Completed"}}}],
	  "containerStatuses":[{"name":"web","image":"other/name","imageID":"r@sha256:00","ready":true,"started":true,"restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff","message":"m\u0007"}},
	   "lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled","finishedAt":"2030-01-01T00:00:09Z"}}}],
	  "ephemeralContainerStatuses":[{"name":"debug"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Owner.UID != "rs" || p.Node != "n1" || !p.Terminating() || p.Active() || p.DeletionGrace != 30*time.Second || !p.Ready() ||
		!reflect.DeepEqual(p.Claims, []string{"data"}) || !reflect.DeepEqual(p.Gates, []string{"lb"}) || len(p.Containers) != 4 {
		t.Errorf("%+v", p)
	}
	web := p.Containers[2]
	if web.Image != "w" || web.ImageID != "r@sha256:00" || web.Restarts != 2 || web.State.Message != "m" || web.Last.ExitCode != 137 || !web.Seen || p.Containers[3].Seen {
		t.Errorf("%+v", web)
	}
	if p.Containers[0].State.Is != Terminated || !p.Containers[1].Sidecar || p.Containers[1].State.Is != Running {
		t.Errorf("%+v", p.Containers)
	}
	var order []string
	for _, c := range inOrder(p.Containers) {
		order = append(order, c.Name)
	}
	if strings.Join(order, " ") != "init mesh web late" {
		t.Error(order)
	}
	if _, err := DecodePod([]byte(`{"metadata":{"name":"x"}}`)); err == nil {
		t.Error("a pod without a uid was decoded")
	}
}

func TestDecodeTheRest(t *testing.T) {
	e, err := DecodeEvent([]byte(`{"metadata":{"name":"e"},"reason":"BackOff","message":"x","count":3,"firstTimestamp":"2030-01-01T00:00:00Z","lastTimestamp":"2030-01-01T00:00:09Z","involvedObject":{"uid":"p","fieldPath":"spec.containers{web}"}}`))
	if err != nil || e.Count != 3 || e.Last.Second() != 9 || e.Involved.UID != "p" || !about(e, "web") || about(e, "we") {
		t.Errorf("%+v %v", e, err)
	}
	e, err = DecodeEvent([]byte(`{"note":"n","firstTimestamp":null,"eventTime":"2030-01-01T00:00:01.000002Z","series":{"count":7,"lastObservedTime":"2030-01-01T00:00:05Z"},"regarding":{"uid":"q"}}`))
	if err != nil || e.Message != "n" || e.Count != 7 || e.Last.Second() != 5 || e.First.Second() != 1 || e.Involved.UID != "q" {
		t.Errorf("%+v %v", e, err)
	}
	n, err := DecodeNode([]byte(`{"metadata":{"name":"n"},"spec":{"unschedulable":true,"taints":[{"key":"k"}]},"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}}`))
	if err != nil || n.Ready != "Unknown" || !n.Unschedulable || len(n.Taints) != 1 {
		t.Errorf("%+v %v", n, err)
	}
	c, err := DecodeClaim([]byte(`{"metadata":{"name":"c"},"spec":{"storageClassName":"s"},"status":{"phase":"Lost"}}`))
	if err != nil || c.Phase != "Lost" || c.StorageClass != "s" {
		t.Errorf("%+v %v", c, err)
	}
	ns, err := DecodeNamespace([]byte(`{"metadata":{"name":"shop"},"status":{"phase":"Terminating"}}`))
	if err != nil || ns.Phase != "Terminating" {
		t.Errorf("%+v %v", ns, err)
	}
	r, err := DecodeReplicaSet([]byte(`{"metadata":{"name":"web-1","uid":"r"},"spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"a","image":"b"}]}}},"status":{"replicas":1,"observedGeneration":4}}`))
	if err != nil || r.Replicas != 2 || r.Status.Observed != 4 || r.Template.Containers[0].Image != "b" {
		t.Errorf("%+v %v", r, err)
	}
}

func TestSelectors(t *testing.T) {
	s := Selector{Labels: map[string]string{"app": "web"}, Exprs: []Requirement{{Key: "t", Operator: "NotIn", Values: []string{"x"}}, {Key: "e", Operator: "Exists"}}}
	for _, r := range []struct {
		labels map[string]string
		want   bool
	}{
		{map[string]string{"app": "web", "e": ""}, true},
		{map[string]string{"app": "web", "e": "", "t": "y"}, true},
		{map[string]string{"app": "web", "e": "", "t": "x"}, false},
		{map[string]string{"app": "web"}, false},
		{map[string]string{"app": "api", "e": ""}, false},
		{nil, false},
	} {
		if s.Matches(r.labels) != r.want {
			t.Errorf("%v: %v", r.labels, !r.want)
		}
	}
	if (Selector{}).Matches(map[string]string{"a": "b"}) || (Selector{Exprs: []Requirement{{Key: "a", Operator: "Near"}}}).Matches(map[string]string{"a": "b"}) {
		t.Error("what selects nothing selected")
	}
}

func TestParseKind(t *testing.T) {
	for word, want := range map[string]Kind{"deployment": Deployment, "deploy": Deployment, "Deployment": Deployment, "sts": StatefulSet, "statefulset": StatefulSet, "ds": DaemonSet, "daemonset": DaemonSet, "cj": CronJob, "cronjob": CronJob, "pod": "", "": ""} {
		if got, ok := ParseKind(word); got != want || ok != (want != "") {
			t.Errorf("%q: %q", word, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(deploymentJSON))
	f.Add([]byte(`{"metadata":{"uid":"p"},"status":{"containerStatuses":[{"name":"a","state":{"waiting":{}}}]}}`))
	f.Add([]byte(`{"data":{"spec":{"template":{"$patch":"replace"}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, k := range []Kind{Deployment, StatefulSet, DaemonSet, CronJob} {
			target, err := DecodeTarget(k, raw)
			if err != nil {
				continue
			}
			// Whatever was decoded can be judged.
			s := Snapshot{Target: &target, PodSight: Seen, ReplicaSetSight: Seen, RevisionSight: Seen}
			if p, err := DecodePod(raw); err == nil {
				s.Pods = []Pod{p}
			}
			if r, err := DecodeReplicaSet(raw); err == nil {
				s.ReplicaSets = []ReplicaSet{r}
			}
			c := Config{Kind: k, Expected: Expected{Commit: "3f9c2ab"}}
			s.Memory = Remember(Memory{}, s, c, noon())
			if v := Assess(s, c, noon()); v.Outcome == Ready && v.MatchedBy == "" {
				t.Errorf("ready without a match: %+v", v)
			}
			hash, _, err := fingerprint(raw)
			if again, _, _ := fingerprint(raw); err == nil && hash != again {
				t.Error("two hashes of one template")
			}
		}
		_, _ = DecodeRevision(raw)
		_, _ = DecodeEvent(raw)
		_, _ = DecodeNode(raw)
		_, _ = DecodeClaim(raw)
		_, _ = DecodeNamespace(raw)
	})
}

package kubesim_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/kubesim"
)

// lab runs f in a bubble with a Deployment shop/web of three.
func lab(t *testing.T, w kubesim.Workload, f func(*testing.T, *kubesim.Sim)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := kubesim.New(kubesim.Options{})
		defer func() { s.Close(); synctest.Wait() }()
		w.Namespace, w.Image = "shop", "reg.lan/web:1"
		if w.Name == "" {
			w.Name = "web"
		}
		s.Deploy(w)
		synctest.Wait()
		f(t, s)
	})
}

type dep struct {
	Metadata struct{ Generation int }
	Spec     struct{ Replicas int }
	Status   struct {
		ObservedGeneration, Replicas, UpdatedReplicas, ReadyReplicas, AvailableReplicas, TerminatingReplicas int
		CurrentNumberScheduled, UpdatedNumberScheduled, NumberReady, DesiredNumberScheduled                  int
		CurrentRevision, UpdateRevision                                                                      string
		Conditions                                                                                           []struct{ Type, Status, Reason, Message string }
		Phase                                                                                                string
		ContainerStatuses                                                                                    []struct {
			RestartCount int
			ImageID      string
			State        map[string]struct{ Reason, Message string }
		}
	}
}

func as(t *testing.T, o any) dep {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var d dep
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// line is what a rollout status reader sees.
func (d dep) line() string {
	reason := ""
	for _, c := range d.Status.Conditions {
		if c.Type == "Progressing" {
			reason = c.Reason
		}
	}
	return fmt.Sprintf("%d/%d %s r%d u%d a%d", d.Metadata.Generation, d.Status.ObservedGeneration, reason,
		d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas)
}

func pods(t *testing.T, s *kubesim.Sim) (out []dep) {
	t.Helper()
	for _, p := range s.Objects("pods", "shop") {
		out = append(out, as(t, p))
	}
	return out
}

func run(d time.Duration) { time.Sleep(d); synctest.Wait() }

// The order of states is that of a real controller manager.
func TestRollout(t *testing.T) {
	lab(t, kubesim.Workload{Replicas: 3}, func(t *testing.T, s *kubesim.Sim) {
		if l := as(t, s.Object("deployments", "shop", "web")).line(); l != "1/1 NewReplicaSetAvailable r3 u3 a3" {
			t.Fatalf("deployed as %s", l)
		}
		from := s.Version()
		res := ask(t, s, fmt.Sprintf("/apis/apps/v1/namespaces/shop/deployments?watch=1&timeoutSeconds=60&resourceVersion=%d", from))
		s.Rollout("shop/web", "reg.lan/web:2", kubesim.Plan{})
		run(70 * time.Second)
		var lines []string
		d := json.NewDecoder(res.Body)
		for {
			var e struct {
				Type   string
				Object any
			}
			if d.Decode(&e) != nil {
				break
			}
			if e.Type != "MODIFIED" {
				continue
			}
			if l := as(t, e.Object).line(); len(lines) == 0 || lines[len(lines)-1] != l {
				lines = append(lines, l)
			}
		}
		want := []string{
			"2/1 NewReplicaSetAvailable r3 u3 a3",
			"2/1 NewReplicaSetCreated r3 u3 a3",
			"2/2 ReplicaSetUpdated r3 u0 a3",
		}
		if len(lines) < 8 || !slices.Equal(lines[:3], want) || lines[len(lines)-1] != "2/2 NewReplicaSetAvailable r3 u3 a3" {
			t.Errorf("states\n  %s", strings.Join(lines, "\n  "))
		}
		for _, l := range lines {
			if strings.Contains(l, "a1") || strings.Contains(l, "a2") || strings.Contains(l, "r5") {
				t.Errorf("beyond surge and spare: %s", l)
			}
		}
		if n := len(pods(t, s)); n != 3 {
			t.Errorf("%d pods", n)
		}
		for _, p := range pods(t, s) {
			if p.Status.ContainerStatuses[0].ImageID != kubesim.ImageID("reg.lan/web:2") {
				t.Errorf("runs %s", p.Status.ContainerStatuses[0].ImageID)
			}
		}
	})
}

func ask(t *testing.T, s *kubesim.Sim, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", kubesim.Base().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Transport(kubesim.Admin).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// end is the deployment's line after d of a rollout.
func end(t *testing.T, s *kubesim.Sim, p kubesim.Plan, d time.Duration) string {
	t.Helper()
	s.Rollout("shop/web", "reg.lan/web:2", p)
	run(d)
	return as(t, s.Object("deployments", "shop", "web")).line()
}

func states(t *testing.T, s *kubesim.Sim) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, p := range pods(t, s) {
		state := p.Status.Phase
		for _, c := range p.Status.ContainerStatuses {
			for k, v := range c.State {
				state = strings.TrimSuffix(k+" "+v.Reason, " ")
			}
		}
		out[state]++
	}
	return out
}

func TestPlans(t *testing.T) {
	cases := []struct {
		name  string
		w     kubesim.Workload
		p     kubesim.Plan
		after time.Duration
		line  string
		state string // a state that a pod is in
	}{
		{"nobody observes", kubesim.Workload{}, kubesim.Plan{Observe: kubesim.Never}, time.Hour, "2/1 NewReplicaSetAvailable r3 u3 a3", "running"},
		{"no ReplicaSet", kubesim.Workload{}, kubesim.Plan{CreateError: "exceeded quota"}, time.Hour, "2/1 ReplicaSetCreateError r3 u3 a3", "running"},
		{"no pods", kubesim.Workload{}, kubesim.Plan{PodError: "exceeded quota"}, time.Minute, "2/2 ReplicaSetUpdated r3 u0 a3", "running"},
		{"deadline", kubesim.Workload{Deadline: time.Minute}, kubesim.Plan{PodError: "exceeded quota"}, 2 * time.Minute, "2/2 ProgressDeadlineExceeded r3 u0 a3", "running"},
		{"image", kubesim.Workload{}, kubesim.Plan{Pod: kubesim.Life{PullError: "not found"}}, 5 * time.Second, "2/2 ReplicaSetUpdated r4 u1 a3", "waiting ImagePullBackOff"},
		{"image, between", kubesim.Workload{}, kubesim.Plan{Pod: kubesim.Life{PullError: "not found"}}, 10500 * time.Millisecond, "2/2 ReplicaSetUpdated r4 u1 a3", "waiting ErrImagePull"},
		{"image, at last", kubesim.Workload{}, kubesim.Plan{Pod: kubesim.Life{PullError: "not found", PullFails: 2}}, 3 * time.Minute, "2/2 NewReplicaSetAvailable r3 u3 a3", "running"},
		{"crash once", kubesim.Workload{}, kubesim.Plan{Pod: kubesim.Life{CrashAfter: 100 * time.Millisecond, Crashes: 1}}, time.Minute, "2/2 NewReplicaSetAvailable r3 u3 a3", "running"},
		{"crash loop", kubesim.Workload{Probe: true}, kubesim.Plan{Pod: kubesim.Life{CrashAfter: 100 * time.Millisecond}}, time.Minute, "2/2 ReplicaSetUpdated r4 u1 a3", "waiting CrashLoopBackOff"},
		// Without a probe a pod is ready as soon as it runs, and counts until it crashes.
		{"crash loop, no probe", kubesim.Workload{}, kubesim.Plan{Pod: kubesim.Life{CrashAfter: 100 * time.Millisecond}}, time.Minute, "2/2 ReplicaSetUpdated r4 u2 a2", "waiting CrashLoopBackOff"},
		{"config", kubesim.Workload{}, kubesim.Plan{Pod: kubesim.Life{ConfigError: `secret "x" not found`}}, time.Minute, "2/2 ReplicaSetUpdated r4 u1 a3", "waiting CreateContainerConfigError"},
		{"unschedulable", kubesim.Workload{}, kubesim.Plan{Pod: kubesim.Life{Unschedulable: "0/1 nodes"}}, time.Minute, "2/2 ReplicaSetUpdated r4 u1 a3", "Pending"},
		{"probe", kubesim.Workload{Probe: true}, kubesim.Plan{Pod: kubesim.Life{ProbeError: "HTTP 503"}}, time.Minute, "2/2 ReplicaSetUpdated r4 u1 a3", "running"},
		{"one bad pod", kubesim.Workload{MaxUnavailable: 1}, kubesim.Plan{Pods: map[int]kubesim.Life{1: {PullError: "not found"}}}, time.Minute, "2/2 ReplicaSetUpdated r3 u2 a2", "waiting ImagePullBackOff"},
		{"recreate", kubesim.Workload{Strategy: "Recreate"}, kubesim.Plan{}, time.Minute, "2/2 NewReplicaSetAvailable r3 u3 a3", "running"},
		{"recreate, stuck", kubesim.Workload{Strategy: "Recreate"}, kubesim.Plan{Terminate: kubesim.Never}, time.Hour, "2/2 NewReplicaSetCreated r0 u0 a0", "running"},
		{"slow", kubesim.Workload{MinReady: 10 * time.Second}, kubesim.Plan{Pod: kubesim.Life{Ready: 5 * time.Second}}, 2 * time.Minute, "2/2 NewReplicaSetAvailable r3 u3 a3", "running"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.w.Replicas = 3
			lab(t, c.w, func(t *testing.T, s *kubesim.Sim) {
				line := end(t, s, c.p, c.after)
				if line != c.line || states(t, s)[c.state] == 0 {
					t.Errorf("%s, pods %v; want %s and %s", line, states(t, s), c.line, c.state)
				}
			})
		})
	}
}

func TestUndo(t *testing.T) {
	lab(t, kubesim.Workload{Replicas: 2}, func(t *testing.T, s *kubesim.Sim) {
		end(t, s, kubesim.Plan{Pod: kubesim.Life{PullError: "not found"}}, time.Minute)
		s.Rollout("shop/web", "reg.lan/web:1", kubesim.Plan{})
		run(time.Minute)
		if l := as(t, s.Object("deployments", "shop", "web")).line(); l != "3/3 NewReplicaSetAvailable r2 u2 a2" {
			t.Error(l)
		}
		if n := len(s.Objects("replicasets", "shop")); n != 2 {
			t.Errorf("%d replica sets", n)
		}
	})
}

func TestStatefulSet(t *testing.T) {
	lab(t, kubesim.Workload{Kind: "StatefulSet", Name: "db", Replicas: 3}, func(t *testing.T, s *kubesim.Sim) {
		d := as(t, s.Object("statefulsets", "shop", "db"))
		if d.Status.CurrentRevision != d.Status.UpdateRevision || d.Status.AvailableReplicas != 3 {
			t.Fatalf("deployed as %+v", d.Status)
		}
		s.Rollout("shop/statefulset/db", "reg.lan/web:2", kubesim.Plan{Pods: map[int]kubesim.Life{1: {PullError: "not found"}}})
		run(time.Minute)
		d = as(t, s.Object("statefulsets", "shop", "db"))
		if d.Status.UpdatedReplicas != 2 || d.Status.ReadyReplicas != 2 || d.Status.CurrentRevision == d.Status.UpdateRevision {
			t.Errorf("stuck as %+v", d.Status)
		}
		s.Rollout("shop/statefulset/db", "reg.lan/web:2", kubesim.Plan{})
		s.DeletePod("shop/statefulset/db", "db-1")
		run(time.Minute)
		d = as(t, s.Object("statefulsets", "shop", "db"))
		if d.Status.UpdatedReplicas != 3 || d.Status.AvailableReplicas != 3 || d.Status.CurrentRevision != d.Status.UpdateRevision {
			t.Errorf("ended as %+v", d.Status)
		}
	})
	lab(t, kubesim.Workload{Kind: "StatefulSet", Name: "db", Replicas: 3, Partition: 2}, func(t *testing.T, s *kubesim.Sim) {
		s.Rollout("shop/statefulset/db", "reg.lan/web:2", kubesim.Plan{})
		run(time.Minute)
		if d := as(t, s.Object("statefulsets", "shop", "db")); d.Status.UpdatedReplicas != 1 || d.Status.AvailableReplicas != 3 {
			t.Errorf("partitioned as %+v", d.Status)
		}
	})
}

func TestDaemonSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kubesim.New(kubesim.Options{})
		defer func() { s.Close(); synctest.Wait() }()
		s.Node("node-1", true)
		s.Node("node-2", true)
		s.Deploy(kubesim.Workload{Kind: "DaemonSet", Namespace: "shop", Name: "agent", Image: "reg.lan/agent:1"})
		s.Rollout("shop/daemonset/agent", "reg.lan/agent:2", kubesim.Plan{})
		run(time.Minute)
		d := as(t, s.Object("daemonsets", "shop", "agent"))
		if d.Status.UpdatedNumberScheduled != 2 || d.Status.NumberReady != 2 || d.Status.DesiredNumberScheduled != 2 || d.Status.ObservedGeneration != 2 {
			t.Errorf("%+v", d.Status)
		}
		if n := len(s.Objects("controllerrevisions", "shop")); n != 2 {
			t.Errorf("%d revisions", n)
		}
	})
}

// The same seed of events gives the same versions: nothing is left to chance.
func TestDeterministic(t *testing.T) {
	var first string
	for range 3 {
		lab(t, kubesim.Workload{Replicas: 3}, func(t *testing.T, s *kubesim.Sim) {
			end(t, s, kubesim.Plan{}, time.Minute)
			b, err := json.Marshal(append(s.Objects("pods", ""), s.Objects("deployments", "")...))
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = string(b)
			}
			if string(b) != first {
				t.Error("two runs differ")
			}
		})
	}
}

func TestServer(t *testing.T) {
	lab(t, kubesim.Workload{Replicas: 1}, func(t *testing.T, s *kubesim.Sim) {
		for path, want := range map[string]string{
			"/apis/apps/v1/namespaces/shop/deployments/none":                                    `404 {"apiVersion":"v1","code":404,"kind":"Status","message":"deployments.apps \"none\" not found"`,
			"/apis/nope/v1/things":                                                              `404 404 page not found`,
			"/apis/apps/v1/deployments?fieldSelector=spec.x=1":                                  `400 {"apiVersion":"v1","code":400,"kind":"Status","message":"field label not supported: spec.x"`,
			"/apis/apps/v1/deployments?labelSelector=app+in+(no)":                               `200 {"kind":"DeploymentList","apiVersion":"apps/v1","metadata":{"resourceVersion":`,
			"/api/v1/namespaces/shop/pods?resourceVersion=999999":                               `504 {"apiVersion":"v1","code":504,"details":{"retryAfterSeconds":1},"kind":"Status","message":"Timeout: Too large`,
			"/api/v1/namespaces/shop/pods?watch=1&resourceVersion=1":                            `200 {"type":"ERROR","object":{"apiVersion":"v1","code":410,`,
			"/api/v1/namespaces/shop/pods?watch=1&timeoutSeconds=1":                             `200 {"type":"ADDED","object":{"apiVersion":"v1","kind":"Pod"`,
			"/api/v1/nodes?watch=1&timeoutSeconds=61&allowWatchBookmarks=true&resourceVersion=": `200 {"type":"ADDED"`,
		} {
			res := ask(t, s, path)
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%d %s", res.StatusCode, b); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %.200s", path, got)
			}
		}
	})
}

// General clients find what is served before they ask for it.
func TestDiscovery(t *testing.T) {
	lab(t, kubesim.Workload{Replicas: 1}, func(t *testing.T, s *kubesim.Sim) {
		c := &http.Client{Transport: s.Transport("")} // anonymous, as before a login
		for path, want := range map[string]string{
			"/version": `"gitVersion":"v1.`, "/api": `"versions":["v1"]`, "/apis": `"groupVersion":"apps/v1"`,
			"/api/v1": `"kind":"Pod","name":"pods","namespaced":true`, "/apis/apps/v1": `"name":"deployments"`,
		} {
			r, err := c.Get("https://kubesim.test" + path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r.Body)
			r.Body.Close()
			if wrong, err := (&http.Client{Transport: s.Transport("nobody's")}).Get("https://kubesim.test" + path); err != nil {
				t.Fatal(err)
			} else if wrong.Body.Close(); wrong.StatusCode != 401 {
				t.Errorf("%s with a wrong token: %d", path, wrong.StatusCode)
			}
			if err != nil || r.StatusCode != 200 || !strings.Contains(string(b), want) {
				t.Errorf("%s: %d %s %v", path, r.StatusCode, b, err)
			}
		}
		if n := len(s.Requests()); n != 0 {
			t.Errorf("%d of these are in the record", n)
		}
	})
}

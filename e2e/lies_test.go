package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"homelab/e2e/cluster"
)

// TestLies proves that the control plane really shows each state in which the
// counters of a rollout say one thing and the workload does another. What the
// program makes of them is tested elsewhere; without these the other tests
// would show nothing.
func TestLies(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *cluster.Space){
		"asked too early all numbers are full for the old image": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(oldSHA, "ok"), replicas(2)))
			o := s.Complete("deployments", "web")
			if got := progressing(o).Str("reason"); got != "NewReplicaSetAvailable" {
				t.Errorf("Progressing says %q", got)
			}
		},
		"right after an update all numbers are still full": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(oldSHA, "ok"), replicas(2)))
			s.Complete("deployments", "web")
			o := s.SetImage("deployments", "web", image(sha, "ok"))
			if o.Int("status", "updatedReplicas") != 2 || o.Int("status", "availableReplicas") != 2 || o.Observed() != o.Gen()-1 {
				t.Errorf("generation %d: status %v", o.Gen(), o.At("status"))
			}
			s.Complete("deployments", "web")
		},
		"a reverted image completes": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(oldSHA, "ok"), replicas(2)))
			s.Complete("deployments", "web")
			s.SetImage("deployments", "web", image(sha, "slow-30s"))
			s.ReplicaSet("web", image(sha, "slow-30s"))
			s.SetImage("deployments", "web", image(oldSHA, "ok"))
			if o := s.Complete("deployments", "web"); o.Gen() != 3 {
				t.Errorf("generation %d", o.Gen())
			}
		},
		"the deadline's message outlives its revision": func(t *testing.T, s *cluster.Space) {
			// Only on the way back to a ReplicaSet that is there already: making
			// a new one writes the condition anew.
			changes := s.Record("deployments")
			s.Create(workload(t, "Deployment", image(oldSHA, "ok"), deadline(2)))
			s.Complete("deployments", "web")
			// It lasts from one write of the controller to its next, which are one
			// when the new pod is there quickly enough.
			for range 5 {
				bad := exceed(s)
				back := s.SetImage("deployments", "web", image(oldSHA, "ok")).Gen()
				s.Complete("deployments", "web")
				if changes.Any(func(o cluster.Object) bool {
					return o.Gen() == back && o.Observed() == back &&
						progressing(o).Str("reason") == "ProgressDeadlineExceeded" && strings.Contains(progressing(o).Str("message"), bad)
				}) {
					return
				}
			}
			t.Error("the stale message was never shown together with the observed generation")
		},
		"a quota on ReplicaSets keeps the generation unobserved": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(oldSHA, "ok"), deadline(3)))
			s.Complete("deployments", "web")
			quota(s, `{"count/replicasets.apps": "1"}`)
			s.SetImage("deployments", "web", image(sha, "ok"))
			createError(t, s, "web", "exceeded quota")
		},
		"a webhook that denies ReplicaSets keeps the generation unobserved": func(t *testing.T, s *cluster.Space) {
			s.Refuse("replicasets", "only on weekdays")
			s.Create(workload(t, "Deployment", image(sha, "ok"), deadline(3)))
			createError(t, s, "web", "denied the request: only on weekdays")
		},
		"a webhook that is down does the same and is got over": func(t *testing.T, s *cluster.Space) {
			repair := s.Break("replicasets")
			s.Create(workload(t, "Deployment", image(sha, "ok"), deadline(3)))
			createError(t, s, "web", "failed calling webhook")
			repair()
			s.Complete("deployments", "web")
		},
		"a paused deployment never exceeds its deadline": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(oldSHA, "ok"), deadline(2)))
			s.Complete("deployments", "web")
			s.Patch("deployments", "web", `{"spec": {"paused": true}}`)
			s.SetImage("deployments", "web", image(sha, "ok"))
			time.Sleep(5 * time.Second)
			o := s.Get("deployments", "web")
			if progressing(o).Str("reason") != "DeploymentPaused" || progressing(o).Str("status") != "Unknown" || o.Observed() != o.Gen() {
				t.Errorf("generation %d, status %v", o.Gen(), o.At("status"))
			}
		},
		"Recreate waits for an old pod without a deadline": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(oldSHA, "stuck-terminating"), recreate, deadline(2)))
			s.Complete("deployments", "web")
			s.SetImage("deployments", "web", image(sha, "ok"))
			s.PodsUntil("web", "", "to be told to end", func(pods []cluster.Object) bool {
				return len(pods) == 1 && pods[0].Str("metadata", "deletionTimestamp") != ""
			})
			time.Sleep(6 * time.Second)
			o := s.Get("deployments", "web")
			if got := progressing(o); got.Str("status") != "True" || got.Str("reason") != "NewReplicaSetAvailable" {
				t.Errorf("Progressing is %v", got)
			}
			if pods := s.Pods("web", image(sha, "ok")); len(pods) != 0 {
				t.Errorf("%d new pods", len(pods))
			}
		},
		"rolled out while old pods are ready and terminating": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(oldSHA, "slow-term"), replicas(2)))
			s.Complete("deployments", "web")
			s.SetImage("deployments", "web", image(sha, "ok"))
			s.Complete("deployments", "web")
			old := s.Pods("web", image(oldSHA, "slow-term"))
			if len(old) == 0 {
				t.Fatal("no old pod is left")
			}
			for _, p := range old {
				if p.Str("metadata", "deletionTimestamp") == "" || p.Condition("Ready").Str("status") != "True" {
					t.Errorf("%s: deleted %q, %v", p.Name(), p.Str("metadata", "deletionTimestamp"), p.Condition("Ready"))
				}
			}
		},
		"no replicas are rolled out": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(sha, "pull-notfound"), replicas(0)))
			s.Complete("deployments", "web")
		},
		"without a readiness probe a pod is available and then crashes": func(t *testing.T, s *cluster.Space) {
			changes := s.Record("deployments")
			s.Create(workload(t, "Deployment", image(sha, "crash")))
			s.PodsUntil("web", "", "to crash twice", func(pods []cluster.Object) bool {
				return len(pods) == 1 && pods[0].Str("status", "containerStatuses", 0, "state", "waiting", "reason") == "CrashLoopBackOff"
			})
			if !changes.Any(cluster.Complete) {
				t.Error("it was never rolled out")
			}
		},
		"available with no pod at all": func(t *testing.T, s *cluster.Space) {
			changes := s.Record("deployments")
			s.Create(workload(t, "Deployment", image(oldSHA, "ok"), `{"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": "100%"}}}}`))
			s.Complete("deployments", "web")
			s.SetImage("deployments", "web", image(sha, "never-ready"))
			s.PodsUntil("web", image(oldSHA, "ok"), "to be gone", func(pods []cluster.Object) bool { return len(pods) == 0 })
			s.Until("deployments", "web", "to be available with nothing", func(o cluster.Object) bool {
				return o.Condition("Available").Str("status") == "True" && o.Int("status", "availableReplicas") == 0 && o.Observed() == o.Gen()
			})
			if changes.Any(func(o cluster.Object) bool { return o.Condition("Available").Str("status") == "False" && o.Gen() == 2 }) {
				t.Error("for a while it was not available")
			}
		},
		"a mutable tag runs what the node has": func(t *testing.T, s *cluster.Space) {
			mutable := "reg.test/" + s.Name + ":stable"
			a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
			s.C.Nodes.SetDigest(mutable, a)
			s.Create(workload(t, "Deployment", mutable))
			s.Complete("deployments", "web")
			s.C.Nodes.SetDigest(mutable, b)
			s.Restart("deployments", "web")
			s.Complete("deployments", "web")
			running := func(want string) func([]cluster.Object) bool {
				return func(pods []cluster.Object) bool {
					return len(pods) == 1 && pods[0].Str("status", "containerStatuses", 0, "imageID") == "reg.test/"+s.Name+"@"+want
				}
			}
			s.PodsUntil("web", "", "to run the old image", running(a))
			s.Patch("deployments", "web", containerSpec(mutable, `"imagePullPolicy": "Always"`))
			s.Complete("deployments", "web")
			s.PodsUntil("web", "", "to run the new image", running(b))
		},
		"pods over quota": func(t *testing.T, s *cluster.Space) {
			quota(s, `{"pods": "0"}`)
			podsRefused(t, s, "exceeded quota")
		},
		"pods against the namespace's security level": func(t *testing.T, s *cluster.Space) {
			s.Patch("namespaces", s.Name, `{"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}`)
			podsRefused(t, s, "violates PodSecurity")
		},
		"pods refused by a policy": func(t *testing.T, s *cluster.Space) {
			s.Policy("no new pods")
			podsRefused(t, s, "denied request: no new pods")
		},
		"pods refused by a webhook": func(t *testing.T, s *cluster.Space) {
			s.Refuse("pods", "unsigned image")
			podsRefused(t, s, "denied the request: unsigned image")
		},
		"pods over a limit": func(t *testing.T, s *cluster.Space) {
			s.Create(`{"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}}`)
			podsRefused(t, s, "maximum memory usage per Container is 1Mi",
				containerSpec(image(sha, "ok"), `"resources": {"requests": {"memory": "2Mi"}, "limits": {"memory": "2Mi"}}`))
		},
		"pods of a service account that does not exist": func(t *testing.T, s *cluster.Space) {
			podsRefused(t, s, `serviceaccount "nobody" not found`, podSpec(`{"serviceAccountName": "nobody"}`))
		},
		"pods of a priority class that does not exist": func(t *testing.T, s *cluster.Space) {
			podsRefused(t, s, "no PriorityClass with name", podSpec(`{"priorityClassName": "nothing"}`))
		},
		"pods that fit nowhere": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(sha, "ok"), containerSpec(image(sha, "ok"), `"resources": {"requests": {"cpu": "1000"}}`)))
			s.PodsUntil("web", "", "not to be scheduled", func(pods []cluster.Object) bool {
				return len(pods) == 1 && pods[0].Condition("PodScheduled").Str("reason") == "Unschedulable" &&
					strings.Contains(pods[0].Condition("PodScheduled").Str("message"), "Insufficient cpu")
			})
		},
		"pods of a volume claim that does not exist": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(sha, "ok"), podSpec(`{"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}`)))
			s.PodsUntil("web", "", "not to be scheduled", func(pods []cluster.Object) bool {
				return len(pods) == 1 && strings.Contains(pods[0].Condition("PodScheduled").Str("message"), `persistentvolumeclaim "data" not found`)
			})
		},
		"StatefulSet: a full partition is rolled out": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "StatefulSet", image(oldSHA, "ok"), replicas(2), `{"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}}}`))
			s.Complete("statefulsets", "web")
			s.SetImage("statefulsets", "web", image(sha, "ok"))
			s.Until("statefulsets", "web", "to have observed the update", func(o cluster.Object) bool {
				return o.Observed() == o.Gen() && o.Str("status", "updateRevision") != o.Str("status", "currentRevision")
			})
			time.Sleep(2 * time.Second)
			if pods := s.Pods("web", image(oldSHA, "ok")); len(pods) != 2 {
				t.Errorf("%d pods run the old image", len(pods))
			}
		},
		"StatefulSet: OnDelete updates nothing": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "StatefulSet", image(oldSHA, "ok"), replicas(2), `{"spec": {"updateStrategy": {"type": "OnDelete"}}}`))
			s.Complete("statefulsets", "web")
			s.SetImage("statefulsets", "web", image(sha, "ok"))
			time.Sleep(2 * time.Second)
			if pods := s.Pods("web", image(oldSHA, "ok")); len(pods) != 2 {
				t.Errorf("%d pods run the old image", len(pods))
			}
		},
		"StatefulSet: a fix does not replace a pod that never became ready": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "StatefulSet", image(oldSHA, "never-ready"), replicas(2)))
			s.PodsUntil("web", image(oldSHA, "never-ready"), "to run", func(pods []cluster.Object) bool {
				return len(pods) == 1 && pods[0].Str("status", "phase") == "Running"
			})
			o := s.SetImage("statefulsets", "web", image(sha, "ok"))
			s.Until("statefulsets", "web", "to have observed the fix", func(now cluster.Object) bool { return now.Observed() == o.Gen() })
			time.Sleep(3 * time.Second)
			o = s.Get("statefulsets", "web")
			pods := s.Pods("web", "")
			if len(pods) != 1 || pods[0].Str("metadata", "labels", "controller-revision-hash") == o.Str("status", "updateRevision") {
				t.Errorf("%d pods; the first is of %s, the update is %s", len(pods), pods[0].Str("metadata", "labels", "controller-revision-hash"), o.Str("status", "updateRevision"))
			}
		},
		"StatefulSet: a refused pod shows only in an event": func(t *testing.T, s *cluster.Space) {
			quota(s, `{"pods": "0"}`)
			s.Create(workload(t, "StatefulSet", image(sha, "ok")))
			eventUntil(t, s, "StatefulSet", "FailedCreate", "Create Pod web-0 in StatefulSet web failed error:", "exceeded quota")
			if c := s.Get("statefulsets", "web").List("status", "conditions"); len(c) != 0 {
				t.Errorf("it has conditions: %v", c)
			}
		},
		"StatefulSet: a claim without a storage class stays pending": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "StatefulSet", image(sha, "ok"), `{"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
				"accessModes": ["ReadWriteOnce"], "storageClassName": "nothing", "resources": {"requests": {"storage": "1Gi"}}}}]}}`))
			s.Until("persistentvolumeclaims", "data-web-0", "to be pending", func(o cluster.Object) bool { return o.Str("status", "phase") == "Pending" })
			eventUntil(t, s, "PersistentVolumeClaim", "ProvisioningFailed", `storageclass.storage.k8s.io "nothing" not found`)
		},
		"DaemonSet: no node is rolled out": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "DaemonSet", image(sha, "ok"), ownNode(s)))
			o := s.Complete("daemonsets", "web")
			if n := o.Int("status", "desiredNumberScheduled"); n != 0 {
				t.Errorf("%d nodes", n)
			}
		},
		"DaemonSet: a refused pod shows only in an event": func(t *testing.T, s *cluster.Space) {
			s.Node("one")
			quota(s, `{"pods": "0"}`)
			s.Create(workload(t, "DaemonSet", image(sha, "ok"), ownNode(s)))
			eventUntil(t, s, "DaemonSet", "FailedCreate", "exceeded quota")
		},
		"DaemonSet: one pod on each node": func(t *testing.T, s *cluster.Space) {
			s.Node("one")
			s.Node("two")
			s.Create(workload(t, "DaemonSet", image(sha, "ok"), ownNode(s)))
			s.Until("daemonsets", "web", "to run on both", func(o cluster.Object) bool {
				return cluster.Complete(o) && o.Int("status", "desiredNumberScheduled") == 2
			})
		},
		"a namespace that is going leaves the deployment without a word": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(oldSHA, "stuck-terminating"), deadline(2)))
			s.Complete("deployments", "web")
			s.Delete("namespaces", s.Name)
			s.SetImage("deployments", "web", image(sha, "ok"))
			time.Sleep(4 * time.Second)
			o := s.Get("deployments", "web")
			if o.Str("metadata", "deletionTimestamp") != "" || progressing(o).Str("reason") != "NewReplicaSetAvailable" {
				t.Errorf("deleted %q, %v", o.Str("metadata", "deletionTimestamp"), o.At("status"))
			}
			if phase := s.Get("namespaces", s.Name).Str("status", "phase"); phase != "Terminating" {
				t.Errorf("the namespace is %s", phase)
			}
		},
		"rights are what a role says": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(sha, "ok")))
			s.Complete("deployments", "web")
			ask := func(u cluster.User, resource, name, query string) int {
				_, err := u.Client.Do(t.Context(), http.MethodGet, s.Path(resource, name)+query, "", nil)
				return cluster.Code(err)
			}
			full, less := s.Tool(roleFile), s.Tool(roleFile, "pods", "events")
			for _, r := range []string{"deployments", "replicasets", "pods", "events"} {
				if code := ask(full, r, "", ""); code != 0 {
					t.Errorf("%s: HTTP %d", r, code)
				}
			}
			for r, want := range map[string]int{"deployments": 0, "replicasets": 0, "pods": 403, "events": 403, "secrets": 403} {
				if code := ask(less, r, "", ""); code != want {
					t.Errorf("with less rights %s: HTTP %d, want %d", r, code, want)
				}
			}
			if code := ask(full, "nodes", "node-a", ""); code != 0 {
				t.Errorf("a node: HTTP %d", code)
			}
			one := s.User(`[{"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["get", "list", "watch"]}]`)
			if code := ask(one, "deployments", "", "?fieldSelector=metadata.name%3Dweb"); code != 0 {
				t.Errorf("a list of the one name: HTTP %d", code)
			}
			if code := ask(one, "deployments", "", ""); code != 403 {
				t.Errorf("a list of all: HTTP %d", code)
			}
		},
		"a log is read through the API server": func(t *testing.T, s *cluster.Space) {
			s.Create(workload(t, "Deployment", image(sha, "crash")))
			pod := s.PodsUntil("web", "", "to crash twice", func(pods []cluster.Object) bool {
				return len(pods) == 1 && pods[0].Int("status", "containerStatuses", 0, "restartCount") > 0
			})[0]
			b, err := s.Tool(roleFile).Client.Do(t.Context(), http.MethodGet, s.Path("pods", pod.Name())+"/log?previous=true&tailLines=1", "", nil)
			if want := "web: told to crash\n"; err != nil || string(b) != want {
				t.Errorf("%q, %v; want %q", b, err, want)
			}
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, shared.Space(t))
		})
	}
}

// roleFile is the role the documentation tells users to grant.
const roleFile = "../docs/deploy-wait-role.yaml"

// quota limits the namespace, and returns when the limit holds.
func quota(s *cluster.Space, hard string) {
	s.Create(`{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": ` + hard + `}}`)
	s.Until("resourcequotas", "q", "to be counted", func(o cluster.Object) bool { return o.At("status", "used") != nil })
}

// exceed updates the deployment to an image that is never ready, waits until its
// deadline is over, and returns the name of its ReplicaSet.
func exceed(s *cluster.Space) string {
	s.SetImage("deployments", "web", image(sha, "never-ready"))
	bad := s.ReplicaSet("web", image(sha, "never-ready")).Name()
	s.Until("deployments", "web", "to exceed its deadline", func(o cluster.Object) bool {
		return progressing(o).Str("reason") == "ProgressDeadlineExceeded" &&
			strings.Contains(progressing(o).Str("message"), `ReplicaSet "`+bad+`" has timed out progressing.`)
	})
	return bad
}

// createError waits until the deployment has no ReplicaSet for a reason with
// these words, and looks that neither generation nor deadline ever tell.
func createError(t *testing.T, s *cluster.Space, name, words string) {
	t.Helper()
	s.Until("deployments", name, "to fail to make a ReplicaSet", func(o cluster.Object) bool {
		c := progressing(o)
		return c.Str("status") == "False" && c.Str("reason") == "ReplicaSetCreateError" && strings.Contains(c.Str("message"), words)
	})
	time.Sleep(5 * time.Second) // longer than the deadline
	o := s.Get("deployments", name)
	if o.Observed() >= o.Gen() || progressing(o).Str("reason") != "ReplicaSetCreateError" {
		t.Errorf("generation %d is observed at %d, Progressing is %v", o.Gen(), o.Observed(), progressing(o))
	}
}

// podsRefused makes a deployment whose pods are refused in these words.
func podsRefused(t *testing.T, s *cluster.Space, words string, patches ...string) {
	t.Helper()
	s.Create(workload(t, "Deployment", image(sha, "ok"), patches...))
	rs := s.ReplicaSet("web", image(sha, "ok"))
	s.Until("replicasets", rs.Name(), "to fail to make a pod", func(o cluster.Object) bool {
		c := o.Condition("ReplicaFailure")
		return c.Str("status") == "True" && c.Str("reason") == "FailedCreate" && strings.Contains(c.Str("message"), words)
	})
}

// eventUntil waits for an event on an object of the kind with these words.
func eventUntil(t *testing.T, s *cluster.Space, kind, reason string, words ...string) {
	t.Helper()
	for range 300 {
	next:
		for _, e := range s.List("events", "") {
			if e.Str("involvedObject", "kind") != kind || e.Str("reason") != reason {
				continue
			}
			for _, w := range words {
				if !strings.Contains(e.Str("message"), w) {
					continue next
				}
			}
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("no event %s of a %s says %q", reason, kind, words)
}

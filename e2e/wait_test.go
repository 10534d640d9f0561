package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"homelab/e2e/cluster"
)

// A scenario is a state of the cluster, a call of deploy wait, what happens
// meanwhile and how the call has to end.
type scenario struct {
	setup  func(t *testing.T, s *cluster.Space)
	target string   // NS is the namespace; "" is NS/web
	args   []string // beside --sha, --settle and --timeout, which they may override
	user   func(s *cluster.Space) cluster.User
	during func(t *testing.T, s *cluster.Space, p *process)
	want   want
	// after looks at the cluster when the call has ended.
	after func(t *testing.T, s *cluster.Space)
}

// want is how a call ends. What is "" may be anything.
type want struct {
	code                 int
	verdict, phase       string
	class, reason        string // of the cause
	says                 string // somewhere in the result's sentences or the story
	verified, unverified bool
	within               time.Duration // of the start; 0 is the timeout and a bit
	notBefore            time.Duration
}

var (
	ready      = want{code: 0, verdict: "ready", phase: "done", verified: true}
	unverified = want{code: 0, verdict: "ready", phase: "done", unverified: true}
)

func failed(class, reason string) want {
	return want{code: 1, verdict: "failed", phase: "rollout", class: class, reason: reason}
}

func timeout(phase string) want { return want{code: 8, verdict: "timeout", phase: phase} }

func (w want) saying(words string) want { w.says = words; return w }

func (w want) soon(d time.Duration) want { w.within = d; return w }

func TestWait(t *testing.T) {
	t.Parallel()
	for name, c := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, shared.Space(t), c)
		})
	}
}

func play(t *testing.T, s *cluster.Space, c scenario) {
	t.Helper()
	user := lacking()
	if c.user != nil {
		user = c.user
	}
	who := user(s)
	if c.setup != nil {
		c.setup(t, s)
	}
	target := strings.ReplaceAll(c.target, "NS", s.Name)
	if target == "" {
		target = s.Name + "/web"
	}
	args := append([]string{"deploy", "wait"}, strings.Fields(target)...)
	args = append(args, "--sha", sha, "--settle", "1s", "--timeout", "90s")
	p := start(t, who.Kubeconfig, append(args, c.args...)...)
	if c.during != nil {
		c.during(t, s, p)
	}
	limit := c.want.within
	if limit == 0 {
		limit = 95 * time.Second
	}
	p.end(limit)
	took := time.Since(p.began)
	check(t, p, c.want)
	if took < c.want.notBefore {
		t.Errorf("ended after %v, before %v", took, c.want.notBefore)
	}
	if c.after != nil {
		c.after(t, s)
	}
	t.Logf("after %v:\n%s%s", took, p.err.String(), p.out.String())
}

func check(t *testing.T, p *process, w want) {
	t.Helper()
	r := p.result
	if r.ExitCode != w.code || r.Verdict != w.verdict {
		t.Errorf("%s (%d), want %s (%d): %s", r.Verdict, r.ExitCode, w.verdict, w.code, r.Reason)
	}
	if len(r.Targets) == 0 {
		if w.phase+w.class+w.reason != "" {
			t.Error("no targets")
		}
		return
	}
	said := r.Reason + "\n" + r.Next + "\n" + p.err.String()
	for _, g := range r.Targets {
		said += "\n" + strings.Join(append(g.Warnings, g.Reason, g.Next, g.Cause.Message, g.Cause.Pod), "\n")
		for what, pair := range map[string][2]string{
			"phase": {g.Phase, w.phase}, "class": {g.Cause.Class, w.class}, "cause": {g.Cause.Reason, w.reason},
		} {
			if pair[1] != "" && pair[0] != pair[1] {
				t.Errorf("%s %q, want %q", what, pair[0], pair[1])
			}
		}
		if w.verified && !g.Verified || w.unverified && g.Verified {
			t.Errorf("verified is %v", g.Verified)
		}
	}
	if !strings.Contains(said, w.says) {
		t.Errorf("does not say %q", w.says)
	}
}

// deployed makes the workload with the image and waits for it.
func deployed(kind, commit, act string, patches ...string) func(*testing.T, *cluster.Space) {
	return func(t *testing.T, s *cluster.Space) {
		t.Helper()
		s.Create(workload(t, kind, image(commit, act), patches...))
		s.Complete(strings.ToLower(kind)+"s", "web")
	}
}

// created makes the workload with the wanted commit, and does not wait.
func created(kind, act string, patches ...string) func(*testing.T, *cluster.Space) {
	return func(t *testing.T, s *cluster.Space) {
		t.Helper()
		s.Create(workload(t, kind, image(sha, act), patches...))
	}
}

// updated is deployed with the old commit, and then set to the wanted one.
func updated(kind, before, act string, patches ...string) func(*testing.T, *cluster.Space) {
	return func(t *testing.T, s *cluster.Space) {
		t.Helper()
		deployed(kind, oldSHA, before, patches...)(t, s)
		s.SetImage(strings.ToLower(kind)+"s", "web", image(sha, act))
	}
}

// also does one thing and then another.
func also(steps ...func(*testing.T, *cluster.Space)) func(*testing.T, *cluster.Space) {
	return func(t *testing.T, s *cluster.Space) {
		t.Helper()
		for _, f := range steps {
			f(t, s)
		}
	}
}

// moved is a mutable tag under which the node has the old image and the
// registry, after the update, the wanted one.
func moved(policy string) func(*testing.T, *cluster.Space) {
	return func(t *testing.T, s *cluster.Space) {
		t.Helper()
		r := newRegistry(t)
		says := func(commit string) string {
			return `{"spec": {"template": {"metadata": {"annotations": {"git-commit": "` + commit + `"}}}}}`
		}
		s.C.Nodes.SetDigest(r.image, r.push(t, oldSHA))
		s.Create(workload(t, "Deployment", r.image, containerSpec(r.image, `"imagePullPolicy": "`+policy+`"`), says(oldSHA)))
		s.Complete("deployments", "web")
		s.C.Nodes.SetDigest(r.image, r.push(t, sha))
		s.Patch("deployments", "web", says(sha))
	}
}

func scenarios() map[string]scenario {
	onItsWay := func(commit, act string) func(*testing.T, *cluster.Space, *process) {
		return func(_ *testing.T, s *cluster.Space, p *process) {
			p.until("rollout")
			s.SetImage("deployments", "web", image(commit, act))
		}
	}
	return map[string]scenario{
		// The image.
		"asked too early": {
			setup: deployed("Deployment", oldSHA, "ok", replicas(2)),
			during: func(_ *testing.T, s *cluster.Space, p *process) {
				p.until("image")
				time.Sleep(time.Second)
				s.SetImage("deployments", "web", image(sha, "ok"))
			},
			want: ready,
		},
		"asked afterwards":      {setup: deployed("Deployment", sha, "ok"), want: ready.soon(10 * time.Second)},
		"asked meanwhile":       {setup: updated("Deployment", "ok", "slow-3s", replicas(3)), want: ready},
		"the commit never came": {setup: deployed("Deployment", oldSHA, "ok"), args: []string{"--timeout", "3s"}, want: timeout("image").saying("77ab01c")},
		"reverted meanwhile": {
			setup: updated("Deployment", "ok", "slow-60s"), during: onItsWay(oldSHA, "ok"),
			want: want{code: 6, verdict: "superseded", within: 20 * time.Second},
		},
		"replaced meanwhile": {
			setup: updated("Deployment", "ok", "slow-60s"), during: onItsWay(newSHA, "ok"),
			want: want{code: 6, verdict: "superseded", within: 20 * time.Second},
		},

		"a tag that moved, and the node has the old image": {setup: moved("IfNotPresent"), want: want{code: 1, verdict: "failed", reason: "WrongImageRunning", within: 30 * time.Second}},
		"a tag that moved, and the node pulled it":         {setup: moved("Always"), want: ready},

		// The controller.
		"the deadline's message of another revision": {
			setup: func(t *testing.T, s *cluster.Space) {
				deployed("Deployment", oldSHA, "ok", deadline(2))(t, s)
				exceed(s)
			},
			args: []string{"--sha", oldSHA},
			during: func(_ *testing.T, s *cluster.Space, p *process) {
				p.until("image")
				s.SetImage("deployments", "web", image(oldSHA, "ok"))
			},
			want: ready,
		},
		"its own deadline": {
			setup: updated("Deployment", "ok", "never-ready", deadline(3)),
			want:  want{code: 1, verdict: "failed", phase: "rollout", reason: "ProgressDeadlineExceeded", within: 20 * time.Second},
		},
		"a ReplicaSet is denied": {
			setup: also(deployed("Deployment", oldSHA, "ok"), func(_ *testing.T, s *cluster.Space) {
				s.Refuse("replicasets", "only on weekdays")
				s.SetImage("deployments", "web", image(sha, "ok"))
			}),
			want: failed("admission", "ReplicaSetCreateError").saying("only on weekdays").soon(40 * time.Second),
		},
		"a ReplicaSet is over quota": {
			setup: also(deployed("Deployment", oldSHA, "ok"), func(_ *testing.T, s *cluster.Space) {
				quota(s, `{"count/replicasets.apps": "1"}`)
				s.SetImage("deployments", "web", image(sha, "ok"))
			}),
			args: []string{"--timeout", "8s"},
			want: timeout("rollout").saying("exceeded quota"),
		},
		"a ReplicaSet's webhook is down for a while": {
			setup: deployed("Deployment", oldSHA, "ok"),
			during: func(_ *testing.T, s *cluster.Space, p *process) {
				repair := s.Break("replicasets")
				s.SetImage("deployments", "web", image(sha, "ok"))
				p.until("failed calling webhook")
				time.Sleep(5 * time.Second)
				repair()
			},
			want: ready,
		},
		"paused": {
			setup: also(deployed("Deployment", oldSHA, "ok"), func(_ *testing.T, s *cluster.Space) {
				s.Patch("deployments", "web", `{"spec": {"paused": true}}`)
				s.SetImage("deployments", "web", image(sha, "ok"))
			}),
			want: want{code: 5, verdict: "paused", says: "rollout resume deployment/web", within: 30 * time.Second, notBefore: 9 * time.Second},
		},
		"Recreate with an old pod that stays": {
			setup: updated("Deployment", "stuck-terminating", "ok", recreate, deadline(2)),
			args:  []string{"--timeout", "8s"},
			want:  timeout("rollout").saying("terminating"),
		},
		"old pods still terminating": {
			setup: updated("Deployment", "slow-term", "ok", replicas(2)),
			want:  ready.saying("terminating").soon(25 * time.Second),
		},
		"old pods waited for": {
			setup: updated("Deployment", "slow-term", "ok", podSpec(`{"terminationGracePeriodSeconds": 6}`)),
			args:  []string{"--wait-terminated"},
			want:  ready,
			after: func(t *testing.T, s *cluster.Space) {
				if n := len(s.Pods("web", image(oldSHA, "slow-term"))); n > 0 {
					t.Errorf("%d old pods are there", n)
				}
			},
		},
		"no replicas":                   {setup: created("Deployment", "ok", replicas(0)), want: unverified.saying("nothing")},
		"no replicas and some required": {setup: created("Deployment", "ok", replicas(0)), args: []string{"--require-running"}, want: failed("", "ScaledToZero")},

		// StatefulSets.
		"StatefulSet":                  {target: "NS/sts/web", setup: updated("StatefulSet", "ok", "ok", replicas(2)), want: ready},
		"StatefulSet: full partition":  {target: "NS/sts/web", setup: updated("StatefulSet", "ok", "ok", `{"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}`), want: failed("", "PartitionBlocksUpdate")},
		"StatefulSet: it is allowed":   {target: "NS/sts/web", setup: updated("StatefulSet", "ok", "ok", `{"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}`), args: []string{"--allow-partition"}, want: unverified},
		"StatefulSet: a partition":     {target: "NS/sts/web", setup: updated("StatefulSet", "ok", "ok", replicas(2), `{"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}`), want: unverified.saying("partition")},
		"StatefulSet: OnDelete":        {target: "NS/sts/web", setup: updated("StatefulSet", "ok", "ok", `{"spec": {"updateStrategy": {"type": "OnDelete"}}}`), want: failed("", "OnDelete").saying("delete pod web-0")},
		"StatefulSet: stuck on a pod":  {target: "NS/sts/web", setup: stuckSet, args: []string{"--image-pull-grace", "1s"}, want: failed("", "StatefulSetStuckOnOldRevision").saying("delete pod web-0").soon(60 * time.Second)},
		"StatefulSet: a pod is denied": {target: "NS/sts/web", setup: also(func(_ *testing.T, s *cluster.Space) { s.Policy("no new pods") }, created("StatefulSet", "ok")), want: failed("admission", "FailedCreate").saying("no new pods")},
		"StatefulSet: both kinds at once": {
			target: "NS/sts/web NS/web",
			setup:  also(updated("StatefulSet", "ok", "ok"), updated("Deployment", "ok", "ok", `{"spec": {"selector": {"matchLabels": {"app": "web2"}}, "template": {"metadata": {"labels": {"app": "web2"}}}}}`)),
			want:   ready,
		},

		// DaemonSets.
		"DaemonSet":                   {target: "NS/ds/web", setup: daemons("ok"), want: ready},
		"DaemonSet: no nodes":         {target: "NS/ds/web", setup: noNodes, want: failed("", "NoMatchingNodes")},
		"DaemonSet: none are needed":  {target: "NS/ds/web", setup: noNodes, args: []string{"--allow-zero"}, want: unverified},
		"DaemonSet: it crashes":       {target: "NS/ds/web", setup: daemons("crash"), args: []string{"--settle", "auto"}, want: failed("crash", "").soon(90 * time.Second)},
		"DaemonSet: a node is lost":   {target: "NS/ds/web", setup: lostNode, args: []string{"--timeout", "12s"}, want: timeout("rollout").saying("-two")},
		"DaemonSet: it may be lost":   {target: "NS/ds/web", setup: lostNode, args: []string{"--ignore-not-ready-nodes"}, want: want{code: 0, verdict: "ready", says: "-two"}},
		"DaemonSet: pods are refused": {target: "NS/ds/web", setup: also(func(_ *testing.T, s *cluster.Space) { s.Node("one"); s.Policy("no new pods") }, createdOnOwn("DaemonSet")), want: failed("admission", "FailedCreate").saying("no new pods")},
		"DaemonSet: OnDelete":         {target: "NS/ds/web", setup: daemons("ok", `{"spec": {"updateStrategy": {"type": "OnDelete"}}}`), want: failed("", "OnDelete")},
		"CronJob: only the image":     {target: "NS/cj/web", setup: cronJob, want: unverified},
		"a workload of another kind":  {target: "NS/sts/web", setup: deployed("Deployment", sha, "ok"), want: want{code: 3, verdict: "absent", says: "did you mean", within: 10 * time.Second}},
		"nothing":                     {want: want{code: 3, verdict: "absent", within: 10 * time.Second}},
		"nothing yet": {args: []string{"--wait-create"}, during: func(t *testing.T, s *cluster.Space, _ *process) {
			time.Sleep(2 * time.Second)
			created("Deployment", "ok")(t, s)
		}, want: ready},
		"deleted meanwhile": {setup: deployed("Deployment", oldSHA, "ok"), during: func(_ *testing.T, s *cluster.Space, p *process) { p.until("image"); s.Delete("deployments", "web") }, want: want{code: 3, verdict: "absent", within: 15 * time.Second}},
		"recreated and followed": {setup: deployed("Deployment", oldSHA, "ok"), args: []string{"--follow-recreate"}, during: func(t *testing.T, s *cluster.Space, p *process) {
			p.until("image")
			s.Delete("deployments", "web")
			created("Deployment", "ok")(t, s)
		}, want: ready},
		"a namespace that is going":    {setup: goingNamespace, want: failed("", "NamespaceTerminating").soon(30 * time.Second)},
		"interrupted":                  {setup: deployed("Deployment", oldSHA, "ok"), during: func(_ *testing.T, _ *cluster.Space, p *process) { p.until("image"); p.signal(syscall.SIGINT) }, want: want{code: 130, verdict: "interrupted", within: 10 * time.Second}},
		"a readiness gate":             {setup: created("Deployment", "ok", podSpec(`{"readinessGates": [{"conditionType": "lb.example/attached"}]}`)), args: []string{"--timeout", "5s"}, want: timeout("rollout").saying("lb.example/attached")},
		"a pod is evicted and another": {setup: created("Deployment", "evicted"), want: ready},

		// Pods.
		"crash loop":                      {setup: updated("Deployment", "ok", "crash"), args: []string{"--settle", "auto"}, want: failed("crash", "")},
		"crash loop of a probed one":      {setup: updated("Deployment", "ok", "crash", containerSpec(image(oldSHA, "ok"), probe)), want: failed("crash", "")},
		"two crashes are survived":        {setup: updated("Deployment", "ok", "crash-2"), args: []string{"--settle", "auto"}, want: ready},
		"ready, then it crashes":          {setup: created("Deployment", "ready-then-crash"), args: []string{"--settle", "4s"}, want: failed("crash", "")},
		"an init container crashes":       {setup: created("Deployment", "ok", podSpec(`{"initContainers": [{"name": "migrate", "image": "`+image(sha, "crash")+`"}]}`)), want: failed("crash", "").saying("migrate")},
		"out of memory":                   {setup: created("Deployment", "oom"), args: []string{"--settle", "auto"}, want: failed("crash", "OOMKilled")},
		"killed by its probe":             {setup: created("Deployment", "liveness"), args: []string{"--settle", "auto"}, want: failed("crash", "")},
		"for another platform":            {setup: created("Deployment", "exec-format"), want: failed("permanent", "").saying("exec format error").soon(20 * time.Second)},
		"never ready":                     {setup: created("Deployment", "never-ready", containerSpec(image(sha, "never-ready"), probe)), args: []string{"--timeout", "10s"}, want: want{code: 8, verdict: "timeout", phase: "rollout", class: "readiness"}},
		"never ready and no patience":     {setup: created("Deployment", "never-ready", containerSpec(image(sha, "never-ready"), probe)), args: []string{"--readiness-grace", "4s"}, want: failed("readiness", "").soon(30 * time.Second)},
		"no such image":                   {setup: updated("Deployment", "ok", "pull-notfound"), args: []string{"--image-pull-grace", "5s"}, want: failed("image", "").saying("not found").soon(30 * time.Second)},
		"no such image, a real minute":    {setup: updated("Deployment", "ok", "pull-notfound"), want: func() want { w := failed("image", ""); w.notBefore = 50 * time.Second; return w }()},
		"an image that comes late":        {setup: created("Deployment", "pull-late-8s"), want: ready},
		"an image that is denied":         {setup: created("Deployment", "pull-denied"), args: []string{"--image-pull-grace", "3s"}, want: failed("image", "")},
		"a registry that does not answer": {setup: created("Deployment", "pull-timeout"), args: []string{"--image-pull-grace", "1s", "--timeout", "15s"}, want: want{code: 8, verdict: "timeout", phase: "rollout", class: "transient", says: "i/o timeout"}},
		"a name that is none":             {setup: created("Deployment", "invalid-name"), want: failed("permanent", "InvalidImageName").soon(20 * time.Second)},
		"a secret is missing":             {setup: created("Deployment", "ok", containerSpec(image(sha, "ok"), needsSecret)), want: failed("config", "").saying(`secret "s" not found`)},
		"a secret comes late": {
			setup: created("Deployment", "ok", containerSpec(image(sha, "ok"), needsSecret)),
			during: func(_ *testing.T, s *cluster.Space, _ *process) {
				time.Sleep(6 * time.Second)
				s.Create(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}`)
			},
			want: ready,
		},
		"the kubelet's cache is late":  {setup: created("Deployment", "config-cache"), args: []string{"--timeout", "40s"}, want: want{code: 8, verdict: "timeout", phase: "rollout", class: "transient"}},
		"root where it may not be":     {setup: created("Deployment", "run-as-root"), want: failed("config", "")},
		"a volume's claim is missing":  {setup: created("Deployment", "ok", podSpec(`{"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}`)), want: failed("volume", "").saying(`"data" not found`)},
		"a volume's secret is missing": {setup: created("Deployment", "ok", podSpec(`{"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}`)), want: failed("volume", "").saying(`"s" not found`)},
		"fits nowhere":                 {setup: created("Deployment", "ok", containerSpec(image(sha, "ok"), `"resources": {"requests": {"cpu": "1000"}}`)), args: []string{"--timeout", "5s"}, want: want{code: 8, verdict: "timeout", phase: "rollout", class: "scheduling", says: "Insufficient cpu"}},
		"fits nowhere, no patience":    {setup: created("Deployment", "ok", containerSpec(image(sha, "ok"), `"resources": {"requests": {"cpu": "1000"}}`)), args: []string{"--unschedulable-grace", "3s"}, want: failed("scheduling", "").soon(20 * time.Second)},

		// Pods that are not let in.
		"over quota": {setup: also(func(_ *testing.T, s *cluster.Space) { quota(s, `{"pods": "0"}`) }, created("Deployment", "ok")), want: failed("quota", "FailedCreate").soon(60 * time.Second)},
		"over quota for a while": {
			setup: also(func(_ *testing.T, s *cluster.Space) { quota(s, `{"pods": "0"}`) }, created("Deployment", "ok")),
			during: func(_ *testing.T, s *cluster.Space, p *process) {
				p.until("exceeded quota")
				time.Sleep(5 * time.Second)
				s.Patch("resourcequotas", "q", `{"spec": {"hard": {"pods": "5"}}}`)
			},
			want: ready,
		},
		"against the security level": {
			setup: also(func(_ *testing.T, s *cluster.Space) {
				s.Patch("namespaces", s.Name, `{"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}`)
			}, created("Deployment", "ok")),
			want: failed("admission", "FailedCreate").saying("violates PodSecurity").soon(30 * time.Second),
		},
		"denied by a policy":  {setup: also(func(_ *testing.T, s *cluster.Space) { s.Policy("no new pods") }, created("Deployment", "ok")), want: failed("admission", "FailedCreate").saying("no new pods").soon(30 * time.Second)},
		"denied by a webhook": {setup: also(func(_ *testing.T, s *cluster.Space) { s.Refuse("pods", "unsigned image") }, created("Deployment", "ok")), want: failed("admission", "FailedCreate").saying("unsigned image").soon(30 * time.Second)},
		"a webhook is down for a while": {
			setup: deployed("Deployment", oldSHA, "ok"),
			during: func(_ *testing.T, s *cluster.Space, p *process) {
				repair := s.Break("pods")
				s.SetImage("deployments", "web", image(sha, "ok"))
				p.until("failed calling webhook")
				time.Sleep(12 * time.Second)
				repair()
			},
			want: ready,
		},
		"over a limit": {
			setup: also(func(_ *testing.T, s *cluster.Space) {
				s.Create(`{"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}}`)
			}, created("Deployment", "ok", containerSpec(image(sha, "ok"), `"resources": {"requests": {"memory": "2Mi"}, "limits": {"memory": "2Mi"}}`))),
			want: failed("admission", "FailedCreate").soon(30 * time.Second),
		},
		"no such service account": {setup: created("Deployment", "ok", podSpec(`{"serviceAccountName": "nobody"}`)), want: failed("admission", "FailedCreate").soon(30 * time.Second)},
		"no such priority class":  {setup: created("Deployment", "ok", podSpec(`{"priorityClassName": "nothing"}`)), want: failed("admission", "FailedCreate").soon(30 * time.Second)},

		// Rights.
		"no rights": {setup: deployed("Deployment", sha, "ok"), user: rights(), want: want{code: 4, verdict: "denied", says: "deployments", within: 10 * time.Second}},
		"no right to pods": {
			setup: updated("Deployment", "ok", "ok"), user: lacking("pods"), want: unverified.saying("pods"),
		},
		"no right to ReplicaSets": {setup: updated("Deployment", "ok", "ok"), user: lacking("replicasets"), want: want{code: 0, verdict: "ready", says: "replicasets"}},
		"no right to revisions":   {target: "NS/ds/web", setup: daemons("ok"), user: lacking("controllerrevisions"), want: want{code: 0, verdict: "ready", says: "controllerrevisions"}},
		"no right to events and logs": {
			setup: created("Deployment", "crash"), user: lacking("events", "pods/log"), args: []string{"--settle", "auto"}, want: failed("crash", ""),
		},
		"only the deployment": {setup: updated("Deployment", "ok", "ok"), user: rights(`{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch"]}`), want: unverified},
		"only one name": {
			setup: updated("Deployment", "ok", "ok"),
			user: rights(`{"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "watch"]}`,
				`{"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list", "watch"]}`,
				`{"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["get", "list", "watch"]}`),
			want: ready,
		},
		"only to get the deployment": {setup: updated("Deployment", "ok", "ok"), user: rights(`{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}`), want: unverified},
	}
}

// needsSecret is a field of a container.
const needsSecret = `"envFrom": [{"secretRef": {"name": "s"}}]`

// lacking is the documented role without some resources.
func lacking(resources ...string) func(*cluster.Space) cluster.User {
	return func(s *cluster.Space) cluster.User { return s.Tool(roleFile, resources...) }
}

// rights are a role of these rules.
func rights(rules ...string) func(*cluster.Space) cluster.User {
	return func(s *cluster.Space) cluster.User { return s.User("[" + strings.Join(rules, ",") + "]") }
}

// daemons is a DaemonSet on two nodes, set to the wanted commit.
func daemons(act string, patches ...string) func(*testing.T, *cluster.Space) {
	return func(t *testing.T, s *cluster.Space) {
		t.Helper()
		oldDaemons(t, s, patches...)
		s.SetImage("daemonsets", "web", image(sha, act))
	}
}

func oldDaemons(t *testing.T, s *cluster.Space, patches ...string) {
	t.Helper()
	s.Node("one")
	s.Node("two")
	s.Create(workload(t, "DaemonSet", image(oldSHA, "ok"), append(patches, ownNode(s))...))
	s.Until("daemonsets", "web", "to run on both", func(o cluster.Object) bool {
		return cluster.Complete(o) && o.Int("status", "desiredNumberScheduled") == 2
	})
}

func noNodes(t *testing.T, s *cluster.Space) {
	t.Helper()
	s.Create(workload(t, "DaemonSet", image(sha, "ok"), ownNode(s)))
}

// createdOnOwn is created for a DaemonSet on the test's own nodes.
func createdOnOwn(kind string) func(*testing.T, *cluster.Space) {
	return func(t *testing.T, s *cluster.Space) {
		t.Helper()
		s.Create(workload(t, kind, image(sha, "ok"), ownNode(s)))
	}
}

// lostNode is a DaemonSet on two nodes, one of which is gone before the update.
func lostNode(t *testing.T, s *cluster.Space) {
	t.Helper()
	oldDaemons(t, s, `{"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}}}}`)
	if err := s.C.Nodes.SetReady(t.Context(), s.Name+"-two", false); err != nil {
		t.Fatal(err)
	}
	s.SetImage("daemonsets", "web", image(sha, "ok"))
}

// stuckSet is a StatefulSet whose first pod never got its image, and the fix.
func stuckSet(t *testing.T, s *cluster.Space) {
	t.Helper()
	s.Create(workload(t, "StatefulSet", image(oldSHA, "pull-notfound")))
	s.PodsUntil("web", "", "to lack their image", func(pods []cluster.Object) bool {
		return len(pods) == 1 && pods[0].Str("status", "containerStatuses", 0, "state", "waiting", "reason") == "ImagePullBackOff"
	})
	s.SetImage("statefulsets", "web", image(sha, "ok"))
}

// goingNamespace is a namespace that cannot go for a pod that stays, and an
// update that nothing will come of.
func goingNamespace(t *testing.T, s *cluster.Space) {
	t.Helper()
	deployed("Deployment", oldSHA, "stuck-terminating")(t, s)
	s.Delete("namespaces", s.Name)
	s.SetImage("deployments", "web", image(sha, "ok"))
}

func cronJob(t *testing.T, s *cluster.Space) {
	t.Helper()
	s.Create(fmt.Sprintf(`{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "web"}, "spec": {"schedule": "0 0 1 1 *",
		"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "web", "image": %q}]}}}}}}`, image(sha, "ok")))
}

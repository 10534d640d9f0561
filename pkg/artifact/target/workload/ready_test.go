package workload_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/artifact"
)

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What a rollout means for a watch, from the moment it was written.
func TestReady(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		plan  kubesim.Plan
		then  func(s *scene) // after the first look
		want  artifact.ReadyState
		says  string // in the reason or the evidence
		owner string
		proof bool
	}{
		{name: "it comes up", want: artifact.IsReady, proof: true},
		{
			name: "it crashes",
			plan: kubesim.Plan{Pod: kubesim.Life{CrashAfter: 10 * time.Millisecond, ExitCode: 3, Log: "no such table: users\n"}},
			want: artifact.NotYet, says: "no such table: users",
		},
		{
			name: "the deadline is over",
			then: func(s *scene) {
				s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
					o["spec"].(kubesim.Object)["progressDeadlineSeconds"] = 1
				})
				s.sim.Kick("shop/web")
			},
			plan: kubesim.Plan{Pod: kubesim.Life{ProbeError: "HTTP 503", Start: time.Millisecond}},
			want: artifact.NotReady, says: "ProgressDeadlineExceeded",
		},
		{
			name: "replaced by somebody",
			then: func(s *scene) {
				s.sim.Rollout("shop/web", s.repo()+"@sha256:"+strings.Repeat("0", 64), kubesim.Plan{Writer: "helm"})
			},
			want: artifact.Superseded, owner: "helm", says: "written by helm",
		},
		{
			name: "paused", plan: kubesim.Plan{Pod: kubesim.Life{Start: kubesim.Never}},
			then: func(s *scene) {
				s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { o["spec"].(kubesim.Object)["paused"] = true })
				s.sim.Kick("shop/web")
			},
			want: artifact.Suspended, says: "paused",
		},
		{name: "deleted", then: func(s *scene) { s.sim.Delete("deployments", "shop", "web") }, want: artifact.Gone},
		{
			name: "no longer permitted",
			then: func(s *scene) {
				s.sim.AddUser(kubesim.User{Name: "admin", Token: kubesim.Admin, Allow: []kubesim.Rule{}})
			},
			want: artifact.Forbidden,
		},
		{name: "unreachable", then: func(s *scene) { s.sim.Down(time.Hour) }, want: artifact.NotAsked},
		{
			name: "a proxy instead of a server",
			then: func(s *scene) { s.sim.Inject(kubesim.Fault{Kind: kubesim.HTML, Code: 502}) },
			want: artifact.NotAsked,
		},
		{
			name: "pods that may not be seen prove nothing",
			then: func(s *scene) {
				s.sim.AddUser(kubesim.User{Name: "admin", Token: kubesim.Admin, Deny: []kubesim.Rule{{Resources: []string{"pods"}}}})
			},
			want: artifact.IsReady,
		},
		{
			name: "nothing runs, and nothing is proved",
			then: func(s *scene) {
				s.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { o["spec"].(kubesim.Object)["replicas"] = 0 })
				s.sim.Kick("shop/web")
			},
			want: artifact.IsReady, says: "replicas is 0",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			old, next := s.push("v0"), s.push("v1")
			s.runs(s.repo()+":v0", old)
			s.own()
			s.sim.Expect("shop/web", tc.plan)
			w := s.to("v1", next, old)
			if err := s.target.Activate(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			if r, err := s.target.Ready(t.Context(), w); err != nil || r.State != artifact.NotYet || r.Proof {
				t.Fatalf("at once %+v, %v", r, err)
			}
			if tc.then != nil {
				for len(s.replicaSets()) < 2 { // the rollout has begun
					time.Sleep(5 * time.Millisecond)
				}
				tc.then(s)
			}
			deadline := time.Now().Add(20 * time.Second)
			for {
				r, err := s.target.Ready(t.Context(), w)
				if err != nil {
					t.Fatal(err)
				}
				said := r.Reason + "\n" + strings.Join(r.Evidence, "\n")
				if r.State == tc.want && strings.Contains(said, tc.says) && r.Owner == tc.owner && r.Proof == tc.proof {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("%+v", r)
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}

func (s *scene) replicaSets() []kubesim.Object { return s.sim.Objects("replicasets", "shop") }

// A version that was found running, under a tag that has moved since, can be
// checked as well.
func TestReadyOfWhatWasFound(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	old := s.push("live")
	s.runs(s.repo()+":live", old)
	next := s.push("live")
	w := s.to("live", old, "")
	if r, err := s.target.Ready(t.Context(), w); err != nil || r.State != artifact.IsReady || !r.Proof {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := s.target.Ready(t.Context(), s.to("live", next, old)); err != nil || r.State != artifact.Superseded || r.Owner != stranger {
		t.Errorf("%+v, %v", r, err)
	}
}

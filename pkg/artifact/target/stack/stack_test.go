package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/pkg/artifact"
	target "homelab/pkg/artifact/target/stack"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/registry"
	"homelab/pkg/rollout"
	"homelab/pkg/stack"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/srv/shop?container=web":           "stack:/srv/shop?container=web",
		"/srv//shop/?container=web&":        "stack:/srv/shop?container=web",
		"/srv/a%3Fb%25?container=my_web":    "stack:/srv/a%3Fb%25?container=my_web",
		"/srv/shop":                         "!no source offers those yet: name ?container=NAME",
		"/srv/shop?container=":              "!no name of a container",
		"/srv/shop?container=-x":            "!no name of a container",
		"/srv/shop?container=a&container=b": "!given twice",
		"/srv/shop?pod=a":                   "!pod is not known",
		"/srv/shop?container=%zz":           "!query cannot be read",
		"shop?container=web":                "!absolute path",
		"//host/shop?container=web":         "!names a host",
		"?container=web":                    "!absolute path",
		"/srv/%zz?container=web":            "!written %25",
		"/srv/%00?container=web":            "!NUL",
	} {
		s, err := target.Parse(text)
		if wrong, bad := strings.CutPrefix(want, "!"); bad {
			if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: %v, want %q", text, err, wrong)
			}
			continue
		}
		if err != nil || s.String() != want {
			t.Errorf("%s: %s, %v, want %s", text, s, err, want)
			continue
		}
		if again, err := target.Parse(strings.TrimPrefix(s.String(), "stack:")); err != nil || again != s {
			t.Errorf("%s: read again: %+v, %v", text, again, err)
		}
	}
}

const (
	repo  = "reg.example.lan/shop"
	other = "reg.example.lan/side:1"
)

func id(c string) artifact.ID { return artifact.ID("sha256:" + strings.Repeat(c, 64)) }

func pinned(c string) string { return repo + ":live@" + string(id(c)) }

// fake is a deployment whose Deployment "web" has the container web, and "side"
// the container side.
type fake struct {
	stack.Cluster // of it only Get is asked

	compose   bool
	locate    error
	live      map[string]string // container -> image
	says      map[string]string // what the files say
	paused    bool
	gone      bool
	getErr    error
	applied   stack.Applied
	meanwhile func(*stack.Applied) // between the decision and the lock
	writers   []string
	plan      apply.Plan
	preview   error
	killed    bool // while the update writes
	begins    bool // the update writes before it ends
	update    error
	outcome   stack.Outcome
	rollback  error

	calls []string
	last  stack.Options
	tell  stack.Story
}

func (f *fake) Locate(_, container string, _ map[string]string) (stack.Located, error) {
	if f.locate != nil {
		return stack.Located{}, f.locate
	}
	l := stack.Located{Deployment: stack.Identity{Namespace: "shop", Target: file.K8s}, Workload: "web", Image: f.says[container]}
	if f.compose {
		l.Deployment.Target, l.Workload = file.Compose, ""
		l.Workloads = []render.Workload{{Images: maps.Clone(f.says)}}
		return l, nil
	}
	l.Workloads = []render.Workload{
		{Name: "web", Images: map[string]string{"web": f.says["web"]}}, {Name: "side", Images: map[string]string{"side": f.says["side"]}},
	}
	return l, nil
}

func (f *fake) Applied(context.Context, string) (stack.Applied, error) { return f.applied, nil }

func (f *fake) Writer(string) (string, error) {
	if len(f.writers) == 0 {
		return "", nil
	}
	who := f.writers[0]
	if len(f.writers) > 1 || who == "" {
		f.writers = f.writers[1:]
	}
	return who, nil
}

func (f *fake) Reach(context.Context, string) (stack.Cluster, func(), error) {
	return f, func() {}, nil
}

func (f *fake) Get(_ context.Context, _ kube.Resource, ns, name string) (kube.Object, error) {
	if f.getErr != nil {
		return kube.Object{}, f.getErr
	}
	if f.gone {
		return kube.Object{}, &kube.StatusError{Code: 404, Reason: "NotFound", Message: "not found", Verb: "get", Resource: kube.Apps("deployments")}
	}
	raw, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"namespace": ns, "name": name, "uid": "1", "generation": 1},
		"spec": map[string]any{
			"paused": f.paused, "selector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": name}},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": name, "image": f.live[name]}}},
			},
		},
	})
	return kube.Object{Namespace: ns, Name: name, Raw: raw}, err
}

func (f *fake) Services(context.Context, stack.Options) ([]stack.Service, error) {
	var out []stack.Service
	for _, name := range slices.Sorted(maps.Keys(f.says)) {
		s := stack.Service{Name: name, Image: f.says[name], Verdict: rollout.Verdict{Outcome: rollout.Ready}}
		if image := f.live[name]; image != "" {
			base, digest, _ := strings.Cut(image, "@")
			s.Runs = []stack.Instance{{Name: name + "-1", State: "running", Image: image}}
			if digest != "" {
				s.Runs[0].Digests = []string{strings.TrimSuffix(base, ":live") + "@" + digest}
			}
		}
		out = append(out, s)
	}
	return out, nil
}

func (f *fake) Preview(_ context.Context, o stack.Options) (*stack.Outcome, error) {
	f.calls, f.last = append(f.calls, "preview "+o.Images["web"]), o
	return &stack.Outcome{Plan: &f.plan}, f.preview
}

func (f *fake) Update(_ context.Context, o stack.Options) (*stack.Outcome, error) {
	if f.meanwhile != nil {
		f.meanwhile(&f.applied)
	}
	if o.Admit != nil {
		if err := o.Admit(); err != nil {
			return &stack.Outcome{}, err
		}
	}
	if o.Planned != nil {
		if err := o.Planned(&f.plan); err != nil {
			return &stack.Outcome{}, err
		}
	}
	if f.killed {
		panic("killed")
	}
	f.calls, f.last = append(f.calls, "update "+o.Images["web"]), o
	if f.begins || f.update == nil {
		f.tell.Stage("apply")
	}
	if f.update == nil && !f.compose {
		maps.Copy(f.live, o.Images)
		f.applied.Revision = &stack.Revision{Number: 1 + max(0, number(f.applied.Revision)), Verb: o.Verb, Images: maps.Clone(f.live), Overrides: o.Images}
	}
	out := f.outcome
	out.Plan = &f.plan
	return &out, f.update
}

func number(r *stack.Revision) int {
	if r == nil {
		return 0
	}
	return r.Number
}

func (f *fake) Rollback(_ context.Context, o stack.Options, number int) (*stack.Outcome, error) {
	if err := o.Admit(); err != nil {
		return &stack.Outcome{}, err
	}
	f.calls, f.last = append(f.calls, "rollback "+string(rune('0'+number))+" "+o.Images["web"]), o
	out := f.outcome
	return &out, f.rollback
}

func (f *fake) KeepAside(_, name string) error { f.calls = append(f.calls, "keep "+name); return nil }

func (f *fake) BringBack(_ context.Context, o stack.Options, name string) (*stack.Outcome, error) {
	if err := o.Admit(); err != nil {
		return &stack.Outcome{}, err
	}
	f.calls, f.last = append(f.calls, "back "+name+" "+o.Images["web"]), o
	out := f.outcome
	return &out, f.rollback
}

// images is a registry that has everything but one image.
type images struct {
	lost string
	down bool
}

func (i images) Resolve(_ context.Context, ref string) (registry.Image, error) {
	_, digest, _ := strings.Cut(ref, "@")
	return registry.Image{Ref: ref, Digest: digest, Closure: []string{digest}}, nil
}

func (i images) Answers(_ context.Context, ref string) error {
	switch {
	case i.down:
		return errors.New("nobody answers")
	case i.lost != "" && strings.Contains(ref, i.lost):
		return &registry.RefusedError{Ref: ref, Code: 404, Err: errors.New("unknown")}
	}
	return nil
}

// up is a deployment in which the container web runs image a.
func up() *fake {
	f := &fake{live: map[string]string{"web": pinned("a"), "side": other}, says: map[string]string{"web": repo + ":live", "side": other}}
	f.applied.Revision = &stack.Revision{Number: 4, Verb: "restart", Content: "c4", Images: maps.Clone(f.live)}
	return f
}

func (f *fake) target(t *testing.T, r images) (*target.Target, string, *[]string) {
	t.Helper()
	dir, story := t.TempDir(), &[]string{}
	g, err := target.New(target.Spec{Dir: "/srv/shop", Container: "web"}, target.Deps{
		Stack:    func(tell stack.Story) (target.Stack, error) { f.tell = tell; return f, nil },
		Registry: r, Dir: dir, Tell: func(s string) { *story = append(*story, s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g, dir, story
}

// to is the switch from a to b.
func to() artifact.Switch {
	return artifact.Switch{
		Watch: "shop", Run: "r", Attempt: 7, Deadline: time.Now().Add(time.Minute),
		To:   artifact.Candidate{ID: id("b"), Kind: artifact.Image, Ref: pinned("b")},
		From: &artifact.Version{Candidate: artifact.Candidate{ID: id("a"), Kind: artifact.Image}},
	}
}

func class(t *testing.T, err error, want artifact.Class, why artifact.Why, says string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%v", err)
		}
		return
	}
	f, ok := errors.AsType[*artifact.Failure](err)
	if !ok || f.Class != want || f.Why != why || !strings.Contains(f.What, says) {
		t.Errorf("%+v, want %s %s saying %q", err, want, why, says)
	}
}

// What a preflight finds, and that it writes nothing.
func TestStage(t *testing.T) {
	t.Parallel()
	field := apply.Field{Path: "spec.template.spec.containers[web].image", From: "x", To: "y"}
	web := apply.Ref{Kind: "Deployment", Namespace: "shop", Name: "web"}
	taken := apply.Plan{Update: []apply.Change{{Ref: web, Fields: []apply.Field{field}, Taken: []apply.Taken{{Path: field.Path, Manager: "keel"}}}}}
	for name, c := range map[string]struct {
		set      func(*fake)
		registry images
		sw       func(*artifact.Switch)
		class    artifact.Class
		why      artifact.Why
		says     string
		warns    string
		owner    string
	}{
		"fine":             {},
		"files are wrong":  {set: func(f *fake) { f.locate = fault.Usagef("", "spec.yml:3: no").Because("it is wrong") }, class: artifact.Hold, why: artifact.Preflight, says: "spec.yml:3: no: it is wrong"},
		"stopped":          {set: func(f *fake) { f.gone = true }, class: artifact.Absent, says: "try: homelab deployment start --dir /srv/shop"},
		"paused":           {set: func(f *fake) { f.paused = true }, class: artifact.Hold, why: artifact.WorkloadHeld, says: "is paused"},
		"another registry": {sw: func(s *artifact.Switch) { s.To.Ref = "evil.example/shop@" + string(id("b")) }, class: artifact.Hold, why: artifact.Repository, says: "--allow-repository-change"},
		"another registry, allowed": {sw: func(s *artifact.Switch) {
			s.To.Ref, s.AllowRepositoryChange = "reg2.example.lan/shop@"+string(id("b")), true
		}},
		"no digest":           {sw: func(s *artifact.Switch) { s.To.Ref = repo + ":live" }, class: artifact.Hold, why: artifact.Preflight, says: "does not name the digest"},
		"locked, then free":   {set: func(f *fake) { f.writers = []string{"process 7 (restart)", ""} }},
		"locked":              {set: func(f *fake) { f.writers = []string{"process 7 (restart)"} }, sw: func(s *artifact.Switch) { s.Deadline = time.Now() }, class: artifact.Later, says: "is locked by process 7 (restart)"},
		"way back is gone":    {registry: images{lost: string(id("a"))}, class: artifact.Hold, why: artifact.NoWayBack, says: "would be no way back"},
		"gone, none wanted":   {registry: images{lost: string(id("a"))}, sw: func(s *artifact.Switch) { s.NoRollback = true }},
		"registry is silent":  {registry: images{down: true}, warns: "cannot be told"},
		"no history":          {set: func(f *fake) { f.applied.Revision = nil }},
		"no history, changed": {set: func(f *fake) { f.applied.Revision = nil; f.plan.Create = []apply.Change{{Ref: web}} }, class: artifact.Hold, why: artifact.NoWayBack, says: "not in the history of /srv/shop"},
		"history of another": {set: func(f *fake) {
			f.applied.Revision.Images["web"] = pinned("c")
			f.plan.Update = []apply.Change{{Ref: web, Fields: []apply.Field{{Path: "spec.replicas"}}}}
		}, class: artifact.Hold, why: artifact.NoWayBack, says: "would be no way back"},
		"page stands":               {set: func(f *fake) { f.preview = fault.New(fault.Held, "a maintenance page stands", "") }, class: artifact.Hold, why: artifact.Preflight, says: "a maintenance page stands"},
		"another's":                 {set: func(f *fake) { f.preview = fault.New(fault.Conflict, "the namespace is another's", "") }, class: artifact.Hold, why: artifact.Preflight, says: "another's"},
		"not permitted":             {set: func(f *fake) { f.preview = fault.New(fault.Denied, "no", "") }, class: artifact.Denied, says: "no"},
		"unreachable":               {set: func(f *fake) { f.preview = fault.New(fault.Unreachable, "no", "") }, class: artifact.Transient, says: "no"},
		"cluster is gone":           {set: func(f *fake) { f.preview = fault.New(fault.Absent, "no", "") }, class: artifact.Absent, says: "no"},
		"owned":                     {set: func(f *fake) { f.plan = taken }, class: artifact.Owned, says: "keel owns the image"},
		"owned, taken":              {set: func(f *fake) { f.plan = taken }, sw: func(s *artifact.Switch) { s.TakeOwnership = true }, owner: "keel"},
		"more changes":              {set: func(f *fake) { f.plan.Update = []apply.Change{{Ref: apply.Ref{Kind: "ConfigMap", Name: "c"}}} }, warns: "ConfigMap c"},
		"a service that is stopped": {set: func(f *fake) { f.compose, f.live = true, map[string]string{"side": other} }, class: artifact.Absent, says: "nothing of service web"},
		"a service":                 {set: func(f *fake) { f.compose, f.applied = true, stack.Applied{} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, s := up(), to()
			if c.set != nil {
				c.set(f)
			}
			if c.sw != nil {
				c.sw(&s)
			}
			locate := f.locate
			f.locate = nil
			g, dir, _ := f.target(t, c.registry)
			f.locate = locate
			st, err := g.Stage(t.Context(), s)
			class(t, err, c.class, c.why, c.says)
			if st.Owner != c.owner || c.warns == "" && len(st.Warnings) > 0 || !strings.Contains(strings.Join(st.Warnings, "\n"), c.warns) {
				t.Errorf("%+v", st)
			}
			if i := slices.IndexFunc(f.calls, func(x string) bool { return !strings.HasPrefix(x, "preview ") }); i >= 0 {
				t.Errorf("a preflight did %q", f.calls[i])
			}
			if _, err := os.Stat(filepath.Join(dir, "stack.json")); err == nil {
				t.Error("a preflight has recorded something")
			}
		})
	}
}

// Other containers keep what they run, whatever the files say by now.
func TestOthersKeepTheirImages(t *testing.T) {
	t.Parallel()
	f := up()
	f.says["side"] = "reg.example.lan/side:2"
	g, _, _ := f.target(t, images{})
	if err := g.Activate(t.Context(), to()); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"web": pinned("b"), "side": other}; !maps.Equal(f.last.Images, want) {
		t.Errorf("told %v, want %v", f.last.Images, want)
	}
	if f.last.Verb != "watch" || !f.last.NoLoadImages || f.last.Deadline.IsZero() {
		t.Errorf("%+v", f.last)
	}
}

// How an activation ends, and what may have been changed then.
func TestActivate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set   func(*fake)
		class artifact.Class
		why   artifact.Why
		says  string
		tells string
		calls []string
	}{
		"up":      {calls: []string{"update " + pinned("b")}},
		"not up":  {set: func(f *fake) { f.outcome = stack.Outcome{Kind: fault.Failed, Reason: "web crashes"} }, tells: "the rollout: web crashes", calls: []string{"update " + pinned("b")}},
		"locked":  {set: func(f *fake) { f.update = fault.New(fault.Timeout, "locked by process 7", "") }, class: artifact.Later, says: "locked by process 7"},
		"refused": {set: func(f *fake) { f.update = fault.New(fault.Conflict, "no", "") }, class: artifact.Hold, why: artifact.Preflight, says: "no"},
		"down":    {set: func(f *fake) { f.update = fault.New(fault.Unreachable, "no", "") }, class: artifact.Transient, says: "no"},
		"down half way": {
			set:   func(f *fake) { f.update, f.begins = fault.New(fault.Unreachable, "no", ""), true },
			class: artifact.Transient, says: "no",
		},
		"denied half way": {
			set:   func(f *fake) { f.update, f.begins = fault.New(fault.Denied, "no", ""), true },
			class: artifact.Failed, says: "no",
		},
		"somebody wrote meanwhile": {
			set: func(f *fake) {
				f.meanwhile = func(a *stack.Applied) { a.Revision = &stack.Revision{Number: 5, Verb: "restart"} }
			},
			class: artifact.Later, says: "somebody has written to /srv/shop meanwhile", calls: []string{},
		},
		"recorded first": {
			set:   func(f *fake) { f.applied.Revision = nil },
			tells: "recording what runs", calls: []string{"preview " + pinned("a"), "update " + pinned("a"), "update " + pinned("b")},
		},
		"compose": {
			set:   func(f *fake) { f.compose, f.applied = true, stack.Applied{} },
			calls: []string{"keep watch-web", "update " + pinned("b")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := up()
			if c.set != nil {
				c.set(f)
			}
			g, _, story := f.target(t, images{})
			err := g.Activate(t.Context(), to())
			class(t, err, c.class, c.why, c.says)
			if c.calls != nil && !slices.Equal(f.calls, c.calls) {
				t.Errorf("did %q, want %q", f.calls, c.calls)
			}
			if !strings.Contains(strings.Join(*story, "\n"), c.tells) {
				t.Errorf("told %q", *story)
			}
		})
	}
}

// What was recorded comes back, and only where nobody else has acted since.
func TestRollback(t *testing.T) {
	t.Parallel()
	restart := func(f *fake) {
		f.applied.Revision = &stack.Revision{Number: 6, Verb: "restart", Images: maps.Clone(f.live)}
	}
	for name, c := range map[string]struct {
		set  func(*fake)
		sw   func(*artifact.Switch)
		fail bool
		says string
		call string
	}{
		"back":                            {call: "rollback 4 " + pinned("a")},
		"not recorded when it was killed": {set: func(f *fake) { f.applied.Revision = &stack.Revision{Number: 4, Verb: "restart", Content: "c4"} }, call: "rollback 4 " + pinned("a")},
		"paused":                          {set: func(f *fake) { f.paused = true }, call: "rollback 4 " + pinned("a")},
		"another watch has switched its container": {
			set: func(f *fake) {
				f.live["side"] = "reg.example.lan/side:9"
				f.applied.Revision = &stack.Revision{Number: 6, Verb: "watch", Images: maps.Clone(f.live)}
			},
			call: "rollback 4 " + pinned("a"),
		},
		"somebody has restarted": {set: restart, fail: true, says: "homelab deployment restart (revision 6) has changed what is deployed since the switch: what was recorded (revision 4, " + pinned("a") + ") cannot be put back without undoing that; try: homelab deployment rollback 4 --dir /srv/shop"},
		"somebody has updated, and another watch has switched its container since": {set: func(f *fake) {
			f.applied.Before = []stack.Revision{{Number: 6, Verb: "update"}, {Number: 5, Verb: "watch"}, {Number: 4, Verb: "restart"}}
			f.applied.Revision = &stack.Revision{Number: 7, Verb: "watch", Images: maps.Clone(f.live)}
		}, fail: true, says: "homelab deployment update (revision 6) has changed what is deployed since the switch"},
		"the directory was made anew": {set: func(f *fake) {
			f.applied.Revision = &stack.Revision{Number: 4, Verb: "start", Content: "another", Images: maps.Clone(f.live)}
		}, fail: true, says: "homelab deployment start (revision 4) has changed what is deployed since the switch"},
		"somebody wrote since": {set: func(f *fake) {
			f.applied.Revision = &stack.Revision{Number: 6, Verb: "watch", Images: map[string]string{"web": pinned("f")}}
		}, fail: true, says: "cannot be put back"},
		"another version": {sw: func(s *artifact.Switch) { s.To.ID = id("c") }, fail: true, says: "was not recorded"},
		"it fails":        {set: func(f *fake) { f.rollback = fault.New(fault.Unsafe, "half way", "") }, fail: true, says: "half way", call: "rollback 4 " + pinned("a")},
		"compose":         {set: func(f *fake) { f.compose = true }, call: "back watch-web " + pinned("a")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := up()
			if name == "compose" {
				f.compose, f.applied = true, stack.Applied{}
			}
			g, _, _ := f.target(t, images{})
			if err := g.Activate(t.Context(), to()); err != nil {
				t.Fatal(err)
			}
			f.calls = nil
			if c.set != nil {
				c.set(f)
			}
			s := to()
			s.To, s.From, s.Back = artifact.Candidate{ID: id("a"), Kind: artifact.Image}, &artifact.Version{Candidate: s.To}, true
			if c.sw != nil {
				c.sw(&s)
			}
			err := g.Rollback(t.Context(), s)
			if c.fail {
				class(t, err, artifact.Failed, "", c.says)
			} else if err != nil {
				t.Fatal(err)
			}
			var want []string
			if c.call != "" {
				want = []string{c.call}
			}
			if !slices.Equal(f.calls, want) {
				t.Errorf("did %q, want %q", f.calls, want)
			}
			if c.call != "" && f.last.Images["side"] != f.live["side"] {
				t.Errorf("the other container: %v", f.last.Images)
			}
		})
	}
}

// A switch that was cut off and is made once more goes back to what it began
// with, not to what it left half done.
func TestTheSameAttemptKeepsItsRecord(t *testing.T) {
	t.Parallel()
	f := up()
	g, dir, _ := f.target(t, images{})
	if err := g.Activate(t.Context(), to()); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(dir, "stack.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Activate(t.Context(), to()); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, "stack.json")); string(again) != string(first) {
		t.Errorf("%s became %s", first, again)
	}
	var rec struct {
		Revision int
		FromRef  string `json:"from_ref"`
	}
	if err := json.Unmarshal(first, &rec); err != nil || rec.Revision != 4 || rec.FromRef != pinned("a") {
		t.Errorf("%s, %v", first, err)
	}
}

// What else a switch changes is known after it was killed at its first write, also
// when the next run finds that written already.
func TestWhatElseChangesIsRecordedBeforehand(t *testing.T) {
	t.Parallel()
	f := up()
	f.plan.Update = []apply.Change{{Ref: apply.Ref{Kind: "Deployment", Namespace: "shop", Name: "side"}}}
	g, dir, _ := f.target(t, images{})
	changes := func() []string {
		raw, err := os.ReadFile(filepath.Join(dir, "stack.json"))
		if err != nil {
			t.Fatal(err)
		}
		var rec struct{ Changes []string }
		if err := json.Unmarshal(raw, &rec); err != nil {
			t.Fatal(err)
		}
		return rec.Changes
	}
	func() {
		defer func() { _ = recover() }()
		f.killed = true
		_ = g.Activate(t.Context(), to())
	}()
	if got := changes(); !slices.Equal(got, []string{"side"}) {
		t.Errorf("killed while it writes: %q", got)
	}
	f.killed, f.plan.Update = false, nil
	if err := g.Activate(t.Context(), to()); err != nil {
		t.Fatal(err)
	}
	if got := changes(); !slices.Equal(got, []string{"side"}) {
		t.Errorf("made once more: %q", got)
	}
}

// What services of compose run, by the names that registries have given it.
func TestObserveServices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		image   string
		digests []string
		known   []artifact.ID
		sight   artifact.Sight
		id      artifact.ID
		why     string
	}{
		"pinned":                {image: pinned("a"), digests: []string{repo + "@" + string(id("a"))}, sight: artifact.Runs, id: id("a")},
		"pinned, its name gone": {image: pinned("a"), sight: artifact.Runs, id: id("a")},
		"by tag":                {image: repo + ":live", digests: []string{repo + "@" + string(id("c"))}, known: []artifact.ID{id("c")}, sight: artifact.Runs, id: id("c")},
		"under two names":       {image: repo + ":live", digests: []string{repo + "@" + string(id("d")), repo + "@" + string(id("c"))}, known: []artifact.ID{id("c")}, sight: artifact.Runs, id: id("c")},
		"of another repository": {image: repo + ":live", digests: []string{"elsewhere.example/x@" + string(id("c"))}, sight: artifact.Unknown, why: "was built or loaded here"},
		"built here":            {image: "shop:local", sight: artifact.Unknown, why: "was built or loaded here"},
		"two names, none known": {image: repo + ":live", digests: []string{repo + "@" + string(id("d")), repo + "@" + string(id("c"))}, sight: artifact.Unknown, why: "different images"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &composed{fake: up(), runs: []stack.Instance{{Name: "web-1", State: "running", Image: c.image, Digests: c.digests}}}
			f.compose = true
			g, err := target.New(target.Spec{Dir: "/srv/shop", Container: "web"}, target.Deps{
				Stack: func(stack.Story) (target.Stack, error) { return f, nil }, Registry: images{}, Dir: t.TempDir(),
			})
			if err != nil {
				t.Fatal(err)
			}
			o, err := g.Observe(t.Context(), c.known)
			if err != nil || o.Sight != c.sight || o.ID != c.id || !strings.Contains(o.Why, c.why) {
				t.Errorf("%+v, %v", o, err)
			}
		})
	}
}

type composed struct {
	*fake
	runs []stack.Instance
}

func (c *composed) Services(context.Context, stack.Options) ([]stack.Service, error) {
	return []stack.Service{{Name: "web", Runs: c.runs}}, nil
}

package deployment

import (
	"cmp"
	"fmt"

	"homelab/pkg/rollout"
	"homelab/pkg/stack"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/stackview"
	"homelab/verbs/verb/workload"
)

// The JSON shapes below are public: names do not change, golden files pin
// them. A field that is absent is unknown; null means there is none.

type originJSON struct {
	Path   string  `json:"path"`
	Commit *string `json:"commit"`
}

type sourceJSON struct {
	Spec  originJSON `json:"spec"`
	Stack originJSON `json:"stack"`
}

type volumeJSON struct {
	Volume  string  `json:"volume"`
	Claim   *string `json:"claim"`
	PV      *string `json:"pv"`
	Place   string  `json:"place"`
	Deleted bool    `json:"deleted"`
}

type jobJSON struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason"`
}

type pushedJSON struct {
	Local  string `json:"local"`
	Remote string `json:"remote"`
}

// Result is what the verbs end in that change something or say what would
// change.
type Result struct {
	ui.Header
	Deployment *stackview.Deployment         `json:"deployment,omitempty"`
	Source     *sourceJSON                   `json:"source,omitempty"`
	Plan       *stackview.Plan[apply.Change] `json:"plan,omitempty"`
	Targets    []workload.Target             `json:"targets"`
	Jobs       []jobJSON                     `json:"jobs"`
	Volumes    []volumeJSON                  `json:"volumes"`
	Notices    []file.Notice                 `json:"notices"`
	Revision   *int                          `json:"revision"`
	Images     []pushedJSON                  `json:"images,omitempty"`

	subject string
	diff    bool // the plan is what was asked for
}

// Text returns the one line of the result; a diff has its plan before it.
func (r *Result) Text(int, bool) []string {
	var out []string
	if r.diff && r.Plan != nil {
		out = append(out, planLines(r.Plan)...)
	}
	return append(out, verb.Line(&r.Header, r.subject))
}

// planLines shows a plan as people read it.
func planLines(p *stackview.Plan[apply.Change]) []string {
	var out []string
	for _, part := range []struct {
		sign string
		list []apply.Change
	}{{"+", p.Create}, {"~", p.Update}, {"!", p.Replace}, {"-", p.Delete}} {
		for _, c := range part.list {
			line := part.sign + " " + c.String()
			if c.Why != "" {
				line += "  (" + c.Why + ")"
			}
			out = append(out, ui.Clean(line))
			for _, f := range c.Fields {
				out = append(out, ui.Clean(fmt.Sprintf("    %s: %s -> %s", f.Path, or(f.From, "none"), or(f.To, "none"))))
			}
			for _, f := range c.Taken {
				out = append(out, ui.Clean(fmt.Sprintf("    %s: %s, set by %s, is taken over", f.Path, f.Value, f.Manager)))
			}
		}
	}
	return out
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	s = ui.Clean(s)
	return &s
}

// view returns an outcome as JSON shows it.
func view(kind string, out *stack.Outcome) *Result {
	r := &Result{
		Header: ui.Header{Kind: kind}, Targets: []workload.Target{}, Jobs: []jobJSON{}, Volumes: []volumeJSON{}, Notices: []file.Notice{},
	}
	if out == nil || out.Deployment.Dir == "" {
		return r
	}
	d := out.Deployment
	r.subject = d.Stack
	rules := fmt.Sprintf("v%d", d.Rules)
	r.Deployment = &stackview.Deployment{
		Dir: &d.Dir, ID: &d.ID, Cluster: orNull(d.Cluster), Namespace: &d.Namespace, Target: d.Target, Stack: d.Stack, Render: &rules,
	}
	r.Source = &sourceJSON{
		Spec:  originJSON{out.Spec.Path, orNull(string(out.Spec.Commit))},
		Stack: originJSON{out.Stack.Path, orNull(string(out.Stack.Commit))},
	}
	if p := out.Plan; p != nil {
		r.Plan = &stackview.Plan[apply.Change]{
			Create: changes(p.Create), Update: changes(p.Update), Replace: changes(p.Replace), Delete: changes(p.Delete), Unchanged: p.Unchanged,
		}
	}
	for _, t := range out.Targets {
		ref := workload.Ref{Kind: cmp.Or(t.Of, rollout.Deployment), Namespace: d.Namespace, Name: t.Name}
		r.Targets = append(r.Targets, workload.View(out.Context, ref, t.Verdict, t.Kind, t.Verdict.Next, t.Took))
	}
	for _, j := range out.Jobs {
		r.Jobs = append(r.Jobs, jobJSON{j.Name, j.State, ui.Clean(j.Reason)})
	}
	for _, v := range out.Volumes {
		r.Volumes = append(r.Volumes, volumeJSON{v.Volume, orNull(v.Claim), orNull(v.PV), ui.Clean(v.Place), v.Deleted})
	}
	for _, p := range out.Pushed {
		r.Images = append(r.Images, pushedJSON{ui.Clean(p.Local), ui.Clean(p.Remote)})
	}
	if out.Revision > 0 {
		r.Revision = &out.Revision
	}
	for _, n := range out.Notices {
		r.Notices = append(r.Notices, stackview.Clean(n))
	}
	return r
}

// changes are a plan's changes with every text cleaned.
func changes(list []apply.Change) []apply.Change {
	out := make([]apply.Change, 0, len(list))
	for _, c := range list {
		c.Why = ui.Clean(c.Why)
		fields := make([]apply.Field, 0, len(c.Fields))
		for _, f := range c.Fields {
			fields = append(fields, apply.Field{Path: ui.Clean(f.Path), From: ui.Clean(f.From), To: ui.Clean(f.To)})
		}
		c.Fields = fields
		taken := make([]apply.Taken, 0, len(c.Taken))
		for _, f := range c.Taken {
			taken = append(taken, apply.Taken{Path: ui.Clean(f.Path), Value: ui.Clean(f.Value), Manager: ui.Clean(f.Manager)})
		}
		c.Taken = taken
		out = append(out, c)
	}
	return out
}

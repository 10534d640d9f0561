package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/source"
)

// Status is how a deployment stands in one look.
type Status struct {
	Pods    []Pod
	Ingress []IngressHost
	Volumes []VolumeView
	Drift   Drift
}

// IngressHost is a host that an Ingress serves.
type IngressHost struct {
	Host    string
	Address string // where it is answered; "" while there is none
	TLS     *TLS   // nil: the Ingress names no certificate
}

// TLS is the certificate of a host.
type TLS struct {
	Secret   string
	Ready    *bool     // nil: not known
	NotAfter time.Time // zero: not known
}

// Drift is whether the cluster holds what the directory says.
type Drift struct {
	Verdict string // "same", "changes", or "unknown"
	Reason  string
}

// Status looks at a deployment once: its Deployments, each judged by the images
// that were rendered, its Jobs, hosts and volumes, the commits of its sources,
// and whether an update would change something. Nothing is waited for and
// nothing written. Nothing of it there is an error of kind Absent.
func (w *World) Status(ctx context.Context, o Options) (*Outcome, *Status, error) {
	quiet := *w
	quiet.Tell = silent{}
	r, err := quiet.open(o)
	defer r.close()
	if err != nil {
		return r.out, nil, err
	}
	r.origins(ctx)
	if r.composed() {
		st, err := r.composeStatus(ctx)
		return r.out, st, err
	}
	if err := r.reach(ctx); err != nil {
		return r.out, nil, err
	}
	if err := r.read(ctx); err != nil {
		return r.out, nil, r.unanswered(ctx, err)
	}
	st := &Status{}
	if !r.applied() {
		return r.out, st, fault.New(fault.Absent, "nothing of "+r.d.Stack.Name+" is in namespace "+r.scope.Namespace, "homelab deployment start --dir "+r.o.Dir)
	}
	swapping := r.swapping()
	if err := r.assess(ctx); err != nil {
		return r.out, st, err
	}
	if r.out.Jobs, err = r.jobs(ctx); err != nil {
		return r.out, st, err
	}
	if st.Pods, err = r.pods(ctx, true); err != nil {
		return r.out, st, err
	}
	if st.Ingress, err = r.ingress(ctx); err != nil {
		return r.out, st, err
	}
	if st.Volumes, err = r.volumes(ctx, false); err != nil {
		return r.out, st, err
	}
	if !swapping && !r.swapping() {
		r.putDown()
	}
	r.judge(ctx)
	if st.Drift, err = r.drift(ctx); err != nil {
		return r.out, st, err
	}
	if r.out.Kind == fault.OK && st.Drift.Verdict == "changes" {
		r.out.Reason = upWords(r.out) + ", but the directory says something else by now"
		r.out.Next = "homelab deployment diff --dir " + r.o.Dir
	}
	r.displaced()
	return r.out, st, nil
}

// putDown takes Deployments for paused that somebody scaled to nothing: none of
// their pods is wrong, and none is there. What an autoscaler did is left alone.
func (r *run) putDown() {
	for i := range r.out.Targets {
		t := &r.out.Targets[i]
		if t.Kind != fault.OK || t.Verdict.Counts.Desired > 0 || r.d.Spec.Replicas == 0 || r.live.Scales(t.Name) {
			continue
		}
		t.Kind, t.Verdict.Outcome, t.Verdict.Verified = fault.Held, rollout.Paused, false
		t.Verdict.Sentence = fmt.Sprintf("is scaled to 0, and the directory says %d", r.d.Spec.Replicas)
		t.Verdict.Next = "homelab deployment diff --dir " + r.o.Dir
	}
}

// upWords says that all of it is up, and nothing of what it runs.
func upWords(out *Outcome) string {
	switch n := len(out.Targets); n {
	case 0:
		return "there are no Deployments to run"
	case 1:
		return out.Targets[0].Name + " is up"
	default:
		return fmt.Sprintf("%d Deployments are up", n)
	}
}

// applied says whether anything of the deployment is there that it does not
// leave behind when it is stopped.
func (r *run) applied() bool {
	for ref, o := range r.live.Objects {
		switch ref.Kind {
		case "Deployment", "Job", "Service", "ConfigMap", "Ingress":
			if o.GetLabels()[apply.LabelApp] == r.scope.ID {
				return true
			}
		}
	}
	return len(r.live.Pods) > 0
}

// assess judges each Deployment once.
func (r *run) assess(ctx context.Context) error {
	settle := time.Duration(0)
	var configs []rollout.Config
	for _, wl := range r.rules.Workloads {
		configs = append(configs, rollout.Config{
			Kind: rollout.Deployment, Namespace: r.scope.Namespace, Name: wl.Name, Images: wl.Images, Settle: &settle, WithPipelines: r.o.CI,
		})
	}
	sources := rollout.Sources{}
	if r.w.Images != nil {
		images, err := r.w.Images(ctx, r.c, r.scope.Namespace)
		if err != nil {
			return err
		}
		sources.Images = r.localImages(images)
	}
	began := r.w.Now()
	for i, v := range rollout.Look(ctx, r.c, configs, sources) {
		r.out.Targets = append(r.out.Targets, Target{
			Name: configs[i].Name, Verdict: v, Kind: rollout.KindOf(v.Outcome, fault.ErrTimeUp), Took: r.w.Now().Sub(began),
		})
	}
	return context.Cause(ctx)
}

// origins tells the commits that the spec and the stack stand at. What cannot be
// told is left out: a look does not fail for it.
func (r *run) origins(ctx context.Context) {
	g := source.Options{Env: r.w.Git}
	if o, err := r.w.origin(ctx, r.d, RestartOptions{Options: r.o}); err == nil {
		r.out.Spec, r.out.Stack = o.specOrigin(), o.stackOrigin()
		return
	}
	if at, err := source.At(ctx, filepath.Dir(r.out.Spec.Path), g); err == nil {
		r.out.Spec.Commit = at.Commit
	}
	if r.out.Stack.Path != "" {
		if at, err := source.At(ctx, r.out.Stack.Path, g); err == nil {
			r.out.Stack.Commit = at.Commit
		}
	}
}

// drift compares as diff does. What keeps it from being told is told instead.
func (r *run) drift(ctx context.Context) (Drift, error) {
	if err := r.aim(ctx); err != nil {
		if ctx.Err() != nil {
			return Drift{}, context.Cause(ctx)
		}
		return Drift{Verdict: "unknown", Reason: strings.TrimSpace(err.Error())}, nil
	}
	n := len(r.plan.Create) + len(r.plan.Update) + len(r.plan.Replace) + len(r.plan.Delete)
	if n == 0 {
		return Drift{Verdict: "same", Reason: "the cluster holds what the directory says"}, nil
	}
	return Drift{Verdict: "changes", Reason: "an update would change " + Summary(r.plan)}, nil
}

// ingress lists the hosts of the deployment's Ingresses.
func (r *run) ingress(ctx context.Context) ([]IngressHost, error) {
	all, err := r.ingresses(ctx)
	if err != nil {
		return nil, err
	}
	hosts := hostsOf(all)
	if !slices.ContainsFunc(hosts, func(h IngressHost) bool { return h.TLS != nil }) || r.d.Spec.Target != file.K8s {
		return hosts, nil
	}
	r.certified(ctx, hosts)
	return hosts, nil
}

func hostsOf(all []networkingv1.Ingress) []IngressHost {
	var out []IngressHost
	for _, in := range all {
		var at []string
		for _, l := range in.Status.LoadBalancer.Ingress {
			at = append(at, cmp.Or(l.IP, l.Hostname))
		}
		for _, rule := range in.Spec.Rules {
			h := IngressHost{Host: rule.Host, Address: strings.Join(at, ", ")}
			for _, t := range in.Spec.TLS {
				if slices.ContainsFunc(t.Hosts, func(x string) bool { return covers(x, rule.Host) }) {
					h.TLS = &TLS{Secret: t.SecretName}
				}
			}
			out = append(out, h)
		}
	}
	return out
}

// covers says whether a name of a certificate, maybe a one-level wildcard, is
// that of a host.
func covers(name, host string) bool {
	if suffix, ok := strings.CutPrefix(name, "*."); ok {
		_, rest, found := strings.Cut(host, ".")
		return found && rest == suffix
	}
	return name == host
}

// certified asks cert-manager how far the certificates are. Without it, or
// without its answer, nothing more is known of them.
func (r *run) certified(ctx context.Context, hosts []IngressHost) {
	serves, err := r.c.Serves(ctx, "cert-manager.io")
	if err != nil || !serves {
		return
	}
	items, err := r.list(ctx, kube.Resource{Group: "cert-manager.io", Version: "v1", Plural: "certificates"}, r.scope.Namespace, kube.Query{})
	if err != nil {
		return
	}
	for _, o := range items {
		var c struct {
			Spec struct {
				SecretName string `json:"secretName"`
			} `json:"spec"`
			Status struct {
				Conditions []struct{ Type, Status string } `json:"conditions"`
				NotAfter   time.Time                       `json:"notAfter"`
			} `json:"status"`
		}
		if json.Unmarshal(o.Raw, &c) != nil {
			continue
		}
		ready := slices.ContainsFunc(c.Status.Conditions, func(x struct{ Type, Status string }) bool { return x.Type == "Ready" && x.Status == "True" })
		for _, h := range hosts {
			if h.TLS != nil && h.TLS.Secret == c.Spec.SecretName {
				h.TLS.Ready, h.TLS.NotAfter = &ready, c.Status.NotAfter
			}
		}
	}
}

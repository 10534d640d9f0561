package stack

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/kube"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
	"homelab/pkg/stack/secret"
)

// Annotations of pod templates that this package looks at.
const (
	checksum  = "homelab/checksum"
	restarted = "kubectl.kubernetes.io/restartedAt"
)

// desired is everything that should be there: rendered objects and secrets.
func (r *run) desired() apply.Desired {
	want := apply.Desired{Objects: slices.Concat(r.rules.Objects, r.secrets.Objects)}
	for _, j := range r.rules.Jobs {
		if j.Suspend {
			want.Suspend = append(want.Suspend, j.Name)
		}
		if j.Recreate {
			want.Recreate = append(want.Recreate, j.Name)
		}
	}
	return want
}

// adopt keeps what would restart pods for nothing: the mark of an earlier
// restart stays on a template, and the checksum of configuration is not added
// to one that has none while the configuration is what it was.
func (r *run) adopt(want apply.Desired) {
	same := r.sameContent(want)
	for _, o := range want.Objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		live := r.live.Objects[apply.Ref{Kind: "Deployment", Namespace: o.GetNamespace(), Name: o.GetName()}]
		desired, _, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "annotations")
		if desired == nil {
			desired = map[string]string{}
		}
		if live != nil {
			has, _, _ := unstructured.NestedStringMap(live.Object, "spec", "template", "metadata", "annotations")
			if at := has[restarted]; at != "" {
				desired[restarted] = at
			}
			if _, there := has[checksum]; !there && same {
				delete(desired, checksum)
			}
		}
		if r.o.Recreate {
			desired[restarted] = r.w.Now().UTC().Format("2006-01-02T15:04:05Z07:00")
		}
		if len(desired) == 0 {
			unstructured.RemoveNestedField(o.Object, "spec", "template", "metadata", "annotations")
			continue
		}
		_ = unstructured.SetNestedStringMap(o.Object, desired, "spec", "template", "metadata", "annotations")
	}
}

// sameContent tells whether every ConfigMap and Secret is live with the content
// that it should have.
func (r *run) sameContent(want apply.Desired) bool {
	for _, o := range want.Objects {
		if k := o.GetKind(); k != "ConfigMap" && k != "Secret" {
			continue
		}
		live := r.live.Objects[apply.Ref{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}]
		if live == nil || !equal(content(o), content(live)) {
			return false
		}
	}
	return true
}

// content is what a ConfigMap or Secret holds, whichever field it is in.
func content(o *unstructured.Unstructured) map[string]any {
	out := map[string]any{}
	for _, field := range []string{"data", "binaryData", "stringData"} {
		m, _, _ := unstructured.NestedMap(o.Object, field)
		for k, v := range m {
			out[field+"/"+k] = v
		}
	}
	return out
}

func equal(a, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// facts asks what a render needs of the cluster beyond the deployment's own
// objects. A cluster that does not know certificates is an answer.
func (r *run) facts(ctx context.Context) (render.Facts, error) {
	f := render.Facts{HostPaths: map[string]string{}, Endpoints: map[string][]string{}}
	for _, v := range r.live.Volumes {
		if path, _, _ := unstructured.NestedString(v.Object, "spec", "hostPath", "path"); path != "" {
			f.HostPaths[v.GetName()] = path
		}
	}
	if r.d.Spec.Target == file.K8s && len(r.d.Spec.Proxies) > 0 {
		if err := r.certificates(ctx, &f); err != nil {
			return f, err
		}
	}
	for _, x := range r.d.Spec.Externals {
		if len(x.Selector) == 0 {
			continue
		}
		found, err := r.addresses(ctx, x)
		if err != nil {
			return f, err
		}
		f.Endpoints[x.Name] = found
	}
	return f, nil
}

func (r *run) certificates(ctx context.Context, f *render.Facts) error {
	res := kube.Resource{Group: "cert-manager.io", Version: "v1", Plural: "certificates"}
	known, err := r.c.Serves(ctx, res.Group)
	if err != nil {
		return told("it cannot be told whether the cluster has certificates", err)
	}
	if !known {
		f.NoCertCRDs = true
		return nil
	}
	items, _, err := r.c.List(ctx, res, r.scope.Namespace, kube.Query{})
	if kube.IsAbsent(err) {
		f.NoCertCRDs = true
		return nil
	}
	if err != nil {
		return told("the certificates of namespace "+r.scope.Namespace+" cannot be listed", err)
	}
	for _, o := range items {
		var c struct {
			Spec struct {
				SecretName string   `json:"secretName"`
				DNSNames   []string `json:"dnsNames"`
			} `json:"spec"`
			Status struct {
				Conditions []struct{ Type, Status string } `json:"conditions"`
				NotAfter   string                          `json:"notAfter"`
			} `json:"status"`
		}
		if err := json.Unmarshal(o.Raw, &c); err != nil {
			continue
		}
		ready := slices.ContainsFunc(c.Status.Conditions, func(x struct{ Type, Status string }) bool {
			return x.Type == "Ready" && x.Status == "True"
		})
		if ready && !past(c.Status.NotAfter, r.c.Now()) {
			f.Certificates = append(f.Certificates, render.Certificate{Secret: c.Spec.SecretName, DNSNames: c.Spec.DNSNames})
		}
	}
	return nil
}

// addresses are those of the running pods that an external service selects.
func (r *run) addresses(ctx context.Context, x file.External) ([]string, error) {
	ns := x.Namespace
	if ns == "" {
		ns = r.scope.Namespace
	}
	var parts []string
	for _, p := range x.Selector {
		parts = append(parts, p.Key+"="+p.Value)
	}
	selector := strings.Join(parts, ",")
	items, _, err := r.c.List(ctx, kube.Core("pods"), ns, kube.Query{Labels: selector})
	if err != nil {
		return nil, told("the pods of external service "+x.Name+" cannot be listed", err)
	}
	var out []string
	for _, o := range items {
		var p struct {
			Metadata struct {
				DeletionTimestamp string `json:"deletionTimestamp"`
			} `json:"metadata"`
			Status struct {
				Phase string `json:"phase"`
				PodIP string `json:"podIP"`
			} `json:"status"`
		}
		if json.Unmarshal(o.Raw, &p) == nil && p.Status.Phase == "Running" && p.Status.PodIP != "" && p.Metadata.DeletionTimestamp == "" {
			out = append(out, p.Status.PodIP)
		}
	}
	slices.Sort(out)
	return out, nil
}

// liveSecrets are the Secrets that a decision about secrets looks at. They are
// asked for by name: they do not carry the deployment's label.
func (r *run) liveSecrets(ctx context.Context) (secret.Live, error) {
	names := []string{secret.GeneratedName(r.d.Deployment.ID), r.d.Stack.Name + "-generated-secrets"}
	if n := secret.PullSecret(r.d); n != "" {
		names = append(names, n)
	}
	for _, s := range r.d.Spec.Secrets {
		names = append(names, s.Name)
	}
	if len(r.d.Spec.Generated) == 0 {
		names = names[2:]
	}
	live := secret.Live{}
	for _, name := range names {
		o, err := r.c.Get(ctx, kube.Core("secrets"), r.scope.Namespace, name)
		if kube.IsAbsent(err) {
			continue
		}
		if err != nil {
			return nil, told("Secret "+name+" cannot be read", err)
		}
		var s struct {
			Type string            `json:"type"`
			Data map[string][]byte `json:"data"`
		}
		if err := json.Unmarshal(o.Raw, &s); err != nil {
			return nil, err
		}
		live[name] = secret.Secret{Type: s.Type, Data: s.Data}
	}
	return live, nil
}

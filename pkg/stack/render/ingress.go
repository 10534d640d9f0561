package render

import (
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"homelab/pkg/stack/file"
)

// clusterIssuer is the cert-manager issuer that hosts without a certificate ask.
const clusterIssuer = "letsencrypt-prod"

// ingress adds the Ingress of http-proxy. On kind the controller gets
// certificates itself; elsewhere one that is there is used, and cert-manager
// asked for the others.
func (r *renderer) ingress() {
	if len(r.d.Spec.Proxies) == 0 {
		return
	}
	annotations := map[string]string{"kubernetes.io/ingress.class": "caddy"}
	var spec networkingv1.IngressSpec
	for _, proxy := range r.d.Spec.Proxies {
		if !ingressHost(proxy.Host) {
			r.refuseSpec("network.http-proxy", proxy.Pos, "%s is no host an Ingress can have: lower case, and * only as its first part", proxy.Host)
			continue
		}
		spec.Rules = append(spec.Rules, r.rule(proxy))
		if r.d.Spec.Target == file.K8s {
			tls, issue := r.tls(proxy)
			if issue {
				annotations["cert-manager.io/cluster-issuer"] = clusterIssuer
			}
			if !slices.ContainsFunc(spec.TLS, func(t networkingv1.IngressTLS) bool { return t.SecretName == tls.SecretName }) {
				spec.TLS = append(spec.TLS, tls)
			}
		}
	}
	if annotations["cert-manager.io/cluster-issuer"] != "" && r.f.NoCertCRDs {
		r.tellSpec(file.Warning, "no-cert-manager", "network.http-proxy", file.Pos{}, "the cluster has no cert-manager: nothing will make the certificates of these hosts")
	}
	r.add(&networkingv1.Ingress{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"},
		ObjectMeta: metav1.ObjectMeta{Name: r.name("ingress"), Namespace: r.d.Namespace(), Labels: r.labels(), Annotations: annotations},
		Spec:       spec,
	})
}

// ingressHost reports whether the API takes a host, with or without a wildcard.
func ingressHost(host string) bool {
	if strings.HasPrefix(host, "*") {
		return len(validation.IsWildcardDNS1123Subdomain(host)) == 0
	}
	return len(validation.IsDNS1123Subdomain(host)) == 0
}

// rule is the rule of one host. Routes to containers that do not exist have
// been refused.
func (r *renderer) rule(proxy file.Proxy) networkingv1.IngressRule {
	prefix := networkingv1.PathTypePrefix
	http := &networkingv1.HTTPIngressRuleValue{}
	for _, route := range proxy.Routes {
		p, ok := r.podWith(route.Container)
		if !ok {
			continue
		}
		http.Paths = append(http.Paths, networkingv1.HTTPIngressPath{
			Path: route.Path, PathType: &prefix,
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
				Name: r.podName(p, "service"),
				Port: networkingv1.ServiceBackendPort{Number: int32(route.Port)}, //nolint:gosec // G115: ports were read as 1 to 65535
			}},
		})
	}
	return networkingv1.IngressRule{Host: proxy.Host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: http}}
}

// tls returns the TLS entry of a host, and whether its certificate has to be
// made yet.
func (r *renderer) tls(proxy file.Proxy) (networkingv1.IngressTLS, bool) {
	if c, ok := certificateFor(proxy.Host, r.f.Certificates); ok {
		return networkingv1.IngressTLS{Hosts: slices.Clone(c.DNSNames), SecretName: c.Secret}, false
	}
	name := r.id() + "-" + proxy.Host + "-tls"
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		r.refuseSpec("network.http-proxy", proxy.Pos, "no certificate covers %s, and a Secret for one cannot be named %s: make a Certificate for it in namespace %s", proxy.Host, name, r.d.Namespace())
	}
	return networkingv1.IngressTLS{Hosts: []string{proxy.Host}, SecretName: name}, true
}

// certificateFor returns the certificate that covers a host: by its name before
// by a wildcard, then by the name of its Secret, so that the order in which a
// cluster lists them does not matter.
func certificateFor(host string, all []Certificate) (Certificate, bool) {
	var best Certificate
	found, exact := false, false
	for _, c := range all {
		byName := slices.Contains(c.DNSNames, host)
		if !byName && !slices.ContainsFunc(c.DNSNames, func(n string) bool { return covers(n, host) }) {
			continue
		}
		if !found || byName && !exact || byName == exact && c.Secret < best.Secret {
			best, found, exact = c, true, byName
		}
	}
	return best, found
}

// covers reports whether a wildcard name stands for a host: it stands for
// exactly one level, as it does for browsers.
func covers(name, host string) bool {
	domain, ok := strings.CutPrefix(name, "*.")
	if !ok {
		return false
	}
	first, rest, ok := strings.Cut(host, ".")
	return ok && first != "" && first != "*" && rest == domain
}

package render

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"homelab/pkg/stack/file"
)

// externals adds the Services of external-services, named as their keys: a name
// of the stack for something that runs elsewhere.
func (r *renderer) externals() {
	for _, x := range r.d.Spec.Externals {
		key := "external-services." + x.Name
		port := servicePort(x.Port)
		switch {
		case x.Host != "":
			r.addService(x.Name, r.labels(), corev1.ServiceSpec{
				Type: corev1.ServiceTypeExternalName, ExternalName: x.Host, Ports: []corev1.ServicePort{port},
			})
		case x.IP != "":
			if _, err := netip.ParseAddr(x.IP); err != nil {
				r.refuseSpec(key, x.Pos, "%s is no IP address: use host for a name", x.IP)
				continue
			}
			r.elsewhere(x.Name, port, []string{x.IP})
		case len(x.Selector) > 0:
			found := r.f.Endpoints[x.Name]
			if len(found) == 0 {
				r.tellSpec(file.Warning, "external-without-pods", key, x.Pos, "no pod of namespace %s is known that its selector finds: %s leads nowhere until a start, update or restart finds one", x.Namespace, x.Name)
			}
			r.elsewhere(x.Name, port, found)
		}
	}
}

// elsewhere adds a Service without a selector, and the addresses it leads to.
func (r *renderer) elsewhere(name string, port corev1.ServicePort, addresses []string) {
	r.addService(name, r.labels(), corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{port},
	})
	//nolint:staticcheck // SA1019: the Endpoints are what such deployments have; the cluster mirrors them into EndpointSlices
	e := &corev1.Endpoints{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Endpoints"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.d.Namespace(), Labels: r.labels()},
	}
	addresses = slices.Compact(slices.Sorted(slices.Values(addresses)))
	if len(addresses) > 0 {
		//nolint:staticcheck // SA1019: as above
		subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: port.Name, Port: port.Port, Protocol: port.Protocol}}}
		for _, a := range addresses {
			subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: a})
		}
		e.Subsets = append(e.Subsets, subset)
	}
	r.add(e)
}

// caDir is where most images look for certificates.
const caDir = "/etc/ssl/certs/"

// caVolume is the pod volume of the CA certificates.
const caVolume = "laconic-ca-certs"

// certificates is what ca-certificates comes to: the keys in the spec's order,
// with their content.
type certificates struct {
	keys []string
	data map[string][]byte
}

// caObjects reads ca-certificates and adds the Secret that holds them.
func (r *renderer) caObjects() {
	r.ca = certificates{data: map[string][]byte{}}
	for i, path := range r.d.Spec.CAs {
		raw, err := r.readCA(path)
		if err != nil {
			if r.v2() {
				r.refuseSpec("ca-certificates", file.Pos{}, "%s: %v", path, err)
			} else {
				r.tellSpec(file.Warning, "ca-missing", "ca-certificates", file.Pos{}, "%s is left out: %v", path, err)
			}
			continue
		}
		key := fmt.Sprintf("laconic-extra-ca-%d.pem", i)
		r.ca.keys = append(r.ca.keys, key)
		r.ca.data[key] = raw
	}
	if len(r.ca.keys) == 0 {
		return
	}
	r.add(&corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: r.name("ca-certificates"), Namespace: r.d.Namespace(), Labels: r.labels()},
		Type:       corev1.SecretTypeOpaque,
		Data:       r.ca.data,
	})
}

// readCA reads one PEM file. A relative path is looked for in the directory,
// then where the command runs.
func (r *renderer) readCA(path string) ([]byte, error) {
	full, err := r.o.Machine.expand(path)
	if err != nil {
		return nil, err
	}
	places := []string{full}
	if !filepath.IsAbs(full) {
		places = []string{r.onDisk(filepath.Join(r.d.Path, full))}
		if r.o.Machine.WorkDir != "" {
			places = append(places, filepath.Join(r.o.Machine.WorkDir, full))
		}
	}
	for _, place := range places {
		var c content
		if c, err = r.o.Machine.read(source{path: place, budget: configMapBudget, advice: "name a file of certificates"}); err != nil {
			continue
		}
		if c.dir {
			return nil, errors.New("it is a directory, not a file of certificates")
		}
		for _, raw := range c.data {
			if b, _ := pem.Decode(raw); b == nil || !strings.HasSuffix(b.Type, "CERTIFICATE") {
				return nil, errors.New("it holds no certificate in PEM form")
			}
			return raw, nil
		}
	}
	return nil, err
}

// caCertificates returns what every container needs to trust ca-certificates:
// the pod's volumes, the mounts and the variables; nothing when there are none.
// The variables go behind those of config.env. It is asked after network.
func (r *renderer) caCertificates() ([]corev1.Volume, []corev1.VolumeMount, []corev1.EnvVar) {
	if len(r.ca.keys) == 0 {
		return nil, nil, nil
	}
	volumes := []corev1.Volume{{
		Name:         caVolume,
		VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: r.name("ca-certificates")}},
	}}
	var mounts []corev1.VolumeMount
	for _, key := range r.ca.keys {
		mounts = append(mounts, corev1.VolumeMount{Name: caVolume, MountPath: caDir + key, SubPath: key, ReadOnly: true})
	}
	return volumes, mounts, []corev1.EnvVar{{Name: "NODE_EXTRA_CA_CERTS", Value: caDir + r.ca.keys[0]}}
}

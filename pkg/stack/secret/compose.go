package secret

import (
	"maps"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
	"homelab/pkg/transport"
)

// Token reads what images are pulled with where there is no cluster to keep
// it: the registry that the spec of d names, nil when it names none, and its
// token, zero when its source has none. The error is a *fault.Error of kind
// Denied.
func Token(d *file.Directory, src Source) (*file.Registry, transport.Secret, []file.Notice, error) {
	r, key := d.Spec.RegistryCredentials, "registry-credentials"
	if r == nil {
		r, key = d.Spec.ImagePullSecret, "image-pull-secret"
	}
	if r == nil {
		return nil, transport.Secret{}, nil, nil
	}
	m := &maker{d: d, src: src}
	token, source, err := m.token(*r, key)
	if err != nil {
		return r, token, nil, fault.New(fault.Denied, "the token for the registry "+r.Server+" cannot be read", "").Because(source + ": " + err.Error()).From(err)
	}
	return r, token, m.out.Notices, nil
}

// TokenSource names where the token of a registry is looked for.
func TokenSource(r *file.Registry) string {
	if r.TokenFile != "" {
		return "the file " + r.TokenFile
	}
	return "the variable " + r.TokenEnv
}

// Fresh makes those generated values of d that are not in have; it returns all
// of them, and whether one was made.
func Fresh(d *file.Directory, src Source, have map[string]string) (all map[string]string, made bool, err error) {
	all = map[string]string{}
	maps.Copy(all, have)
	for _, g := range d.Spec.Generated {
		if _, there := all[g.Name]; there {
			continue
		}
		v, err := generate(src.Rand, g)
		if err != nil {
			return nil, false, err
		}
		all[g.Name], made = string(v), true
	}
	return all, made, nil
}

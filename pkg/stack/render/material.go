package render

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	compose "github.com/compose-spec/compose-go/v2/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/stack/file"
)

// filesOf renders what services mount besides volumes: tmpfs, shm_size,
// secrets and configs. Under V1 there are none.
func (r *renderer) filesOf(p *pod) ([]corev1.Volume, map[string][]corev1.VolumeMount) {
	if !r.v2() {
		return nil, nil
	}
	var volumes []corev1.Volume
	mounts := map[string][]corev1.VolumeMount{}
	add := func(s *service, name string, from corev1.VolumeSource, m corev1.VolumeMount) {
		m.Name = shorten(name)
		if !slices.ContainsFunc(volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
			volumes = append(volumes, corev1.Volume{Name: m.Name, VolumeSource: from})
		}
		mounts[s.container] = append(mounts[s.container], m)
	}
	made := map[string]bool{}
	for i := range p.services {
		s := &p.services[i]
		for _, t := range s.cfg.Tmpfs {
			target, options, _ := strings.Cut(t, ":")
			add(s, "tmpfs-"+digest(s.container+target, 8), inMemory(r.tmpfsSize(p, s, options)), corev1.VolumeMount{MountPath: target})
		}
		if n := int64(s.cfg.ShmSize); n > 0 {
			add(s, "shm-"+s.container, inMemory(resource.NewQuantity(n, resource.BinarySI)), corev1.VolumeMount{MountPath: "/dev/shm"})
		}
		for _, ref := range s.cfg.Secrets {
			target := cmp.Or(ref.Target, ref.Source)
			if !strings.HasPrefix(target, "/") {
				target = "/run/secrets/" + target
			}
			def, ok := p.project.Secrets[ref.Source]
			name, content, ok := r.material(p, s, made, "secrets", compose.FileReferenceConfig(ref), compose.FileObjectConfig(def), ok)
			if !ok {
				continue
			}
			mode := modeOf(ref.Mode)
			if content != nil {
				r.add(&corev1.Secret{
					TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
					ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.d.Namespace(), Labels: r.labels()},
					Type:       corev1.SecretTypeOpaque, Data: map[string][]byte{materialKey: content},
				})
			}
			add(s, volumeOf("secret", ref.Source, mode), corev1.VolumeSource{
				Secret: &corev1.SecretVolumeSource{SecretName: name, DefaultMode: &mode},
			}, corev1.VolumeMount{MountPath: target, SubPath: materialKey, ReadOnly: true})
		}
		for _, ref := range s.cfg.Configs {
			target := cmp.Or(ref.Target, ref.Source)
			if !strings.HasPrefix(target, "/") {
				target = "/" + target
			}
			def, ok := p.project.Configs[ref.Source]
			name, content, ok := r.material(p, s, made, "configs", compose.FileReferenceConfig(ref), compose.FileObjectConfig(def), ok)
			if !ok {
				continue
			}
			mode := modeOf(ref.Mode)
			if content != nil {
				r.add(&corev1.ConfigMap{
					TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
					ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.d.Namespace(), Labels: r.labels()},
					BinaryData: map[string][]byte{materialKey: content},
				})
			}
			add(s, volumeOf("config", ref.Source, mode), corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: name}, DefaultMode: &mode,
			}}, corev1.VolumeMount{MountPath: target, SubPath: materialKey, ReadOnly: true})
		}
	}
	return volumes, mounts
}

// materialKey is the one key of an object made of compose's secrets or configs.
const materialKey = "content"

// volumeOf names the volume of a secret or config: one for each mode.
func volumeOf(kind, name string, mode int32) string {
	return fmt.Sprintf("compose-%s-%s-%04o", kind, dns(strings.ToLower(name)), mode)
}

func modeOf(m *compose.FileMode) int32 {
	if m == nil {
		return 0o444
	}
	return int32(*m) & 0o777 //nolint:gosec // G115: nine bits
}

// material returns the object one secret or config of compose becomes, and its
// content the first time it is met.
func (r *renderer) material(p *pod, s *service, made map[string]bool, section string, ref compose.FileReferenceConfig, def compose.FileObjectConfig, declared bool) (name string, content []byte, ok bool) {
	if !declared {
		r.refuse(p, s, section, "%q is not among the %s of this file", ref.Source, section)
		return "", nil, false
	}
	if bool(def.External) {
		r.refuse(p, s, section, "%q is external: name an existing Secret in the spec's secrets, or give its file", ref.Source)
		return "", nil, false
	}
	if ref.UID != "" || ref.GID != "" {
		r.tell(p, s, file.Ignored, "material-owner", section, "%s belongs to root: uid and gid have no effect here", ref.Source)
	}
	parts := []string{strings.TrimSuffix(section, "s"), strings.ToLower(ref.Source)}
	switch {
	case p.job:
		parts = append([]string{"job", p.name}, parts...)
	case r.several():
		parts = append([]string{p.name}, parts...)
	}
	name = r.name(parts...)
	if made[name] {
		return name, nil, true
	}
	switch {
	case def.Environment != "":
		i := slices.IndexFunc(r.d.Env, func(e file.EnvVar) bool { return e.Name == def.Environment })
		if i < 0 {
			r.refuse(p, s, section, "%q is the value of %s, which config.env does not set", ref.Source, def.Environment)
			return "", nil, false
		}
		content = []byte(r.d.Env[i].Value)
	case def.File != "":
		path, err := r.o.Machine.expand(def.File)
		if err != nil {
			r.refuse(p, s, section, "%s: %v", def.File, err)
			return "", nil, false
		}
		from := source{path: path, budget: bindBudget, advice: "it must fit into one object"}
		if !filepath.IsAbs(path) {
			from.path, from.within = r.onDisk(filepath.Join(filepath.Dir(p.src.Path), path)), r.roots()
		}
		got, err := r.o.Machine.read(from)
		switch {
		case err != nil && isMissing(err) && r.o.Missing == MissingLater:
			return "", nil, false
		case err != nil:
			r.refuse(p, s, section, "%s: %v", def.File, err)
			return "", nil, false
		case got.dir:
			r.refuse(p, s, section, "%s is a directory: only a file can be one of the %s", def.File, section)
			return "", nil, false
		}
		for _, raw := range got.data {
			content = raw
		}
	default:
		content = []byte(def.Content)
	}
	made[name] = true
	return name, append([]byte{}, content...), true
}

// inMemory is an empty directory that lives in memory.
func inMemory(size *resource.Quantity) corev1.VolumeSource {
	return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: size}}
}

// tmpfsSize reads the options of a tmpfs: only its size means something here.
// Its units are the kernel's, binary all.
func (r *renderer) tmpfsSize(p *pod, s *service, options string) (size *resource.Quantity) {
	for o := range strings.SplitSeq(options, ",") {
		if o == "" {
			continue
		}
		m := regexp.MustCompile(`^size=([0-9]{1,15}[kmg]?)$`).FindStringSubmatch(strings.ToLower(o))
		if m == nil {
			r.tell(p, s, file.Ignored, "tmpfs-option", "tmpfs", "the option %s of tmpfs has no effect here", o)
			continue
		}
		text := m[1]
		if strings.ContainsAny(text, "kmg") {
			text = strings.NewReplacer("k", "Ki", "m", "Mi", "g", "Gi").Replace(text)
		}
		if q, err := resource.ParseQuantity(text); err == nil && !q.IsZero() {
			size = &q
		}
	}
	return size
}

// credentials adds the Secret of the variables that came from credentials
// files.
func (r *renderer) credentials() {
	data := map[string][]byte{}
	for _, v := range r.d.Env {
		if v.Credential && v.Value != "" {
			data[v.Name] = []byte(v.Value)
		}
	}
	if len(data) == 0 || !r.v2() {
		return
	}
	r.add(&corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: CredentialsSecret(r.id()), Namespace: r.d.Namespace(), Labels: r.labels()},
		Type:       corev1.SecretTypeOpaque, Data: data,
	})
}

// checksum sums up the ConfigMaps and Secrets of this directory that a pod
// reads: a pod does not see that they changed, its template must. Under V1 a
// pod that reads none has none.
func (r *renderer) checksum(spec *corev1.PodSpec) string {
	var read []string
	for _, v := range spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			read = append(read, "ConfigMap/"+v.ConfigMap.Name)
		case v.Secret != nil:
			read = append(read, "Secret/"+v.Secret.SecretName)
		}
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range list {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					read = append(read, "Secret/"+e.ValueFrom.SecretKeyRef.Name)
				}
			}
		}
	}
	slices.Sort(read)
	read = slices.Compact(read)
	if len(read) == 0 && !r.v2() {
		return ""
	}
	sum := sha256.New()
	enc := json.NewEncoder(sum)
	for _, o := range r.result.Objects {
		if !slices.Contains(read, o.GetKind()+"/"+o.GetName()) {
			continue
		}
		// A map is encoded in the order of its keys.
		if err := enc.Encode([]any{o.GetKind(), o.GetName(), o.Object["data"], o.Object["binaryData"]}); err != nil {
			panic(fmt.Sprintf("%s %s does not encode: %v", o.GetKind(), o.GetName(), err))
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// spell remembers how an amount of memory is written: the API's types would
// turn 5000M into 5G, which is the same and reads otherwise than what is live.
func (r *renderer) spell(p *pod, s *service, group, text string) {
	if r.memory == nil {
		r.memory = map[string]map[string]string{}
	}
	key := p.key() + "/" + s.container
	if r.memory[key] == nil {
		r.memory[key] = map[string]string{}
	}
	field := "limits"
	if group == "reservations" {
		field = "requests"
	}
	r.memory[key][field] = text
}

// amounts writes what spell remembers into a rendered workload.
func (r *renderer) amounts(p *pod, u *unstructured.Unstructured) {
	spec, ok := within(u.Object, "spec", "template", "spec")
	if !ok {
		return
	}
	for _, list := range []string{"containers", "initContainers"} {
		items, _ := spec[list].([]any)
		for i := range items {
			c, _ := items[i].(map[string]any)
			name, _ := c["name"].(string)
			for field, text := range r.memory[p.key()+"/"+name] {
				if amounts, ok := within(c, "resources", field); ok {
					amounts["memory"] = text
				}
			}
		}
	}
}

// within returns a mapping inside a mapping, not a copy of it.
func within(m map[string]any, path ...string) (map[string]any, bool) {
	for _, k := range path {
		next, ok := m[k].(map[string]any)
		if !ok {
			return nil, false
		}
		m = next
	}
	return m, true
}

func validIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

package render

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	compose "github.com/compose-spec/compose-go/v2/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"homelab/pkg/stack/file"
)

// defaultStorage is the size of a volume nobody gave one.
const defaultStorage file.Quantity = "2Gi"

// manualClass is the storage class of volumes whose place the spec names. No
// provisioner serves it, so nothing but our own PV is ever bound.
const manualClass = "manual"

// storage is what the volumes of a directory come to, before pods mount them.
type storage struct {
	claims  map[string]string  // volume -> PVC
	configs map[string]content // spec configmap -> what it holds
	binds   map[bindKey]bind   // where it stands -> what it mounts
	names   bindNames
}

// bindKey is one bind mount in one file. A source is resolved against the
// directory of the file that names it.
type bindKey struct{ dir, source string }

// bind is a bind's source as a ConfigMap.
type bind struct {
	name string // host-path-SANITISED
	content
}

// volumes fills in Result.Volumes and Mounts, the PVs and PVCs, and the
// ConfigMaps of configmaps and binds, and refuses what cannot be a volume.
func (r *renderer) volumes() {
	r.storage = storage{claims: map[string]string{}, configs: map[string]content{}, binds: map[bindKey]bind{}}
	declared := r.declared()
	r.undeclared(declared)
	r.umbrella()
	r.placeVolumes(declared)
	r.specConfigMaps(declared)
	r.readBinds()
}

// declared returns which files have a volume: declared at the top, or used.
func (r *renderer) declared() map[string][]*pod {
	out := map[string][]*pod{}
	for p := range r.each() {
		for _, v := range p.allVolumes() {
			out[v] = append(out[v], p)
		}
	}
	return out
}

// allVolumes returns the named volumes of a file: those it declares, also when
// nothing mounts them (a pod has had them so far, and its template must not
// change), then those only a sibling file declares, in the order of use.
func (p *pod) allVolumes() []string {
	out := slices.Clone(p.volumes)
	for _, s := range p.services {
		for _, v := range s.cfg.Volumes {
			if v.Type == compose.VolumeTypeVolume && v.Source != "" && !slices.Contains(out, v.Source) {
				out = append(out, v.Source)
			}
		}
	}
	return out
}

// undeclared refuses volumes that are used and stand nowhere, or twice.
func (r *renderer) undeclared(declared map[string][]*pod) {
	var top []string
	for p := range r.each() {
		top = append(top, p.volumes...)
	}
	isVolume, isConfig := map[string]bool{}, map[string]bool{}
	for _, v := range r.d.Spec.Volumes {
		isVolume[v.Name] = true
	}
	for _, c := range r.d.Spec.ConfigMaps {
		isConfig[c.Name] = true
		if isVolume[c.Name] {
			r.refuseSpec("configmaps."+c.Name, c.Pos, "%s stands in volumes as well: it is either data or configuration", c.Name)
		}
	}
	for p := range r.each() {
		for i := range p.services {
			s := &p.services[i]
			for _, v := range s.cfg.Volumes {
				if v.Type != compose.VolumeTypeVolume || v.Source == "" {
					continue
				}
				if !slices.Contains(top, v.Source) {
					r.refuseMount(p, s, v, "volume %s is declared in no compose file: add it to volumes at the top of this one", v.Source)
				}
				if !isVolume[v.Source] && !isConfig[v.Source] {
					r.refuseMount(p, s, v, "volume %s is in neither volumes nor configmaps of the spec: say there where its data is", v.Source)
				}
			}
		}
	}
	taken := map[string]string{}
	for _, name := range r.specVolumes() {
		if len(declared[name.Name]) == 0 {
			r.tellSpec(file.Warning, "volume-unused", name.key, name.Pos, "%s is in no compose file: it has no effect", name.Name)
			continue
		}
		label := dns(name.Name)
		if why := validation.IsDNS1123Label(shorten(label)); len(why) > 0 {
			r.refuseSpec(name.key, name.Pos, "%s cannot name an object of a cluster: lower case letters, digits and - only, a letter or digit at both ends", name.Name)
			continue
		}
		if full := r.name(name.Name); len(full) > validation.LabelValueMaxLength {
			r.refuseSpec(name.key, name.Pos, "%s is longer than the %d characters a label can have: give the volume a shorter name", full, validation.LabelValueMaxLength)
		}
		if other, ok := taken[label]; ok && other != name.Name {
			r.refuseSpec(name.key, name.Pos, "%s and %s come to the same name %s", other, name.Name, label)
		}
		taken[label] = name.Name
	}
}

// specVolume is a volume or a configmap of the spec.
type specVolume struct {
	Name, key string
	Pos       file.Pos
}

func (r *renderer) specVolumes() []specVolume {
	var out []specVolume
	for _, v := range r.d.Spec.Volumes {
		out = append(out, specVolume{v.Name, "volumes." + v.Name, v.Pos})
	}
	for _, c := range r.d.Spec.ConfigMaps {
		out = append(out, specVolume{c.Name, "configmaps." + c.Name, c.Pos})
	}
	return out
}

// refuseMount records a problem with one entry of a service's volumes.
func (r *renderer) refuseMount(p *pod, s *service, v compose.ServiceVolumeConfig, format string, args ...any) {
	r.c.problem(Problem{
		File: p.src.Path, Line: cmp.Or(s.mounts[v.Target].line, p.at(s, "volumes")), Service: s.name, Key: "volumes",
		Message: fmt.Sprintf(format, args...),
	})
}

// tellMount records a notice on one entry of a service's volumes.
func (r *renderer) tellMount(p *pod, s *service, v compose.ServiceVolumeConfig, level file.Level, code, format string, args ...any) {
	r.c.notice(file.Notice{
		Code: code, Level: level, File: p.src.Path, Line: cmp.Or(s.mounts[v.Target].line, p.at(s, "volumes")), Service: s.name, Key: "volumes",
		Message: fmt.Sprintf(format, args...),
	})
}

// umbrella adds the kind-mount-root, which the node always has, with volumes or
// without: later deployments of the cluster put theirs below it.
func (r *renderer) umbrella() {
	if r.d.Spec.Target != file.Kind || r.d.Spec.KindMountRoot == "" {
		return
	}
	r.root = filepath.Clean(r.d.Spec.KindMountRoot) // absolute, or the spec was refused
	r.result.Mounts = append(r.result.Mounts, Mount{HostPath: r.root, ContainerPath: nodeRoot, Umbrella: true})
}

// NoUmbrella returns the warning a cluster deserves that is created without a
// kind-mount-root.
func NoUmbrella(d *file.Directory) (file.Notice, bool) {
	if d.Spec.Target != file.Kind || d.Spec.KindMountRoot != "" {
		return file.Notice{}, false
	}
	return file.Notice{
		Code: "no-kind-mount-root", Level: file.Warning, File: d.Spec.File, Key: "kind-mount-root",
		Message: "the cluster is created without a kind-mount-root: a later deployment that needs a directory of this host may need the cluster created anew",
	}, true
}

// placed is a volume with its place.
type placed struct {
	spec     file.Volume
	host     string // absolute, as written; "" none or not on this host
	resolved string // host with its links resolved, for comparing
	node     string // of the PV
	mount    bool   // the node needs a mount of its own for it
}

// placeVolumes decides where each volume of the spec has its data.
func (r *renderer) placeVolumes(declared map[string][]*pod) {
	var all []placed
	for _, v := range r.d.Spec.Volumes {
		files := declared[v.Name]
		if len(files) == 0 {
			continue
		}
		p, ok := r.place(v)
		if !ok {
			continue
		}
		for _, o := range all {
			switch {
			case o.resolved != "" && p.resolved != "" && nested(o.resolved, p.resolved):
				r.refuseSpec("volumes."+v.Name, v.Pos, "its directory %s and that of volume %s, %s, are the same or one holds the other: each volume needs a directory of its own", v.Path, o.spec.Name, o.spec.Path)
			case o.node != "" && p.node != "" && nested(o.node, p.node):
				r.refuseSpec("volumes."+v.Name, v.Pos, "inside the node it would be at %s and volume %s at %s: rename one, or move both below kind-mount-root", p.node, o.spec.Name, o.node)
			}
		}
		all = append(all, p)
		r.addVolume(p, files)
	}
}

// place decides where one volume is. What is wrong is told.
func (r *renderer) place(v file.Volume) (placed, bool) {
	key := "volumes." + v.Name
	p := placed{spec: v}
	if v.Path == "" {
		if r.d.Spec.Target == file.Kind {
			r.tellSpec(file.Warning, "volume-in-node", key, v.Pos,
				"%s has no path: its data lies inside the kind node, survives its pods and is gone with the cluster; to keep it write %s: %s",
				v.Name, v.Name, r.suggestion(v.Name))
		}
		return p, true
	}
	relative := !filepath.IsAbs(v.Path) && !strings.HasPrefix(v.Path, "~")
	if r.d.Spec.Target != file.Kind {
		if !filepath.IsAbs(v.Path) {
			r.refuseSpec(key, v.Pos, "%s means nothing on the nodes of a cluster: give an absolute path, which must exist on each of them, or none", v.Path)
			return p, false
		}
		p.node = filepath.Clean(v.Path)
		p.host, p.resolved = p.node, p.node
		return p, true
	}
	if relative {
		p.host = filepath.Join(r.d.Path, v.Path)
		switch rest, ok := below(filepath.Clean(r.d.Path), p.host); {
		case !ok:
			r.refuseSpec(key, v.Pos, "%s leads out of the deployment directory: write an absolute path if that is meant", v.Path)
			return p, false
		case rest == ".":
			r.refuseSpec(key, v.Pos, "%s is the deployment directory itself, with its secrets: write ./data/%s", v.Path, v.Name)
			return p, false
		}
	} else {
		path, err := r.o.Machine.expand(v.Path)
		if err != nil {
			r.refuseSpec(key, v.Pos, "%s: %v", v.Path, err)
			return p, false
		}
		p.host = filepath.Clean(path)
		if _, err := r.o.Machine.files().Stat(p.host); errors.Is(err, fs.ErrNotExist) {
			r.tellSpec(file.Warning, "volume-path-missing", key, v.Pos, "%s does not exist on this machine: it will be made empty, and belong to root", p.host)
		}
	}
	if !r.apart(v, p.host) {
		return p, false
	}
	p.resolved = r.o.Machine.real(p.host)
	p.node, p.mount = filepath.Join(nodeRoot, v.Name), true
	if r.root != "" {
		root := r.o.Machine.real(r.root)
		if rest, ok := below(root, p.resolved); ok {
			p.node, p.mount = filepath.Join(nodeRoot, rest), false
		}
		if _, holds := below(p.resolved, root); holds {
			r.tellSpec(file.Warning, "volume-holds-root", key, v.Pos, "%s holds kind-mount-root, so the data of every deployment of this cluster: give the volume a directory below it", v.Path)
		}
	}
	r.keep(&p, relative)
	return p, true
}

// suggestion is a path that outlives the cluster.
func (r *renderer) suggestion(volume string) string {
	if r.root == "" {
		return "./data/" + volume
	}
	return filepath.Join(r.root, r.d.Namespace(), volume)
}

// keep leaves a live PV of a V1 directory where it is, when that is what this
// spec has always meant there: paths used to be compared as text, relative ones
// not at all. Any other live path is a volume somebody moved, which is not for
// a render to hide.
func (r *renderer) keep(p *placed, relative bool) {
	live := r.f.HostPaths[r.name(p.spec.Name)]
	if r.v2() || live == "" || live == p.node || r.root == "" {
		return
	}
	old := []string{filepath.Join(nodeRoot, p.spec.Name)}
	if rest, ok := strings.CutPrefix(p.host, r.root); ok && !relative {
		old = []string{nodeRoot + rest, nodeRoot + "/" + rest}
	}
	if !slices.Contains(old, live) {
		return
	}
	wanted := p.host
	p.node, p.mount, p.host, p.resolved = live, false, "", ""
	where := "inside the kind node, and goes with the cluster"
	if rest, ok := below(nodeRoot, filepath.Clean(live)); ok {
		p.host = filepath.Join(r.root, rest)
		p.resolved = r.o.Machine.real(p.host)
		where = "in " + p.host
	}
	r.tellSpec(file.Warning, "volume-elsewhere", "volumes."+p.spec.Name, p.spec.Pos,
		"the data of %s is not in %s but %s: the live volume points there and stays as it is", p.spec.Name, wanted, where)
}

// addVolume adds the objects of one volume.
func (r *renderer) addVolume(p placed, files []*pod) {
	v := p.spec
	size, quantity, err := r.capacity(v.Name)
	if err != nil {
		r.refuseSpec("resources.volumes", r.spot("resources.volumes"), "the size of %s: %v", v.Name, err)
		return
	}
	name := r.name(v.Name)
	r.storage.claims[v.Name] = name
	labels := func() map[string]string {
		l := r.labels()
		l["volume-label"] = name
		return l
	}
	capacity := corev1.ResourceList{corev1.ResourceStorage: quantity} //nolint:exhaustive // a volume has one resource, not one of each
	// The API's type would write 5000M as 5G, which is the same and reads
	// otherwise than the claims that are there.
	literal := func(u *unstructured.Unstructured, path ...string) {
		if err := unstructured.SetNestedField(u.Object, size, append(path, "storage")...); err != nil {
			panic(fmt.Sprintf("%s of %s is no mapping: %v", strings.Join(path, "."), u.GetName(), err))
		}
	}
	out := Volume{Name: v.Name, PVC: name, Spec: v.Path, HostPath: p.host, Size: size}
	for _, f := range files {
		if f.job {
			out.Jobs = append(out.Jobs, f.name)
		} else {
			out.Pods = append(out.Pods, f.name)
		}
	}
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.d.Namespace(), Labels: labels()},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: capacity},
		},
	}
	if p.node != "" {
		class := manualClass
		claim.Spec.StorageClassName, claim.Spec.VolumeName = &class, name
		out.PV, out.NodePath = name, p.node
		literal(r.add(&corev1.PersistentVolume{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels()},
			Spec: corev1.PersistentVolumeSpec{
				StorageClassName: class,
				AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Capacity:         capacity,
				PersistentVolumeSource: corev1.PersistentVolumeSource{
					HostPath: &corev1.HostPathVolumeSource{Path: p.node},
				},
				PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			},
		}), "spec", "capacity")
	}
	literal(r.add(claim), "spec", "resources", "requests")
	r.result.Volumes = append(r.result.Volumes, out)
	if p.mount {
		r.result.Mounts = append(r.result.Mounts, Mount{HostPath: p.host, ContainerPath: p.node})
	}
}

// capacity returns the size of a volume, as it is written and as it is meant.
func (r *renderer) capacity(volume string) (string, resource.Quantity, error) {
	asked := cmp.Or(r.d.Spec.VolumeStorages[volume], r.d.Spec.VolumeStorage, defaultStorage)
	text, err := size(asked, r.d.Deployment.Rules)
	if err != nil {
		return "", resource.Quantity{}, err
	}
	q, err := resource.ParseQuantity(cmp.Or(text, "0"))
	if err != nil {
		return "", resource.Quantity{}, err
	}
	if q.IsZero() {
		return "", resource.Quantity{}, fmt.Errorf("%q is too small for a volume", asked)
	}
	return text, q, nil
}

// specConfigMaps makes the ConfigMaps of the spec from the directory's copies.
func (r *renderer) specConfigMaps(declared map[string][]*pod) {
	for _, c := range r.d.Spec.ConfigMaps {
		if len(declared[c.Name]) == 0 {
			continue
		}
		key := "configmaps." + c.Name
		got, err := r.o.Machine.read(source{
			leave: r.d.Backup,
			path:  r.onDisk(filepath.Join(r.d.Path, "configmaps", c.Name)), within: r.roots(), budget: configMapBudget, skipDirs: true, onlyDir: true,
			advice: "split it, or put the files into the image",
		})
		if err != nil {
			r.refuseSpec(key, c.Pos, "%s: %v", filepath.Join("configmaps", c.Name), err)
			continue
		}
		for _, d := range got.skipped {
			r.tellSpec(file.Ignored, "configmap-directory", key, c.Pos, "the directory %s in it is left out: only the files at the top become part of it", d)
		}
		r.storage.configs[c.Name] = got
		r.addConfigMap(r.name(c.Name), c.Name, got)
	}
}

func (r *renderer) addConfigMap(name, label string, c content) {
	labels := r.labels()
	labels["configmap-label"] = shorten(label)
	r.add(&corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.d.Namespace(), Labels: labels},
		BinaryData: c.data,
	})
}

// roots are where the files of this stack may lie.
func (r *renderer) roots() []string {
	roots := []string{r.d.Path}
	if r.o.Stage != "" {
		roots = append(roots, r.o.Stage)
	}
	if r.d.Stack.Root != "" {
		roots = append(roots, r.d.Stack.Root)
	}
	return roots
}

// onDisk returns where a path of the directory lies while it is being made.
func (r *renderer) onDisk(path string) string {
	if r.o.Stage == "" {
		return path
	}
	if rest, ok := below(filepath.Clean(r.d.Path), filepath.Clean(path)); ok {
		return filepath.Join(r.o.Stage, rest)
	}
	return path
}

// readBinds makes a ConfigMap of every bind's source, one for all that mount it.
func (r *renderer) readBinds() {
	made := map[string]bind{}
	for _, v := range r.specVolumes() {
		r.storage.names.reserve(dns(v.Name))
	}
	for p := range r.each() {
		for i := range p.services {
			s := &p.services[i]
			for _, v := range s.cfg.Volumes {
				if v.Type == compose.VolumeTypeBind {
					r.readBind(p, s, v, made)
				}
			}
		}
	}
}

// readBind judges one bind and reads its source, unless another one did.
func (r *renderer) readBind(p *pod, s *service, v compose.ServiceVolumeConfig, made map[string]bind) {
	if how := s.mounts[v.Target]; how.rw {
		r.refuseMount(p, s, v, "%s is mounted for writing: what is bound is static content, the same on every cluster; use a named volume, with a path of this host in the spec's volumes", v.Source)
		return
	} else if !how.ro && !v.ReadOnly {
		r.tellMount(p, s, v, file.Changed, "bind-read-only", "%s cannot be written to here: say :ro, or use a named volume", v.Source)
	}
	src := source{leave: r.d.Backup, budget: bindBudget, advice: "put it into the image, split it, or fetch it in an init container"}
	key := bindKey{dir: filepath.Dir(p.src.Path), source: v.Source}
	switch {
	case filepath.IsAbs(v.Source), strings.HasPrefix(v.Source, "~"):
		path, err := r.o.Machine.expand(v.Source)
		if err != nil {
			r.refuseMount(p, s, v, "%s: %v", v.Source, err)
			return
		}
		src.path = filepath.Clean(path)
		r.tellMount(p, s, v, file.Info, "bind-from-this-machine", "%s is read from this machine, and again at every start", v.Source)
	default:
		src.path = r.onDisk(filepath.Join(key.dir, v.Source))
		src.within = r.roots()
	}
	b, ok := made[src.path]
	if !ok {
		got, err := r.o.Machine.read(src)
		switch {
		case err == nil:
		case isMissing(err) && r.o.Missing == MissingLater:
			return
		case isMissing(err) && r.o.Missing == MissingWarned && !r.v2():
			r.tellMount(p, s, v, file.Warning, "bind-missing", "%s: %v; it must be there at the first start", v.Source, err)
			return
		default:
			r.refuseMount(p, s, v, "%s: %v", v.Source, err)
			return
		}
		b = bind{name: r.storage.names.name(v.Source, src.path), content: got}
		made[src.path] = b
		r.addConfigMap(r.id()+"-"+b.name, b.name, got)
	}
	r.storage.binds[key] = b
}

// podVolumes returns what a pod needs of named volumes, configmaps, binds and
// anonymous volumes: the pod's volumes, and the mounts of each container by its
// name (service.container), in the order of the file. It is asked after volumes.
func (r *renderer) podVolumes(p *pod) ([]corev1.Volume, map[string][]corev1.VolumeMount) {
	var volumes []corev1.Volume
	add := func(name string, source corev1.VolumeSource) string {
		name = shorten(name)
		if !slices.ContainsFunc(volumes, func(v corev1.Volume) bool { return v.Name == name }) {
			volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: source})
		}
		return name
	}
	for _, name := range p.allVolumes() {
		if claim, ok := r.storage.claims[name]; ok {
			add(dns(name), corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}})
		} else if c, ok := r.storage.configs[name]; ok {
			add(dns(name), fromConfigMap(r.name(name), c))
		}
	}
	mounts := map[string][]corev1.VolumeMount{}
	for i := range p.services {
		s := &p.services[i]
		for _, v := range s.cfg.Volumes {
			m := corev1.VolumeMount{MountPath: v.Target, ReadOnly: v.ReadOnly}
			switch v.Type {
			case compose.VolumeTypeBind:
				b, ok := r.storage.binds[bindKey{dir: filepath.Dir(p.src.Path), source: v.Source}]
				if !ok {
					continue // it was refused, or is not there yet
				}
				m.Name = add(b.name, fromConfigMap(r.id()+"-"+b.name, b.content))
				m.SubPath = b.content.name
			case compose.VolumeTypeVolume:
				m.Name = shorten(dns(v.Source))
				if v.Source == "" {
					r.tellMount(p, s, v, file.Changed, "volume-anonymous", "the volume at %s has no name: what is written there goes with its pod", v.Target)
					m.Name = add("anonymous-"+digest(s.container+v.Target, 8), corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
				}
				if v.Volume != nil {
					if !filepath.IsLocal(cmp.Or(v.Volume.Subpath, ".")) {
						r.refuseMount(p, s, v, "the subpath %s leads out of its volume", v.Volume.Subpath)
					}
					m.SubPath = v.Volume.Subpath
				}
			case compose.VolumeTypeTmpfs:
				dir := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
				if v.Tmpfs != nil && v.Tmpfs.Size > 0 {
					dir.SizeLimit = resource.NewQuantity(int64(v.Tmpfs.Size), resource.BinarySI)
				}
				m.Name = add("tmpfs-"+digest(s.container+v.Target, 8), corev1.VolumeSource{EmptyDir: dir})
			default:
				r.refuseMount(p, s, v, "a mount of type %q exists on no cluster", v.Type)
				continue
			}
			r.mountOptions(p, s, v)
			mounts[s.container] = append(mounts[s.container], m)
		}
	}
	return volumes, mounts
}

// mountOptions tells which options of a mount have no effect.
func (r *renderer) mountOptions(p *pod, s *service, v compose.ServiceVolumeConfig) {
	var lost, idle []string // with a meaning that is missed, and without any here
	if v.Bind != nil {
		if v.Bind.Propagation != "" {
			lost = append(lost, "propagation")
		}
		if v.Bind.Recursive != "" {
			idle = append(idle, "recursive")
		}
		if v.Bind.SELinux != "" {
			idle = append(idle, v.Bind.SELinux)
		}
	}
	if v.Volume != nil && v.Volume.NoCopy {
		idle = append(idle, "nocopy")
	}
	if v.Tmpfs != nil && v.Tmpfs.Mode != 0 {
		lost = append(lost, "mode")
	}
	if v.Consistency != "" {
		idle = append(idle, "consistency")
	}
	if len(lost) > 0 {
		r.tellMount(p, s, v, file.Ignored, "mount-option", "%s of the mount at %s has no effect here", strings.Join(lost, ", "), v.Target)
	}
	if len(idle) > 0 {
		r.tellMount(p, s, v, file.Info, "mount-option", "%s of the mount at %s means nothing here", strings.Join(idle, ", "), v.Target)
	}
}

// fromConfigMap is a volume of a ConfigMap's files, which may be scripts.
func fromConfigMap(name string, c content) corev1.VolumeSource {
	mode := staticMode
	return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: name},
		DefaultMode:          &mode,
		Items:                c.items,
	}}
}

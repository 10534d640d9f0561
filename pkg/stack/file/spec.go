package file

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SpecKeys returns the keys a spec.yml may have at its top.
func SpecKeys() []string {
	return []string{
		"stack", "deploy-to", "kube-config", "image-registry", "config", "credentials-files", "network",
		"volumes", "configmaps", "registry-credentials", "image-pull-secret", "secrets", "image-pull-policy",
		"image-overrides", "resources", "security", "annotations", "labels", "replicas", "node-affinities",
		"node-tolerations", "namespace", "kind-cluster-name", "kind-mount-root", "caddy-ingress-image",
		"maintenance-service", "external-services", "ca-certificates",
	}
}

// ParseSpec reads a spec.yml; name is how it is shown and kept in Spec.File.
// Notices are by line. The error is *Problems with everything that is wrong;
// the Spec is then what could be read all the same, so that more can be judged
// at once, and nil where nothing could. Whether the files a spec names exist is
// not judged here.
func ParseSpec(name string, data []byte) (*Spec, []Notice, error) {
	r := &reader{file: name, lines: map[string]int{}}
	s := &Spec{File: name, Raw: data, Replicas: 1, lines: r.lines}
	before := len(r.problems)
	top := r.open(data)
	if len(r.problems) > before {
		return nil, nil, r.err()
	}
	f := r.fields(top, SpecKeys()...)
	s.Stack = r.need(f["stack"])
	s.target(r, f)
	s.config(r, f["config"])
	s.CredentialsFiles = r.texts(f["credentials-files"])
	s.network(r, f["network"])
	s.storage(r, f)
	s.access(r, f)
	s.pods(r, f)
	s.resources(r, f["resources"])
	s.externals(r, f["external-services"])
	s.CAs = r.texts(f["ca-certificates"])
	sortNotices(r.notices)
	return s, r.notices, r.err()
}

// Line returns where a dotted key stands in the file, 0 when it does not.
func (s *Spec) Line(key string) int { return s.lines[key] }

// EffectiveTarget returns where the stack runs; old files that do not say so
// mean compose.
func (s *Spec) EffectiveTarget() Target {
	if s.Target == "" {
		return Compose
	}
	return s.Target
}

func (s *Spec) target(r *reader, f map[string]value) {
	v := f["deploy-to"]
	switch t := Target(r.text(v)); t {
	case "", Compose, K8s, Kind:
		s.Target = t
	default:
		r.fail(v, "must be compose, k8s or k8s-kind, not %s", quoted(string(t)))
		return
	}
	s.KubeConfig = r.text(f["kube-config"])
	switch {
	case s.Target == K8s && s.KubeConfig == "":
		v := f["kube-config"]
		v.line = r.lines["deploy-to"]
		r.fail(v, "is missing: deploy-to k8s needs it")
	case s.Target != K8s && s.KubeConfig != "":
		r.fail(f["kube-config"], "is for deploy-to k8s only")
	}
	s.ImageRegistry = r.text(f["image-registry"])
	if reg := s.ImageRegistry; strings.Contains(reg, "://") || strings.ContainsAny(reg, " \t@") ||
		strings.HasPrefix(reg, "/") || strings.HasSuffix(reg, "/") {
		r.fail(f["image-registry"], "must be HOST or HOST/PATH, not %s", quoted(reg))
	}
}

// variable is the name of an environment variable that dotenv files can hold.
func variable(name string) bool {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(name)
}

func (s *Spec) config(r *reader, v value) {
	for _, e := range r.entries(v) {
		if !variable(e.name) {
			r.fail(e.value, "is no name of an environment variable")
			continue
		}
		set := Setting{Name: e.name, Kind: Null, Pos: r.pos(e.value)}
		if e.has() {
			set.Value, set.Kind = r.scalar(e.value), scalarKind(e.node)
		}
		if strings.HasPrefix(set.Value, "$generate") {
			g, ok := parseGenerate(e.name, set.Value)
			if !ok {
				r.fail(e.value, "is %s; it must be $generate:hex:N$ or $generate:base64:N$, N from 1 to 1024", quoted(set.Value))
				continue
			}
			s.Generated = append(s.Generated, g)
			continue
		}
		s.Config = append(s.Config, set)
	}
}

func scalarKind(n *yaml.Node) ScalarKind {
	switch n.Tag {
	case "!!bool":
		return Bool
	case "!!int", "!!float":
		return Number
	}
	return String
}

// parseGenerate reads $generate:FORM:N$; a form that is not base64 counts as
// hex.
func parseGenerate(name, text string) (Generated, bool) {
	m := regexp.MustCompile(`^\$generate:([a-z0-9]+):([0-9]{1,4})\$$`).FindStringSubmatch(text)
	if m == nil {
		return Generated{}, false
	}
	n, err := strconv.Atoi(m[2])
	if err != nil || n < 1 || n > 1024 {
		return Generated{}, false
	}
	g := Generated{Name: name, Form: "hex", N: n}
	if m[1] == "base64" {
		g.Form = "base64"
	}
	return g, true
}

func (s *Spec) network(r *reader, v value) {
	f := r.fields(v, "ports", "http-proxy", "acme-email", "node-ports")
	for _, e := range r.entries(f["ports"]) {
		if s.Ports == nil {
			s.Ports = map[string][]string{}
		}
		ports := []string{}
		for _, p := range r.list(e.value) {
			text := r.scalar(p)
			if text == "" || strings.ContainsAny(text, " \t\n") {
				r.fail(p, "must be a port such as '8080' or '127.0.0.1:80:8080'")
				continue
			}
			ports = append(ports, text)
		}
		s.Ports[e.name] = ports
	}
	for _, e := range r.list(f["http-proxy"]) {
		s.proxy(r, e)
	}
	s.ACMEEmail = r.text(f["acme-email"])
	switch n := NodePorts(r.text(f["node-ports"])); n {
	case NodePortsDefault, NodePortsAll, NodePortsExplicit, NodePortsNone:
		s.NodePorts = n
	default:
		r.fail(f["node-ports"], "must be all, explicit or none, not %s", quoted(string(n)))
	}
}

func (s *Spec) proxy(r *reader, v value) {
	if !v.has() {
		r.fail(v, "is empty; it needs host-name and routes")
		return
	}
	f := r.fields(v, "host-name", "routes")
	p := Proxy{Host: r.need(f["host-name"]), Pos: r.pos(v)}
	if p.Host != "" && !hostName(p.Host) {
		r.fail(f["host-name"], "is no host name: %s", quoted(p.Host))
	}
	for _, other := range s.Proxies {
		if p.Host != "" && other.Host == p.Host {
			r.fail(f["host-name"], "names %s a second time", p.Host)
		}
	}
	routes := r.list(f["routes"])
	if len(routes) == 0 && (!f["routes"].has() || f["routes"].node.Kind == yaml.SequenceNode) {
		r.fail(f["routes"], "is missing")
	}
	for _, e := range routes {
		if !e.has() {
			r.fail(e, "is empty; it needs path and proxy-to")
			continue
		}
		g := r.fields(e, "path", "proxy-to", "websocket")
		if g["websocket"].has() {
			r.fail(g["websocket"], "is not supported yet")
		}
		route := Route{Path: r.need(g["path"]), Pos: r.pos(e)}
		if route.Path != "" && !strings.HasPrefix(route.Path, "/") {
			r.fail(g["path"], "must begin with /, not be %s", quoted(route.Path))
		}
		if to := r.need(g["proxy-to"]); to != "" {
			b, ok := backend(to)
			if !ok {
				r.fail(g["proxy-to"], "must be CONTAINER:PORT, not %s", quoted(to))
			}
			route.Container, route.Port = b.Container, b.Port
		}
		p.Routes = append(p.Routes, route)
	}
	s.Proxies = append(s.Proxies, p)
}

// backend reads "container:port".
func backend(text string) (Backend, bool) {
	name, port, ok := strings.Cut(text, ":")
	n, err := strconv.Atoi(port)
	return Backend{Container: name, Port: n}, ok && err == nil && name != "" && !strings.ContainsAny(name, "/ \t") && n >= 1 && n <= 65535
}

func (s *Spec) storage(r *reader, f map[string]value) {
	for _, e := range r.entries(f["volumes"]) {
		if e.has() && e.node.Kind == yaml.MappingNode {
			r.fail(e.value, "is a mapping, which is not supported yet; write a path, or nothing")
			continue
		}
		s.Volumes = append(s.Volumes, Volume{Name: e.name, Path: r.text(e.value), Pos: r.pos(e.value)})
	}
	for _, e := range r.entries(f["configmaps"]) {
		s.ConfigMaps = append(s.ConfigMaps, ConfigMap{Name: e.name, Path: r.text(e.value), Pos: r.pos(e.value)})
		for _, v := range s.Volumes {
			if v.Name == e.name {
				r.fail(e.value, "is among volumes too, in line %d; a volume is one of both", v.Pos.Line)
			}
		}
	}
	if root := f["kind-mount-root"]; root.has() {
		s.KindMountRoot = r.text(root)
		switch {
		case !filepath.IsAbs(s.KindMountRoot):
			r.fail(root, "must be an absolute path, not %s", quoted(s.KindMountRoot))
		case filepath.Clean(s.KindMountRoot) == "/":
			r.fail(root, "must be a directory of its own, not /")
		}
	}
}

func (s *Spec) access(r *reader, f map[string]value) {
	s.RegistryCredentials = registry(r, f["registry-credentials"])
	s.ImagePullSecret = registry(r, f["image-pull-secret"])
	if a, b := s.RegistryCredentials, s.ImagePullSecret; a != nil && b != nil {
		x, y := *a, *b
		x.Pos, y.Pos = Pos{}, Pos{}
		if x != y {
			r.fail(f["image-pull-secret"], "differs from registry-credentials; keep one of them")
		}
	}
	_, s.HasSecrets = r.lines["secrets"]
	for _, e := range r.entries(f["secrets"]) {
		s.secret(r, e)
	}
}

func registry(r *reader, v value) *Registry {
	if !v.has() {
		return nil
	}
	f := r.fields(v, "server", "username", "token-env", "token-file")
	out := &Registry{
		Server: r.need(f["server"]), Username: r.need(f["username"]),
		TokenEnv: r.text(f["token-env"]), TokenFile: r.text(f["token-file"]), Pos: r.pos(v),
	}
	if out.TokenEnv == "" && out.TokenFile == "" && !f["token-env"].has() && !f["token-file"].has() {
		r.fail(v, "needs token-env or token-file")
	}
	if out.TokenEnv != "" && !variable(out.TokenEnv) {
		r.fail(f["token-env"], "is no name of an environment variable: write the variable, not the token")
	}
	return out
}

func (s *Spec) secret(r *reader, e entry) {
	sec := Secret{Name: e.name, Pos: r.pos(e.value)}
	if !subdomain(e.name) {
		r.fail(e.value, "is no name of a Secret")
	}
	switch {
	case !e.has():
	case e.node.Kind == yaml.SequenceNode:
		sec.Refs = r.texts(e.value)
	case e.node.Kind != yaml.MappingNode:
		r.fail(e.value, "must be a list of keys, or a mapping with keys, not %s", kindOf(e.node))
		return
	default:
		f := r.fields(e.value, "keys")
		optional := false
		for _, k := range r.entries(f["keys"]) {
			// "optional" beside the variables is for all of them.
			if k.name == "optional" && k.has() && k.node.Kind == yaml.ScalarNode {
				optional = r.truth(k.value)
				continue
			}
			if key, ok := secretKey(r, k); ok {
				sec.Keys = append(sec.Keys, key)
			}
		}
		if !f["keys"].has() {
			r.fail(f["keys"], "is missing")
		}
		for i := range sec.Keys {
			sec.Keys[i].Optional = sec.Keys[i].Optional || optional
		}
	}
	s.Secrets = append(s.Secrets, sec)
}

func secretKey(r *reader, k entry) (SecretKey, bool) {
	if !k.has() || k.node.Kind != yaml.MappingNode {
		r.fail(k.value, "must be {env: VARIABLE} or {file: PATH}")
		return SecretKey{}, false
	}
	g := r.fields(k.value, "env", "file", "optional")
	key := SecretKey{
		Name: k.name, Env: r.text(g["env"]), File: r.text(g["file"]), Optional: r.truth(g["optional"]), Pos: r.pos(k.value),
	}
	if (key.Env == "") == (key.File == "") {
		r.fail(k.value, "needs one of env and file")
		return SecretKey{}, false
	}
	return key, true
}

func (s *Spec) pods(r *reader, f map[string]value) {
	s.PullPolicy = r.text(f["image-pull-policy"])
	switch s.PullPolicy {
	case "", "Always", "IfNotPresent", "Never":
	default:
		r.fail(f["image-pull-policy"], "must be Always, IfNotPresent or Never, not %s", quoted(s.PullPolicy))
	}
	for _, e := range r.entries(f["image-overrides"]) {
		if s.ImageOverrides == nil {
			s.ImageOverrides = map[string]string{}
		}
		s.ImageOverrides[e.name] = r.need(e.value)
	}
	sec := r.fields(f["security"], "privileged", "capabilities", "unlimited-memlock", "runtime-class")
	s.Security = Security{
		Privileged: r.truth(sec["privileged"]), Capabilities: r.texts(sec["capabilities"]),
		UnlimitedMemlock: r.truth(sec["unlimited-memlock"]), RuntimeClass: r.text(sec["runtime-class"]),
	}
	for _, e := range r.entries(f["annotations"]) {
		s.Annotations = append(s.Annotations, Pair{e.name, r.scalar(e.value)})
	}
	for _, e := range r.entries(f["labels"]) {
		if e.name == "app" {
			r.fail(e.value, "is what pods are selected by; another label, please")
			continue
		}
		s.Labels = append(s.Labels, Pair{e.name, r.scalar(e.value)})
	}
	s.Replicas = r.number(f["replicas"], 1, 0, 1000)
	for _, e := range r.list(f["node-affinities"]) {
		g := r.fields(e, "label", "value")
		s.Affinities = append(s.Affinities, Pair{r.need(g["label"]), r.needScalar(g["value"])})
	}
	for _, e := range r.list(f["node-tolerations"]) {
		g := r.fields(e, "key", "value")
		s.Tolerations = append(s.Tolerations, Toleration{r.need(g["key"]), r.scalar(g["value"])})
	}
	s.Namespace = r.text(f["namespace"])
	if s.Namespace != "" && !label(s.Namespace) {
		r.fail(f["namespace"], "must be lower-case letters, digits and -, at most 63, not %s", quoted(s.Namespace))
	}
	s.KindClusterName = r.text(f["kind-cluster-name"])
	if s.KindClusterName != "" && !regexp.MustCompile(`^[a-z0-9.-]+$`).MatchString(s.KindClusterName) {
		r.fail(f["kind-cluster-name"], "must be lower-case letters, digits, . and -, not %s", quoted(s.KindClusterName))
	}
	s.CaddyImage = r.text(f["caddy-ingress-image"])
	if m := f["maintenance-service"]; m.has() {
		text := r.text(m)
		b, ok := backend(text)
		if !ok && text != "" {
			r.fail(m, "must be CONTAINER:PORT, not %s", quoted(text))
		}
		b.Pos = r.pos(m)
		s.Maintenance = &b
	}
}

func (r *reader) needScalar(v value) string {
	if !v.has() {
		r.fail(v, "is missing")
	}
	return r.scalar(v)
}

func (s *Spec) resources(r *reader, v value) {
	f := r.fields(v, "containers", "volumes")
	// The first level mixes the two sections with the names of containers.
	var global []entry
	for _, e := range r.entries(f["containers"]) {
		switch {
		case e.name == "reservations" || e.name == "limits":
			global = append(global, e)
		case meant(e.name, "reservations", "limits") != "" && hasKey(e.node, "cpus", "memory"):
			r.unknown(e, []string{"reservations", "limits"})
		default:
			if s.ContainerResources == nil {
				s.ContainerResources = map[string]Resources{}
			}
			s.ContainerResources[e.name] = resourcesOf(r, r.sections(e.value))
		}
	}
	s.Resources = resourcesOf(r, global)
	for _, e := range r.entries(f["volumes"]) {
		switch {
		case e.name == "reservations":
			s.VolumeStorage = quantity(r, r.fields(e.value, "storage")["storage"])
		case meant(e.name, "reservations") != "" && hasKey(e.node, "storage"):
			r.unknown(e, []string{"reservations"})
		default:
			if s.VolumeStorages == nil {
				s.VolumeStorages = map[string]Quantity{}
			}
			g := r.fields(e.value, "reservations")
			s.VolumeStorages[e.name] = quantity(r, r.fields(g["reservations"], "storage")["storage"])
		}
	}
}

// sections returns the reservations and limits of one container.
func (r *reader) sections(v value) []entry {
	f := r.fields(v, "reservations", "limits")
	return []entry{{"reservations", f["reservations"]}, {"limits", f["limits"]}}
}

func hasKey(n *yaml.Node, names ...string) bool {
	if n == nil || n.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i < len(n.Content); i += 2 {
		if slices.Contains(names, n.Content[i].Value) {
			return true
		}
	}
	return false
}

func resourcesOf(r *reader, list []entry) Resources {
	var out Resources
	for _, e := range list {
		g := r.fields(e.value, "cpus", "memory")
		cpu, memory := cpus(r, g["cpus"]), quantity(r, g["memory"])
		if e.name == "limits" {
			out.LimitCPU, out.LimitMemory = cpu, memory
		} else {
			out.ReserveCPU, out.ReserveMemory = cpu, memory
		}
	}
	return out
}

func cpus(r *reader, v value) Quantity {
	s := r.text(v)
	if s != "" && !regexp.MustCompile(`^([0-9]+(\.[0-9]*)?|\.[0-9]+)m?$`).MatchString(s) {
		r.fail(v, "must be a number of CPUs such as 2, 0.5 or 500m, not %s", quoted(s))
	}
	return Quantity(s)
}

func quantity(r *reader, v value) Quantity {
	s := r.text(v)
	if s != "" && !regexp.MustCompile(`^(?i)[0-9]+(\.[0-9]+)?\s*([kmgtpe]i?)?b?$`).MatchString(s) {
		r.fail(v, "must be an amount such as 500M or 2Gi, not %s", quoted(s))
	}
	return Quantity(s)
}

func (s *Spec) externals(r *reader, v value) {
	for _, e := range r.entries(v) {
		if !label(e.name) {
			r.fail(e.value, "is no name of a Service")
		}
		f := r.fields(e.value, "host", "ip", "selector", "namespace", "port")
		x := External{
			Name: e.name, Host: r.text(f["host"]), IP: r.text(f["ip"]), Namespace: r.text(f["namespace"]),
			Port: r.number(f["port"], 443, 1, 65535), Pos: r.pos(e.value),
		}
		for _, p := range r.entries(f["selector"]) {
			x.Selector = append(x.Selector, Pair{p.name, r.scalar(p.value)})
		}
		shapes := 0
		for _, has := range []bool{x.Host != "", x.IP != "", len(x.Selector) > 0} {
			if has {
				shapes++
			}
		}
		switch {
		case shapes != 1:
			r.fail(e.value, "needs one of host, ip and selector")
		case x.Host != "" && !hostName(x.Host):
			r.fail(f["host"], "is no host name: %s", quoted(x.Host))
		case len(x.Selector) > 0 && x.Namespace == "":
			r.fail(f["namespace"], "is missing: a selector needs it")
		case len(x.Selector) == 0 && x.Namespace != "":
			r.fail(f["namespace"], "belongs to a selector")
		}
		if x.IP != "" {
			if _, err := netip.ParseAddr(x.IP); err != nil {
				r.fail(f["ip"], "is no address: %s", quoted(x.IP))
			}
		}
		s.Externals = append(s.Externals, x)
	}
}

// label says whether s is a DNS label.
func label(s string) bool {
	return len(s) <= 63 && regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`).MatchString(s)
}

// subdomain says whether s is a name most Kubernetes objects can have.
func subdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if !label(part) {
			return false
		}
	}
	return true
}

// hostName says whether s can be the host of a rule, wildcards too.
func hostName(s string) bool { return subdomain(strings.TrimPrefix(s, "*.")) }

package file

// Target is where a stack runs: the value of deploy-to.
type Target string

// The targets.
const (
	Compose Target = "compose"
	K8s     Target = "k8s"
	Kind    Target = "k8s-kind"
)

// Level says how much a notice matters.
type Level string

// The levels. Changed and Ignored are refused under --strict.
const (
	Info    Level = "info"    // nothing is lost
	Changed Level = "changed" // it has another effect here
	Ignored Level = "ignored" // it has no effect here
	Warning Level = "warning" // it works, and may hurt later; refused by nothing
)

// Notice is one thing a person wrote that has no, or another, effect here, or
// that deserves a warning.
type Notice struct {
	Code    string `json:"code"` // a stable word: "port-host-ignored"
	Level   Level  `json:"level"`
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // 1-based; 0: unknown
	Service string `json:"service,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"` // one sentence
}

// Rules is the generation of render rules a deployment directory follows.
type Rules int

// The rules. A deployment.yml without "render" follows V1.
const (
	V1 Rules = 1 // what laconic-so gave
	V2 Rules = 2
)

// Pos is a place in a file.
type Pos struct {
	File string
	Line int // 1-based; 0: unknown
}

// Stack is a stack.yml.
type Stack struct {
	Dir         string // the directory that holds stack.yml, absolute
	Root        string // Dir's ROOT: Dir is ROOT/stacks/NAME; "" when it is not
	Name        string // the basename of the reference, not the file's name key
	Version     string
	Description string
	Pods        []Pod
	Jobs        []string
	Containers  []string   // images to load into kind
	Exchange    []Exchange // in the order of the file
}

// Exchange is one entry of config: a value that one container has is handed to
// another one after a start.
type Exchange struct {
	Container, Variable string // that takes it
	From, Source        string // container and variable that have it
	Pos                 Pos
}

// Pod is one entry of pods: one compose file.
type Pod struct {
	Name       string
	Repository string // "" for a plain string or an internal one
	Path       string
	PreStart   string // pre_start_command
	PostStart  string // post_start_command
}

// Setting is one NAME=value in the order of the file.
type Setting struct {
	Name  string
	Value string // the scalar as written, unquoted
	Kind  ScalarKind
	Pos   Pos
}

// ScalarKind is the YAML type of a setting's value, which V1 writes in its own way.
type ScalarKind string

// The kinds of scalars.
const (
	String ScalarKind = "string"
	Bool   ScalarKind = "bool"
	Number ScalarKind = "number"
	Null   ScalarKind = "null"
)

// Generated is a $generate:FORM:N$ value: a secret that is made once.
type Generated struct {
	Name string
	Form string // "hex" or "base64"
	N    int    // bytes
}

// Volume is one entry of volumes.
type Volume struct {
	Name string
	Path string // "" for none; as written
	Pos  Pos
}

// ConfigMap is one entry of configmaps.
type ConfigMap struct {
	Name string
	Path string
	Pos  Pos
}

// Route is one path of a proxied host.
type Route struct {
	Path      string
	Container string
	Port      int
	Pos       Pos
}

// Proxy is one host of http-proxy.
type Proxy struct {
	Host   string
	Routes []Route
	Pos    Pos
}

// NodePorts says which ports get a NodePort Service.
type NodePorts string

// The choices of network.node-ports.
const (
	NodePortsDefault  NodePorts = "" // all under V1, explicit under V2
	NodePortsAll      NodePorts = "all"
	NodePortsExplicit NodePorts = "explicit"
	NodePortsNone     NodePorts = "none"
)

// Registry is registry-credentials or image-pull-secret.
type Registry struct {
	Server    string
	Username  string
	TokenEnv  string
	TokenFile string
	Pos       Pos
}

// SecretKey is one key of a secret that is made from the environment or a file.
type SecretKey struct {
	Name     string
	Env      string
	File     string
	Optional bool
	Pos      Pos
}

// Secret is one entry of secrets: a reference to an existing one (Refs, or
// neither), or one to be made (Keys).
type Secret struct {
	Name string
	Refs []string
	Keys []SecretKey
	Pos  Pos
}

// Quantity is an amount as written ("2", "0.5", "5Gi").
type Quantity string

// Resources is what one container reserves and may use.
type Resources struct {
	ReserveCPU, ReserveMemory Quantity
	LimitCPU, LimitMemory     Quantity
}

// Security is the security section.
type Security struct {
	Privileged       bool
	Capabilities     []string
	UnlimitedMemlock bool
	RuntimeClass     string
}

// Pair is a key and a value in the order of the file.
type Pair struct{ Key, Value string }

// Toleration is one entry of node-tolerations.
type Toleration struct{ Key, Value string }

// External is one entry of external-services: Host, or IP, or Selector.
type External struct {
	Name      string
	Host, IP  string
	Selector  []Pair
	Namespace string
	Port      int // 443 when the file names none
	Pos       Pos
}

// Backend is "container:port".
type Backend struct {
	Container string
	Port      int
	Pos       Pos
}

// Spec is a spec.yml: where and how a stack runs.
type Spec struct {
	File   string // where it was read from
	Raw    []byte // byte for byte
	Stack  string
	Target Target // "" when the file has none: compose in an old directory

	KubeConfig    string
	ImageRegistry string

	Config           []Setting // without the generated ones
	Generated        []Generated
	CredentialsFiles []string

	Ports     map[string][]string // service -> port strings; nil: not given
	Proxies   []Proxy
	ACMEEmail string
	NodePorts NodePorts

	Volumes    []Volume
	ConfigMaps []ConfigMap

	RegistryCredentials *Registry
	ImagePullSecret     *Registry
	Secrets             []Secret
	HasSecrets          bool // the key stands in the file, even if empty

	PullPolicy     string            // "" means the target's default
	ImageOverrides map[string]string // container -> image

	Resources          Resources            // of every container
	ContainerResources map[string]Resources // by container
	VolumeStorage      Quantity             // of every volume
	VolumeStorages     map[string]Quantity  // by volume

	Security    Security
	Annotations []Pair // {name} in a key stands for each service
	Labels      []Pair
	Replicas    int // 1 when the file has none

	Affinities  []Pair // label, value
	Tolerations []Toleration

	Namespace       string // "" means the default, see Spec.NamespaceFor
	KindClusterName string
	KindMountRoot   string
	CaddyImage      string
	Maintenance     *Backend
	Externals       []External
	CAs             []string

	lines map[string]int // "network.http-proxy" -> line
}

// Deployment is a deployment.yml.
type Deployment struct {
	ClusterID   string
	ID          string // deployment-id, else ClusterID
	FallbackID  bool   // the file has no deployment-id
	StackSource string
	SpecSource  string
	Rules       Rules
	CreatedBy   string
}

// Directory is a deployment directory, read and judged whole. It is the input
// of a render.
type Directory struct {
	Path       string // absolute, links resolved
	Spec       *Spec
	Deployment Deployment
	Stack      *Stack            // of D/stack.yml; Dir and Root are of the source, if known
	Pods       []Source          // in the stack's order
	Jobs       []Source          // in the stack's order
	Env        []EnvVar          // config.env, parsed, in order
	Hashes     map[string]string // of generated files, as recorded; nil: none recorded
}

// Source is one compose file of a directory.
type Source struct {
	Name string // POD or JOB: without docker-compose- and extension
	Path string // absolute
	Raw  []byte
}

// EnvVar is one variable of config.env.
type EnvVar struct {
	Name, Value string
	Credential  bool // it came from a credentials file
}

// Namespace returns the namespace of the directory: the spec's, else
// laconic-STACK.
func (d *Directory) Namespace() string { return d.Spec.NamespaceFor(d.Stack.Name) }

// Cluster returns the name of the kind cluster: kind-cluster-name, else
// cluster-id.
func (d *Directory) Cluster() string {
	if d.Spec.KindClusterName != "" {
		return d.Spec.KindClusterName
	}
	return d.Deployment.ClusterID
}

// NamespaceFor returns the namespace for a stack of that name.
func (s *Spec) NamespaceFor(stack string) string {
	if s.Namespace != "" {
		return s.Namespace
	}
	return "laconic-" + dnsName(stack)
}

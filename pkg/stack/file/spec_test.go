package file

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const base = "stack: shop\ndeploy-to: k8s-kind\n"

func TestParseSpec(t *testing.T) {
	t.Parallel()
	type m = map[string]string
	for _, c := range []struct {
		name, text string // after base, unless it begins with "stack:"
		want       func(*Spec)
		notice     string // a part of the only notice
	}{
		{name: "least", want: func(*Spec) {}},
		{name: "no target", text: "stack: ./a\n", want: func(s *Spec) { s.Stack, s.Target = "./a", "" }},
		{
			name: "k8s", text: "stack: a\ndeploy-to: k8s\nkube-config: ~/k\nimage-registry: reg.lan/x\n",
			want: func(s *Spec) {
				s.Stack, s.Target, s.KubeConfig, s.ImageRegistry = "a", K8s, "~/k", "reg.lan/x"
			},
		},
		{name: "nulls", text: "config:\nnetwork:\nvolumes: ~\nsecrets: null\nlabels:\nkube-config:\n", want: func(s *Spec) { s.HasSecrets = true }},
		{
			name: "config", text: "config: {A: yes, B: true, C: 1.10, D: , E: '$x', F: $generate:hex:8$, G: \"$generate:base64:16$\", H: $generate:word:4$}\n",
			want: func(s *Spec) {
				s.Config = []Setting{
					{Name: "A", Value: "yes", Kind: String},
					{Name: "B", Value: "true", Kind: Bool},
					{Name: "C", Value: "1.10", Kind: Number},
					{Name: "D", Kind: Null},
					{Name: "E", Value: "$x", Kind: String},
				}
				s.Generated = []Generated{{"F", "hex", 8}, {"G", "base64", 16}, {"H", "hex", 4}}
			},
		},
		{name: "credentials", text: "credentials-files: [~/a.env, b]\n", want: func(s *Spec) { s.CredentialsFiles = []string{"~/a.env", "b"} }},
		{
			name: "network", text: `network:
  ports: {web: ['80', 443, "127.0.0.1:1:2"], db: }
  http-proxy:
    - host-name: shop.lan
      routes: [{path: /, proxy-to: "web:80"}]
  acme-email: a@b
  node-ports: explicit
`,
			want: func(s *Spec) {
				s.Ports = map[string][]string{"web": {"80", "443", "127.0.0.1:1:2"}, "db": {}}
				s.Proxies = []Proxy{{Host: "shop.lan", Routes: []Route{{Path: "/", Container: "web", Port: 80}}}}
				s.ACMEEmail, s.NodePorts = "a@b", NodePortsExplicit
			},
		},
		{
			name: "storage", text: "volumes: {a: , b: ./data/b, c: /srv/c}\nconfigmaps: {d: , e: ./configmaps/e}\nkind-mount-root: /srv\n",
			want: func(s *Spec) {
				s.Volumes = []Volume{{Name: "a"}, {Name: "b", Path: "./data/b"}, {Name: "c", Path: "/srv/c"}}
				s.ConfigMaps = []ConfigMap{{Name: "d"}, {Name: "e", Path: "./configmaps/e"}}
				s.KindMountRoot = "/srv"
			},
		},
		{
			name: "registries", text: "registry-credentials: &r {server: ghcr.io, username: me, token-env: TOKEN}\nimage-pull-secret: *r\n",
			want: func(s *Spec) {
				s.RegistryCredentials = &Registry{Server: "ghcr.io", Username: "me", TokenEnv: "TOKEN"}
				s.ImagePullSecret = s.RegistryCredentials
			},
		},
		{
			name: "secrets", text: `secrets:
  one:
  two: [A, B]
  three: {keys: {C: {env: X}, D: {file: ~/d, optional: true}}}
  four: {keys: {E: {env: Y}, optional: true}}
`,
			want: func(s *Spec) {
				s.HasSecrets = true
				s.Secrets = []Secret{
					{Name: "one"},
					{Name: "two", Refs: []string{"A", "B"}},
					{Name: "three", Keys: []SecretKey{{Name: "C", Env: "X"}, {Name: "D", File: "~/d", Optional: true}}},
					{Name: "four", Keys: []SecretKey{{Name: "E", Env: "Y", Optional: true}}},
				}
			},
		},
		{
			name: "pods", text: `image-pull-policy: Never
image-overrides: {web: 'a:b'}
security: {privileged: true, capabilities: [NET_ADMIN], unlimited-memlock: True, runtime-class: kata}
annotations: {"x/{name}": 1, b: true}
labels: {l: v}
replicas: 3
node-affinities: [{label: a, value: b}]
node-tolerations: [{key: k, value: true}]
namespace: shop
kind-cluster-name: lab
caddy-ingress-image: caddy:1
maintenance-service: web:80
ca-certificates: [~/ca.pem]
`,
			want: func(s *Spec) {
				s.PullPolicy, s.ImageOverrides = "Never", m{"web": "a:b"}
				s.Security = Security{Privileged: true, Capabilities: []string{"NET_ADMIN"}, UnlimitedMemlock: true, RuntimeClass: "kata"}
				s.Annotations, s.Labels = []Pair{{"x/{name}", "1"}, {"b", "true"}}, []Pair{{"l", "v"}}
				s.Replicas, s.Affinities, s.Tolerations = 3, []Pair{{"a", "b"}}, []Toleration{{"k", "true"}}
				s.Namespace, s.KindClusterName, s.CaddyImage = "shop", "lab", "caddy:1"
				s.Maintenance, s.CAs = &Backend{Container: "web", Port: 80}, []string{"~/ca.pem"}
			},
		},
		{
			name: "resources", text: `resources:
  containers:
    reservations: {cpus: '0.5', memory: 1Gi}
    limits: {cpus: 2, memory: 512M}
    web: {limits: {cpus: 500m}}
  volumes:
    reservations: {storage: 2Gi}
    data: {reservations: {storage: 10G}}
`,
			want: func(s *Spec) {
				s.Resources = Resources{"0.5", "1Gi", "2", "512M"}
				s.ContainerResources = map[string]Resources{"web": {LimitCPU: "500m"}}
				s.VolumeStorage, s.VolumeStorages = "2Gi", map[string]Quantity{"data": "10G"}
			},
		},
		{
			name: "externals", text: "external-services: {a: {host: x.lan}, b: {ip: 10.0.0.1, port: 80}, c: {selector: {app: c}, namespace: n}}\n",
			want: func(s *Spec) {
				s.Externals = []External{
					{Name: "a", Host: "x.lan", Port: 443},
					{Name: "b", IP: "10.0.0.1", Port: 80},
					{Name: "c", Selector: []Pair{{"app", "c"}}, Namespace: "n", Port: 443},
				}
			},
		},
		{name: "merge key", text: "network: {<<: {acme-email: a@b, node-ports: all}, node-ports: none}\n", want: func(s *Spec) { s.ACMEEmail, s.NodePorts = "a@b", NodePortsNone }},
		{name: "unknown", text: "colour: blue\n", want: func(*Spec) {}, notice: `"colour" is no known key`},
		{name: "unknown below", text: "security: {sandbox: blue}\n", want: func(*Spec) {}, notice: `"security.sandbox" is no known key`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := c.text
			if !strings.HasPrefix(text, "stack:") {
				text = base + text
			}
			want := &Spec{Stack: "shop", Target: Kind, Replicas: 1}
			c.want(want)
			got, notices, err := ParseSpec("spec.yml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			opts := cmp.Options{cmpopts.IgnoreTypes(Pos{}), cmpopts.IgnoreFields(Spec{}, "File", "Raw"), cmpopts.IgnoreUnexported(Spec{})}
			if d := cmp.Diff(want, got, opts); d != "" {
				t.Error(d)
			}
			if c.notice == "" != (len(notices) == 0) || c.notice != "" && (len(notices) != 1 || !strings.Contains(notices[0].Message, c.notice) || notices[0].Line != 3) {
				t.Errorf("notices %+v", notices)
			}
		})
	}
}

func TestParseSpecRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string // after base, unless it begins with "stack:" or "!"
		want string
	}{
		{"!deploy-to: k8s\nkube-config: k\n", "spec.yml:1: stack is missing"},
		{"stack: a\ndeploy-to: nomad\n", `spec.yml:2: deploy-to must be compose, k8s or k8s-kind, not "nomad"`},
		{"stack: a\ndeploy-to: k8s\n", "spec.yml:2: kube-config is missing"},
		{"kube-config: x\n", "spec.yml:3: kube-config is for deploy-to k8s only"},
		{"image-registry: https://x\n", "spec.yml:3: image-registry must be HOST"},
		{"stack: a\nstack: b\n", "spec.yml:2: stack is already set in line 1"},
		{"config: {A: 1, A: 2}\n", "spec.yml:3: config.A is already set in line 3"},
		{"volume: {a: }\n", "spec.yml:3: volume is no known key; did you mean volumes?"},
		{"network: {acme-mail: x}\n", "spec.yml:3: network.acme-mail is no known key; did you mean acme-email?"},
		{"security: {priviledged: true}\n", "did you mean privileged?"},
		{"security: {privileged: yes}\n", `security.privileged must be true or false, not the string "yes"`},
		{"replicas: many\n", "replicas must be a whole number"},
		{"replicas: -1\n", "replicas must be 0 to 1000"},
		{"replicas: [1]\n", "replicas must be a single value, not a list"},
		{"namespace: true\n", "namespace must be a string, not true or false"},
		{"namespace: A_b\n", "namespace must be lower-case"},
		{"namespace: [a]\n", "namespace must be a string, not a list"},
		{"kind-cluster-name: a/b\n", "kind-cluster-name must be"},
		{"kind-mount-root: ./x\n", "kind-mount-root must be an absolute path"},
		{"kind-mount-root: /\n", "kind-mount-root must be a directory of its own"},
		{"config: {A: {b: c}}\n", "config.A must be a single value, not a mapping"},
		{"config: {1A: b}\n", "config.1A is no name of an environment variable"},
		{"config: {A: $generate:hex:0$}\n", "config.A is"},
		{"config: {A: $generate:hex$}\n", "it must be $generate:hex:N$"},
		{"config: [A]\n", "config must be a mapping, not a list"},
		{"credentials-files: a\n", "credentials-files must be a list, not the string"},
		{"network: {ports: {web: 80}}\n", "network.ports.web must be a list, not the number 80"},
		{"network: {ports: {web: [a b]}}\n", "network.ports.web[0] must be a port"},
		{"network: {node-ports: some}\n", "network.node-ports must be all, explicit or none"},
		{"network: {http-proxy: [{routes: [{path: /, proxy-to: 'a:1'}]}]}\n", "network.http-proxy[0].host-name is missing"},
		{"network: {http-proxy: [{host-name: a.lan}]}\n", "network.http-proxy[0].routes is missing"},
		{"network: {http-proxy: [{host-name: a.lan, routes: []}]}\n", "network.http-proxy[0].routes is missing"},
		{"network: {http-proxy: [{host-name: a.lan, routes: [{proxy-to: 'a:1'}]}]}\n", "routes[0].path is missing"},
		{"network: {http-proxy: [{host-name: a.lan, routes: [{path: x, proxy-to: 'a:1'}]}]}\n", "routes[0].path must begin with /"},
		{"network: {http-proxy: [{host-name: a.lan, routes: [{path: /}]}]}\n", "routes[0].proxy-to is missing"},
		{"network: {http-proxy: [{host-name: a.lan, routes: [{path: /, proxy-to: 'http://a:1'}]}]}\n", "proxy-to must be CONTAINER:PORT"},
		{"network: {http-proxy: [{host-name: a.lan, routes: [{path: /, proxy-to: 'a:70000'}]}]}\n", "proxy-to must be CONTAINER:PORT"},
		{"network: {http-proxy: [{host-name: a.lan, routes: [{path: /, proxy-to: 'a:1', websocket: true}]}]}\n", "routes[0].websocket is not supported yet"},
		{"network: {http-proxy: [{host-name: A_lan, routes: [{path: /, proxy-to: 'a:1'}]}]}\n", "is no host name"},
		{"network:\n  http-proxy:\n    -\n", "network.http-proxy[0] is empty"},
		{"volumes: {a: {path: /x}}\n", "volumes.a is a mapping, which is not supported yet"},
		{"volumes: {a: }\nconfigmaps: {a: }\n", "configmaps.a is among volumes too, in line 3"},
		{"registry-credentials: {server: a, username: b}\n", "registry-credentials needs token-env or token-file"},
		{"registry-credentials: {username: b, token-env: T}\n", "registry-credentials.server is missing"},
		{"registry-credentials: {server: s, username: b, token-env: ghp-1$}\n", "write the variable, not the token"},
		{"registry-credentials: {server: s, username: b, token-env: T}\nimage-pull-secret: {server: s, username: c, token-env: T}\n", "image-pull-secret differs"},
		{"secrets: {a: {keys: {K: {env: A, file: b}}}}\n", "secrets.a.keys.K needs one of env and file"},
		{"secrets: {a: {keys: {K: }}}\n", "secrets.a.keys.K must be {env: VARIABLE}"},
		{"secrets: {a: {}}\n", "secrets.a.keys is missing"},
		{"secrets: {a: b}\n", "secrets.a must be a list of keys"},
		{"secrets: {A: }\n", "secrets.A is no name of a Secret"},
		{"image-pull-policy: Sometimes\n", "image-pull-policy must be"},
		{"image-overrides: {web: }\n", "image-overrides.web is missing"},
		{"labels: {app: x}\n", "labels.app is what pods are selected by"},
		{"node-affinities: [{label: a}]\n", "node-affinities[0].value is missing"},
		{"node-tolerations: [{value: a}]\n", "node-tolerations[0].key is missing"},
		{"maintenance-service: web\n", "maintenance-service must be CONTAINER:PORT"},
		{"resources: {containers: {limts: {cpus: 1}}}\n", "did you mean limits?"},
		{"resources: {containers: {limits: {cpus: two}}}\n", "cpus must be a number of CPUs"},
		{"resources: {containers: {limits: {memory: much}}}\n", "memory must be an amount"},
		{"resources: {volumes: {reservation: {storage: 1Gi}}}\n", "did you mean reservations?"},
		{"external-services: {a: {host: x, ip: 10.0.0.1}}\n", "external-services.a needs one of host, ip and selector"},
		{"external-services: {a: }\n", "external-services.a needs one of"},
		{"external-services: {a: {ip: ten}}\n", "external-services.a.ip is no address"},
		{"external-services: {a: {selector: {b: c}}}\n", "external-services.a.namespace is missing"},
		{"external-services: {a: {host: x, port: 0}}\n", "external-services.a.port must be 1 to 65535"},
		{"external-services: {A_: {host: x}}\n", "is no name of a Service"},
		{"a: [\n", "is not valid YAML"},
		{"---\nb: c\n", "is a second document"},
		{"!- a\n", "must be a mapping, not a list"},
		{"!" + base + "x: \x00\n", "has a zero byte"},
	} {
		text, raw := strings.CutPrefix(c.text, "!")
		if !raw && !strings.HasPrefix(text, "stack:") {
			text = base + text
		}
		_, _, err := ParseSpec("spec.yml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

// All mistakes are told at once, each with its line.
func TestProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := ParseSpec("spec.yml", []byte("deploy-to: k8s\nreplicas: x\nnamespace: A\nvolumes: {a: {}}\n"))
	var lines []int
	for _, p := range AsProblems(err) {
		lines = append(lines, p.Line)
	}
	slices.Sort(lines)
	if !slices.Equal(lines, []int{1, 1, 2, 3, 4}) {
		t.Errorf("lines %v: %v", lines, err)
	}
	if f := (&Problems{List: AsProblems(err)}).Fault("next"); f.Kind != "usage" || !strings.HasPrefix(f.What, "spec.yml has 5 problems") || f.Next != "next" {
		t.Errorf("%+v", f)
	}
}

func TestParseStack(t *testing.T) {
	t.Parallel()
	s, notices, err := ParseStack("stack.yml", []byte(`version: "1"
name: other
description: A shop
repos: [github.com/a/b]
npms:
containers: [acme/web]
pods:
  - web
  - {name: db, repository: internal}
  - {name: far, repository: github.com/a/b, path: deploy}
jobs: [tidy, {name: seed}]
`))
	if err != nil || len(notices) != 0 {
		t.Fatal(err, notices)
	}
	want := []Pod{{Name: "web"}, {Name: "db"}, {Name: "far", Repository: "github.com/a/b", Path: "deploy"}}
	if !slices.Equal(s.Pods, want) || !slices.Equal(s.Jobs, []string{"tidy", "seed"}) || !slices.Equal(s.Containers, []string{"acme/web"}) {
		t.Errorf("%+v", s)
	}
	if err := Unsupported(s); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"pods: [a, a]\n":               "pods[1] names a a second time",
		"pods: [../a]\n":               "pods[0] must be letters",
		"pods: [{path: a}]\n":          "pods[0].name is missing",
		"jobs: [[a]]\n":                "jobs[0] must be a string",
		"pod: [a]\n":                   "did you mean pods?",
		"config: {a: {B: c}}\n":        "config.a.B must be CONTAINER.VARIABLE",
		"pods: [{nam: a, name: b}]\n":  "did you mean name?",
		"pods: {a: b}\n":               "pods must be a list",
		"containers: [{a: b}]\n":       "containers[0] must be a string",
		"pods: [a]\npods: [b]\n":       "stack.yml:2: pods is already set in line 1",
		"pods: [{name: a, name: b}]\n": "is already set",
	} {
		if _, _, err := ParseStack("stack.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %s", text, err, want)
		}
	}
	// What asks for more than there is names its key.
	for text, want := range map[string]string{
		"pods: [{name: a, pre_start_command: x.sh}]\n":  "stack.yml:1: pods[0].pre_start_command is not supported yet",
		"pods: [{name: a, post_start_command: x.sh}]\n": "pods[0].post_start_command is not supported yet",
		"config: {a: {B: c.D}}\n":                       "config is not supported yet",
	} {
		s, _, err := ParseStack("stack.yml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := Unsupported(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{
		base, base + "config: {A: 1}\nnetwork: {ports: {a: ['80']}}\n", "a: &a [*a]\n", "stack: !!binary x\n", "<<: {<<: {stack: a}}\n",
		base + "resources: {containers: {a: {limits: {cpus: 1}}}}\n", "? [a]\n: b\n", base + "secrets: {a: {keys: {B: {env: C}}}}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := ParseSpec("spec.yml", data)
		if err != nil {
			if len(AsProblems(err)) == 0 || err.Error() == "" {
				t.Fatalf("an error without a problem: %v", err)
			}
			return
		}
		if s.Stack == "" {
			t.Fatal("a spec without a stack")
		}
		if _, err := MarshalEnv(s, V2, nil); err != nil && len(AsProblems(err)) == 0 {
			t.Fatal(err)
		}
	})
}

package render

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/internal/golden"
	"homelab/pkg/stack/file"
)

const (
	webFile = "services: {web: {image: web}, side: {image: side}}\n"
	apiFile = "services: {api: {image: api}}\n"
)

// serviceLines writes the Services of a render: NAME TYPE PORTS SELECTOR.
func serviceLines(t *testing.T, r *renderer) []string {
	t.Helper()
	lines := []string{}
	for _, o := range r.result.Objects {
		if o.GetKind() != "Service" {
			continue
		}
		spec, _, _ := unstructured.NestedMap(o.Object, "spec")
		line := o.GetName() + " " + fmt.Sprint(spec["type"])
		if spec["clusterIP"] == "None" {
			line += " headless"
		}
		ports, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
		for _, p := range ports {
			p, ok := p.(map[string]any)
			if !ok {
				t.Fatalf("a port is %v", p)
			}
			line += fmt.Sprintf(" %v/%v", p["port"], p["protocol"])
			if p["name"] != nil {
				line += fmt.Sprintf("=%v", p["name"])
			}
			if p["nodePort"] != nil {
				line += fmt.Sprintf("@%v", p["nodePort"])
			}
			if p["targetPort"] != p["port"] {
				line += fmt.Sprintf("->%v", p["targetPort"])
			}
		}
		selector, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector")
		for _, k := range slices.Sorted(maps.Keys(selector)) {
			line += " " + k + "=" + selector[k]
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func TestServices(t *testing.T) {
	t.Run("one pod", func(t *testing.T) {
		s := newScene(t, webFile).route("a.example", "/", "web", 8080).route("b.example", "/", "side", 80).route("c.example", "/x", "web", 8080)
		s.d.Spec.Maintenance = &file.Backend{Container: "side", Port: 81}
		if diff := cmp.Diff([]string{"laconic-1-service ClusterIP 80/TCP=port-80 81/TCP=port-81 8080/TCP=port-8080 app=laconic-1"}, serviceLines(t, s.good())); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("several pods", func(t *testing.T) {
		s := newScene(t, webFile, apiFile).route("a.example", "/", "web", 80).route("a.example", "/api", "api", 80)
		s.d.Deployment.Rules = file.V1
		if diff := cmp.Diff([]string{
			"laconic-1-one-service ClusterIP 80/TCP=port-80 app=laconic-1 app.kubernetes.io/component=one",
			"laconic-1-two-service ClusterIP 80/TCP=port-80 app=laconic-1 app.kubernetes.io/component=two",
		}, serviceLines(t, s.good())); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a name with an underscore", func(t *testing.T) {
		s := newScene(t, "services: {my_web: {image: web}}\n").route("a.example", "/", "my_web", 80).route("b.example", "/", "my-web", 81)
		if diff := cmp.Diff([]string{"laconic-1-service ClusterIP 80/TCP=port-80 81/TCP=port-81 app=laconic-1"}, serviceLines(t, s.good())); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("nothing routed", func(t *testing.T) {
		if got := serviceLines(t, newScene(t, webFile).good()); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
	t.Run("no such container", func(t *testing.T) {
		newScene(t, webFile).route("a.example", "/x", "wep", 80).refused("network.http-proxy", "/x of a.example", "wep", "web, side")
	})
	t.Run("a job is no container", func(t *testing.T) {
		s := newScene(t, webFile).route("a.example", "/", "seed", 80)
		s.job("seed", "services: {seed: {image: seed}}")
		s.d.Deployment.Rules = file.V1
		s.refused("container seed")
	})
	t.Run("no such maintenance", func(t *testing.T) {
		s := newScene(t, webFile)
		s.d.Spec.Maintenance = &file.Backend{Container: "oops", Port: 80}
		s.refused("maintenance-service", "oops")
	})
	t.Run("a name too long", func(t *testing.T) {
		s := newScene(t, webFile).route("a.example", "/", "web", 80)
		s.d.Deployment.ID = strings.Repeat("x", 60)
		s.refused("cannot name a Service")
	})
}

// TestNodePorts is every form of a port under every choice.
func TestNodePorts(t *testing.T) {
	const all, explicit, none, standard = file.NodePortsAll, file.NodePortsExplicit, file.NodePortsNone, file.NodePortsDefault
	for name, c := range map[string]struct {
		mode  file.NodePorts
		rules file.Rules
		ports []string // of each pod
		want  []string // without "laconic-1-nodeport-" and the selector
		told  []string
	}{
		"all, plain":                {all, file.V2, []string{"'80', '53/udp'"}, []string{"53-udp 53/UDP", "80-tcp 80/TCP"}, nil},
		"all by V1":                 {standard, file.V1, []string{"'80'"}, []string{"80-tcp 80/TCP"}, nil},
		"explicit by V2":            {standard, file.V2, []string{"'80'"}, nil, nil},
		"explicit, in range":        {explicit, file.V2, []string{"'30000:80', '32767:81'"}, []string{"80-tcp 80/TCP@30000", "81-tcp 81/TCP@32767"}, nil},
		"explicit, out of range":    {explicit, file.V2, []string{"'29999:80', '32768:81'"}, nil, []string{"port-host-ignored ignored", "port-host-ignored ignored"}},
		"explicit by V1":            {explicit, file.V1, []string{"'80', '30001:81'"}, []string{"81-tcp 81/TCP@30001"}, nil},
		"all, in range":             {all, file.V2, []string{"'30080:80'"}, []string{"80-tcp 80/TCP@30080"}, nil},
		"all, out of range":         {all, file.V2, []string{"'8080:80'"}, []string{"80-tcp 80/TCP"}, []string{"port-host-ignored changed"}},
		"none":                      {none, file.V2, []string{"'30080:80', '127.0.0.1:30081:81'"}, nil, nil},
		"an address, all":           {all, file.V2, []string{"'127.0.0.1:30080:80', '0.0.0.0:30081:81', '[::1]:30082:82'"}, nil, []string{"port-address-ignored ignored", "port-address-ignored ignored", "port-address-ignored ignored"}},
		"an address, explicit":      {explicit, file.V2, []string{"'127.0.0.1:30080:80'"}, nil, []string{"port-address-ignored ignored"}},
		"an address without a port": {explicit, file.V2, []string{"'127.0.0.1::80'"}, nil, []string{"port-address-ignored ignored"}},
		"ranges":                    {all, file.V2, []string{"'80-82'"}, []string{"80-tcp 80/TCP", "81-tcp 81/TCP", "82-tcp 82/TCP"}, nil},
		"ranges of both":            {explicit, file.V2, []string{"'30080-30081:80-81'"}, []string{"80-tcp 80/TCP@30080", "81-tcp 81/TCP@30081"}, nil},
		"a range for one port":      {explicit, file.V2, []string{"'30080-30090:80'"}, nil, []string{"port-host-ignored ignored"}},
		"long form":                 {explicit, file.V2, []string{"{target: 80, published: '30080', protocol: udp}"}, []string{"80-udp 80/UDP@30080"}, nil},
		"the same twice":            {all, file.V2, []string{"'80', '80/tcp'"}, []string{"80-tcp 80/TCP"}, nil},
		"the same, once with where": {all, file.V2, []string{"'80', '30080:80'"}, []string{"80-tcp 80/TCP@30080"}, nil},
		"the same at two places":    {explicit, file.V2, []string{"'30080:80', '30081:80'"}, []string{"80-tcp 80/TCP@30080"}, []string{"node-port-taken ignored"}},
		"both protocols":            {all, file.V2, []string{"'53', '53/udp'"}, []string{"53-tcp 53/TCP", "53-udp 53/UDP"}, nil},
		"one port of two pods":      {all, file.V1, []string{"'80'", "'80'"}, []string{"80-tcp 80/TCP component=one"}, []string{"node-port-taken ignored"}},
		"one port of two pods, where": {
			explicit, file.V2,
			[]string{"'30080:80'", "'30081:80', '30082:82'"},
			[]string{"80-tcp 80/TCP@30080 component=one", "82-tcp 82/TCP@30082 component=two"},
			[]string{"node-port-taken ignored"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var pods []string
			for i, p := range c.ports {
				pods = append(pods, fmt.Sprintf("services: {s%d: {image: x, ports: [%s]}}\n", i, p))
			}
			s := newScene(t, pods...)
			s.d.Spec.NodePorts, s.d.Deployment.Rules = c.mode, c.rules
			r := s.good()
			var got []string
			for _, l := range serviceLines(t, r) {
				if l, ok := strings.CutPrefix(l, "laconic-1-nodeport-"); ok {
					l = strings.ReplaceAll(l, "app.kubernetes.io/", "")
					got = append(got, strings.Replace(strings.Replace(l, " NodePort", "", 1), " app=laconic-1", "", 1))
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			var codes []string
			for _, line := range told(r) {
				if strings.HasPrefix(line, "port-") || strings.HasPrefix(line, "node-port") {
					codes = append(codes, line)
				}
			}
			if diff := cmp.Diff(c.told, codes); diff != "" {
				t.Error(diff)
			}
			for _, n := range r.c.notices {
				if strings.HasPrefix(n.Code, "port-") && (!strings.Contains(n.Message, "http-proxy") || !strings.Contains(n.Message, "--forward") || n.Line == 0) {
					t.Errorf("%+v", n)
				}
			}
		})
	}
	newScene(t, "services: {dns: {image: x, ports: ['30053:53', '30053:53/udp']}}\n").refused("ports", "30053", "53/tcp of dns")
}

func TestComposeNames(t *testing.T) {
	const aliased = "services: {db: {image: db, networks: {default: {aliases: [postgres, db, api, db.local]}}}, init: {image: i, labels: {laconic.init-container: 'true'}}}\n"
	t.Run("V2", func(t *testing.T) {
		s := newScene(t, aliased, apiFile)
		r := s.good()
		one := " app=laconic-1 app.kubernetes.io/component=one"
		if diff := cmp.Diff([]string{"api ClusterIP headless" + one, "db ClusterIP headless" + one, "postgres ClusterIP headless" + one}, serviceLines(t, r)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"alias-unknown changed", "name-taken changed"}, told(r)); diff != "" {
			t.Error(diff)
		}
		if v, _, _ := unstructured.NestedBool(find(t, r, "Service", "db").Object, "spec", "publishNotReadyAddresses"); !v {
			t.Error("services that wait for each other would never find each other")
		}
	})
	t.Run("V1", func(t *testing.T) {
		s := newScene(t, webFile, apiFile)
		s.d.Deployment.Rules = file.V1
		if got := serviceLines(t, s.good()); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
	t.Run("one pod", func(t *testing.T) {
		if got := serviceLines(t, newScene(t, webFile).good()); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
	t.Run("a pod and a job", func(t *testing.T) {
		s := newScene(t, apiFile)
		s.job("seed", "services: {seed: {image: seed}}")
		if diff := cmp.Diff([]string{"api ClusterIP headless app=laconic-1"}, serviceLines(t, s.good())); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("external of that name", func(t *testing.T) {
		s := newScene(t, webFile, apiFile)
		s.d.Spec.Externals = []file.External{{Name: "api", Host: "api.example", Port: 443}}
		r := s.good()
		if diff := cmp.Diff([]string{
			"api ExternalName 443/TCP=port-443", "side ClusterIP headless app=laconic-1 app.kubernetes.io/component=one",
			"web ClusterIP headless app=laconic-1 app.kubernetes.io/component=one",
		}, serviceLines(t, r)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"name-taken changed"}, told(r)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestIngress(t *testing.T) {
	hosts := func(t *testing.T, target file.Target, certs ...Certificate) *scene {
		s := newScene(t, webFile, apiFile)
		s.d.Deployment.Rules = file.V1
		s.d.Spec.Target = target
		s.route("a.example.org", "/", "web", 80)
		s.d.Spec.Proxies[0].Routes = append(s.d.Spec.Proxies[0].Routes, file.Route{Path: "/api", Container: "api", Port: 8080})
		s.route("b.example.org", "/", "side", 81)
		s.f.Certificates = certs
		return s
	}
	wild := Certificate{Secret: "wild", DNSNames: []string{"*.example.org", "example.org"}}
	one := Certificate{Secret: "zz-one", DNSNames: []string{"a.example.org"}}
	for name, s := range map[string]*scene{
		"kind":         hosts(t, file.Kind, wild),
		"k8s":          hosts(t, file.K8s),
		"k8s-wildcard": hosts(t, file.K8s, one, wild),
		"k8s-one":      hosts(t, file.K8s, one, Certificate{Secret: "deep", DNSNames: []string{"*.org"}}),
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			r := s.good()
			golden.CompareString(t, "", text(t, find(t, r, "Ingress", "laconic-1-ingress").Object))
			if len(r.c.notices) != 0 {
				t.Errorf("%v", r.c.notices)
			}
		})
	}
	if got := names(newScene(t, webFile).good(), "Ingress"); len(got) != 0 {
		t.Errorf("an Ingress without http-proxy: %q", got)
	}
	s := hosts(t, file.K8s)
	s.f.NoCertCRDs = true
	if diff := cmp.Diff([]string{"no-cert-manager warning"}, told(s.good())); diff != "" {
		t.Error(diff)
	}
	s.f.Certificates = []Certificate{wild}
	if got := told(s.good()); len(got) != 0 {
		t.Errorf("every host has its certificate: %q", got)
	}
	newScene(t, webFile).route("*bad", "/", "web", 80).refused("*bad")
	wildHost := newScene(t, webFile).route("*.example.org", "/", "web", 80)
	wildHost.good()
	wildHost.d.Spec.Target = file.K8s
	wildHost.refused("*.example.org", "make a Certificate")
	wildHost.f.Certificates = []Certificate{wild}
	wildHost.good()
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		name, host string
		want       bool
	}{
		{"*.example.org", "a.example.org", true},
		{"*.example.org", "a.b.example.org", false},
		{"*.example.org", "example.org", false},
		{"*.example.org", ".example.org", false},
		{"*.example.org", "a.example.com", false},
		{"*.example.org", "*.example.org", false}, // by its name, not as a wildcard
		{"a.example.org", "a.example.org", false},
		{"*", "a", false},
	} {
		if got := covers(c.name, c.host); got != c.want {
			t.Errorf("%s covers %s: %v", c.name, c.host, got)
		}
	}
}

func TestCertificateFor(t *testing.T) {
	all := []Certificate{
		{Secret: "c", DNSNames: []string{"*.x.org"}},
		{Secret: "b", DNSNames: []string{"*.x.org"}},
		{Secret: "e", DNSNames: []string{"a.x.org"}},
		{Secret: "d", DNSNames: []string{"y.org", "a.x.org"}},
	}
	for host, want := range map[string]string{"a.x.org": "d", "z.x.org": "b", "y.org": "d", "z.y.org": ""} {
		for range 2 {
			if got, ok := certificateFor(host, all); got.Secret != want || ok != (want != "") {
				t.Errorf("%s: %q %v, want %q", host, got.Secret, ok, want)
			}
			slices.Reverse(all)
		}
	}
}

func TestExternals(t *testing.T) {
	s := newScene(t, webFile)
	s.d.Spec.Externals = []file.External{
		{Name: "byname", Host: "api.example.org", Port: 443},
		{Name: "byip", IP: "10.0.0.7", Port: 5432},
		{Name: "bypods", Selector: []file.Pair{{Key: "app", Value: "db"}}, Namespace: "other", Port: 5432},
		{Name: "nopods", Selector: []file.Pair{{Key: "app", Value: "none"}}, Namespace: "other", Port: 80},
	}
	s.f.Endpoints = map[string][]string{"bypods": {"10.1.0.2", "10.1.0.1", "10.1.0.2"}}
	r := s.good()
	golden.CompareString(t, "", objects(t, r))
	if diff := cmp.Diff([]string{"external-without-pods warning"}, told(r)); diff != "" {
		t.Error(diff)
	}
	s.d.Spec.Externals = []file.External{{Name: "byip", IP: "10.0.0", Port: 1}}
	s.refused("external-services.byip", "10.0.0")
}

const certificate = "-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n"

func TestCACertificates(t *testing.T) {
	s := newScene(t, webFile)
	s.o.Machine.WorkDir = filepath.Join(filepath.Dir(s.d.Path), "here")
	s.write(filepath.Join(s.o.Machine.Home, "a.pem"), certificate)
	s.write("certs/b.pem", "a comment\n"+certificate)
	s.write(filepath.Join(s.o.Machine.WorkDir, "c.pem"), certificate)
	abs := s.write(filepath.Join(t.TempDir(), "d.pem"), strings.ReplaceAll(certificate, "CERTIFICATE", "TRUSTED CERTIFICATE"))
	s.d.Spec.CAs = []string{"~/a.pem", "certs/b.pem", "./c.pem", abs}
	r := s.good()
	data, _, _ := unstructured.NestedMap(find(t, r, "Secret", "laconic-1-ca-certificates").Object, "data")
	keys := []string{"laconic-extra-ca-0.pem", "laconic-extra-ca-1.pem", "laconic-extra-ca-2.pem", "laconic-extra-ca-3.pem"}
	if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(data))); diff != "" {
		t.Error(diff)
	}
	volumes, mounts, env := r.caCertificates()
	golden.CompareString(t, "", text(t, jsonOf(t, volumes), jsonOf(t, mounts), jsonOf(t, env)))

	s.d.Spec.CAs = nil
	r = s.good()
	if v, m, e := r.caCertificates(); len(v)+len(m)+len(e) != 0 || len(names(r, "Secret")) != 0 {
		t.Error("certificates nobody asked for")
	}
}

func TestCACertificatesMissing(t *testing.T) {
	s := newScene(t, webFile)
	s.write("good.pem", certificate)
	s.write("bad.pem", "no certificate")
	s.mkdir(filepath.Join(s.d.Path, "dir"))
	for path, why := range map[string]string{"none.pem": "does not exist", "bad.pem": "PEM", "dir": "a directory", "~you/x": "another user"} {
		s.d.Spec.CAs = []string{path}
		s.refused("ca-certificates", path, why)
	}
	s.d.Deployment.Rules = file.V1
	s.d.Spec.CAs = []string{"none.pem", "good.pem"}
	r := s.good()
	if diff := cmp.Diff([]string{"ca-missing warning"}, told(r)); diff != "" {
		t.Error(diff)
	}
	if _, mounts, env := r.caCertificates(); len(mounts) != 1 || env[0].Value != "/etc/ssl/certs/laconic-extra-ca-1.pem" {
		t.Errorf("%v %v", mounts, env)
	}
}

func TestHostPorts(t *testing.T) {
	s := newScene(t, `
services:
  p2p: {image: x, network_mode: host, ports: ['30303', '30303/udp', '9000:9001', '9001']}
  web: {image: x, ports: ['8080']}
`)
	if diff := cmp.Diff([]HostPort{{30303, "TCP"}, {30303, "UDP"}, {9001, "TCP"}}, s.good().result.HostPorts); diff != "" {
		t.Error(diff)
	}
	s.d.Spec.Target = file.K8s
	if got := s.good().result.HostPorts; len(got) != 0 {
		t.Errorf("a cluster's nodes are no containers of this host: %v", got)
	}
}

package stack

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"homelab/pkg/kube"
)

func from[T any](t *testing.T, text string) T {
	t.Helper()
	var x T
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		t.Fatal(err)
	}
	return x
}

func TestServing(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	pod := func(name string, age time.Duration, ready bool, state string) Pod {
		return Pod{Name: name, Ready: ready, created: at.Add(-age), Containers: []PodContainer{{Name: "side", State: "running"}, {Name: "web", State: state}}}
	}
	leaving, job := pod("leaving", 0, true, "running"), pod("job", 0, true, "running")
	leaving.Terminating, job.job = true, "shop-1-job-init"
	for _, r := range []struct {
		name string
		pods []Pod
		want string
	}{
		{"none", nil, ""},
		{"of a Job, or on its way out", []Pod{leaving, job}, ""},
		{"it does not run", []Pod{pod("a", 0, false, "waiting"), pod("b", 0, false, "terminated")}, ""},
		{"not ready, but nothing else", []Pod{pod("a", 0, false, "running")}, "a"},
		{"ready before new", []Pod{pod("a", 0, false, "running"), pod("b", time.Hour, true, "running")}, "b a"},
		{"new before old", []Pod{pod("a", time.Hour, true, "running"), pod("b", 0, true, "running"), pod("c", time.Minute, true, "running")}, "b c a"},
	} {
		var got []string
		for _, p := range serving(r.pods, "web") {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != r.want {
			t.Errorf("%s: %v, not %q", r.name, got, r.want)
		}
	}
}

func TestPublished(t *testing.T) {
	pod := func(name, host, component, ports string) Pod {
		p, err := decodePod(fmt.Appendf(nil, `{"metadata":{"name":%q,"labels":{"app":"s-1","app.kubernetes.io/component":%q}},
			"spec":{"containers":[{"name":"web","ports":[%s]},{"name":"side"}]},"status":{"hostIP":%q}}`, name, component, ports, host))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const declared = `{"name":"http","containerPort":80},{"containerPort":53,"protocol":"UDP"}`
	a, b := pod("a", "10.0.0.1", "web", declared), pod("b", "10.0.0.2", "web", declared)
	service := func(selector, ports string) string {
		return `{"spec":{"type":"NodePort","selector":` + selector + `,"ports":[` + ports + `]}}`
	}
	const all, tcp = `{"app":"s-1"}`, `{"port":80,"targetPort":80,"nodePort":30080,"protocol":"TCP"}`
	for _, r := range []struct {
		name     string
		pods     []Pod
		services []string
		service  string
		port     int
		protocol string
		want     string
	}{
		{"one", []Pod{a}, []string{service(all, tcp)}, "web", 80, "tcp", "a 10.0.0.1:30080"},
		{"every node once", []Pod{a, pod("c", "10.0.0.1", "web", declared), b}, []string{service(all, tcp)}, "web", 80, "tcp", "a 10.0.0.1:30080, b 10.0.0.2:30080"},
		{"another protocol", []Pod{a}, []string{service(all, tcp)}, "web", 80, "udp", ""},
		{"udp", []Pod{a}, []string{service(all, `{"port":53,"targetPort":53,"nodePort":30053,"protocol":"UDP"}`)}, "web", 53, "udp", "a 10.0.0.1:30053"},
		{"by name", []Pod{a}, []string{service(all, `{"port":8080,"targetPort":"http","nodePort":30080}`)}, "web", 80, "tcp", "a 10.0.0.1:30080"},
		{"as the port itself", []Pod{a}, []string{service(all, `{"port":80,"nodePort":30080}`)}, "web", 80, "tcp", "a 10.0.0.1:30080"},
		{"it leads elsewhere", []Pod{a}, []string{service(all, `{"port":80,"targetPort":81,"nodePort":30080}`)}, "web", 80, "tcp", ""},
		{"of another pod file", []Pod{a}, []string{service(`{"app":"s-1","app.kubernetes.io/component":"db"}`, tcp)}, "web", 80, "tcp", ""},
		{"it selects nothing", []Pod{a}, []string{service(`{}`, tcp)}, "web", 80, "tcp", ""},
		{"inside the cluster only", []Pod{a}, []string{service(all, `{"port":80,"targetPort":80}`)}, "web", 80, "tcp", ""},
		{"another container has it", []Pod{a}, []string{service(all, tcp)}, "side", 80, "tcp", ""},
		{"the host's network", []Pod{pod("h", "10.0.0.3", "web", `{"containerPort":80,"hostPort":80}`)}, nil, "web", 80, "tcp", "h 10.0.0.3:80"},
		{"one address of the host", []Pod{pod("h", "10.0.0.3", "web", `{"containerPort":80,"hostPort":8080,"hostIP":"127.0.0.1"}`)}, nil, "web", 80, "tcp", "h 127.0.0.1:8080"},
		{"IPv6", []Pod{pod("h", "fd00::3", "web", `{"containerPort":80,"hostPort":80,"hostIP":"::"}`)}, nil, "web", 80, "tcp", "h [fd00::3]:80"},
		{"no node yet", []Pod{pod("h", "", "web", declared)}, []string{service(all, tcp)}, "web", 80, "tcp", ""},
	} {
		var services []corev1.Service
		for _, s := range r.services {
			services = append(services, from[corev1.Service](t, s))
		}
		var got []string
		for _, p := range published(r.pods, services, PortOptions{Service: r.service, Port: r.port, Protocol: r.protocol}) {
			got = append(got, p.Pod+" "+p.String())
		}
		if strings.Join(got, ", ") != r.want {
			t.Errorf("%s: %v, not %q", r.name, got, r.want)
		}
	}
}

func TestURLs(t *testing.T) {
	p := Pod{labels: map[string]string{"app": "s-1"}}
	services := []corev1.Service{
		from[corev1.Service](t, `{"metadata":{"name":"s-1-service"},"spec":{"selector":{"app":"s-1"},"ports":[{"name":"port-80","port":80,"targetPort":80},{"name":"port-81","port":81,"targetPort":81}]}}`),
		from[corev1.Service](t, `{"metadata":{"name":"page"},"spec":{"selector":{"app":"other"},"ports":[{"port":80,"targetPort":80}]}}`),
	}
	ingress := func(tls, path, backend string) networkingv1.Ingress {
		return from[networkingv1.Ingress](t, `{"spec":{"tls":[`+tls+`],"rules":[{"host":"x.example.lan"},{"host":"web.example.lan","http":{"paths":[{"path":"`+path+`","backend":{"service":`+backend+`}}]}}]}}`)
	}
	const eighty = `{"name":"s-1-service","port":{"number":80}}`
	for _, r := range []struct {
		name string
		in   networkingv1.Ingress
		host string
		want []string
	}{
		{"plain", ingress("", "/", eighty), "web.example.lan", []string{"http://web.example.lan/"}},
		{"with a certificate", ingress(`{"hosts":["*.example.lan"]}`, "/api", eighty), "web.example.lan", []string{"https://web.example.lan/api"}},
		{"of another host", ingress(`{"hosts":["example.lan"]}`, "", eighty), "web.example.lan", []string{"http://web.example.lan/"}},
		{"the port by name", ingress("", "/", `{"name":"s-1-service","port":{"name":"port-80"}}`), "web.example.lan", []string{"http://web.example.lan/"}},
		{"another host is asked for", ingress("", "/", eighty), "x.example.lan", nil},
		{"another port", ingress("", "/", `{"name":"s-1-service","port":{"number":81}}`), "web.example.lan", nil},
		{"a page stands there instead", ingress("", "/", `{"name":"page","port":{"number":80}}`), "web.example.lan", nil},
	} {
		if got := urls([]networkingv1.Ingress{r.in}, services, p, hostRoute{r.host, 80}); !slices.Equal(got, r.want) {
			t.Errorf("%s: %v, not %v", r.name, got, r.want)
		}
	}
}

// A pod that will do is stayed with; one that will not is left as soon as there
// is another.
func TestForwardMoves(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	pod := func(uid string, age time.Duration, ready, leaving bool) Pod {
		return Pod{uid: uid, Ready: ready, Terminating: leaving, created: at.Add(-age), Containers: []PodContainer{{Name: "web", State: "running"}}}
	}
	for _, r := range []struct {
		name string
		at   string
		pods []Pod
		want string
	}{
		{"the first", "", []Pod{pod("a", 0, true, false)}, "a"},
		{"a new one beside it", "a", []Pod{pod("a", time.Hour, true, false), pod("b", 0, true, false)}, "a"},
		{"it is replaced", "a", []Pod{pod("a", time.Hour, true, true), pod("b", 0, true, false)}, "b"},
		{"the new one is not ready", "a", []Pod{pod("a", time.Hour, true, true), pod("b", 0, false, false)}, "b"},
		{"it is not ready any more", "a", []Pod{pod("a", time.Hour, false, false), pod("b", time.Minute, true, false)}, "b"},
		{"it is not, nor is another", "a", []Pod{pod("a", time.Hour, false, false), pod("b", 0, false, false)}, "a"},
		{"it goes, and nothing comes", "a", []Pod{pod("a", 0, true, true)}, ""},
	} {
		f := &forward{o: ForwardOptions{PortOptions: PortOptions{Service: "web"}}, pods: map[string]Pod{}, pod: Pod{uid: r.at}, all: map[*kube.Tunnel]bool{}}
		for _, p := range r.pods {
			f.pods[p.uid] = p
		}
		next, found, fine := f.better()
		if next.uid != r.want || found != (r.want != "") || fine {
			t.Errorf("%s: %q %t %t, not %q", r.name, next.uid, found, fine, r.want)
		}
	}
}

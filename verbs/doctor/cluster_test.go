package doctor

import (
	"cmp"
	"os"
	"strings"
	"testing"

	"homelab/internal/kubesim"
	"homelab/internal/tlstest"
	"homelab/pkg/fault"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	sim := kubesim.New(kubesim.Options{})
	t.Cleanup(sim.Close)
	sim.AddUser(kubesim.User{Name: "ada"})
	sim.AddUser(kubesim.User{Name: "bob", Deny: []kubesim.Rule{{Verbs: []string{"list"}, Resources: []string{"pods", "events"}}}})
	api := sim.Serve(t)
	for _, tt := range []struct {
		name, token     string
		change          func(t *testing.T, file string) // of the kubeconfig
		args            []string
		code            fault.Kind
		cluster, access string // status and words
		fix             string
	}{
		{
			name: "all is well", token: "ada-token",
			cluster: "ok context lab, https://127.0.0.1:", access: "ok workloads, pods and events of namespace shop may be read",
		},
		{
			name: "another namespace", token: "ada-token", args: []string{"-n", "other"},
			cluster: "ok ", access: "ok workloads, pods and events of namespace other may be read",
		},
		{
			name: "a narrow role", token: "bob-token",
			cluster: "ok ", access: "warn may not be listed in namespace shop: pods, events: ", fix: "kubectl --context lab auth can-i --list --namespace shop",
		},
		{
			name: "wrong credentials", token: "nobody", code: fault.Denied,
			cluster: "fail context lab, https://127.0.0.1:", access: "skipped needs cluster", fix: "kubectl --context lab auth whoami",
		},
		{
			name: "a plugin that gives none", token: "ada-token", code: fault.Denied,
			change: func(t *testing.T, file string) {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				const plugin = `exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/false, interactiveMode: Never}`
				write(t, file, strings.ReplaceAll(string(b), `token: "ada-token"`, plugin))
			},
			cluster: "fail context lab, https://127.0.0.1:", access: "skipped needs cluster", fix: "kubectl --context lab auth whoami",
		},
		{
			name: "nobody answers", token: "ada-token", code: fault.Unreachable,
			change: func(t *testing.T, file string) {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				_, rest, _ := strings.Cut(string(b), "https://")
				at := rest[:strings.IndexAny(rest, "\"\n")]
				write(t, file, strings.ReplaceAll(string(b), at, tlstest.Reserve(t).String()))
			},
			cluster: "fail context lab, https://127.0.0.1:", access: "skipped needs cluster",
		},
		{
			name: "no such file", token: "ada-token",
			change:  func(_ *testing.T, file string) { _ = os.Remove(file) },
			cluster: "skipped no kubeconfig", access: "skipped no cluster to ask",
		},
		{
			name: "not a kubeconfig", token: "ada-token", code: fault.Usage,
			change:  func(t *testing.T, file string) { write(t, file, "clusters: 7\n") },
			cluster: "fail kubeconfig is invalid", access: "skipped needs cluster", fix: "kubectl config view",
		},
		{name: "an empty flag", token: "ada-token", args: []string{"--context", ""}, code: fault.Usage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "3.17.0")
			l.serve(t, host)
			file := api.Kubeconfig(t, "lab", tt.token, "shop")
			if tt.change != nil {
				tt.change(t, file)
			}
			l.kubeconfig = []string{file}
			if tt.cluster == "" {
				if _, _, err := l.run(t, tt.args...); fault.KindOf(err) != tt.code {
					t.Errorf("%v", err)
				}
				return
			}
			r := l.json(t, append(tt.args, "--repo", "ada/app")...)
			if want := cmp.Or(tt.code, fault.OK).Code(); r.ExitCode != want {
				t.Errorf("code %d, want %d\n%s", r.ExitCode, want, r)
			}
			fixes := ""
			for name, want := range map[string]string{"cluster": tt.cluster, "access": tt.access} {
				c := r.check(name)
				if got := string(c.Status) + " " + c.Detail; !strings.HasPrefix(got, want) {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
				if c.Fix != nil {
					fixes += *c.Fix
				}
			}
			if fixes != tt.fix {
				t.Errorf("fix %q, want %q", fixes, tt.fix)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

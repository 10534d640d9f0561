package directory

import "testing"

func TestKubeconfigCopy(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing relative is byte for byte the same", "# mine\nclusters:\n- cluster: {server: 'https://x',   certificate-authority: /etc/ca.pem}\n", ""},
		{"data only", "clusters: [{cluster: {certificate-authority-data: Zm9v}}]\n", ""},
		{"no YAML", "a: [\n", ""},
		{"a plugin of PATH", "users: [{user: {exec: {command: kubelogin}}}]\n", ""},
		{
			"relative files", "# mine\nclusters:\n  - cluster:\n      certificate-authority: ca.pem # ours\nusers:\n  - user:\n      client-certificate: ../a.crt\n      client-key: keys/a.key\n      tokenFile: /run/token\n      exec:\n        command: ./login\n",
			"# mine\nclusters:\n  - cluster:\n      certificate-authority: /home/ada/.kube/ca.pem # ours\nusers:\n  - user:\n      client-certificate: /home/ada/a.crt\n      client-key: /home/ada/.kube/keys/a.key\n      tokenFile: /run/token\n      exec:\n        command: /home/ada/.kube/login\n",
		},
	} {
		want := c.want
		if want == "" {
			want = c.in
		}
		if got := string(kubeconfig("/home/ada/.kube/lab", []byte(c.in))); got != want {
			t.Errorf("%s:\n%s\nnot\n%s", c.name, got, want)
		}
	}
}

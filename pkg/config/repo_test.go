package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

func TestRepoFile(t *testing.T) {
	text := `
base: main
remote: origin
verify:
  - scripts/lint
  - {run: go test ./..., dir: ./cli/, paths: ["cli/**", go.mod], timeout: 20m}
  - run: |
      set -e
      	make
gate: ci
deploy: [home/web, home/sts/db]
ci: {workflows: [build, test]}
`
	repo, err := ParseRepo("main:.homelab.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	at := func(line string) Source { return Source{Level: LevelRepo, Name: "main:.homelab.yaml:" + line} }
	want := &Repo{
		Base:   Value[string]{"main", true, at("2")},
		Remote: Value[string]{"origin", true, at("3")},
		Verify: Value[[]Verify]{[]Verify{
			{Run: "scripts/lint"},
			{Run: "go test ./...", Dir: "cli", Paths: []string{"cli/**", "go.mod"}, Timeout: 20 * time.Minute},
			{Run: "set -e\n\tmake"},
		}, true, at("4")},
		Gate:      Value[Gate]{GateCI, true, at("10")},
		Deploy:    Value[[]string]{[]string{"home/web", "home/sts/db"}, true, at("11")},
		Workflows: Value[[]string]{[]string{"build", "test"}, true, at("12")},
	}
	if diff := cmp.Diff(want, repo); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	repo, err = ParseRepo(RepoFile, []byte("verify: scripts/test\n"))
	if err != nil || !cmp.Equal(repo.Verify.V, []Verify{{Run: "scripts/test"}}) {
		t.Errorf("one command: %+v, %v", repo, err)
	}
	repo, err = ParseRepo(RepoFile, nil)
	if err != nil || !cmp.Equal(repo, &Repo{}) {
		t.Errorf("empty: %+v, %v", repo, err)
	}
}

func TestRepoFileNamesNoServer(t *testing.T) {
	const never = " is not allowed here: a checkout can never name a server, an address, a token source or a CA; it belongs in the user's own configuration file"
	for _, text := range []string{
		"woodpecker: {server: https://evil}\n",
		"vault:\n  address: https://evil\n",
		"kubernetes: {context: evil}\n",
		"forge: [{host: evil}]\n",
		"forges: []\n",
		"server: https://evil\n",
		"Server: https://evil\n",
		"servers: [https://evil]\n",
		"address: evil\n",
		"url: https://evil\n",
		"host: evil\n",
		"dial: 192.0.2.1\n",
		"ca-file: evil.pem\n",
		"ca_file: evil.pem\n",
		"CAFile: evil.pem\n",
		"ca: evil.pem\n",
		"token-vault: {path: a/b, field: c}\n",
		"token: x\n",
		"token-file: x\n",
		"WOODPECKER_SERVER: https://evil\n",
		"vault-addr: https://evil\n",
		"kubeconfig: evil\n",
		"context: evil\n",
		"insecure-http: true\n",
		"https-proxy: evil\n",
		"ci: {server: https://evil}\n",
		"ci:\n  workflows: [a]\n  dial: 192.0.2.1\n",
		"verify: [{run: a, token: x}]\n",
		"verify: {server: https://evil}\n",
		"base: {server: https://evil}\n",
		"foo: {bar: [{dial: 192.0.2.1}]}\n",
		"base: &a {server: https://evil}\n",
		"? server\n: https://evil\n",
		"deploy: [{woodpecker: {server: x}}]\n",
	} {
		_, err := ParseRepo(RepoFile, []byte(text))
		if err == nil {
			t.Errorf("%q: accepted", text)
			continue
		}
		if n := strings.Count(err.Error(), never); n != 1 {
			t.Errorf("%q: said %d times: %v", text, n, err)
		}
		if strings.Contains(err.Error(), "evil") {
			t.Errorf("%q: the value is shown: %v", text, err)
		}
	}
	for _, key := range KnownKeys() {
		for part := range strings.SplitSeq(key, ".") {
			if name := strings.TrimSuffix(part, "[]"); name != "path" && !forbidden(name) {
				t.Errorf("%s of the user's file is allowed in a checkout", name)
			}
		}
	}
	for _, key := range KnownRepoKeys() {
		for part := range strings.SplitSeq(key, ".") {
			if name := strings.TrimSuffix(part, "[]"); forbidden(name) {
				t.Errorf("%s is the repository file's own key", name)
			}
		}
	}
}

func TestRepoFileBad(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown", "bas: main\n", `unknown key "bas"; nearest known key: "base"`},
		{"unknown in ci", "ci: {workflow: [a]}\n", `unknown key "workflow" in ci; nearest known key: "workflows"`},
		{"path is a typing error", "verify: [{run: a, path: [b]}]\n", `unknown key "path" in verify[0]; nearest known key: "paths"`},
		{"nothing near", "colour: x\n", `unknown key "colour"; known keys: base, remote, verify, gate, deploy, ci`},
		{"number", "base: 2026\n", `base must be a string, not a number; put it into quotes`},
		{"option", "base: --upload-pack=x\n", `base is not a branch name such as main`},
		{"range", "base: a..b\n", `base is not a branch name such as main`},
		{"ref", "base: refs/heads/main\n", `base is a whole ref; write the branch name, such as main`},
		{"remote url", "remote: https://evil/x.git\n", `remote must be the name of a remote such as origin; a checkout can never name a server`},
		{"remote scp", "remote: git@evil:x\n", `remote must be the name of a remote such as origin; a checkout can never name a server`},
		{"remote path", "remote: ../evil\n", `remote must be the name of a remote such as origin; a checkout can never name a server`},
		{"remote absolute", "remote: /evil\n", `remote must be the name of a remote such as origin; a checkout can never name a server`},
		{"remote option", "remote: --exec=x\n", `remote must be the name of a remote such as origin; a checkout can never name a server`},
		{"gate", "gate: remote\n", `gate must be local or ci`},
		{"verify section", "verify: {run: a}\n", `verify must be a command or a list of entries, not keys and values`},
		{"verify nothing", "verify:\n", `verify has no value; give one or remove the line`},
		{"verify empty", "verify: []\n", `verify is an empty list; give an entry or remove the line`},
		{"verify number", "verify: [5]\n", `verify[0] must be a string, not a number; put it into quotes`},
		{"verify truth", "verify: true\n", `verify must be a string, not true or false; put it into quotes`},
		{"verify without run", "verify: [{dir: a}]\n", `verify[0] needs run`},
		{"dir leaves", "verify: [{run: a, dir: a/../../b}]\n", `verify[0].dir leaves the repository`},
		{"dir absolute", "verify: [{run: a, dir: /b}]\n", `verify[0].dir leaves the repository`},
		{"paths string", "verify: [{run: a, paths: b}]\n", `verify[0].paths must be a list of globs, not a string`},
		{"glob", "verify: [{run: a, paths: ['[']}]\n", `verify[0].paths[0] is not a valid glob`},
		{"glob leaves", "verify: [{run: a, paths: [../b]}]\n", `verify[0].paths[0] must be relative to the repository's root`},
		{"timeout unit", "verify: [{run: a, timeout: 20}]\n", `verify[0].timeout must be a string, not a number; put it into quotes`},
		{"timeout text", "verify: [{run: a, timeout: '20'}]\n", `verify[0].timeout is not a duration such as 20m`},
		{"timeout nothing", "verify: [{run: a, timeout: 0s}]\n", `verify[0].timeout is 0s; it must be at least 1s`},
		{"deploy string", "deploy: home/web\n", `deploy must be a list of workloads, not a string`},
		{"deploy name", "deploy: [web]\n", `deploy[0] is not NAMESPACE/NAME or NAMESPACE/KIND/NAME`},
		{"deploy long", "deploy: [a/b/c/d]\n", `deploy[0] is not NAMESPACE/NAME or NAMESPACE/KIND/NAME`},
		{"deploy twice", "deploy: [a/b, a/b]\n", `deploy[1] repeats "a/b"`},
		{"workflows string", "ci: {workflows: test}\n", `ci.workflows must be a list of workflow names, not a string`},
		{"ci list", "ci: [test]\n", `ci must be keys and values, not a list`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			repo, err := ParseRepo(RepoFile, []byte(tt.text))
			if err == nil {
				t.Fatalf("accepted: %+v", repo)
			}
			if want := ".homelab.yaml:1: " + tt.want; err.Error() != want {
				t.Errorf("\ngot  %v\nwant %s", err, want)
			}
			checkFault(t, err, fault.Usage, "git log -1 -p -- ':/.homelab.yaml'")
		})
	}
}

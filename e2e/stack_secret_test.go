package e2e

import (
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A canary is a text that may be in a Secret and nowhere else.
type canary string

// in says whether a text has it, plain or encoded.
func (c canary) in(text string) bool {
	if strings.Contains(text, string(c)) {
		return true
	}
	for shift := range 3 {
		enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + string(c)))
		if strings.Contains(text, enc[4:len(enc)-4]) {
			return true
		}
	}
	return false
}

func TestStackSecretsStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ns := s.namespace()
	s.kiosk(ns)
	const pull, env, later = canary("pull-canary-8dK2x0Pq"), canary("env-canary-5tR9w3Zm"), canary("later-canary-1hB7v6Yc")
	credential := canary("file-canary-2mQ4s8Ld")
	s.file("token", string(pull)+"\n")
	s.file("more.env", "PASSWORD="+string(credential)+"\n")
	s.edit("repo/deployment/spec.yml", "secrets: {}\n", `credentials-files:
  - `+s.path("more.env")+`
secrets:
  mail:
    keys:
      MAIL_TOKEN: {env: MAIL}
`)
	// Every process of a run is looked at: here is its argv.
	s.file("bin/git", "#!/bin/sh\necho \"$@\" >> "+s.path("argv")+"\ncase \"$*\" in *ff-only*) env >> "+s.path("environ")+";; esac\nexec /usr/bin/git \"$@\"\n")
	if err := os.Chmod(s.path("bin/git"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, v := range s.env {
		if strings.HasPrefix(v, "PATH=") {
			s.env[i] = "PATH=" + s.path("bin") + ":" + os.Getenv("PATH")
		}
	}
	var said []string
	run := func(value canary, args ...string) *deed {
		t.Helper()
		d := s.check(s.with([]string{"MAIL=" + string(value)}, append(args, "-v")...), "up", args...)
		said = append(said, d.out, d.err)
		return d
	}
	id := s.deploy("d")
	start := []string{"deployment", "start", "--dir", "d", within}
	run(env, start...)
	look := s.in(ns)

	// Who pulls has the credentials.
	registry := look.Get("secrets", id+"-registry")
	raw, err := base64.StdEncoding.DecodeString(registry.Str("data", ".dockerconfigjson"))
	if err != nil || registry.Str("type") != "kubernetes.io/dockerconfigjson" || !strings.Contains(string(raw), `"reg.test"`) || !pull.in(string(raw)) {
		t.Errorf("%v: the pull secret: %v", err, registry.At("type"))
	}
	for _, r := range []string{"deployments/" + id + "-deployment", "jobs/" + id + "-job-seed"} {
		kind, name, _ := strings.Cut(r, "/")
		if got := look.Get(kind, name).Str("spec", "template", "spec", "imagePullSecrets", 0, "name"); got != id+"-registry" {
			t.Errorf("%s pulls with %q", r, got)
		}
	}
	for _, p := range look.List("pods", "app="+id) {
		if p.Str("spec", "imagePullSecrets", 0, "name") != id+"-registry" {
			t.Errorf("pod %s pulls with %v", p.Name(), p.At("spec", "imagePullSecrets"))
		}
	}
	generated := look.Get("secrets", id+"-generated-secrets").Str("data", "KEY")
	key, err := base64.StdEncoding.DecodeString(generated)
	if err != nil || len(key) != 32 {
		t.Fatalf("%v: the generated secret has %d bytes", err, len(key))
	}

	// A token that changed is brought in, and diff does not say what it is.
	s.file("token", string(later)+"\n")
	d := s.check(s.with([]string{"MAIL=" + string(later)}, "deployment", "diff", "--dir", "d", "-v"), "changes")
	said = append(said, d.out, d.err)
	run(later, start...)
	if got := look.Get("secrets", id+"-registry").Str("data", ".dockerconfigjson"); got == registry.Str("data", ".dockerconfigjson") {
		t.Error("the token was not brought in")
	}
	// Without a token what is there stays.
	if err := os.Remove(s.path("token")); err != nil {
		t.Fatal(err)
	}
	d = run(later, "deployment", "restart", "--no-pull", "--dir", "d", within)
	if !d.told("pull-secret-kept") && !strings.Contains(d.err, "stays") {
		t.Errorf("nothing is said of the token that is not there:\n%s", d.err)
	}
	s.file("token", string(later)+"\n")
	s.push("compose/docker-compose-kiosk.yml", "acme/web:1-ok", "acme/web:2-ok")
	s.edit("more.env", "PASSWORD", "PASSWORT") // so that there is an old config.env
	run(later, "deployment", "restart", "--dir", "d", within)
	d = s.must("stopped", "deployment", "stop", "--dir", "d", "-v")
	said = append(said, d.out, d.err)
	run(later, start...)
	if look.Get("secrets", id+"-generated-secrets").Str("data", "KEY") != generated {
		t.Error("the generated secret changed")
	}

	// The canaries are in Secrets, and the one of a file where it is written
	// for its owner alone.
	said = append(said, s.read("argv"))
	if environ := s.read("environ"); strings.Contains("\n"+environ, "\nMAIL=") {
		t.Error("git got a secret it does not need")
	}
	for _, c := range []canary{pull, env, later, credential, canary(key)} {
		for _, text := range said {
			if c.in(text) {
				t.Errorf("%s is said:\n%s", c, text)
			}
		}
		for _, w := range s.front.written() {
			if c.in(string(w.Body)) && !strings.Contains(w.Path, "/secrets/") {
				t.Errorf("%s is written to %s", c, w)
			}
		}
		for _, dir := range []string{"d", "tmp", "repo", "home"} {
			err := filepath.WalkDir(s.path(dir), func(p string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				b, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				info, err := e.Info()
				if c.in(string(b)) && (c != credential || info.Mode().Perm() != 0o600) {
					t.Errorf("%s is in %s (%v)", c, p, info.Mode())
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if info, err := os.Stat(s.path("d/.homelab")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v: .homelab is %v", err, info.Mode())
	}
	if !credential.in(s.read("d/config.env.bak")) {
		t.Error("no old config.env was kept: the test shows nothing of it")
	}

	// What is needed and not there: nothing is written.
	s.silent(func() {
		d := s.homelab("deployment", "start", "--dir", "d")
		if d.code != 4 || !strings.Contains(d.err, "MAIL") || !strings.Contains(d.err, "mail") {
			t.Errorf("without its variable: %d\n%s", d.code, d.err)
		}
	})
}

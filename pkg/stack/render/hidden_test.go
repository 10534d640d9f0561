package render

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/stack/file"
)

// TestHidden: what only Secrets hold is referred to, wherever a container's
// words name it; a generated value is not empty because it is not known here.
func TestHidden(t *testing.T) {
	parts := []string{
		"spec.yml", "stack: demo\ndeploy-to: k8s-kind\nconfig: {PLAIN: a, DB: '$generate:hex:16$'}\ncredentials-files: [~/cred.env]\n",
		"config.env", "PLAIN=a\n# credentials file: ~/cred.env\nPW=hunter2\n",
		"config/demo/e.env", "FROM_FILE=x${PW}\n",
		"compose/docker-compose-main.yml", `
services:
  web:
    image: web
    command: ["--dsn", "u:${PW}@db", "$$HOME"]
    env_file: ../config/demo/e.env
    environment:
      DB: ${DB}
      OTHER: ${DB:?is needed}
      URL: postgres://${PLAIN}:${DB:-none}@db?x=$$y
      LIST: $${PW} $$${PW}
  side:
    image: side
    environment:
      - DSN=u:$DB@db
`,
	}
	ref := func(name, secret, key string) any {
		return map[string]any{"name": name, "valueFrom": map[string]any{"secretKeyRef": map[string]any{
			"name": "laconic-abcdefgh12345678-" + secret, "key": key,
		}}}
	}
	is := func(name, value string) any { return map[string]any{"name": name, "value": value} }
	r, spec := podSpec(t, file.V2, Options{}, parts...)
	if diff := cmp.Diff(any([]any{
		ref("PW", "credentials", "PW"), ref("DB", "generated-secrets", "DB"),
		is("FROM_FILE", "x$(PW)"), ref("OTHER", "generated-secrets", "DB"), is("URL", "postgres://a:$(DB)@db?x=$$y"),
		is("LIST", "$${PW} $$$(PW)"), is("PLAIN", "a"),
	}), at(spec, "containers", 0, "env")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(any([]any{"--dsn", "u:$(PW)@db", "$HOME"}), at(spec, "containers", 0, "args")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(any([]any{
		ref("DB", "generated-secrets", "DB"), is("DSN", "u:$(DB)@db"), is("PLAIN", "a"), ref("PW", "credentials", "PW"),
	}), at(spec, "containers", 1, "env")); diff != "" {
		t.Error(diff)
	}
	for _, o := range r.Objects {
		if o.GetKind() != "Secret" && strings.Contains(fmt.Sprint(o.Object), "hunter2") {
			t.Errorf("%s %s shows the password", o.GetKind(), o.GetName())
		}
	}
	for _, n := range r.Notices {
		if n.Code == "variable-unset" {
			t.Errorf("%+v", n)
		}
	}
	// What the first rules gave stays: taking over restarts nothing.
	parts[len(parts)-1] = strings.Replace(parts[len(parts)-1], ":?is needed", "", 1) // which it is not, there
	_, spec = podSpec(t, file.V1, Options{}, parts...)
	if diff := cmp.Diff(any([]any{"--dsn", "u:hunter2@db", "$HOME"}), at(spec, "containers", 0, "args")); diff != "" {
		t.Error(diff)
	}
}

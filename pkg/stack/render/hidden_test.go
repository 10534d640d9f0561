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

// TestEnvFileWords: what an env file says of its own variables and of what
// stands for others holds; what nobody set is told, by its line.
func TestEnvFileWords(t *testing.T) {
	r, spec := podSpec(t, file.V2, Options{},
		"spec.yml", "stack: demo\ndeploy-to: k8s-kind\n",
		"config.env", "",
		"config/demo/e.env", "A=${SOME:-here}\nB=${A}${NONE}\nC='${RAW}'\nD=${EMPTY-d}${EMPTY}\n",
		"compose/docker-compose-main.yml", "services:\n  web:\n    image: web\n    env_file: ../config/demo/e.env\n")
	is := func(name, value string) any { return map[string]any{"name": name, "value": value} }
	if diff := cmp.Diff(any([]any{is("A", "here"), is("B", "here"), is("C", "${RAW}"), is("D", "d")}), at(spec, "containers", 0, "env")); diff != "" {
		t.Error(diff)
	}
	var told []string
	for _, n := range r.Notices {
		if n.Code == "variable-unset" {
			told = append(told, fmt.Sprintf("%s:%d", n.Key, n.Line))
		}
	}
	if diff := cmp.Diff([]string{"NONE:2"}, told); diff != "" {
		t.Error(diff)
	}
}

// TestHiddenElsewhere: a healthcheck that a shell runs gets what only Secrets
// hold as variables; what a service has from another file is searched as well;
// anywhere else such a value is refused.
func TestHiddenElsewhere(t *testing.T) {
	load := func(service, base string) (map[string]any, error) {
		parts := []string{
			"spec.yml", "stack: demo\ndeploy-to: k8s-kind\nconfig: {PLAIN: a, DB: '$generate:hex:16$'}\ncredentials-files: [~/cred.env]\n",
			"config.env", "PLAIN=a\n# credentials file: ~/cred.env\nPW=hunter2\n",
			"compose/docker-compose-main.yml", "services:\n  web:\n    image: web\n" + service,
			"compose/base.yml", base,
		}
		d := unpack(t, archive(parts...), file.V2)
		r, err := Render(d, Options{}, Facts{})
		if err != nil {
			return nil, err
		}
		for _, o := range r.Objects {
			if o.GetKind() == "Deployment" {
				if text := fmt.Sprint(o.Object); strings.Contains(text, "hunter2") || strings.Contains(text, markOpen) {
					t.Errorf("%s%s: %s", service, base, text)
				}
				c, _ := at(o.Object, "spec", "template", "spec", "containers", 0).(map[string]any)
				return c, nil
			}
		}
		t.Fatal("no Deployment")
		return nil, nil
	}
	probe := func(c map[string]any) string { return fmt.Sprint(at(c, "readinessProbe", "exec", "command")) }
	base := "    extends: {file: base.yml, service: b}\n"
	for _, r := range []struct{ name, service, base, want string }{
		{"a shell", "    healthcheck: {test: 'pg_isready -d \"u:${DB}@${PLAIN}\" $$HOME'}\n", "", `[/bin/sh -c pg_isready -d "u:${DB}@a" $HOME]`},
		{"a shell, in words", "    healthcheck: {test: [CMD-SHELL, 'x $DB ${PW:-none}']}\n", "", "[/bin/sh -c x ${DB} ${PW}]"},
		{"from another file", base, "services: {b: {healthcheck: {test: 'x ${DB:?no} ${PW}'}}}\n", "[/bin/sh -c x ${DB} ${PW}]"},
		{"over another file", base + "    healthcheck: {test: 'y ${DB}'}\n", "services: {b: {healthcheck: {test: 'x ${PW}'}}}\n", "[/bin/sh -c y ${DB}]"},
	} {
		c, err := load(r.service, r.base)
		if err != nil || probe(c) != r.want {
			t.Errorf("%s: %s, %v", r.name, probe(c), err)
		}
	}
	for _, r := range []struct{ name, service, base, says string }{
		{"without a shell", "    healthcheck: {test: [CMD, x, '${DB}']}\n", "", "write the test as CMD-SHELL"},
		{"between single quotes", "    healthcheck: {test: \"x '${DB}'\"}\n", "", "write double ones"},
		{"another variable of that name", "    environment: {DB: mine}\n    healthcheck: {test: 'x ${DB}'}\n", "", "something else"},
		{"a label", "    labels: {a: '${DB}'}\n", "", "the value of DB is made in the cluster"},
		{"a place", "    working_dir: /x/${DB:-none}\n", "", "the value of DB is made in the cluster"},
		{"a label of another file", base, "services: {b: {labels: {a: '${DB}'}}}\n", "the value of DB is made in the cluster"},
	} {
		if _, err := load(r.service, r.base); err == nil || !strings.Contains(err.Error(), r.says) {
			t.Errorf("%s: %v", r.name, err)
		}
	}
	c, err := load(base+"    environment: {OVER: mine}\n", `services:
  b:
    environment: {DSN: "u:${PW}@db", WHOLE: "${DB}", OVER: "${PW}", PLAINLY: "${PLAIN}"}
    command: run "a ${PW}" ${DB}
    entrypoint: [sh, "${PW}"]
`)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(at(c, "args"), at(c, "command")); got != "[run a $(PW) $(DB)] [sh $(PW)]" {
		t.Error(got)
	}
	text := fmt.Sprint(at(c, "env"))
	for _, part := range []string{"name:DSN value:u:$(PW)@db", "name:OVER value:mine", "name:PLAINLY value:a", "name:WHOLE valueFrom:map[secretKeyRef:map[key:DB"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, text)
		}
	}
}

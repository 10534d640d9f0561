package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"homelab/internal/kubesim"
)

// The stack of the repository: what it names is what runs before anything has
// landed.
const (
	stackFile   = "version: \"1.0\"\nname: shop\npods: [web]\n"
	composeFile = `services:
  web:
    image: ` + oldImage + `
    environment: {CURRENCY: EUR}
    ports: ["8080"]
    healthcheck: {test: [CMD, wget, -q, -O-, "http://localhost:8080/"], interval: 5s}
`
	deployment = "laconic-shop/shop-1-deployment"
)

// stackFiles are committed with the repository's first commit.
func stackFiles() map[string]string {
	return map[string]string{"stacks/shop/stack.yml": stackFile, "compose/docker-compose-web.yml": composeFile}
}

// deployed is what the act checks of "deployment restart --json".
type deployed struct {
	Verdict  string `json:"verdict"`
	ExitCode int    `json:"exit_code"`
	Plan     struct {
		Create, Update, Replace, Delete []any
		Unchanged                       int `json:"unchanged"`
	} `json:"plan"`
}

// stacked makes a deployment directory of the stack, brings it up, and then to
// what lands next.
func stacked(ctx context.Context, s *stage) error {
	if err := s.toDeploy(ctx); err != nil {
		return err
	}
	for _, line := range []string{
		"homelab deploy init --stack stacks/shop --deploy-to k8s --kube-config '~/.kube/lab' --output ../shop.yml --quiet",
		"homelab deploy create --spec-file ../shop.yml --deployment-dir ../shop --deployment-id shop-1",
	} {
		if _, err := s.show(ctx, 0, line); err != nil {
			return err
		}
	}
	s.cluster.Expect(deployment, slowly())
	seen, err := s.show(ctx, 0, "homelab deployment start --dir ../shop")
	if err != nil {
		return err
	}
	if err := s.saw(seen, "Created Deployment shop-1-deployment", " rollout ", "up: shop: ", "created"); err != nil {
		return err
	}

	s.say("\nA change lands, and its pipeline pushes an image again:")
	there := s.dir
	if err := s.enter(ctx, "currency"); err != nil {
		return err
	}
	for name, content := range map[string]string{
		".woodpecker.yml":                fmt.Sprintf(pipelineFile, "web"),
		"compose/docker-compose-web.yml": strings.Replace(composeFile, "EUR", "CHF", 1),
	} {
		if err := s.write(name, content); err != nil {
			return err
		}
	}
	for _, line := range []string{"git commit -q -a -m 'Francs; the right name for the image'", "homelab work land --quiet"} {
		if seen, err = s.show(ctx, 0, line); err != nil {
			return err
		}
	}
	if err := s.saw(seen, "landed ", " green"); err != nil {
		return err
	}
	if err := s.onBase(ctx, true); err != nil {
		return err
	}
	s.dir = there
	s.cluster.Expect(deployment, slowly())
	s.prompt("cd ../ops && git pull -q")
	if err := s.quietly(ctx, s.dir, "pull", "-q"); err != nil {
		return err
	}
	var head bytes.Buffer
	if code, err := s.run(ctx, s.dir, &head, "git", "rev-parse", "HEAD"); err != nil || code != 0 || head.Len() < 8 {
		return fmt.Errorf("git rev-parse HEAD: exit code %d, %w", code, err)
	}
	restart := fmt.Sprintf("homelab deployment restart --dir ../shop --sha HEAD --image web=registry.example/web:%.8s", head.String())
	if seen, err = s.show(ctx, 0, restart); err != nil {
		return err
	}
	if err := s.saw(seen, "[1/4] ", "Updated Deployment shop-1-deployment", " rollout ", "=== Restart Complete ===", "1 updated"); err != nil {
		return err
	}
	// Again: the same is seen, and nothing was changed for it.
	var d deployed
	code, out, err := s.ask(ctx, &d, strings.TrimPrefix(restart, "homelab ")+" --json")
	if err != nil {
		return err
	}
	if p := d.Plan; code != 0 || d.Verdict != "up" || len(p.Create)+len(p.Update)+len(p.Replace)+len(p.Delete) > 0 || p.Unchanged == 0 {
		return fmt.Errorf("a restart without changes: exit code %d: %s", code, out)
	}
	return nil
}

// toDeploy goes to the clone that deploys, with a kubeconfig at its usual
// place.
func (s *stage) toDeploy(ctx context.Context) error {
	home := filepath.Dir(s.home)
	var config string
	for _, v := range s.env {
		if path, ok := strings.CutPrefix(v, "KUBECONFIG="); ok {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			// The copy lies elsewhere than the certificate.
			config = strings.Replace(string(text), "certificate-authority: ", "certificate-authority: "+filepath.Dir(path)+"/", 1)
		}
	}
	if err := os.MkdirAll(filepath.Join(home, ".kube"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(home, ".kube", "lab"), []byte(config), 0o600); err != nil {
		return err
	}
	s.dir = filepath.Join(home, "ops")
	s.say("The repository holds a stack, and whoever deploys has a clone of it:")
	s.prompt("cat compose/docker-compose-web.yml")
	s.say(strings.TrimRight(composeFile, "\n"))
	return s.quietly(ctx, home, "clone", "-q", s.bare, s.dir)
}

// slowly lets pods take a moment, so that there is something to see.
func slowly() kubesim.Plan {
	return kubesim.Plan{Pod: kubesim.Life{Start: 300 * time.Millisecond, Ready: 500 * time.Millisecond}}
}

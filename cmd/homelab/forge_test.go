package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"homelab/internal/forgesim"
	"homelab/internal/tlstest"
	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// The token goes to a listed host and nowhere else, and the forge's answers
// become ends of a landing.
func TestForge(t *testing.T) {
	for _, kind := range []string{"forgejo", "gitea", "github"} {
		for _, named := range []bool{true, false} {
			sim := forgesim.New(kind, "canary-forge")
			sim.Repo("lab/infra", true)
			ca := tlstest.NewCA(t)
			srv := ca.Serve(t, sim, "git.example.lan", "other.example.lan")
			file := filepath.Join(t.TempDir(), "config.yaml")
			said := ""
			if named {
				said = "kind: " + kind + ", "
			}
			text := fmt.Sprintf("forge:\n  - {host: git.example.lan, %surl: 'https://git.example.lan', dial: '127.0.0.1:%s', ca-file: '%s'}\n", said, srv.Port(), ca.File(t))
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			open := func(token string) landing.Forge {
				io, _, _ := ui.Test("")
				a := &app{process: process{streams: io, dir: t.TempDir(), env: config.FromMap(map[string]string{
					"PATH": os.Getenv("PATH"), "HOME": t.TempDir(), "HOMELAB_CONFIG": file,
					"FORGEJO_TOKEN": token, "GITEA_TOKEN": token, "GITHUB_TOKEN": token,
				})}, flags: &verb.Flags{}}
				f, err := a.forge(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			f := open("canary-forge")
			for _, remote := range []string{"https://other.example.lan/lab/infra.git", "file:///srv/git/lab/infra.git", "git@other.example.lan:lab/infra.git"} {
				if got, err := f.Check(t.Context(), remote); got != (landing.Access{}) || err != nil {
					t.Errorf("%s: %+v, %v", remote, got, err)
				}
			}
			if len(sim.Auth()) != 0 {
				t.Fatalf("a host that is not listed was asked: %v", sim.Calls())
			}
			if ok, err := open("").Check(t.Context(), "git@git.example.lan:lab/infra.git"); ok.Token || ok.Kind != kind || ok.Page != "https://git.example.lan/lab/infra" || err != nil {
				t.Errorf("without a token: %+v, %v", ok, err)
			}
			if slices.ContainsFunc(sim.Auth(), func(s string) bool { return s != "" }) {
				t.Error("a token was sent while asking for the kind")
			}
			const remote = "ssh://git@git.example.lan:2222/lab/infra.git"
			if ok, err := f.Check(t.Context(), remote); !ok.Token || err != nil {
				t.Fatalf("%s: %+v, %v", kind, ok, err)
			}
			p, err := f.Open(t.Context(), landing.Proposal{Remote: remote, Review: remote, Branch: "anna/fan", Base: "main", Title: "T"})
			if err != nil || p.State != "open" {
				t.Fatalf("%+v, %v", p, err)
			}
			commit := "5d0e1f25d0e1f25d0e1f25d0e1f25d0e1f25d0e1"
			sim.Merge("lab/infra", p.Number, commit)
			got, m, err := f.Look(t.Context(), remote, p.Number)
			if err != nil || got.State != "merged" || m.Open || !m.Merged || string(m.Commit) != commit {
				t.Errorf("%+v %+v, %v", got, m, err)
			}
			if !named || kind != "forgejo" { // it takes seconds to believe
				continue
			}
			if ok, err := open("wrong").Check(t.Context(), remote); ok.Token || fault.KindOf(err) != fault.Denied {
				t.Errorf("refused: %+v, %v", ok, err)
			}
		}
	}
}

package git_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/git"
)

// helper makes a credential helper of a shell script; what it is asked lands
// in the returned file, first the operation.
func helper(t *testing.T, c *gittest.Repo, script string) string {
	t.Helper()
	asked := filepath.Join(t.TempDir(), "asked")
	c.Git("config", "--add", "credential.helper", "!f() { echo \"$1\" >> '"+asked+"'; cat >> '"+asked+"'; "+script+"; }; f")
	return asked
}

func TestCredential(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, script, user, password string
	}{
		{"known", "echo username=anna; echo password=canary-1", "anna", "canary-1"},
		{"a token without a name", "echo username=; echo password=canary-1", "", "canary-1"},
		{"nothing known", "true", "", ""},
		{"only a name", "echo username=anna", "", ""},
		{"the helper fails", "echo canary-1 >&2; exit 3", "", ""},
		{"the helper says to stop", "echo quit=1", "", ""},
		{"what cannot be a token", "echo username=anna; echo password=two words", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := gittest.New(t, "main")
			asked := helper(t, c, tc.script)
			// Programs that would ask a person: none is started.
			program := filepath.Join(t.TempDir(), "askpass")
			if err := os.WriteFile(program, []byte("#!/bin/sh\ntouch '"+program+".ran'\necho prompted\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			c.Git("config", "core.askPass", program)
			repo, err := git.Open(t.Context(), c.Dir, append(gittest.Env(t), "GIT_ASKPASS="+program, "SSH_ASKPASS="+program))
			if err != nil {
				t.Fatal(err)
			}
			got, ok, err := repo.Credential(t.Context(), &url.URL{Scheme: "https", Host: "git.example.lan:8443", Path: "/lab/infra.git"})
			if err != nil || ok != (tc.password != "") || ok && (got.User != tc.user || got.Password.Reveal() != tc.password) {
				t.Errorf("%q %v, %v", got.User, ok, err)
			}
			if _, err := os.Stat(program + ".ran"); err == nil {
				t.Error("a person was asked")
			}
			data, err := os.ReadFile(asked)
			if err != nil {
				t.Fatal(err)
			}
			// Asked once, by the host and its port; never told to forget or to keep.
			// git leaves the path out unless credential.useHttpPath says so.
			if said := strings.Fields(string(data)); len(said) < 3 || said[0] != "get" || said[1] != "protocol=https" || said[2] != "host=git.example.lan:8443" ||
				strings.Contains(string(data), "store") || strings.Contains(string(data), "erase") {
				t.Errorf("asked %q", said)
			}
		})
	}
}

func TestCredentialPath(t *testing.T) {
	t.Parallel()
	c := gittest.New(t, "main")
	c.Git("config", "credential.useHttpPath", "true")
	asked := helper(t, c, "echo username=a; echo password=canary-1")
	repo := open(t, c)
	if _, ok, err := repo.Credential(t.Context(), &url.URL{Scheme: "https", Host: "git.example.lan", Path: "/lab/infra.git"}); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if data, _ := os.ReadFile(asked); !strings.Contains(string(data), "\npath=lab/infra.git\n") {
		t.Errorf("%q", data)
	}
	// A line break in the path would ask for another host.
	if _, ok, err := repo.Credential(t.Context(), &url.URL{Scheme: "https", Host: "git.example.lan", Path: "/x\nhost=other.example.lan"}); ok || err != nil {
		t.Error(ok, err)
	}
	if data, _ := os.ReadFile(asked); strings.Contains(string(data), "other.example.lan") {
		t.Errorf("%q", data)
	}
}

func TestCredentialEnds(t *testing.T) {
	t.Parallel()
	c := gittest.New(t, "main")
	helper(t, c, "sleep 30")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("enough"))
	defer cancel()
	began := time.Now()
	if _, ok, err := open(t, c).Credential(ctx, &url.URL{Scheme: "https", Host: "git.example.lan"}); ok || err == nil || err.Error() != "enough" || time.Since(began) > 3*time.Second {
		t.Errorf("%v %v after %s", ok, err, time.Since(began))
	}
}

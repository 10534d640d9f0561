package git_test

import (
	"net/http"
	"net/http/cgi"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"homelab/internal/gittest"
	"homelab/internal/tlstest"
	"homelab/pkg/git"
)

// A host that DNS does not know, served over TLS at another loopback address:
// ls-remote, fetch and push find it by the pin, and only by that.
func TestResolving(t *testing.T) {
	t.Parallel()
	origin := gittest.New(t, "main", "--bare")
	origin.Git("config", "http.receivepack", "true")
	clone := origin.Clone()
	clone.Git("checkout", "--quiet", "-b", "main")
	clone.Write("a", "1")
	one := git.Commit(clone.Commit("one"))
	backend := filepath.Join(gittest.New(t, "main").Git("--exec-path"), "git-http-backend")
	ca := tlstest.NewCA(t)
	const host = "git.nowhere.invalid"
	srv := tlstest.Start(t, &cgi.Handler{
		Path: backend,
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(origin.Dir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=anna", "PATH=" + os.Getenv("PATH")},
	}, ca.Cert(t, host), tlstest.Options{Addr: "127.0.0.3:0"})
	clone.Git("config", "http.sslCAInfo", ca.File(t))
	clone.Git("remote", "set-url", "origin", srv.URL(host)+"/"+filepath.Base(origin.Dir))
	e, plain := git.Endpoint{Remote: "origin"}, open(t, clone)
	if _, err := plain.LsRemote(t.Context(), e, ref); err == nil || !strings.Contains(err.Error(), "resolve host") {
		t.Fatalf("without the pin: %v", err)
	}
	pinned := plain.Resolving("other.invalid:443:127.0.0.9", host+":"+srv.Port()+":127.0.0.3")
	if reply, err := pinned.Push(t.Context(), e, git.Push{Commit: one, Ref: ref}); err != nil || reply.Exit != 0 {
		t.Fatalf("%+v, %v", reply, err)
	}
	if told, err := pinned.LsRemote(t.Context(), e, ref); err != nil || told.Refs[ref] != one {
		t.Errorf("%+v, %v", told, err)
	}
	if err := pinned.Fetch(t.Context(), e, 0, "+"+ref+":refs/x"); err != nil || clone.Git("rev-parse", "refs/x") != string(one) {
		t.Errorf("fetch: %v", err)
	}
	// The name is still the certificate's business.
	wrong := tlstest.Start(t, srvHandler{}, ca.Cert(t, "else.invalid"), tlstest.Options{Addr: "127.0.0.3:0"})
	clone.Git("remote", "set-url", "origin", wrong.URL(host)+"/x.git")
	if _, err := plain.Resolving(host+":"+wrong.Port()+":127.0.0.3").LsRemote(t.Context(), e, ref); err == nil || !strings.Contains(err.Error(), "certificate subject name") {
		t.Errorf("another's certificate: %v", err)
	}
}

type srvHandler struct{}

func (srvHandler) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }

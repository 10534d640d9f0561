package landing

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/fault"
)

// overHTTP serves the world's origin as a forge does. fault may answer instead
// of it, before or after it has done its work; it says whether it has.
func (w *world) overHTTP(c *gittest.Repo, fault func(rw http.ResponseWriter, r *http.Request, origin http.Handler) bool) {
	w.t.Helper()
	w.origin.Git("config", "http.receivepack", "true")
	origin := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(mustOutput(w.t, "git", "--exec-path")), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(w.origin.Dir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=anna", "PATH=" + os.Getenv("PATH")},
	}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !fault(rw, r, origin) {
			origin.ServeHTTP(rw, r)
		}
	}))
	w.t.Cleanup(s.Close)
	c.Git("remote", "set-url", "origin", s.URL+"/"+filepath.Base(w.origin.Dir))
}

func pushes(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/git-receive-pack")
}

// cut breaks the connection off.
func cut(rw http.ResponseWriter) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func TestOverHTTP(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		fault    func(rw http.ResponseWriter, r *http.Request, origin http.Handler, nth int64) bool
		kind     fault.Kind
		attempts int
	}{
		{"well", func(http.ResponseWriter, *http.Request, http.Handler, int64) bool { return false }, fault.OK, 1},
		{"the reply is cut after the server accepted", func(rw http.ResponseWriter, r *http.Request, origin http.Handler, _ int64) bool {
			if pushes(r) {
				origin.ServeHTTP(httptest.NewRecorder(), r)
				cut(rw)
			}
			return pushes(r)
		}, fault.OK, 1},
		// Twice, as curl itself tries once more.
		{"cut before the server accepted", func(rw http.ResponseWriter, r *http.Request, _ http.Handler, nth int64) bool {
			early := pushes(r) && nth <= 2
			if early {
				cut(rw)
			}
			return early
		}, fault.OK, 2},
		{"502, once", func(rw http.ResponseWriter, r *http.Request, _ http.Handler, nth int64) bool {
			if pushes(r) && nth == 1 {
				rw.WriteHeader(http.StatusBadGateway)
			}
			return pushes(r) && nth == 1
		}, fault.OK, 2},
		{"may not push", func(rw http.ResponseWriter, r *http.Request, _ http.Handler, _ int64) bool {
			if strings.Contains(r.URL.RawQuery, "git-receive-pack") {
				rw.WriteHeader(http.StatusForbidden)
			}
			return strings.Contains(r.URL.RawQuery, "git-receive-pack")
		}, fault.Denied, 1},
		{"unknown password", func(rw http.ResponseWriter, _ *http.Request, _ http.Handler, _ int64) bool {
			rw.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			rw.WriteHeader(http.StatusUnauthorized)
			return true
		}, fault.Denied, 0},
		{"falsely refused, once", func(rw http.ResponseWriter, _ *http.Request, _ http.Handler, nth int64) bool {
			if nth == 0 {
				rw.WriteHeader(http.StatusForbidden)
			}
			return nth == 0
		}, fault.OK, 1},
		{"never there", func(rw http.ResponseWriter, _ *http.Request, _ http.Handler, _ int64) bool {
			cut(rw)
			return true
		}, fault.Unreachable, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			c := w.clone("anna/fan", "fan")
			w.someone("other", "x")
			before := w.tip()
			var nth, requests atomic.Int64
			w.overHTTP(c, func(rw http.ResponseWriter, r *http.Request, origin http.Handler) bool {
				n := requests.Add(1) - 1
				if pushes(r) {
					n = nth.Add(1)
				} else if n > 0 {
					n = -1
				}
				return tc.fault(rw, r, origin, n)
			})
			r, s := w.land(c, Options{}, func(d *Deps) { d.Patience = 300 * time.Millisecond })
			if r.Kind != tc.kind || r.Attempts != tc.attempts || r.Unknown {
				t.Fatalf("%+v\n%v\n%s", r, r.Trouble, s)
			}
			if tc.kind == fault.OK {
				if w.tip() != r.Landed || !w.has("fan") {
					t.Errorf("the base is at %s: %+v", w.tip(), r)
				}
			} else if w.tip() != before || r.Landed != "" {
				t.Errorf("%+v", r)
			}
			w.sound()
		})
	}
}

// The push went out, and then nobody answers any more: not known, told as not
// known, and settled by the next run.
func TestPushNotKnowable(t *testing.T) {
	t.Parallel()
	for _, accepted := range []bool{true, false} {
		w := newWorld(t, "main")
		c := w.clone("anna/fan", "fan")
		w.someone("other", "x")
		var dead atomic.Bool
		w.overHTTP(c, func(rw http.ResponseWriter, r *http.Request, origin http.Handler) bool {
			if pushes(r) && !dead.Swap(true) && accepted {
				origin.ServeHTTP(httptest.NewRecorder(), r)
			}
			if dead.Load() {
				cut(rw)
			}
			return dead.Load()
		})
		impatient := func(d *Deps) { d.Patience = 200 * time.Millisecond }
		r, s := w.land(c, Options{}, impatient)
		wants(t, r, s, fault.Unreachable, "")
		if !r.Unknown || r.Landed != "" {
			t.Errorf("%+v", r)
		}
		// Nothing can be settled while it is away.
		r, s = w.land(c, Options{}, impatient)
		wants(t, r, s, fault.Unreachable, "")
		c.Git("remote", "set-url", "origin", "file://"+w.origin.Dir)
		tip := w.tip()
		r, s = w.land(c, Options{}, impatient)
		wants(t, r, s, fault.OK, Landed)
		if accepted != (w.tip() == tip) || w.tip() != r.Landed {
			t.Errorf("accepted %v: the base was at %s, is at %s: %+v", accepted, tip, w.tip(), r)
		}
		if left, err := Unfinished(c.Dir+"/.git", ""); err != nil || len(left) > 0 {
			t.Errorf("%+v, %v", left, err)
		}
		w.sound()
	}
}

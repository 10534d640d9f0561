package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/fault"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

func paged() map[string]string {
	return map[string]string{
		"root/stacks/shop/stack.yml":           "version: '1'\nname: shop\npods: [app, db, page]\n",
		"root/compose/docker-compose-app.yml":  "services:\n  web:\n    image: reg.lan/web:1\n",
		"root/compose/docker-compose-db.yml":   "services:\n  db:\n    image: reg.lan/db:1\n",
		"root/compose/docker-compose-page.yml": "services:\n  page:\n    image: reg.lan/page:1\n",
		"spec.yml": `stack: root/stacks/shop
deploy-to: k8s
kube-config: kube.yml
namespace: shop
maintenance-service: page:8080
network:
  http-proxy:
    - host-name: shop.lan
      routes:
        - {path: /, proxy-to: "web:80"}
        - {path: /db, proxy-to: "db:81"}
    - host-name: status.lan
      routes:
        - {path: /, proxy-to: "page:8080"}
`,
	}
}

// backends are where the Ingress leads, "HOST PATH -> SERVICE:PORT".
func (m *machine) backends() string {
	var spec struct {
		Spec struct {
			Rules []struct {
				Host string
				HTTP struct {
					Paths []struct {
						Path    string
						Backend struct {
							Service struct {
								Name string
								Port struct{ Number int }
							}
						}
					}
				}
			}
		}
	}
	raw, err := json.Marshal(m.sim.Object("ingresses", "shop", "shop-1-ingress"))
	if err == nil {
		err = json.Unmarshal(raw, &spec)
	}
	if err != nil {
		m.Fatal(err)
	}
	var out []string
	for _, r := range spec.Spec.Rules {
		for _, p := range r.HTTP.Paths {
			out = append(out, fmt.Sprintf("%s %s -> %s:%d", r.Host, p.Path, p.Backend.Service.Name, p.Backend.Service.Port.Number))
		}
	}
	return strings.Join(out, ", ")
}

func (m *machine) replicas(name string) int {
	spec, _ := m.sim.Object("deployments", "shop", name)["spec"].(kubesim.Object)
	n, _ := spec["replicas"].(float64)
	return int(n)
}

const (
	inPlace = "shop.lan / -> shop-1-app-service:80, shop.lan /db -> shop-1-db-service:81, status.lan / -> shop-1-page-service:8080"
	onPage  = "shop.lan / -> shop-1-page-service:8080, shop.lan /db -> shop-1-page-service:8080, status.lan / -> shop-1-page-service:8080"
)

// scaled gives the Deployment of app an autoscaler that has set it to 3.
func (m *machine) scaled() {
	m.sim.Put("horizontalpodautoscalers", kubesim.Object{
		"metadata": kubesim.Object{"namespace": "shop", "name": "app"},
		"spec":     kubesim.Object{"scaleTargetRef": kubesim.Object{"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop-1-app-deployment"}},
	})
	m.sim.Update("deployments", "shop", "shop-1-app-deployment", func(o kubesim.Object) {
		o["spec"].(kubesim.Object)["replicas"] = 3
	})
	m.sim.Kick("shop/shop-1-app-deployment")
	time.Sleep(5 * time.Second)
}

// bubble makes a machine on which the paged stack is up, app with 3 pods of an
// autoscaler, and a new image of db is in its sources.
func bubbled(t *testing.T, files map[string]string, f func(*machine)) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, root, files)
		f(m)
		m.sim.Close()
		synctest.Wait()
	})
}

func behindAPage(t *testing.T, f func(*machine)) {
	t.Helper()
	bubbled(t, paged(), func(m *machine) {
		m.start()
		m.scaled()
		if got := m.backends(); got != inPlace {
			m.Fatalf("after the start: %s", got)
		}
		m.edit("root/compose/docker-compose-db.yml", "db:1", "db:2")
		f(m)
	})
}

func TestRestartShowsAMaintenancePage(t *testing.T) {
	behindAPage(t, func(m *machine) {
		var during []string
		gone := map[string]bool{}
		m.seen = func(*http.Request) {
			for _, d := range []string{"app", "db", "page"} {
				if m.replicas("shop-1-"+d+"-deployment") == 0 {
					gone[d] = true
					if got := m.backends(); got != onPage {
						m.Errorf("%s is down while the Ingress leads to %s", d, got)
					}
					if !strings.Contains(m.journal(), `"swap"`) {
						m.Errorf("%s is down and nothing in the journal says so", d)
					}
				}
			}
			during = append(during, m.backends())
			if m.backends() != onPage {
				return
			}
			// Whoever looks meanwhile sees work under way: not up, not left behind.
			out, _, err := m.world().Status(m.Context(), m.options("status"))
			if err != nil || out.Kind != fault.Timeout {
				m.Errorf("behind the page its status is %+v, %v", out, err)
			}
		}
		out, err := m.restart()
		if err != nil || out.Verdict != "up" {
			m.Fatalf("%+v, %v", out, err)
		}
		if !slices.Contains(during, onPage) || !gone["app"] || !gone["db"] || gone["page"] {
			m.Errorf("taken down: %v; %v", gone, during)
		}
		m.inPlace("afterwards")
		// Without a difference nothing is shown, and nothing is written.
		during, gone = nil, map[string]bool{}
		m.sim.Forget()
		if out, err := m.restart(); err != nil || out.Verdict != "up" || slices.Contains(during, onPage) || m.sim.Count("patch", "ingresses") > 0 {
			m.Errorf("again: %+v, %v; %v", out, err, during)
		}
	})
}

// inPlace checks that nothing of a swap is left.
func (m *machine) inPlace(when string) {
	m.Helper()
	if got := m.backends(); got != inPlace {
		m.Errorf("%s: the Ingress leads to %s", when, got)
	}
	if app, db, page := m.replicas("shop-1-app-deployment"), m.replicas("shop-1-db-deployment"), m.replicas("shop-1-page-deployment"); app != 3 || db != 1 || page != 1 {
		m.Errorf("%s: replicas %d, %d, %d", when, app, db, page)
	}
	if j := m.journal(); strings.Contains(j, `"swap"`) {
		m.Errorf("%s: the journal holds %s", when, j)
	}
}

// A restart that is killed at any write to the cluster, before or after it came
// through, leaves a journal from which the next verb that writes brings
// everything back, and the one after that ends as if nothing had been.
func TestAKilledSwapIsBroughtBack(t *testing.T) {
	writes := 0
	behindAPage(t, func(m *machine) {
		m.seen = func(*http.Request) { writes++ }
		if out, err := m.restart(); err != nil || out.Verdict != "up" {
			m.Fatalf("%+v, %v", out, err)
		}
	})
	if writes < 8 { // lease, Deployment, Ingress, twice two scales, Ingress, lease
		t.Fatalf("%d writes", writes)
	}
	swapped := 0
	for n := range writes {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, after %t", n+1, after), func(t *testing.T) {
				behindAPage(t, func(m *machine) {
					count := 0
					copied := filepath.Join(m.root, "as-it-was-killed")
					m.death = func(*http.Request) (bool, bool) {
						count++
						if count <= n {
							return false, false
						}
						// What the dying process still does to its files never was.
						if err := os.CopyFS(copied, os.DirFS(m.dir())); err != nil {
							m.Fatal(err)
						}
						return true, after
					}
					if _, _ = m.restart(); !m.dead.Load() {
						m.Fatal("it was not killed")
					}
					if err := errors.Join(os.RemoveAll(m.dir()), os.Rename(copied, m.dir())); err != nil {
						m.Fatal(err)
					}
					m.private()
					m.death = nil
					m.dead.Store(false)
					time.Sleep(5 * time.Second)
					if m.backends() == onPage {
						swapped++
						st, err := m.run(func(ctx context.Context, w *World) (*Outcome, error) {
							out, _, err := w.Status(ctx, m.options("status"))
							return out, err
						})
						if err != nil || st.Kind != fault.Unsafe || !strings.Contains(st.Reason, "cut off behind its maintenance page") {
							m.Errorf("behind the page its status is %+v, %v", st, err)
						}
						if _, err := m.run(func(ctx context.Context, w *World) (*Outcome, error) {
							o := m.options("update")
							o.DryRun = true
							return w.Update(ctx, o)
						}); err != nil {
							m.Fatal(err)
						}
						m.inPlace("settled")
						if m.journal() != "" {
							m.Errorf("the journal still holds %s", m.journal())
						}
					}
					out, err := m.restart()
					if err != nil || out.Verdict != "up" {
						m.Fatalf("the next one: %+v, %v", out, err)
					}
					m.inPlace("at the end")
					if m.journal() != "" {
						m.Errorf("the journal still holds %s", m.journal())
					}
				})
			})
		}
	}
	if swapped < 8 {
		t.Errorf("killed behind the page %d times only", swapped)
	}
}

// private gives what a copy has made anew the rights it had.
func (m *machine) private() {
	if err := filepath.WalkDir(filepath.Join(m.dir(), file.StateDir), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		return os.Chmod(p, mode)
	}); err != nil {
		m.Fatal(err)
	}
}

// Every other way out brings it back at once.
func TestASwapEndsWithItsRun(t *testing.T) {
	for _, r := range []struct {
		name    string
		plan    kubesim.Plan // of the new image
		limit   time.Duration
		onWrite func(m *machine, interrupt context.CancelCauseFunc)
		want    fault.Kind
	}{
		{"the rollout fails", kubesim.Plan{Pod: kubesim.Life{PullError: "manifest unknown"}}, time.Hour, nil, fault.Failed},
		{"time is up while pods are stuck", kubesim.Plan{Terminate: kubesim.Never}, time.Minute, nil, fault.Timeout},
		{"interrupted", kubesim.Plan{}, time.Hour, func(m *machine, interrupt context.CancelCauseFunc) {
			if m.replicas("shop-1-db-deployment") == 0 {
				interrupt(&fault.Signal{Signal: syscall.SIGINT})
			}
		}, fault.Interrupted},
	} {
		t.Run(r.name, func(t *testing.T) {
			behindAPage(t, func(m *machine) {
				m.sim.Expect("shop/shop-1-db-deployment", r.plan)
				ctx, cancel := context.WithTimeoutCause(m.Context(), r.limit, fault.ErrTimeUp)
				defer cancel()
				ctx, interrupt := context.WithCancelCause(ctx)
				shown := false
				m.seen = func(*http.Request) {
					shown = shown || m.backends() == onPage
					if r.onWrite != nil {
						r.onWrite(m, interrupt)
					}
				}
				out, err := m.world().Restart(ctx, RestartOptions{Options: m.options("restart"), NoPull: true, SpecFile: filepath.Join(m.root, "spec.yml")})
				got := out.Kind
				if err != nil {
					got = fault.KindOf(err)
				}
				if signal, ok := errors.AsType[*fault.Signal](err); ok {
					got = signal.Kind()
				}
				if got != r.want || !shown {
					m.Errorf("%s, not %s (shown: %t): %+v, %v", got, r.want, shown, out, err)
				}
				m.inPlace("afterwards")
			})
		})
	}
}

// A swap that cannot be ended is unsafe, and the next verb ends it.
func TestASwapThatCannotEnd(t *testing.T) {
	behindAPage(t, func(m *machine) {
		n := 0
		m.death = func(q *http.Request) (bool, bool) {
			if strings.Contains(q.URL.Path, "/ingresses/") {
				n++
			}
			return n > 1, false // the second write is the one that brings it back
		}
		_, err := m.restart()
		if !unsafeKind(err) || !strings.Contains(err.Error(), "maintenance page") || !strings.Contains(m.journal(), `"swap"`) {
			m.Errorf("%v; %s", err, m.journal())
		}
		m.death = nil
		m.dead.Store(false)
		if out, err := m.update(); err != nil || out.Verdict != "up" {
			m.Errorf("%+v, %v", out, err)
		}
		m.inPlace("afterwards")
		if !m.tale.says("was cut off behind its maintenance page") {
			m.Errorf("%q", m.tale.lines)
		}
	})
}

func TestWhoGoesDownBehindAPage(t *testing.T) {
	all := []render.Workload{{Name: "app"}, {Name: "page"}, {Name: "db"}}
	page := &render.Page{Workload: "page"}
	change := func(kind, name string) []apply.Change {
		return []apply.Change{{Ref: apply.Ref{Kind: kind, Name: name}}}
	}
	for _, r := range []struct {
		name string
		page *render.Page
		all  []render.Workload
		plan apply.Plan
		want string
	}{
		{"nothing changes", page, all, apply.Plan{}, ""},
		{"no page", nil, all, apply.Plan{Update: change("Deployment", "app")}, ""},
		{"one of them", page, all, apply.Plan{Update: change("Deployment", "app")}, "app db"},
		{"made anew", page, all, apply.Plan{Replace: change("Deployment", "db")}, "app db"},
		{"only the page", page, all, apply.Plan{Update: change("Deployment", "page")}, ""},
		{"only made now", page, all, apply.Plan{Create: change("Deployment", "app")}, ""},
		{"something else of that name", page, all, apply.Plan{Update: change("Service", "app")}, ""},
		{"one pod", page, all[1:2], apply.Plan{Update: change("Deployment", "page")}, ""},
	} {
		if got := strings.Join(behind(r.page, r.all, &r.plan), " "); got != r.want {
			t.Errorf("%s: %q, not %q", r.name, got, r.want)
		}
	}
}

func TestBackFromThePage(t *testing.T) {
	rules := func(text string) []any {
		var out []any
		for line := range strings.FieldsSeq(text) { // host/path=service:port
			where, to, _ := strings.Cut(line, "=")
			host, path, _ := strings.Cut(where, "/")
			service, port, _ := strings.Cut(to, ":")
			var n int64
			_, _ = fmt.Sscan(port, &n)
			out = append(out, map[string]any{"host": host, "http": map[string]any{"paths": []any{map[string]any{
				"path": "/" + path, "backend": map[string]any{"service": map[string]any{"name": service, "port": map[string]any{"number": n}}},
			}}}})
		}
		return out
	}
	for _, r := range []struct{ name, was, live, want string }{
		{"all of it", "a/=web:80 a/x=api:81", "a/=page:8080 a/x=page:8080", "a/=web:80 a/x=api:81"},
		{"back already", "a/=web:80", "a/=web:80", ""},
		{"led elsewhere since", "a/=web:80 b/=web:80", "a/=new:80 b/=page:8080", "a/=new:80 b/=web:80"},
		{"a host that is new", "a/=web:80", "a/=page:8080 n/=page:8080", "a/=web:80 n/=page:8080"},
		{"the page's own", "a/=page:8080", "a/=page:8080", ""},
		{"another port of the page", "a/=web:80", "a/=page:9", ""},
	} {
		s := &swap{Rules: rules(r.was), Service: "page", Port: 8080}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var journalled swap // numbers are others then
		if err := json.Unmarshal(raw, &journalled); err != nil {
			t.Fatal(err)
		}
		for _, x := range []*swap{s, &journalled} {
			got, changed := x.back(rules(r.live))
			want := r.want
			if want == "" {
				want = r.live
			}
			if fmt.Sprint(got) != fmt.Sprint(rules(want)) || changed != (r.want != "") {
				t.Errorf("%s: %v, %t", r.name, got, changed)
			}
		}
	}
}

func TestAPageThatIsNotShown(t *testing.T) {
	for _, r := range []struct {
		name   string
		change func(map[string]string)
		noWait bool
		kind   fault.Kind
	}{
		{"no http-proxy", func(f map[string]string) { f["spec.yml"], _, _ = strings.Cut(f["spec.yml"], "network:") }, false, ""},
		{"one pod", func(f map[string]string) {
			f["root/stacks/shop/stack.yml"] = "version: '1'\nname: shop\npods: [app]\n"
			f["root/compose/docker-compose-app.yml"] = "services:\n  web:\n    image: reg.lan/web:1\n  db:\n    image: reg.lan/db:1\n  page:\n    image: reg.lan/page:1\n"
		}, false, ""},
		{"not waited for", func(map[string]string) {}, true, fault.Usage},
	} {
		t.Run(r.name, func(t *testing.T) {
			files := paged()
			r.change(files)
			bubbled(t, files, func(m *machine) {
				m.start()
				m.edit("root/compose/docker-compose-app.yml", "web:1", "web:2")
				o := RestartOptions{Options: m.options("restart"), NoPull: true, SpecFile: filepath.Join(m.root, "spec.yml")}
				o.NoWait = r.noWait
				out, err := m.restartWith(o)
				if r.kind != "" {
					if fault.KindOf(err) != r.kind || !strings.Contains(err.Error(), "maintenance-service") {
						m.Errorf("%+v, %v", out, err)
					}
					return
				}
				if err != nil || out.Verdict != "up" || m.tale.noticed("maintenance-not-shown") != 1 {
					m.Errorf("%+v, %v", out, err)
				}
				m.edit("root/compose/docker-compose-app.yml", "web:2", "web:3")
				o.Strict = true
				if _, err := m.restartWith(o); fault.KindOf(err) != fault.Usage {
					m.Errorf("--strict: %v", err)
				}
			})
		})
	}
}

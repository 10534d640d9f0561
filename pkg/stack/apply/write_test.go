package apply

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
)

const configMap = `{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "acme-1-c", "labels": {"app": "acme-1"}}, "data": {"a": "b"}}`

// planned reads and compares.
func planned(t *testing.T, c *kube.Cluster, s Scope, texts ...string) *Plan {
	t.Helper()
	d := desired(t, texts...)
	l, err := Read(t.Context(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Complete(t.Context(), c, s, d); err != nil {
		t.Fatal(err)
	}
	p, err := Diff(t.Context(), c, l, d, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A write whose answer is lost is looked for before it is sent again; one that
// is refused is not sent again, except that credentials are asked twice.
func TestWritesAreSentOnce(t *testing.T) {
	const path = "/api/v1/namespaces/laconic-acme/configmaps/acme-1-c"
	for _, tc := range []struct {
		name  string
		fault func(n int, after bool) (*http.Response, error) // n counts writes of the object from 1
		sent  int                                             // that arrived
		kind  fault.Kind
		says  string
	}{
		{name: "at once", sent: 1, kind: fault.OK},
		{
			name: "the answer is lost", sent: 1, kind: fault.OK,
			fault: func(n int, after bool) (*http.Response, error) {
				if n == 1 && after {
					return nil, errCut
				}
				return nil, nil
			},
		},
		{
			name: "the request is lost", sent: 1, kind: fault.OK,
			fault: func(n int, after bool) (*http.Response, error) {
				if n == 1 && !after {
					return nil, errCut
				}
				return nil, nil
			},
		},
		{
			name: "a proxy answers twice", sent: 1, kind: fault.OK,
			fault: func(n int, after bool) (*http.Response, error) {
				if n < 3 && !after {
					return html(503), nil
				}
				return nil, nil
			},
		},
		{
			name: "a proxy always answers", kind: fault.Unreachable, says: "Kubernetes object",
			fault: func(_ int, after bool) (*http.Response, error) {
				if !after {
					return html(200), nil
				}
				return nil, nil
			},
		},
		{
			name: "no connection", kind: fault.Unreachable,
			fault: func(_ int, after bool) (*http.Response, error) {
				if !after {
					return nil, errCut
				}
				return nil, nil
			},
		},
		{
			name: "a refusal that was none", sent: 1, kind: fault.OK,
			fault: func(n int, after bool) (*http.Response, error) {
				if n == 1 && !after {
					return refusal(403, `configmaps is forbidden: User "x" cannot patch resource`), nil
				}
				return nil, nil
			},
		},
		{
			name: "not permitted", kind: fault.Denied, says: "cannot patch",
			fault: func(int, bool) (*http.Response, error) {
				return refusal(403, `configmaps is forbidden: User "x" cannot patch resource`), nil
			},
		},
		{
			name: "a quota", kind: fault.Failed, says: "exceeded quota",
			fault: func(int, bool) (*http.Response, error) {
				return refusal(403, `configmaps "acme-1-c" is forbidden: exceeded quota`), nil
			},
		},
		{
			name: "the namespace is going", kind: fault.Conflict,
			fault: func(int, bool) (*http.Response, error) {
				return refusal(403, `unable to create new content in namespace laconic-acme because it is being terminated`), nil
			},
		},
		{
			name: "a field that cannot change", kind: fault.Conflict,
			fault: func(int, bool) (*http.Response, error) {
				return refusal(422, `ConfigMap "acme-1-c" is invalid: data: Forbidden: field is immutable when immutable is set`), nil
			},
		},
		{
			name: "an invalid object", kind: fault.Failed, says: "data[x y]",
			fault: func(int, bool) (*http.Response, error) {
				return refusal(422, `ConfigMap "acme-1-c" is invalid: data[x y]: Invalid value`), nil
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{t: t}
				c := s.client()
				p := planned(t, c, scope(), configMap)
				n := 0
				s.fault = func(req *http.Request, after bool) (*http.Response, error) {
					if req.Method != http.MethodPatch || req.URL.Path != path || tc.fault == nil {
						return nil, nil
					}
					if !after {
						n++
					}
					return tc.fault(n, after)
				}
				began := time.Now()
				err := Apply(t.Context(), c, p, Options{})
				if got := fault.KindOf(err); got != tc.kind || err != nil && !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v: %v", got, err)
				}
				arrived := 0
				for _, w := range s.writes {
					if w == "PATCH "+path {
						arrived++
					}
				}
				if arrived != tc.sent {
					t.Errorf("%d writes arrived: %q", arrived, s.writes)
				}
				if d := time.Since(began); tc.kind == fault.Unreachable && (d < budget || d > 2*budget) {
					t.Errorf("gave up after %v", d)
				}
			})
		})
	}
}

func TestReadsAreRepeated(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault func(path string, n int) (*http.Response, error)
		kind  fault.Kind
	}{
		{"a bad moment", func(_ string, n int) (*http.Response, error) {
			if n < 20 {
				return html(502), nil
			}
			return nil, nil
		}, fault.OK},
		{"no server", func(string, int) (*http.Response, error) { return nil, errCut }, fault.Unreachable},
		{"no rights", func(string, int) (*http.Response, error) { return refusal(403, `User "x" cannot list resource`), nil }, fault.Denied},
		{"no rights to what is not needed", func(path string, _ int) (*http.Response, error) {
			if strings.HasSuffix(path, "storageclasses") || strings.HasSuffix(path, "persistentvolumes") {
				return refusal(403, `User "x" cannot list resource`), nil
			}
			return nil, nil
		}, fault.OK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{t: t}
				c := s.client()
				n := 0
				s.fault = func(req *http.Request, after bool) (*http.Response, error) {
					if after {
						return nil, nil
					}
					n++
					return tc.fault(req.URL.Path, n)
				}
				l, err := Read(t.Context(), c, scope())
				if got := fault.KindOf(err); got != tc.kind {
					t.Fatalf("%v: %v", got, err)
				}
				if err != nil {
					return
				}
				// What could not be read is missed where it is needed.
				err = l.Complete(t.Context(), c, scope(), desired(t, pv("acme-1-data", "/mnt/data", "acme-1", "")))
				p, _ := DeletePlan(l, scope(), DeleteOptions{Volumes: true})
				gone := Delete(t.Context(), c, p, Options{})
				if blind := strings.HasPrefix(tc.name, "no rights to"); blind != (fault.KindOf(err) == fault.Denied) || blind != (fault.KindOf(gone) == fault.Denied) {
					t.Errorf("complete %v, delete %v", err, gone)
				}
			})
		})
	}
}

func TestUnchangedAsksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t}
		c := s.client()
		if err := Apply(t.Context(), c, planned(t, c, scope(), configMap), Options{}); err != nil {
			t.Fatal(err)
		}
		s.writes, s.reads = nil, nil
		s.fault = func(req *http.Request, _ bool) (*http.Response, error) {
			if req.Method != http.MethodGet {
				t.Errorf("%s %s", req.Method, req.URL)
			}
			return nil, nil
		}
		p := planned(t, c, scope(), configMap)
		if p.Writes() != 0 || p.Unchanged != 2 || len(s.writes) != 0 {
			t.Errorf("%+v, writes %q", p, s.writes)
		}
		// One list per kind, the namespace, the generated secrets.
		if len(s.reads) > 14 {
			t.Errorf("%d reads: %q", len(s.reads), s.reads)
		}
	})
}

// The journal hears of a write before it is sent, and can stop it.
func TestStepComesBeforeTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t}
		c := s.client()
		p := planned(t, c, scope(), configMap)
		var steps []string
		err := Apply(t.Context(), c, p, Options{Step: func(st Step) error {
			steps = append(steps, string(st.Action)+" "+st.String())
			if len(s.writes) != len(steps)-1 {
				t.Errorf("%d writes before step %d", len(s.writes), len(steps))
			}
			if len(steps) == 2 {
				return errCut
			}
			return nil
		}})
		if err != errCut || len(s.writes) != 1 { //nolint:errorlint // as it was given
			t.Errorf("%v, writes %q", err, s.writes)
		}
		if want := []string{"create Namespace laconic-acme", "create ConfigMap acme-1-c"}; !slices.Equal(steps, want) {
			t.Errorf("steps %q", steps)
		}
	})
}

func TestLease(t *testing.T) {
	const path = "/apis/coordination.k8s.io/v1/namespaces/laconic-acme/leases/acme-1-lock"
	hold := func(ctx context.Context, c *kube.Cluster, who string, waiting func(string)) (context.Context, *Lease, error) {
		return Hold(ctx, c, &Plan{scope: scope()}, who, Options{}, waiting)
	}
	t.Run("waits for an old one to run out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{t: t}
			c := s.client()
			if _, dead, err := hold(t.Context(), c, "one", nil); err != nil {
				t.Fatal(err)
			} else {
				dead.stop() // as killed: nobody renews it
			}
			began := time.Now()
			told := ""
			_, l, err := hold(t.Context(), c, "two", func(h string) { told = h })
			if err != nil || !l.Waited() || told != "one" {
				t.Fatalf("%v, told %q", err, told)
			}
			if d := time.Since(began); d < leaseLasts || d > leaseLasts+3*time.Second {
				t.Errorf("waited %v", d)
			}
			if err := l.Release(t.Context()); err != nil || s.objects[path] != nil {
				t.Errorf("%v: %v", err, s.objects[path])
			}
		})
	})
	t.Run("is renewed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{t: t}
			c := s.client()
			held, l, err := hold(t.Context(), c, "one", nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Minute, fault.ErrTimeUp)
			defer cancel()
			if _, _, err := hold(ctx, c, "two", nil); fault.KindOf(err) != fault.Timeout || !strings.Contains(err.Error(), "one") {
				t.Errorf("a second run: %v", err)
			}
			if held.Err() != nil {
				t.Error(context.Cause(held))
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("that is lost ends the run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{t: t}
			c := s.client()
			held, l, err := hold(t.Context(), c, "one", nil)
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.objects[path]["spec"].(object)["holderIdentity"] = "two"
			s.fault = func(req *http.Request, after bool) (*http.Response, error) {
				if req.Method == http.MethodPut && !after {
					return refusal(409, "the object has been modified"), nil
				}
				return nil, nil
			}
			s.mu.Unlock()
			<-held.Done()
			if fault.KindOf(context.Cause(held)) != fault.Conflict {
				t.Error(context.Cause(held))
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("that cannot be renewed ends the run when it has run out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{t: t}
			c := s.client()
			held, l, err := hold(t.Context(), c, "one", nil)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			s.mu.Lock()
			s.fault = func(*http.Request, bool) (*http.Response, error) { return nil, errCut }
			s.mu.Unlock()
			<-held.Done()
			if d := time.Since(began); fault.KindOf(context.Cause(held)) != fault.Unreachable || d < leaseLasts {
				t.Errorf("after %v: %v", d, context.Cause(held))
			}
			s.mu.Lock()
			s.fault = nil
			s.mu.Unlock()
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
}

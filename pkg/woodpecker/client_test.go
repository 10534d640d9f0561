package woodpecker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/transport"
)

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer makes a server's answer.
func answer(r *http.Request, status int, kind, body string) *http.Response {
	x := resp(status, kind, versionHeader, "3.17.0", "Date", time.Now().UTC().Format(http.TimeFormat))
	x.Request, x.Body = r, io.NopCloser(strings.NewReader(body))
	return x
}

func client(t *testing.T, base string, f trip) *Client {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Base: u, Transport: f, Exact: true})
}

// However a call waits, the end of its context comes back as what it is.
func TestCauseIsKept(t *testing.T) {
	cause := errors.New("enough")
	hang := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	fail := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
	sick := func(r *http.Request) (*http.Response, error) {
		return answer(r, 500, textType, "database is locked"), nil
	}
	refuse := func(r *http.Request) (*http.Response, error) { return answer(r, 404, "", ""), nil }
	for name, f := range map[string]trip{"hanging": hang, "failing": fail, "sick": sick, "refusing": refuse} {
		calls := map[string]func(ctx context.Context, c *Client) error{
			"pipeline": func(ctx context.Context, c *Client) error { _, err := c.Pipeline(ctx, 1, 57); return err },
			"log": func(ctx context.Context, c *Client) error {
				return c.Log(ctx, 1, 57, 3, func(LogEntry) error { return nil })
			},
		}
		if name == "hanging" { // these are asked once, so other answers are answers
			calls["queue"] = func(ctx context.Context, c *Client) error { _, err := c.Queue(ctx); return err }
			calls["events"] = func(ctx context.Context, c *Client) error {
				return c.Events(ctx, func(StreamEvent) error { return nil })
			}
			calls["cancel"] = func(ctx context.Context, c *Client) error { return c.Cancel(ctx, 1, 57) }
		}
		for what, call := range calls {
			t.Run(name+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, cause)
					defer cancel()
					start := time.Now()
					err := call(ctx, client(t, "https://ci.example", f))
					var api *APIError
					if !errors.Is(err, cause) || errors.As(err, &api) || time.Since(start) != 2*time.Second {
						t.Errorf("%T %v after %s", err, err, time.Since(start))
					}
				})
			})
		}
	}
}

// Exact times of believing a refusal.
func TestConfirmation(t *testing.T) {
	page := "<!doctype html>"
	tests := []struct {
		name  string
		known bool // the call has succeeded before
		sick  bool // /healthz says 500
		trip  trip
		class Class
		tries int
		after time.Duration
	}{
		{"404", false, false, func(r *http.Request) (*http.Response, error) { return answer(r, 404, "", ""), nil }, Refused, 3, 3 * time.Second},
		{"401", false, false, func(r *http.Request) (*http.Response, error) { return answer(r, 401, "", ""), nil }, Refused, 3, 3 * time.Second},
		{"404, known", true, false, func(r *http.Request) (*http.Response, error) { return answer(r, 404, "", ""), nil }, Refused, 5, 15 * time.Second},
		{"404 of a sick server", false, true, func(r *http.Request) (*http.Response, error) { return answer(r, 404, "", ""), nil }, Exhausted, 8, 20 * time.Second},
		{"the web page", false, false, func(r *http.Request) (*http.Response, error) { return answer(r, 200, htmlType, page), nil }, WrongPath, 3, 3 * time.Second},
		{"a redirect", false, false, func(*http.Request) (*http.Response, error) {
			return nil, &transport.RedirectError{Status: 302, Host: "login.example", Reason: "never"}
		}, Misdirected, 3, 3 * time.Second},
		{"a certificate", false, false, func(*http.Request) (*http.Response, error) {
			return nil, &transport.CertificateError{Name: "ci.example", Err: errors.New("expired")}
		}, Untrusted, 2, 250 * time.Millisecond},
		{"400", false, false, func(r *http.Request) (*http.Response, error) { return answer(r, 400, textType, "no"), nil }, Rejected, 1, 0},
		{"refused connections", false, false, func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, Exhausted, 8, 20 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries, good := 0, tt.known
				c := client(t, "https://ci.example", func(r *http.Request) (*http.Response, error) {
					switch {
					case r.URL.Path == "/healthz" && tt.sick:
						return answer(r, 500, textType, "database is locked"), nil
					case r.URL.Path == "/healthz":
						return answer(r, 204, "", ""), nil
					case good:
						good = false
						return answer(r, 200, jsonType, `{"id":9,"number":57,"status":"running"}`), nil
					}
					tries++
					return tt.trip(r)
				})
				if tt.known {
					if _, err := c.Pipeline(t.Context(), 1, 57); err != nil {
						t.Fatal(err)
					}
				}
				start := time.Now()
				_, err := c.Pipeline(t.Context(), 1, 57)
				var api *APIError
				if !errors.As(err, &api) || api.Class != tt.class || tries != tt.tries || time.Since(start) != tt.after {
					t.Errorf("%v, %d tries in %s; want %s, %d in %s", err, tries, time.Since(start), tt.class, tt.tries, tt.after)
				}
				if tt.sick && !strings.Contains(err.Error(), "while its database is not healthy") {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// Addresses are built below the base URL, segment by segment.
func TestAddresses(t *testing.T) {
	for base, want := range map[string]string{
		"https://ci.example":                "/api/repos/lookup/ada/a%20b",
		"https://ci.example/":               "/api/repos/lookup/ada/a%20b",
		"https://ci.example/root/path/?x=1": "/root/path/api/repos/lookup/ada/a%20b",
	} {
		var asked *url.URL
		c := client(t, base, func(r *http.Request) (*http.Response, error) {
			asked = r.URL
			return answer(r, 200, jsonType, `{"id":2,"full_name":"ada/a b"}`), nil
		})
		if _, err := c.Lookup(t.Context(), "ada/a b"); err != nil || asked.EscapedPath() != want || asked.RawQuery != "" {
			t.Errorf("%s: %s, %v", base, asked, err)
		}
		if page := c.PageURL(2, 57, 4); !strings.HasSuffix(page, "/repos/2/pipeline/57/4") || !strings.HasPrefix(page, strings.TrimSuffix(strings.Split(base, "?")[0], "/")) {
			t.Errorf("page %s", page)
		}
	}
}

// A page that is too large is read again in small pieces, and holds the same
// rows.
func TestLargePage(t *testing.T) {
	row := func(n int) string {
		return `{"id":` + itoa(int64(n)) + `,"number":` + itoa(int64(n)) + `,"status":"success","changed_files":["` + strings.Repeat("x", 500<<10) + `"]}`
	}
	asked := 0
	c := client(t, "https://ci.example", func(r *http.Request) (*http.Response, error) {
		asked++
		q := r.URL.Query()
		page, size := 0, 0
		for _, v := range []struct {
			key string
			to  *int
		}{{"page", &page}, {"perPage", &size}} {
			for _, d := range q.Get(v.key) {
				*v.to = *v.to*10 + int(d-'0')
			}
		}
		var rows []string
		for i := (page - 1) * size; i < page*size && i < 33; i++ {
			rows = append(rows, row(100-i))
		}
		return answer(r, 200, jsonType, "["+strings.Join(rows, ",")+"]"), nil
	})
	for page, want := range map[int][2]int64{1: {100, 81}, 2: {80, 68}} {
		rows, err := c.Pipelines(t.Context(), 1, ListOptions{Page: page})
		if err != nil || len(rows) == 0 || rows[0].Number != want[0] || rows[len(rows)-1].Number != want[1] {
			t.Fatalf("page %d: %d rows, %v", page, len(rows), err)
		}
	}
	if asked > 10 {
		t.Errorf("%d requests", asked)
	}
}

// The owner is asked for once, and a failure is not remembered.
func TestUserOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := client(t, "https://ci.example", func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/healthz" {
				return answer(r, 204, "", ""), nil
			}
			if asked++; asked <= 3 {
				return answer(r, 401, textType, "User not authorized"), nil
			}
			return answer(r, 200, jsonType, `{"id":1,"login":"ada"}`), nil
		})
		if _, err := c.User(t.Context()); err == nil {
			t.Error("a refusal is a user")
		}
		for range 3 {
			if u, err := c.User(t.Context()); err != nil || u.Login != "ada" {
				t.Errorf("%+v %v", u, err)
			}
		}
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// Who looks again by a schedule of their own is told at once, and what the
// server asked for; a refusal is still confirmed.
func TestImpatient(t *testing.T) {
	for status, tries := range map[int]int{502: 1, 429: 1, 404: 3} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			c := client(t, "https://ci.example", func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/healthz" {
					return answer(r, 204, "", ""), nil
				}
				asked++
				x := answer(r, status, textType, "no")
				x.Header.Set("Retry-After", "90")
				return x, nil
			})
			_, err := c.Pipelines(Impatient(t.Context()), 1, ListOptions{})
			var api *APIError
			if !errors.As(err, &api) || api.Status != status || asked != tries {
				t.Fatalf("%d: %v after %d tries", status, err, asked)
			}
			if limited := status == 429; (api.RetryAfter == 90*time.Second) != limited || (api.Class == Refused) != (status == 404) {
				t.Errorf("%d: %+v", status, api)
			}
		})
	}
}

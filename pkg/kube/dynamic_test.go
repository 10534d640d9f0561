package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type tripFunc func(*http.Request) (*http.Response, error)

func (f tripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Writers get this package's errors, and client-go repeats nothing.
func TestDynamicSendsOnce(t *testing.T) {
	reset := errors.New("connection reset by peer")
	status := func(code int, text string, h ...string) func() (*http.Response, error) {
		return func() (*http.Response, error) {
			res := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
			for i := 0; i+1 < len(h); i += 2 {
				res.Header.Set(h[i], h[i+1])
			}
			return res, nil
		}
	}
	object := `{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}`
	for _, tc := range []struct {
		name      string
		answer    func() (*http.Response, error)
		good      bool
		transient bool
		denied    bool
		code      int
	}{
		{name: "an object", answer: status(200, object), good: true},
		{name: "no connection", answer: func() (*http.Response, error) { return nil, reset }, transient: true},
		{name: "busy, come again", answer: status(429, `{"kind": "Status", "message": "slow down"}`, "Retry-After", "1"), transient: true, code: 429},
		{name: "a proxy", answer: status(503, "<html>", "Retry-After", "1"), transient: true, code: 503},
		{name: "a proxy that says ok", answer: status(200, "<html>"), transient: true},
		{name: "not permitted", answer: status(403, `{"kind": "Status", "message": "no"}`), denied: true, code: 403},
		{name: "a proxy's refusal", answer: status(403, "<html>"), transient: true, code: 403},
		{name: "invalid", answer: status(422, `{"kind": "Status", "message": "no"}`), code: 422},
		{name: "a conflict", answer: status(409, `{"kind": "Status", "message": "changed"}`), transient: true, code: 409},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var sent []string
			c := New(&url.URL{Scheme: "https", Host: "cluster", Path: "/k8s"}, tripFunc(func(r *http.Request) (*http.Response, error) {
				sent = append(sent, r.Method+" "+r.URL.Path)
				return tc.answer()
			}), Options{})
			d, err := c.Dynamic()
			if err != nil {
				t.Fatal(err)
			}
			o := &unstructured.Unstructured{Object: map[string]any{"kind": "ConfigMap", "apiVersion": "v1", "metadata": map[string]any{"name": "a"}}}
			_, err = d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("ns").
				Apply(t.Context(), "a", o, metav1.ApplyOptions{FieldManager: "x"})
			if (err == nil) != tc.good || IsTransient(err) != tc.transient || IsDenied(err) != tc.denied {
				t.Errorf("%v: transient %v, denied %v", err, IsTransient(err), IsDenied(err))
			}
			if s, ok := errors.AsType[*StatusError](err); tc.code != 0 && (!ok || s.Code != tc.code || s.Verb != "apply" ||
				s.Resource != Core("configmaps") || s.Namespace != "ns" || s.Name != "a") {
				t.Errorf("%+v", s)
			}
			if !slices.Equal(sent, []string{"PATCH /k8s/api/v1/namespaces/ns/configmaps/a"}) {
				t.Errorf("sent %q", sent)
			}
			if h := c.Health(); h.FailingSince.IsZero() != (!tc.transient || tc.code == 409) {
				t.Errorf("health %+v", h)
			}
		})
	}
	t.Run("an ended context", func(t *testing.T) {
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		c := New(&url.URL{Scheme: "https", Host: "cluster"}, tripFunc(func(r *http.Request) (*http.Response, error) {
			cancel(why)
			return nil, r.Context().Err()
		}), Options{})
		d, err := c.Dynamic()
		if err != nil {
			t.Fatal(err)
		}
		err = d.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("ns").Delete(ctx, "a", metav1.DeleteOptions{})
		if !errors.Is(err, why) || IsTransient(err) {
			t.Errorf("%v", err)
		}
	})
}

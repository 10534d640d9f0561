package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"
)

// What another machine has generated before the lease was taken is in use, and
// is not made anew.
func TestStackGeneratedByAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ns := s.namespace()
	s.kiosk(ns)
	id := s.deploy("d")
	look := s.in(ns)
	var once sync.Once
	s.front.mu.Lock()
	s.front.before = func(w write) {
		if w.lease() {
			once.Do(func() {
				look.Create(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "` + id + `-generated-secrets"}, "data": {"KEY": "dGhlaXJz"}}`)
			})
		}
	}
	s.front.mu.Unlock()
	s.must("up", "deployment", "start", "--dir", "d", within)
	if got := look.Get("secrets", id+"-generated-secrets").Str("data", "KEY"); got != "dGhlaXJz" {
		t.Errorf("the value in use was replaced: %s", got)
	}
}

// Services and Secrets of others in a namespace are theirs, whatever a stack
// calls its own.
func TestStackLeavesOthersObjects(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ns := s.namespace()
	s.kiosk(ns)
	look := s.in(ns)
	if _, err := shared.Admin.Do(t.Context(), http.MethodPost, "/api/v1/namespaces", "application/json",
		[]byte(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "`+ns+`"}}`)); err != nil {
		t.Fatal(err)
	}
	look.Create(`{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"mine": "web"}, "ports": [{"port": 80}]}}`)
	look.Create(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mail"}, "type": "example.com/mail", "data": {"ONLY": "aGVyZQ=="}}`)
	s.edit("repo/deployment/spec.yml", "secrets: {}\n", "secrets:\n  mail:\n    keys:\n      TOKEN: {env: MAIL}\n")
	s.deploy("d")
	start := []string{"deployment", "start", "--dir", "d", within}
	s.silent(func() {
		r := s.check(s.with([]string{"MAIL=x"}, start...), "conflict", start...)
		if r.code != 9 || !strings.Contains(r.err, "Service web") || !strings.Contains(r.err, "Secret mail") {
			t.Errorf("%d\n%s", r.code, r.err)
		}
	})
	if look.Get("secrets", "mail").Str("data", "ONLY") != "aGVyZQ==" || look.Get("services", "web").Str("spec", "selector", "mine") != "web" {
		t.Error("they were changed")
	}
}

package kubesim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/internal/tlstest"
)

// Admin is the token of the user who may do everything.
const Admin = "admin-token"

// User is who a bearer token belongs to.
type User struct {
	Name  string
	Token string // "" is Name + "-token"
	Allow []Rule // nil: everything
	Deny  []Rule // taken from what is allowed, which RBAC itself cannot do
}

// Rule is one permission. Empty fields match anything.
type Rule struct {
	Verbs, Resources []string // resources as "pods/log", "deployments"
	Names            []string // a list or watch matches by its metadata.name selector
	Namespace        string
}

func (r Rule) matches(q *Request) bool {
	resource := q.Resource
	if q.Sub != "" {
		resource += "/" + q.Sub
	}
	has := func(all []string, one string) bool { return len(all) == 0 || slices.Contains(all, one) }
	name := q.Name
	if name == "" {
		for term := range strings.SplitSeq(q.Query.Get("fieldSelector"), ",") {
			if n, ok := strings.CutPrefix(term, "metadata.name="); ok {
				name = n
			}
		}
	}
	return has(r.Verbs, q.Verb) && has(r.Resources, resource) && has(r.Names, name) &&
		(r.Namespace == "" || r.Namespace == q.Namespace)
}

// AddUser makes a user known, or changes what it may do.
func (s *Sim) AddUser(u User) User {
	if u.Token == "" {
		u.Token = u.Name + "-token"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Token] = u
	return u
}

// RemoveUser makes a token unknown.
func (s *Sim) RemoveUser(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, token)
}

// permit answers 0, 401 or 403 with its message; s.mu is held.
func (s *Sim) permit(q *Request, token string) (code int, message string) {
	u, known := s.users[token]
	if !known {
		return 401, "Unauthorized"
	}
	q.User = u.Name
	match := func(r Rule) bool { return r.matches(q) }
	if (u.Allow == nil || slices.ContainsFunc(u.Allow, match)) && !slices.ContainsFunc(u.Deny, match) {
		return 0, ""
	}
	k := s.kinds[q.Resource]
	resource := q.Resource
	if k.group != "" {
		resource += "." + k.group
	}
	object := resource
	if q.Name != "" {
		object = fmt.Sprintf("%s %q", resource, q.Name)
	}
	sub := q.Resource
	if q.Sub != "" {
		sub += "/" + q.Sub
	}
	where := "at the cluster scope"
	if q.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", q.Namespace)
	}
	return 403, fmt.Sprintf("%s is forbidden: User %q cannot %s resource %q in API group %q %s",
		object, u.Name, q.Verb, sub, k.group, where)
}

// Server is a Sim behind TLS on the loopback.
type Server struct {
	*tlstest.Server
	URL string
	ca  []byte
}

// Serve starts s with TLS on 127.0.0.1. It ends with the test.
func (s *Sim) Serve(t tlstest.TB) *Server {
	t.Helper()
	ca := tlstest.NewCA(t)
	// The listener ends before the streams it waits for: they end first.
	srv := tlstest.Start(t, s, ca.Cert(t, "127.0.0.1"), tlstest.Options{})
	t.Cleanup(s.Close)
	return &Server{Server: srv, URL: srv.URL("127.0.0.1"), ca: ca.PEM()}
}

// Kubeconfig writes a kubeconfig with one context for the token's user and
// returns its name. The context, cluster and user are all named context.
func (s *Server) Kubeconfig(t tlstest.TB, context, token, namespace string) string {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	file := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %[1]s
clusters:
- name: %[1]s
  cluster: {server: %[2]q, certificate-authority: ca.pem}
contexts:
- name: %[1]s
  context: {cluster: %[1]s, user: %[1]s, namespace: %[4]q}
users:
- name: %[1]s
  user: {token: %[3]q}
`, context, s.URL, token, namespace)
	for name, b := range map[string][]byte{ca: s.ca, file: []byte(text)} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// CA is the PEM certificate of the authority that vouches for the server.
func (s *Server) CA() []byte { return s.ca }

// Package forgesim plays a forge for tests: the part of the APIs of Forgejo,
// Gitea and GitHub that pull requests need, with the differences between them
// and with faults. It is a handler: who serves it chooses names and TLS.
package forgesim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Pull is a pull request.
type Pull struct {
	Number               int64
	State                string
	Merged               bool
	Head, HeadRepo, Base string
	Title, Body          string
	SHA, Commit          string
}

// Sim is one forge.
type Sim struct {
	Kind     string // "forgejo", "gitea" or "github"
	Token    string
	User     string // with Password: who else may ask, by basic authentication
	Password string

	mu     sync.Mutex
	repos  map[string]bool // by full name; whether the token may push
	pulls  map[string][]*Pull
	next   int64
	auth   []string // Authorization of every request, "" for none
	calls  []string
	faults []string
	same   map[string]bool // heads without commits of their own
	marks  map[string]map[string]bool
	moved  map[string]string // old full names
}

// New returns a forge without repositories.
func New(kind, token string) *Sim {
	return &Sim{Kind: kind, Token: token, repos: map[string]bool{}, pulls: map[string][]*Pull{}, next: 7, same: map[string]bool{}, marks: map[string]map[string]bool{}, moved: map[string]string{}}
}

// Repo adds a repository.
func (s *Sim) Repo(name string, push bool) { s.mu.Lock(); defer s.mu.Unlock(); s.repos[name] = push }

// Mark makes a repository "mirror", "archived" or "public".
func (s *Sim) Mark(name, mark string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks[name] == nil {
		s.marks[name] = map[string]bool{}
	}
	s.marks[name][mark] = true
}

// Rename gives a repository a new full name; the old one redirects.
func (s *Sim) Rename(from, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[to], s.marks[to], s.moved[from] = s.repos[from], s.marks[from], to
	delete(s.repos, from)
}

// Close closes a pull request without merging it.
func (s *Sim) Close(repo string, number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pulls[repo] {
		if p.Number == number {
			p.State = "closed"
		}
	}
}

// Add adds a pull request and numbers it.
func (s *Sim) Add(repo string, p Pull) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(repo, p).Number
}

// Empty makes a branch one that has nothing the base has not.
func (s *Sim) Empty(branch string) { s.mu.Lock(); defer s.mu.Unlock(); s.same[branch] = true }

// Fault makes the next requests fail, one each: "lost" does what was asked and
// cuts the connection, "cut" cuts it before; a number answers that status, and
// "html" a proxy's page; "empty" a list without rows; "away:URL" redirects.
func (s *Sim) Fault(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, names...)
}

// Merge merges a pull request as commit.
func (s *Sim) Merge(repo string, number int64, commit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pulls[repo] {
		if p.Number == number {
			p.State, p.Merged, p.Commit = "closed", true, commit
		}
	}
}

// Pulls returns the repository's requests.
func (s *Sim) Pulls(repo string) []Pull {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Pull
	for _, p := range s.pulls[repo] {
		out = append(out, *p)
	}
	return out
}

// Auth returns the Authorization header of every request so far.
func (s *Sim) Auth() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.auth) }

// Calls returns method and path of every request so far.
func (s *Sim) Calls() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.calls) }

func (s *Sim) add(repo string, p Pull) *Pull {
	p.Number = s.next
	s.next++
	if p.State == "" {
		p.State = "open"
	}
	if p.HeadRepo == "" {
		p.HeadRepo = repo
	}
	s.pulls[repo] = append(s.pulls[repo], &p)
	return &p
}

func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auth = append(s.auth, r.Header.Get("Authorization"))
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	fault := ""
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	status, err := strconv.Atoi(fault)
	switch {
	case fault == "cut":
		panic(http.ErrAbortHandler)
	case fault == "html":
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>please wait</html>"))
		return
	case fault == "empty":
		answer(w, http.StatusOK, []any{})
		return
	case strings.HasPrefix(fault, "away:"):
		w.Header().Set("Location", strings.TrimPrefix(fault, "away:"))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	case err == nil:
		answer(w, status, map[string]any{"message": "fault"})
		return
	}
	status, body := s.handle(r)
	if to, ok := body.(redirect); ok {
		w.Header().Set("Location", string(to))
		body = message("Moved")
	}
	if fault == "lost" {
		panic(http.ErrAbortHandler)
	}
	answer(w, status, body)
}

// redirect is an answer's body that becomes its Location.
type redirect string

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func message(text string) map[string]any { return map[string]any{"message": text} }

func (s *Sim) handle(r *http.Request) (int, any) {
	root, want := "/api/v1", "token "+s.Token
	if s.Kind == "github" {
		root, want = "/api/v3", "Bearer "+s.Token
	}
	path := r.URL.Path
	switch {
	case path == "/api/forgejo/v1/version" && s.Kind == "forgejo":
		return 200, map[string]string{"version": "9.0.3"}
	case path == "/api/v1/version" && s.Kind != "github":
		return 200, map[string]string{"version": "1.22.0"}
	case path == "/api/v3/meta" && s.Kind == "github":
		return 200, map[string]string{"installed_version": "3.14.0"}
	}
	rest, ok := strings.CutPrefix(path, root+"/repos/")
	if !ok {
		return 404, message("Not Found")
	}
	part := strings.Split(rest, "/")
	if len(part) < 2 {
		return 404, message("Not Found")
	}
	repo := part[0] + "/" + part[1]
	if to := s.moved[repo]; to != "" {
		status := http.StatusTemporaryRedirect
		if s.Kind == "github" {
			status = http.StatusMovedPermanently
		}
		return status, redirect(root + "/repos/" + strings.Join(append([]string{to}, part[2:]...), "/") + "?" + r.URL.RawQuery)
	}
	user, password, basic := r.BasicAuth()
	known := r.Header.Get("Authorization") == want || basic && s.Password != "" && user == s.User && password == s.Password
	anonymous := r.Header.Get("Authorization") == "" && s.marks[repo]["public"] && r.Method == http.MethodGet
	if !known && !anonymous {
		return 401, message("Bad credentials")
	}
	push, ok := s.repos[repo]
	if !ok {
		return 404, message("The target couldn't be found.")
	}
	switch {
	case len(part) == 2 && r.Method == http.MethodGet:
		out := map[string]any{"full_name": repo, "archived": s.marks[repo]["archived"], "permissions": map[string]bool{"push": push && known}}
		if s.Kind != "github" {
			out["mirror"] = s.marks[repo]["mirror"]
		} else if anonymous {
			delete(out, "permissions")
		}
		return 200, out
	case len(part) == 3 && part[2] == "pulls" && r.Method == http.MethodGet:
		return 200, s.list(repo, r)
	case len(part) == 3 && part[2] == "pulls" && r.Method == http.MethodPost:
		return s.create(repo, push, r)
	case len(part) == 5 && part[2] == "pulls" && s.Kind != "github": // by base and head, in whatever state
		for _, p := range s.pulls[repo] {
			if p.Base == part[3] && p.Head == part[4] {
				return 200, s.row(repo, p, r)
			}
		}
	case len(part) == 4 && part[2] == "pulls" && r.Method == http.MethodGet:
		for _, p := range s.pulls[repo] {
			if strconv.FormatInt(p.Number, 10) == part[3] {
				return 200, s.row(repo, p, r)
			}
		}
	}
	return 404, message("Not Found")
}

func (s *Sim) row(repo string, p *Pull, r *http.Request) map[string]any {
	commit := any(nil)
	switch {
	case p.Merged:
		commit = p.Commit
	case s.Kind == "github":
		commit = strings.Repeat("7", 40) // a merge it tried
	}
	return map[string]any{
		"number": p.Number, "state": p.State, "merged": p.Merged, "merge_commit_sha": commit,
		"html_url": fmt.Sprintf("https://%s/%s/pulls/%d", r.Host, repo, p.Number),
		"head":     map[string]any{"ref": p.Head, "sha": p.SHA, "repo": map[string]any{"full_name": p.HeadRepo}},
		"base":     map[string]any{"ref": p.Base},
	}
}

func (s *Sim) list(repo string, r *http.Request) []any {
	q, size := r.URL.Query(), 30
	if s.Kind == "github" {
		if n, err := strconv.Atoi(q.Get("per_page")); err == nil {
			size = n
		}
	}
	out := []any{}
	for _, p := range s.pulls[repo] {
		owner, _, _ := strings.Cut(p.HeadRepo, "/")
		if p.State != q.Get("state") || s.Kind == "github" && (q.Get("head") != owner+":"+p.Head || q.Get("base") != p.Base) {
			continue
		}
		out = append(out, s.row(repo, p, r))
	}
	page, _ := strconv.Atoi(q.Get("page"))
	from := min(max(page-1, 0)*size, len(out))
	return out[from:min(from+size, len(out))]
}

func (s *Sim) create(repo string, push bool, r *http.Request) (int, any) {
	var in struct{ Head, Base, Title, Body string }
	if json.NewDecoder(r.Body).Decode(&in) != nil {
		return 400, message("not JSON")
	}
	if !push {
		return 403, message("user should have permission to write to the repository")
	}
	headRepo, branch := repo, in.Head
	if owner, name, ok := strings.Cut(in.Head, ":"); ok {
		branch = name
		_, base, _ := strings.Cut(repo, "/")
		headRepo = owner + "/" + base
	}
	if s.same[branch] {
		if s.Kind == "github" {
			return 422, map[string]any{"message": "Validation Failed", "errors": []any{message("No commits between " + in.Base + " and " + branch)}}
		}
		return 409, message("no commits between " + in.Base + " and " + branch)
	}
	for _, p := range s.pulls[repo] {
		if p.State == "open" && p.Head == branch && p.HeadRepo == headRepo && p.Base == in.Base {
			if s.Kind == "github" {
				return 422, map[string]any{"message": "Validation Failed", "errors": []any{message("A pull request already exists for " + in.Head + ".")}}
			}
			return 409, message(fmt.Sprintf("pull request already exists for these targets [id: 1, issue_id: %d, head_repo_id: 3, base_repo_id: 3, head_branch: %s, base_branch: %s]", p.Number, p.Head, p.Base))
		}
	}
	return 201, s.row(repo, s.add(repo, Pull{Head: branch, HeadRepo: headRepo, Base: in.Base, Title: in.Title, Body: in.Body}), r)
}

package woodsim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	typeJSON = "application/json; charset=utf-8"
	typeText = "text/plain; charset=utf-8"
	typeHTML = "text/html; charset=UTF-8"
)

// answer is a finished answer. Body nil means empty.
type answer struct {
	status int
	kind   string
	body   []byte
	header http.Header
	stream func(w http.ResponseWriter, r *http.Request) // instead of the rest
}

func empty(status int) answer { return answer{status: status} }
func text(status int, body string) answer {
	return answer{status: status, kind: typeText, body: []byte(body)}
}
func reply(v any) answer { return answer{status: 200, kind: typeJSON, body: mustJSON(v)} }

// page is the web interface, which answers whatever else does not.
func page() answer {
	return answer{status: 200, kind: typeHTML, body: []byte("<!doctype html><title>wp</title><div id=app></div>\n")}
}

// ServeHTTP answers like the server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	s.lock()
	path := r.URL.Path
	inside := s.o.RootPath == ""
	if rest, ok := strings.CutPrefix(path, s.o.RootPath+"/"); ok {
		path, inside = "/"+rest, true
	}
	i := len(s.requests)
	s.requests = append(s.requests, Request{
		Time: s.clock, Method: r.Method, Path: path, Query: r.URL.RawQuery, Host: r.Host, Header: r.Header.Clone(),
	})
	a, known := page(), false
	if inside {
		c := &call{s: s, r: r, body: body, trouble: s.trouble()}
		a, known = c.route(path)
	}
	if !known {
		s.unexpected = append(s.unexpected, s.requests[i])
	}
	if i < len(s.requests) {
		s.requests[i].Status = a.status
	}
	now, version := s.clock, s.o.Version
	s.unlock()

	h := w.Header()
	h.Set("X-Woodpecker-Version", version)
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	h.Set("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate, value")
	if a.kind == typeHTML {
		h.Set("Cache-Control", "no-cache")
	}
	maps.Copy(h, a.header)
	if a.kind != "" {
		h.Set("Content-Type", a.kind)
	}
	if a.stream != nil {
		a.stream(w, r)
		return
	}
	if a.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	if a.kind == "" {
		h["Content-Type"] = nil // or net/http would guess one
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body)
	}
}

// call is one request while it is answered, under the server's lock.
type call struct {
	s       *Server
	r       *http.Request
	body    []byte
	trouble Trouble
	user    *account
}

// route finds what answers. The second result is false for a path or method
// the server does not have.
func (c *call) route(path string) (answer, bool) {
	get, post := c.r.Method == http.MethodGet, c.r.Method == http.MethodPost
	switch {
	case path == "/version" && get:
		var o obj
		o.add("source", "https://github.com/woodpecker-ci/woodpecker")
		o.add("version", c.s.o.Version)
		return reply(o), true
	case path == "/healthz" && get:
		if c.trouble.Health {
			return text(500, "database is locked"), true
		}
		return empty(204), true
	}
	rest, ok := strings.CutPrefix(path, "/api/")
	if !ok {
		return page(), path == "/" && get || strings.HasPrefix(path, "/repos/") && get
	}
	c.authenticate()
	if name, ok := strings.CutPrefix(rest, "repos/lookup/"); ok && get {
		return c.lookup(name), true
	}
	p := strings.Split(rest, "/")
	switch {
	case get && rest == "user":
		return c.self(), true
	case get && rest == "user/repos":
		return c.ownRepos(), true
	case get && rest == "queue/info":
		return c.queueInfo(), true
	case get && rest == "stream/events":
		return c.events(), true
	case get && len(p) == 5 && p[0] == "stream" && p[1] == "logs":
		return c.inRepo(p[2], (*call).mayPull, func(r *Repo) answer { return c.logStream(r, p[3], p[4]) }), true
	case len(p) < 2 || p[0] != "repos":
		return page(), false
	}
	repo, p := p[1], p[2:]
	pull := func(f func(*Repo) answer) (answer, bool) { return c.inRepo(repo, (*call).mayPull, f), true }
	push := func(f func(*Repo) answer) (answer, bool) { return c.inRepo(repo, (*call).mayPush, f), true }
	switch {
	case get && len(p) == 0:
		return pull(func(r *Repo) answer { return reply(r.json()) })
	case get && len(p) == 1 && p[0] == "permissions":
		return c.inRepo(repo, func(*call, *Repo) bool { return true }, c.permissions), true
	case get && len(p) == 1 && p[0] == "pipelines":
		return pull(c.list)
	case post && len(p) == 1 && p[0] == "pipelines":
		return push(c.run)
	case get && len(p) == 2 && p[0] == "pipelines":
		return pull(func(r *Repo) answer { return c.detail(r, p[1]) })
	case post && len(p) == 2 && p[0] == "pipelines":
		return push(func(r *Repo) answer { return c.inRow(r, p[1], c.restart) })
	case get && len(p) == 3 && p[0] == "logs":
		return pull(func(r *Repo) answer { return c.inRow(r, p[1], func(x *row) answer { return c.logs(x, p[2]) }) })
	case post && len(p) == 3 && p[0] == "pipelines":
		write, ok := map[string]func(*row) answer{"cancel": c.cancel, "approve": c.approve, "decline": c.decline}[p[2]]
		if ok {
			return push(func(r *Repo) answer { return c.inRow(r, p[1], write) })
		}
	}
	return page(), false
}

func (c *call) authenticate() {
	token, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if !ok || c.trouble.User {
		return
	}
	for _, u := range c.s.users {
		if u.Token != "" && u.Token == token {
			c.user = u
		}
	}
}

func (c *call) inRepo(id string, may func(*call, *Repo) bool, f func(*Repo) answer) answer {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return empty(400)
	}
	i := slices.IndexFunc(c.s.repos, func(r *Repo) bool { return r.id == n })
	if i < 0 || c.trouble.Repo {
		return c.nothing()
	}
	c.sync(c.s.repos[i])
	if !may(c, c.s.repos[i]) {
		return c.nothing()
	}
	return f(c.s.repos[i])
}

// nothing refuses without telling what is missing.
func (c *call) nothing() answer {
	if c.user == nil {
		return empty(401)
	}
	return empty(404)
}

// sync stores the user's permission, as any request about a repository does.
func (c *call) sync(r *Repo) {
	if c.user == nil {
		return
	}
	g := c.user.perms[r]
	if g == nil && r.o.Visibility == "public" {
		g = &grant{Perm: Perm{Pull: true}}
		c.user.perms[r] = g
	}
	if g != nil && g.synced == 0 && !g.Never {
		g.synced = c.s.unix()
	}
}

func (c *call) perm(r *Repo) grant {
	var g grant
	if c.user != nil {
		if p := c.user.perms[r]; p != nil {
			g = *p
		}
		if c.user.Admin {
			g.Pull, g.Push, g.Admin = true, true, true
		}
	}
	if r.o.Visibility == "public" || r.o.Visibility == "internal" && c.user != nil {
		g.Pull = true
	}
	return g
}

func (c *call) mayPull(r *Repo) bool { return c.perm(r).Pull }
func (c *call) mayPush(r *Repo) bool { return c.perm(r).Push }

func (c *call) permissions(r *Repo) answer {
	g := c.perm(r)
	var o obj
	o.add("pull", g.Pull)
	o.add("push", g.Push)
	o.add("admin", g.Admin)
	o.add("synced", g.synced)
	o.add("created", g.synced)
	o.add("updated", g.synced)
	return reply(o)
}

func (c *call) inRow(r *Repo, number string, f func(*row) answer) answer {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return empty(400)
	}
	x := r.find(n)
	if x == nil || c.trouble.Row {
		return empty(404)
	}
	return f(x)
}

func (c *call) lookup(name string) answer {
	name = strings.Trim(name, "/")
	i := slices.IndexFunc(c.s.repos, func(r *Repo) bool { return strings.EqualFold(r.o.FullName, name) })
	if i < 0 {
		i = slices.IndexFunc(c.s.repos, func(r *Repo) bool {
			return slices.ContainsFunc(r.o.RenamedFrom, func(old string) bool { return strings.EqualFold(old, name) })
		})
	}
	if i < 0 || c.trouble.Repo {
		return c.nothing()
	}
	c.sync(c.s.repos[i])
	if !c.mayPull(c.s.repos[i]) {
		return c.nothing()
	}
	return reply(c.s.repos[i].json())
}

func (c *call) self() answer {
	if c.user == nil {
		return text(401, "User not authorized")
	}
	var o obj
	o.add("id", c.user.id)
	o.add("forge_id", 1)
	o.add("forge_remote_id", strconv.FormatInt(c.user.id, 10))
	o.add("login", c.user.Login)
	o.add("email", c.user.Email)
	o.add("avatar_url", c.s.o.ForgeURL+"/avatars/"+c.user.Login)
	o.addIf(c.user.Admin, "admin", true)
	o.add("org_id", c.user.id)
	return reply(o)
}

func (c *call) ownRepos() answer {
	if c.user == nil {
		return text(401, "User not authorized")
	}
	name := c.r.URL.Query().Get("name")
	list := []obj{}
	for _, r := range c.s.repos {
		g := c.user.perms[r]
		if g == nil || g.synced == 0 || !g.Push && !g.Admin || r.o.Inactive {
			continue
		}
		if name != "" && c.s.v.atLeast(11) && r.name() != name {
			continue
		}
		o := r.json()
		if len(r.rows) > 0 {
			o.add("last_pipeline", r.newest()[0].json(false, 0))
		}
		list = append(list, o)
	}
	return reply(list)
}

func (r *Repo) name() string { return r.o.FullName[strings.LastIndex(r.o.FullName, "/")+1:] }

func (r *Repo) newest() []*row {
	rows := slices.Clone(r.rows)
	slices.SortFunc(rows, func(a, b *row) int { return int(b.number - a.number) })
	return rows
}

// json gives the repository as the interface shows it.
func (r *Repo) json() obj {
	v := r.s.v
	owner := strings.TrimSuffix(r.o.FullName, "/"+r.name())
	var trusted obj
	trusted.add("network", false)
	trusted.add("volumes", false)
	trusted.add("security", false)
	var o obj
	o.add("id", r.id)
	o.add("forge_id", 1)
	o.add("forge_remote_id", strconv.FormatInt(r.id, 10))
	o.add("org_id", 1)
	o.add("owner", owner)
	o.add("name", r.name())
	o.add("full_name", r.o.FullName)
	o.add("avatar_url", r.s.o.ForgeURL+"/avatars/"+owner)
	o.add("forge_url", r.o.ForgeURL)
	o.add("clone_url", r.o.CloneURL)
	o.add("clone_url_ssh", r.o.CloneSSH)
	o.add("default_branch", r.o.DefaultBranch)
	o.add("pr_enabled", true)
	o.add("timeout", r.o.Timeout)
	o.add("visibility", r.o.Visibility)
	o.add("private", r.o.Visibility != "public")
	o.add("trusted", trusted)
	approval := "none"
	if r.o.Approval {
		approval = "all_events"
	}
	o.add("require_approval", approval)
	o.addIf(v.atLeast(8), "approval_allowed_users", nil)
	o.add("active", !r.o.Inactive)
	o.add("allow_pr", true)
	o.add("allow_deploy", false)
	o.add("config_file", r.o.ConfigFile)
	o.add("cancel_previous_pipeline_events", r.o.CancelPrevious)
	o.add("netrc_trusted", nil)
	o.addIf(v.atLeast(11), "config_extension_endpoint", r.o.ConfigURL)
	if v.atLeast(14) {
		o.add("config_extension_exclusive", false)
		o.add("config_extension_netrc", false)
		o.add("registry_extension_endpoint", "")
		o.add("registry_extension_netrc", false)
		o.add("secret_extension_endpoint", "")
		o.add("secret_extension_netrc", false)
	}
	return o
}

func (c *call) validEvent(e string) bool {
	known := []string{"push", "pull_request", "pull_request_closed", "tag", "release", "deployment", "cron", "manual"}
	return slices.Contains(known, e) || e == "pull_request_metadata" && c.s.v.atLeast(10)
}

func (c *call) validStatus(st string) bool {
	known := []string{skipped, pending, running, success, failure, killed, errored, blocked, declined, created}
	return slices.Contains(known, st) || st == canceled && c.s.v.atLeast(14)
}

func (c *call) list(r *Repo) answer {
	q := c.r.URL.Query()
	var events []string
	if e := q.Get("event"); e != "" {
		events = strings.Split(e, ",")
		if slices.ContainsFunc(events, func(e string) bool { return !c.validEvent(e) }) {
			return empty(400)
		}
	}
	status := q.Get("status")
	if status != "" && !c.validStatus(status) {
		return empty(400)
	}
	var limits [2]int64 // before, after
	for i, key := range []string{"before", "after"} {
		if v := q.Get(key); v != "" {
			t, err := time.Parse(time.RFC3339, v)
			if err != nil {
				return empty(400)
			}
			limits[i] = t.Unix()
		}
	}
	if c.trouble.List {
		return empty(500)
	}
	list := []obj{}
	for _, x := range r.newest() {
		if b := q.Get("branch"); b != "" && x.branch != b ||
			len(events) > 0 && !slices.Contains(events, x.event) ||
			!strings.Contains(x.ref, q.Get("ref")) ||
			status != "" && x.status != status ||
			limits[0] != 0 && x.created >= limits[0] ||
			limits[1] != 0 && x.created <= limits[1] {
			continue
		}
		list = append(list, x.json(false, 0))
	}
	page, err := strconv.Atoi(q.Get("page"))
	if err != nil || page < 1 {
		page = 1
	}
	size, err := strconv.Atoi(q.Get("perPage"))
	if err != nil || size < 1 || size > 50 {
		size = 50
	}
	from := min(size*(page-1), len(list))
	return reply(list[from:min(from+size, len(list))])
}

func (c *call) detail(r *Repo, number string) answer {
	if number == "latest" {
		branch := c.r.URL.Query().Get("branch")
		if branch == "" {
			branch = r.o.DefaultBranch
		}
		for _, x := range r.newest() {
			if x.branch == branch {
				return reply(x.json(true, 0))
			}
		}
		return empty(404)
	}
	return c.inRow(r, number, func(x *row) answer { return reply(x.json(true, 0)) })
}

func (c *call) logs(x *row, id string) answer {
	st, _, bad := c.step(x, id)
	if st == nil {
		return bad
	}
	if c.trouble.Logs {
		return empty(500)
	}
	if st.log.n > 2000 && !st.log.shuffled && !st.log.live {
		log, now := st.log, c.s.clock
		return answer{status: 200, kind: typeJSON, stream: func(w http.ResponseWriter, _ *http.Request) {
			b := bufio.NewWriterSize(w, 32<<10)
			writeLog(b, &log, now, nil, st.id)
			_ = b.Flush()
		}}
	}
	var b bytes.Buffer
	writeLog(&b, &st.log, c.s.clock, c.s, st.id)
	return answer{status: 200, kind: typeJSON, body: b.Bytes()}
}

func writeLog(w io.Writer, l *logbook, now time.Time, s *Server, stepID int64) {
	first := true
	write := func(e entry) bool {
		sep := ","
		if first {
			sep = "["
		}
		first = false
		_, err := w.Write(append([]byte(sep), e.wire(stepID*1_000_000+int64(e.line)+1, stepID)...))
		return err == nil
	}
	if s != nil {
		l.found(now, s.rand, write)
	} else {
		l.found(now, nil, write)
	}
	end := "]"
	if first {
		end = "null"
	}
	_, _ = io.WriteString(w, end)
}

func (c *call) step(x *row, id string) (*step, *workflow, answer) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return nil, nil, empty(400)
	}
	if !c.trouble.Step {
		for _, w := range x.workflows {
			for _, st := range w.steps {
				if st.id == n {
					return st, w, answer{}
				}
			}
		}
	}
	return nil, nil, empty(404)
}

func (c *call) queueInfo() answer {
	switch {
	case c.user == nil:
		return text(401, "User not authorized")
	case !c.user.Admin:
		return text(403, "User not authorized")
	}
	tasks := map[string][]obj{pending: {}, running: {}}
	for _, r := range c.s.repos {
		for _, x := range r.rows {
			if x.status != pending && x.status != running {
				continue
			}
			for _, w := range x.workflows {
				if w.state != pending && w.state != running {
					continue
				}
				var o obj
				o.add("id", strconv.FormatInt(w.id, 10))
				o.add("pid", w.pid)
				o.add("name", w.plan.Name)
				o.add("labels", map[string]string{"repo": r.o.FullName})
				o.add("dependencies", nil)
				o.add("run_on", nil)
				o.add("dep_status", map[string]string{})
				o.add("agent_id", w.agent)
				o.add("pipeline_id", x.id)
				o.add("repo_id", r.id)
				o.add("pipeline_number", x.number)
				o.add("agent_name", "")
				tasks[w.state] = append(tasks[w.state], o)
			}
		}
	}
	var stats, o obj
	stats.add("worker_count", c.s.workers)
	stats.add("pending_count", len(tasks[pending]))
	stats.add("waiting_on_deps_count", 0)
	stats.add("running_count", len(tasks[running]))
	o.add("pending", tasks[pending])
	o.add("waiting_on_deps", []obj{})
	o.add("running", tasks[running])
	o.add("stats", stats)
	o.add("paused", c.s.paused)
	b := mustJSON(o)
	var indented bytes.Buffer
	_ = json.Indent(&indented, b, "", "    ")
	return answer{status: 200, kind: typeJSON, body: indented.Bytes()}
}

func (c *call) wrote(kind string, r *Repo, number, row int64) {
	c.s.writes = append(c.s.writes, Write{c.s.clock, kind, c.user.Login, r.id, number, row})
}

func (c *call) run(r *Repo) answer {
	var in struct {
		Message   string            `json:"message"`
		Branch    string            `json:"branch"`
		Variables map[string]string `json:"variables"`
	}
	if json.NewDecoder(bytes.NewReader(c.body)).Decode(&in) != nil {
		return empty(400)
	}
	head, ok := r.heads[in.Branch]
	if !ok {
		return empty(500)
	}
	head.Branch, head.Author = in.Branch, c.user.Login
	plan := Green(2 * time.Second)
	switch {
	case len(r.next) > 0:
		plan, r.next = r.next[0], r.next[1:]
	case r.plans != nil:
		plan = r.plans(head)
	}
	n := r.manualRow(head, plan, in.Variables)
	n.email = c.user.Email
	n.create(true)
	switch {
	case n.zombie:
		c.wrote("run", r, 0, 0)
		return answer{status: 204, header: http.Header{"Pipeline-Filtered": {"true"}}}
	case plan.FetchError != "":
		c.wrote("run", r, 0, n.id)
		return empty(204)
	}
	c.wrote("run", r, 0, n.id)
	return reply(n.json(true, 0))
}

func (c *call) restart(x *row) answer {
	if x.status == blocked {
		return text(400, "cannot restart a pipeline with status blocked")
	}
	r := x.repo
	var plan *Plan
	if len(r.next) > 0 {
		plan, r.next = &r.next[0], r.next[1:]
	}
	n := x.restart(plan)
	c.wrote("restart", r, x.number, n.id)
	if x.plan.RerunBroken && x.stored {
		return empty(500)
	}
	return reply(n.json(true, 0))
}

func (c *call) cancel(x *row) answer {
	if !x.active() {
		return text(400, "Cannot cancel a non-running or non-pending or non-blocked pipeline")
	}
	login := c.user.Login
	x.cancel(func() { x.cancelUser = login })
	c.wrote("cancel", x.repo, x.number, x.id)
	return empty(204)
}

func (c *call) approve(x *row) answer {
	if x.status != blocked {
		return text(400, fmt.Sprintf("cannot approve a pipeline with status %s", x.status))
	}
	x.approve(c.user.Login)
	c.wrote("approve", x.repo, x.number, x.id)
	return reply(x.json(true, 0))
}

func (c *call) decline(x *row) answer {
	if x.status != blocked {
		return empty(500)
	}
	x.decline(c.user.Login)
	c.wrote("decline", x.repo, x.number, x.id)
	return reply(x.json(true, 0))
}

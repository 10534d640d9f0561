package woodsim

import (
	"cmp"
	"crypto/sha1"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// User is somebody with a token.
type User struct {
	Login string
	Token string
	Email string // "" means LOGIN@example.com
	Admin bool
}

type account struct {
	User
	id    int64
	perms map[*Repo]*grant
}

// Perm is what the forge allows a user in a repository.
type Perm struct {
	Pull, Push, Admin bool
	// Unsynced: the server stores the permission only with the user's first
	// request about the repository, instead of having done so at login.
	Unsynced bool
	// Never: the forge tells the server nothing; synced stays 0.
	Never bool
}

type grant struct {
	Perm
	synced int64
}

// AddUser adds a user. The first one has id 1.
func (s *Server) AddUser(u User) {
	s.lock()
	defer s.unlock()
	u.Email = cmp.Or(u.Email, u.Login+"@example.com")
	s.users = append(s.users, &account{User: u, id: int64(len(s.users) + 1), perms: map[*Repo]*grant{}})
}

// SetToken gives a user another token; the old one is no longer known.
func (s *Server) SetToken(login, token string) {
	s.lock()
	defer s.unlock()
	s.account(login).Token = token
}

func (s *Server) account(login string) *account {
	for _, u := range s.users {
		if u.Login == login {
			return u
		}
	}
	panic("woodsim: no user " + login)
}

// RepoOptions describe a repository.
type RepoOptions struct {
	FullName      string // "ada/app"; more segments allowed
	ID            int64  // 0: the next one
	Visibility    string // "" means "public"; "private", "internal"
	DefaultBranch string // "" means "main"
	Inactive      bool   // disabled in Woodpecker: hooks are dropped
	ConfigFile    string
	ConfigURL     string // config_extension_endpoint
	Timeout       int64  // minutes; 0 means 60
	ForgeURL      string // "" means the server's forge and the name; likewise the next two
	CloneURL      string
	CloneSSH      string
	RenamedFrom   []string // former full names the lookup follows
	// CancelPrevious are the events whose new rows cancel older active ones;
	// nil means push and pull_request, empty none.
	CancelPrevious []string
	Approval       bool // every row waits for approval
}

// Repo is a repository of the server.
type Repo struct {
	s     *Server
	o     RepoOptions
	id    int64
	rows  []*row
	heads map[string]Commit
	next  []Plan
	plans func(Commit) Plan // of manual runs, if somebody executes them for real
}

// AddRepo adds a repository. Users need Allow to see more than a guest.
func (s *Server) AddRepo(o RepoOptions) *Repo {
	s.lock()
	defer s.unlock()
	if o.ID == 0 {
		o.ID = s.lastRepo + 1
	}
	s.lastRepo = max(s.lastRepo, o.ID)
	base := s.o.ForgeURL + "/" + o.FullName
	o.Visibility = cmp.Or(o.Visibility, "public")
	o.DefaultBranch = cmp.Or(o.DefaultBranch, "main")
	o.Timeout = cmp.Or(o.Timeout, 60)
	o.ForgeURL = cmp.Or(o.ForgeURL, base)
	o.CloneURL = cmp.Or(o.CloneURL, base+".git")
	host := s.o.ForgeURL[strings.LastIndex(s.o.ForgeURL, "/")+1:]
	o.CloneSSH = cmp.Or(o.CloneSSH, "git@"+host+":"+o.FullName+".git")
	if o.CancelPrevious == nil {
		o.CancelPrevious = []string{"push", "pull_request"}
	}
	r := &Repo{s: s, o: o, id: o.ID, heads: map[string]Commit{}}
	s.repos = append(s.repos, r)
	return r
}

// ID is the repository's id.
func (r *Repo) ID() int64 { return r.id }

// Allow sets what the forge allows the user.
func (r *Repo) Allow(login string, p Perm) {
	r.s.lock()
	defer r.s.unlock()
	g := &grant{Perm: p}
	if !p.Unsynced && !p.Never {
		g.synced = r.s.unix()
	}
	r.s.account(login).perms[r] = g
}

// SetActive enables or disables the repository.
func (r *Repo) SetActive(on bool) {
	r.s.lock()
	defer r.s.unlock()
	r.o.Inactive = !on
}

// Rename changes the full name; the lookup follows the old one.
func (r *Repo) Rename(fullName string) {
	r.s.lock()
	defer r.s.unlock()
	r.o.RenamedFrom = append(r.o.RenamedFrom, r.o.FullName)
	r.o.FullName = fullName
}

// PlanNext gives the plans of the next rows that requests make: restarts and
// manual runs. Without one a restart repeats its origin's plan and a manual
// run is Green of two seconds.
func (r *Repo) PlanNext(p ...Plan) {
	r.s.lock()
	defer r.s.unlock()
	r.next = append(r.next, p...)
}

func (r *Repo) setPlanner(f func(Commit) Plan) {
	r.s.lock()
	defer r.s.unlock()
	r.plans = f
}

// SetHead tells what the forge answers for the branch's head.
func (r *Repo) SetHead(branch string, c Commit) {
	r.s.lock()
	defer r.s.unlock()
	r.heads[branch] = c.filled(branch)
}

// Commit is what an event is about.
type Commit struct {
	SHA     string // "" means one made from the message
	Branch  string // "" means the default branch; a pull request's target
	Message string // "" means "Change\n"
	Author  string // "" means "ada"
	Source  string // a pull request's own branch
	Fork    bool
}

func (c Commit) filled(branch string) Commit {
	c.Branch = cmp.Or(c.Branch, branch)
	c.Message = cmp.Or(c.Message, "Change\n")
	c.Author = cmp.Or(c.Author, "ada")
	c.SHA = cmp.Or(c.SHA, SHA(c.Message))
	return c
}

// SHA makes a commit id out of any text.
func SHA(text string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(text))) }

var skipMarker = regexp.MustCompile(`\[(?i:ci *skip|skip *ci)\]`)

// Push delivers the push of a commit.
func (r *Repo) Push(c Commit, p Plan) *Pipeline {
	r.s.lock()
	defer r.s.unlock()
	c = c.filled(r.o.DefaultBranch)
	r.heads[c.Branch] = c
	n := r.row("push", c, p)
	n.branch, n.ref = c.Branch, "refs/heads/"+c.Branch
	return r.deliver(n, skipMarker.MatchString(c.Message))
}

// Tag delivers the push of a tag on the commit.
func (r *Repo) Tag(name string, c Commit, p Plan) *Pipeline {
	r.s.lock()
	defer r.s.unlock()
	c = c.filled(r.o.DefaultBranch)
	n := r.row("tag", c, p)
	n.branch, n.ref, n.tagTitle = "", "refs/tags/"+name, name
	n.message, n.changed = "created tag "+name, nil
	n.forgeURL = r.o.ForgeURL + "/src/tag/" + name
	return r.deliver(n, false)
}

// Cron starts the named cron job on the commit.
func (r *Repo) Cron(name string, c Commit, p Plan) *Pipeline {
	r.s.lock()
	defer r.s.unlock()
	c = c.filled(r.o.DefaultBranch)
	n := r.row("cron", c, p)
	n.branch, n.ref, n.cron = c.Branch, "refs/heads/"+c.Branch, name
	n.message, n.sender, n.changed = name, name, nil
	return r.deliver(n, false)
}

// Manual starts a manual row as POST does, but by nobody's request.
func (r *Repo) Manual(c Commit, p Plan) *Pipeline {
	r.s.lock()
	defer r.s.unlock()
	c = c.filled(r.o.DefaultBranch)
	return r.deliver(r.manualRow(c, p, nil), false)
}

func (r *Repo) manualRow(c Commit, p Plan, variables map[string]string) *row {
	n := r.row("manual", c, p)
	n.branch, n.ref, n.sender, n.changed = c.Branch, c.Branch, "", nil
	if r.s.v.atLeast(18) && r.s.v.minor != 999 {
		n.ref = "refs/heads/" + c.Branch
	}
	n.message = "MANUAL PIPELINE @ " + c.Branch
	if variables != nil {
		n.variables = variables
	}
	return n
}

// PR delivers a pull request's new head; the commit's Branch is the target.
func (r *Repo) PR(number int, c Commit, p Plan) *Pipeline {
	r.s.lock()
	defer r.s.unlock()
	c = c.filled(r.o.DefaultBranch)
	c.Source = cmp.Or(c.Source, "topic")
	n := r.row("pull_request", c, p)
	n.branch, n.ref = c.Branch, fmt.Sprintf("refs/pull/%d/head", number)
	n.refspec, n.title, n.fromFork = c.Source+":"+c.Branch, strings.TrimSpace(c.Message), c.Fork
	n.forgeURL = fmt.Sprintf("%s/pulls/%d", r.o.ForgeURL, number)
	return r.deliver(n, skipMarker.MatchString(n.title))
}

// Event delivers any other event: "release", "deployment",
// "pull_request_closed", or one the client has never heard of.
func (r *Repo) Event(event string, c Commit, p Plan) *Pipeline {
	r.s.lock()
	defer r.s.unlock()
	c = c.filled(r.o.DefaultBranch)
	n := r.row(event, c, p)
	n.branch, n.ref = c.Branch, "refs/heads/"+c.Branch
	return r.deliver(n, false)
}

func (r *Repo) row(event string, c Commit, p Plan) *row {
	if r.o.Approval {
		p.Blocked = true
	}
	changed := p.ChangedFiles
	if changed == nil {
		changed = []string{".woodpecker.yml"}
	}
	return &row{
		repo: r, plan: p, event: event, commit: c.SHA, message: c.Message,
		author: c.Author, sender: c.Author, email: c.Author + "@example.com",
		forgeURL: r.o.ForgeURL + "/commit/" + c.SHA,
		changed:  changed, variables: p.Variables,
	}
}

// deliver plans the row's insertion, unless the hook makes none.
func (r *Repo) deliver(n *row, skip bool) *Pipeline {
	if skip || r.o.Inactive {
		return &Pipeline{r: n}
	}
	if n.plan.Delay > 0 {
		n.at(r.s.clock.Add(n.plan.Delay), func() { n.create(false) })
	} else {
		n.create(false)
	}
	return &Pipeline{r: n}
}

// Restart makes a new row of the numbered one, as POST does. A nil plan
// repeats the old one.
func (r *Repo) Restart(number int64, p *Plan) *Pipeline {
	r.s.lock()
	defer r.s.unlock()
	return &Pipeline{r: r.find(number).restart(p)}
}

// Pipeline finds the row that has the number now; nil if there is none.
func (r *Repo) Pipeline(number int64) *Pipeline {
	r.s.lock()
	defer r.s.unlock()
	if x := r.find(number); x != nil {
		return &Pipeline{r: x}
	}
	return nil
}

func (r *Repo) find(number int64) *row {
	for _, x := range r.rows {
		if x.number == number {
			return x
		}
	}
	return nil
}

// Pipeline is a handle on one row, whatever number it has and even when it is
// deleted or has not appeared yet.
type Pipeline struct{ r *row }

// ID is 0 until the row appears; so is Number.
func (p *Pipeline) ID() int64 { return view(p, func(r *row) int64 { return r.id }) }

// Number counts per repository; the number of a deleted row is used again.
func (p *Pipeline) Number() int64 { return view(p, func(r *row) int64 { return r.number }) }

// Status is the stored one.
func (p *Pipeline) Status() string { return view(p, func(r *row) string { return r.status }) }

// Commit is the full commit id.
func (p *Pipeline) Commit() string { return view(p, func(r *row) string { return r.commit }) }

// StepID gives the id of the first step with the name; 0 if there is none (yet).
func (p *Pipeline) StepID(name string) int64 {
	return view(p, func(r *row) int64 {
		for _, w := range r.workflows {
			for _, st := range w.steps {
				if st.plan.Name == name {
					return st.id
				}
			}
		}
		return 0
	})
}

func view[T any](p *Pipeline, f func(*row) T) T {
	s := p.r.repo.s
	s.lock()
	defer s.unlock()
	return f(p.r)
}

func (p *Pipeline) do(f func(*row)) { view(p, func(r *row) int { f(r); return 0 }) }

// Cancel cancels as the user would; an ended row is left alone.
func (p *Pipeline) Cancel(login string) {
	p.do(func(r *row) {
		if r.active() {
			r.cancel(func() { r.cancelUser = login })
		}
	})
}

// CancelByStep cancels as a step with failure: cancel would.
func (p *Pipeline) CancelByStep(step string) {
	p.do(func(r *row) {
		if r.active() {
			r.cancel(func() { r.cancelStep = step })
		}
	})
}

// Supersede cancels the row in favour of the numbered one.
func (p *Pipeline) Supersede(by int64) {
	p.do(func(r *row) {
		if r.active() {
			r.cancel(func() { r.supersededBy = by })
		}
	})
}

// Lose ends the row as killed by nobody: an agent that is gone or a time limit.
func (p *Pipeline) Lose() {
	p.do(func(r *row) {
		if r.active() {
			r.cancel(func() {})
		}
	})
}

// Approve releases a blocked row: new workflows and steps, the same number.
func (p *Pipeline) Approve(login string) { p.do(func(r *row) { r.approve(login) }) }

// Decline ends a blocked row.
func (p *Pipeline) Decline(login string) { p.do(func(r *row) { r.decline(login) }) }

// Block stops the row where it is and lets it wait for approval.
func (p *Pipeline) Block() {
	p.do(func(r *row) {
		r.life++
		for _, w := range r.workflows {
			w.state = blocked
			for _, st := range w.steps {
				st.state = blocked
			}
		}
		r.set(blocked)
		r.repo.s.publish(r)
	})
}

// Delete removes the row; nothing is sent on the stream.
func (p *Pipeline) Delete() { p.do(func(r *row) { r.remove() }) }

// Stop freezes the row: what was planned for it no longer happens.
func (p *Pipeline) Stop() { p.do(func(r *row) { r.life++ }) }

// SetStatus writes any status, known or not, and sends the event. The plan
// goes on and may write others; Stop it first if it must not.
func (p *Pipeline) SetStatus(status string) {
	p.do(func(r *row) {
		r.set(status)
		r.repo.s.publish(r)
	})
}

// SetStep writes any state into the first step with the name.
func (p *Pipeline) SetStep(name, state string) {
	p.do(func(r *row) {
		for _, w := range r.workflows {
			if i := slices.IndexFunc(w.steps, func(st *step) bool { return st.plan.Name == name }); i >= 0 {
				w.steps[i].state = state
				r.touch()
				r.repo.s.publish(r)
				return
			}
		}
	})
}

// SetWorkflow writes any state into the first workflow with the name.
func (p *Pipeline) SetWorkflow(name, state string) {
	p.do(func(r *row) {
		for _, w := range r.workflows {
			if cmp.Or(w.plan.Name, "woodpecker") == name {
				w.state = state
				r.touch()
				r.repo.s.publish(r)
				return
			}
		}
	})
}

// SetPaused pauses the queue as queue/info shows it, with this many workers.
func (s *Server) SetPaused(on bool, workers int) {
	s.lock()
	defer s.unlock()
	s.paused, s.workers = on, workers
}

// Trouble is a database that fails while loading something.
type Trouble struct{ Repo, Row, Step, User, List, Logs, Health bool }

// AllTrouble fails everywhere.
func AllTrouble() Trouble { return Trouble{true, true, true, true, true, true, true} }

type trouble struct {
	Trouble
	until time.Time
	left  int
}

// TroubleFor lets the database fail for d; a negative d ends all trouble.
func (s *Server) TroubleFor(d time.Duration, t Trouble) {
	s.lock()
	defer s.unlock()
	if d < 0 {
		s.troubles = nil
		return
	}
	s.troubles = append(s.troubles, trouble{Trouble: t, until: s.clock.Add(d)})
}

// TroubleNext lets the database fail during the next n requests.
func (s *Server) TroubleNext(n int, t Trouble) {
	s.lock()
	defer s.unlock()
	s.troubles = append(s.troubles, trouble{Trouble: t, left: n})
}

// trouble is what fails for the present request.
func (s *Server) trouble() Trouble {
	var t Trouble
	s.troubles = slices.DeleteFunc(s.troubles, func(x trouble) bool {
		return x.left == 0 && !x.until.After(s.clock)
	})
	for i := range s.troubles {
		x := &s.troubles[i]
		t = Trouble{
			t.Repo || x.Repo, t.Row || x.Row, t.Step || x.Step, t.User || x.User,
			t.List || x.List, t.Logs || x.Logs, t.Health || x.Health,
		}
		if x.left > 0 {
			if x.left--; x.left == 0 {
				x.until = s.clock // spent
			}
		}
	}
	return t
}

package woodsim

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Truth is what really happened to a row, whatever its clients were told.
type Truth struct {
	ID, Number int64
	Commit     string
	Event      string
	Status     string // last one stored, also of a deleted row
	Deleted    bool
	Ended      bool
	Superseded int64 // number of the row it gave way to, also before 3.14
	Workflows  []TruthWorkflow
	History    []Change // every status with its time, oldest first
}

// TruthWorkflow is a workflow with its steps as stored.
type TruthWorkflow struct {
	Name, State string
	Steps       []TruthStep
}

// TruthStep is a step as stored; Ignored is what the interface does not tell.
type TruthStep struct {
	ID          int64
	Name, State string
	Exit        int
	Ignored     bool
}

// Change is a status that was written.
type Change struct {
	Time   time.Time
	Status string // "deleted" when the row went
}

// Truth tells about the row with this id, deleted or not. The second result is
// false if there never was one.
func (s *Server) Truth(repo, id int64) (Truth, bool) {
	s.lock()
	defer s.unlock()
	rows := slices.Clone(s.grave)
	for _, r := range s.repos {
		rows = append(rows, r.rows...)
	}
	for _, r := range rows {
		if r.id == id && r.repo.id == repo {
			return r.truth(), true
		}
	}
	return Truth{}, false
}

// Truth tells about this row.
func (p *Pipeline) Truth() Truth { return view(p, (*row).truth) }

func (r *row) truth() Truth {
	t := Truth{
		ID: r.id, Number: r.number, Commit: r.commit, Event: r.event, Status: r.status,
		Deleted: r.zombie, Superseded: r.supersededBy, History: slices.Clone(r.history),
		Ended: !r.active() && r.status != created && r.status != "",
	}
	for _, w := range r.workflows {
		tw := TruthWorkflow{Name: cmp.Or(w.plan.Name, "woodpecker"), State: w.state}
		for _, st := range w.steps {
			tw.Steps = append(tw.Steps, TruthStep{st.id, st.plan.Name, st.state, st.exit, st.plan.Ignore})
		}
		t.Workflows = append(t.Workflows, tw)
	}
	return t
}

// Write is a request that changed something.
type Write struct {
	Time   time.Time
	Kind   string // "run", "restart", "cancel", "approve", "decline"
	Login  string
	Repo   int64
	Number int64 // the row asked for; 0 for a run
	Row    int64 // id of the row changed or made; 0 when it was filtered
}

// Writes lists the requests that took effect, oldest first.
func (s *Server) Writes() []Write {
	s.lock()
	defer s.unlock()
	return slices.Clone(s.writes)
}

// Request is one request as it arrived.
type Request struct {
	Time                time.Time
	Method, Path, Query string // Path without the root path
	Host                string
	Header              http.Header // all of it, so that canaries can be searched
	Status              int         // 0 while it is being answered
}

// Authorization is the header of that name.
func (r Request) Authorization() string { return r.Header.Get("Authorization") }

// Requests lists everything that arrived, oldest first.
func (s *Server) Requests() []Request {
	s.lock()
	defer s.unlock()
	return slices.Clone(s.requests)
}

// Count counts the requests of a method ("" any) whose path contains part.
func (s *Server) Count(method, part string) int {
	n := 0
	for _, r := range s.Requests() {
		if (method == "" || r.Method == method) && strings.Contains(r.Path, part) {
			n++
		}
	}
	return n
}

// Unexpected lists requests for paths and methods that do not exist here. A
// test of a client ends by checking that it is empty.
func (s *Server) Unexpected() []Request {
	s.lock()
	defer s.unlock()
	return slices.Clone(s.unexpected)
}

// ForgetRequests empties the request logs, for tests that run very long.
func (s *Server) ForgetRequests() {
	s.lock()
	defer s.unlock()
	s.requests, s.unexpected = nil, nil
}

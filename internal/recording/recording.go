// Package recording holds answers of a real Woodpecker server and replays
// them, so that client and decisions meet what was really said. The files are
// described in testdata/README.md.
package recording

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed testdata/*.json
var files embed.FS

// Recording is one scenario in time order.
type Recording struct {
	Name, About, Server string
	Commit              string // of the scenario; "" in some
	Exchanges           []Exchange
	Streams             []Stream
}

// Exchange is one request and its answer.
type Exchange struct {
	T           float64 // seconds since the scenario began
	Method      string
	Path        string          // with the query
	RequestBody json.RawMessage `json:"request_body"`
	Auth        string          // "valid", "invalid" or "none"
	Status      int
	Headers     map[string]string
	Body        string // raw; "" means an empty body
	Note        string
}

// At is the exchange's time after the scenario's begin.
func (e Exchange) At() time.Duration { return seconds(e.T) }

// Stream is one server-sent-event connection.
type Stream struct {
	Path    string `json:"event_stream"`
	Status  int    // 0 in some: 200
	Headers map[string]string
	Lines   []StreamLine
}

// StreamLine is one raw line; the empty one ends an event.
type StreamLine struct {
	T    float64 // seconds since the connection was opened
	Line string
}

// At is the line's time after the opening.
func (l StreamLine) At() time.Duration { return seconds(l.T) }

func seconds(t float64) time.Duration { return time.Duration(t * float64(time.Second)) }

// Names lists the recordings, sorted.
func Names() []string {
	entries, err := files.ReadDir("testdata")
	if err != nil {
		panic(err) // embedded
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".json"))
	}
	slices.Sort(out)
	return out
}

// Load reads the named recording; an unknown name fails the test.
func Load(t testing.TB, name string) Recording {
	t.Helper()
	r, err := load(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func load(name string) (Recording, error) {
	b, err := files.ReadFile(path.Join("testdata", name+".json"))
	if err != nil {
		return Recording{}, fmt.Errorf("recording %s: %w", name, err)
	}
	var raw struct {
		Name, About, Server string
		Exchanges           []json.RawMessage
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return Recording{}, fmt.Errorf("recording %s: %w", name, err)
	}
	r := Recording{Name: raw.Name, About: raw.About, Server: raw.Server}
	for i, x := range raw.Exchanges {
		var v struct {
			Exchange
			Commit string
			Path   string
			Stream string `json:"event_stream"`
			Lines  []StreamLine
		}
		if err := json.Unmarshal(x, &v); err != nil {
			return Recording{}, fmt.Errorf("recording %s, entry %d: %w", name, i, err)
		}
		v.Exchange.Path = v.Path
		switch {
		case v.Stream != "":
			r.Streams = append(r.Streams, Stream{Path: v.Stream, Status: v.Status, Headers: v.Headers, Lines: v.Lines})
		case v.Method != "":
			r.Exchanges = append(r.Exchanges, v.Exchange)
		default:
			r.Commit = v.Commit
		}
	}
	return r, nil
}

// Replay makes a server of the named recording; an unknown name fails the test.
func Replay(t testing.TB, name string) *Replayer {
	t.Helper()
	return &Replayer{rec: Load(t, name), next: map[string]int{}}
}

// Replayer answers each request with what the server said to the same method
// and path (query ignored) and kind of credentials. Which of several answers
// is current goes by the count of requests: each one moves to the next, and
// the last stays. With Clock it goes by time.
type Replayer struct {
	rec Recording

	mu      sync.Mutex
	now     func() time.Time
	begin   time.Time
	next    map[string]int
	missing []string
}

// Recording is what is replayed.
func (p *Replayer) Recording() Recording { return p.rec }

// Clock lets the answers follow the clock: each request gets the last answer
// recorded up to the time since this call, or the first if there is none yet.
// A request that changes something moves the time to where the recording has
// it, so that what follows follows.
func (p *Replayer) Clock(now func() time.Time) *Replayer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.begin = now, now()
	return p
}

// Missing lists requests the recording has no answer for ("GET /api/x"). They
// were answered like an unknown path, except for /version, /healthz and
// /api/user.
func (p *Replayer) Missing() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.missing)
}

package buildersim

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Build is one build of one job.
type Build struct {
	Job      string
	UUID     string // "": made from a counter
	Platform string // "": debian-12
	Start    time.Time
	Finish   time.Time         // zero: a minute after Start
	Main     string            // path of the main binary; "": bin/JOB.hvt
	Bytes    []byte            // of the main binary; nil: the build failed
	Files    map[string][]byte // further artifacts
}

// Builder is a builder-web without its web pages: the read routes as it
// answers them, quirks included. HEAD is not routed; JSON comes only if Accept
// lists exactly application/json; errors are HTML and text; redirects have a
// path only; ETags have no quotes and must be repeated byte for byte; a build
// is found under any job's name; rows are one per distinct hash, with the
// newest build anywhere that has it.
type Builder struct {
	Sim
	jobs   map[string]bool
	builds []Build
	hidden map[string]bool // hashes whose row is not written yet
	next   int
}

// NewBuilder returns a server without jobs.
func NewBuilder() *Builder {
	b := &Builder{jobs: map[string]bool{}, hidden: map[string]bool{}}
	b.route = b.locked(b.serve)
	return b
}

// AddJob adds a job, which needs no build.
func (b *Builder) AddJob(job string) { b.mu.Lock(); defer b.mu.Unlock(); b.jobs[job] = true }

// Add uploads a build and returns its uuid.
func (b *Builder) Add(n Build) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs[n.Job] = true
	b.next++
	if n.UUID == "" {
		n.UUID = fmt.Sprintf("%08x-0000-4000-8000-%012x", 0x10000000+b.next, b.next)
	}
	if n.Platform == "" {
		n.Platform = "debian-12"
	}
	if n.Finish.IsZero() {
		n.Finish = n.Start.Add(time.Minute)
	}
	if n.Main == "" {
		n.Main = "bin/" + n.Job + ".hvt"
	}
	b.builds = append(b.builds, n)
	return n.UUID
}

// Delete removes a build: the newest may become an older one.
func (b *Builder) Delete(uuid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.builds = slices.DeleteFunc(b.builds, func(n Build) bool { return n.UUID == uuid })
}

// Vanish removes a job with its builds.
func (b *Builder) Vanish(job string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.jobs, job)
	b.builds = slices.DeleteFunc(b.builds, func(n Build) bool { return n.Job == job })
}

// Hide keeps the row of a hash out of /job/J, as while an upload is going on.
func (b *Builder) Hide(hash string, hidden bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hidden[hash] = hidden
}

func notFound(w http.ResponseWriter) {
	answer(w, http.StatusNotFound, "text/html; charset=utf-8", "<!DOCTYPE html><html><body><h1>Not Found</h1></body></html>")
}

func moved(w http.ResponseWriter, status int, location string) {
	w.Header().Set("Location", location)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

// serve answers under the lock.
func (b *Builder) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		notFound(w)
		return
	}
	var seg []string
	for s := range strings.SplitSeq(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/") {
		d, err := url.PathUnescape(s)
		if err != nil {
			notFound(w)
			return
		}
		seg = append(seg, d)
	}
	platform := r.URL.Query().Get("platform")
	switch {
	case len(seg) == 1 && seg[0] == "hash":
		b.hash(w, r.URL.Query().Get("sha256"))
	case len(seg) == 2 && seg[0] == "job":
		b.job(w, r, seg[1], platform, false)
	case len(seg) == 3 && seg[0] == "job" && seg[2] == "failed":
		b.job(w, r, seg[1], platform, true)
	case len(seg) == 4 && seg[0] == "job" && seg[2] == "build" && seg[3] == "latest":
		if n := b.latest(seg[1], platform); n != nil {
			moved(w, http.StatusTemporaryRedirect, "/job/"+url.PathEscape(seg[1])+"/build/"+n.UUID)
			return
		}
		notFound(w)
	case len(seg) == 4 && seg[0] == "job" && seg[2] == "build":
		b.build(w, r, seg[1], seg[3])
	case len(seg) == 5 && seg[0] == "job" && seg[2] == "build" && seg[4] == "main-binary":
		n := b.find(seg[3])
		if n == nil || n.Bytes == nil {
			notFound(w)
			return
		}
		moved(w, http.StatusFound, "/job/"+url.PathEscape(seg[1])+"/build/"+n.UUID+"/f/"+n.Main)
	case len(seg) > 5 && seg[0] == "job" && seg[2] == "build" && seg[4] == "f":
		b.file(w, r, seg[3], strings.Join(seg[5:], "/"))
	default:
		notFound(w)
	}
}

func (b *Builder) find(uuid string) *Build {
	for i := range b.builds {
		if b.builds[i].UUID == uuid {
			return &b.builds[i]
		}
	}
	return nil
}

// latest is the good build with the newest start.
func (b *Builder) latest(job, platform string) *Build {
	var best *Build
	for i := range b.builds {
		n := &b.builds[i]
		if n.Job == job && n.Bytes != nil && (platform == "" || n.Platform == platform) && (best == nil || n.Start.After(best.Start)) {
			best = n
		}
	}
	return best
}

// newest is the build anywhere with such an artifact, by start.
func (b *Builder) newest(sum string, main bool) *Build {
	var best *Build
	for i := range b.builds {
		n := &b.builds[i]
		has := n.Bytes != nil && Sum(n.Bytes) == sum
		for _, f := range n.Files {
			has = has || !main && Sum(f) == sum
		}
		if has && (best == nil || n.Start.After(best.Start)) {
			best = n
		}
	}
	return best
}

func (b *Builder) hash(w http.ResponseWriter, sum string) {
	n := b.newest(strings.ToLower(sum), false)
	if n == nil {
		notFound(w)
		return
	}
	moved(w, http.StatusFound, "/job/"+url.PathEscape(n.Job)+"/build/"+n.UUID+"/")
}

// asksJSON is builder-web's idea of content negotiation: a type with
// parameters, or */*, is not application/json.
func asksJSON(r *http.Request) bool {
	for t := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if strings.TrimSpace(t) == "application/json" {
			return true
		}
	}
	return false
}

func writeJSON(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	answer(w, http.StatusOK, "application/json", string(text))
}

func page(w http.ResponseWriter) {
	answer(w, http.StatusOK, "text/html; charset=utf-8", "<!DOCTYPE html><html><body>builds</body></html>")
}

type binary struct {
	Filename string `json:"filename"`
	SHA256   string `json:"sha256"`
	Size     int    `json:"size"`
}

type row struct {
	UUID string  `json:"uuid"`
	Main *binary `json:"main_binary"`
	at   time.Time
}

func (b *Builder) job(w http.ResponseWriter, r *http.Request, job, platform string, failed bool) {
	if !b.jobs[job] {
		notFound(w)
		return
	}
	if !asksJSON(r) {
		page(w)
		return
	}
	rows := []row{}
	var bad []row
	seen := map[string]bool{}
	for _, n := range slices.Backward(b.builds) { // of what was uploaded last first
		if n.Job != job || platform != "" && n.Platform != platform {
			continue
		}
		if n.Bytes == nil {
			bad = append(bad, row{UUID: n.UUID, at: n.Start})
			continue
		}
		sum := Sum(n.Bytes)
		if seen[sum] || b.hidden[sum] {
			continue
		}
		seen[sum] = true
		newest := b.newest(sum, true)
		rows = append(rows, row{newest.UUID, &binary{path.Base(n.Main), sum, len(n.Bytes)}, newest.Start})
	}
	if failed {
		rows = append(rows, bad...)
		slices.SortStableFunc(rows, func(x, y row) int { return y.at.Compare(x.at) })
	} else if len(rows) > 1 {
		rows = append(rows[1:], rows[0]) // row 0 is not the newest
	}
	writeJSON(w, map[string]any{"builds": rows})
}

func (b *Builder) build(w http.ResponseWriter, r *http.Request, job, uuid string) {
	n := b.find(uuid)
	switch {
	case n == nil:
		notFound(w)
	case !asksJSON(r):
		page(w)
	default:
		const zone = "2006-01-02T15:04:05-00:00"
		writeJSON(w, map[string]any{
			"job": job, "uuid": n.UUID, "platform": n.Platform, "main_binary": n.Bytes != nil,
			"start_time": n.Start.UTC().Format(zone), "finish_time": n.Finish.UTC().Format(zone),
		})
	}
}

func (b *Builder) file(w http.ResponseWriter, r *http.Request, uuid, name string) {
	n := b.find(uuid)
	if n == nil {
		notFound(w)
		return
	}
	body, ok := n.Files[name]
	if name == n.Main && n.Bytes != nil {
		body, ok = n.Bytes, true
	}
	if !ok {
		notFound(w)
		return
	}
	sum := sha256.Sum256(body)
	etag := base64.StdEncoding.EncodeToString(sum[:])
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header()["Etag"] = []string{etag}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
}

package buildersim

import (
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ETags is how a file server makes them.
type ETags string

// The kinds of ETag.
const (
	NoETags     ETags = ""
	Quoted      ETags = "quoted"
	Weak        ETags = "weak"        // W/"…"
	Bare        ETags = "bare"        // without quotes
	Alternating ETags = "alternating" // another one at every request, as behind two machines
)

// SumsForm is how a line of a checksum file looks.
type SumsForm string

// The forms of checksum files.
const (
	TextSums   SumsForm = "HEX  name"
	BinarySums SumsForm = "HEX *name"
	TaggedSums SumsForm = "SHA256 (name) = HEX"
)

// Files is a plain file server. The zero settings serve without validators.
type Files struct {
	Sim
	// Settings; change them with Set.
	etags    ETags
	modified bool // Last-Modified is sent
	deaf     bool // conditions are not understood: always 200
	chunked  bool // no Content-Length

	files map[string]file
	turn  int
}

type file struct {
	body []byte
	at   time.Time
	sums SumsForm // a checksum file, made when it is asked for
	of   []string
}

// NewFiles returns an empty server.
func NewFiles() *Files {
	f := &Files{files: map[string]file{}}
	f.route = f.locked(f.serve)
	return f
}

// Settings of a file server.
type Settings struct {
	ETags        ETags
	LastModified bool
	Deaf         bool // conditions are not understood: always 200
	Chunked      bool // no Content-Length
}

// Set changes how everything is served from now on.
func (f *Files) Set(s Settings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.etags, f.modified, f.deaf, f.chunked = s.ETags, s.LastModified, s.Deaf, s.Chunked
}

// Put writes a file.
func (f *Files) Put(name string, body []byte, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = file{body: body, at: at}
}

// Sums makes a file that always holds the right checksums of the files in of.
// To let them disagree, Put another text over it.
func (f *Files) Sums(name string, form SumsForm, at time.Time, of ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = file{at: at, sums: form, of: of}
}

// Remove deletes a file.
func (f *Files) Remove(name string) { f.mu.Lock(); defer f.mu.Unlock(); delete(f.files, name) }

// SumsLine is one line of a checksum file.
func SumsLine(form SumsForm, name, sum string) string {
	return strings.NewReplacer("name", name, "HEX", sum).Replace(string(form)) + "\n"
}

// Paths are all files, sorted.
func (f *Files) Paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.files))
}

// serve answers under the lock.
func (f *Files) serve(w http.ResponseWriter, r *http.Request) {
	got, ok := f.files[r.URL.Path]
	if !ok {
		answer(w, http.StatusNotFound, "text/html", "<h1>404</h1>")
		return
	}
	body := got.body
	if got.sums != "" {
		var text strings.Builder
		for _, name := range got.of {
			text.WriteString(SumsLine(got.sums, path.Base(name), Sum(f.files[name].body)))
		}
		body = []byte(text.String())
	}
	etag := fmt.Sprintf("%.16s", Sum(body))
	switch f.etags {
	case NoETags:
		etag = ""
	case Quoted:
		etag = `"` + etag + `"`
	case Weak:
		etag = `W/"` + etag + `"`
	case Bare:
	case Alternating:
		f.turn++
		etag = fmt.Sprintf(`"%s-%d"`, etag, f.turn)
	}
	h := w.Header()
	if etag != "" {
		h["Etag"] = []string{etag}
	}
	if f.modified {
		h.Set("Last-Modified", got.at.UTC().Format(http.TimeFormat))
	}
	if !f.deaf && f.unchanged(r, etag, got.at) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	if !f.chunked {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
}

// unchanged judges conditions as servers do: If-None-Match wins.
func (f *Files) unchanged(r *http.Request, etag string, at time.Time) bool {
	if match := r.Header.Get("If-None-Match"); match != "" {
		return match == etag
	}
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	return f.modified && err == nil && !at.Truncate(time.Second).After(since)
}

package kubesim

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// logText is the log of one run of a container.
type logText struct {
	lines   []logLine
	open    bool // the last line has no line break
	over    bool // the run has ended
	changed chan struct{}
}

type logLine struct {
	at   time.Time
	text string
}

// SetLog is the text of a container's log; previous of its run before. Whoever
// follows the log it replaces sees that end.
func (s *Sim) SetLog(ns, pod, container string, previous bool, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := logKey(ns, pod, container, previous)
	if was := s.logs[k]; was != nil {
		was.over = true
		was.wake()
	}
	l := &logText{changed: make(chan struct{}), over: previous}
	l.add(s.o.Now(), text)
	s.logs[k] = l
}

// AppendLog adds to a container's log, now. What does not end in a line break
// is gone on with by the next one.
func (s *Sim) AppendLog(ns, pod, container, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := logKey(ns, pod, container, false)
	l := s.logs[k]
	if l == nil {
		l = &logText{changed: make(chan struct{})}
		s.logs[k] = l
	}
	l.add(s.o.Now(), text)
	l.wake()
}

// EndLog ends the run of a container, so that its log is the previous one's.
func (s *Sim) EndLog(ns, pod, container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[logKey(ns, pod, container, false)]
	if l == nil {
		return
	}
	l.over = true
	l.wake()
	s.logs[logKey(ns, pod, container, true)] = l
}

// DropLogs cuts the connections of all who follow a log.
func (s *Sim) DropLogs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.cutLogs)
	s.cutLogs = make(chan struct{})
}

func logKey(ns, pod, container string, previous bool) string {
	return fmt.Sprintf("%s/%s/%s/%t", ns, pod, container, previous)
}

func (l *logText) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *logText) add(now time.Time, text string) {
	for part := range strings.Lines(text) {
		whole := strings.HasSuffix(part, "\n")
		part = strings.TrimSuffix(part, "\n")
		if l.open {
			l.lines[len(l.lines)-1].text += part
		} else {
			if n := len(l.lines); n > 0 && !now.After(l.lines[n-1].at) {
				now = l.lines[n-1].at.Add(time.Microsecond)
			}
			l.lines = append(l.lines, logLine{now, part})
		}
		l.open = !whole
	}
}

// text returns the lines from the first-th on that are not before since.
func (l *logText) text(first int, since time.Time, stamped bool) string {
	var b strings.Builder
	for i := first; i < len(l.lines); i++ {
		line := l.lines[i]
		if line.at.Before(since) {
			continue
		}
		if stamped {
			b.WriteString(line.at.UTC().Format(time.RFC3339Nano) + " ")
		}
		b.WriteString(line.text)
		if i < len(l.lines)-1 || !l.open {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (s *Sim) podLog(w http.ResponseWriter, r *http.Request, q *Request, f *Fault, answered func(int), refuse func(int, string, int)) {
	s.mu.Lock()
	pod := s.live["pods"][q.Namespace+"/"+q.Name]
	container := q.Query.Get("container")
	previous := q.Query.Get("previous") == "true"
	if pod != nil && container == "" {
		if spec, ok := child(pod.object, "spec")["containers"].([]any); ok && len(spec) == 1 {
			container = str(spec[0].(Object)["name"])
		}
	}
	l := s.logs[logKey(q.Namespace, q.Name, container, previous)]
	s.mu.Unlock()
	switch {
	case pod == nil:
		refuse(404, fmt.Sprintf("pods %q not found", q.Name), 0)
		return
	case l == nil && previous:
		refuse(400, fmt.Sprintf("previous terminated container %q in pod %q not found", container, q.Name), 0)
		return
	case l == nil:
		refuse(400, fmt.Sprintf("container %q in pod %q is waiting to start: ContainerCreating", container, q.Name), 0)
		return
	}
	stamped := q.Query.Get("timestamps") == "true"
	since, _ := time.Parse(time.RFC3339, q.Query.Get("sinceTime"))
	since = since.Truncate(time.Second) // the node is told whole seconds
	s.mu.Lock()
	from := 0
	if n, err := strconv.Atoi(q.Query.Get("tailLines")); err == nil {
		from = max(0, len(l.lines)-n)
	}
	text, at := l.text(from, since, stamped), len(l.lines)
	if l.open && q.Query.Get("follow") == "true" && at > 0 {
		text, at = strings.TrimSuffix(text, text[strings.LastIndexByte(text, '\n')+1:]), at-1
	}
	s.mu.Unlock()
	if n, err := strconv.Atoi(q.Query.Get("limitBytes")); err == nil && len(text) > n {
		text = text[:n]
	}
	answered(200)
	w.Header().Set("Content-Type", "text/plain")
	if f != nil && f.Kind == Cut {
		_, _ = w.Write([]byte(text[:len(text)/2]))
		flush(w)
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(w, text)
	if q.Query.Get("follow") == "true" {
		s.followLog(w, r, q, l, at, stamped)
	}
}

// followLog goes on with a log until its run ends, the pod is gone or somebody
// cuts the connection.
func (s *Sim) followLog(w http.ResponseWriter, r *http.Request, q *Request, l *logText, at int, stamped bool) {
	s.mu.Lock()
	cut := s.cutLogs
	s.mu.Unlock()
	for {
		flush(w)
		s.mu.Lock()
		end := len(l.lines)
		if l.open && !l.over {
			end--
		}
		text := ""
		if end > at {
			part := &logText{lines: l.lines[:end], open: l.open && end == len(l.lines)}
			text, at = part.text(at, time.Time{}, stamped), end
		}
		over := l.over || s.live["pods"][q.Namespace+"/"+q.Name] == nil
		grown, changed := l.changed, s.changed
		s.mu.Unlock()
		if text != "" {
			fmt.Fprint(w, text)
			continue
		}
		if over {
			return
		}
		select {
		case <-grown:
		case <-changed:
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

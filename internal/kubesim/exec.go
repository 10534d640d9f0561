package kubesim

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Command is a command that exec has started in a container.
type Command struct {
	Namespace, Pod, Container string
	Args                      []string
	Stdin                     io.Reader // empty without one
	Stdout, Stderr            io.Writer
	TTY                       bool
	Size                      func() (width, height int) // waits for the first one
	Gone                      <-chan struct{}            // closed when the client has left
	Cut                       func()                     // breaks the connection
}

// Commands makes f play what exec starts; it returns the exit code.
func (s *Sim) Commands(f func(*Command) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands = f
}

// exec starts a command over WebSocket or SPDY, as an API server does.
func (s *Sim) exec(w http.ResponseWriter, r *http.Request, q *Request, answered func(int), refuse func(int, string, int)) {
	s.mu.Lock()
	pod := s.live["pods"][q.Namespace+"/"+q.Name]
	play, deaf := s.commands, s.noSockets
	s.mu.Unlock()
	if play == nil {
		play = Play
	}
	c := &Command{Namespace: q.Namespace, Pod: q.Name, Container: q.Query.Get("container"), Args: q.Query["command"], TTY: q.Query.Get("tty") == "true"}
	has := func() bool {
		for _, one := range containers(pod.object) {
			if c.Container == "" || one["name"] == c.Container {
				c.Container = str(one["name"])
				return true
			}
		}
		return false
	}
	switch {
	case pod == nil:
		refuse(404, fmt.Sprintf("pods %q not found", q.Name), 0)
	case !has():
		refuse(400, fmt.Sprintf("container %s is not valid for pod %s", c.Container, q.Name), 0)
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && !deaf:
		answered(101)
		s.overWebSocket(w, r, q, c, play)
	case strings.HasPrefix(strings.ToLower(r.Header.Get("Upgrade")), "spdy/"):
		answered(101)
		s.overSPDY(w, r, q, c, play)
	default:
		refuse(400, "Upgrade request required", 0)
	}
}

// NoWebSockets makes the server one that does not know them.
func (s *Sim) NoWebSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noSockets = true
}

// The channels of v5.channel.k8s.io.
const (
	chanStdin  = 0
	chanStdout = 1
	chanStderr = 2
	chanError  = 3
	chanResize = 4
	chanClose  = 255
)

// ended is the status a session ends with.
func ended(code int) []byte {
	o := Object{"metadata": Object{}, "status": "Success"}
	if code != 0 {
		o = Object{
			"metadata": Object{}, "status": "Failure", "reason": "NonZeroExitCode",
			"message": fmt.Sprintf("command terminated with non-zero exit code: exit status %d", code),
			"details": Object{"causes": []Object{{"reason": "ExitCode", "message": strconv.Itoa(code)}}},
		}
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return b
}

// window is the newest size of a terminal.
type window struct {
	mu    sync.Mutex
	w, h  int
	first chan struct{}
	once  sync.Once
}

func (x *window) read(b []byte) {
	var size struct{ Width, Height int }
	if json.Unmarshal(b, &size) != nil {
		return
	}
	x.mu.Lock()
	x.w, x.h = size.Width, size.Height
	x.mu.Unlock()
	x.once.Do(func() { close(x.first) })
}

func (x *window) size(gone <-chan struct{}) (int, int) {
	select {
	case <-x.first:
	case <-gone:
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.w, x.h
}

func (s *Sim) overWebSocket(w http.ResponseWriter, r *http.Request, q *Request, c *Command, play func(*Command) int) {
	taken := &taker{ResponseWriter: w}
	server := websocket.Server{
		Handshake: func(conf *websocket.Config, _ *http.Request) error {
			if !slices.Contains(conf.Protocol, "v5.channel.k8s.io") {
				return websocket.ErrBadWebSocketProtocol
			}
			conf.Protocol = []string{"v5.channel.k8s.io"}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			var mu sync.Mutex
			send := func(channel byte, p []byte) error {
				mu.Lock()
				defer mu.Unlock()
				return websocket.Message.Send(ws, append([]byte{channel}, p...))
			}
			in, feed := io.Pipe()
			if q.Query.Get("stdin") != "true" {
				_ = feed.Close()
			}
			size, gone := &window{first: make(chan struct{})}, make(chan struct{})
			go func() {
				defer close(gone)
				defer func() { _ = feed.Close() }()
				for {
					var p []byte
					if err := websocket.Message.Receive(ws, &p); err != nil || len(p) == 0 {
						return
					}
					switch p[0] {
					case chanStdin:
						if _, err := feed.Write(p[1:]); err != nil {
							continue // nobody reads it any more
						}
					case chanResize:
						size.read(p[1:])
					case chanClose:
						if len(p) > 1 && p[1] == chanStdin {
							_ = feed.Close()
						}
					}
				}
			}()
			c.Stdin, c.Gone, c.Cut = in, gone, func() { _ = taken.conn.Close() } // without a word
			c.Stdout = writer(func(p []byte) error { return send(chanStdout, p) })
			c.Stderr = writer(func(p []byte) error { return send(chanStderr, p) })
			c.Size = func() (int, int) { return size.size(gone) }
			code := play(c)
			_ = in.Close()
			if code < 0 {
				return // it was cut
			}
			_ = send(chanError, ended(code))
			// A server says that it closes, and waits a moment for the answer.
			mu.Lock()
			ws.PayloadType = websocket.CloseFrame
			_, _ = ws.Write(binary.BigEndian.AppendUint16(nil, 1000))
			mu.Unlock()
			select {
			case <-gone:
			case <-time.After(time.Second):
			}
		},
	}
	server.ServeHTTP(taken, r)
}

// taker remembers the connection that is taken over.
type taker struct {
	http.ResponseWriter
	conn net.Conn
}

func (t *taker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	t.conn = conn
	return conn, rw, err
}

type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) {
	if err := w(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *Sim) overSPDY(w http.ResponseWriter, r *http.Request, q *Request, c *Command, play func(*Command) int) {
	if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
		return
	}
	want := 2 // error and stdout
	for _, name := range []string{"stdin", "stderr"} {
		if q.Query.Get(name) == "true" {
			want++
		}
	}
	if c.TTY {
		want++ // resize
	}
	got := make(chan httpstream.Stream, 8)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(st httpstream.Stream, replied <-chan struct{}) error {
		go func() { <-replied; got <- st }()
		return nil
	})
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	by := map[string]httpstream.Stream{}
	for range want {
		select {
		case st := <-got:
			by[st.Headers().Get("streamType")] = st
		case <-time.After(5 * time.Second):
			return
		}
	}
	gone := make(chan struct{})
	go func() { <-conn.CloseChan(); close(gone) }()
	size := &window{first: make(chan struct{})}
	if st := by["resize"]; st != nil {
		go func() {
			d := json.NewDecoder(st)
			for {
				var one json.RawMessage
				if d.Decode(&one) != nil {
					return
				}
				size.read(one)
			}
		}()
	}
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(""), by["stdout"], io.Discard
	if st := by["stdin"]; st != nil {
		c.Stdin = st
	}
	if st := by["stderr"]; st != nil {
		c.Stderr = st
	}
	c.Gone, c.Cut = gone, func() { _ = conn.Close() }
	c.Size = func() (int, int) { return size.size(gone) }
	code := play(c)
	if code < 0 {
		return
	}
	_, _ = by["error"].Write(ended(code))
	_ = by["error"].Close()
	_ = by["stdout"].Close()
	if st := by["stderr"]; st != nil {
		_ = st.Close()
	}
	select {
	case <-gone:
	case <-time.After(time.Second):
	}
}

// Play is a little of what images have: echo, cat, env, size (of the terminal),
// tty, sleep, cut, exit and a sh -c of those with ";" between them and ">&2"
// behind them. Anything else is not found, 127.
func Play(c *Command) int {
	if len(c.Args) == 3 && c.Args[0] == "sh" && c.Args[1] == "-c" {
		code := 0
		for part := range strings.SplitSeq(c.Args[2], ";") {
			one := *c
			part = strings.TrimSpace(part)
			if p, to := strings.CutSuffix(part, ">&2"); to {
				part, one.Stdout = p, c.Stderr
			}
			one.Args = strings.Fields(part)
			if len(one.Args) == 2 && one.Args[0] == "exit" {
				n, _ := strconv.Atoi(one.Args[1])
				return n
			}
			if code = Play(&one); code < 0 {
				return code
			}
		}
		return code
	}
	end := "\n"
	if c.TTY {
		end = "\r\n"
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(c.Stdout, format+end, args...) }
	if len(c.Args) == 0 {
		return 0
	}
	switch c.Args[0] {
	case "true":
	case "false":
		return 1
	case "echo":
		say("%s", strings.Join(c.Args[1:], " "))
	case "args":
		for _, a := range c.Args[1:] {
			say("<%s>", a)
		}
	case "where":
		say("%s/%s %s", c.Namespace, c.Pod, c.Container)
	case "cat":
		_, _ = io.Copy(c.Stdout, c.Stdin)
	case "tty":
		if !c.TTY {
			say("not a tty")
			return 1
		}
		say("a tty")
	case "size":
		w, h := c.Size()
		say("%dx%d", w, h)
	case "line": // of stdin; ^C and ^D end it, as a terminal's driver makes of them
		var b []byte
		p := make([]byte, 1)
		for {
			if _, err := c.Stdin.Read(p); err != nil || p[0] == 3 || p[0] == 4 {
				say("end %q", b)
				return 130
			}
			if p[0] == '\n' || p[0] == '\r' {
				say("line %q", b)
				return 0
			}
			b = append(b, p[0])
		}
	case "sleep":
		d := time.Hour
		if len(c.Args) > 1 {
			if n, err := strconv.ParseFloat(c.Args[1], 64); err == nil {
				d = time.Duration(n * float64(time.Second))
			}
		}
		select {
		case <-c.Gone:
			return -1
		case <-time.After(d):
		}
	case "cut":
		c.Cut()
		return -1
	default:
		_, _ = fmt.Fprintf(c.Stderr, "sh: %s: not found%s", c.Args[0], end)
		return 127
	}
	return 0
}

package kubesim

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const (
	forwardProtocol = "portforward.k8s.io"
	tunnelProtocol  = "SPDY/3.1+" + forwardProtocol // inside a WebSocket
)

// Forwarded is a connection that came through a tunnel to a port of a pod.
type Forwarded struct {
	Namespace, Pod string
	Port           int
	Conn           io.ReadWriteCloser // Close ends the pod's side
}

// Ports makes f play what listens in pods. An error of it is what the node
// says. nil: Answer, where a container declares the port.
func (s *Sim) Ports(f func(*Forwarded) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports = f
}

// Answer says which pod and port it is, "POD:PORT", and returns what it gets.
func Answer(f *Forwarded) error {
	_, _ = fmt.Fprintf(f.Conn, "%s:%d\n", f.Pod, f.Port)
	_, _ = io.Copy(f.Conn, f.Conn)
	return nil
}

// DropTunnels breaks those that stand.
func (s *Sim) DropTunnels() {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.tunnels))
	s.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// Tunnels is how many stand.
func (s *Sim) Tunnels() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tunnels)
}

// forward opens a tunnel over WebSocket or SPDY, as an API server does.
func (s *Sim) forward(w http.ResponseWriter, r *http.Request, q *Request, answered func(int), refuse func(int, string, int)) {
	s.mu.Lock()
	pod, deaf := s.live["pods"][q.Namespace+"/"+q.Name], s.noSockets
	s.mu.Unlock()
	switch {
	case pod == nil:
		refuse(404, fmt.Sprintf("pods %q not found", q.Name), 0)
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && !deaf:
		server := websocket.Server{
			Handshake: func(conf *websocket.Config, _ *http.Request) error {
				if !slices.Contains(conf.Protocol, tunnelProtocol) {
					return websocket.ErrBadWebSocketProtocol
				}
				conf.Protocol = []string{tunnelProtocol}
				return nil
			},
			Handler: func(ws *websocket.Conn) {
				ws.PayloadType = websocket.BinaryFrame
				streams := make(chan httpstream.Stream, 8)
				conn, err := spdy.NewServerConnection(ws, taking(streams))
				if err == nil {
					s.tunnel(q, conn, streams)
				}
			},
		}
		answered(101)
		server.ServeHTTP(w, r)
	case strings.HasPrefix(strings.ToLower(r.Header.Get("Upgrade")), "spdy/"):
		answered(101)
		if _, err := httpstream.Handshake(r, w, []string{forwardProtocol}); err != nil {
			return
		}
		streams := make(chan httpstream.Stream, 8)
		if conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, taking(streams)); conn != nil {
			s.tunnel(q, conn, streams)
		}
	default:
		refuse(400, "Upgrade request required", 0)
	}
}

func taking(streams chan<- httpstream.Stream) httpstream.NewStreamHandler {
	return func(st httpstream.Stream, replied <-chan struct{}) error {
		go func() { <-replied; streams <- st }()
		return nil
	}
}

// tunnel plays the node's side of one.
func (s *Sim) tunnel(q *Request, conn httpstream.Connection, streams <-chan httpstream.Stream) {
	s.mu.Lock()
	if s.tunnels == nil {
		s.tunnels = map[httpstream.Connection]bool{}
	}
	s.tunnels[conn] = true
	s.mu.Unlock()
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		delete(s.tunnels, conn)
		s.mu.Unlock()
	}()
	type pair struct{ data, errs httpstream.Stream }
	pairs := map[string]*pair{}
	for {
		select {
		case <-conn.CloseChan():
			return
		case st := <-streams:
			id := st.Headers().Get("requestID")
			p := pairs[id]
			if p == nil {
				p = &pair{}
				pairs[id] = p
			}
			if st.Headers().Get("streamType") == "error" {
				p.errs = st
			} else {
				p.data = st
			}
			if p.data == nil || p.errs == nil {
				continue
			}
			delete(pairs, id)
			f := &Forwarded{Namespace: q.Namespace, Pod: q.Name, Conn: p.data}
			_, _ = fmt.Sscan(st.Headers().Get("port"), &f.Port)
			go func() {
				if err := s.listens(f); err != nil {
					_, _ = io.WriteString(p.errs, err.Error())
				}
				_ = p.data.Close()
				_ = p.errs.Close()
			}()
		}
	}
}

// listens hands a connection to what listens there.
func (s *Sim) listens(f *Forwarded) error {
	s.mu.Lock()
	pod, play := s.live["pods"][f.Namespace+"/"+f.Pod], s.ports
	s.mu.Unlock()
	if pod == nil {
		return fmt.Errorf("an error occurred when forwarding: sandbox of %s is not running", f.Pod)
	}
	if play != nil {
		return play(f)
	}
	for _, c := range containers(pod.object) {
		declared, _ := c["ports"].([]any)
		for _, p := range declared {
			if o, ok := p.(Object); ok && fmt.Sprint(o["containerPort"]) == fmt.Sprint(f.Port) {
				return Answer(f)
			}
		}
	}
	return fmt.Errorf("failed to connect to localhost:%d inside namespace: connect: connection refused", f.Port)
}

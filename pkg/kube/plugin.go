package kube

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"homelab/pkg/fault"
)

const maxStderr = 4 << 10

// plugin is a credential plugin as far as client-go does not hand it out: what
// it says on stderr, which client-go passes straight to the process's.
type plugin struct {
	command string
	r, w    *os.File
	tell    func(string)

	asking sync.Mutex // marks are answered in the order they are written
	mu     sync.Mutex // guards tail and acks; never held while writing, as listen takes it
	tail   []byte
	acks   []chan struct{}
	gone   chan struct{} // closed when nothing reads any more
}

// installed finds out whether e's binary exists, without running it.
func installed(e *clientcmdapi.ExecConfig, path, context string) error {
	runs := func(name string) bool {
		i, err := os.Stat(name)
		return err == nil && i.Mode().IsRegular() && i.Mode()&0o111 != 0
	}
	found := false
	if strings.ContainsRune(e.Command, filepath.Separator) {
		found = runs(e.Command)
	} else {
		for _, dir := range filepath.SplitList(path) {
			// As in os/exec, the working directory is no place for programs.
			found = found || filepath.IsAbs(dir) && runs(filepath.Join(dir, e.Command))
		}
	}
	if found {
		return nil
	}
	err := fault.Usagef("", "credential plugin %s of context %q is not installed", e.Command, context)
	if hint := oneLine(e.InstallHint); hint != "" {
		err = err.Because(hint)
	}
	return err
}

// newPlugin prepares e, which Connect owns, and listens to its stderr.
func newPlugin(e *clientcmdapi.ExecConfig, o Options) (*plugin, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &plugin{command: filepath.Base(e.Command), r: r, w: w, tell: o.Plugin, gone: make(chan struct{})}
	e.StdinUnavailable = !o.Stdin
	e.StdinUnavailableMessage = "homelab was not started from a terminal"
	// client-go caches authenticators by their configuration for the life of
	// the process, stderr included: one that writes to a closed pipe must not
	// be met again.
	env := []clientcmdapi.ExecEnvVar{{Name: "HOMELAB_PLUGIN", Value: fmt.Sprintf("%p", w)}}
	for _, name := range o.Hide {
		env = append(env, clientcmdapi.ExecEnvVar{Name: name})
	}
	e.Env = append(env, e.Env...)
	go p.listen()
	return p, nil
}

var stderr sync.Mutex //nolint:gochecknoglobals // guards os.Stderr, which is global

// capture runs build with os.Stderr being the pipe: client-go takes its value
// when it makes an authenticator and offers no other way.
func (p *plugin) capture(build func() (http.RoundTripper, error)) (http.RoundTripper, error) {
	stderr.Lock()
	defer stderr.Unlock()
	was := os.Stderr                   //nolint:forbidigo // put back below
	os.Stderr = p.w                    //nolint:forbidigo // see above
	defer func() { os.Stderr = was }() //nolint:forbidigo // see above
	return build()
}

// mark ends what was written so far: whoever put it into the pipe waits until
// it comes out.
const mark = 0

// listen reads to the pipe's end.
func (p *plugin) listen() {
	defer close(p.gone)
	in := bufio.NewReader(p.r)
	var line []byte
	for {
		b, err := in.ReadByte()
		if err != nil {
			return
		}
		if b != '\n' && b != mark {
			if len(line) < maxStderr {
				line = append(line, b)
			}
			continue
		}
		if text := strings.TrimRight(string(line), "\r"); text != "" {
			p.mu.Lock()
			p.tail = append(append(p.tail, text...), '\n')
			p.tail = p.tail[max(0, len(p.tail)-maxStderr):]
			p.mu.Unlock()
			if p.tell != nil {
				p.tell(text)
			}
		}
		line = line[:0]
		if b == mark {
			p.mu.Lock()
			if len(p.acks) > 0 {
				close(p.acks[0])
				p.acks = p.acks[1:]
			}
			p.mu.Unlock()
		}
	}
}

// said returns the end of what the plugin has said so far.
func (p *plugin) said() string {
	ack := make(chan struct{})
	p.asking.Lock()
	p.mu.Lock()
	p.acks = append(p.acks, ack)
	p.mu.Unlock()
	_, err := p.w.Write([]byte{mark})
	p.asking.Unlock()
	if err == nil {
		select {
		case <-ack:
		case <-p.gone:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.tail)
}

// close stops listening. A plugin that still runs gets an error from its next
// word. The other end stays open, as client-go's cached authenticator may be
// handing it to a process just now.
func (p *plugin) close() { _ = p.r.Close() }

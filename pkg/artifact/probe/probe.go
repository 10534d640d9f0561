// Package probe asks whether what was deployed works: it GETs a URL, connects
// to a port or runs a program. What a probe must find may name the artifact, so
// that the service itself says which version it is; those without such a
// placeholder can also be asked before a switch.
package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/program"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
)

const (
	limit      = 5 * time.Second // of one probe
	grace      = time.Second     // of a program after that
	mostRead   = 1 << 20         // bytes of a body in which its text may be
	mostAnswer = 4 << 10         // bytes kept as evidence
)

// Deps is what probes need.
type Deps struct {
	// Transport is what all HTTP probes have in common: CA, proxy, user agent, log.
	// Base, Pin and Token are the probe's, and redirects are not followed. A probe carries
	// no secret, so plain http is allowed.
	Transport transport.Options
	// Env is the environment to take from; a program gets PATH, HOME and LANG.
	Env        []string
	Dir        string // where programs run; absolute; made if it is not there
	Watch, Run string
	// Redact is applied to what programs say; nil: nothing.
	Redact func(string) string
}

// Prober asks all of them.
type Prober struct {
	specs []Spec
	http  []http.RoundTripper // of each; nil: another kind
	d     Deps
}

var _ artifact.Prober = (*Prober)(nil)

// New prepares the probes; nothing is contacted. The error is a *fault.Error of
// kind Usage.
func New(specs []Spec, d Deps) (*Prober, error) {
	p := &Prober{specs: specs, http: make([]http.RoundTripper, len(specs)), d: d}
	for i, s := range specs {
		if s.Kind == Exec {
			if err := program.Check("--probe exec:", s.At); err != nil {
				return nil, err
			}
		}
		if s.Kind != HTTP {
			continue
		}
		base, err := url.Parse(s.At[:len(s.At)-len(afterHost(s.At))])
		if err != nil {
			return nil, usage(s.String(), "the URL cannot be read")
		}
		o := d.Transport
		o.Base, o.Token, o.InsecureHTTP = base, nil, true
		if o.Pin = nil; s.Dial.Addr.IsValid() {
			o.Pin = &s.Dial
		}
		stack, err := transport.New(o)
		if err != nil {
			if told, ok := errors.AsType[*fault.Error](err); ok {
				return nil, usage(s.String(), told.Error())
			}
			return nil, err
		}
		p.http[i] = stack
	}
	return p, nil
}

// afterHost is the part of a URL behind the host.
func afterHost(u string) string {
	_, rest, _ := strings.Cut(u, "://")
	if at := strings.IndexAny(rest, "/?#"); at >= 0 {
		return rest[at:]
	}
	return ""
}

func canonical(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }

// Count is how many there are.
func (p *Prober) Count(baseline bool) int {
	n := 0
	for _, s := range p.specs {
		if !baseline || s.Baseline() {
			n++
		}
	}
	return n
}

// Probe asks them, all at the same time, each at most five seconds.
func (p *Prober) Probe(ctx context.Context, c artifact.Candidate, baseline bool) []artifact.ProbeResult {
	out := make([]artifact.ProbeResult, 0, len(p.specs))
	var which []int
	for i, s := range p.specs {
		if !baseline || s.Baseline() {
			which = append(which, i)
			out = append(out, artifact.ProbeResult{Probe: s.String()})
		}
	}
	var all sync.WaitGroup
	for n, i := range which {
		all.Go(func() {
			a := p.ask(ctx, i, c)
			out[n].OK, out[n].Detail, out[n].Answer = a.ok, a.detail, a.text
		})
	}
	all.Wait()
	return out
}

// answer is what one probe found.
type answer struct {
	ok     bool
	detail string
	text   string
}

func no(format string, args ...any) answer { return answer{detail: fmt.Sprintf(format, args...)} }

// errLimit is the cause of a probe's context that its five seconds ended.
var errLimit = fmt.Errorf("no answer in %s", limit)

func (p *Prober) ask(ctx context.Context, i int, c artifact.Candidate) answer {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLimit)
	defer cancel()
	s := p.specs[i]
	for _, text := range []*string{&s.At, &s.Body, &s.Value} {
		filled, missing := program.Fill(*text, c)
		if missing != "" {
			return no("the artifact has no %s", strings.Trim(missing, "{}"))
		}
		*text = filled
	}
	switch s.Kind {
	case HTTP:
		return get(ctx, p.http[i], s)
	case TCP:
		return connect(ctx, s)
	case Exec:
		return p.run(ctx, s, c)
	}
	return no("a probe of no kind")
}

// said is err for people.
func said(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return ui.Clean(err.Error())
}

func connect(ctx context.Context, s Spec) answer {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.At)
	if err != nil {
		return no("%s", said(ctx, err))
	}
	_ = conn.Close()
	return answer{ok: true, detail: "connected"}
}

// get asks over a connection of its own: one that is still open may lead to the
// process that was just replaced.
func get(ctx context.Context, rt http.RoundTripper, s Spec) answer {
	ctx = transport.WithCall(ctx, transport.Call{Name: "probe", ByHand: true}) // a redirect is an answer
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.At, nil)
	if err != nil {
		return no("%s", ui.Clean(err.Error()))
	}
	req.Close = true
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return no("%s", said(ctx, err))
	}
	defer resp.Body.Close()
	body, found, err := search(resp.Body, s.Body)
	a := answer{detail: fmt.Sprint(resp.StatusCode), text: clean(head(resp) + string(body))}
	switch {
	case s.Status == 0 && resp.StatusCode/100 != 2:
		a.detail += ", wanted 2xx" + location(resp)
	case s.Status != 0 && resp.StatusCode != s.Status:
		a.detail += fmt.Sprintf(", wanted %d", s.Status) + location(resp)
	case s.Header != "" && !has(resp.Header.Values(s.Header), s.Value):
		a.detail += fmt.Sprintf(", and header %s is %s, not %s", s.Header, short(strings.Join(resp.Header.Values(s.Header), ", ")), short(s.Value))
	case s.Body != "" && !found && err == nil:
		a.detail += fmt.Sprintf(", and %s is not in its body", short(s.Body))
	case err != nil && !found:
		a.detail += ", and its body ended early: " + said(ctx, err)
	default:
		a.ok = true
	}
	return a
}

// short is a text in quotes, cleaned, not too long.
func short(s string) string { return fmt.Sprintf("%.100q", ui.Clean(s)) }

// head is what of an answer's head may tell who gave it.
func head(resp *http.Response) string {
	var out strings.Builder
	out.WriteString(resp.Status + "\n")
	for _, name := range []string{"Server", "Location", "Content-Type"} {
		if v := resp.Header.Get(name); v != "" {
			out.WriteString(name + ": " + v + "\n")
		}
	}
	return out.String() + "\n"
}

func location(resp *http.Response) string {
	to := resp.Header.Get("Location")
	if to == "" || resp.StatusCode/100 != 3 {
		return ""
	}
	return "; it redirects to " + short(to) + ", which is not followed"
}

func has(values []string, want string) bool {
	for _, v := range values {
		if strings.Contains(v, want) {
			return true
		}
	}
	return false
}

// search reads until text is found, or to the end, or to a limit: without a
// text as much as is kept. It returns the start of what it read.
func search(r io.Reader, text string) (start []byte, found bool, err error) {
	most := mostRead
	if text == "" {
		most = mostAnswer
	}
	var all []byte
	buf := make([]byte, 16<<10)
	for len(all) < most && !found {
		n, readErr := r.Read(buf[:min(len(buf), most-len(all))])
		from := max(0, len(all)-len(text))
		all = append(all, buf[:n]...)
		found = text != "" && bytes.Contains(all[from:], []byte(text))
		if errors.Is(readErr, io.EOF) {
			break
		}
		if err = readErr; err != nil {
			break
		}
	}
	return all[:min(len(all), mostAnswer)], found, err
}

// clean makes an answer fit for a journal and a terminal.
func clean(s string) string {
	s = strings.Join(ui.CleanLines(s), "\n")
	if len(s) > mostAnswer {
		s = strings.ToValidUTF8(s[:mostAnswer], "")
	}
	return s
}

// run asks a program. It finds in its environment what it is asked about.
func (p *Prober) run(ctx context.Context, s Spec, c artifact.Candidate) answer {
	v := program.Variables{Action: "probe", Watch: p.d.Watch, Run: p.d.Run, To: &c}
	v.Deadline, _ = ctx.Deadline()
	end := program.Run(ctx, program.Program{
		Path: s.At, Env: v.Environ(p.d.Env), Dir: p.d.Dir, Sweep: true, Grace: grace, Redact: p.d.Redact,
	})
	text := strings.Join(end.Said, "\n")
	a := answer{ok: end.OK(), detail: end.String(), text: strings.ToValidUTF8(text[max(0, len(text)-mostAnswer):], "")}
	if end.How == program.Stopped {
		a.detail = said(ctx, end.Err)
	}
	return a
}

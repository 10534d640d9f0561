package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/poll"
	"homelab/pkg/stack/file"
)

// Resolver answers for names, as those who visit a host would have them
// answered; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// How a resolver that does not answer is asked again.
const (
	dnsTries = 3
	dnsEach  = 5 * time.Second
	dnsPause = time.Second
	dnsAtOne = 8 // lookups at once
)

// wildcardProbe is the name asked for behind a wildcard: its record answers for
// any.
const wildcardProbe = "homelab-check"

// resolved is what a resolver said of one host.
type resolved struct {
	host    string
	addrs   []netip.Addr
	missing bool  // it says that there is no such name
	err     error // it did not answer
}

// resolves asks whether the hosts that a spec adds can be reached by those who
// type them: an Ingress, and a certificate, for a name that leads elsewhere is
// work for nothing, and a certificate authority counts it.
func (r *run) resolves(ctx context.Context, was, is *file.Directory, expected netip.Addr) error {
	hosts := newHosts(was.Spec, is.Spec)
	if len(hosts) == 0 || r.o.Force || r.composed() || r.w.Resolver == nil {
		return nil
	}
	answers := make([]resolved, len(hosts))
	var wg sync.WaitGroup
	slots := make(chan struct{}, dnsAtOne)
	for i, host := range hosts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			answers[i] = r.w.resolve(ctx, host)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	wrong, unknown := judgeHosts(answers, expected)
	next := "homelab deployment restart --force --dir " + r.o.Dir
	switch {
	case len(wrong) > 0:
		return fault.New(fault.Failed, strings.Join(wrong, "; "), next).
			Because("network.http-proxy has these hosts newly; nothing was changed. Set their records first, or go on without the check with --force")
	case len(unknown) > 0:
		return fault.New(fault.Unreachable, "the resolver does not answer for new hosts of network.http-proxy", next).
			Because(strings.Join(unknown, "; ") + "; nothing was changed")
	}
	for _, a := range answers {
		r.w.Tell.Line(a.host + " resolves to " + addresses(a.addrs))
	}
	return nil
}

// newHosts are the hosts of http-proxy that a spec adds, each once.
func newHosts(was, is *file.Spec) []string {
	var out []string
	for _, p := range is.Proxies {
		if !slices.Contains(out, p.Host) && !slices.ContainsFunc(was.Proxies, func(o file.Proxy) bool { return o.Host == p.Host }) {
			out = append(out, p.Host)
		}
	}
	return out
}

// resolve asks for one host. That there is none is an answer; that nobody answers
// is asked again.
func (w *World) resolve(ctx context.Context, host string) resolved {
	out := resolved{host: host}
	name := host
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		name = wildcardProbe + "." + rest
	}
	// As it stands: what this machine's search domains and hosts file add to it
	// leads nobody else here.
	name = strings.TrimSuffix(name, ".") + "."
	for tries := 1; ; tries++ {
		each, cancel := context.WithTimeout(ctx, dnsEach)
		out.addrs, out.err = w.Resolver.LookupNetIP(each, "ip", name)
		cancel()
		d, ok := errors.AsType[*net.DNSError](out.err)
		if ok && d.IsNotFound {
			out.missing, out.err = true, nil
		}
		if out.err == nil || tries == dnsTries || poll.Sleep(ctx, dnsPause) != nil {
			return out
		}
	}
}

// judgeHosts decides whether hosts lead where they should: wrong ones, in
// sentences, and those of which nothing is known. With expected, no address of
// its family may be another one: some visitors would be led elsewhere.
func judgeHosts(answers []resolved, expected netip.Addr) (wrong, unknown []string) {
	for _, a := range answers {
		var same, other []netip.Addr
		for _, x := range a.addrs {
			switch x = x.Unmap(); {
			case !expected.IsValid() || x == expected:
				same = append(same, x)
			case x.Is4() == expected.Is4():
				other = append(other, x)
			}
		}
		switch {
		case a.err != nil:
			unknown = append(unknown, a.host+": "+a.err.Error())
		case a.missing || len(a.addrs) == 0:
			wrong = append(wrong, a.host+" does not resolve")
		case len(other) > 0:
			wrong = append(wrong, fmt.Sprintf("%s resolves to %s, not to %s alone", a.host, addresses(a.addrs), expected))
		case len(same) == 0:
			wrong = append(wrong, fmt.Sprintf("%s resolves to %s, not to %s", a.host, addresses(a.addrs), expected))
		}
	}
	return wrong, unknown
}

func addresses(list []netip.Addr) string {
	var out []string
	for _, a := range list {
		if s := a.Unmap().String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// server looks at the URL, and at what can be wrong without dialling.
func (p *patient) server(context.Context) finding {
	if missing := p.conf.MissingServer(); missing != nil {
		return plain(missing)
	}
	u := p.conf.Server.V
	s, err := p.Server(p.conf, nil)
	if err != nil {
		f := plain(err)
		if u.Scheme == "http" && p.conf.CAFile.V == "" {
			safe := *u
			safe.Scheme = "https"
			f.fix = p.again(safe.String())
		}
		return f
	}
	p.anyone = s
	if p.origin, err = transport.OriginOf(u); err != nil {
		return plain(err)
	}
	from := fmt.Sprintf("%s (%s)", u, p.conf.Server.Source)
	if p.origin.Scheme == "http" && p.conf.InsecureHTTP.V {
		return warning("", "%s is plain http: anyone on the way can read the token", from)
	}
	if p.conf.CAFile.Set {
		from += "; also trusts " + p.conf.CAFile.V
	}
	return good("%s", from)
}

// target is host and port of the server's URL.
func (p *patient) target() string {
	return net.JoinHostPort(p.origin.Host, strconv.Itoa(int(p.origin.Port)))
}

// route tells where connections to the server go.
func (p *patient) route(context.Context) finding {
	if pin := p.conf.Pin; pin.Set {
		port := pin.V.Port
		if port == 0 {
			port = p.origin.Port
		}
		to := netip.AddrPortFrom(pin.V.Addr, port)
		return good("%s is dialled at %s (%s), past DNS and any proxy", p.target(), to, pin.Source)
	}
	proxy, err := p.conf.Proxy(p.conf.Server.V)
	switch {
	case err != nil:
		return failure(fault.Usage, p.show(), "the proxy for %s cannot be used", p.origin).because(err.Error())
	case proxy != nil:
		p.proxy = proxy
		return good("%s goes through the proxy %s", p.target(), proxy.Host)
	}
	return good("%s is dialled directly", p.target())
}

// dns asks for the server's name, where connecting will.
func (p *patient) dns(ctx context.Context) finding {
	_, err := netip.ParseAddr(p.origin.Host)
	switch {
	case p.conf.Pin.Set:
		return needless("not asked: the address is pinned")
	case p.proxy != nil:
		return needless("not asked: the proxy does that")
	case err == nil:
		return needless("not asked: the URL names an address")
	}
	addrs, err := p.Resolve(ctx, p.origin.Host)
	if err != nil || len(addrs) == 0 {
		why := "no address"
		if ctx.Err() != nil {
			why = context.Cause(ctx).Error()
		} else if err != nil {
			why = err.Error()
		}
		if no, ok := errors.AsType[*net.DNSError](err); ok {
			why = no.Err
		}
		return failure(fault.Unreachable, ui.Command("getent", "ahosts", p.origin.Host), "DNS gives no address for %s", p.origin.Host).
			because(why + "; --dial or woodpecker.dial reaches the server without DNS")
	}
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.Unmap().String())
	}
	slices.Sort(texts)
	return good("%s is %s", p.origin.Host, strings.Join(slices.Compact(texts), ", "))
}

// tcp connects, and goes on as far as it can: the request is also what tls
// judges.
func (p *patient) tcp(ctx context.Context) finding {
	p.line = reach(ctx, p.anyone.Transport, p.page("version"))
	if f := p.line.connected(p.target()); f.status == failed {
		switch {
		case p.conf.Pin.Set:
			f.fix = p.show()
			f.why += fmt.Sprintf("; the address is the one of %s", p.conf.Pin.Source)
		case p.proxy != nil:
			f.fix = p.show()
		default:
			f.fix = ui.Command("nc", "-vz", p.origin.Host, strconv.Itoa(int(p.origin.Port)))
		}
		return f
	}
	if p.proxy != nil {
		return good("connected to %s, the proxy", p.line.addr)
	}
	return good("connected to %s", p.line.addr)
}

// connected judges the connection to target.
func (c contact) connected(target string) finding {
	if c.addr != "" {
		return good("connected to %s", c.addr)
	}
	var op *net.OpError
	if errors.As(c.err, &op) && op.Addr != nil {
		target = op.Addr.String()
	}
	return failure(fault.Unreachable, "", "no connection to %s", target).because(words(c.err))
}

// tls judges the server's certificate, by what the transport thought of it.
func (p *patient) tls(context.Context) finding {
	if p.origin.Scheme == "http" {
		return needless("not used: the URL is plain http")
	}
	f := p.line.trusted(p.origin, p.Now())
	if f.status == failed && p.line.shook && p.conf.Pin.Set {
		f.why += fmt.Sprintf("; the address is the one of %s", p.conf.Pin.Source)
	}
	return f
}

// expiresSoon is how long before its end a certificate is worth a warning.
const expiresSoon = 14 * 24 * time.Hour

// trusted judges the certificate of the server wanted.
func (c contact) trusted(want transport.Origin, now time.Time) finding {
	at := c.addr
	if at == "" {
		at = net.JoinHostPort(want.Host, strconv.Itoa(int(want.Port)))
	}
	look := ui.Command("openssl", "s_client", "-connect", at, "-servername", want.Host) + " </dev/null"
	no := func(what string, args ...any) finding { return failure(fault.Unreachable, look, what, args...) }
	var refused *transport.CertificateError
	switch {
	case c.state != nil && len(c.state.PeerCertificates) > 0:
		leaf := c.state.PeerCertificates[0]
		names := certNames(leaf)
		if left := leaf.NotAfter.Sub(now); left < expiresSoon {
			return warning(look, "the certificate ends on %s, in %s", day(leaf.NotAfter), days(left)).
				because("it is for " + names + ", issued by " + issuer(leaf))
		}
		return good("for %s, issued by %s, until %s", names, issuer(leaf), day(leaf.NotAfter))
	case errors.As(c.err, &refused):
		return c.refused(refused, no)
	case !c.shook:
		return no("there was no handshake").because(words(c.err))
	}
	return no("%s does not speak TLS as expected", at).because(words(c.err))
}

// refused words a certificate that is not accepted.
func (c contact) refused(e *transport.CertificateError, no func(string, ...any) finding) finding {
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	presented := strings.Join(e.Presented, ", ")
	if presented == "" {
		presented = "no name"
	}
	switch {
	case errors.As(e.Err, &name):
		return no("another server answers at %s: its certificate is for %s", e.Addr, presented).because("wanted is " + e.Name)
	case errors.As(e.Err, &unknown):
		f := no("the certificate for %s is signed by nobody this machine trusts", presented)
		f.why = "name the CA's file as woodpecker.ca-file"
		if unknown.Cert != nil {
			f.why = "issued by " + issuer(unknown.Cert) + "; " + f.why
		}
		return f
	case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		f := no("the certificate for %s has expired or is not valid yet", presented)
		f.why = "valid from " + day(invalid.Cert.NotBefore) + " to " + day(invalid.Cert.NotAfter) + "; is this machine's clock right?"
		return f
	}
	return no("the certificate for %s is not accepted", presented).because(e.Err.Error())
}

// day is a date as it is in UTC.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func days(d time.Duration) string {
	if d < 24*time.Hour {
		return "less than a day"
	}
	return count(int(d/(24*time.Hour)), "day")
}

func issuer(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return c.Issuer.String()
}

// certNames returns the names a certificate is for, the first three of many.
func certNames(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if more := len(names) - 3; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), more)
	}
	return strings.Join(names, ", ")
}

// version asks the server what it calls itself.
func (p *patient) version(ctx context.Context) finding {
	v, err := p.anyone.Client.ServerVersion(impatient(ctx))
	switch {
	case err != nil:
		return p.trouble(p.anyone, err, "the version")
	case v.StreamSafe():
		return good("Woodpecker %s", v)
	case v == "":
		return warning("", "the server does not tell its version").because(noStream)
	case v.Before(firstStream) && v.Release():
		return warning("", "Woodpecker %s is older than %s", v, firstStream).because(noStream + "; who cancelled a pipeline, and for which other one, is not told")
	}
	return warning("", "Woodpecker %s is no release", v).because(noStream)
}

const (
	firstStream = "3.14.0"
	noStream    = "its event stream is not used, so a watch asks every few seconds and sees the end a little later"
)

// health asks whether the server's database answers.
func (p *patient) health(ctx context.Context) finding {
	err := p.anyone.Client.Healthz(impatient(ctx))
	var api *woodpecker.APIError
	if errors.As(err, &api) && api.Status == 500 && p.anyone.Client.Version() != "" {
		return failure(fault.Unreachable, "", "the server is up and its database is not").because(api.Words())
	}
	if err != nil {
		return p.trouble(p.anyone, err, "the server's health")
	}
	return good("server and database are up")
}

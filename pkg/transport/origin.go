package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Origin is what a credential is bound to. Two URLs have the same origin
// exactly when their Origins are equal.
type Origin struct {
	Scheme string // "http" or "https"
	Host   string // lower case, no trailing dot, IDNA ASCII; an IP address without brackets
	Port   uint16 // the scheme's default filled in
}

// OriginOf returns the origin of u. The error is for a scheme other than http
// and https, a missing or impossible host, or a bad port.
func OriginOf(u *url.URL) (Origin, error) {
	if u == nil {
		return Origin{}, errors.New("no URL")
	}
	o := Origin{Scheme: strings.ToLower(u.Scheme)}
	switch o.Scheme {
	case "https":
		o.Port = 443
	case "http":
		o.Port = 80
	case "":
		return Origin{}, fmt.Errorf("%q has no scheme; want https://HOST", u.Redacted())
	default:
		return Origin{}, fmt.Errorf("scheme %q is neither https nor http", u.Scheme)
	}
	host, err := normalHost(u.Hostname())
	if err != nil {
		return Origin{}, err
	}
	o.Host = host
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return Origin{}, fmt.Errorf("port %q is not a number from 1 to 65535", p)
		}
		o.Port = uint16(n)
	}
	return o, nil
}

// normalHost brings a host name or IP address (without brackets) into the one
// form in which it is compared.
func normalHost(host string) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), nil
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" {
		return "", errors.New("no host")
	}
	for _, r := range host {
		if r >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(host)
			if err != nil {
				return "", fmt.Errorf("host %q: %w", host, err)
			}
			return strings.ToLower(ascii), nil
		}
	}
	return strings.ToLower(host), nil
}

// String returns scheme://host, and :port unless it is the scheme's default.
func (o Origin) String() string {
	if o == (Origin{}) {
		return ""
	}
	host := o.Host
	if strings.Contains(host, ":") {
		host = "[" + strings.Replace(host, "%", "%25", 1) + "]"
	}
	if o.Scheme == "https" && o.Port == 443 || o.Scheme == "http" && o.Port == 80 {
		return o.Scheme + "://" + host
	}
	return o.Scheme + "://" + host + ":" + strconv.Itoa(int(o.Port))
}

// Loopback reports whether the host is a literal loopback address or localhost.
func (o Origin) Loopback() bool {
	if o.Host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(o.Host)
	return err == nil && addr.Unmap().IsLoopback()
}

// serves reports whether a connection to hostport ("host:port", as a dialer is
// handed it) is one to this origin. The scheme is not known there.
func (o Origin) serves(hostport string) bool {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	host, err = normalHost(host)
	return err == nil && host == o.Host && port == strconv.Itoa(int(o.Port))
}

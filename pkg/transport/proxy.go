package transport

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// dialer returns the DialContext that carries out the pin: host and port of
// the configured URL go to the pinned address, everything else is dialled as
// it says. With a nil pin it dials normally.
func dialer(origin Origin, pin *Pin) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	if pin == nil {
		return d.DialContext
	}
	pinned := pin.address(origin.Port)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if origin.serves(addr) {
			addr = pinned
		}
		return d.DialContext(ctx, network, addr)
	}
}

// proxied returns the transport's Proxy. A pinned server never gets one: the
// dialer would be handed the proxy's address, and the pin would silently do
// nothing (ADR 0003).
func proxied(origin Origin, pin *Pin, proxy func(*url.URL) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	if proxy == nil {
		return nil
	}
	return func(req *http.Request) (*url.URL, error) {
		if pin != nil {
			o, err := OriginOf(req.URL)
			if err == nil && origin.serves(net.JoinHostPort(o.Host, strconv.Itoa(int(o.Port)))) {
				return nil, nil //nolint:nilnil // net/http's way to say "no proxy"
			}
		}
		return proxy(req.URL)
	}
}

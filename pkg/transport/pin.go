package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Pin is the fixed address a server is dialled at while URL, Host header, TLS
// server name and certificate verification stay those of its name: what
// curl --resolve does (ADR 0003). Addr is never a name, so DNS is not asked.
type Pin struct {
	Addr netip.Addr
	Port uint16 // 0: the URL's
}

// ParsePin reads ADDR or ADDR:PORT: 10.0.20.203, 10.0.20.203:8443, fd00::5,
// [fd00::5]:8443, fe80::1%eth0. Outer white space is ignored. The error says
// what is wrong with s and fits behind the name of the flag or key.
func ParsePin(s string) (Pin, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Pin{}, errors.New("is empty; want ADDRESS or ADDRESS:PORT")
	}
	host, port, hasPort, err := splitPin(s)
	if err != nil {
		return Pin{}, err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return Pin{}, fmt.Errorf("%q: %q is not an IP address; names are not looked up here", s, host)
	}
	if err := checkPinned(addr); err != nil {
		return Pin{}, fmt.Errorf("%q: %w", s, err)
	}
	p := Pin{Addr: addr.Unmap()}
	if !hasPort {
		return p, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case port == "":
		return Pin{}, fmt.Errorf("%q: nothing follows the colon; want a port", s)
	case err != nil || n == 0:
		return Pin{}, fmt.Errorf("%q: port %q is not a number from 1 to 65535", s, port)
	}
	p.Port = uint16(n)
	return p, nil
}

// splitPin separates address and port. Without brackets an address with more
// than one colon is IPv6 and has no port.
func splitPin(s string) (host, port string, hasPort bool, err error) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, tail, ok := strings.Cut(rest, "]")
		if !ok {
			return "", "", false, fmt.Errorf("%q: the bracket is not closed", s)
		}
		if !strings.Contains(host, ":") {
			return "", "", false, fmt.Errorf("%q: only an IPv6 address stands in brackets", s)
		}
		if tail == "" {
			return host, "", false, nil
		}
		port, ok = strings.CutPrefix(tail, ":")
		if !ok {
			return "", "", false, fmt.Errorf("%q: want a colon and a port behind the bracket", s)
		}
		return host, port, true, nil
	}
	if strings.Count(s, ":") == 1 {
		host, port, _ = strings.Cut(s, ":")
		return host, port, true, nil
	}
	return s, "", false, nil
}

// checkPinned refuses addresses no server can have, and zones whose characters
// would not survive being written down again.
func checkPinned(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return errors.New("is no server's address")
	case a.IsMulticast():
		return errors.New("is a multicast address")
	case a.Zone() != "" && a.Is4In6():
		return errors.New("an IPv4 address has no zone")
	}
	for _, r := range a.Zone() {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-", r):
		default:
			return fmt.Errorf("zone %q: %q does not belong in an interface name", a.Zone(), r)
		}
	}
	return nil
}

// String returns what ParsePin reads; the zero Pin is "".
func (p Pin) String() string {
	switch {
	case !p.Addr.IsValid():
		return ""
	case p.Port == 0:
		return p.Addr.String()
	}
	return net.JoinHostPort(p.Addr.String(), strconv.Itoa(int(p.Port)))
}

// address returns what is dialled for a URL whose port is port.
func (p Pin) address(port uint16) string {
	if p.Port != 0 {
		port = p.Port
	}
	return net.JoinHostPort(p.Addr.String(), strconv.Itoa(int(port)))
}

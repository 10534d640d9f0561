package transport

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParsePin(t *testing.T) {
	tests := []struct {
		in   string
		want Pin
		text string // what String gives; "" means in
		err  string // part of the error
	}{
		{in: "10.0.20.203", want: Pin{Addr: netip.MustParseAddr("10.0.20.203")}},
		{in: "10.0.20.203:8443", want: Pin{Addr: netip.MustParseAddr("10.0.20.203"), Port: 8443}},
		{in: " 10.0.20.203\n", want: Pin{Addr: netip.MustParseAddr("10.0.20.203")}, text: "10.0.20.203"},
		{in: "fd00::5", want: Pin{Addr: netip.MustParseAddr("fd00::5")}},
		{in: "[fd00::5]", want: Pin{Addr: netip.MustParseAddr("fd00::5")}, text: "fd00::5"},
		{in: "[fd00::5]:8443", want: Pin{Addr: netip.MustParseAddr("fd00::5"), Port: 8443}},
		{in: "fe80::1%eth0", want: Pin{Addr: netip.MustParseAddr("fe80::1%eth0")}},
		{in: "[fe80::1%eth0.5]:443", want: Pin{Addr: netip.MustParseAddr("fe80::1%eth0.5"), Port: 443}},
		{in: "::ffff:10.0.0.1", want: Pin{Addr: netip.MustParseAddr("10.0.0.1")}, text: "10.0.0.1"},
		{in: "::1", want: Pin{Addr: netip.IPv6Loopback()}},

		{in: "", err: "is empty"},
		{in: "ci.example.lan", err: "is not an IP address"},
		{in: "ci.example.lan:443", err: "is not an IP address"},
		{in: "https://10.0.0.1", err: "is not an IP address"},
		{in: "10.0.0.1:", err: "nothing follows the colon"},
		{in: "[fd00::5]:", err: "nothing follows the colon"},
		{in: "10.0.0.1:0", err: "not a number from 1 to 65535"},
		{in: "10.0.0.1:65536", err: "not a number from 1 to 65535"},
		{in: "10.0.0.1:-1", err: "not a number from 1 to 65535"},
		{in: "10.0.0.1:https", err: "not a number from 1 to 65535"},
		{in: "10.0.0.300", err: "is not an IP address"},
		{in: "10.0.0.1/24", err: "is not an IP address"},
		{in: "[fd00::5", err: "the bracket is not closed"},
		{in: "[fd00::5]8443", err: "want a colon"},
		{in: "[10.0.0.1]:443", err: "only an IPv6 address"},
		{in: "0.0.0.0", err: "no server's address"},
		{in: "[::]:443", err: "no server's address"},
		{in: "224.0.0.1", err: "multicast"},
		{in: "fe80::1%a]b", err: "interface name"},
		{in: "::ffff:10.0.0.1%eth0", err: "no zone"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParsePin(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("ParsePin = %v, %v; want an error with %q", got, err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("ParsePin = %+v, %v; want %+v", got, err, tt.want)
			}
			want := tt.text
			if want == "" {
				want = tt.in
			}
			if got.String() != want {
				t.Errorf("String = %q, want %q", got, want)
			}
		})
	}
}

func TestZeroPin(t *testing.T) {
	if s := (Pin{}).String(); s != "" {
		t.Errorf("the zero Pin prints %q", s)
	}
}

func FuzzParsePin(f *testing.F) {
	for _, s := range []string{
		"10.0.20.203", "10.0.20.203:8443", "fd00::5", "[fd00::5]:8443", "fe80::1%eth0", "[fe80::1%eth0]:1",
		"", ":", "[", "[]", "[]:1", "10.0.0.1:0", "ci:443", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:9", "1:2:3", "%", "fe80::1%",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePin(s)
		if err != nil {
			return
		}
		if !p.Addr.IsValid() || p.Addr.IsUnspecified() {
			t.Fatalf("%q was accepted as %+v", s, p)
		}
		again, err := ParsePin(p.String())
		if err != nil || again != p {
			t.Fatalf("%q is written %q, which reads as %+v, %v", s, p, again, err)
		}
	})
}

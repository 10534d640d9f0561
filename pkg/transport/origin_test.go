package transport

import (
	"net/url"
	"testing"
)

func TestOriginOf(t *testing.T) {
	tests := []struct {
		in, want string
		loopback bool
	}{
		{in: "https://ci.example.lan", want: "https://ci.example.lan"},
		{in: "HTTPS://CI.Example.LAN:443/root/", want: "https://ci.example.lan"},
		{in: "https://ci.example.lan.:443", want: "https://ci.example.lan"},
		{in: "https://user:pw@ci.example.lan:8443/x", want: "https://ci.example.lan:8443"},
		{in: "http://ci.example.lan:443", want: "http://ci.example.lan:443"},
		{in: "http://ci.example.lan:80", want: "http://ci.example.lan"},
		{in: "https://bücher.example", want: "https://xn--bcher-kva.example"},
		{in: "https://BÜCHER.example", want: "https://xn--bcher-kva.example"},
		{in: "https://[FD00::0:5]:8443", want: "https://[fd00::5]:8443"},
		{in: "https://[fe80::1%25eth0]", want: "https://[fe80::1%25eth0]"},
		{in: "http://localhost:8000", want: "http://localhost:8000", loopback: true},
		{in: "http://LOCALHOST.", want: "http://localhost", loopback: true},
		{in: "http://127.8.0.1", want: "http://127.8.0.1", loopback: true},
		{in: "http://[::1]:80", want: "http://[::1]", loopback: true},
		{in: "http://localhost.example.com", want: "http://localhost.example.com"},
		{in: "http://127.0.0.1.example.com", want: "http://127.0.0.1.example.com"},

		{in: "ci.example.lan"},
		{in: "//ci.example.lan"},
		{in: "ftp://ci.example.lan"},
		{in: "https://"},
		{in: "https://."},
		{in: "https://ci:0"},
		{in: "https://ci:65536"},
		{in: "https://:443"},
		{in: "https:ci"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			u, err := url.Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := OriginOf(u)
			if tt.want == "" {
				if err == nil {
					t.Fatalf("OriginOf = %v, want an error", got)
				}
				return
			}
			if err != nil || got.String() != tt.want || got.Loopback() != tt.loopback {
				t.Fatalf("OriginOf = %v (loopback %v), %v; want %s (%v)", got, got.Loopback(), err, tt.want, tt.loopback)
			}
			again, err := url.Parse(got.String())
			if err != nil {
				t.Fatal(err)
			}
			if o, err := OriginOf(again); err != nil || o != got {
				t.Errorf("%v reads as %v, %v", got, o, err)
			}
		})
	}
	if _, err := OriginOf(nil); err == nil {
		t.Error("no URL has an origin")
	}
	if s := (Origin{}).String(); s != "" {
		t.Errorf("the zero Origin prints %q", s)
	}
}

// What a dialer is handed: the transport leaves case and trailing dots alone.
func TestOriginServes(t *testing.T) {
	o := Origin{Scheme: "https", Host: "ci.example.lan", Port: 443}
	for addr, want := range map[string]bool{
		"ci.example.lan:443":    true,
		"CI.example.LAN:443":    true,
		"ci.example.lan.:443":   true,
		"ci.example.lan:8443":   false,
		"ci.example.lan:80":     false,
		"x.ci.example.lan:443":  false,
		"example.lan:443":       false,
		"ci.example.lan":        false,
		"ci.example.lan:https":  false,
		"ci.example.lan.lan:44": false,
	} {
		if got := o.serves(addr); got != want {
			t.Errorf("serves(%q) = %v", addr, got)
		}
	}
	six := Origin{Scheme: "https", Host: "fd00::5", Port: 443}
	if !six.serves("[FD00::0:5]:443") {
		t.Error("IPv6 literals are not normalised")
	}
}

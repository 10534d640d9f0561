package stack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

func addrs(text string) []netip.Addr {
	var out []netip.Addr
	for a := range strings.FieldsSeq(text) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestJudgeHosts(t *testing.T) {
	for _, r := range []struct {
		name           string
		addrs          string
		missing        bool
		err            error
		expected       string // "" any
		wrong, unknown string // "" none
	}{
		{"it resolves", "10.0.0.1", false, nil, "", "", ""},
		{"it does not", "", true, nil, "", "h does not resolve", ""},
		{"a name without addresses", "", false, nil, "", "h does not resolve", ""},
		{"it does not, and should lead somewhere", "", true, nil, "10.0.0.1", "h does not resolve", ""},
		{"nobody answers", "", false, errors.New("i/o timeout"), "", "", "h: i/o timeout"},
		{"nobody answers, and it should lead somewhere", "", false, errors.New("i/o timeout"), "10.0.0.1", "", "h: i/o timeout"},
		{"as expected", "10.0.0.1", false, nil, "10.0.0.1", "", ""},
		{"as expected, in the long form", "::ffff:10.0.0.1", false, nil, "10.0.0.1", "", ""},
		{"elsewhere", "10.0.0.2", false, nil, "10.0.0.1", "h resolves to 10.0.0.2, not to 10.0.0.1 alone", ""},
		{"there, and elsewhere", "10.0.0.2 10.0.0.1", false, nil, "10.0.0.1", "h resolves to 10.0.0.1, 10.0.0.2, not to 10.0.0.1 alone", ""},
		{"the other family is not asked about", "10.0.0.1 fd00::1", false, nil, "10.0.0.1", "", ""},
		{"only the other family", "fd00::1", false, nil, "10.0.0.1", "h resolves to fd00::1, not to 10.0.0.1", ""},
		{"of six bytes more", "fd00::1 10.0.0.1", false, nil, "fd00::1", "", ""},
	} {
		var expected netip.Addr
		if r.expected != "" {
			expected = netip.MustParseAddr(r.expected)
		}
		wrong, unknown := judgeHosts([]resolved{{host: "h", addrs: addrs(r.addrs), missing: r.missing, err: r.err}}, expected)
		if strings.Join(wrong, ";") != r.wrong || strings.Join(unknown, ";") != r.unknown {
			t.Errorf("%s: %q, %q", r.name, wrong, unknown)
		}
	}
}

func TestNewHosts(t *testing.T) {
	spec := func(hosts string) *file.Spec {
		s := &file.Spec{}
		for h := range strings.FieldsSeq(hosts) {
			s.Proxies = append(s.Proxies, file.Proxy{Host: h})
		}
		return s
	}
	for _, r := range []struct{ was, is, want string }{
		{"", "", ""}, {"a", "a", ""}, {"a b", "a", ""}, {"", "a", "a"}, {"a", "b a c b", "b c"},
	} {
		if got := strings.Join(newHosts(spec(r.was), spec(r.is)), " "); got != r.want {
			t.Errorf("%q -> %q: %q", r.was, r.is, got)
		}
	}
}

// zone is a resolver with a few names; others do not exist.
type zone struct {
	mu    sync.Mutex
	names map[string]string // name -> addresses, "!" for no answer
	sick  int               // answers that do not come before any other
	asked []string
}

func (z *zone) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked = append(z.asked, host)
	text, ok := z.names[host]
	switch {
	case z.sick > 0:
		z.sick--
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	case text == "!":
		return nil, &net.DNSError{Err: "i/o timeout", Name: host, IsTimeout: true}
	case !ok || network != "ip":
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs(text), nil
}

func TestRestartAsksForNewHosts(t *testing.T) {
	for _, r := range []struct {
		name     string
		names    map[string]string
		sick     int
		expected string
		force    bool
		kind     fault.Kind // "" is up
		says     string
		asked    int
	}{
		{"all resolve", map[string]string{"new.lan.": "10.0.0.1", "other.lan.": "10.0.0.1"}, 0, "", false, "", "", 2},
		{"the second does not", map[string]string{"new.lan.": "10.0.0.1"}, 0, "", false, fault.Failed, "other.lan does not resolve", 2},
		{"one leads elsewhere", map[string]string{"new.lan.": "10.0.0.2", "other.lan.": "10.0.0.1"}, 0, "10.0.0.1", false, fault.Failed, "new.lan resolves to 10.0.0.2", 2},
		{"as expected", map[string]string{"new.lan.": "10.0.0.1", "other.lan.": "10.0.0.1"}, 0, "10.0.0.1", false, "", "", 2},
		{"all the same", nil, 0, "", true, "", "", 0},
		{"it stumbles", map[string]string{"new.lan.": "10.0.0.1", "other.lan.": "10.0.0.1"}, 2, "", false, "", "", 4},
		{"nobody answers for one", map[string]string{"new.lan.": "!", "other.lan.": "10.0.0.1"}, 0, "", false, fault.Unreachable, "i/o timeout", 4},
		{"no is no, whatever the other is", map[string]string{"new.lan.": "!"}, 0, "", false, fault.Failed, "other.lan does not resolve", 4},
	} {
		t.Run(r.name, func(t *testing.T) {
			bubbled(t, paged(), func(m *machine) {
				m.edit("spec.yml", "maintenance-service: page:8080\n", "")
				z := &zone{names: r.names, sick: r.sick}
				m.resolver = z
				m.start()
				m.edit("spec.yml", "    - host-name: status.lan", "    - host-name: new.lan\n      routes: [{path: /, proxy-to: 'web:80'}]\n    - host-name: other.lan\n      routes: [{path: /, proxy-to: 'web:80'}]\n    - host-name: status.lan")
				o := RestartOptions{Options: m.options("restart"), NoPull: true, SpecFile: filepath.Join(m.root, "spec.yml")}
				o.Force = r.force
				if r.expected != "" {
					o.ExpectedIP = netip.MustParseAddr(r.expected)
				}
				m.sim.Forget()
				out, err := m.restartWith(o)
				if r.kind == "" && (err != nil || out.Verdict != "up") || r.kind != "" && (fault.KindOf(err) != r.kind || !strings.Contains(err.Error(), r.says)) {
					m.Errorf("%+v, %v", out, err)
				}
				if len(z.asked) != r.asked || slices.ContainsFunc(z.asked, func(h string) bool { return strings.Contains(h, "shop.lan") }) {
					m.Errorf("asked for %q", z.asked)
				}
				if n := len(m.sim.Requests()); r.kind != "" && n > 0 {
					m.Errorf("%d requests to the cluster", n)
				}
				if r.kind != "" {
					// The directory is as it was: the hosts are new the next time, too.
					z.names = map[string]string{"new.lan.": "10.0.0.1", "other.lan.": "10.0.0.1"}
				}
				z.asked = nil
				out, err = m.restart()
				if err != nil || out.Verdict != "up" || (len(z.asked) == 2) != (r.kind != "") {
					m.Errorf("again: %+v, %v; asked for %q", out, err, z.asked)
				}
				synctest.Wait()
			})
		})
	}
}

func TestAWildcardAnswersForAnyName(t *testing.T) {
	z := &zone{names: map[string]string{"homelab-check.lab.lan.": "10.0.0.1"}}
	got := (&World{Resolver: z}).resolve(t.Context(), "*.lab.lan")
	if got.missing || got.err != nil || len(got.addrs) != 1 || got.host != "*.lab.lan" {
		t.Errorf("%+v; asked for %q", got, z.asked)
	}
}

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"homelab/internal/tlstest"
	"homelab/pkg/artifact"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

var digits = strings.Repeat("0123456789abcdef", 4)

const aUUID = "1b8e77d2-0000-4000-8000-00000000000a"

func candidate() artifact.Candidate {
	return artifact.Candidate{
		ID: artifact.ID("sha256:" + digits), Kind: artifact.File,
		Meta: artifact.Meta{UUID: aUUID, Commit: digits[:40]},
	}
}

func parse(t *testing.T, flags ...string) []Spec {
	t.Helper()
	var specs []Spec
	for _, f := range flags {
		s, err := Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, s)
	}
	return specs
}

func prober(t *testing.T, flags ...string) *Prober {
	t.Helper()
	p, err := New(parse(t, flags...), Deps{
		Env: []string{"PATH=" + os.Getenv("PATH"), "TOKEN=canary"}, Dir: filepath.Join(t.TempDir(), "work"), Watch: "www", Run: "r1",
		Transport: transport.Options{Token: func(context.Context) (transport.Secret, error) {
			t.Error("a probe asked for a token")
			return transport.Secret{}, errors.New("none")
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func one(t *testing.T, flag string) artifact.ProbeResult {
	t.Helper()
	all := prober(t, flag).Probe(t.Context(), candidate(), false)
	if len(all) != 1 || all[0].Probe != parse(t, flag)[0].String() {
		t.Fatalf("%+v", all)
	}
	return all[0]
}

// service is a server as it is found in a homelab.
func service(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/version", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", "v "+digits[:12])
		w.Header().Add("X-Version", "other")
		_, _ = fmt.Fprintf(w, "host %s\nsha256 %s\n", r.Host, digits)
	})
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		var code int
		_, _ = fmt.Sscan(r.PathValue("code"), &code)
		if code/100 == 3 {
			w.Header().Set("Location", "/version")
		}
		w.WriteHeader(code)
	})
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	mux.HandleFunc("/hostile", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Version", "\u009b31m")
		_, _ = io.WriteString(w, "\x1b[2Jgone\x07 \u202eevil\nnext\xff\x00\n"+strings.Repeat("é", 5000))
	})
	mux.HandleFunc("/deep", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 900<<10)+"needle"+strings.Repeat("x", 900<<10)+"thread")
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("y", 64<<10))); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestHTTP(t *testing.T) {
	at := service(t).URL
	for _, tc := range []struct {
		flag   string
		ok     bool
		detail string // a part of it
	}{
		{"/version", true, "200"},
		{"/version body={sha256:12}", true, "200"},
		{"/version body={sha256}", true, "200"},
		{"/version body={commit}", true, "200"},
		{"/version body={uuid}", false, `"` + aUUID + `" is not in its body`},
		{"/version 'body=sha256 0'", true, "200"},
		{`/version body="sha256 0123"`, true, "200"},
		{"/version status=200 header=x-version:{sha256:12}", true, "200"},
		{"/version header=X-Version:oth", true, "200"},
		{"/version header=X-Version:", true, "200"},
		{"/version header=X-None:", false, "header X-None is"},
		{"/version header=X-Version:{sha256:13}", false, `is "v ` + digits[:12] + `, other", not "` + digits[:13] + `"`},
		{"/version status=204", false, "200, wanted 204"},
		{"/status/204", true, "204"},
		{"/status/204 status=204", true, "204"},
		{"/status/302", false, `302, wanted 2xx; it redirects to "/version", which is not followed`},
		{"/status/302 status=302", true, "302"},
		{"/elsewhere", false, "302, wanted 2xx"},
		{"/status/503", false, "503, wanted 2xx"},
		{"/status/404", false, "404, wanted 2xx"},
		{"/none", false, "404"},
		{"/hostile header=X-Version:a", false, `is "", not "a"`},
		{"/deep body=needle", true, "200"},
		{"/deep body=thread", false, "not in its body"},
		{"/endless", true, "200"},
		{"/endless body=needle", false, "not in its body"},
		{"/cut", false, "200, and its body ended early"},
		{"/cut body=half", true, "200"},
	} {
		t.Run(tc.flag, func(t *testing.T) {
			r := one(t, "http:"+at+tc.flag)
			if r.OK != tc.ok || !strings.Contains(r.Detail, tc.detail) {
				t.Errorf("%+v", r)
			}
			if len(r.Answer) > 4096 || !strings.HasPrefix(r.Answer, r.Detail[:3]) {
				t.Errorf("answer of %d bytes: %.60q", len(r.Answer), r.Answer)
			}
			if strings.ContainsAny(r.Answer+r.Detail, "\x1b\x07\x00\u202e\u009b") || strings.ToValidUTF8(r.Answer, "") != r.Answer {
				t.Errorf("not cleaned: %q", r.Answer[:100])
			}
		})
	}
}

// A text is found wherever the pieces of a body are cut.
func TestSearch(t *testing.T) {
	for cut := range len("a needle b") {
		r := io.MultiReader(strings.NewReader("a needle b"[:cut]), strings.NewReader("a needle b"[cut:]))
		if start, found, err := search(r, "needle"); !found || err != nil || !strings.HasPrefix(string(start), "a needle"[:min(cut, 8)]) {
			t.Errorf("cut at %d: %q, %v, %v", cut, start, found, err)
		}
	}
}

// A probe asks over a new connection each time: the old one may lead to the
// process that was replaced.
func TestHTTPConnections(t *testing.T) {
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	p := prober(t, "http:"+s.URL)
	for range 3 {
		if r := p.Probe(t.Context(), candidate(), false); !r[0].OK {
			t.Error(r)
		}
	}
	if n := opened.Load(); n != 3 {
		t.Errorf("%d connections for three probes", n)
	}
}

// A pinned probe goes to the address and asks for the name; certificates are
// verified against it.
func TestHTTPDial(t *testing.T) {
	s := service(t)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if r := one(t, "http:http://www.example.org/version dial="+u.Host+` body="host www.example.org"`); !r.OK {
		t.Errorf("%+v", r)
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	if r := one(t, "https://www.example.org/ dial="+secure.Listener.Addr().String()); r.OK || !strings.Contains(r.Detail, "certificate") {
		t.Errorf("%+v", r)
	}
}

func TestUnanswered(t *testing.T) {
	dead := tlstest.Reserve(t).String()
	for _, flag := range []string{"tcp:" + dead, "http:http://" + dead + "/"} {
		if r := one(t, flag); r.OK || !strings.Contains(r.Detail, "refused") || r.Answer != "" {
			t.Errorf("%+v", r)
		}
	}
	live := service(t)
	if r := one(t, "tcp:"+strings.TrimPrefix(live.URL, "http://")); !r.OK || r.Detail != "connected" {
		t.Errorf("%+v", r)
	}
	// All are asked at the same time, and one that hangs does not hold up the
	// order of the others.
	p := prober(t, "http:"+live.URL+"/hang", "tcp:"+dead, "http:"+live.URL+"/version")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("the cause"))
	defer cancel()
	all := p.Probe(ctx, candidate(), false)
	if len(all) != 3 || all[0].OK || all[0].Detail != "the cause" || all[1].OK || !all[2].OK {
		t.Errorf("%+v", all)
	}
}

func TestBaseline(t *testing.T) {
	at := service(t).URL
	p := prober(t, "http:"+at+"/version body={sha256:12}", "http:"+at+"/status/200", "http:"+at+"/{commit}", "tcp:"+strings.TrimPrefix(at, "http://"), "http:"+at+"/version header=X-Version:{sha256:12}")
	if p.Count(false) != 5 || p.Count(true) != 2 {
		t.Errorf("%d probes, %d of them for the baseline", p.Count(false), p.Count(true))
	}
	old := artifact.Candidate{ID: artifact.ID("sha256:" + strings.Repeat("f", 64)), Kind: artifact.File}
	all := p.Probe(t.Context(), old, true)
	if len(all) != 2 || !all[0].OK || !strings.HasSuffix(all[0].Probe, "/status/200") || !all[1].OK || !strings.HasPrefix(all[1].Probe, "tcp:") {
		t.Errorf("%+v", all)
	}
	// What the artifact does not have fails, and says so.
	if all := p.Probe(t.Context(), old, false); all[0].OK || all[2].OK || all[2].Detail != "the artifact has no commit" {
		t.Errorf("%+v", all)
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExec(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		ok         bool
		detail     string
		answer     string
	}{
		{"good", "echo fine", true, "exit status 0: fine", "fine"},
		{"it knows what it is asked about", `echo $HOMELAB_ACTION $HOMELAB_WATCH $HOMELAB_ARTIFACT_SHA256 $HOMELAB_BUILD_UUID $TOKEN.`, true, "", "probe www " + digits + " " + aUUID + " ."},
		{"bad", "echo 'no answer on port 80' >&2; exit 1", false, "exit status 1: no answer on port 80", "no answer on port 80"},
		{"75 is no either", "exit 75", false, "exit status 75", ""},
		{"a flood", "yes | head -c 1000000; printf '\\033[31mred'", true, "exit status 0: red", ""},
		{"a signal", "kill -9 $$", false, "ended by signal killed", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := one(t, "exec:"+script(t, tc.text))
			if r.OK != tc.ok || !strings.Contains(r.Detail, tc.detail) || tc.answer != "" && r.Answer != tc.answer || len(r.Answer) > 4096 {
				t.Errorf("%+v", r)
			}
		})
	}
	p := prober(t, "exec:"+script(t, "trap '' TERM; sleep 60 & wait; wait; sleep 60"))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("the cause"))
	defer cancel()
	began := time.Now()
	if all := p.Probe(ctx, candidate(), false); all[0].OK || all[0].Detail != "the cause" || time.Since(began) > 4*time.Second {
		t.Errorf("hangs: %+v after %s", all, time.Since(began))
	}
	if _, err := New(parse(t, "exec:/no/such/probe"), Deps{}); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "--probe exec:/no/such/probe") {
		t.Errorf("no such program: %v", err)
	}
}

func TestParse(t *testing.T) {
	m := func(kv ...string) map[string]string {
		out := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	for _, tc := range []struct {
		flag     string
		mapping  map[string]string // the same
		want     string
		baseline bool
	}{
		{"http:https://www.example.org/version body={sha256:12} dial=10.0.20.203", m("http", "https://www.example.org/version", "body", "{sha256:12}", "dial", "10.0.20.203"), "https://www.example.org/version body={sha256:12} dial=10.0.20.203", false},
		{"https://www.example.org", m("http", "https://www.example.org"), "https://www.example.org", true},
		{"http://10.0.20.5:8080/{commit}?u={uuid}", m("http", "http://10.0.20.5:8080/{commit}?u={uuid}"), "http://10.0.20.5:8080/{commit}?u={uuid}", false},
		{"http:http://[fd00::5]/ dial=[::1]:81 status=204", m("http", "http://[fd00::5]/", "dial", "[::1]:81", "status", "204"), "http://[fd00::5]/ status=204 dial=[::1]:81", true},
		{`http:http://x/ body={"ok":true} header="server: my server"`, m("http", "http://x/", "body", `{"ok":true}`, "header", "server: my server"), `http://x/ body={"ok":true} header="Server:my server"`, true},
		{`http:http://x/ body='say "yes"'`, m("http", "http://x/", "body", `say "yes"`), `http://x/ body='say "yes"'`, true},
		{"http:http://x/ body=a=b", m("http", "http://x/", "body", "a=b"), "http://x/ body=a=b", true},
		{"tcp:db.example.lan:5432", m("tcp", "db.example.lan:5432"), "tcp:db.example.lan:5432", true},
		{"tcp:[::1]:80", m("tcp", "[::1]:80"), "tcp:[::1]:80", true},
		{"exec:/usr/local/bin/check", m("exec", "/usr/local/bin/check"), "exec:/usr/local/bin/check", true},
		{`"exec:/opt/my check"`, m("exec", "/opt/my check"), `"exec:/opt/my check"`, true},
	} {
		s, err := Parse(tc.flag)
		if err != nil || s.String() != tc.want || s.Baseline() != tc.baseline {
			t.Errorf("%s: %s, baseline %v, %v", tc.flag, s, s.Baseline(), err)
		}
		if same, err := FromMap(tc.mapping); err != nil || same != s {
			t.Errorf("%v: %+v, want %+v, %v", tc.mapping, same, s, err)
		}
		if again, err := Parse(s.String()); err != nil || again != s {
			t.Errorf("%s: read again as %+v, %v", s, again, err)
		}
	}
	for flag, why := range map[string]string{
		"":                                   "empty",
		"  ":                                 "empty",
		"www.example.org":                    "want http:URL, tcp",
		"dns:www.example.org":                "want http:URL, tcp",
		"http:":                              "URL",
		"http:www.example.org":               "URL",
		"http:ftp://x/":                      "ftp",
		"http:http://":                       "URL",
		"http:https://u:p@x/":                "no password",
		"http:http://{uuid}.x/":              "the host has no placeholders",
		"http:http://x/{sha265}":             "{sha265} is no placeholder",
		"http:http://x/ body={commit:8}":     "{commit:8} is no placeholder",
		"http:http://x/ body=":               "body",
		`http:http://x/ body="a`:             "quote",
		`http:http://x/ body="a"b`:           "quote",
		"http:http://x/ body=a b":            "is no KEY=VALUE",
		"http:http://x/ status=20":           "status",
		"http:http://x/ status=ok":           "status",
		"http:http://x/ status=+99":          "status",
		"http:http://x/ status=200 status=1": "twice",
		"http:http://x/ header=a":            "header",
		"http:http://x/ header=:a":           "header",
		"http:http://x/ header=a b:c":        "is no KEY=VALUE",
		`http:http://x/ header="a b:c"`:      "want NAME:VALUE",
		"http:http://x/ dial=www":            "not an IP address",
		"http:http://x/ boddy=a":             `"boddy" is not known`,
		"http:http://x/ tcp=a:1":             `"tcp" is not known`,
		"http:http://x/\x1b":                 "",
		"tcp:x":                              "HOST:PORT",
		"tcp::80":                            "HOST:PORT",
		"tcp:x:0":                            "HOST:PORT",
		"tcp:x:65536":                        "HOST:PORT",
		"tcp:x:http":                         "HOST:PORT",
		"tcp:{uuid}:80":                      "HOST:PORT",
		"tcp:x:80 status=200":                "status goes with http only",
		"exec:check":                         "absolute",
		"exec:/opt/":                         "absolute",
		"exec:/opt/{commit}":                 "environment",
		"exec:/opt/a b":                      "is no KEY=VALUE",
	} {
		s, err := Parse(flag)
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Kind != fault.Usage || e.Next == "" || !strings.HasPrefix(e.What, "--probe ") || !strings.Contains(e.Why, why) {
			t.Errorf("%q: %+v, %v", flag, s, err)
		}
	}
	for _, bad := range []map[string]string{m(), m("body", "a"), m("http", "http://x/", "tcp", "a:1"), m("http", "http://x/", "boddy", "a"), m("tcp", "a:1", "body", "x")} {
		if s, err := FromMap(bad); fault.KindOf(err) != fault.Usage {
			t.Errorf("%v: %+v, %v", bad, s, err)
		}
	}
}

package woodpecker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"homelab/internal/recording"
	"homelab/pkg/transport"
)

func resp(status int, kind string, headers ...string) *http.Response {
	h := http.Header{}
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h}
}

const (
	jsonType = "application/json; charset=utf-8"
	htmlType = "text/html; charset=UTF-8"
	textType = "text/plain; charset=utf-8"
)

func TestJudge(t *testing.T) {
	ours := []string{versionHeader, "3.17.0"}
	tests := []struct {
		name  string
		x     transport.Exchange
		saw   bool // the version header was seen before
		class transport.Class
		kind  Class
		times int
		says  string
	}{
		{"refused connection", transport.Exchange{Err: errors.New("connection refused")}, true, transport.Transient, Exhausted, 0, "connection refused"},
		{"reset", transport.Exchange{Err: io.ErrUnexpectedEOF}, true, transport.Transient, Exhausted, 0, "unexpected EOF"},
		{"attempt's own timeout", transport.Exchange{Err: &transport.TimeoutError{What: "complete answer", After: 15 * time.Second}}, true, transport.Transient, Exhausted, 0, "no complete answer within 15s"},
		{"cut body", transport.Exchange{Response: resp(200, jsonType, ours...), Body: []byte(`{"id"`), Err: io.ErrUnexpectedEOF}, true, transport.Transient, Exhausted, 0, "unexpected EOF"},
		{"certificate", transport.Exchange{Err: &transport.CertificateError{Name: "ci.example"}}, true, transport.Confirm, Untrusted, 2, "not accepted for ci.example"},
		{"408", transport.Exchange{Response: resp(408, ""), Body: []byte{}}, true, transport.Transient, Exhausted, 0, "408"},
		{"425", transport.Exchange{Response: resp(425, ""), Body: []byte{}}, true, transport.Transient, Exhausted, 0, "425"},
		{"429", transport.Exchange{Response: resp(429, "", "Retry-After", "7"), Body: []byte{}}, true, transport.Transient, Exhausted, 0, "429"},
		{"500", transport.Exchange{Response: resp(500, textType, ours...), Body: []byte("database is locked")}, true, transport.Transient, Exhausted, 0, "500: database is locked"},
		{"502 page of a proxy", transport.Exchange{Response: resp(502, htmlType), Body: []byte("<h1>Bad Gateway</h1>")}, true, transport.Transient, Exhausted, 0, "502 (Bad Gateway)"},
		{"599", transport.Exchange{Response: resp(599, ""), Body: []byte{}}, true, transport.Transient, Exhausted, 0, "599 (no words)"},
		{"empty 200", transport.Exchange{Response: resp(200, "", ours...), Body: []byte{}}, true, transport.Transient, Exhausted, 0, "an empty answer"},
		{"answer", transport.Exchange{Response: resp(200, jsonType, ours...), Body: []byte(`{}`)}, true, transport.Answer, "", 0, ""},
		{"answer behind a proxy that drops headers", transport.Exchange{Response: resp(200, "application/json"), Body: []byte(`{}`)}, true, transport.Answer, "", 0, ""},
		{"201", transport.Exchange{Response: resp(201, jsonType, ours...), Body: []byte(`{}`)}, true, transport.Answer, "", 0, ""},
		{"204", transport.Exchange{Response: resp(204, "", ours...), Body: []byte{}}, true, transport.Answer, "", 0, ""},
		{"204 of a proxy", transport.Exchange{Response: resp(204, ""), Body: []byte{}}, true, transport.Transient, Exhausted, 0, "a proxy answers"},
		{"204, version never seen", transport.Exchange{Response: resp(204, ""), Body: []byte{}}, false, transport.Answer, "", 0, ""},
		{"other type, no version", transport.Exchange{Response: resp(200, "text/html"), Body: []byte("<form>")}, false, transport.Transient, Exhausted, 0, "a proxy answers"},
		{"other type, version", transport.Exchange{Response: resp(200, textType, ours...), Body: []byte("hello")}, true, transport.Transient, Exhausted, 0, "text/plain where JSON is due"},
		{"event stream where JSON is due", transport.Exchange{Response: resp(200, "text/event-stream", ours...), Body: []byte("{}")}, true, transport.Transient, Exhausted, 0, "text/event-stream where JSON is due"},
		{"no type", transport.Exchange{Response: resp(200, "", ours...), Body: []byte("{}")}, true, transport.Transient, Exhausted, 0, "an answer without a type"},
		{"the web page", transport.Exchange{Response: resp(200, htmlType, ours...), Body: []byte("<!doctype html>")}, true, transport.Confirm, WrongPath, 0, "the base URL is wrong"},
		{"401", transport.Exchange{Response: resp(401, "", ours...), Body: []byte{}}, true, transport.Confirm, Refused, 0, "401 (Unauthorized)"},
		{"401 with text", transport.Exchange{Response: resp(401, textType, ours...), Body: []byte("User not authorized")}, true, transport.Confirm, Refused, 0, "401: User not authorized"},
		{"403", transport.Exchange{Response: resp(403, "", ours...), Body: []byte{}}, true, transport.Confirm, Refused, 0, "403"},
		{"404", transport.Exchange{Response: resp(404, "", ours...), Body: []byte{}}, true, transport.Confirm, Refused, 0, "404"},
		{"404 without the version, never seen", transport.Exchange{Response: resp(404, ""), Body: []byte{}}, false, transport.Confirm, Refused, 0, "404"},
		{"401 without the version, seen before", transport.Exchange{Response: resp(401, ""), Body: []byte{}}, true, transport.Transient, Exhausted, 0, "a proxy answers"},
		{"404 without the version, seen before", transport.Exchange{Response: resp(404, htmlType), Body: []byte("nginx")}, true, transport.Transient, Exhausted, 0, "a proxy answers"},
		{"redirect to another origin", transport.Exchange{Err: &transport.RedirectError{Status: 302, Host: "login.example"}}, true, transport.Confirm, Misdirected, 0, "login.example"},
		{"3xx that leads nowhere", transport.Exchange{Response: resp(302, ""), Body: []byte{}}, true, transport.Transient, Exhausted, 0, "a proxy answers"},
		{"400", transport.Exchange{Response: resp(400, textType, ours...), Body: []byte("cannot approve a pipeline with status success")}, true, transport.Final, Rejected, 0, "400: cannot approve a pipeline with status success"},
		{"409", transport.Exchange{Response: resp(409, "", ours...), Body: []byte{}}, true, transport.Final, Rejected, 0, "409 (Conflict)"},
		{"418 page", transport.Exchange{Response: resp(418, htmlType, ours...), Body: []byte("<b>x</b>")}, true, transport.Final, Rejected, 0, "418"},
		{"100", transport.Exchange{Response: resp(103, "")}, true, transport.Transient, Exhausted, 0, "no known kind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := judge(tt.x, tt.saw)
			if j.Class != tt.class || j.Times != tt.times {
				t.Fatalf("class %d times %d, want %d %d (%v)", j.Class, j.Times, tt.class, tt.times, j.Err)
			}
			var api *APIError
			if !errors.As(j.Err, &api) {
				if tt.kind != "" {
					t.Fatalf("no *APIError: %v", j.Err)
				}
				return
			}
			if api.Class != tt.kind || !strings.Contains(api.Words(), tt.says) {
				t.Errorf("%s %q, want %s and %q", api.Class, api.Words(), tt.kind, tt.says)
			}
		})
	}
}

func TestJudgeUnconfirmed(t *testing.T) {
	req, err := http.NewRequestWithContext(Unconfirmed(t.Context()), http.MethodGet, "http://ci.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for status, want := range map[int]transport.Class{404: transport.Final, 401: transport.Confirm, 403: transport.Confirm, 500: transport.Transient} {
		x := transport.Exchange{Request: req, Response: resp(status, "", versionHeader, "3.17.0"), Body: []byte{}}
		if got := judge(x, true).Class; got != want {
			t.Errorf("%d: class %d, want %d", status, got, want)
		}
		x.Response.Header.Del(versionHeader)
		if got := judge(x, true).Class; got != transport.Transient {
			t.Errorf("%d of a proxy: class %d, want transient", status, got)
		}
	}
}

// What a shape check makes of a 2xx.
func TestVerify(t *testing.T) {
	row := `{"id":9,"number":57,"status":"running"}`
	pipeline := func() request {
		var p Pipeline
		return request{decode: into(&p, func(p Pipeline) error { return checkRow(p, 57) })}
	}
	var rows []Pipeline
	tests := []struct {
		name   string
		r      request
		status int
		body   string
		bad    string // "" good
	}{
		{"row", pipeline(), 200, row, ""},
		{"row with white space", pipeline(), 200, "\n" + row + "\n", ""},
		{"cut", pipeline(), 200, row[:20], "broken JSON"},
		{"tail", pipeline(), 200, row + row, "broken JSON"},
		{"tail of a proxy", pipeline(), 200, row + "<html>", "broken JSON"},
		{"empty", pipeline(), 200, "", "empty"},
		{"null", pipeline(), 200, "null", "null"},
		{"list for a row", pipeline(), 200, "[]", "broken JSON"},
		{"another number", pipeline(), 200, `{"id":9,"number":58,"status":"running"}`, "pipeline 58 where 57"},
		{"no id", pipeline(), 200, `{"number":57,"status":"running"}`, "without an id"},
		{"no status", pipeline(), 200, `{"id":9,"number":57}`, "without an id, a number or a status"},
		{"error object", pipeline(), 200, `{"error":"login"}`, "without an id"},
		{"204 where a body is due", pipeline(), 204, "", "empty"},
		{"204 where it is listed", request{empty: always}, 204, "", ""},
		{"body where none is due", request{empty: always}, 200, "{}", "none is due"},
		{"empty list", request{decode: into(&rows, nil)}, 200, "[]", ""},
		{"null list", request{decode: into(&rows, nil)}, 200, "null", "null"},
		{"204 that must say it was filtered", request{empty: func(h http.Header) bool { return h.Get("Pipeline-Filtered") == "true" }}, 204, "", "empty"},
		{"a key in another case", pipeline(), 200, `{"id":9,"number":57,"status":"running","Status":"success"}`, `"Status" where "status"`},
		{"a key twice", pipeline(), 200, `{"id":9,"number":57,"status":"running","status":"success"}`, `"status" twice`},
		{"a workflow's key in another case", pipeline(), 200, `{"id":9,"number":57,"status":"success","workflows":[{"name":"a","state":"failure","STATE":"success"}]}`, `"STATE" where "state"`},
		{"a step's key in another case", pipeline(), 200, `{"id":9,"number":57,"status":"success","workflows":[{"children":[null,{"\u017ftate":"success"}]}]}`, `where "state"`},
		{"a listed row's key in another case", request{decode: into(&rows, nil)}, 200, `[{"id":1,"Number":2}]`, `"Number" where "number"`},
		{"keys that are free", pipeline(), 200, `{"id":9,"number":57,"status":"running","variables":{"id":"1","ID":"2"},"x":[{"id":1,"ID":1}],"workflows":[{"environ":{"a":"1","A":"2"}}],"cancel_info":null}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.r.verify(resp(tt.status, jsonType), []byte(tt.body))
			if (tt.bad == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("got %v, want %q", err, tt.bad)
			}
		})
	}
}

// Every answer a real server gave is sorted as the table says.
func TestJudgeRecordings(t *testing.T) {
	total := 0
	for _, name := range recording.Names() {
		for i, e := range recording.Load(t, name).Exchanges {
			total++
			h := http.Header{}
			for k, v := range e.Headers {
				h.Set(k, v)
			}
			x := transport.Exchange{Response: &http.Response{StatusCode: e.Status, Header: h}, Body: []byte(e.Body)}
			j := judge(x, true)
			var want transport.Class
			switch {
			case e.Status == 200 && strings.Contains(h.Get("Content-Type"), "json"), e.Status == 204:
				want = transport.Answer
			case e.Status == 200 && strings.Contains(h.Get("Content-Type"), "html"):
				want = transport.Confirm
			case e.Status == 401, e.Status == 403, e.Status == 404:
				want = transport.Confirm
			case e.Status >= 500:
				want = transport.Transient
			case e.Status >= 400:
				want = transport.Final
			}
			if want == 0 || j.Class != want {
				t.Errorf("%s[%d] %s %s %d: class %d, want %d", name, i, e.Method, e.Path, e.Status, j.Class, want)
			}
			if j.Class == transport.Answer && e.Status == 200 {
				if err := decodes(e); err != nil {
					t.Errorf("%s[%d] %s %s: %v", name, i, e.Method, e.Path, err)
				}
			}
		}
	}
	if total < 50 {
		t.Fatalf("only %d exchanges", total)
	}
}

// decodes decodes an answer with the shape its path asks for.
func decodes(e recording.Exchange) error {
	path, _, _ := strings.Cut(e.Path, "?")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var err error
	body := []byte(e.Body)
	switch {
	case strings.Contains(path, "/logs/"):
		return decodeLog(strings.NewReader(e.Body), func(LogEntry) error { return nil })
	case path == "/version", strings.Contains(path, "/queue/"):
		return nil
	case path == "/api/user":
		var u User
		err = into(&u, nil)(body)
		if err == nil && u.Login == "" {
			err = errors.New("no login")
		}
	case path == "/api/user/repos":
		var r []Repo
		err = into(&r, nil)(body)
	case strings.HasSuffix(path, "/permissions"):
		var p Permissions
		err = into(&p, nil)(body)
		if err == nil && !p.Pull {
			err = fmt.Errorf("%+v", p)
		}
	case strings.Contains(path, "/pipelines") && strings.HasSuffix(path, "/pipelines") && e.Method == http.MethodGet:
		var rows []Pipeline
		err = into(&rows, nil)(body)
		for _, r := range rows {
			if r.ID <= 0 || r.Number <= 0 || len(r.Commit) != 40 || !r.Status.Known() || len(r.Workflows) > 0 {
				err = fmt.Errorf("row %+v", r)
			}
		}
	case strings.Contains(path, "/pipelines"):
		var p Pipeline
		err = into(&p, func(p Pipeline) error { return checkRow(p, 0) })(body)
		if err == nil && (len(p.Commit) != 40 || !p.Status.Known()) {
			err = fmt.Errorf("row %+v", p)
		}
	case len(parts) >= 3 && parts[1] == "repos":
		var r Repo
		err = into(&r, checkRepo)(body)
	}
	return err
}

// The server's clock matters only where it differs by more than the header's
// resolution.
func TestSkew(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 900e6, time.UTC)
	for d, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: 0, -1900 * time.Millisecond: 0, 2 * time.Second: 2 * time.Second, -time.Hour: -time.Hour,
	} {
		if got := skew(now.Add(d), now); got != want {
			t.Errorf("skew %s: %s, want %s", d, got, want)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	long := strings.Repeat("x", 400)
	r := resp(500, textType)
	if got := words(r, []byte(long)); len(got) > maxWords+4 || !strings.HasSuffix(got, "…") {
		t.Errorf("long text: %d bytes", len(got))
	}
	for e, want := range map[*APIError]string{
		{Op: "pipeline 57", Class: Refused, Status: 404}:              "pipeline 57: the server answered 404 (Not Found)",
		{Op: "pipeline 57", Class: Rejected, Status: 400, Text: "no"}: "pipeline 57: the server answered 400: no",
		{Class: Exhausted, Err: io.ErrUnexpectedEOF}:                  "unexpected EOF",
		{Class: Exhausted, Status: 404, Err: errUnhealthy}:            "the server answered 404, while its database is not healthy",
		{}: "no answer",
	} {
		if e.Error() != want {
			t.Errorf("%q, want %q", e.Error(), want)
		}
	}
	if !errors.Is(&APIError{Err: context.Canceled}, context.Canceled) {
		t.Error("the cause is lost")
	}
}

func TestVersion(t *testing.T) {
	for v, want := range map[Version]struct{ release, safe, at14, before14 bool }{
		"3.17.0": {true, true, true, false}, "3.14.0": {true, true, true, false}, "v3.14.1": {true, true, true, false},
		"3.13.9": {true, false, false, true}, "3.0.0": {true, false, false, true}, "4.0.0": {true, true, true, false},
		"3.14.0-rc.1": {false, false, false, true}, "3.15.0-rc.1": {false, false, true, false},
		"dev": {}, "next-5f3a2b1c8d": {}, "": {}, "nonsense": {}, "3.14.0+build": {true, true, true, false},
	} {
		if v.Release() != want.release || v.StreamSafe() != want.safe || v.AtLeast("3.14.0") != want.at14 || v.Before("3.14.0") != want.before14 {
			t.Errorf("%q: release %t, stream %t, at least %t, before %t", v, v.Release(), v.StreamSafe(), v.AtLeast("3.14.0"), v.Before("3.14.0"))
		}
	}
}

// Every listed status has a meaning, and one that is not listed is never an
// end.
func TestStatus(t *testing.T) {
	ends := map[Status]bool{Success: false, Failure: true, Error: true, Killed: true, Canceled: true, Declined: true, Skipped: false}
	for _, s := range []Status{Created, Pending, Running, Blocked, Success, Failure, Error, Killed, Canceled, Declined, Skipped} {
		bad, end := ends[s]
		if !s.Known() || s.Ended() != end || s.Bad() != bad {
			t.Errorf("%s: known %t, ended %t, bad %t", s, s.Known(), s.Ended(), s.Bad())
		}
	}
	for _, s := range []Status{"", "SUCCESS", "paused", "canceling"} {
		if s.Known() || s.Ended() || s.Bad() {
			t.Errorf("%q counts", s)
		}
	}
}

package woodpecker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"homelab/internal/recording"
)

// told collects frames as words.
func told(body io.Reader) (out []string, err error) {
	err = frames(body, func(m frame) error {
		switch {
		case m.ping:
			out = append(out, "ping")
		case m.tooLong:
			out = append(out, "too long")
		default:
			out = append(out, strings.TrimLeft(m.event+"|", "|")+string(m.data))
		}
		return nil
	})
	return out, err
}

func TestFrames(t *testing.T) {
	long := "data: " + strings.Repeat("x", maxFrame+1) + "\n\n"
	half := "data: " + strings.Repeat("x", maxFrame/2+1) + "\n"
	tests := []struct {
		name, body string
		want       []string
	}{
		{"ping and event", ": ping\n\ndata: {}\n\n", []string{"ping", "{}"}},
		{"CRLF", ": ping\r\n\r\ndata: a\r\n\r\n", []string{"ping", "a"}},
		{"name and id", "id: 7\nevent: error\ndata: gone\n\n", []string{"error|gone"}},
		{"no blank after the colon", "data:a\n\n", []string{"a"}},
		{"only one blank is taken", "data:  a\n\n", []string{" a"}},
		{"several lines", "data: a\ndata: b\n\n", []string{"a\nb"}},
		{"an empty first line", "data:\ndata: b\n\n", []string{"\nb"}},
		{"unfinished event", "data: a\n\ndata: b\n", []string{"a"}},
		{"unfinished line", "data: a\n\ndata: b", []string{"a"}},
		{"empty lines", "\n\n\ndata: a\n\n\n\n", []string{"a"}},
		{"unknown fields", "retry: 3\nfoo\ndata: a\n\n", []string{"a"}},
		{"too long", long + "data: a\n\n", []string{"too long", "a"}},
		{"too long in pieces", half + half + half + "\ndata: a\n\n", []string{"too long", "a"}},
		{"more after a line that was too long", strings.TrimSuffix(long, "\n") + "data: b\n\ndata: a\n\n", []string{"too long", "a"}},
		{"nothing", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"whole": strings.NewReader(tt.body), "half": iotest.HalfReader(strings.NewReader(tt.body)),
			} {
				got, err := told(r)
				if !errors.Is(err, io.EOF) || !slices.Equal(got, tt.want) {
					t.Errorf("%s: %.80q, %v, want %.80q", how, got, err, tt.want)
				}
			}
		})
	}
	stop := errors.New("enough")
	if err := frames(strings.NewReader("data: a\n\ndata: b\n\n"), func(frame) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("f's error: %v", err)
	}
	if err := frames(iotest.ErrReader(io.ErrUnexpectedEOF), func(frame) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the body's error: %v", err)
	}
}

// The recorded streams decode completely.
func TestFramesRecorded(t *testing.T) {
	events := 0
	for _, name := range recording.Names() {
		for _, s := range recording.Load(t, name).Streams {
			var b strings.Builder
			for _, l := range s.Lines {
				if l.Line != "<connection closed>" {
					b.WriteString(l.Line + "\n")
				}
			}
			err := frames(strings.NewReader(b.String()), func(m frame) error {
				if m.ping || m.event == "eof" || m.event == "error" || len(m.data) == 0 {
					return nil
				}
				events++
				if strings.HasSuffix(s.Path, "/events") {
					var e struct{ Pipeline Pipeline }
					if err := json.Unmarshal(m.data, &e); err != nil || e.Pipeline.ID <= 0 {
						return fmt.Errorf("%.80s: %w", m.data, err)
					}
					return nil
				}
				var e LogEntry
				return json.Unmarshal(m.data, &e)
			})
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s %s: %v", name, s.Path, err)
			}
		}
	}
	if events < 10 {
		t.Errorf("only %d events", events)
	}
}

func entries(body string) (out []string, err error) {
	err = decodeLog(strings.NewReader(body), func(e LogEntry) error {
		out = append(out, fmt.Sprintf("%d:%s", e.Line, e.Data))
		return nil
	})
	return out, err
}

func TestDecodeLog(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	a := `{"id":1,"step_id":4,"time":0,"line":0,"data":"` + b64("one") + `","type":0}`
	b := `{"id":2,"step_id":4,"time":1,"line":1,"data":null,"type":1}`
	tests := []struct {
		name, body string
		want       []string
		bad        string
	}{
		{"lines", "[" + a + "," + b + "]", []string{"0:one", "1:"}, ""},
		{"white space", " [" + a + "]\n", []string{"0:one"}, ""},
		{"null", "null", nil, ""},
		{"none", "[]", nil, ""},
		{"empty", "", nil, "breaks off"},
		{"cut between lines", "[" + a, []string{"0:one"}, "breaks off"},
		{"cut after a comma", "[" + a + ",", []string{"0:one"}, "breaks off"},
		{"cut inside a line", "[" + a + "," + b[:20], []string{"0:one"}, "breaks off"},
		{"tail", "[" + a + "]x", []string{"0:one"}, "breaks off"},
		{"second value", "[" + a + "][]", []string{"0:one"}, "breaks off"},
		{"object", `{"error":"x"}`, nil, "no array"},
		{"text", `"x"`, nil, "no array"},
		{"page", "<html>", nil, "breaks off"},
		{"data that is no base64", `[{"line":0,"data":"%%"}]`, nil, "breaks off"},
		{"wrong bracket", "[" + a + "}", []string{"0:one"}, "breaks off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := entries(tt.body)
			var broken *brokenLogError
			switch {
			case !slices.Equal(got, tt.want):
				t.Errorf("%q, want %q", got, tt.want)
			case tt.bad == "" && err != nil, tt.bad != "" && (!errors.As(err, &broken) || !strings.Contains(err.Error(), tt.bad)):
				t.Errorf("error %v, want %q", err, tt.bad)
			}
		})
	}
	stop := errors.New("enough")
	if err := decodeLog(strings.NewReader("["+a+"]"), func(LogEntry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("f's error: %v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(": ping\n\ndata: {}\n\n")
	f.Add("event: error\r\ndata: gone\r\n\r\n")
	f.Add("data: a\ndata: b\nid: 1\n\nevent:eof\n\n")
	f.Add("data")
	f.Fuzz(func(t *testing.T, body string) {
		whole, err := told(strings.NewReader(body))
		if err == nil {
			t.Fatal("a stream ended without an error")
		}
		slowly, _ := told(iotest.OneByteReader(strings.NewReader(body)))
		if !slices.Equal(whole, slowly) {
			t.Fatalf("it matters how the bytes arrive: %q, %q", whole, slowly)
		}
	})
}

// Whatever a log's answer is cut to, what was read stays the same and the cut
// is noticed.
func FuzzDecodeLog(f *testing.F) {
	f.Add(`[{"line":0,"data":"b25l"},{"line":1,"data":null}]`, 20)
	f.Add("null", 2)
	f.Add("[]", 1)
	f.Add(`[{"line":-1}]]`, 3)
	f.Fuzz(func(t *testing.T, body string, at int) {
		whole, err := entries(body)
		if at < 0 || at >= len(body) || err != nil {
			return
		}
		part, err := entries(body[:at])
		if err == nil && strings.TrimSpace(body[at:]) != "" {
			t.Fatalf("%q cut to %q is taken for whole", body, body[:at])
		}
		if len(part) > len(whole) || !slices.Equal(part, whole[:len(part)]) {
			t.Fatalf("%q, then %q", whole, part)
		}
	})
}

func FuzzVersion(f *testing.F) {
	for _, v := range []string{"3.17.0", "3.14.0-rc.1", "dev", "next-5f3a2b1c8d", "", "v4", "3.14.0+x", "3.13.99"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v := Version(s)
		if v.AtLeast("3.14.0") && v.Before("3.14.0") {
			t.Fatalf("%q is older and newer", s)
		}
		if v.StreamSafe() && (!v.Release() || v.Before("3.14.0")) {
			t.Fatalf("%q is trusted with a stream", s)
		}
	})
}

// A row is taken only when it is one whole row.
func FuzzPipeline(f *testing.F) {
	for _, name := range recording.Names() {
		for _, e := range recording.Load(f, name).Exchanges {
			if e.Method == "GET" && strings.Contains(e.Path, "/pipelines/") && e.Status == 200 {
				f.Add(e.Body)
			}
		}
	}
	f.Add(`{"id":1,"number":1,"status":"success","workflows":null,"errors":null,"cancel_info":null}`)
	f.Add("null")
	f.Fuzz(func(t *testing.T, body string) {
		var p Pipeline
		r := request{decode: into(&p, func(p Pipeline) error { return checkRow(p, 0) })}
		if r.verify(resp(200, jsonType), []byte(body)) != nil {
			if p.ID != 0 {
				t.Fatal("a row that was refused is left behind")
			}
			return
		}
		if !json.Valid([]byte(body)) || p.ID <= 0 || p.Number <= 0 || p.Status == "" {
			t.Fatalf("taken for a row: %q", body)
		}
		if r.verify(resp(200, jsonType), []byte(body[:len(body)-1])) == nil && strings.TrimSpace(body[len(body)-1:]) != "" {
			t.Fatalf("taken although cut: %q", body)
		}
	})
}

package buildersim

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func ask(t *testing.T, h http.Handler, method, uri string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, uri, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

// The habits that a client falls over.
func TestBuilder(t *testing.T) {
	b := NewBuilder()
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	one := b.Add(Build{Job: "www", Start: at, Bytes: []byte("one")})
	two := b.Add(Build{Job: "www", Start: at.Add(time.Hour), Bytes: []byte("two")})
	bad := b.Add(Build{Job: "www", Start: at.Add(2 * time.Hour)})
	elsewhere := b.Add(Build{Job: "copy", Start: at.Add(3 * time.Hour), Bytes: []byte("one")})
	sum := sha256.Sum256([]byte("two"))
	etag := base64.StdEncoding.EncodeToString(sum[:])
	const js = "application/json"
	for _, tc := range []struct {
		method, uri string
		header      []string
		status      int
		location    string
		in, out     string // the body has, and has not
	}{
		{"HEAD", "/job/www/build/latest", nil, 404, "", "", ""},
		{"GET", "/job/www/build/latest", nil, 307, "/job/www/build/" + two, "", ""},
		{"GET", "/job/www/build/latest?platform=freebsd-14", nil, 404, "", "html", ""},
		{"GET", "/job/none", []string{"Accept", js}, 404, "", "html", ""},
		{"GET", "/job/www", []string{"Accept", js}, 200, "", elsewhere, one}, // the newest build anywhere
		{"GET", "/job/www", []string{"Accept", js}, 200, "", two, bad},
		{"GET", "/job/www", []string{"Accept", js + ";q=1"}, 200, "", "html", two},
		{"GET", "/job/www", []string{"Accept", "*/*"}, 200, "", "html", two},
		{"GET", "/job/www/failed", []string{"Accept", js}, 200, "", `"uuid":"` + bad + `","main_binary":null`, ""},
		{"GET", "/job/any/build/" + two, []string{"Accept", js}, 200, "", `"job":"any"`, "sha256"},
		{"GET", "/job/www/build/" + two + "/main-binary", nil, 302, "/job/www/build/" + two + "/f/bin/www.hvt", "", ""},
		{"GET", "/job/www/build/" + bad + "/main-binary", nil, 404, "", "", ""},
		{"GET", "/job/www/build/" + two + "/f/bin/www.hvt", nil, 200, "", "two", ""},
		{"GET", "/job/www/build/" + two + "/f/bin/www.hvt", []string{"If-None-Match", etag}, 304, "", "", "two"},
		{"GET", "/job/www/build/" + two + "/f/bin/www.hvt", []string{"If-None-Match", `"` + etag + `"`}, 200, "", "two", ""},
		{"GET", "/job/www/build/" + two + "/f/bin/www.hvt", []string{"Range", "bytes=0-0"}, 200, "", "two", ""},
		{"GET", "/job/www/build/" + two + "/f/else", nil, 404, "", "", ""},
		{"GET", "/hash?sha256=" + Sum([]byte("one")), nil, 302, "/job/copy/build/" + elsewhere + "/", "", ""},
		{"GET", "/hash?sha256=" + Sum([]byte("none")), nil, 404, "", "", ""},
	} {
		r, body := ask(t, b, tc.method, tc.uri, tc.header...)
		if r.StatusCode != tc.status || r.Header.Get("Location") != tc.location || !strings.Contains(body, tc.in) || tc.out != "" && strings.Contains(body, tc.out) {
			t.Errorf("%s %s %v: %d %q %q", tc.method, tc.uri, tc.header, r.StatusCode, r.Header.Get("Location"), body)
		}
	}
	if r, _ := ask(t, b, "GET", "/job/www/build/"+two+"/f/bin/www.hvt"); r.Header.Get("Etag") != etag {
		t.Errorf("ETag %q", r.Header.Get("Etag"))
	}
	if n := b.Count("latest$"); n != 3 {
		t.Errorf("%d", n)
	}
	b.Delete(two)
	if r, _ := ask(t, b, "GET", "/job/www/build/latest"); r.Header.Get("Location") != "/job/www/build/"+one {
		t.Error("latest does not move backwards")
	}
	b.Next(1, "latest$", Status(500, "text/plain", "x"))
	b.Next(1, "latest$", Redirect(307, "/x"))
	for _, want := range []int{500, 307, 307} {
		if r, _ := ask(t, b, "GET", "/job/www/build/latest"); r.StatusCode != want {
			t.Errorf("%d, want %d", r.StatusCode, want)
		}
	}
	b.Vanish("www")
	if r, _ := ask(t, b, "GET", "/job/www"); r.StatusCode != 404 {
		t.Error(r.Status)
	}
}

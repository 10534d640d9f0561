package builderweb

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/buildersim"
	"homelab/internal/woodsim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/fault"
)

// A signature lies beside the file of its build, and costs one request.
func TestSignature(t *testing.T) {
	for name, tc := range map[string]struct {
		hook  buildersim.Hook
		files map[string][]byte
		class artifact.Class
	}{
		"there":        {files: map[string][]byte{"bin/www.hvt.minisig": []byte("signature")}},
		"none":         {class: artifact.Absent},
		"of another":   {files: map[string][]byte{"bin/other.hvt.minisig": []byte("signature")}, class: artifact.Absent},
		"a login page": {hook: buildersim.Status(200, "text/html", "<p>who are you?"), class: artifact.Transient},
		"elsewhere":    {hook: buildersim.Redirect(302, "https://evil.example.org/x"), class: artifact.Refused},
		"moved":        {hook: buildersim.Redirect(302, "/job/www/x"), class: artifact.Refused},
		"another body": {files: map[string][]byte{"bin/www.hvt.minisig": []byte("signature")}, hook: buildersim.Body([]byte("signaturE")), class: artifact.Transient},
		"no hash":      {hook: buildersim.Status(200, "text/plain", "signature"), class: artifact.Refused},
		"too large":    {files: map[string][]byte{"bin/www.hvt.minisig": make([]byte, maxSignature+1)}, class: artifact.Refused},
		"endless":      {hook: buildersim.Endless(), files: map[string][]byte{"bin/www.hvt.minisig": []byte("signature")}, class: artifact.Refused},
		"down":         {hook: buildersim.Status(503, "text/plain", "down"), class: artifact.Transient},
		"forbidden":    {hook: buildersim.Status(403, "text/plain", "no"), class: artifact.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := buildersim.NewBuilder()
				b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one"), Files: tc.files})
				s := local(t, b, www)
				c := *look(t, s, artifact.Query{}).Candidate
				b.Forget()
				if tc.hook != nil {
					b.Next(-1, ".minisig", tc.hook)
				}
				got, err := s.Signature(t.Context(), c)
				if tc.class == "" {
					if err != nil || string(got) != "signature" {
						t.Errorf("%q %v", got, err)
					}
					requests(t, b, 1)
					return
				}
				if class(t, err) != tc.class {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// A candidate out of a journal that leads to another job has no signature here.
func TestSignatureIsOurs(t *testing.T) {
	b := buildersim.NewBuilder()
	s := local(t, b, www)
	c := artifact.Candidate{Location: "/job/other/build/aaaaaaaa-0000-4000-8000-000000000000/f/bin/www.hvt"}
	if _, err := s.Signature(t.Context(), c); class(t, err) != artifact.Refused {
		t.Error(err)
	}
	requests(t, b, 0)
}

func TestTokens(t *testing.T) {
	c := artifact.Candidate{Meta: artifact.Meta{Platform: "freebsd-14"}}
	for from, want := range map[string]string{
		www:                         "job=www platform=freebsd-14",
		www + "?platform=debian-12": "job=www platform=debian-12", // whatever the server says of the build
	} {
		got, err := local(t, buildersim.NewBuilder(), from).Tokens(c)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v %v", from, got, err)
		}
	}
	if _, err := local(t, buildersim.NewBuilder(), www).Tokens(artifact.Candidate{}); err == nil {
		t.Error("a build without a platform has tokens")
	}
}

func TestParseInstance(t *testing.T) {
	for in, want := range map[string]string{
		"https://builds2.example.org":                    "https://builds2.example.org",
		"https://Builds2.example.org:443/":               "https://builds2.example.org",
		"builder-web+https://builds2.example.org:8443":   "https://builds2.example.org:8443",
		"http://builds2.example.org":                     "want https",
		"builds2.example.org":                            "",
		"https://builds2.example.org/job/www":            "scheme and host only",
		"https://builds2.example.org/?a=b":               "scheme and host only",
		"https://builds2.example.org?":                   "scheme and host only",
		"https://me:hunter2@builds2.example.org":         "password",
		"builder-web+http://builds2.example.org":         "want https",
		"builder-web+builder-web+https://b2.example.org": "",
	} {
		u, err := ParseInstance("--reproducer", in)
		if strings.HasPrefix(want, "https://") {
			if err != nil || u.String() != want {
				t.Errorf("%s: %v %v", in, u, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.Usage || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v %v", in, u, err)
			continue
		}
		if e := err.Error(); want != "" && !strings.Contains(whole(err), want) {
			t.Errorf("%s: %s", in, e)
		}
	}
}

func whole(err error) string {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.What + " " + f.Why
	}
	return err.Error()
}

// Only a 302 to a build there says that it was built there.
func TestBuilt(t *testing.T) {
	const there = "/job/www/build/aaaaaaaa-0000-4000-8000-000000000000/"
	const uuid = "aaaaaaaa-0000-4000-8000-000000000000"
	for name, tc := range map[string]struct {
		hook  buildersim.Hook
		uuid  string
		class artifact.Class
	}{
		"built":               {uuid: "10000001-0000-4000-8000-000000000001"},
		"elsewhere told":      {hook: buildersim.Redirect(302, there), uuid: uuid},
		"without the slash":   {hook: buildersim.Redirect(302, strings.TrimSuffix(there, "/")), uuid: uuid},
		"not built":           {hook: buildersim.Status(404, "text/html", "<p>no")},
		"a login page":        {hook: buildersim.Redirect(302, "/login"), class: artifact.Refused},
		"a login elsewhere":   {hook: buildersim.Redirect(302, "https://sso.example.org"+there), class: artifact.Refused},
		"a permanent one":     {hook: buildersim.Redirect(301, there), class: artifact.Transient},
		"a temporary one":     {hook: buildersim.Redirect(307, there), class: artifact.Transient},
		"a file":              {hook: buildersim.Redirect(302, there+"f/x"), class: artifact.Refused},
		"no uuid":             {hook: buildersim.Redirect(302, "/job/www/build/latest"), class: artifact.Refused},
		"a page":              {hook: buildersim.Status(200, "text/html", "<p>welcome"), class: artifact.Transient},
		"down":                {hook: buildersim.Status(503, "text/plain", "down"), class: artifact.Transient},
		"not allowed":         {hook: buildersim.Status(403, "text/plain", "no"), class: artifact.Denied},
		"not found for now":   {hook: buildersim.Status(410, "text/html", "gone"), class: artifact.Absent},
		"a redirect nowhere":  {hook: buildersim.Redirect(302, ""), class: artifact.Refused},
		"a redirect to a job": {hook: buildersim.Redirect(302, "/job/www"), class: artifact.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := buildersim.NewBuilder()
				b.Add(buildersim.Build{Job: "renamed", Start: noon().Add(-time.Hour), Bytes: []byte("one")})
				u, err := ParseInstance("--reproducer", "https://builds2.example.org")
				if err != nil {
					t.Fatal(err)
				}
				i := NewInstance(u, source.NewClient(source.Options{Next: woodsim.InProcess(b)}))
				if i.String() != "https://builds2.example.org" {
					t.Error(i.String())
				}
				if tc.hook != nil {
					b.Next(-1, "/hash", tc.hook)
				}
				got, err := i.Built(t.Context(), idOfBytes("one"))
				if tc.class != "" {
					if class(t, err) != tc.class {
						t.Errorf("%v", err)
					}
					return
				}
				if err != nil || got != tc.uuid {
					t.Errorf("%q %v", got, err)
				}
				requests(t, b, 1)
				if r := b.Requests()[0]; r.URI != "/hash?sha256="+idOfBytes("one").Hex() || r.Method != http.MethodGet {
					t.Errorf("%s %s", r.Method, r.URI)
				}
				if got, err := i.Built(t.Context(), idOfBytes("never")); tc.hook == nil && (got != "" || err != nil) {
					t.Errorf("%q %v", got, err)
				}
			})
		})
	}
}

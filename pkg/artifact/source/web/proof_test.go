package web

import (
	"strings"
	"testing"
	"testing/synctest"

	"homelab/internal/buildersim"
	"homelab/pkg/artifact"
)

// A signature is a file beside the file.
func TestSignature(t *testing.T) {
	for name, tc := range map[string]struct {
		body  string
		hook  buildersim.Hook
		class artifact.Class
	}{
		"there":     {body: "signature"},
		"none":      {class: artifact.Absent},
		"a page":    {hook: buildersim.Status(200, "text/html; charset=utf-8", "<p>"), class: artifact.Transient},
		"too large": {body: strings.Repeat("x", maxSignature+1), class: artifact.Refused},
		"down":      {hook: buildersim.Status(500, "text/plain", "oops"), class: artifact.Transient},
		"forbidden": {hook: buildersim.Status(401, "text/plain", "who?"), class: artifact.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := buildersim.NewFiles()
				if tc.body != "" {
					f.Put("/www/app.bin.minisig", []byte(tc.body), noon())
				}
				if tc.hook != nil {
					f.Next(-1, "", tc.hook)
				}
				got, err := local(t, f, from, sums).Signature(t.Context(), artifact.Candidate{})
				if tc.class == "" {
					if err != nil || string(got) != tc.body {
						t.Errorf("%q %v", got, err)
					}
					return
				}
				if class(t, err) != tc.class {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// The name in the comment is the file's own; a query belongs to the request.
func TestTokens(t *testing.T) {
	for in, want := range map[string][2]string{
		from: {"file:app.bin", "/www/app.bin.minisig"},
		"https://files.example.org/a%20b.bin?v=1": {"file:a b.bin", "/a%20b.bin.minisig?v=1"},
		"https://files.example.org/www/":          {},
	} {
		f := buildersim.NewFiles()
		s := local(t, f, in, "")
		got, err := s.Tokens(artifact.Candidate{})
		if want[0] == "" {
			if err == nil {
				t.Errorf("%s: %v", in, got)
			}
			continue
		}
		if err != nil || len(got) != 1 || got[0] != want[0] {
			t.Errorf("%s: %v %v", in, got, err)
		}
		f.Next(-1, "", buildersim.Status(200, "text/plain", "s"))
		if _, err := s.Signature(t.Context(), artifact.Candidate{}); err != nil || f.Requests()[0].URI != want[1] {
			t.Errorf("%s: %v %v", in, f.Requests(), err)
		}
	}
}

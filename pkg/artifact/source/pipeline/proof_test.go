package pipeline

import (
	"errors"
	"strings"
	"testing"
	"time"

	"homelab/internal/buildersim"
	"homelab/internal/woodsim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/artifact/source/web"
)

// A pipeline's file has its signature beside it, under its own name.
func TestSignature(t *testing.T) {
	files := buildersim.NewFiles()
	spec, err := Parse("woodpecker:lab/web?branch=main", "https://files.example.lan/{number}/web-{sha10}.hvt")
	if err != nil {
		t.Fatal(err)
	}
	s := New(spec, Deps{File: func(address string) (artifact.Source, error) {
		sp, err := web.Parse(address, "")
		if err != nil {
			return nil, err
		}
		return web.New(sp, web.Deps{HTTP: source.NewClient(source.Options{Next: woodsim.InProcess(files)})})
	}})
	sha := strings.Repeat("ab", 20)
	c := artifact.Candidate{Kind: artifact.File, Meta: artifact.Meta{Commit: sha, Pipeline: 7}}
	files.Put("/7/web-ababababab.hvt.minisig", []byte("signature"), time.Unix(1, 0))
	got, err := s.Signature(t.Context(), c)
	if err != nil || string(got) != "signature" {
		t.Errorf("%q %v", got, err)
	}
	tokens, err := s.Tokens(c)
	if err != nil || strings.Join(tokens, " ") != "file:web-ababababab.hvt" {
		t.Errorf("%v %v", tokens, err)
	}
	none := New(spec, Deps{File: func(string) (artifact.Source, error) { return nil, errors.New("no such place") }})
	if _, err := none.Signature(t.Context(), c); err == nil {
		t.Error("a signature from nowhere")
	}
	if _, err := none.Tokens(c); err == nil {
		t.Error("tokens from nowhere")
	}
}

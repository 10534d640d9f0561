package rig_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/rig"
)

func TestRun(t *testing.T) {
	var ended []string
	own := errors.New("own")
	for _, c := range []struct {
		name string
		f    func(*rig.T) error
		want []string // in the error; nil: none
	}{
		{"fine", func(*rig.T) error { return nil }, nil},
		{"error", func(*rig.T) error { return own }, []string{"own"}},
		{"fatal", func(r *rig.T) error { r.Fatal("a", 1); return nil }, []string{"a1"}},
		{"errorf", func(r *rig.T) error { r.Errorf("in %s", "passing"); return own }, []string{"own", "in passing"}},
	} {
		ended = nil
		err := rig.Run(t.TempDir(), func(r *rig.T) error {
			r.Cleanup(func() { ended = append(ended, "first") })
			r.Cleanup(func() { ended = append(ended, "second") })
			return c.f(r)
		})
		if (err != nil) != (c.want != nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q in it", c.name, err, w)
			}
		}
		if !slices.Equal(ended, []string{"second", "first"}) {
			t.Errorf("%s: tidied up %q", c.name, ended)
		}
	}
}

// The folder is gone and the status tells how it ended.
func TestMainEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		want int
		f    func(context.Context, *rig.T) error
	}{
		{"fine", 0, func(context.Context, *rig.T) error { return nil }},
		{"failed", 1, func(context.Context, *rig.T) error { return io.EOF }},
		{"too long", 1, func(ctx context.Context, _ *rig.T) error { <-ctx.Done(); return ctx.Err() }},
	} {
		dir := filepath.Join(t.TempDir(), "work")
		code := rig.Main(dir, 50*time.Millisecond, func(ctx context.Context, r *rig.T) error {
			r.TempDir()
			return c.f(ctx, r)
		})
		if _, err := os.Stat(dir); code != c.want || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: status %d, folder: %v", c.name, code, err)
		}
	}
}

// The name is served at the pinned address only to those who trust its
// authority, and the configuration says where.
func TestOpen(t *testing.T) {
	err := rig.Run(t.TempDir(), func(r *rig.T) error {
		lb := faultlb.New(http.NotFoundHandler(), faultlb.Options{})
		s := rig.Open(r, lb)
		get := func() (int, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+rig.Host+"/x", nil)
			if err != nil {
				return 0, err
			}
			res, err := s.Client(5 * time.Second).Do(req)
			if err != nil {
				return 0, err
			}
			return res.StatusCode, res.Body.Close()
		}
		if code, err := get(); code != http.StatusNotFound || err != nil {
			t.Errorf("status %d, %v", code, err)
		}
		lb.Next(1, faultlb.BadCert) // at the handshake
		if code, err := get(); err == nil {
			t.Errorf("a certificate for another name: status %d", code)
		}
		data, err := os.ReadFile(s.Config())
		if !strings.Contains(string(data), "dial: "+s.Addr+"\n") {
			t.Errorf("configuration %q, %v", data, err)
		}
		if env := s.Env("t0ken"); !slices.Contains(env, "WOODPECKER_TOKEN=t0ken") || !slices.Contains(env, "HOME="+s.Home) {
			t.Errorf("environment %q", env)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

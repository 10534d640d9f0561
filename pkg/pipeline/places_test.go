package pipeline

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// remotes is a checkout: its remotes' addresses by name, and the one that the
// current branch follows.
type remotes struct {
	urls     map[string]string
	upstream string
	broken   string // the remote whose address git does not tell
}

func (r remotes) Remotes(context.Context) ([]string, error) {
	var names []string
	for n := range r.urls {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

func (r remotes) RemoteURL(_ context.Context, name string) (string, error) {
	if name == r.broken {
		return "", errors.New("git is broken")
	}
	return r.urls[name], nil
}

func (r remotes) Upstream(context.Context) (string, string, bool, error) {
	return r.upstream, "main", r.upstream != "", nil
}

func TestPlacesOf(t *testing.T) {
	three := map[string]string{
		"origin": "https://a.lan/acme/site.git", "fork": "git@b.lan:ada/site.git", "other": "https://c.lan/x/y",
	}
	for _, tc := range []struct {
		name      string
		c         remotes
		preferred string
		want      []string // host of each, in order
		strays    int
	}{
		{name: "origin alone is meant of several", c: remotes{urls: three}, want: []string{"a.lan"}},
		{name: "the branch's own first", c: remotes{urls: three, upstream: "fork"}, want: []string{"b.lan", "a.lan"}},
		{name: "the file's before that", c: remotes{urls: three, upstream: "fork"}, preferred: "other", want: []string{"c.lan", "b.lan", "a.lan"}},
		{name: "each once", c: remotes{urls: three, upstream: "origin"}, preferred: "origin", want: []string{"a.lan"}},
		{name: "the only one, whatever its name", c: remotes{urls: map[string]string{"up": "https://d.lan/a/b"}}, want: []string{"d.lan"}},
		{name: "no other of several", c: remotes{urls: map[string]string{"x": "https://d.lan/a/b", "y": "https://d.lan/c/d"}}},
		{name: "an upstream in this very checkout", c: remotes{urls: three, upstream: "."}, want: []string{"a.lan"}},
		{name: "none", c: remotes{}},
		{name: "a directory is no place", c: remotes{urls: map[string]string{"origin": "/srv/git/site"}}, strays: 1},
	} {
		p, err := PlacesOf(t.Context(), tc.c, tc.preferred)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		var got []string
		for _, c := range p.Candidates {
			got = append(got, c.Host)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || len(p.Strays) != tc.strays {
			t.Errorf("%s: %d strays, %s", tc.name, len(p.Strays), diff)
		}
	}
	p, err := PlacesOf(t.Context(), remotes{urls: three}, "")
	if diff := cmp.Diff([]Candidate{{Origin: "remote origin", Name: "acme/site", Host: "a.lan"}}, p.Candidates); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
	var none *NoRemoteError
	if _, err := PlacesOf(t.Context(), remotes{urls: three}, "gone"); !errors.As(err, &none) || none.Name != "gone" {
		t.Errorf("a remote that is not there: %v", err)
	}
	if _, err := PlacesOf(t.Context(), remotes{urls: three, broken: "origin"}, ""); err == nil {
		t.Error("git's trouble is no answer")
	}
}

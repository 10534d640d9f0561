package proof

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/artifact"
)

// shelf is where signatures are.
type shelf struct {
	texts  []string // one per reading, the last one for ever; "" absent
	err    error    // instead
	tokens []string
	read   int
}

func (s *shelf) Signature(context.Context, artifact.Candidate) ([]byte, error) {
	s.read++
	if s.err != nil {
		return nil, s.err
	}
	text := s.texts[min(s.read, len(s.texts))-1]
	if text == "" {
		return nil, &artifact.Failure{Class: artifact.Absent, What: "404 Not Found"}
	}
	return []byte(text), nil
}

func (s *shelf) Tokens(artifact.Candidate) ([]string, error) {
	if s.tokens == nil {
		return nil, errors.New("its platform is not known")
	}
	return s.tokens, nil
}

// stored is a file and its candidate.
func stored(t *testing.T, text string) (artifact.Candidate, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return artifact.Candidate{ID: artifact.NewID(sha256.Sum256([]byte(text))), Kind: artifact.File, Meta: artifact.Meta{UUID: "mine"}}, path
}

// TestSigned has every end of a look at a signature: what it is, after how many
// readings, and after which time.
func TestSigned(t *testing.T) {
	const file = "the bytes"
	me, you := newSigner(1), newSigner(2)
	good, bad := me.sign(file, "file:www.hvt"), me.sign("other bytes", "file:www.hvt")
	denied := &artifact.Failure{Class: artifact.Denied, What: "403"}
	for name, tc := range map[string]struct {
		shelf   shelf
		settles bool
		nowhere bool // the bytes are not here
		spoiled bool
		class   artifact.Class
		what    string
		read    int
		took    time.Duration
	}{
		"good":                       {shelf: shelf{texts: []string{good}}, read: 1},
		"others'":                    {shelf: shelf{texts: []string{you.sign(file, "file:www.hvt")}}, class: artifact.Refused, what: "not trusted", read: 1},
		"of other bytes":             {shelf: shelf{texts: []string{bad}}, class: artifact.Refused, what: "key 0101010101010101 signed another file", read: 1},
		"none":                       {shelf: shelf{texts: []string{""}}, class: artifact.Refused, what: "there is none: 404", read: 1},
		"none, and none to come":     {shelf: shelf{texts: []string{""}}, settles: true, class: artifact.Refused, what: "there is none", read: 3, took: time.Minute},
		"it comes after the file":    {shelf: shelf{texts: []string{"", good}}, settles: true, read: 2, took: 30 * time.Second},
		"the older one for a moment": {shelf: shelf{texts: []string{bad, bad, good}}, settles: true, read: 3, took: time.Minute},
		"too late":                   {shelf: shelf{texts: []string{bad, bad, bad, good}}, settles: true, class: artifact.Refused, what: "another file", read: 3, took: time.Minute},
		"not to be had":              {shelf: shelf{err: denied}, settles: true, class: artifact.Denied, what: "403", read: 1},
		"no answer":                  {shelf: shelf{err: &artifact.Failure{Class: artifact.Transient, What: "reset"}}, settles: true, class: artifact.Transient, what: "reset", read: 1},
		"a check, without the bytes": {shelf: shelf{texts: []string{good}}, nowhere: true, read: 1},
		"a check of others'":         {shelf: shelf{texts: []string{you.sign(file, "file:www.hvt")}}, nowhere: true, class: artifact.Refused, what: "not trusted", read: 1},
		"what was stored is another": {shelf: shelf{texts: []string{good}}, spoiled: true, class: artifact.Refused, what: "has become"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, path := stored(t, file)
				if tc.spoiled {
					if err := os.WriteFile(path, []byte("spoiled"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if tc.nowhere {
					path = ""
				}
				tc.shelf.tokens = []string{"file:www.hvt"}
				began := time.Now()
				p, err := New(Options{Keys: []Key{me.Key}, Signed: &tc.shelf, Settles: tc.settles}).Prove(t.Context(), c, path)
				if took := time.Since(began); took != tc.took || tc.shelf.read != tc.read {
					t.Errorf("read %d times in %s, want %d in %s", tc.shelf.read, took, tc.read, tc.took)
				}
				f := artifact.FailureOf(err, "")
				if tc.class == "" {
					if f != nil || p.Signature == nil || *p.Signature != "0101010101010101" || p.Reproduced != nil {
						t.Errorf("%+v %v", p, err)
					}
					return
				}
				if f == nil || f.Class != tc.class || !strings.Contains(f.Error(), tc.what) || p.Signature != nil {
					t.Errorf("%+v %v", p, err)
				}
			})
		})
	}
}

func TestUntold(t *testing.T) {
	c, path := stored(t, "x")
	s := &shelf{texts: []string{"x"}}
	_, err := New(Options{Keys: []Key{newSigner(1).Key}, Signed: s}).Prove(t.Context(), c, path)
	if f := artifact.FailureOf(err, ""); f == nil || f.Class != artifact.Refused || !strings.Contains(f.Error(), "platform is not known") || s.read != 0 {
		t.Errorf("%v", err)
	}
}

// A wait for a signature ends with its context.
func TestWaitIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, path := stored(t, "x")
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("overtaken")
		time.AfterFunc(5*time.Second, func() { cancel(why) })
		s := &shelf{texts: []string{""}, tokens: []string{}}
		if _, err := New(Options{Keys: []Key{newSigner(1).Key}, Signed: s, Settles: true}).Prove(ctx, c, path); !errors.Is(err, why) {
			t.Errorf("%v", err)
		}
	})
}

// yard is another builder.
type yard struct {
	name, build string
	err         error
	asked       []artifact.ID
}

func (y *yard) Built(_ context.Context, id artifact.ID) (string, error) {
	y.asked = append(y.asked, id)
	return y.build, y.err
}

func (y *yard) String() string { return y.name }

func TestRebuilt(t *testing.T) {
	down := errors.New("no route")
	for name, tc := range map[string]struct {
		want  int
		yards []yard
		n     int // 0: held
		what  []string
	}{
		"one of one":        {1, []yard{{"a", "1", nil, nil}}, 1, nil},
		"none yet":          {1, []yard{{"a", "", nil, nil}}, 0, []string{"0 of 1 independent builds", "a has no such build"}},
		"one of two":        {2, []yard{{"a", "1", nil, nil}, {"b", "", nil, nil}}, 0, []string{"1 of 2", "b has no such build"}},
		"more than asked":   {1, []yard{{"a", "1", nil, nil}, {"b", "2", nil, nil}}, 2, nil},
		"two of three":      {2, []yard{{"a", "1", nil, nil}, {"b", "", down, nil}, {"c", "3", nil, nil}}, 2, nil},
		"one is down":       {2, []yard{{"a", "1", nil, nil}, {"b", "", down, nil}}, 0, []string{"1 of 2", "b cannot tell: no route"}},
		"a mirror":          {2, []yard{{"a", "1", nil, nil}, {"b", "1", nil, nil}}, 0, []string{"1 of 2", "b only repeats build 1"}},
		"the source's own":  {1, []yard{{"a", "mine", nil, nil}}, 0, []string{"0 of 1", "a only repeats build mine"}},
		"none can be asked": {1, []yard{{"a", "", down, nil}}, 0, []string{"a cannot tell"}},
	} {
		c, path := stored(t, "x")
		o := Options{Reproduced: tc.want}
		for i := range tc.yards {
			o.Builders = append(o.Builders, &tc.yards[i])
		}
		p, err := New(o).Prove(t.Context(), c, path)
		for _, y := range tc.yards {
			if !slices.Equal(y.asked, []artifact.ID{c.ID}) {
				t.Errorf("%s: %s was asked for %v", name, y.name, y.asked)
			}
		}
		if tc.n > 0 {
			if err != nil || p.Reproduced == nil || *p.Reproduced != tc.n || p.Signature != nil {
				t.Errorf("%s: %+v %v", name, p, err)
			}
			continue
		}
		f := artifact.FailureOf(err, "")
		if f == nil || f.Class != artifact.Hold || f.Why != artifact.Unreproduced {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range tc.what {
			if !strings.Contains(f.Error(), w) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Others are asked only about what is signed well.
func TestCumulative(t *testing.T) {
	c, path := stored(t, "x")
	y := &yard{name: "a", build: "1"}
	me := newSigner(1)
	s := &shelf{texts: []string{newSigner(2).sign("x", "")}, tokens: []string{}}
	p := New(Options{Keys: []Key{me.Key}, Signed: s, Reproduced: 1, Builders: []Builder{y}})
	if _, err := p.Prove(t.Context(), c, path); err == nil || len(y.asked) != 0 {
		t.Errorf("%v, asked %v", err, y.asked)
	}
	s.texts = []string{me.sign("x", "")}
	got, err := p.Prove(t.Context(), c, path)
	if err != nil || got.Signature == nil || got.Reproduced == nil || fmt.Sprint(y.asked) != fmt.Sprint([]artifact.ID{c.ID}) {
		t.Errorf("%+v %v", got, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopped"))
	if _, err := New(Options{Reproduced: 1, Builders: []Builder{y}}).Prove(ctx, c, path); err == nil || err.Error() != "stopped" {
		t.Errorf("%v", err)
	}
}

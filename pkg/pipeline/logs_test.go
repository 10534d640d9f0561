package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/pkg/poll"
	"homelab/pkg/woodpecker"
)

func le(n int, data string) woodpecker.LogEntry {
	return woodpecker.LogEntry{Line: n, Data: []byte(data)}
}

func TestTail(t *testing.T) {
	tests := []struct {
		name string
		most int
		in   []woodpecker.LogEntry
		want []string
		note string
	}{
		{"fewer than wanted", 3, []woodpecker.LogEntry{le(0, "a"), le(1, "b")}, []string{"a", "b"}, ""},
		{"the last ones", 2, []woodpecker.LogEntry{le(0, "a"), le(1, "b"), le(2, "c")}, []string{"b", "c"}, ""},
		{"unordered", 2, []woodpecker.LogEntry{le(2, "c"), le(0, "a"), le(3, "d"), le(1, "b")}, []string{"c", "d"}, ""},
		{"backwards", 3, []woodpecker.LogEntry{le(3, "d"), le(2, "c"), le(1, "b"), le(0, "a")}, []string{"b", "c", "d"}, ""},
		{"duplicates", 3, []woodpecker.LogEntry{le(0, "a"), le(1, "b"), le(1, "b"), le(0, "a"), le(1, "x")}, []string{"a", "b"}, ""},
		{"a duplicate of a line that was dropped", 1, []woodpecker.LogEntry{le(0, "a"), le(1, "b"), le(0, "a")}, []string{"b"}, ""},
		{"null", 2, []woodpecker.LogEntry{{Line: 0}, le(1, "b")}, []string{"", "b"}, ""},
		{"cleaned", 2, []woodpecker.LogEntry{le(0, "\x1b[31mred\x1b[0m\a"), le(1, "10%\r50%\r100%\r")}, []string{"red", "100%"}, ""},
		{"a long line", 2, []woodpecker.LogEntry{le(0, strings.Repeat("x", tailLine+1))}, []string{strings.Repeat("x", tailLine) + " …[cut]"}, ""},
		{"a long line cut inside a rune", 2, []woodpecker.LogEntry{le(0, strings.Repeat("x", tailLine-1)+"é")}, []string{strings.Repeat("x", tailLine-1) + " …[cut]"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newTail(tt.most)
			for _, e := range tt.in {
				x.add(e)
			}
			got, note := x.text()
			if !slices.Equal(got, tt.want) || note != tt.note {
				t.Errorf("%.60q %q, want %.60q %q", got, note, tt.want, tt.note)
			}
		})
	}
}

// A tail's memory is the tail's, in whatever order a log of any size comes.
func TestTailSize(t *testing.T) {
	for name, line := range map[string]func(int) int{
		"in order":  func(i int) int { return i },
		"backwards": func(i int) int { return 999 - i },
		"mixed":     func(i int) int { return i * 7 % 1000 },
	} {
		x := newTail(500)
		held := 0
		for i := range 1000 {
			n := line(i)
			x.add(le(n, strconv.Itoa(n)+strings.Repeat("y", 1000)))
			held = max(held, x.size)
		}
		got, note := x.text()
		if held > tailStep+tailLine || len(got) != 65 || !strings.HasPrefix(got[64], "999y") || !strings.HasPrefix(got[0], "935y") {
			t.Errorf("%s: held %d bytes, %d lines, last %.6q", name, held, len(got), got[len(got)-1])
		}
		if note != "cut to the last 64 KiB" {
			t.Errorf("%s: note %q", name, note)
		}
		if x.total != 1000 || x.last != 999 {
			t.Errorf("%s: %d entries, last %d", name, x.total, x.last)
		}
	}
}

// printed runs entries through a printer, in readings.
func printed(t *testing.T, readings ...[]woodpecker.LogEntry) (out []string) {
	t.Helper()
	p := &printer{emit: func(l LogLine) error { out = append(out, fmt.Sprintf("%d:%s", l.Line, l.Text)); return nil }}
	for _, r := range readings {
		p.begin()
		for _, e := range r {
			if err := p.add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestPrinter(t *testing.T) {
	a, b, c := le(0, "a"), le(1, "b"), le(2, "c")
	for name, tt := range map[string]struct {
		readings [][]woodpecker.LogEntry
		want     []string
	}{
		"in order":        {[][]woodpecker.LogEntry{{a, b, c}}, []string{"0:a", "1:b", "2:c"}},
		"unordered":       {[][]woodpecker.LogEntry{{c, a, b}}, []string{"0:a", "1:b", "2:c"}},
		"duplicates":      {[][]woodpecker.LogEntry{{a, a, b, a}}, []string{"0:a", "1:b"}},
		"read again":      {[][]woodpecker.LogEntry{{a, b}, {a, b, c}, {a, b, c}}, []string{"0:a", "1:b", "2:c"}},
		"a gap is filled": {[][]woodpecker.LogEntry{{a, c}, {a, b, c}}, []string{"0:a", "2:c", "1:b"}},
		"negative":        {[][]woodpecker.LogEntry{{le(-1, "x"), a}}, []string{"0:a"}},
		"beyond any log":  {[][]woodpecker.LogEntry{{le(1<<40, "x"), a}}, []string{"0:a"}},
	} {
		if got := printed(t, tt.readings...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// Lines within the window come in order, all of them once, and little is held.
func TestPrinterWindow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var in []woodpecker.LogEntry
	for i := range 50_000 {
		in = append(in, le(i, "line"))
	}
	for i := 0; i+2000 <= len(in); i += 2000 { // disorder of up to 2000 lines
		r.Shuffle(2000, func(a, b int) { in[i+a], in[i+b] = in[i+b], in[i+a] })
	}
	p := &printer{}
	next, most := 0, 0
	p.emit = func(l LogLine) error {
		if l.Line != next {
			return fmt.Errorf("line %d, want %d", l.Line, next)
		}
		next++
		return nil
	}
	p.begin()
	for _, e := range in {
		if err := p.add(e); err != nil {
			t.Fatal(err)
		}
		most = max(most, p.held.Len())
	}
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	if next != len(in) || most > windowLines {
		t.Errorf("%d lines, %d held", next, most)
	}

	big := &printer{emit: func(LogLine) error { return nil }}
	for i := range 100 {
		if err := big.add(woodpecker.LogEntry{Line: i, Data: make([]byte, 1<<20)}); err != nil {
			t.Fatal(err)
		}
		if big.size > windowBytes {
			t.Fatalf("%d bytes held", big.size)
		}
	}
	stop := errors.New("pipe closed")
	p = &printer{emit: func(LogLine) error { return stop }}
	if p.add(le(0, "a")) != nil || !errors.Is(p.flush(), stop) {
		t.Error("the taker's error is lost")
	}
}

// Whatever arrives in whatever order and however often: each line comes once,
// and in order as long as nothing exceeds the window.
func FuzzPrinter(f *testing.F) {
	f.Add([]byte{0, 1, 2}, 2)
	f.Add([]byte{2, 1, 0, 0, 1, 5}, 3)
	f.Fuzz(func(t *testing.T, lines []byte, cut int) {
		var in []woodpecker.LogEntry
		want := map[string]bool{}
		for _, n := range lines {
			in = append(in, le(int(n), "x"))
			want[fmt.Sprintf("%d:x", n)] = true
		}
		cut = min(max(cut, 0), len(in))
		got := printed(t, in[:cut], in)
		seen := map[string]bool{}
		for _, l := range got {
			if seen[l] || !want[l] {
				t.Fatalf("%v gives %q", lines, got)
			}
			seen[l] = true
		}
		if len(seen) != len(want) {
			t.Fatalf("%v gives %q", lines, got)
		}
		once := printed(t, in)
		if !slices.IsSortedFunc(once, func(a, b string) int {
			x, _ := strconv.Atoi(strings.TrimSuffix(a, ":x"))
			y, _ := strconv.Atoi(strings.TrimSuffix(b, ":x"))
			return x - y
		}) {
			t.Fatalf("%v is out of order: %q", lines, once)
		}
	})
}

func TestSelect(t *testing.T) {
	p := row("failure", "lint failure clone:success vet:failure/1", "test failure clone:success unit:failure/3 e2e:skipped", "ok success fmt:failure/1")
	for i := range p.Workflows {
		for j := range p.Workflows[i].Steps {
			p.Workflows[i].Steps[j].ID = int64(i*10 + j + 1)
			p.Workflows[i].Steps[j].PID = i*10 + j + 4
		}
	}
	tests := []struct {
		want   string
		failed bool
		got    string
		err    string
	}{
		{"", false, "lint/clone lint/vet test/clone test/unit test/e2e ok/fmt", ""},
		{"", true, "lint/vet test/unit", ""},
		{"unit", false, "test/unit", ""},
		{"clone", false, "lint/clone test/clone", ""},
		{"test/clone", false, "test/clone", ""},
		{"15", false, "test/unit", ""},
		{"clone", true, "", ""},
		{"fmt", true, "", ""},
		{"nit", false, "", "no step is called nit; there are: lint/clone, lint/vet, test/clone, test/unit, test/e2e, ok/fmt"},
	}
	for _, tt := range tests {
		refs, err := Select(p, tt.want, tt.failed)
		var names []string
		for _, r := range refs {
			names = append(names, r.Address())
		}
		if got := strings.Join(names, " "); got != tt.got || (tt.err == "") != (err == nil) || err != nil && err.Error() != tt.err {
			t.Errorf("%q, failed %t: %q %v", tt.want, tt.failed, got, err)
		}
	}
	if _, err := Select(row("error"), "x", false); err == nil || err.Error() != "no step is called x; the pipeline has none" {
		t.Errorf("no steps: %v", err)
	}
}

func TestFailing(t *testing.T) {
	p := row("failure",
		"late failure a:success b:failure/2", "early failure c:failure/1", "ok success ign:failure/1", "dead killed d:killed e:success")
	p.Workflows[0].Steps[1].Finished = 2000
	got := failing(p.Workflows, 10)
	if len(got) != 2 || got[0].Address() != "early/c" || got[1].Address() != "late/b" || got[1].ExitCode != 2 {
		t.Errorf("%+v", got)
	}
	if got := failing(p.Workflows, 1); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	killed := row("killed", "dead killed d:killed db:killed e:success")
	killed.Workflows[0].Steps[1].Type = "service"
	if got := failing(killed.Workflows, 10); len(got) != 1 || got[0].Step != "d" || got[0].cause() != "was killed" {
		t.Errorf("%+v", got)
	}
	if n := ignored(p.Workflows); n != 1 {
		t.Errorf("%d ignored", n)
	}
	if !Ignored(p.Workflows[2], p.Workflows[2].Steps[0]) || Ignored(p.Workflows[1], p.Workflows[1].Steps[0]) {
		t.Error("Ignored")
	}
}

// Exact times of settling.
func TestSettle(t *testing.T) {
	broken := &woodpecker.APIError{Class: woodpecker.Exhausted, Err: errors.New("cut")}
	refused := &woodpecker.APIError{Class: woodpecker.Refused, Status: 404, Tries: 5}
	grow := func(n int) (mark, error) { return mark{n, n}, nil }
	tests := []struct {
		name  string
		one   bool
		give  time.Duration
		read  func(n int) (mark, error)
		reads int
		after time.Duration
		err   error
	}{
		{"two agree", false, logMost, func(int) (mark, error) { return mark{5, 4}, nil }, 2, logPause, nil},
		{"one is enough", true, logMost, func(int) (mark, error) { return mark{5, 4}, nil }, 1, 0, nil},
		{"no output", false, logMost, func(int) (mark, error) { return mark{0, -1}, nil }, 4, 3 * logPause, nil},
		{"grows twice", false, logMost, func(n int) (mark, error) { return mark{min(n, 3), min(n, 3)}, nil }, 4, 3 * logPause, nil},
		{"same count, another last line", false, logMost, func(n int) (mark, error) { return mark{5, min(n, 2)}, nil }, 3, 2 * logPause, nil},
		{"never still", false, logMost, grow, 8, 7 * logPause, nil},
		{"breaks off once", false, logMost, func(n int) (mark, error) {
			if n == 1 {
				return mark{}, broken
			}
			return mark{5, 4}, nil
		}, 3, 2 * logPause, nil},
		{"breaks off between two that agree", false, logMost, func(n int) (mark, error) {
			if n == 2 {
				return mark{}, broken
			}
			return mark{5, 4}, nil
		}, 3, 2 * logPause, nil},
		{"always breaks off", false, logMost, func(int) (mark, error) { return mark{}, broken }, 8, 7 * logPause, broken},
		{"always breaks off, more patience", true, logGiveUp, func(int) (mark, error) { return mark{}, broken }, 29, 28 * logPause, broken},
		{"refused", false, logMost, func(int) (mark, error) { return mark{}, refused }, 1, 0, refused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, n := time.Now(), 0
				err := settle(t.Context(), tt.one, tt.give, func(context.Context) (mark, error) { n++; return tt.read(n) })
				if n != tt.reads || time.Since(start) != tt.after || !errors.Is(err, tt.err) {
					t.Errorf("%d readings in %s, %v; want %d in %s, %v", n, time.Since(start), err, tt.reads, tt.after, tt.err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := poll.Every(t.Context(), time.Second, func() { cancel(cause) })
		defer stop()
		if err := settle(ctx, false, logMost, func(context.Context) (mark, error) { return mark{}, broken }); !errors.Is(err, cause) {
			t.Errorf("the cause is lost: %v", err)
		}
	})
}

func TestRereadPause(t *testing.T) {
	for size, want := range map[int]time.Duration{0: time.Second, 256 << 10: time.Second, 256<<10 + 1: 3 * time.Second, 2 << 20: 3 * time.Second, 2<<20 + 1: 10 * time.Second} {
		if got := rereadPause(size); got != want {
			t.Errorf("%d: %s", size, got)
		}
	}
}

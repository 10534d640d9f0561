package ui

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWidth(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int
	}{
		{"", 0},
		{"abc", 3},
		{"é", 1},
		{"e\u0301", 1}, // combining mark
		{"日本語", 6},
		{"ｱ", 1}, // half width
		{"🚀", 2},
		{"👩\u200d🚀", 2},
		{"✓✗●○·…", 6},
		{"\u200b", 0},
	} {
		if got := Width(tt.text); got != tt.want {
			t.Errorf("Width(%q) = %d, want %d", tt.text, got, tt.want)
		}
	}
}

func TestRenderTruncates(t *testing.T) {
	for _, tt := range []struct {
		name  string
		line  Line
		width int
		want  string
	}{
		{"no terminal", L("abcdef"), 0, "abcdef"},
		{"fits", L("abcdef"), 6, "abcdef"},
		{"cut", L("abcdef"), 5, "abcd…"},
		{"one column", L("abcdef"), 1, "…"},
		{"wide fits", L("日本語"), 6, "日本語"},
		{"wide cut", L("日本語"), 5, "日本…"},
		{"half a wide character", L("日本語"), 4, "日…"},
		{"combining mark stays", L("e\u0301e\u0301e\u0301"), 2, "e\u0301…"},
		{"joined emoji stays whole", L("👩\u200d🚀👩\u200d🚀"), 3, "👩\u200d🚀…"},
		{"over spans", Line{T(OK, "abc"), T(Bad, "def")}, 5, "abcd…"},
		{"at a span's end", Line{T(OK, "abc"), T(Bad, "def")}, 4, "abc…"},
		{"tab becomes spaces", L("a\tb"), 80, "a       b"},
		{"tab stays without a terminal", L("a\tb"), 0, "a\tb"},
		{"tab cut", L("a\tb"), 4, "a  …"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.line.Render(tt.width, false)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.width > 0 && Width(got) > tt.width {
				t.Errorf("%q is %d columns wide, not %d", got, Width(got), tt.width)
			}
		})
	}
}

func TestRenderColors(t *testing.T) {
	l := Line{T(Plain, "p"), T(OK, "o"), T(Bad, "b"), T(Waiting, "w"), T(Running, "r"), T(Dim, "d"), T(Strong, "s")}
	want := "p\x1b[32mo\x1b[m\x1b[1;31mb\x1b[m\x1b[35mw\x1b[m\x1b[1mr\x1b[m\x1b[2md\x1b[m\x1b[1ms\x1b[m"
	if diff := cmp.Diff(want, l.Render(0, true)); diff != "" {
		t.Error(diff)
	}
	if got := l.Render(0, false); got != "pobwrds" {
		t.Errorf("without colour: %q", got)
	}
	if got, want := l.Render(4, true), "p\x1b[32mo\x1b[m\x1b[1;31mb\x1b[m\x1b[35m…\x1b[m"; got != want {
		t.Errorf("cut: %q, want %q", got, want)
	}
}

// A glyph that could not be shown everywhere, or of another width than its
// ASCII stand-in, would break the columns.
func TestGlyphs(t *testing.T) {
	for _, style := range []Style{OK, Bad, Waiting, Running, Dim} {
		g := Glyph(style)
		a := asciiText(g, true)
		if Width(g) != 1 || len(a) != 1 || a == g {
			t.Errorf("style %d: glyph %q, in ASCII %q", style, g, a)
		}
	}
	if got := asciiText("✓ naïve", false); got != "+ na?ve" {
		t.Errorf("ASCII: %q", got)
	}
	if got := asciiText("✓ naïve", true); got != "+ naïve" {
		t.Errorf("own signs only: %q", got)
	}
}

func TestTable(t *testing.T) {
	p := func(s string) Span { return T(Plain, s) }
	rows := [][]Span{
		{T(OK, "✓ lint"), p("passed"), p("12s")},
		{T(Bad, "✗ 日本"), p("failed"), p("1m04s"), p("unit: exit code 3")},
		{p("gap"), {}, p("x")},
		{p("short"), {}},
		{},
	}
	texts := func(lines []Line) string {
		var all []string
		for _, l := range lines {
			all = append(all, l.Text())
		}
		return strings.Join(all, "\n")
	}
	want := strings.Join([]string{
		"✓ lint  passed  12s",
		"✗ 日本  failed  1m04s  unit: exit code 3",
		"gap             x",
		"short",
		"",
	}, "\n")
	if diff := cmp.Diff(want, texts(Table(rows))); diff != "" {
		t.Error(diff)
	}
	right := strings.Join([]string{
		"✓ lint  passed    12s",
		"✗ 日本  failed  1m04s  unit: exit code 3",
		"gap                 x",
		"short",
		"",
	}, "\n")
	if diff := cmp.Diff(right, texts(Table(rows, 2))); diff != "" {
		t.Error(diff)
	}
	styled := TableOf([][]Line{{{T(OK, "✓"), p(" a")}, L("b")}, {L("long cell"), L("c")}})
	if got, want := styled[0].Render(0, true), "\x1b[32m✓\x1b[m a        b"; got != want {
		t.Errorf("styles: %q, want %q", got, want)
	}
	if Table(nil) == nil || len(Table(nil)) != 0 {
		t.Error("no rows must give no lines")
	}
}

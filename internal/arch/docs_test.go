package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the texts that may cite a decision or link to a file, by
// slash-separated path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	root := os.DirFS("../..")
	out := map[string]string{}
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && p != "."
		if d.IsDir() {
			if hidden && d.Name() != ".ci" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		script := strings.HasPrefix(p, "scripts/") && filepath.Ext(p) == ""
		if !script && !slices.Contains([]string{".go", ".md", ".yml", ".yaml"}, filepath.Ext(p)) {
			return nil
		}
		b, err := fs.ReadFile(root, p)
		out[p] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A comment that sends the reader to a decision must not send him nowhere.
func TestCitedDecisionsExist(t *testing.T) {
	numbers := map[string]string{}
	docs := documents(t)
	for p, text := range docs {
		dir, name := filepath.Split(p)
		if dir != "adr/" {
			continue
		}
		number, _, _ := strings.Cut(name, "-")
		if was := numbers[number]; was != "" {
			t.Errorf("%s and %s have the same number", was, name)
		}
		numbers[number] = name
		head, _, _ := strings.Cut(text, "\n")
		if !strings.HasPrefix(head, "# "+number+". ") || !strings.Contains(text, "\nStatus: ") {
			t.Errorf("%s does not begin with its number and state its status", p)
		}
	}
	if len(numbers) == 0 {
		t.Fatal("no decision was read: the walk goes wrong")
	}
	cited := 0
	for p, text := range docs {
		for _, m := range regexp.MustCompile(`\bADR[ -]?(\d{4})`).FindAllStringSubmatch(text, -1) {
			cited++
			if numbers[m[1]] == "" {
				t.Errorf("%s cites ADR %s, which is not in adr/", p, m[1])
			}
		}
	}
	if cited == 0 {
		t.Error("no citation was read: the walk goes wrong")
	}
}

// Links between our own documents lead somewhere.
func TestLinksExist(t *testing.T) {
	links := 0
	for p, text := range documents(t) {
		if filepath.Ext(p) != ".md" {
			continue
		}
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if to == "" || strings.Contains(to, "://") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join("../..", filepath.Dir(p), to)); err != nil {
				t.Errorf("%s links to %s, which does not exist", p, to)
			}
		}
	}
	if links == 0 {
		t.Error("no link was read: the walk goes wrong, or README.md has none")
	}
}

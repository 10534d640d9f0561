package render

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/tree"

	"homelab/pkg/stack/file"
)

func TestCPUsAsWritten(t *testing.T) {
	want := regexp.MustCompile(`^([0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}|[0-9]{1,12}m)$`)
	for _, text := range []string{
		"", ".", "m", "1", "1.", "1.5", ".5", "100m", "1.5m", "-1", "1e3", "1..2", "1.2.3", "1,5", "123456789", "1234567890",
		".123456789", ".1234567890", "1.1234567890", "123456789012m", "1234567890123m", "1m1", "mm", " 1", "1 ", "0x1",
	} {
		if got := isCPUs(text); got != want.MatchString(text) {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// Only casts that no value of the file can meet are left out.
func TestPossibleCasts(t *testing.T) {
	all := map[tree.Path]interpolation.Cast{
		"services.*.privileged": nil, "services.*.healthcheck.retries": nil, "jobs.*.privileged": nil, "services.*.volumes.[].read_only": nil,
	}
	for text, want := range map[string]int{
		"services: {a: {image: x}}":                                 0,
		"services: {a: {privileged: yes}}":                          1,
		"x-base: &b {healthcheck: {retries: 3}}\nservices: {a: *b}": 1,
		"x-base: &b {privileged: 'true'}\nservices: {a: {<<: *b, volumes: [{read_only: 'true', type: volume}]}}": 2,
		"services: {a: {extends: {file: b.yml, service: c}}}":                                                    len(all),
	} {
		root, err := parse([]byte(text))
		if err != nil {
			t.Fatalf("%s: %s", text, err.text)
		}
		if got := possible(all, root); len(got) != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// Files are loaded several at a time, and told of in their order.
func TestFilesInOrder(t *testing.T) {
	var pods []file.Source
	for i := range 24 {
		name := fmt.Sprintf("p%02d", i)
		text := "services:\n  a:\n    image: x\n    bogus: 1\n    environment: [X=$UNSET]\n"
		if i%3 == 0 {
			text = "services: 1\n"
		}
		pods = append(pods, file.Source{Name: name, Path: "/" + name + ".yml", Raw: []byte(text)})
	}
	for range 5 {
		c := &collector{}
		got := newLoader(c, nil, file.V2).files(pods[1:], pods[:1])
		last := ""
		for _, n := range c.notices {
			if n.File < last {
				t.Fatalf("%s is told of after %s", n.File, last)
			}
			last = n.File
		}
		if len(c.problems) < 8 || c.problems[len(c.problems)-1].File != "/p00.yml" {
			t.Fatalf("%d files, problems %v", len(got), c.problems)
		}
	}
}

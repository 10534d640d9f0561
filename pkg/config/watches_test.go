package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
)

func someKeys() WatchesKeys {
	return WatchesKeys{
		Shared:   []string{"listen", "state-dir"},
		Watch:    []string{"from", "to", "probe", "keep", "idempotent", "arg", "interval", "reproduced", "notify"},
		Parts:    map[string][]string{"probe": {"http", "body", "status", "dial"}, "notify": {"webhook", "on"}},
		Lists:    []string{"on"},
		Refused:  map[string]string{"no-rollback": "it holds for one invocation", "minisign": "it is not built yet"},
		Sections: map[string]map[string]string{"reproduced": {"count": "reproduced", "of": "reproducer"}},
	}
}

func TestParseWatches(t *testing.T) {
	got, err := ParseWatches("w.yaml", []byte(`# the lab's watches
listen: 127.0.0.1:7777
state-dir: /var/lib/homelab
watches:
  www:
    from: builder-web+https://builds.example.org/job/www?platform=debian-12
    to: file:/srv/www.hvt?unit=vm-www.service
    probe:
      - {http: "https://www.example.org/version", body: "{sha256:12}", dial: 10.0.20.203}
      - tcp:www.example.org:443
    keep: 5
    idempotent: true
  shop:
    from: "woodpecker:lab/shop?branch=main"
    interval: 1m
    arg: [--fast, "2"]
    reproduced:
      count: 1
      of: [https://b2.example.org, https://b3.example.org]
    notify:
      - on: [live, halted]
        webhook: https://hooks.example.org/x
      - {webhook: https://hooks.example.org/y, on: failed}
`), someKeys())
	if err != nil {
		t.Fatal(err)
	}
	want := &Watches{
		File: "w.yaml",
		Shared: []Setting{
			{Key: "listen", Line: 2, Values: []string{"127.0.0.1:7777"}}, {Key: "state-dir", Line: 3, Values: []string{"/var/lib/homelab"}},
		},
		Watch: []Watch{
			{Name: "www", Line: 5, Settings: []Setting{
				{Key: "from", Line: 6, Values: []string{"builder-web+https://builds.example.org/job/www?platform=debian-12"}},
				{Key: "to", Line: 7, Values: []string{"file:/srv/www.hvt?unit=vm-www.service"}},
				{Key: "probe", Line: 8, Values: []string{"tcp:www.example.org:443"}, Parts: [][]Part{{
					{"http", "https://www.example.org/version", 9}, {"body", "{sha256:12}", 9}, {"dial", "10.0.20.203", 9},
				}}},
				{Key: "keep", Line: 11, Values: []string{"5"}},
				{Key: "idempotent", Line: 12, Values: []string{"true"}},
			}},
			{Name: "shop", Line: 13, Settings: []Setting{
				{Key: "from", Line: 14, Values: []string{"woodpecker:lab/shop?branch=main"}},
				{Key: "interval", Line: 15, Values: []string{"1m"}},
				{Key: "arg", Line: 16, Values: []string{"--fast", "2"}},
				{Key: "reproduced", Line: 18, Values: []string{"1"}},
				{Key: "reproducer", Line: 19, Values: []string{"https://b2.example.org", "https://b3.example.org"}},
				{Key: "notify", Line: 20, Parts: [][]Part{
					{{"webhook", "https://hooks.example.org/x", 22}, {"on", "live", 21}, {"on", "halted", 21}},
					{{"webhook", "https://hooks.example.org/y", 23}, {"on", "failed", 23}},
				}},
			}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Named("shop") == nil || got.Named("nobody") != nil || got.Nearest("shpo") != "shop" {
		t.Error("watches are not found by their names")
	}
}

// What is wrong is told with its line, several at once, with the nearest key.
func TestParseWatchesRefuses(t *testing.T) {
	for text, want := range map[string][]string{
		"watches: {www: {form: x}}":                 {`w.yaml:1: unknown key "form"`, `nearest known key: "from"`},
		"watches:\n  www:\n    no-rollback: true":   {"w.yaml:3: no-rollback: it holds for one invocation"},
		"watches:\n  www:\n    minisign: [x]":       {"minisign: it is not built yet"},
		"lisen: x\nwatches:\n  w:\n    tp: y":       {"2 problems", `line 1: unknown key "lisen"`, `"listen"`, `line 4: unknown key "tp"`},
		"watches:\n  w: {to: x}\n  w: {to: y}":      {"w.yaml:3: ", "already"},
		"watches:\n  w: {to: [{a: b}]}":             {"w.yaml:2: ", "must be a value"},
		"watches:\n  w: {probe: {http: x}}":         {"w.yaml:2: ", "a value or a list"},
		"watches:\n  w: {probe: [{body: [x]}]}":     {"w.yaml:2: ", "must be a"},
		"watches:\n  w: {notify: [{on: []}]}":       {"w.yaml:2: ", "is an empty list"},
		"watches:\n  w: {probe: [{htp: x}]}":        {`unknown key "htp"`, `"http"`},
		"watches:\n  w: {reproduced: {cuont: 1}}":   {`unknown key "cuont"`, `"count"`},
		"watches:\n  w: {reproduced: {of: {a: b}}}": {"w.yaml:2: ", "a value or a list"},
		"watches: [a]":            {"must be keys and values"},
		"watches:\n  w: {to: ''}": {"w.yaml:2: ", "is empty"},
		"watches:\n  w: {to: *x}": {"w.yaml:2: "},
		"listen: x":               {"has no watches"},
		"a: b: c":                 {"not valid YAML"},
	} {
		_, err := ParseWatches("w.yaml", []byte(text), someKeys())
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", text, err)
			continue
		}
		e, _ := errors.AsType[*fault.Error](err)
		for _, w := range want {
			if !strings.Contains(e.What+" "+e.Why, w) {
				t.Errorf("%q: %s: %s, want %q", text, e.What, e.Why, w)
			}
		}
	}
}

// The file names programs: who may write it has the rights of the watch.
func TestReadWatchesOwners(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "watches.yaml")
	text := []byte("watches: {www: {to: x}}\n")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(path string) error {
		_, err := ReadWatches(path, someKeys())
		return err
	}
	if err := read(path); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[fs.FileMode]bool{0o600: true, 0o644: true, 0o664: false, 0o646: false, 0o666: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{path, link} {
			if err := read(p); (err == nil) != ok || err != nil && fault.KindOf(err) != fault.Usage {
				t.Errorf("%s of mode %04o: %v", p, mode, err)
			}
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[fs.FileMode]bool{0o777: false, 0o770: false, 0o777 | fs.ModeSticky: true, 0o755: true} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := read(path); (err == nil) != ok {
			t.Errorf("below a directory of mode %v: %v", mode, err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if err := read(path); fault.KindOf(err) != fault.Usage || err == nil {
			t.Errorf("of somebody else: %v", err)
		}
	}
	if err := read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) || fault.KindOf(err) != fault.Usage {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := read(dir); fault.KindOf(err) != fault.Usage {
		t.Errorf("a directory: %v", err)
	}
}

func TestWatchState(t *testing.T) {
	for _, c := range []struct {
		vars map[string]string
		want string
	}{
		{map[string]string{"STATE_DIRECTORY": "/var/lib/homelab", "HOME": "/h"}, "/var/lib/homelab"},
		{map[string]string{"STATE_DIRECTORY": "/a:/b"}, "/a"},
		{map[string]string{"STATE_DIRECTORY": "rel", "HOME": "/h"}, "/h/.local/state/homelab/watch"},
		{map[string]string{"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/homelab/watch"},
		{map[string]string{"HOME": "/h"}, "/h/.local/state/homelab/watch"},
		{nil, ""},
	} {
		if got := FromMap(c.vars).WatchState(); got != c.want {
			t.Errorf("%v: %q, want %q", c.vars, got, c.want)
		}
	}
}

func TestWatchesPath(t *testing.T) {
	dir := t.TempDir()
	env := FromMap(map[string]string{"XDG_CONFIG_HOME": dir})
	if p, named := env.WatchesPath("x.yaml"); p != "x.yaml" || !named {
		t.Errorf("named: %q %v", p, named)
	}
	if p, named := env.WatchesPath(""); p != SystemWatches || named {
		t.Errorf("the host's: %q %v", p, named)
	}
	own := filepath.Join(dir, "homelab", "watches.yaml")
	if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, named := env.WatchesPath(""); p != own || named {
		t.Errorf("the user's: %q %v", p, named)
	}
}

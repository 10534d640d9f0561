package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml/ast"

	"homelab/pkg/fault"
	"homelab/pkg/nearest"
)

// The variables of a watch that runs as a service, or for a restricted ssh key.
const (
	EnvStateDirectory = "STATE_DIRECTORY"      // systemd's, for StateDirectory=
	EnvNotifySocket   = "NOTIFY_SOCKET"        // systemd's, for Type=notify
	EnvWatchdog       = "WATCHDOG_USEC"        // systemd's, for WatchdogSec=
	EnvWatchdogPID    = "WATCHDOG_PID"         // whose watchdog it is
	EnvSSHCommand     = "SSH_ORIGINAL_COMMAND" // what somebody asked for whose key allows one command
)

// SystemWatches is the watches file of the host, read when the user has none.
const SystemWatches = "/etc/homelab/watches.yaml"

const watchesName = "watches.yaml"

// Watches is a watches file: strictly read, and not judged. Its keys are the
// names of flags, so whoever has the flags knows what a value means.
type Watches struct {
	File   string
	Shared []Setting // at the top of the file: of the process, not of one watch
	Watch  []Watch   // in the file's order
}

// Watch is one entry below watches.
type Watch struct {
	Name     string
	Line     int
	Settings []Setting
}

// Setting is one key with what it was given.
type Setting struct {
	Key    string
	Line   int
	Values []string // a list has several; numbers and truth values as they were written
	// Parts is set instead of Values for a list of sections.
	Parts [][]Part
}

// Part is one key of a section inside a list.
type Part struct {
	Key, Value string
	Line       int
}

// WatchesKeys say which keys a watches file may have.
type WatchesKeys struct {
	Shared []string // at the top, beside watches
	Watch  []string // of one watch
	// Parts are the keys of the sections of a list, by the list's key.
	Parts map[string][]string
	// Lists are keys of such sections that may have a list: each of its values is
	// a Part of its own, in the list's order.
	Lists []string
	// Sections are keys that may hold a section: which key each key in it stands
	// for.
	Sections map[string]map[string]string
	// Refused is why a key is not taken although it has a meaning elsewhere.
	Refused map[string]string
}

// Problem returns the usage error that says what is wrong in a line of the file.
func (w *Watches) Problem(line int, what string) *fault.Error {
	return fault.New(fault.Usage, fmt.Sprintf("%s:%d: %s", w.File, line, what), "")
}

// Named returns the watch of that name; nil there is none.
func (w *Watches) Named(name string) *Watch {
	for i := range w.Watch {
		if w.Watch[i].Name == name {
			return &w.Watch[i]
		}
	}
	return nil
}

// Nearest returns the watch whose name was probably meant, or "".
func (w *Watches) Nearest(name string) string {
	known := make([]string, len(w.Watch))
	for i, x := range w.Watch {
		known[i] = x.Name
	}
	return nearest.Of(name, known, nearest.Slips(name))
}

// WatchesPath returns where the watches file is: named, else the user's, else
// the host's. named tells whether somebody said so; then it has to be there.
func (e Env) WatchesPath(flag string) (path string, named bool) {
	if flag != "" {
		return flag, true
	}
	if dir := e.ConfigHome(); dir != "" {
		own := filepath.Join(dir, "homelab", watchesName)
		if _, err := os.Stat(own); err == nil {
			return own, false
		}
	}
	return SystemWatches, false
}

// StateHome returns the directory state lives below: XDG_STATE_HOME, else
// ~/.local/state; "" when neither is known.
func (e Env) StateHome() string { return e.xdg("XDG_STATE_HOME", filepath.Join(".local", "state")) }

// WatchState returns where watches keep their state, each in a directory of
// its own: STATE_DIRECTORY, the first if there are several, else homelab/watch
// below StateHome; "" when nothing is known.
func (e Env) WatchState() string {
	if dir, ok := e.Lookup(EnvStateDirectory); ok {
		first, _, _ := strings.Cut(dir, ":")
		if filepath.IsAbs(first) {
			return first
		}
	}
	if dir := e.StateHome(); dir != "" {
		return filepath.Join(dir, "homelab", "watch")
	}
	return ""
}

// ReadWatches reads a watches file. fs.ErrNotExist is in the error of one that
// is not there; every error is a usage error. The file names programs that will
// be started, so whoever may write it, or replace it, has the rights of the
// watch: only root and the user may.
func ReadWatches(path string, keys WatchesKeys) (*Watches, error) {
	if err := ownOnly(path); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path) //nolint:gosec // the user's own file, by its name
	if err != nil {
		return nil, fault.New(fault.Usage, "the watches file cannot be read", "").Because(err.Error()).From(err)
	}
	return ParseWatches(path, data, keys)
}

// ownOnly refuses a file that others than root and the user may write or
// replace.
func ownOnly(path string) error {
	actual, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Usage, "there is no watches file "+path, "").From(err)
	}
	if err != nil {
		return fault.New(fault.Usage, "the watches file cannot be read", "").Because(err.Error()).From(err)
	}
	for _, p := range []string{actual, filepath.Dir(actual)} {
		st, err := os.Stat(p)
		if err != nil {
			return fault.New(fault.Usage, "the watches file cannot be read", "").Because(err.Error()).From(err)
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		next := "chmod go-w " + shellWord(p)
		switch {
		case p == actual && !st.Mode().IsRegular():
			return fault.New(fault.Usage, "the watches file "+p+" is no regular file", "")
		case ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
			return fault.New(fault.Usage, p+" belongs to somebody else than root and the user", "ls -ld "+shellWord(p)).
				Because("a watches file names programs that will be started")
		case st.Mode().Perm()&0o022 != 0 && (p == actual || st.Mode()&fs.ModeSticky == 0):
			return fault.New(fault.Usage, fmt.Sprintf("%s may be written by others (mode %04o)", p, st.Mode().Perm()), next).
				Because("a watches file names programs that will be started")
		}
	}
	return nil
}

// ParseWatches reads the text of a watches file. name is what errors call it.
// The error lists up to 20 problems, each with its line.
func ParseWatches(name string, data []byte, keys WatchesKeys) (*Watches, error) {
	r := &reader{file: name, level: LevelUser, stray: func(_, key string) string {
		if why := keys.Refused[key]; why != "" {
			return key + ": " + why
		}
		return ""
	}}
	w := &Watches{File: name}
	root := r.open(data)
	top := r.fields("", root, append(slices.Clone(keys.Shared), "watches")...)
	w.Shared = r.settings(top, keys, "watches")
	watches, ok := top["watches"]
	if !ok && len(r.problems) == 0 {
		r.problem(0, "has no watches")
	}
	seen := map[string]int{}
	for _, kv := range r.pairs("watches", watches.node) {
		x := Watch{Name: kv.Key.GetToken().Value, Line: lineOf(kv.Key)}
		if first, ok := seen[x.Name]; ok {
			r.problem(x.Line, "watch %s is already there in line %d", quoted(x.Name), first)
			continue
		}
		seen[x.Name] = x.Line
		x.Settings = r.settings(r.fields("watches."+x.Name, kv.Value, keys.Watch...), keys)
		w.Watch = append(w.Watch, x)
	}
	if err := r.err(""); err != nil {
		return nil, err
	}
	return w, nil
}

// settings turns fields into settings by line; those named by but are left out.
func (r *reader) settings(fields map[string]field, keys WatchesKeys, but ...string) []Setting {
	var out []Setting
	for key, f := range fields {
		if slices.Contains(but, key) {
			continue
		}
		s := Setting{Key: key, Line: f.line}
		switch n := f.node.(type) {
		case *ast.SequenceNode:
			for _, e := range r.list(f, "values") {
				r.entry(&s, e, keys.Parts[key], keys.Lists)
			}
		case *ast.MappingNode, *ast.MappingValueNode:
			section := keys.Sections[key]
			if section == nil {
				r.wrong(f.line, f.path, "a value or a list of values", n)
				break
			}
			inside := map[string]field{}
			for k, v := range r.fields(f.path, f.node, slices.Sorted(maps.Keys(section))...) {
				inside[section[k]] = v
			}
			out = append(out, r.settings(inside, WatchesKeys{})...)
			continue
		default:
			if v, ok := r.word(f); ok {
				s.Values = []string{v}
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Setting) int { return a.Line - b.Line })
	return out
}

// entry reads one entry of a list: a value, or a section where the key has
// sections.
func (r *reader) entry(s *Setting, e field, parts, lists []string) {
	switch e.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		if parts == nil {
			r.wrong(e.line, e.path, "a value", e.node)
			return
		}
		var p []Part
		for key, f := range r.fields(e.path, e.node, parts...) {
			values := []field{f}
			if _, several := f.node.(*ast.SequenceNode); several && slices.Contains(lists, key) {
				values = r.list(f, "values")
			}
			for _, f := range values {
				if v, ok := r.word(f); ok {
					p = append(p, Part{Key: key, Value: v, Line: f.line})
				}
			}
		}
		// The order says nothing; parts' makes it steady.
		slices.SortStableFunc(p, func(a, b Part) int { return slices.Index(parts, a.Key) - slices.Index(parts, b.Key) })
		s.Parts = append(s.Parts, p)
	default:
		if v, ok := r.word(e); ok {
			s.Values = append(s.Values, v)
		}
	}
}

// word returns a scalar as it was written. A number stays its text: the flag
// decides what it is.
func (r *reader) word(f field) (string, bool) {
	switch n := f.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return r.scalar(f.line, f.path, f.node)
}

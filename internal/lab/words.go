package lab

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// words is one line of the lab's language: positional words, and flags that
// may stand anywhere among them. What is asked for is taken out, so that done
// can tell what nobody understood.
type words struct {
	pos   []string
	flags map[string][]string
	err   error
}

// read splits a line. The named flags take no value.
func read(args []string, switches ...string) *words {
	w := &words{flags: map[string][]string{}}
	for i := 0; i < len(args); i++ {
		name, ok := strings.CutPrefix(args[i], "--")
		if !ok {
			w.pos = append(w.pos, args[i])
			continue
		}
		value := ""
		if !slices.Contains(switches, name) {
			if i++; i == len(args) {
				w.fail(fmt.Errorf("--%s needs a value", name))
				break
			}
			value = args[i]
		}
		w.flags[name] = append(w.flags[name], value)
	}
	return w
}

func (w *words) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// next takes the next positional word; "" when there is none.
func (w *words) next() string {
	if len(w.pos) == 0 {
		return ""
	}
	s := w.pos[0]
	w.pos = w.pos[1:]
	return s
}

// need is next for a word that must be there.
func (w *words) need(what string) string {
	s := w.next()
	if s == "" {
		w.fail(fmt.Errorf("missing: %s", what))
	}
	return s
}

func (w *words) number(what string) int64 {
	n, err := strconv.ParseInt(strings.TrimPrefix(w.need(what), "#"), 10, 64)
	if err != nil {
		w.fail(fmt.Errorf("%s: %w", what, err))
	}
	return n
}

func (w *words) duration(what string) time.Duration {
	d, err := time.ParseDuration(w.need(what))
	if err != nil {
		w.fail(fmt.Errorf("%s: %w", what, err))
	}
	return d
}

// has takes a switch.
func (w *words) has(name string) bool {
	_, ok := w.flags[name]
	delete(w.flags, name)
	return ok
}

// all takes a flag's values, escapes resolved.
func (w *words) all(name string) []string {
	var out []string
	for _, v := range w.flags[name] {
		s, err := unescape(v)
		if err != nil {
			w.fail(err)
		}
		out = append(out, s)
	}
	delete(w.flags, name)
	return out
}

// raw takes a flag's values as they are.
func (w *words) raw(name string) []string {
	out := w.flags[name]
	delete(w.flags, name)
	return out
}

// one takes a flag's last value.
func (w *words) one(name, otherwise string) string {
	if all := w.all(name); len(all) > 0 {
		return all[len(all)-1]
	}
	return otherwise
}

func (w *words) durationOf(name string) time.Duration {
	v := w.one(name, "0s")
	d, err := time.ParseDuration(v)
	if err != nil {
		w.fail(fmt.Errorf("--%s: %w", name, err))
	}
	return d
}

func (w *words) numberOf(name string) int {
	n, err := strconv.Atoi(w.one(name, "0"))
	if err != nil {
		w.fail(fmt.Errorf("--%s: %w", name, err))
	}
	return n
}

// done returns the first thing that was wrong, or what is left over.
func (w *words) done() error {
	switch {
	case w.err != nil:
		return w.err
	case len(w.flags) > 0:
		return fmt.Errorf("unknown flags: %s", strings.Join(slices.Sorted(maps.Keys(w.flags)), " "))
	case len(w.pos) > 0:
		return fmt.Errorf("too many words: %q", w.pos)
	}
	return nil
}

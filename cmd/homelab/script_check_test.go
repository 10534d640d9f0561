package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"homelab/internal/lab"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/about"
	"homelab/verbs/legacy"
	"homelab/verbs/verb"
)

// check is what holds for every run, whatever it was asked and however it
// ended: one result on stdout, in the form that was asked for; nothing that
// acts on a terminal; no secret; a next command that can be pasted.
func (a *attempt) check() error {
	var errs []error
	all := append(bytes.Clone(a.out), a.err...)
	if a.term != nil {
		all = a.term.Raw()
	}
	errs = append(errs, noSecrets(all), a.harmless())
	if !a.free() {
		errs = append(errs, a.oneResult())
	}
	errs = append(errs, a.errorsAreShort())
	return errors.Join(errs...)
}

// older tells the runs under the older tool's name.
func (a *attempt) older() bool { return legacy.Named(a.args[0]) }

// checkOlder is what holds for every run under the older tool's name: scripts
// find an error on stdout, in one line, exactly when the code says so, and the
// verdict's line on stderr.
func (a *attempt) checkOlder() error {
	errs := []error{noSecrets(append(bytes.Clone(a.out), a.err...)), a.harmless()}
	failures, verdicts := 0, 0
	for line := range strings.Lines(string(a.out)) {
		if strings.HasPrefix(line, "Error: ") {
			failures++
		}
	}
	for line := range strings.Lines(string(a.err)) {
		if word, ok := verdictOf(line); ok && known(word) {
			verdicts++
		}
		if strings.HasPrefix(line, "homelab: ") {
			errs = append(errs, fmt.Errorf("an error is told on stderr: %q", line))
		}
	}
	if a.code != 0 && failures != 1 || a.code == 0 && failures > 1 {
		errs = append(errs, fmt.Errorf("exit code %d, and %d errors on stdout", a.code, failures))
	}
	if verdicts > 1 || a.code != 0 && verdicts != 1 {
		errs = append(errs, fmt.Errorf("%d verdicts on stderr", verdicts))
	}
	return errors.Join(errs...)
}

func (a *attempt) has(flag string) bool { return slices.Contains(a.args, flag) }

// path returns the words of the command line up to the first that is no verb.
func (a *attempt) path() string {
	var out []string
	for _, w := range a.args[1:] {
		// A watch has verbs of its own, where else its name stands.
		third := len(out) == 2 && out[0] == "deploy" && out[1] == "watch" && slices.Contains([]string{"status", "history"}, w)
		if strings.HasPrefix(w, "-") || len(out) >= 2 && !third {
			break
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// free tells the runs whose stdout is for people and has no form: help, and
// what a shell asks while somebody types.
func (a *attempt) free() bool {
	p := a.path()
	helps := a.has("--help") || a.has("-h") || p == "" || p == "ci" || p == "deploy" || p == "help" || strings.HasPrefix(p, "help ") && p != "help exit-codes"
	return strings.HasPrefix(p, "__complete") || helps && a.code == 0
}

// noSecrets finds a canary, plain or encoded.
func noSecrets(p []byte) error {
	if i := bytes.Index(bytes.ToLower(p), []byte("canary")); i >= 0 {
		return fmt.Errorf("a secret is shown: %q", p[max(0, i-40):min(len(p), i+40)])
	}
	for _, s := range []string{lab.Token, lab.Variable, lab.KubeToken} {
		for shift := range 3 {
			// A secret inside a longer text is encoded in one of three ways.
			enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
			if core := enc[4 : len(enc)-4]; bytes.Contains(p, []byte(core)) {
				return errors.New("a secret is shown in base64")
			}
		}
	}
	return nil
}

// harmless finds what would act on a terminal. Our own colours are allowed
// where they were asked for, and what moves the live view on one.
func (a *attempt) harmless() error {
	if a.has("--raw") {
		return nil
	}
	text := string(a.out) + string(a.err)
	own := ""
	if a.term != nil {
		text = strings.ReplaceAll(string(a.term.Raw()), "\r", "")
		own = `\x1b\[[0-9;]*m|\x1b\[\?(?:2026|25|7)[hl]|\x1b\[[0-9]*[ABJKG]|\x1b[78]`
	} else if a.has("always") || a.has("--color=always") {
		own = `\x1b\[[0-9;]*m`
	}
	if own != "" {
		text = regexp.MustCompile(own).ReplaceAllString(text, "")
	}
	if !utf8.ValidString(text) {
		return errors.New("the output is not UTF-8")
	}
	for i, r := range text {
		bidi := r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c
		if unicode.IsControl(r) && r != '\n' && r != '\t' || bidi {
			return fmt.Errorf("the output has %U: %q", r, text[max(0, i-30):min(len(text), i+30)])
		}
	}
	return nil
}

// errorsAreShort: what went wrong takes three lines at most.
func (a *attempt) errorsAreShort() error {
	n := 0
	for line := range strings.Lines(string(a.err)) {
		switch {
		case strings.HasPrefix(line, "homelab: "):
			n++
		case strings.HasPrefix(line, "  why:  "), strings.HasPrefix(line, "  next: "):
		case a.has("--quiet") || a.has("-q"):
			if !a.has("-v") && !a.has("--verbose") {
				return fmt.Errorf("--quiet, and a story all the same: %q", line)
			}
		}
	}
	if n > 1 {
		return errors.New("the error is told more than once")
	}
	return nil
}

// head is what every result has.
type head struct {
	Type     string   `json:"type"`
	Kind     string   `json:"kind"`
	Verdict  string   `json:"verdict"`
	ExitCode *int     `json:"exit_code"`
	Reason   string   `json:"reason"`
	Next     *string  `json:"next"`
	Elapsed  *float64 `json:"elapsed"`
}

func headOf(object []byte) (head, error) {
	var h head
	err := json.Unmarshal(object, &h)
	return h, err
}

func (a *attempt) oneResult() error {
	aside := slices.Contains([]string{"deployment ps", "deployment logs", "deployment exec", "deployment port"}, a.path())
	switch {
	case aside && !a.has("--json") && !a.has("--jsonl"):
		return a.oneAside()
	case a.term != nil:
		return a.oneLine(stripped(a.term.Raw()))
	case a.has("--json"):
		return a.object(a.out, false)
	case a.has("--jsonl"):
		lines := bytes.Split(bytes.TrimSuffix(a.out, []byte("\n")), []byte("\n"))
		for i, l := range lines {
			var e struct{ Type, Time string }
			if err := json.Unmarshal(l, &e); err != nil {
				return fmt.Errorf("no JSON: %q", l)
			}
			if e.Type == "" || e.Time == "" || (e.Type == "result") != (i == len(lines)-1) {
				return fmt.Errorf("event %d of %d is of type %q at %q", i+1, len(lines), e.Type, e.Time)
			}
		}
		return a.object(lines[len(lines)-1], true)
	}
	return a.oneLine(string(a.out))
}

// oneAside checks the text form of verbs whose stdout is somebody else's: the
// line of the result is on stderr.
func (a *attempt) oneAside() error {
	text := string(a.err)
	if a.term != nil {
		text = stripped(a.term.Raw())
	}
	results := 0
	for line := range strings.Lines(text) {
		if word, ok := verdictOf(strings.TrimRight(line, "\n")); ok && fits(word, a.code) == nil {
			results++
			if _, next, ok := strings.Cut(strings.TrimRight(line, "\n"), "; next: "); ok && a.term == nil {
				if err := pasteable(next); err != nil {
					return err
				}
			}
		}
	}
	if results == 0 && a.code == fault.Usage.Code() && a.term == nil {
		return a.oneLine(string(a.out)) // the verb itself has not begun
	}
	if results != 1 {
		return fmt.Errorf("stderr has %d results: %q", results, text)
	}
	return nil
}

// stripped is what a terminal got, without what moves things on it.
func stripped(raw []byte) string {
	text := regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]|\x1b[78]`).ReplaceAllString(string(raw), "")
	return strings.ReplaceAll(text, "\r", "")
}

// object checks one JSON result.
func (a *attempt) object(p []byte, event bool) error {
	if !event && (bytes.Count(p, []byte("\n")) != 1 || !bytes.HasSuffix(p, []byte("}\n"))) {
		return fmt.Errorf("stdout is not one line with one object: %q", p)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(p, &keys); err != nil {
		return fmt.Errorf("the result is no JSON: %w", err)
	}
	for _, k := range []string{"kind", "verdict", "exit_code", "reason", "next", "elapsed"} {
		if _, ok := keys[k]; !ok {
			return fmt.Errorf("the result has no %s", k)
		}
	}
	h, err := headOf(p)
	switch {
	case err != nil:
		return err
	case h.ExitCode == nil || *h.ExitCode != a.code:
		return fmt.Errorf("exit_code %s, and the exit code %d", keys["exit_code"], a.code)
	case h.Kind == "" || h.Verdict == "" || h.Reason == "":
		return fmt.Errorf("kind %q, verdict %q, reason %q", h.Kind, h.Verdict, h.Reason)
	case h.Elapsed == nil || *h.Elapsed < 0:
		return errors.New("elapsed is missing or negative")
	}
	if err := fits(h.Verdict, a.code); err != nil {
		return err
	}
	if h.Next != nil {
		return pasteable(*h.Next)
	}
	return nil
}

// fits says whether a run with that verdict may end with that code. Words
// that are not a verdict of a pipeline are names of exit codes.
func fits(verdict string, code int) error {
	want := map[string][]int{
		"success": {0}, "failure": {1}, "error": {1}, "declined": {1}, "blocked": {5}, "canceled": {6}, "superseded": {6},
		"absent": {3}, "pending": {8}, "running": {8}, "denied": {4}, "unreachable": {7}, "timeout": {8},
		"interrupted": {130, 143}, "ready": {0}, "paused": {5}, "ok": {0}, "done": {0}, "unchanged": {0}, "written": {0},
		"created": {0}, "same": {0}, "changes": {0, 1}, "up": {0}, "stopped": {0},
		"landed": {0}, "nothing": {0}, "live": {0}, "current": {0},
		"started": {0}, "existing": {0}, "cleaned": {0}, "restored": {0}, "aborted": {0},
	}
	for _, row := range fault.Table() {
		if _, known := want[row.Name]; !known {
			want[row.Name] = []int{row.Code}
		}
	}
	if !slices.Contains(want[verdict], code) {
		return fmt.Errorf("verdict %q with exit code %d", verdict, code)
	}
	return nil
}

// verdictOf returns what a result line begins with. A landing is a sentence:
// "landed 71b3c55 on main".
func verdictOf(line string) (string, bool) {
	if strings.HasPrefix(line, "landed ") {
		return "landed", true
	}
	word, _, ok := strings.Cut(line, ": ")
	return word, ok
}

// oneLine checks the text form: of a verb with a verdict one line, of one that
// prints something else that, and one line when there is nothing of it.
func (a *attempt) oneLine(out string) error {
	results, want := 0, a.targets()
	if a.path() == "deploy watch" && strings.Count(out, "\n") == 1 {
		want = 1 // none of them has begun
	}
	last := ""
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if line == "" && a.term != nil {
			continue
		}
		last = line
		if word, ok := verdictOf(line); ok && (fits(word, a.code) == nil || want > 1 && known(word)) {
			results++
		}
	}
	payload := slices.Contains([]string{
		"ci logs", "ci list", "manifest", "version", "help exit-codes", "config show", "doctor",
		"work start", "work status", "work clean", "work restore", "deployment history", "deployment diff", "deployment status", "deployment volumes",
		"deploy watch status", "deploy watch history",
	}, a.path()) || strings.HasPrefix(a.path(), "deployment ") && a.has("--dry-run") ||
		strings.HasPrefix(a.path(), "completion")
	switch {
	case last == "" && (!payload || a.code != 0):
		return errors.New("stdout has no result")
	case payload && a.code == 0:
		return nil
	case results != want:
		return fmt.Errorf("stdout has %d results: %q", results, out)
	case a.term == nil && !payload && strings.Count(out, "\n") != want:
		return fmt.Errorf("stdout is not %d lines: %q", want, out)
	}
	if word, _ := verdictOf(last); want == 1 && fits(word, a.code) != nil && a.term == nil {
		return fmt.Errorf("the last line is no result: %q", last)
	}
	if _, next, ok := strings.Cut(last, "; next: "); ok && a.term == nil {
		return pasteable(next)
	}
	return nil
}

// known says whether some run ends with that verdict.
func known(verdict string) bool {
	for code := range 144 {
		if fits(verdict, code) == nil {
			return true
		}
	}
	return false
}

// targets is how many result lines the command line asks for.
func (a *attempt) targets() int {
	several := a.path() == "deploy wait" || a.path() == "deploy watch"
	if !several || a.code == fault.Usage.Code() {
		return 1
	}
	c, rest, err := tree().Find(a.args[1:])
	if err != nil || c.ParseFlags(rest) != nil {
		return 1
	}
	seen := map[string]bool{}
	for _, t := range c.Flags().Args() {
		seen[t] = true
	}
	return len(seen)
}

// pasteable says whether a printed command would be understood.
func pasteable(next string) error {
	words := split(next)
	if len(words) == 0 || strings.Contains(next, "\n") {
		return fmt.Errorf("the next command is %q", next)
	}
	if words[0] != "homelab" {
		return nil
	}
	if strings.HasSuffix(next, "--help") {
		return nil
	}
	c, rest, err := tree().Find(words[1:])
	if err != nil {
		return fmt.Errorf("the next command %q: %w", next, err)
	}
	if err := c.ParseFlags(rest); err != nil {
		return fmt.Errorf("the next command %q: %w", next, err)
	}
	if _, ok := verb.InfoOf(c); !ok {
		return fmt.Errorf("the next command %q is no verb", next)
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return fmt.Errorf("the next command %q: %w", next, err)
	}
	return nil
}

// verbs lists the tree as the manifest does.
func verbs() []about.Verb { return about.Verbs(tree()) }

// tree builds the command tree of a process that has nothing.
func tree() *cobra.Command {
	streams, _, _ := ui.Test("")
	a := &app{process: process{streams: streams}, flags: &verb.Flags{}, ran: func(*cobra.Command) {}}
	root := a.root()
	root.InitDefaultHelpCmd()
	return root
}

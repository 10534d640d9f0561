package lab

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"homelab/internal/woodsim"
)

// defaultStep is the life of a step that names none: long enough to be seen
// running, short enough for a script.
const defaultStep = 30 * time.Millisecond

// parseFlow reads one workflow with its steps:
//
//	test{GO=1.25}@100ms: build=50ms unit=1s!3 lint~1 publish
//
// A workflow has a name, matrix values and a start; a step a name, the time it
// takes, and marks: !3 it exits with 3, ~1 likewise but ignored, ^ it runs
// after a failure too, * its failure cancels the pipeline, & it starts with
// the workflow, % it is a service, ?STATE it ends in that state. Escapes as in
// Go may stand in names.
func parseFlow(s string) (woodsim.Workflow, error) {
	head, rest, ok := strings.Cut(s, ":")
	if !ok {
		return woodsim.Workflow{}, fmt.Errorf("workflow %q has no colon", s)
	}
	m := regexp.MustCompile(`^([^{@]*)(?:\{(.*)\})?(?:@(\S+))?$`).FindStringSubmatch(strings.TrimSpace(head))
	if m == nil {
		return woodsim.Workflow{}, fmt.Errorf("workflow %q", head)
	}
	name, err := unescape(m[1])
	w := woodsim.Workflow{Name: name}
	if m[2] != "" {
		w.Environ = map[string]string{}
		for pair := range strings.SplitSeq(m[2], ",") {
			k, v, _ := strings.Cut(pair, "=")
			value, vErr := unescape(v)
			w.Environ[k], err = value, errors.Join(err, vErr)
		}
	}
	if m[3] != "" {
		var dErr error
		w.Start, dErr = time.ParseDuration(m[3])
		err = errors.Join(err, dErr)
	}
	for word := range strings.FieldsSeq(rest) {
		step, sErr := parseStep(word)
		w.Steps, err = append(w.Steps, step), errors.Join(err, sErr)
	}
	return w, err
}

func parseStep(word string) (woodsim.Step, error) {
	m := regexp.MustCompile(`^([^=!~^*&%?]+)(?:=([0-9a-z.]+))?([!~]\d+)?([\^*&%]*)(?:\?(\w+))?$`).FindStringSubmatch(word)
	if m == nil {
		return woodsim.Step{}, fmt.Errorf("step %q", word)
	}
	name, err := unescape(m[1])
	s := woodsim.Step{Name: name, Takes: defaultStep, State: m[5]}
	if m[2] != "" {
		var dErr error
		s.Takes, dErr = time.ParseDuration(m[2])
		err = errors.Join(err, dErr)
	}
	if m[3] != "" {
		s.Exit, _ = strconv.Atoi(m[3][1:]) // the pattern has digits there
		s.Ignore = m[3][0] == '~'
	}
	for _, mark := range m[4] {
		switch mark {
		case '^':
			s.Always = true
		case '*':
			s.Cancel = true
		case '&':
			s.Parallel = true
		case '%':
			s.Type = "service"
		}
	}
	s.Log.Lines = []string{"+ " + name}
	if s.Exit != 0 {
		s.Log.Lines = append(s.Log.Lines, "--- FAIL: TestCacheKey (0.02s)", "FAIL")
	}
	return s, err
}

// unescape resolves Go's escapes, so that control characters can be written
// in a script.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		return "", fmt.Errorf("%q: %w", s, err)
	}
	return out, nil
}

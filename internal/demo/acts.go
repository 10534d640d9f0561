package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pipelineFile takes the name under which the image is pushed.
const pipelineFile = `steps:
  - name: lint
    commands:
      - for f in *.sh; do sh -n "$f"; done
  - name: test
    commands:
      - sh test.sh
  - name: image
    commands:
      - push registry.example/%s:$(printf %%.8s $CI_COMMIT_SHA)
  - name: deploy
    commands:
      - deploy shop/web registry.example/web:$(printf %%.8s $CI_COMMIT_SHA)
`

const rulesFile = "verify: sh test.sh\n"

// plainPrice knows no discount.
const plainPrice = `# price COUNT CENTS: the total.
echo "$(($1 * $2))"
`

// priceFile takes the comparison with ten.
const priceFile = `# price COUNT CENTS: the total, ten per cent less from ten pieces on.
total=$(($1 * $2))
if [ "$1" %s ]; then total=$((total * 90 / 100)); fi
echo "$total"
`

// testFile takes the last check.
const testFile = `failed=0
check() {
  got=$(sh price.sh "$1" "$2")
  if [ "$got" = "$3" ]; then
    echo "ok    $1 x $2 = $3"
  else
    echo "FAIL  $1 x $2: got $got, want $3"
    failed=3
  fi
  sleep 0.5
}
check 1 250 250
check 9 100 900
check %s
exit $failed
`

// receiptFile takes its last line.
const receiptFile = `# receipt COUNT CENTS: what the customer gets to see.
if [ "$1" -gt 0 ]; then
  printf 'Total %%s\n' "$(sh price.sh "$1" "$2")"
%s
`

// status is what the acts check of "ci status --json".
type status struct {
	Verdict  string  `json:"verdict"`
	ExitCode int     `json:"exit_code"`
	Next     *string `json:"next"`
	Commit   string  `json:"commit"`
	Failed   []struct {
		Step     string   `json:"step"`
		ExitCode int      `json:"exit_code"`
		LogTail  []string `json:"log_tail"`
	} `json:"failed_steps"`
}

// landed takes a change from its start to running in the cluster.
func landed(ctx context.Context, s *stage) error {
	if err := s.enter(ctx, "discount"); err != nil {
		return err
	}
	for name, content := range map[string]string{"price.sh": fmt.Sprintf(priceFile, "-ge 10"), "test.sh": fmt.Sprintf(testFile, "10 100 900")} {
		if err := s.write(name, content); err != nil {
			return err
		}
	}
	if _, err := s.show(ctx, 0, "git commit -q -a -m 'Discount from ten pieces on'"); err != nil {
		return err
	}
	seen, err := s.show(ctx, 0, "homelab work land --wait-deploy "+workload)
	if err != nil {
		return err
	}
	if err := s.saw(seen, " merge ", "verify | ok    10 x 100 = 900", " push    landed ", "asking again", "#1 success",
		"image", "rollout", "landed ", "CI #1 green"); err != nil {
		return err
	}
	if err := s.tally(); err != nil {
		return err
	}
	w, err := s.waited(ctx, 0)
	if err != nil {
		return err
	}
	if t := w.Targets[0]; w.Verdict != "ready" || t.MatchedBy != "tag" || !t.Verified || t.Phase != "done" || t.Cause != nil {
		return fmt.Errorf("the finished rollout: %+v", w)
	}
	return s.onBase(ctx, true)
}

// unverified begins the next task with a mistake.
func unverified(ctx context.Context, s *stage) error {
	if err := s.enter(ctx, "rounding"); err != nil {
		return err
	}
	if err := s.write("price.sh", fmt.Sprintf(priceFile, "-gt 10")); err != nil {
		return err
	}
	if _, err := s.show(ctx, 0, "git commit -q -a -m 'Simpler comparison'"); err != nil {
		return err
	}
	seen, err := s.show(ctx, 1, "homelab work land")
	if err != nil {
		return err
	}
	if err := s.saw(seen, "verify | FAIL  10 x 100: got 1000, want 900", "failed: ", "nothing was pushed", "next: "); err != nil {
		return err
	}
	return s.onBase(ctx, false)
}

// raced mends it, while somebody else lands from another clone.
func raced(ctx context.Context, s *stage) error {
	if err := s.write("price.sh", fmt.Sprintf(priceFile, "-gt 9")); err != nil {
		return err
	}
	if _, err := s.show(ctx, 0, "git commit -q -a -m 'More than nine, that is'"); err != nil {
		return err
	}
	other, err := s.otherLands(ctx)
	if err != nil {
		return err
	}
	s.say("(Bob has begun to land from his own clone, a moment ago)")
	seen, err := s.show(ctx, 0, "homelab work land")
	if err != nil {
		return err
	}
	text, err := other()
	if err != nil {
		return err
	}
	s.say("(Bob's run: " + text + ")")
	if err := s.saw(seen, "lost the race: main is now ", "attempt 2 of 10", "in 2 attempts", "landed "); err != nil {
		return err
	}
	return s.onBase(ctx, true)
}

// red lands what only CI finds wrong.
func red(ctx context.Context, s *stage) error {
	if err := s.enter(ctx, "receipt"); err != nil {
		return err
	}
	if err := s.write("receipt.sh", fmt.Sprintf(receiptFile, "done")); err != nil {
		return err
	}
	if err := s.quietly(ctx, s.dir, "add", "."); err != nil {
		return err
	}
	if _, err := s.show(ctx, 0, "git commit -q -m 'A receipt'"); err != nil {
		return err
	}
	seen, err := s.show(ctx, 10, "homelab work land")
	if err != nil {
		return err
	}
	if err := s.saw(seen, "passed in", " push    landed ", "receipt.sh: ", "landed-red: ", "next: homelab ci logs --failed "); err != nil {
		return err
	}
	if err := s.tally(); err != nil {
		return err
	}
	st, err := s.status(ctx, 1)
	if err != nil {
		return err
	}
	if st.Verdict != "failure" || st.Next == nil || len(st.Failed) != 1 || st.Failed[0].Step != "lint" || st.Failed[0].ExitCode != 2 {
		return fmt.Errorf("the red pipeline's status: %+v", st)
	}
	s.say("\nFor scripts, one object on stdout:")
	seen, err = s.show(ctx, 0, `homelab ci status --json | cut -c 1-200`)
	if err != nil {
		return err
	}
	if err := s.saw(seen, "ci.status", `"exit_code"`); err != nil {
		return err
	}
	return s.onBase(ctx, true)
}

// waited is what the acts check of "deploy wait --json".
type waited struct {
	Verdict  string  `json:"verdict"`
	ExitCode int     `json:"exit_code"`
	Next     *string `json:"next"`
	Targets  []struct {
		Phase     string `json:"phase"`
		MatchedBy string `json:"matched_by"`
		Verified  bool   `json:"verified"`
		Serving   struct {
			Image string `json:"image"`
			Ready int    `json:"ready"`
		} `json:"serving"`
		Cause *struct {
			Class   string `json:"class"`
			Message string `json:"message"`
		} `json:"cause"`
	} `json:"targets"`
}

// unpulled lands the remedy, and deploys an image that was pushed under
// another name.
func unpulled(ctx context.Context, s *stage) error {
	for name, content := range map[string]string{
		".woodpecker.yml": fmt.Sprintf(pipelineFile, "wbe"), "receipt.sh": fmt.Sprintf(receiptFile, "fi"),
	} {
		if err := s.write(name, content); err != nil {
			return err
		}
	}
	if _, err := s.show(ctx, 0, "git commit -q -a -m 'An end for the receipt; shorter names'"); err != nil {
		return err
	}
	seen, err := s.show(ctx, 0, "homelab work land --quiet")
	if err != nil {
		return err
	}
	if err := s.saw(seen, "landed ", " green"); err != nil {
		return err
	}
	seen, err = s.show(ctx, 1, "homelab deploy wait "+workload+" --image-pull-grace 2s")
	if err != nil {
		return err
	}
	if err := s.saw(seen, " rollout ", "failed: "+workload, "not found", "2/2 ready", "next: "); err != nil {
		return err
	}
	w, err := s.waited(ctx, 1)
	if err != nil {
		return err
	}
	t := w.Targets[0]
	if w.Verdict != "failed" || w.Next == nil || t.Cause == nil || t.Cause.Class != "image" || t.Phase != "rollout" ||
		t.Serving.Ready != 2 || !strings.Contains(t.Cause.Message, "not found") {
		return fmt.Errorf("the rollout that cannot be: %+v", w)
	}
	return nil
}

// tidied puts away what has landed.
func tidied(ctx context.Context, s *stage) error {
	s.dir = s.home
	seen, err := s.show(ctx, 0, "homelab work status")
	if err != nil {
		return err
	}
	if err := s.saw(seen, "discount", "rounding", "receipt", "merged"); err != nil {
		return err
	}
	if seen, err = s.show(ctx, 0, "homelab work clean --landed --quiet"); err != nil {
		return err
	}
	return s.saw(seen, "cleaned: discount: ", "cleaned: receipt: ", "cleaned: rounding: ", "homelab work restore ")
}

// waited asks for the rollout's verdict behind the scenes, once it is known.
func (s *stage) waited(ctx context.Context, want int) (waited, error) {
	var w waited
	code, out, err := s.ask(ctx, &w, "deploy wait "+workload+" --settle 0s --image-pull-grace 1s --timeout 20s --json")
	if err == nil && (code != want || w.ExitCode != want || len(w.Targets) != 1) {
		err = fmt.Errorf("deploy wait --json: exit code %d, exit_code %d, not %d: %s", code, w.ExitCode, want, out)
	}
	return w, err
}

// saw checks what a command printed. On a terminal the command has it to
// itself, and only its exit code is known.
func (s *stage) saw(text string, want ...string) error {
	if s.terminal {
		return nil
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			return fmt.Errorf("this was expected above and did not come: %q", w)
		}
	}
	return nil
}

// onBase checks from outside whether the base is what the work tree has.
func (s *stage) onBase(ctx context.Context, want bool) error {
	var head, base bytes.Buffer
	for _, x := range []struct {
		out *bytes.Buffer
		dir string
		rev string
	}{{&head, s.dir, "HEAD"}, {&base, s.bare, "main"}} {
		if code, err := s.run(ctx, s.dir, x.out, "git", "-C", x.dir, "rev-parse", x.rev); err != nil || code != 0 {
			return fmt.Errorf("git rev-parse %s in %s: exit code %d, %w", x.rev, x.dir, code, err)
		}
	}
	if got := head.String() == base.String(); got != want {
		return fmt.Errorf("the base is at %s and the branch at %s", strings.TrimSpace(base.String()), strings.TrimSpace(head.String()))
	}
	return nil
}

// enter starts a task and goes to its work tree.
func (s *stage) enter(ctx context.Context, topic string) error {
	s.dir = s.home
	s.prompt(`cd "$(homelab work start ` + topic + `)"`)
	var out bytes.Buffer
	code, err := s.run(ctx, s.dir, &out, "sh", "-c", "exec homelab work start "+topic)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, out.String())
	}
	if err != nil {
		return fmt.Errorf("homelab work start %s: %w", topic, err)
	}
	s.dir = strings.TrimSpace(out.String())
	if want := filepath.Join(s.home, ".worktrees", topic); s.dir != want {
		return fmt.Errorf("homelab work start %s printed %q, not %s alone", topic, out.String(), want)
	}
	return nil
}

// otherLands begins a landing from another clone and returns once it verifies,
// with a func that waits for its end and returns its result.
func (s *stage) otherLands(ctx context.Context) (func() (string, error), error) {
	if err := os.WriteFile(filepath.Join(s.other, "README"), []byte("Prices.\n"), 0o600); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"fetch", "-q", s.bare, "main"},
		{"checkout", "-q", "-b", "bob/readme", "FETCH_HEAD"},
		{"add", "README"},
		{"commit", "-q", "-m", "Say what it is"},
	} {
		if err := s.quietly(ctx, s.other, args...); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	var code int
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		code, failed = s.run(ctx, s.other, &out, "sh", "-c", "exec homelab work land --no-ci-watch --quiet")
	}()
	begun := func() bool { // its end counts too: it is told later
		select {
		case <-done:
			return true
		default:
		}
		files, err := filepath.Glob(filepath.Join(s.other, ".git", "homelab", "land", "*", "verify.log"))
		return err == nil && len(files) > 0
	}
	if !until(ctx, begun) {
		<-done
		return nil, context.Cause(ctx)
	}
	const lead = 600 * time.Millisecond // so that it also pushes first
	select {
	case <-ctx.Done():
	case <-time.After(lead):
	}
	return func() (string, error) {
		<-done
		if failed == nil && (code != 0 || !strings.HasPrefix(out.String(), "landed ")) {
			failed = fmt.Errorf("the other landing: exit code %d: %s", code, out.String())
		}
		return strings.TrimSpace(out.String()), failed
	}, nil
}

// status asks for the newest commit's verdict behind the scenes.
func (s *stage) status(ctx context.Context, want int) (status, error) {
	var st status
	code, out, err := s.ask(ctx, &st, "ci status --json")
	if err == nil && (code != want || st.ExitCode != want) {
		err = fmt.Errorf("ci status --json: exit code %d, exit_code %d, not %d: %s", code, st.ExitCode, want, out)
	}
	return st, err
}

// ask runs the program for its result alone.
func (s *stage) ask(ctx context.Context, result any, line string) (code int, text string, err error) {
	var out bytes.Buffer
	if code, err = s.run(ctx, s.dir, &out, "sh", "-c", "exec homelab "+line+" 2>/dev/null"); err != nil {
		return 0, "", err
	}
	if err := json.Unmarshal(out.Bytes(), result); err != nil {
		return 0, "", fmt.Errorf("%s: %w in %q", line, err, out.String())
	}
	return code, out.String(), nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// pipelineFile takes the name under which the image is pushed.
const pipelineFile = `steps:
  - name: build
    commands:
      - sh -n price.sh
      - sleep 1
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

// priceFile takes the comparison with ten.
const priceFile = `# price COUNT CENTS: the total, ten per cent less from ten pieces on.
total=$(($1 * $2))
if [ "$1" %s 10 ]; then total=$((total * 90 / 100)); fi
echo "$total"
`

const testFile = `failed=0
check() {
  got=$(sh price.sh "$1" "$2")
  if [ "$got" = "$3" ]; then
    echo "ok    $1 x $2 = $3"
  else
    echo "FAIL  $1 x $2: got $got, want $3"
    failed=3
  fi
  sleep 1
}
check 1 250 250
check 9 100 900
check 10 100 900
exit $failed
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

// green commits something right and watches it.
func green(ctx context.Context, s *stage) error {
	for name, content := range map[string]string{
		".woodpecker.yml": fmt.Sprintf(pipelineFile, "web"), "test.sh": testFile, "price.sh": fmt.Sprintf(priceFile, "-ge"),
	} {
		if err := s.write(name, content); err != nil {
			return err
		}
	}
	if err := s.quietly(ctx, s.dir, "git", "add", "."); err != nil {
		return err
	}
	if _, err := s.show(ctx, 0, "git commit -q -m 'Discount from ten pieces on'"); err != nil {
		return err
	}
	if _, err := s.show(ctx, 0, "git push -q -u origin main"); err != nil {
		return err
	}
	seen, err := s.show(ctx, 0, "homelab ci watch")
	if err != nil {
		return err
	}
	if err := s.saw(seen, "trouble: ", " recovered", "success: "+repoName+" #1 "); err != nil {
		return err
	}
	if err := s.tally(); err != nil {
		return err
	}
	st, err := s.status(ctx, 0)
	if err != nil {
		return err
	}
	if st.Verdict != "success" || st.Next != nil || len(st.Failed) > 0 {
		return fmt.Errorf("the green pipeline's status: %+v", st)
	}
	return nil
}

// red commits a mistake, watches it and types what it is told to.
func red(ctx context.Context, s *stage) error {
	if err := s.write("price.sh", fmt.Sprintf(priceFile, "-gt")); err != nil {
		return err
	}
	if _, err := s.show(ctx, 0, "git commit -q -a -m 'Discount above ten pieces only'"); err != nil {
		return err
	}
	if _, err := s.show(ctx, 0, "git push -q"); err != nil {
		return err
	}
	seen, err := s.show(ctx, 1, "homelab ci watch")
	if err != nil {
		return err
	}
	const mistake = "FAIL  10 x 100: got 1000, want 900"
	if err := s.saw(seen, mistake, "failure: "+repoName+" #2 ", "exited with 3", "next: homelab ci logs "); err != nil {
		return err
	}
	if err := s.tally(); err != nil {
		return err
	}
	st, err := s.status(ctx, 1)
	if err != nil {
		return err
	}
	if st.Verdict != "failure" || st.Next == nil || len(st.Failed) != 1 || st.Failed[0].Step != "test" || st.Failed[0].ExitCode != 3 {
		return fmt.Errorf("the red pipeline's status: %+v", st)
	}
	s.say("\nThe next command, as it was printed:")
	if seen, err = s.show(ctx, 0, *st.Next); err != nil {
		return err
	}
	if err := s.saw(seen, "ok    9 x 100 = 900", mistake); err != nil {
		return err
	}
	s.say("\nFor scripts, one object on stdout:")
	seen, err = s.show(ctx, 0, `homelab ci status --json | cut -c 1-200`)
	if err != nil {
		return err
	}
	return s.saw(seen, "ci.status", `"exit_code"`)
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

// deployed follows the green commit into the cluster.
func deployed(ctx context.Context, s *stage) error {
	s.say("The pipeline has pushed an image with the commit as its tag, and something in the\ncluster will move it. Until then the old rollout is complete, which says nothing:")
	seen, err := s.show(ctx, 0, "homelab deploy wait "+workload)
	if err != nil {
		return err
	}
	if err := s.saw(seen, " image ", oldImage, " rollout ", " settle ", "ready: "+workload+" runs "); err != nil {
		return err
	}
	w, err := s.waited(ctx, 0)
	if err != nil {
		return err
	}
	if t := w.Targets[0]; w.Verdict != "ready" || t.MatchedBy != "tag" || !t.Verified || t.Phase != "done" || t.Cause != nil {
		return fmt.Errorf("the finished rollout: %+v", w)
	}
	return nil
}

// unpulled deploys an image that was pushed under another name.
func unpulled(ctx context.Context, s *stage) error {
	for name, content := range map[string]string{
		".woodpecker.yml": fmt.Sprintf(pipelineFile, "wbe"), "price.sh": fmt.Sprintf(priceFile, "-ge"),
	} {
		if err := s.write(name, content); err != nil {
			return err
		}
	}
	if _, err := s.show(ctx, 0, "git commit -q -a -m 'Discount from ten pieces on again; shorter names'"); err != nil {
		return err
	}
	if _, err := s.show(ctx, 0, "git push -q"); err != nil {
		return err
	}
	seen, err := s.show(ctx, 0, "homelab ci watch --quiet")
	if err != nil {
		return err
	}
	if err := s.saw(seen, "success: "+repoName+" #3 "); err != nil {
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

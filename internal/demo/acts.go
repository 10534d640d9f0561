package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

const pipelineFile = `steps:
  - name: build
    commands:
      - sh -n price.sh
      - sleep 2
  - name: test
    commands:
      - sh test.sh
  - name: pack
    commands:
      - mkdir dist && cp price.sh dist/price && ls -l dist
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
		".woodpecker.yml": pipelineFile, "test.sh": testFile, "price.sh": fmt.Sprintf(priceFile, "-ge"),
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
	var out bytes.Buffer
	var st status
	code, err := s.run(ctx, s.dir, &out, "sh", "-c", "exec homelab ci status --json 2>/dev/null")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(out.Bytes(), &st); err != nil {
		return st, fmt.Errorf("ci status --json: %w in %q", err, out.String())
	}
	if code != want || st.ExitCode != want {
		return st, fmt.Errorf("ci status --json: exit code %d, exit_code %d, not %d: %s", code, st.ExitCode, want, out.String())
	}
	return st, nil
}

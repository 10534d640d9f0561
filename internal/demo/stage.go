package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"homelab/internal/faultlb"
	"homelab/internal/kubesim"
	"homelab/internal/rig"
	"homelab/internal/woodsim"
)

const (
	repoName = "ada/app"
	token    = "demo-token" // the simulated server's only one
)

// stage is what the acts share.
type stage struct {
	out      *os.File
	unheard  error // nobody reads any more
	terminal bool
	env      []string
	home     string // the user's clone
	dir      string // where commands run
	other    string // somebody else's clone
	bare     string // where both push

	ci   *woodsim.Server
	lb   *faultlb.Balancer
	told faultlb.Stats // the balancer's, when it was last told

	cluster *kubesim.Sim
}

// setUp builds the stage; t takes it down.
func setUp(ctx context.Context, t *rig.T, bin string, seed uint64) (*stage, error) {
	out, err := rig.Stdout()
	if err != nil {
		return nil, err
	}
	s := &stage{out: out, terminal: isTerminal(out)}
	s.ci = woodsim.New(woodsim.Options{ForgeURL: "https://git.example.lan", Seed: seed})
	s.ci.AddUser(woodsim.User{Login: "ada", Token: token})
	repo := s.ci.AddRepo(woodsim.RepoOptions{FullName: repoName, Visibility: "private"})
	repo.Allow("ada", woodsim.Perm{Pull: true, Push: true})
	s.lb = faultlb.New(s.ci, faultlb.Options{})
	site := rig.Open(t, s.lb)

	s.env = append(site.Env(token), "USER=ada")
	for i, v := range s.env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			s.env[i] = "PATH=" + bin + string(os.PathListSeparator) + path
		}
	}
	if err := s.setUpClones(ctx, t, site); err != nil {
		return nil, err
	}
	tools, err := s.setUpCluster(t)
	if err != nil {
		return nil, err
	}
	runner, err := woodsim.NewRunner(repo, woodsim.RunnerOptions{Dir: t.TempDir(), Env: tools})
	if err != nil {
		return nil, err
	}
	t.Cleanup(runner.Close)
	if err := runner.Watch(s.bare); err != nil {
		return nil, err
	}
	s.breakAnswers(seed)
	return s, s.introduce(site)
}

// setUpClones makes a repository with a first commit and two people's clones.
func (s *stage) setUpClones(ctx context.Context, t *rig.T, site *rig.Site) error {
	forge := t.TempDir()
	s.bare = filepath.Join(forge, filepath.FromSlash(repoName)+".git")
	s.home, s.other = filepath.Join(site.Home, "app"), filepath.Join(t.TempDir(), "app")
	s.dir = s.home
	remote := "https://git.example.lan/" + repoName + ".git"
	for _, args := range [][]string{
		{"config", "--global", "user.name", "Ada"},
		{"config", "--global", "user.email", "ada@example.lan"},
		{"config", "--global", "url." + forge + "/.pushInsteadOf", "https://git.example.lan/"},
		{"init", "-q", "--bare", "-b", "main", s.bare},
		{"init", "-q", "-b", "main", s.home},
		{"init", "-q", "-b", "main", s.other},
		{"-C", s.home, "remote", "add", "origin", remote},
		{"-C", s.other, "remote", "add", "origin", remote},
		{"-C", s.other, "config", "user.name", "Bob"},
	} {
		if err := s.quietly(ctx, site.Home, args...); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		".woodpecker.yml": fmt.Sprintf(pipelineFile, "web"), ".homelab.yaml": rulesFile,
		"price.sh": plainPrice, "test.sh": fmt.Sprintf(testFile, "10 100 1000"),
	} {
		if err := s.write(name, content); err != nil {
			return err
		}
	}
	for name, content := range stackFiles() {
		if err := s.write(name, content); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"add", "."}, {"commit", "-q", "-m", "Prices"}, {"push", "-q", "-u", "origin", "main"}} {
		if err := s.quietly(ctx, s.home, args...); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) introduce(site *rig.Site) error {
	config, err := os.ReadFile(site.Config())
	if err != nil {
		return err
	}
	s.say("A simulated Woodpecker stands behind TLS as " + rig.Host + ", a name no DNS knows:")
	s.prompt("cat ~/.config/homelab/config.yaml")
	s.say(strings.TrimRight(string(config), "\n"))
	s.say("\nA clone of a real repository says what a change has to pass:")
	s.prompt("cat .homelab.yaml")
	s.say(strings.TrimRight(rulesFile, "\n"))
	return nil
}

// calls are the kinds of requests whose answers are broken, each with what its
// first answers meet; what follows is drawn.
func calls() []struct {
	match func(*http.Request) bool
	first []faultlb.Kind
} {
	contains := func(part string) func(*http.Request) bool { return faultlb.Match("GET", part) }
	list := func(r *http.Request) bool { return r.Method == "GET" && strings.HasSuffix(r.URL.Path, "/pipelines") }
	return []struct {
		match func(*http.Request) bool
		first []faultlb.Kind
	}{
		{contains("/lookup/"), []faultlb.Kind{faultlb.Empty502, faultlb.ResetBefore, faultlb.None}},
		{contains("/api/user"), []faultlb.Kind{faultlb.Empty401, faultlb.None}},
		{list, []faultlb.Kind{faultlb.HTML, faultlb.None}},
		{contains("/pipelines/"), []faultlb.Kind{faultlb.None, faultlb.Empty404, faultlb.Cut, faultlb.None}},
		{contains("/logs/"), []faultlb.Kind{faultlb.Empty503, faultlb.None}},
	}
}

// breakAnswers lets about every second answer be broken, at most two in a row
// for the same kind of request. Which ones depends on the seed alone: the n-th
// answer to a kind of request meets the same in every run.
func (s *stage) breakAnswers(seed uint64) {
	kinds := []faultlb.Kind{
		faultlb.ResetBefore, faultlb.ResetAfter, faultlb.Cut, faultlb.HTML, faultlb.Empty200, faultlb.Empty401,
		faultlb.Empty404, faultlb.Empty500, faultlb.Empty502, faultlb.Empty503,
	}
	dice := rand.New(rand.NewPCG(seed, 3))
	for _, c := range calls() {
		plan := slices.Clone(c.first)
		for row := 0; len(plan) < 200; {
			k := faultlb.None
			if row++; row <= 2 && dice.Float64() < 0.6 {
				k = kinds[dice.IntN(len(kinds))]
			} else {
				row = 0
			}
			plan = append(plan, k)
		}
		for _, k := range plan {
			s.lb.NextMatch(1, k, c.match)
		}
	}
}

// tally tells what the balancer has done since the last time, and fails if it
// did nothing.
func (s *stage) tally() error {
	now := s.lb.Stats()
	var words []string
	broken := 0
	for _, k := range faultlb.All() {
		if n := now.Faults[k] - s.told.Faults[k]; n > 0 {
			broken += n
			words = append(words, fmt.Sprintf("%s %d", k, n))
		}
	}
	s.say(fmt.Sprintf("(the balancer broke %d of %d answers: %s)", broken, now.Requests-s.told.Requests, strings.Join(words, ", ")))
	s.told = now
	if broken == 0 {
		return errors.New("no answer was broken, so nothing was shown")
	}
	return nil
}

func (s *stage) say(text string) {
	if _, err := fmt.Fprintln(s.out, text); err != nil && s.unheard == nil {
		s.unheard = err
	}
}

func (s *stage) title(text string) { s.say("\n" + s.style("1", "== "+text)) }

func (s *stage) prompt(command string) { s.say(s.style("1", "$ "+command)) }

func (s *stage) style(code, text string) string {
	if !s.terminal || slices.ContainsFunc(s.env, func(v string) bool { return strings.HasPrefix(v, "NO_COLOR=") }) {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// write puts a file into the clone.
func (s *stage) write(name, content string) error {
	file := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(content), 0o600)
}

// show runs a command line in the clone as a user would: it is printed first,
// its exit code last. Away from a terminal what it printed is returned, too.
func (s *stage) show(ctx context.Context, want int, line string) (string, error) {
	s.prompt(line)
	if s.unheard != nil {
		return "", s.unheard
	}
	var seen bytes.Buffer
	var out io.Writer = s.out
	if !s.terminal {
		out = io.MultiWriter(s.out, &seen)
	}
	code, err := s.run(ctx, s.dir, out, "sh", "-c", "exec "+line)
	if err != nil {
		return "", fmt.Errorf("%s: %w", line, err)
	}
	s.say(s.style("2", fmt.Sprintf("[exit code %d]", code)))
	if code != want {
		return "", fmt.Errorf("%s: exit code %d, not %d", line, code, want)
	}
	return seen.String(), nil
}

// quietly runs git where nobody needs to see it.
func (s *stage) quietly(ctx context.Context, dir string, args ...string) error {
	var out bytes.Buffer
	code, err := s.run(ctx, dir, &out, "git", args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, strings.TrimSpace(out.String()))
	}
	if err != nil {
		return fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// run starts a process and waits for it. When ctx ends, the process is asked
// to end as well and has five seconds for it.
func (s *stage) run(ctx context.Context, dir string, out io.Writer, name string, args ...string) (int, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, s.env, out, out
	cmd.WaitDelay = 5 * time.Second
	cmd.Cancel = func() error {
		// Ctrl-C has reached it already, and a second signal would end it at once.
		time.AfterFunc(time.Second, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
		return nil
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

package ci

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

const runKind = "ci.run"

func newRun(d Deps) *cobra.Command {
	o := &actOptions{kind: runKind}
	o.Deps = d
	c := verb.New(verb.Spec{
		Use: "run [BRANCH]", Short: "Start a manual pipeline of a branch",
		Long: `Start a manual pipeline of a branch (default: the upstream of the current one),
at the head that the forge knows. A local commit that was not pushed is not in
it; then a note says so.`,
		Example: `  homelab ci run
  homelab ci run main --watch`,
		Tier: verb.Write, Kind: runKind, Codes: actEnds(), Args: verb.AtMost(1),
	}, func(c *cobra.Command, args []string) error {
		o.arg = verb.Arg(args, 0, "")
		named := o.arg != ""
		return o.run(c, func(ctx context.Context, s *session, tell *teller) (done, error) {
			made, err := pipeline.StartBranch(ctx, s.conn.Client, s.target.Repo.ID, o.arg)
			if err != nil {
				return done{}, err
			}
			if head := localHead(ctx, s, o.arg, named); head != "" && head != made.Commit {
				tell.note(fmt.Sprintf("the server runs %s; here %s is at %s", pipeline.Short(made.Commit), ui.Clean(o.arg), pipeline.Short(head)))
			}
			return done{made, verdictDone, fmt.Sprintf("#%d started for %s at %s", made.Number, made.Branch, pipeline.Short(made.Commit))}, nil
		})
	})
	o.flags(c)
	return c
}

// branchFor returns the branch that is meant: the given one, else the upstream
// of the current one.
func branchFor(ctx context.Context, repo *git.Repo, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	const next = "homelab ci run main"
	if repo == nil {
		return "", fault.Usagef(next, "no branch: this is no git checkout").Because("name the branch, and the repository with --repo")
	}
	_, branch, ok, err := repo.Upstream(ctx)
	if err != nil {
		return "", fmt.Errorf("upstream: %w", err)
	}
	if ok {
		return branch, nil
	}
	if name, on, err := repo.CurrentBranch(ctx); err == nil && on {
		return "", fault.Usagef("git push -u origin "+ui.Quote(name), "the branch %s has no upstream", ui.Clean(name)).Because("push it, or name a branch")
	}
	return "", fault.Usagef(next, "no branch: HEAD is detached").Because("name the branch")
}

// localHead returns the commit this checkout has for the branch that was
// started; "" when it does not know it.
func localHead(ctx context.Context, s *session, branch string, named bool) string {
	repo, ok := s.target.Local.(*git.Repo)
	if !ok || repo == nil {
		return ""
	}
	rev := "HEAD"
	if named {
		rev = "refs/heads/" + branch
	}
	c, err := repo.Resolve(ctx, rev)
	if err != nil {
		return ""
	}
	return string(c)
}

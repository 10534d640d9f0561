package deploy

import (
	"context"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
	"homelab/verbs/verb/workload"
)

// expectation is what the flags say should run.
type expectation struct {
	sha, image, digest string
	shaGiven           bool
	noGate             bool
	changed            bool // --changed-since is a gate of its own
}

// resolve turns the flags into what is expected, with the warnings that
// belong to it. Outside a checkout nothing is ever skipped silently: without a
// commit to look for, that must have been said.
func (e expectation) resolve(ctx context.Context, repo *git.Repo, help string) (rollout.Expected, []string, error) {
	want := rollout.Expected{Image: e.image, Digest: strings.ToLower(e.digest)}
	var warnings []string
	switch {
	case e.noGate && (e.shaGiven || e.image != "" || e.digest != "" || e.changed):
		return want, nil, fault.Usagef(help, "--no-image-gate contradicts --sha, --image, --digest and --changed-since")
	case e.noGate:
		return rollout.Expected{}, nil, nil
	case e.shaGiven:
		w, err := workload.Commit(ctx, repo, e.sha, &want, help)
		if w != "" {
			warnings = append(warnings, w)
		}
		return want, warnings, err
	case e.image != "" || e.digest != "" || e.changed:
		return want, nil, nil
	case repo == nil:
		return want, nil, fault.Usagef(help, "no commit to wait for: this is no git checkout, and --sha is not given").
			Because("name it with --sha, --image or --digest; --no-image-gate waits for whatever rolls out")
	}
	head, err := repo.Resolve(ctx, "HEAD")
	if err != nil {
		return want, nil, fault.New(fault.Usage, "no commit to wait for: "+ui.Clean(err.Error()), help).From(err)
	}
	want.Commit, want.Head = string(head), true
	return want, nil, nil
}

package deploy

import (
	"context"
	"errors"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
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
		if err := checkSHA(e.sha, help); err != nil {
			return want, nil, err
		}
		w, err := named(ctx, repo, e.sha, &want, help)
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

// named reads --sha: a commit by its digits, an expression git resolves, or
// the text of a build.
func named(ctx context.Context, repo *git.Repo, sha string, want *rollout.Expected, help string) (warning string, err error) {
	if isHex(sha) && len(sha) <= 64 {
		want.Commit, want.Typed = strings.ToLower(sha), len(sha)
		if len(sha) < 7 {
			warning = "--sha " + sha + " is short: a tag of another commit may begin like it"
		}
		if repo == nil {
			return warning, nil
		}
		full, err := repo.Resolve(ctx, sha)
		var ambiguous *git.AmbiguousError
		switch {
		case errors.As(err, &ambiguous):
			return "", fault.Usagef(help, "%s", ui.Clean(err.Error())).From(err)
		case err == nil && strings.HasPrefix(string(full), want.Commit):
			want.Commit = string(full)
		}
		return warning, nil // unknown here: this is often not the application's checkout
	}
	if repo != nil {
		c, err := repo.Resolve(ctx, sha)
		var ambiguous *git.AmbiguousError
		switch {
		case errors.As(err, &ambiguous):
			return "", fault.Usagef(help, "%s", ui.Clean(err.Error())).From(err)
		case err == nil:
			want.Commit = string(c)
			if isTag(ctx, repo, sha) {
				want.Build = sha // the tag's commit, or an image tagged like it
			}
			return "", nil
		}
	}
	want.Build = sha
	return "", nil
}

func isTag(ctx context.Context, repo *git.Repo, name string) bool {
	_, err := repo.Resolve(ctx, "refs/tags/"+name)
	return err == nil
}

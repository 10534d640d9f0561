package workload

import (
	"context"
	"errors"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
)

// Commit reads --sha into want: a commit by its digits, an expression git
// resolves in repo, or the text of a build. Outside of a checkout repo is nil.
// The error is of kind Usage; help is its next command.
func Commit(ctx context.Context, repo *git.Repo, sha string, want *rollout.Expected, help string) (warning string, err error) {
	if err := checkSHA(sha, help); err != nil {
		return "", err
	}
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

// checkSHA refuses a --sha that cannot be one, in words that say what was
// probably meant.
func checkSHA(sha, help string) error {
	switch {
	case strings.TrimSpace(sha) == "":
		return fault.Usagef(help, "--sha is blank").Because("a variable that is not set? the gate is never skipped silently; --no-image-gate skips it")
	case strings.ContainsAny(sha, " \t\r\n"):
		return fault.Usagef(help, "--sha %q has a space in it", sha)
	case strings.ContainsAny(sha, ":"):
		return fault.Usagef(help, "--sha %s is no commit", ui.Clean(sha)).Because("a digest belongs in --digest, an image in --image")
	case strings.Contains(sha, "/"):
		return fault.Usagef(help, "--sha %s is no commit", ui.Clean(sha)).Because("an image reference belongs in --image")
	case isHex(sha) && len(sha) < 4:
		return fault.Usagef(help, "--sha %s is too short: at least 4 digits", sha)
	}
	return nil
}

func isHex(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}

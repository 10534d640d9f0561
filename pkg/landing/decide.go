package landing

import (
	"path"
	"slices"
	"strings"

	"homelab/pkg/git"
)

// firstParents says whether base is on head's first-parent chain, given the
// commits that head has and base has not. Being an ancestor is not enough:
// after "git merge origin/main" on a branch, the branch's own side comes first
// in head, and pushing that would hide what others landed from
// git log --first-parent, and make "git revert -m 1" undo their work.
func firstParents(list []git.Entry, base, head git.Commit) bool {
	first := make(map[git.Commit]git.Commit, len(list))
	for _, e := range list {
		first[e.Commit] = ""
		if len(e.Parents) > 0 {
			first[e.Commit] = e.Parents[0]
		}
	}
	for at := head; ; {
		parent, ours := first[at]
		if !ours {
			return at == base && head != base
		}
		at = parent
	}
}

// unfinished returns the subjects that ask to be squashed into another commit.
func unfinished(list []git.Entry) []string {
	var out []string
	for _, e := range list {
		for _, p := range []string{"fixup! ", "squash! ", "amend! "} {
			if strings.HasPrefix(e.Subject, p) {
				out = append(out, e.Subject)
			}
		}
	}
	return out
}

// remotes is what is known when the landing remote is chosen.
type remotes struct {
	flag       string
	task       string
	file       string // what the cached default branch's file names
	ofBase     string // branch.BASE.remote, if the base is known already
	preferred  string // checkout.defaultRemote
	configured []string
	same       func(a, b string) bool // whether two remotes are one repository
}

// chooseRemote returns the landing remote. Without an answer, left are those
// it could be. A remote's name means nothing.
func chooseRemote(r remotes) (name, why string, left []string) {
	for _, c := range []struct{ name, why string }{
		{r.flag, "--remote"},
		{r.task, "the task"},
		{r.file, "the configuration file"},
		{r.ofBase, "the base's own remote"},
		{r.preferred, "checkout.defaultRemote"},
	} {
		if c.name != "" {
			return c.name, c.why, nil
		}
	}
	var distinct []string
	for _, n := range r.configured {
		if !slices.ContainsFunc(distinct, func(d string) bool { return r.same(d, n) }) {
			distinct = append(distinct, n)
		}
	}
	if len(distinct) == 1 {
		return distinct[0], "the only remote", nil
	}
	return "", "", distinct
}

// sameURL compares two URLs of remotes: scheme, user, port and ".git" are no
// difference.
func sameURL(a, b string) bool {
	if a == b {
		return true
	}
	ra, errA := git.ParseRemote(a)
	rb, errB := git.ParseRemote(b)
	if errA != nil || errB != nil {
		return strings.TrimSuffix(strings.TrimSuffix(a, "/"), ".git") == strings.TrimSuffix(strings.TrimSuffix(b, "/"), ".git")
	}
	return ra.Host == rb.Host && strings.EqualFold(ra.Path, rb.Path)
}

// matches says whether one of globs matches name; ** stands for any number of
// directories. No globs match everything.
func matches(globs []string, name string) bool {
	if len(globs) == 0 {
		return true
	}
	return slices.ContainsFunc(globs, func(g string) bool {
		return glob(strings.Split(path.Clean(g), "/"), strings.Split(name, "/"))
	})
}

func glob(pattern, name []string) bool {
	switch {
	case len(pattern) == 0:
		return len(name) == 0
	case pattern[0] == "**":
		if len(pattern) == 1 {
			return len(name) > 0
		}
		for i := range name {
			if glob(pattern[1:], name[i:]) {
				return true
			}
		}
		return false
	case len(name) == 0:
		return false
	}
	ok, err := path.Match(pattern[0], name[0])
	return err == nil && ok && glob(pattern[1:], name[1:])
}

// selected returns the commands that the changed paths make necessary.
func selected(all []Command, changed []string) []Command {
	var out []Command
	for _, c := range all {
		if len(c.Paths) == 0 || slices.ContainsFunc(changed, func(p string) bool { return matches(c.Paths, p) }) {
			out = append(out, c)
		}
	}
	return out
}

// named is how a list of commands is shown.
func named(commands []Command) string {
	var out []string
	for _, c := range commands {
		s := strings.Join(strings.Fields(c.Run), " ")
		if c.Dir != "" {
			s += " (" + c.Dir + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

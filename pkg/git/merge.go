package git

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Merge is a merge computed beside the work tree.
type Merge struct {
	Tree      string   // its tree, with conflict marks in it unless Clean
	Clean     bool     // nothing conflicted
	Conflicts []string // paths, each once
	Messages  string   // git's words about each path
}

// MergeTree merges two commits without touching a file, the index or a ref.
// It runs at the top of the work tree, where merge drivers and merge=union are
// read from .gitattributes: elsewhere the same merge could conflict. The error
// is ErrUnrelated, or git's.
func (r *Repo) MergeTree(ctx context.Context, ours, theirs Commit) (Merge, error) {
	cmd := r.Objects("merge-tree", "--write-tree", "-z", "--name-only", "--messages", string(ours), string(theirs))
	cmd.MaxOutput = 256 << 20 // each file that both sides changed has a line
	res, err := Run(ctx, cmd)
	if failed, ended := errors.AsType[*CommandError](err); ended {
		if strings.Contains(failed.Stderr, "refusing to merge unrelated histories") {
			return Merge{}, ErrUnrelated
		}
		if failed.ExitCode == 1 && len(res.Stdout) > 0 {
			return parseMerge(string(res.Stdout), false)
		}
	}
	if err != nil {
		return Merge{}, err
	}
	return parseMerge(string(res.Stdout), true)
}

func parseMerge(out string, clean bool) (Merge, error) {
	fields := strings.Split(out, "\x00")
	m := Merge{Tree: fields[0], Clean: clean}
	if _, err := ParseCommit(m.Tree); err != nil {
		return Merge{}, fmt.Errorf("merge-tree answered %.60q: %w", out, err)
	}
	fields = fields[1:]
	for len(fields) > 0 && fields[0] != "" && !clean {
		m.Conflicts = append(m.Conflicts, fields[0])
		fields = fields[1:]
	}
	// What follows the empty field: number of paths, paths, kind, text.
	if len(fields) > 0 {
		fields = fields[1:]
	}
	for len(fields) > 2 {
		n, err := strconv.Atoi(fields[0])
		if err != nil {
			return m, fmt.Errorf("merge-tree answered %.60q for messages: %w", fields[0], err)
		}
		if n < 0 || len(fields) < n+3 {
			break
		}
		m.Messages += fields[n+2]
		fields = fields[n+3:]
	}
	return m, nil
}

// NewCommit is a commit to be made from a tree.
type NewCommit struct {
	Tree    string
	Parents []Commit
	Message string // UTF-8
	Sign    bool   // commit-tree does not look at commit.gpgSign itself
}

// signLimit bounds a signing program that may wait for a person.
const signLimit = time.Minute

var errSignTime = errors.New("it took too long; does it ask for a passphrase?")

// CommitTree makes a commit object. No ref moves and no hook runs. The error
// is ErrSign, wrapped with the signing program's words, or git's.
func (r *Repo) CommitTree(ctx context.Context, n NewCommit) (Commit, error) {
	args := []string{"-c", "i18n.commitEncoding=UTF-8", "commit-tree", n.Tree}
	for _, p := range n.Parents {
		args = append(args, "-p", string(p))
	}
	if n.Sign {
		args = append(args, "-S")
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, signLimit, errSignTime)
		defer cancel()
	}
	cmd := r.Objects(append(args, "-F", "-")...)
	cmd.Stdin = strings.NewReader(n.Message)
	res, err := Run(ctx, cmd)
	if failed, ended := errors.AsType[*CommandError](err); n.Sign && ended {
		return "", fmt.Errorf("%w: %s", ErrSign, failed.Why())
	} else if n.Sign && errors.Is(err, errSignTime) {
		return "", fmt.Errorf("%w: %w", ErrSign, errSignTime)
	} else if err != nil {
		return "", err
	}
	return ParseCommit(strings.TrimSpace(string(res.Stdout)))
}

// Objects returns the command "git args" for work on objects: replace refs are
// not followed, but in a partial clone missing objects are fetched.
func (r *Repo) Objects(args ...string) Command {
	c := r.Network(args...)
	c.Env = append(c.Env, "GIT_NO_REPLACE_OBJECTS=1")
	return c
}

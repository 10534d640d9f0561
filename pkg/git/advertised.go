package git

import (
	"bufio"
	"bytes"
	"context"
	"strings"
	"time"
)

const advertiseWithin = 30 * time.Second // for one remote to answer

// AdvertisedTips asks every remote for its branches and tags and returns the
// commits they point at, annotated tags peeled. An error of any remote is
// returned: what one of them has is unknown then.
// Source: git ls-remote --heads --tags.
func (r *Repo) AdvertisedTips(ctx context.Context) ([]Commit, error) {
	names, err := r.Remotes(ctx)
	if err != nil {
		return nil, err
	}
	var tips []Commit
	for _, name := range names {
		bounded, cancel := context.WithTimeout(ctx, advertiseWithin)
		out, err := Run(bounded, r.Network("ls-remote", "--heads", "--tags", "--", name))
		cancel()
		if err != nil {
			return nil, err
		}
		tips = append(tips, parseTips(out.Stdout)...)
	}
	return tips, nil
}

// parseTips reads ls-remote's lines. A peeled tag (NAME^{}) replaces the tag
// object, which is no commit.
func parseTips(text []byte) []Commit {
	byRef := map[string]Commit{}
	var order []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		hash, ref, ok := strings.Cut(lines.Text(), "\t")
		c, err := ParseCommit(hash)
		if !ok || err != nil {
			continue
		}
		ref = strings.TrimSuffix(ref, "^{}")
		if _, known := byRef[ref]; !known {
			order = append(order, ref)
		}
		byRef[ref] = c
	}
	tips := make([]Commit, len(order))
	for i, ref := range order {
		tips[i] = byRef[ref]
	}
	return tips
}

package pipeline

import (
	"context"

	"homelab/pkg/woodpecker"
)

// Lister reads lists. *woodpecker.Client is one.
type Lister interface {
	Pipelines(ctx context.Context, id woodpecker.RepoID, o woodpecker.ListOptions) ([]woodpecker.Pipeline, error)
}

// Newest returns a page of a repository's rows, newest first, their texts
// cleaned for output.
func Newest(ctx context.Context, src Lister, repo woodpecker.RepoID, o woodpecker.ListOptions) ([]woodpecker.Pipeline, error) {
	rows, err := src.Pipelines(ctx, repo, o)
	for i, r := range rows {
		rows[i] = cleaned(r)
	}
	return rows, err
}

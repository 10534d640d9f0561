package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"homelab/pkg/artifact/share"
	"homelab/pkg/woodpecker"
)

// together is a server that several watches of a process ask.
type together struct {
	Server
	host *share.Host
	key  string
}

// Together returns s for the watches of a process that share host. Questions
// through servers with the same key are the same ones; "": not shared.
func Together(s Server, host *share.Host, key string) Server { return together{s, host, key} }

func (t together) question(format string, a ...any) string {
	if t.key == "" {
		return ""
	}
	return t.key + "\n" + fmt.Sprintf(format, a...)
}

// Lookup implements Server.
func (t together) Lookup(ctx context.Context, fullName string) (woodpecker.Repo, error) {
	return share.Ask(ctx, t.host, t.question("repository %s", fullName), limited, func(ctx context.Context) (woodpecker.Repo, error) {
		return t.Server.Lookup(ctx, fullName)
	})
}

// Pipelines implements Server. Each caller gets rows of its own.
func (t together) Pipelines(ctx context.Context, id woodpecker.RepoID, o woodpecker.ListOptions) ([]woodpecker.Pipeline, error) {
	rows, err := share.Ask(ctx, t.host, t.question("pipelines %v %+v", id, o), limited, func(ctx context.Context) ([]woodpecker.Pipeline, error) {
		return t.Server.Pipelines(ctx, id, o)
	})
	return slices.Clone(rows), err
}

// Pipeline implements Server.
func (t together) Pipeline(ctx context.Context, id woodpecker.RepoID, number int64) (woodpecker.Pipeline, error) {
	return share.Ask(ctx, t.host, t.question("pipeline %v %d", id, number), limited, func(ctx context.Context) (woodpecker.Pipeline, error) {
		return t.Server.Pipeline(ctx, id, number)
	})
}

// limited says whether err is of a server that counts requests.
func limited(err error) (time.Duration, bool) {
	api, ok := errors.AsType[*woodpecker.APIError](err)
	if !ok || api.Status != http.StatusTooManyRequests {
		return 0, false
	}
	return api.RetryAfter, true
}

package image

import (
	"context"
	"errors"
	"time"

	"homelab/pkg/artifact/share"
	"homelab/pkg/registry"
)

// together is a registry that several watches of a process ask.
type together struct {
	next Registry
	host *share.Host
	key  string
}

// Together returns r for the watches of a process that share host. Questions
// through registries with the same key are the same ones; "": not shared.
func Together(r Registry, host *share.Host, key string) Registry { return together{r, host, key} }

func (t together) question(what, ref string) string {
	if t.key == "" {
		return ""
	}
	return t.key + "\n" + what + " " + ref
}

// Tag implements Registry.
func (t together) Tag(ctx context.Context, ref string) (string, error) {
	return share.Ask(ctx, t.host, t.question("tag", ref), limited, func(ctx context.Context) (string, error) {
		return t.next.Tag(ctx, ref)
	})
}

// Resolve implements Registry.
func (t together) Resolve(ctx context.Context, ref string) (registry.Image, error) {
	type found struct {
		image registry.Image
		err   error
	}
	// What was found is told beside an error, too.
	f, err := share.Ask(ctx, t.host, t.question("resolve", ref), limited, func(ctx context.Context) (found, error) {
		i, err := t.next.Resolve(ctx, ref)
		if _, yes := limited(err); yes {
			return found{}, err
		}
		return found{i, err}, nil
	})
	if err != nil {
		return registry.Image{}, err
	}
	return f.image, f.err
}

// limited says whether err is of a registry that counts requests.
func limited(err error) (time.Duration, bool) {
	l, ok := errors.AsType[*registry.LimitedError](err)
	if !ok {
		return 0, false
	}
	return l.After, true
}

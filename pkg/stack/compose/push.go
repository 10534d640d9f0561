package compose

import (
	"context"

	"homelab/pkg/fault"
)

// Tag gives an image of this machine another reference.
func (e *Engine) Tag(ctx context.Context, ref, as string) error {
	_, err := e.ask(ctx, ref+" cannot be tagged as "+as, "image", "tag", ref, as)
	return err
}

// Push brings an image of this machine to its registry, with docker's own
// login of the user. Denied when the registry refuses.
func (e *Engine) Push(ctx context.Context, ref string) error {
	_, err := e.run(ctx, 0, Call{}, nil, "image", "push", "--quiet", ref)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	f := e.fail(ref+" cannot be pushed", err)
	if f.Kind == fault.Denied {
		f.Next = "docker login " + Host(ref)
	}
	return f
}

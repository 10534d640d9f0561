// Package apply makes a cluster hold what a deployment was rendered to, and
// takes it away again. It decides what differs (Diff), what must not be touched
// (Guard, DeletePlan), in which order writes happen, and when an object of the
// deployment is left over (Prune). It knows nothing of compose files, git or
// kind; what makes a rollout good is left to pkg/rollout.
//
// A run is:
//
//	live, err := Read(ctx, c, scope)             // one LIST per kind, in parallel
//	err = live.Complete(ctx, c, desired)         // what is rendered and carries no label
//	conflicts, notices := Guard(live, desired, scope)
//	plan, err := Diff(ctx, c, live, desired, scope)
//	held, lease, err := Hold(ctx, c, plan, ...)  // only if plan.Writes() > 0
//	err = Apply(held, c, plan, o)                // then wait for the rollout
//	err = Prune(held, c, plan, o)                // only after success
//	err = lease.Release(ctx)
//
// Every write is idempotent and planned from what is live, never from a record
// of what was done before: a run that was killed between any two writes is
// finished by the next one.
//
// All objects are written by server-side apply as field manager "homelab".
// Objects made by clients that know only create and update belong to a manager
// of operation Update; what such a manager owns is handed over once, or fields
// that are no longer rendered would stay for ever.
package apply

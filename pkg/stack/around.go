package stack

import (
	"context"
	"fmt"
	"os"

	"homelab/pkg/fault"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
)

// judgeScripts says whether the commands of pods can be run, or tells that they
// are not. placed says that they are in the directory already.
func (r *run) judgeScripts(placed bool) error {
	all := directory.Scripts(r.d, "")
	switch {
	case len(all) == 0:
		return nil
	case r.o.NoHooks:
		for _, s := range all {
			r.notices([]file.Notice{{Code: "hook-skipped", Level: file.Ignored, File: s.Path, Message: s.Name + " is not run: --no-hooks"}})
		}
		return nil
	case r.w.Hooks == nil:
		return fault.Usagef("", "%s cannot be run here", all[0].Name).Because("--no-hooks goes on without it")
	case !placed: // judged where they come from
		return nil
	}
	return hook.CheckScripts(all)
}

// around runs the commands of pods that belong before a start, or after it: at
// every start and restart.
func (r *run) around(ctx context.Context, key string) error {
	if r.o.NoHooks || r.o.DryRun || r.w.Hooks == nil || r.o.Verb != "start" && r.o.Verb != "restart" {
		return nil
	}
	all := directory.Scripts(r.d, key)
	if len(all) == 0 {
		return nil
	}
	var config []byte
	if key == file.PostStart {
		var err error
		if config, err = r.kubeconfig(ctx); err != nil {
			return err
		}
	}
	for _, s := range all {
		// What the scripts of the older tool find in their environment.
		s.Set = append(s.Set, fmt.Sprintf("CERC_HOST_UID=%d", os.Getuid()), fmt.Sprintf("CERC_HOST_GID=%d", os.Getgid()))
		e := r.entry()
		e.Hook = s.Name
		if err := r.journal.Write(e); err != nil {
			return err
		}
		r.w.Tell.Line("running " + s.Name)
		if err := r.w.Hooks.RunScript(ctx, s, config); err != nil {
			if f, ok := err.(*fault.Error); ok && f.Next == "" { //nolint:errorlint // RunScript documents its type
				f.Next = "homelab deployment " + r.o.Verb + " --dir " + r.o.Dir
			}
			return err
		}
	}
	if key == file.PreStart {
		return r.journal.Clear() // nothing was begun yet
	}
	return r.journal.Write(r.entry())
}

// handOver is what follows once a stack is up, or applied when nobody waits.
func (r *run) handOver(ctx context.Context) error {
	if err := r.around(ctx, file.PostStart); err != nil {
		return err
	}
	return r.exchange(ctx)
}

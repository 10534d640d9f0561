// Package verb is what every verb shares: how it is declared (tier, result
// kind, exit codes), the flags all verbs or all networked ones have, and how
// arguments are checked. What is declared here is what "manifest" lists, so
// that a verb cannot exist without being described (ADR 0015).
package verb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
)

// Tier says what a verb may do to the world.
type Tier string

// The tiers. A read changes nothing but files of its own cache.
const (
	Read  Tier = "read"
	Write Tier = "write"
)

// Spec declares a verb.
type Spec struct {
	Use     string // "watch [COMMITISH|#N]"
	Short   string // one line, no period
	Long    string // the rest of the help; may be empty
	Example string // command lines, two spaces before each
	Tier    Tier
	Kind    string       // of its JSON result: "ci.watch"; "" when it has none
	Codes   []fault.Kind // how it can end, besides usage, bug and the signals, which all can
	Args    Args
	Hidden  bool
}

// Args checks positional arguments; the error says what is wrong in words.
type Args func(args []string) error

// NoArgs takes none.
func NoArgs(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("takes no arguments, got %q", args[0])
	}
	return nil
}

// AtMost takes up to n.
func AtMost(n int) Args {
	return func(args []string) error {
		if len(args) > n {
			return fmt.Errorf("takes at most %d argument(s), got %d: %s", n, len(args), strings.Join(args, " "))
		}
		return nil
	}
}

// Info is what is declared about a command beside cobra's own fields.
type Info struct {
	Tier  Tier         `json:"tier"`
	Kind  string       `json:"kind"`
	Codes []fault.Kind `json:"codes"`
}

const annotation = "homelab/info"

// New returns the command of s. run's error, and that of wrong arguments,
// reaches whoever executes the tree.
func New(s Spec, run func(c *cobra.Command, args []string) error) *cobra.Command {
	info, err := json.Marshal(Info{Tier: s.Tier, Kind: s.Kind, Codes: s.Codes})
	if err != nil {
		panic(err) // strings always encode
	}
	c := &cobra.Command{
		Use: s.Use, Short: s.Short, Long: s.Long, Example: s.Example, Hidden: s.Hidden,
		Annotations:           map[string]string{annotation: string(info)},
		DisableFlagsInUseLine: true,
		SilenceErrors:         true,
		SilenceUsage:          true,
		RunE:                  run,
	}
	if s.Long == "" {
		c.Long = s.Short + "."
	}
	check := s.Args
	if check == nil {
		check = NoArgs
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if slices.Contains(args, "") {
			// A script's unset variable must not come to mean the default.
			return fault.Usagef(c.CommandPath()+" --help", "%s: an argument is empty", c.CommandPath())
		}
		if err := check(args); err != nil {
			return fault.Usagef(c.CommandPath()+" --help", "%s %v", c.CommandPath(), err)
		}
		return nil
	}
	return c
}

// Group returns a command that only has subcommands.
func Group(use, short, long string) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: long,
		SilenceErrors: true, SilenceUsage: true, DisableFlagsInUseLine: true,
	}
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		e := fault.Usagef(c.CommandPath()+" --help", "%s has no verb %q", c.CommandPath(), args[0])
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			e.Next = c.CommandPath() + " " + near[0] + " --help"
			return e.Because("did you mean " + strings.Join(near, " or ") + "?")
		}
		return e
	}
	return c
}

// InfoOf returns what was declared about c; false for a group.
func InfoOf(c *cobra.Command) (Info, bool) {
	var i Info
	raw, ok := c.Annotations[annotation]
	return i, ok && json.Unmarshal([]byte(raw), &i) == nil
}

// Arg returns the i-th argument, or def when there is none.
func Arg(args []string, i int, def string) string {
	if i < len(args) {
		return args[i]
	}
	return def
}

// Bound puts --timeout into ctx: the whole call, requests included. 0 is none.
func Bound(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, timeout, fault.ErrTimeUp)
}

// Fault returns err as a *fault.Error, so that it can be told: an ended
// context's cause, an *fault.Error as it is, anything else a bug.
func Fault(err error) *fault.Error {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	return fault.New(fault.KindOf(err), err.Error(), "").From(err)
}

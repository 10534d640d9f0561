// Command demo plays the demonstration of scripts/demo: acts on a stage. The
// stage is a temporary folder with a user's home, a simulated Woodpecker behind
// TLS, a balancer that breaks answers by seed, a simulated cluster that a
// pipeline deploys to, and a shell that shows each
// command before and its exit code after. An act fails when it does not see
// what it came to show.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"homelab/internal/rig"
)

// act is one part of the demonstration.
type act struct {
	title string
	play  func(context.Context, *stage) error
}

// acts are played in this order, on one stage.
func acts() []act {
	return []act{
		{"Start a task, land it, see it run; every other answer of CI is broken", landed},
		{"The next one does not pass its verification: nothing is pushed", unverified},
		{"It is mended, and somebody else is faster: merged and verified again", raced},
		{"What only CI finds: it is on the base, and red", red},
		{"It is mended, and its image cannot be pulled", unpulled},
		{"Put away what has landed", tidied},
		{"A stack: from its compose file to the cluster, and on with the next commit", stacked},
	}
}

func main() {
	dir := flag.String("dir", "", "the folder with bin/homelab; it is removed in the end")
	seed := flag.Uint64("seed", 1, "decides which answers are broken")
	limit := flag.Duration("timeout", 2*time.Minute, "give up after this")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "run it with scripts/demo [-seed N]")
		os.Exit(64)
	}
	os.Exit(rig.Main(*dir, *limit, func(ctx context.Context, t *rig.T) error { return play(ctx, t, *dir, *seed) }))
}

func play(ctx context.Context, t *rig.T, dir string, seed uint64) error {
	began := time.Now()
	s, err := setUp(ctx, t, filepath.Join(dir, "bin"), seed)
	if err != nil {
		return err
	}
	for i, a := range acts() {
		s.title(fmt.Sprintf("%d. %s", i+1, a.title))
		if err := a.play(ctx, s); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("act %d (seed %d): %w", i+1, seed, err)
		}
	}
	s.title(fmt.Sprintf("All as it should be, after %.0f s. The same again: scripts/demo -seed %d", time.Since(began).Seconds(), seed))
	return nil
}

package deploy

import (
	"slices"
	"time"

	"github.com/spf13/pflag"

	"homelab/pkg/artifact/proof"
	"homelab/pkg/fault"
)

// WatchProofs is what must prove an artifact, beside its hash.
type WatchProofs struct {
	Keys        []proof.Key
	FromMinisig string // "" beside the artifact
	Reproduced  int
	Reproducers []string
}

// rebuildWait is how long others may take to build what is new: they are told
// of a change when the source is, or some time later.
const rebuildWait = time.Hour

// proofFlags are the flags of what proves an artifact.
type proofFlags struct {
	minisign    []string
	fromMinisig string
	reproduced  int
	reproducers []string
	wait        time.Duration
}

func (o *proofFlags) add(f *pflag.FlagSet) {
	f.StringArrayVar(&o.minisign, "minisign", nil, "deploy only what is signed with the minisign `KEY` (RW...), or one of several")
	f.StringVar(&o.fromMinisig, "from-minisig", "", "the `URL` of the signature; default: the artifact's with .minisig")
	f.IntVar(&o.reproduced, "reproduced", 0, "deploy only what `N` other builder-web servers have built too")
	f.StringArrayVar(&o.reproducers, "reproducer", nil, "the `URL` of another builder-web")
	f.DurationVar(&o.wait, "reproduce-wait", rebuildWait, "they may take `DUR` from when an artifact appears; then it is held")
}

// proofSections are the keys of a watches file that hold several of them.
func proofSections() map[string]map[string]string {
	return map[string]map[string]string{"reproduced": {"count": "reproduced", "of": "reproducer", "wait": "reproduce-wait"}}
}

// values checks the flags. Errors do not show a key: it may be a secret one.
func (o *proofFlags) values(help string, given func(string) bool) (WatchProofs, error) {
	p := WatchProofs{FromMinisig: o.fromMinisig, Reproduced: o.reproduced, Reproducers: o.reproducers}
	no := func(format string, a ...any) (WatchProofs, error) { return p, fault.Usagef(help, format, a...) }
	for i, text := range o.minisign {
		k, err := proof.ParseKey(text)
		switch {
		case err != nil && len(o.minisign) > 1:
			return no("--minisign, value %d: %v", i+1, err)
		case err != nil:
			return no("--minisign: %v", err)
		case slices.Contains(p.Keys, k):
			return no("--minisign: key %s is given twice", k.ID())
		}
		p.Keys = append(p.Keys, k)
	}
	switch {
	case o.fromMinisig != "" && len(p.Keys) == 0:
		return no("--from-minisig needs a key to check the signature with: --minisign")
	case o.reproduced < 0 || o.reproduced == 0 && given("reproduced"):
		return no("--reproduced must be at least 1")
	case o.reproduced == 0 && len(o.reproducers) > 0:
		return no("--reproducer needs to know how many must have built it: --reproduced")
	case o.reproduced == 0 && (given("reproduce-wait") || o.wait != rebuildWait):
		return no("--reproduce-wait goes with --reproduced")
	case o.reproduced > len(o.reproducers):
		return no("--reproduced %d needs that many of --reproducer, and there are %d", o.reproduced, len(o.reproducers))
	case o.wait < 0:
		return no("--reproduce-wait must not be negative")
	}
	return p, nil
}

// policy is what two processes of one watch must have in common.
func (p WatchProofs) policy(add func(name string, v any), wait time.Duration) {
	if len(p.Keys) > 0 {
		keys := []string{}
		for _, k := range p.Keys {
			keys = append(keys, k.String())
		}
		slices.Sort(keys)
		add("minisign", keys)
		add("from-minisig", p.FromMinisig)
	}
	if p.Reproduced > 0 {
		add("reproduced", p.Reproduced)
		add("reproducer", slices.Sorted(slices.Values(p.Reproducers)))
		add("reproduce-wait", wait.String())
	}
}

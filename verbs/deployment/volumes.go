package deployment

import (
	"github.com/spf13/cobra"

	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// volumeViewJSON is a volume as it really is.
type volumeViewJSON struct {
	Volume    string         `json:"volume"`
	Namespace *string        `json:"namespace"`
	Claim     *string        `json:"claim"`
	PV        *string        `json:"pv"`
	Phase     *string        `json:"phase"`
	Size      *string        `json:"size"`
	Class     *string        `json:"class"`
	InSpec    bool           `json:"in_spec"`
	Spec      *string        `json:"spec"`
	Orphaned  bool           `json:"orphaned"`
	Differs   *string        `json:"differs"`
	Place     string         `json:"place"`
	Path      *string        `json:"path"`
	Node      *string        `json:"node"`
	NodeLocal bool           `json:"node_local"`
	Survives  stack.Survival `json:"survives,omitempty"`
	Owner     *string        `json:"owner"`
	ID        *string        `json:"id"`
}

func viewVolumes(all []stack.VolumeView) []volumeViewJSON {
	out := []volumeViewJSON{}
	for _, v := range all {
		out = append(out, volumeViewJSON{
			Volume: ui.Clean(v.Volume), Namespace: orNull(v.Namespace), Claim: orNull(v.Claim), PV: orNull(v.PV), Phase: orNull(v.Phase),
			Size: orNull(v.Size), Class: orNull(v.Class), InSpec: v.InSpec, Spec: orNull(v.Spec), Orphaned: v.Orphaned,
			Differs: orNull(v.Differs), Place: ui.Clean(v.Place), Path: orNull(v.Path), Node: orNull(v.Node), NodeLocal: v.NodeLocal,
			Survives: v.Survives, Owner: orNull(v.Owner), ID: orNull(v.ID),
		})
	}
	return out
}

// outlives words what data survives.
func outlives(v stack.VolumeView) string {
	switch v.Survives {
	case stack.SurvivesStop:
		if v.Engine {
			return "survives stop, is lost with the engine's data"
		}
		return "survives stop, is lost with the cluster"
	case stack.SurvivesCluster:
		if v.Engine {
			return "survives the engine"
		}
		return "survives a new cluster"
	case stack.SurvivesClass:
		return "survives what its class lets it"
	case stack.SurvivesUnknown:
	}
	return ""
}

// volumeLines shows volumes as people read them.
func volumeLines(all []stack.VolumeView, owners bool) []string {
	var rows [][]ui.Line
	var notes []string
	for _, v := range all {
		name := v.Volume
		if owners {
			name = or(v.Owner, "?") + " " + name
		}
		phase := or(v.Phase, "absent")
		if v.Orphaned {
			phase += ", orphaned"
		}
		rows = append(rows, []ui.Line{
			ui.L(ui.Clean(name)), ui.L(ui.Clean(phase)), ui.L(ui.Clean(or(v.Size, "-"))), ui.L(ui.Clean(v.Place)), ui.L(outlives(v)),
		})
		if v.Differs != "" {
			notes = append(notes, ui.Clean(v.Volume+": "+v.Differs))
		}
	}
	var out []string
	for _, l := range ui.TableOf(rows) {
		out = append(out, l.Text())
	}
	return append(out, notes...)
}

// volumesResult is what volumes ends in.
type volumesResult struct {
	lookHead
	Volumes []volumeViewJSON `json:"volumes"`

	rows   []stack.VolumeView
	owners bool
}

// Text returns a row for each volume, how some differ from the spec, and the
// line of the result.
func (r *volumesResult) Text(int, bool) []string {
	if r.ExitCode != 0 {
		return []string{r.line()}
	}
	return append(volumeLines(r.rows, r.owners), r.line())
}

func newVolumes(g *group) *cobra.Command {
	all := false
	c := verb.New(verb.Spec{
		Use: "volumes", Short: "Show where the data of a deployment really is",
		Long: `Show each volume of a deployment: its claim and volume in the cluster, where its
data really is, through what a kind node has mounted, and what it survives. Also
volumes that the spec has lost, and those that are other than it says.

--cluster shows those of every deployment of the cluster, first what lies inside
a node and is lost with it.`,
		Example: `  homelab deployment volumes --dir shop
  homelab deployment volumes --cluster --dir shop --json`,
		Tier: verb.Read, Kind: "deployment.volumes", Codes: looked(),
	}, func(c *cobra.Command, _ []string) error {
		ctx, cancel := verb.Bound(c.Context(), g.Flags.Timeout)
		defer cancel()
		tell := newTeller(ctx, g.IO)
		defer tell.close()
		r := &volumesResult{lookHead: lookHead{Header: ui.Header{Kind: "deployment.volumes"}}, Volumes: []volumeViewJSON{}, owners: all}
		w, o, err := g.begin(ctx, c, tell)
		var out *stack.Outcome
		if err == nil {
			out, r.rows, err = w.Volumes(ctx, o, all)
			r.Volumes = viewVolumes(r.rows)
		}
		e := g.take(ctx, c, &r.lookHead, out, err, true)
		return verb.Finish(g.IO, r, kindOf(out, e), e)
	})
	g.Flags.Network(c, lookTimeout)
	c.Flags().BoolVar(&all, "cluster", false, "of every deployment of the cluster")
	return c
}

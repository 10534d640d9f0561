package about

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

type versionResult struct {
	ui.Header
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func (r *versionResult) Text(int, bool) []string {
	s := "homelab " + r.Version
	if r.Commit != "" {
		s += " (" + r.Commit[:min(12, len(r.Commit))] + ")"
	}
	return []string{fmt.Sprintf("%s %s %s/%s", s, r.Go, r.OS, r.Arch)}
}

// NewVersion returns "version".
func NewVersion(d Deps) *cobra.Command {
	return verb.New(verb.Spec{
		Use: "version", Short: "Print the version of homelab",
		Example: "  homelab version\n  homelab version --json",
		Tier:    verb.Read, Kind: "version", Codes: []fault.Kind{fault.OK},
	}, func(*cobra.Command, []string) error {
		r := &versionResult{
			Header:  ui.Header{Kind: "version", Verdict: "ok", Reason: "the version of this program"},
			Version: d.Version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		}
		if info, ok := debug.ReadBuildInfo(); ok {
			if r.Version == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
				r.Version = info.Main.Version
			}
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					r.Commit = s.Value
				}
			}
		}
		if r.Version == "" {
			r.Version = "devel"
		}
		return verb.Finish(d.IO, r, fault.OK, nil)
	})
}

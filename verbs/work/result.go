package work

import (
	"encoding/json"
	"math"
	"strconv"

	"homelab/pkg/fault"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// sha is a commit that may be none: null. A nil *sha is left out: unknown.
type sha string

// MarshalJSON writes null for none.
func (s sha) MarshalJSON() ([]byte, error) {
	if s == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(s))
}

type pullJSON struct {
	URL    string `json:"url"`
	Number int64  `json:"number"`
	State  string `json:"state"`
}

type verifyJSON struct {
	Command string               `json:"command"`
	Status  landing.VerifyStatus `json:"status"`
	Elapsed float64              `json:"elapsed"`
}

// revertJSON has no done where that is not known.
type revertJSON struct {
	Commit sha    `json:"commit"`
	Done   *bool  `json:"done,omitempty"`
	Reason string `json:"reason"`
}

// LandResult is what work land ends in. Names are public, golden files pin
// them. A field that is absent is unknown; null means there is none.
type LandResult struct {
	ui.Header
	Landed      *sha        `json:"landed,omitempty"`
	Base        string      `json:"base,omitempty"`
	Remote      string      `json:"remote,omitempty"`
	Branch      string      `json:"branch,omitempty"`
	PullRequest *pullJSON   `json:"pull_request"`
	Verify      *verifyJSON `json:"verify"`
	Attempts    int         `json:"attempts"`
	CI          any         `json:"ci"`
	Deploy      any         `json:"deploy"`
	BackupRef   *string     `json:"backup_ref"`
	Tip         string      `json:"head,omitempty"`
	BaseBefore  string      `json:"base_before,omitempty"`
	BaseAfter   string      `json:"base_after,omitempty"`
	Revert      *revertJSON `json:"revert"`
}

// Text returns the one line of text mode.
func (r *LandResult) Text(int, bool) []string {
	if r.Verdict == string(landing.Landed) {
		return []string{r.Verdict + " " + ui.Clean(r.Reason)}
	}
	next := ""
	if r.Next != nil {
		next = *r.Next
	}
	return []string{ui.ResultLine(r.Verdict, r.Branch, r.Reason, next)}
}

func (o *landOptions) view(r landing.Result, client *woodpecker.Client) *LandResult {
	verdict := string(r.Good)
	if r.Kind != fault.OK || verdict == "" {
		verdict = r.Kind.Name()
	}
	out := &LandResult{
		Header: ui.Header{Kind: landKind, Verdict: verdict, Reason: ui.Clean(r.Reason), Next: ui.NextCommand(ui.Clean(r.Next))},
		Base:   r.Base, Remote: r.Remote, Branch: r.Branch, Attempts: r.Attempts,
		Tip: string(r.Head), BaseBefore: string(r.BaseBefore), BaseAfter: string(r.BaseAfter),
	}
	if !r.Unknown {
		landed := sha(r.Landed)
		out.Landed = &landed
	}
	if p := r.Pull; p != nil {
		out.PullRequest = &pullJSON{ui.Clean(p.URL), p.Number, p.State}
	}
	if v := r.Verify; v != nil {
		out.Verify = &verifyJSON{v.Command, v.Status, math.Round(v.Elapsed.Seconds()*1000) / 1000}
	}
	if r.BackupRef != "" {
		out.BackupRef = &r.BackupRef
	}
	if v := r.Revert; v != nil {
		out.Revert = &revertJSON{Commit: sha(v.Commit), Reason: ui.Clean(v.Reason)}
		if !v.Unknown {
			out.Revert.Done = &v.Done
		}
	}
	if r.CI != nil {
		out.CI = o.Pipeline(*r.CI, client)
	}
	if r.Deploy != nil {
		out.Deploy = r.Deploy.View
	}
	return out
}

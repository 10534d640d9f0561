package work

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/landing"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

// The names and the three ways of "landed" are public: a commit, null for
// none, absent for not known.
func TestLandShape(t *testing.T) {
	o := &landOptions{Deps: Deps{Pipeline: func(pipeline.Outcome, *woodpecker.Client) any { return map[string]int{"shown": 1} }}}
	for _, tc := range []struct {
		name, text string
		in         landing.Result
		want       string
	}{
		{
			"landed", "landed 71b3c55 on main in 2 attempts; CI #812 green",
			landing.Result{
				Kind: fault.OK, Good: landing.Landed, Reason: "71b3c55 on main in 2 attempts; CI #812 green", Next: "homelab work clean fan",
				Branch: "anna/fan", Base: "main", Remote: "origin", Head: "h", BaseBefore: "b", BaseAfter: "c", Landed: "c", Attempts: 2,
				Verify: &landing.Verification{Command: "go test ./...", Status: landing.VerifyPassed, Elapsed: 41200 * time.Millisecond},
				CI:     &pipeline.Outcome{}, BackupRef: "refs/homelab/backup/x",
			},
			`{"kind":"work.land","verdict":"landed","exit_code":0,"reason":"71b3c55 on main in 2 attempts; CI #812 green","next":"homelab work clean fan","elapsed":0,` +
				`"landed":"c","base":"main","remote":"origin","branch":"anna/fan","pull_request":null,"verify":{"command":"go test ./...","status":"passed","elapsed":41.2},` +
				`"attempts":2,"ci":{"shown":1},"deploy":null,"backup_ref":"refs/homelab/backup/x","head":"h","base_before":"b","base_after":"c","revert":null}`,
		},
		{
			"conflict", "conflict: anna/fan: fan.go conflicts with main 88aa0c3; next: git fetch origin && git merge origin/main",
			landing.Result{
				Kind: fault.Conflict, Reason: "fan.go conflicts with main 88aa0c3", Next: "git fetch origin && git merge origin/main",
				Branch: "anna/fan", Base: "main", Remote: "origin", BackupRef: "refs/homelab/backup/x", Head: "h", BaseBefore: "b",
			},
			`{"kind":"work.land","verdict":"conflict","exit_code":0,"reason":"fan.go conflicts with main 88aa0c3","next":"git fetch origin && git merge origin/main","elapsed":0,` +
				`"landed":null,"base":"main","remote":"origin","branch":"anna/fan","pull_request":null,"verify":null,` +
				`"attempts":0,"ci":null,"deploy":null,"backup_ref":"refs/homelab/backup/x","head":"h","base_before":"b","revert":null}`,
		},
		{
			"not known", "unreachable: anna/fan: whether it arrived is not known; next: homelab work land",
			landing.Result{
				Kind: fault.Unreachable, Reason: "whether it arrived is not known", Next: "homelab work land", Branch: "anna/fan", Unknown: true, Attempts: 1,
			},
			`{"kind":"work.land","verdict":"unreachable","exit_code":0,"reason":"whether it arrived is not known","next":"homelab work land","elapsed":0,` +
				`"branch":"anna/fan","pull_request":null,"verify":null,"attempts":1,"ci":null,"deploy":null,"backup_ref":null,"revert":null}`,
		},
		{
			"held", "held: anna/fan: a pull request is open; next: homelab work land",
			landing.Result{
				Kind: fault.Held, Reason: "a pull request is open", Next: "homelab work land", Branch: "anna/fan",
				Pull:   &landing.PullRequest{URL: "https://git.example.lan/a/b/pulls/7", Number: 7, State: "open"},
				Deploy: &landing.Deployed{View: []int{1}},
			},
			`{"kind":"work.land","verdict":"held","exit_code":0,"reason":"a pull request is open","next":"homelab work land","elapsed":0,` +
				`"landed":null,"branch":"anna/fan","pull_request":{"url":"https://git.example.lan/a/b/pulls/7","number":7,"state":"open"},"verify":null,` +
				`"attempts":0,"ci":null,"deploy":[1],"backup_ref":null,"revert":null}`,
		},
		{
			"reverted", "landed-red: anna/fan: c is on main; CI #3 failure; reverted by d; CI #5 green; next: homelab ci logs --failed c",
			landing.Result{
				Kind: fault.LandedRed, Reason: "c is on main; CI #3 failure; reverted by d; CI #5 green", Next: "homelab ci logs --failed c", Branch: "anna/fan",
				Landed: "c", BaseAfter: "d", Revert: &landing.Reverted{Commit: "d", Done: true, Reason: "reverted by d; CI #5 green"},
			},
			`{"kind":"work.land","verdict":"landed-red","exit_code":0,"reason":"c is on main; CI #3 failure; reverted by d; CI #5 green","next":"homelab ci logs --failed c","elapsed":0,` +
				`"landed":"c","branch":"anna/fan","pull_request":null,"verify":null,"attempts":0,"ci":null,"deploy":null,"backup_ref":null,"base_after":"d",` +
				`"revert":{"commit":"d","done":true,"reason":"reverted by d; CI #5 green"}}`,
		},
		{
			"not reverted", "landed-red: anna/fan: c is on main",
			landing.Result{Kind: fault.LandedRed, Reason: "c is on main", Branch: "anna/fan", Landed: "c", Revert: &landing.Reverted{Reason: "not reverted: \x1b[2Jit was red before"}},
			`{"kind":"work.land","verdict":"landed-red","exit_code":0,"reason":"c is on main","next":null,"elapsed":0,` +
				`"landed":"c","branch":"anna/fan","pull_request":null,"verify":null,"attempts":0,"ci":null,"deploy":null,"backup_ref":null,` +
				`"revert":{"commit":null,"done":false,"reason":"not reverted: it was red before"}}`,
		},
		{
			"revert not known", "landed-red: anna/fan: c is on main",
			landing.Result{Kind: fault.LandedRed, Reason: "c is on main", Branch: "anna/fan", Landed: "c", Revert: &landing.Reverted{Commit: "d", Unknown: true, Reason: "not known"}},
			`{"kind":"work.land","verdict":"landed-red","exit_code":0,"reason":"c is on main","next":null,"elapsed":0,` +
				`"landed":"c","branch":"anna/fan","pull_request":null,"verify":null,"attempts":0,"ci":null,"deploy":null,"backup_ref":null,` +
				`"revert":{"commit":"d","reason":"not known"}}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := o.view(tc.in, nil)
			got, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if plain := strings.ReplaceAll(string(got), `\u0026`, "&"); plain != tc.want {
				t.Errorf("%s\nwant\n%s", plain, tc.want)
			}
			if text := strings.Join(r.Text(0, false), "\n"); text != tc.text {
				t.Errorf("%q, want %q", text, tc.text)
			}
		})
	}
}

// A command that goes on repeats what was asked for.
func TestLandNext(t *testing.T) {
	for _, tc := range []struct{ args, next, want string }{
		{"", "homelab work land", "homelab work land"},
		{"--base next --no-verify --timeout 5m --dry-run", "homelab work land", "homelab work land --base next --timeout 5m0s --no-verify"},
		{"--revert-on-red --require-ci=false", "homelab work land", "homelab work land --revert-on-red"},
		{"--repo a/b --server https://ci.example.lan", "homelab work land", "homelab work land --repo a/b --server https://ci.example.lan"},
		{"--repo a/b --require-ci", "homelab ci watch 123", "homelab ci watch 123 --repo a/b"},
		{"--repo a/b", "git commit -a", "git commit -a"},
		{"--repo a/b", "homelab work clean fan", "homelab work clean fan"},
	} {
		d := Deps{Flags: &verb.Flags{}}
		c := newLand(d)
		d.Flags.Output(c.Flags())
		var got string
		c.RunE = func(c *cobra.Command, _ []string) error {
			got = (&landOptions{Deps: d}).next(c, tc.next)
			return nil
		}
		c.SetArgs(strings.Fields(tc.args))
		if err := c.Execute(); err != nil {
			t.Fatalf("%s: %v", tc.args, err)
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.args, got, tc.want)
		}
	}
}

// The story of a landing: the phase in a column, foreign text cleaned, the
// verification's output marked.
func TestLandStory(t *testing.T) {
	io, out, err := ui.Test("")
	tell := &landTeller{io: io, story: io.Story(t.Context(), nil)}
	for _, u := range []landing.Update{
		landing.Told{Phase: "land", Text: "anna/fan onto main at origin"},
		landing.Told{Phase: "verify", Text: "go test ./...\x1b[2J"},
		landing.Line{Text: "ok \x1b]0;x\x07\thomelab"},
		landing.Raced{Tip: "t", Attempt: 2},
		landing.Warned{Text: "main stays"},
		landing.Arrived{Commit: "c"},
		landing.Watched{Update: pipeline.Found{Row: woodpecker.Pipeline{Number: 812, Status: woodpecker.Running}}},
		landing.Watched{Update: pipeline.Changed{Row: woodpecker.Pipeline{Number: 812, Status: woodpecker.Failure}, Status: true}},
		landing.Watched{Update: pipeline.Tails{Steps: []pipeline.FailedStep{{Workflow: "test", Step: "unit", LogTail: []string{"boom"}}}}},
	} {
		tell.update(u)
	}
	tell.story.Close()
	want := `00:00 land    anna/fan onto main at origin
00:00 verify  go test ./...
      verify | ok 	homelab
00:00 warning main stays
00:00 ci      #812 running
00:00 ci      #812 failure
      test/unit | boom
`
	if err.String() != want || out.Len() > 0 {
		t.Errorf("%q\nwant\n%q\nstdout %q", err, want, out)
	}
}

package pipeline

import (
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/pkg/woodpecker"
)

// rw makes a list row; number and id are the same unless f says otherwise.
func rw(id int64, event woodpecker.Event, commit string, created int64) woodpecker.Pipeline {
	return woodpecker.Pipeline{ID: id, Number: id, Event: event, Commit: commit, Created: created, Status: "running", Branch: "main"}
}

func ids(rows []woodpecker.Pipeline) (out []int64) {
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

func TestChoose(t *testing.T) {
	now := time.Unix(1000, 0)
	tests := []struct {
		name     string
		rows     []woodpecker.Pipeline
		target   Target
		row      int64 // 0: none
		others   []int64
		excluded []int64
		unsure   bool
		distinct int
	}{
		{name: "none", rows: []woodpecker.Pipeline{rw(1, "push", sha2, 900)}, target: Target{Commit: sha1}},
		{name: "the push", rows: []woodpecker.Pipeline{rw(2, "push", sha1, 999), rw(1, "push", sha2, 900)}, target: Target{Commit: sha1}, row: 2, distinct: 1},
		{name: "push before a newer green cron", rows: []woodpecker.Pipeline{rw(9, "cron", sha1, 999), rw(2, "push", sha1, 900)}, target: Target{Commit: sha1}, row: 2, others: []int64{9}, distinct: 1},
		{name: "the restart replaces its origin", rows: []woodpecker.Pipeline{rw(5, "push", sha1, 999), rw(2, "push", sha1, 900)}, target: Target{Commit: sha1}, row: 5, others: []int64{2}, distinct: 1},
		{name: "highest id, not number", rows: []woodpecker.Pipeline{
			with(rw(7, "push", sha1, 900), func(p *woodpecker.Pipeline) { p.Number = 3 }),
			with(rw(5, "push", sha1, 900), func(p *woodpecker.Pipeline) { p.Number = 4 }),
		}, target: Target{Commit: sha1}, row: 7, others: []int64{5}, distinct: 1},
		{name: "manual before pull request", rows: []woodpecker.Pipeline{rw(3, "pull_request", sha1, 900), rw(2, "manual", sha1, 900)}, target: Target{Commit: sha1}, row: 2, others: []int64{3}, distinct: 1},
		{name: "pull request before tag", rows: []woodpecker.Pipeline{rw(3, "tag", sha1, 900), rw(2, "pull_request", sha1, 900)}, target: Target{Commit: sha1}, row: 2, others: []int64{3}, distinct: 1},
		{name: "tag before deployment", rows: []woodpecker.Pipeline{rw(3, "deployment", sha1, 900), rw(2, "tag", sha1, 900)}, target: Target{Commit: sha1}, row: 2, others: []int64{3}, distinct: 1},
		{name: "deployment before cron", rows: []woodpecker.Pipeline{rw(3, "cron", sha1, 900), rw(2, "deployment", sha1, 900)}, target: Target{Commit: sha1}, row: 2, others: []int64{3}, distinct: 1},
		{name: "cron before release", rows: []woodpecker.Pipeline{rw(3, "release", sha1, 900), rw(2, "cron", sha1, 900)}, target: Target{Commit: sha1}, row: 2, others: []int64{3}, distinct: 1},
		{name: "release before others", rows: []woodpecker.Pipeline{rw(3, "pull_request_closed", sha1, 900), rw(2, "release", sha1, 900)}, target: Target{Commit: sha1}, row: 2, others: []int64{3}, distinct: 1},
		{name: "an unknown event counts last", rows: []woodpecker.Pipeline{rw(3, "comet", sha1, 900), rw(2, "release", sha1, 900)}, target: Target{Commit: sha1}, row: 2, others: []int64{3}, distinct: 1},
		{name: "only a young tag", rows: []woodpecker.Pipeline{rw(3, "tag", sha1, 995)}, target: Target{Commit: sha1}, row: 3, unsure: true, distinct: 1},
		{name: "a tag of ten seconds", rows: []woodpecker.Pipeline{rw(3, "tag", sha1, 990)}, target: Target{Commit: sha1}, row: 3, unsure: true, distinct: 1},
		{name: "an old tag", rows: []woodpecker.Pipeline{rw(3, "tag", sha1, 989)}, target: Target{Commit: sha1}, row: 3, distinct: 1},
		{name: "a young tag and an old cron", rows: []woodpecker.Pipeline{rw(4, "tag", sha1, 999), rw(3, "cron", sha1, 900)}, target: Target{Commit: sha1}, row: 4, others: []int64{3}, distinct: 1},
		{name: "event wanted", rows: []woodpecker.Pipeline{rw(4, "push", sha1, 999), rw(3, "tag", sha1, 999)}, target: Target{Commit: sha1, Event: "tag"}, row: 3, others: []int64{4}, excluded: []int64{4}, distinct: 1},
		{name: "event wanted and not there", rows: []woodpecker.Pipeline{rw(4, "push", sha1, 999), rw(3, "cron", sha1, 999)}, target: Target{Commit: sha1, Event: "tag"}, others: []int64{4, 3}, excluded: []int64{4, 3}, distinct: 1},
		{name: "upper case", rows: []woodpecker.Pipeline{rw(4, "push", strings.ToUpper(sha1), 999)}, target: Target{Commit: sha1}, row: 4, distinct: 1},
		{name: "prefix", rows: []woodpecker.Pipeline{rw(4, "push", sha1, 999), rw(3, "push", sha2, 900)}, target: Target{Commit: sha1[:7], Prefix: true}, row: 4, distinct: 1},
		{name: "a short commit is no prefix by itself", rows: []woodpecker.Pipeline{rw(4, "push", sha1, 999)}, target: Target{Commit: sha1[:7]}},
		{name: "prefix of two", rows: []woodpecker.Pipeline{rw(4, "push", "41bdff3aa", 999), rw(3, "push", sha1, 900)}, target: Target{Commit: sha1[:7], Prefix: true}, row: 4, others: []int64{3}, distinct: 2},
		{name: "no commit fits nothing", rows: []woodpecker.Pipeline{rw(4, "push", sha1, 999)}, target: Target{Prefix: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := choose(tt.rows, tt.target, now)
			var got int64
			if c.row != nil {
				got = c.row.ID
			}
			if got != tt.row || !slices.Equal(ids(c.others), tt.others) || !slices.Equal(ids(c.excluded), tt.excluded) ||
				c.unsure != tt.unsure || len(c.distinct) != tt.distinct {
				t.Errorf("row %d, others %v, excluded %v, unsure %t, distinct %v", got, ids(c.others), ids(c.excluded), c.unsure, c.distinct)
			}
		})
	}
}

func TestCovering(t *testing.T) {
	rows := []woodpecker.Pipeline{
		rw(9, "push", sha3, 990), rw(8, "cron", sha2, 980), rw(7, "push", sha2, 970), rw(6, "push", "dead", 960), rw(5, "push", "far", 950), rw(4, "push", sha1, 940),
	}
	best, unproven := covering(rows, Target{Commit: sha1}, func(commit string) ancestry {
		return map[string]ancestry{sha2: proven, sha3: proven, "dead": refuted, "far": unknown}[commit]
	})
	if best == nil || best.ID != 7 || !slices.Equal(ids(unproven), []int64{5}) {
		t.Errorf("best %v, unproven %v", best, ids(unproven))
	}
	if best, _ := covering(rows, Target{Commit: sha1}, func(string) ancestry { return unknown }); best != nil {
		t.Errorf("followed without proof: %d", best.ID)
	}
}

func TestAbsence(t *testing.T) {
	const full = 90 * time.Second
	tests := []struct {
		name      string
		f         facts
		reason    string
		after     time.Duration
		looks     int
		confirmed bool
		hint      Advice
	}{
		{"inactive", facts{inactive: true, skip: true}, "disabled in Woodpecker", 0, 1, false, SeePage},
		{"filtered", facts{vanished: true}, "filtered out", time.Second, 2, true, NoAdvice},
		{"filtered, no file", facts{vanished: true, noFile: true}, "has no pipeline file", time.Second, 2, true, NoAdvice},
		{"skip marker", facts{skip: true, noFile: true, notSent: true}, "carries [CI SKIP]", 5 * time.Second, 3, true, NoAdvice},
		{"no file", facts{noFile: true, notSent: true}, "no pipeline file in the commit", 15 * time.Second, 2, true, NoAdvice},
		{"not pushed", facts{notSent: true}, "41bdff3 is not pushed, as far as this checkout knows", 15 * time.Second, 2, false, PushCommit},
		{"excluded", facts{excluded: []string{"#4 event push", "#3 event cron"}}, "others exist: #4 event push, #3 event cron", full, 2, false, TryStatus},
		{"excluded outweighs what the checkout thinks", facts{excluded: []string{"#4 event push"}, noFile: true, notSent: true}, "others exist: #4", full, 2, false, TryStatus},
		{"not proven", facts{unproven: []string{"#61 of 3f2c1ab"}}, "#61 of 3f2c1ab may contain it", full, 2, false, FetchFirst},
		{"nothing", facts{}, "no pipeline appeared in 1m30s; was the forge's hook lost?", full, 2, false, RunBranch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := absence(tt.f, "41bdff3", full)
			if !strings.Contains(m.reason, tt.reason) || m.after != tt.after || m.looks != tt.looks || m.confirmed != tt.confirmed || m.hint.Advice != tt.hint {
				t.Errorf("%+v", m)
			}
			if m.full != (tt.name == "nothing") {
				t.Errorf("full %t", m.full)
			}
		})
	}
}

func TestSkipMarked(t *testing.T) {
	for message, want := range map[string]bool{
		"Fix [CI SKIP]": true, "[skip ci] fix": true, "x\n\nbody [Skip CI]": true, "[ci  skip]": true, "[skipci]": true, "[ciskip]": true,
		"skip ci": false, "[ skip ci ]": false, "[skip-ci]": false, "(skip ci)": false, "": false,
	} {
		if skipMarked(message) != want {
			t.Errorf("%q: %t", message, !want)
		}
	}
}

func TestPipelineFile(t *testing.T) {
	for path, want := range map[string]bool{
		".woodpecker.yml": true, ".woodpecker.yaml": true, ".woodpecker/build.yml": true, ".woodpecker/deploy.yaml": true,
		".woodpecker.json": false, "woodpecker.yml": false, "sub/.woodpecker.yml": false, ".woodpecker/README.md": false, ".drone.yml": false,
	} {
		if pipelineFile(path) != want {
			t.Errorf("%q: %t", path, !want)
		}
	}
}

func TestRestarted(t *testing.T) {
	origin := rw(57, "push", sha1, 900)
	child := func(id, parent int64, commit string) woodpecker.Pipeline {
		return with(rw(id, "push", commit, 950), func(p *woodpecker.Pipeline) { p.Parent = parent })
	}
	tests := []struct {
		name string
		rows []woodpecker.Pipeline
		want int64
	}{
		{"none", []woodpecker.Pipeline{rw(58, "push", sha2, 950), origin}, 0},
		{"one", []woodpecker.Pipeline{child(58, 57, sha1), origin}, 58},
		{"the newest", []woodpecker.Pipeline{child(60, 57, sha1), child(58, 57, sha1), origin}, 60},
		{"another commit's", []woodpecker.Pipeline{child(58, 57, sha2), origin}, 0},
		{"a restart of another", []woodpecker.Pipeline{child(58, 56, sha1), origin}, 0},
		{"the number's former owner's", []woodpecker.Pipeline{origin, child(50, 57, sha1)}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got int64
			if r := restarted(tt.rows, origin); r != nil {
				got = r.ID
			}
			if got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func TestProbableSuccessor(t *testing.T) {
	end := int64(1000)
	origin := with(rw(57, "push", sha1, 900), func(p *woodpecker.Pipeline) { p.Finished = end })
	tests := []struct {
		name string
		rows []woodpecker.Pipeline
		want int64
	}{
		{"just before the end", []woodpecker.Pipeline{rw(58, "push", sha2, end-1)}, 58},
		{"at the end", []woodpecker.Pipeline{rw(58, "push", sha2, end)}, 58},
		{"ten seconds before", []woodpecker.Pipeline{rw(58, "push", sha2, end-10)}, 58},
		{"eleven seconds before", []woodpecker.Pipeline{rw(58, "push", sha2, end-11)}, 0},
		{"after the end", []woodpecker.Pipeline{rw(58, "push", sha2, end+1)}, 0},
		{"the next of several", []woodpecker.Pipeline{rw(59, "push", sha3, end), rw(58, "push", sha2, end-1)}, 58},
		{"another event", []woodpecker.Pipeline{rw(58, "tag", sha2, end-1)}, 0},
		{"another branch", []woodpecker.Pipeline{with(rw(58, "push", sha2, end-1), func(p *woodpecker.Pipeline) { p.Branch = "topic" })}, 0},
		{"an older row", []woodpecker.Pipeline{rw(56, "push", sha2, end-1)}, 0},
		{"its own restart", []woodpecker.Pipeline{with(rw(58, "push", sha1, end-1), func(p *woodpecker.Pipeline) { p.Parent = 57 })}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got int64
			if r := probableSuccessor(append(tt.rows, origin), origin); r != nil {
				got = r.ID
			}
			if got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	open := origin
	open.Finished = 0
	if probableSuccessor([]woodpecker.Pipeline{rw(58, "push", sha2, 999)}, open) != nil {
		t.Error("a row without an end has a successor")
	}
}

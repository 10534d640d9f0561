package deployment

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/ui"
)

// A row fits the terminal, and what may be pasted is whole.
func TestHistoryText(t *testing.T) {
	commit, of := strings.Repeat("3f2c1ab", 5)+"3f2c1", 4
	r := &historyResult{Header: ui.Header{Kind: "deployment.history", Verdict: "ok", Reason: "1 revision"}, subject: "shop", Revisions: []revisionJSON{{
		Revision: 12, Time: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Verb: "rollback", Verdict: "up", Restored: &of,
		Source: sourceJSON{Spec: originJSON{Path: "spec.yml", Commit: &commit}},
		Images: map[string]string{"web": "reg.example.lan/shop/web:main-3f2c1ab", "db": "postgres:17"},
	}}}
	const head = "    12  2026-05-04T03:02:01Z  rollback  up          3f2c1ab"
	const db, web = "db=postgres:17", "web=reg.example.lan/shop/web:main-3f2c1ab"
	for width, want := range map[int][]string{
		0:   {head + "  " + db + "  " + web + "  (revision 4 again)"},
		200: {head + "  " + db + "  " + web + "  (revision 4 again)"},
		80:  {head + "  (revision 4 again)", "        " + db, "        " + web},
		40:  {head[:39] + "…", "        " + db, "        " + web},
	} {
		if diff := cmp.Diff(append(want, "ok: shop: 1 revision"), r.Text(width, false)); diff != "" {
			t.Errorf("%d columns: %s", width, diff)
		}
	}
}

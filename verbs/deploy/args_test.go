package deploy

import (
	"strings"
	"testing"

	"homelab/pkg/fault"
	"homelab/pkg/rollout"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arg, namespace, want string // want: what it is, or a part of the complaint after !
	}{
		{"shop/web", "", "shop/web"},
		{"shop/deployment/web", "", "shop/web"},
		{"shop/deploy/web", "", "shop/web"},
		{"shop/Deployments/web", "", "shop/web"},
		{"shop/sts/db", "", "shop/statefulset/db"},
		{"shop/statefulset/db", "", "shop/statefulset/db"},
		{"shop/ds/agent", "", "shop/daemonset/agent"},
		{"shop/cj/tidy", "", "shop/cronjob/tidy"},
		{"web", "shop", "shop/web"},
		{"sts/db", "shop", "shop/statefulset/db"},
		{"shop/web", "shop", "shop/web"},
		{"shop/sts/db", "shop", "shop/statefulset/db"},
		{"web", "", "!lacks a namespace"},
		{"", "", "!empty"},
		{"/web", "", "!empty"},
		{"shop/", "shop", "!empty"},
		{"shop//web", "", "!empty"},
		{"shop/we b", "", "!space"},
		{"a/b/c/d", "", "!too many parts"},
		{"shop/web", "other", "!contradicts"},
		{"shop/sts/db", "other", "!contradicts"},
		{"sts/db", "", "!is a kind"},
		{"pod/web", "", "!is a kind"},
		{"pod/web", "shop", "!not supported"},
		{"shop/rollout/web", "", "!not supported"},
		{"shop/deployments.apps/web", "", "!not supported"},
	} {
		got, err := parseTarget(c.arg, c.namespace, "help")
		if complaint, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), complaint) {
				t.Errorf("%q -n %q: %v, %v", c.arg, c.namespace, got, err)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("%q -n %q: %v, %v, not %s", c.arg, c.namespace, got, err, c.want)
			continue
		}
		if again, err := parseTarget(got.String(), "", "help"); err != nil || again != got {
			t.Errorf("%s does not parse back: %v, %v", got, again, err)
		}
	}
}

func TestParseTargetsOnce(t *testing.T) {
	t.Parallel()
	got, err := parseTargets([]string{"shop/web", "shop/deploy/web", "shop/sts/web"}, "", "help")
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

// Every outcome has its own end.
func TestKindFor(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[rollout.Outcome]int{
		rollout.Ready: 0, rollout.Failed: 1, rollout.Absent: 3, rollout.Denied: 4, rollout.Paused: 5,
		rollout.Superseded: 6, rollout.Unreachable: 7, rollout.Timeout: 8, rollout.Interrupted: 130, rollout.Pending: 70,
	} {
		if got := rollout.KindOf(outcome, nil).Code(); got != want {
			t.Errorf("%s ends with %d, not %d", outcome, got, want)
		}
	}
}

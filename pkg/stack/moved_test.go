package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"homelab/internal/kubesim"
	"homelab/pkg/fault"
	"homelab/pkg/stack/render"
)

func TestMovedSince(t *testing.T) {
	for _, r := range []struct {
		name, was, now string
		accepted       bool
		want           string // "" neither, "!" a conflict, "~" a notice
	}{
		{"never applied", "", "/srv/a", false, ""},
		{"as it was", "/srv/a", "/srv/a", false, ""},
		{"below the directory, which may have moved", "./data/a", "/d/shop/data/a", false, ""},
		{"elsewhere", "/srv/a", "/srv/b", false, "!"},
		{"elsewhere below the directory", "./data/a", "/d/shop/data/b", false, "!"},
		{"out of the directory", "./data/a", "/srv/a", false, "!"},
		{"into the directory", "/srv/a", "/d/shop/data/a", false, "!"},
		{"to no path", "/srv/a", "", false, "!"},
		{"from no path", "", "/srv/a", false, ""},
		{"its name only begins like the directory's", "/d/shop2/a", "/d/shop/2/a", false, "!"},
		{"accepted", "/srv/a", "/srv/b", true, "~"},
	} {
		var accepted []string
		if r.accepted {
			accepted = []string{"x"}
		}
		was := map[string]string{"other": "/srv/o"}
		if r.was != "" {
			was["x"] = r.was
		}
		conflicts, notices := movedSince("/d/shop", was, []render.Volume{{Name: "x", PVC: "shop-1-x", HostPath: r.now}}, accepted)
		got := strings.Repeat("!", len(conflicts)) + strings.Repeat("~", len(notices))
		if got != r.want {
			t.Errorf("%s: %q, not %q: %v %v", r.name, got, r.want, conflicts, notices)
		}
		for _, c := range conflicts {
			if !strings.Contains(strings.Join(c.Fix, " "), "--accept-volume x") {
				t.Errorf("%s: %q", r.name, c.Fix)
			}
		}
	}
}

// The cluster was deleted, and with it what it knew: that the path of a volume
// is another one is noticed all the same.
func TestAVolumeThatMovedWhileTheClusterWasGone(t *testing.T) {
	files := func() map[string]string {
		return map[string]string{
			"root/stacks/shop/stack.yml":          "version: '1'\nname: shop\npods: [app]\n",
			"root/compose/docker-compose-app.yml": "services:\n  web:\n    image: reg.lan/web:1\n    volumes: [data:/data]\nvolumes: {data: }\n",
			"spec.yml":                            "stack: root/stacks/shop\ndeploy-to: k8s\nkube-config: kube.yml\nnamespace: shop\nvolumes:\n  data: /srv/old\n",
		}
	}
	bubbled(t, files(), func(m *machine) {
		m.start()
		m.sim.Close()
		synctest.Wait()
		m.sim = kubesim.New(kubesim.Options{})
		m.edit("shop/spec.yml", "/srv/old", "/srv/new")
		out, err := m.update()
		if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "was in /srv/old") || !strings.Contains(err.Error(), "--accept-volume data") {
			m.Fatalf("%+v, %v", out, err)
		}
		if got := m.sim.Objects("persistentvolumes", ""); len(got) > 0 {
			m.Errorf("%v", got)
		}
		o := m.options("update")
		o.AcceptVolumes = []string{"data"}
		if out, err = m.world().Update(m.Context(), o); err != nil || out.Verdict != "up" {
			m.Fatalf("accepted: %+v, %v", out, err)
		}
		if out, err = m.update(); err != nil || out.Verdict != "up" {
			m.Errorf("again: %+v, %v", out, err)
		}
		raw, err := os.ReadFile(filepath.Join(m.dir(), ".homelab", "state.json"))
		if err != nil || !strings.Contains(string(raw), `"data": "/srv/new"`) {
			m.Errorf("%s, %v", raw, err)
		}
		// Volumes that were deleted on purpose may be anywhere.
		so := StopOptions{Options: m.options("stop"), Volumes: true}
		if _, err := m.world().Stop(m.Context(), so); err != nil {
			m.Fatal(err)
		}
		m.edit("shop/spec.yml", "/srv/new", "/srv/other")
		if out, err := m.update(); err != nil || out.Verdict != "up" {
			m.Errorf("after the deletion: %+v, %v", out, err)
		}
	})
}

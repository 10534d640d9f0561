package e2e

import (
	"os"
	"strings"
	"testing"
)

// refused runs homelab and checks that it refuses before anything changes: the
// cluster, the directory, and what the user has.
func (s *site) refused(verdict string, words []string, args ...string) *deed {
	s.t.Helper()
	var d *deed
	before := s.files("d")
	s.silent(func() { d = s.must(verdict, args...) })
	told := d.err + d.result.Reason
	if d.result.Next != nil {
		told += *d.result.Next
	}
	for _, w := range words {
		if !strings.Contains(told, w) {
			s.t.Errorf("homelab %s does not say %q:\n%s", strings.Join(args, " "), w, d.err)
		}
	}
	after := s.files("d")
	for name, text := range before {
		if after[name] != text {
			s.t.Errorf("homelab %s was refused and changed %s to %s", strings.Join(args, " "), name, after[name])
		}
	}
	if len(after) != len(before) {
		s.t.Errorf("homelab %s was refused, and there are %d files instead of %d", strings.Join(args, " "), len(after), len(before))
	}
	return d
}

func TestStackRefusesBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ns := s.namespace()
	s.kiosk(ns)
	id := s.deploy("d")
	s.must("up", "deployment", "start", "--dir", "d", within)
	look := s.in(ns)
	volume := look.Get("persistentvolumes", id+"-data").UID()
	restart := []string{"deployment", "restart", "--dir", "d", within}
	host := s.path("host/data")

	// A spec is generated once.
	spec := s.read("repo/deployment/spec.yml")
	s.refused("usage", []string{"namespace", "volumes.data", "--force"},
		"deploy", "init", "--stack", "repo/stacks/kiosk", "--deploy-to", "k8s", "--kube-config", "kube.yaml", "--output", "repo/deployment/spec.yml")
	if s.read("repo/deployment/spec.yml") != spec {
		t.Error("the spec was replaced")
	}

	// A regenerated one has lost where the data is.
	s.push("deployment/spec.yml", "  data: "+host+"\n", "  data:\n")
	s.refused("conflict", []string{"data", host}, restart...)
	// And its volume is moved.
	s.push("deployment/spec.yml", "  data:\n", "  data: "+s.path("host/elsewhere")+"\n")
	s.refused("conflict", []string{"data", host, s.path("host/elsewhere"), "--accept-volume data"}, restart...)
	s.refused("conflict", []string{host}, append(restart, "--dry-run")...)
	if got := look.Get("persistentvolumes", id+"-data"); got.UID() != volume || got.Str("spec", "hostPath", "path") != host {
		t.Errorf("the volume: %v", got.At("spec"))
	}
	// It was moved on purpose: the objects are replaced, the data stays.
	s.must("up", append(restart, "--accept-volume", "data")...)
	if got := look.Get("persistentvolumes", id+"-data").Str("spec", "hostPath", "path"); got != s.path("host/elsewhere") {
		t.Errorf("the volume is at %s", got)
	}
	if s.read("host/data/precious") != "what users own\n" {
		t.Error("data is gone")
	}
	s.silent(func() { s.must("up", restart...) })

	// A volume nobody mapped, and one that is in both places.
	s.push("compose/docker-compose-kiosk.yml", "      - data:/data\n", "      - data:/data\n      - more:/more\n")
	s.push("compose/docker-compose-kiosk.yml", "volumes:\n  data:\n", "volumes:\n  data:\n  more:\n")
	s.refused("usage", []string{"more", "volumes"}, restart...)
	s.push("deployment/spec.yml", "secrets: {}\n", "configmaps:\n  data: ./x\nsecrets: {}\n")
	s.refused("usage", []string{"configmaps.data", "volumes"}, restart...)
	s.push("deployment/spec.yml", "configmaps:\n  data: ./x\n", "")
	s.push("compose/docker-compose-kiosk.yml", "      - more:/more\n", "")
	s.push("compose/docker-compose-kiosk.yml", "  more:\n", "")
	s.silent(func() { s.must("up", restart...) })

	// A bind that says rw, and one that is not there.
	s.push("compose/docker-compose-kiosk.yml", "app.conf:ro", "app.conf:rw")
	s.refused("usage", []string{"for writing", "named volume"}, restart...)
	s.push("compose/docker-compose-kiosk.yml", "app.conf:rw", "gone.conf:ro")
	s.push("compose/docker-compose-kiosk.yml", "/kiosk/app.conf", "/kiosk/gone.conf")
	s.refused("usage", []string{"gone.conf"}, restart...)
	s.push("compose/docker-compose-kiosk.yml", "/kiosk/gone.conf:/etc/gone.conf", "/kiosk/app.conf:/etc/app.conf")

	// Another deployment than the one that runs.
	s.push("deployment/spec.yml", "namespace: "+ns, "namespace: "+ns+"x")
	s.refused("conflict", []string{ns, ns + "x"}, restart...)
	s.push("deployment/spec.yml", "namespace: "+ns+"x", "namespace: "+ns)

	// What has no effect is refused by --strict.
	s.push("deployment/spec.yml", "secrets: {}\n", "secrets: {}\nfrobnicate: true\n")
	s.refused("usage", []string{"frobnicate", "--strict"}, append(restart, "--strict")...)
	s.push("deployment/spec.yml", "frobnicate: true\n", "namespac: x\n")
	s.refused("usage", []string{"namespac", "namespace"}, restart...)
	s.push("deployment/spec.yml", "namespac: x\n", "")

	// Local changes in the way, and a history that is not followed by ours.
	s.push("config/kiosk/app.conf", "one", "two")
	s.file("repo/config/kiosk/app.conf", "mine\n")
	s.refused("conflict", []string{"repo"}, restart...)
	s.git("repo", "checkout", "--quiet", "--", ".")
	s.git("repo", "pull", "--quiet")
	s.git("repo", "commit", "--quiet", "--allow-empty", "-m", "Ours")
	s.push("config/kiosk/app.conf", "two", "three")
	s.refused("conflict", []string{"repo"}, restart...)
	s.must("up", append(restart, "--no-pull")...)
	s.git("repo", "remote", "set-url", "origin", "http://127.0.0.1:1/nowhere.git")
	s.refused("unreachable", nil, restart...)
}

func TestStackVolumesDoNotShrink(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ns := s.namespace()
	s.kiosk(ns)
	for name := range map[string]bool{"up": true, "repo": true} {
		s.edit(name+"/deployment/spec.yml", "  data: "+s.path("host/data")+"\n", "  data:\n")
		s.edit(name+"/deployment/spec.yml", "secrets: {}\n", "resources:\n  volumes:\n    data: {reservations: {storage: 2Gi}}\nsecrets: {}\n")
		s.edit(name+"/deployment/spec.yml", "  KEY: $generate:hex:16$\n", "")
		s.git(name, "commit", "--quiet", "--all", "-m", "Let the cluster have the data")
	}
	id := s.deploy("d")
	look := s.in(ns)
	// No class is there to make a volume; the administrator does.
	look.Create(`{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "` + ns + `-made"}, "spec": {
		"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "hostPath": {"path": "/var/made"}, "persistentVolumeReclaimPolicy": "Delete",
		"claimRef": {"namespace": "` + ns + `", "name": "` + id + `-data"}}}`)
	restart := []string{"deployment", "restart", "--no-pull", "--dir", "d", within}
	s.must("up", "deployment", "start", "--dir", "d", within)
	claim := look.Until("persistentvolumeclaims", id+"-data", "to be bound", bound)

	s.edit("repo/deployment/spec.yml", "storage: 2Gi", "storage: 1Gi")
	s.refused("conflict", []string{"data", "2Gi", "1Gi", "shrink"}, restart...)
	s.edit("repo/deployment/spec.yml", "  data:\n", "  data: "+s.path("host/data")+"\n")
	s.refused("conflict", []string{"data", "/var/made"}, restart...)
	s.edit("repo/deployment/spec.yml", "storage: 1Gi", "storage: 2Gi")
	s.edit("repo/deployment/spec.yml", "  data: "+s.path("host/data")+"\n", "  data:\n")
	s.silent(func() { s.must("up", restart...) })
	if got := look.Get("persistentvolumeclaims", id+"-data"); got.UID() != claim.UID() {
		t.Error("the claim was replaced")
	}
	// Without --delete-volumes nothing takes the claim along.
	s.refused("conflict", []string{ns, id + "-data", "--delete-volumes"}, "deployment", "stop", "--dir", "d", "--delete-namespace")
}

func TestStackConfigurationUpToItsLimit(t *testing.T) {
	t.Parallel()
	const most = 716_800
	s := newSite(t)
	ns := s.namespace()
	s.kiosk(ns)
	s.file("repo/config/kiosk/app.conf", strings.Repeat("a", most))
	s.file("repo/config/many/one", strings.Repeat("b", most-10))
	s.file("repo/config/many/.two", strings.Repeat("\xff", 10))
	s.edit("repo/compose/docker-compose-kiosk.yml", "      - data:/data\n", "      - data:/data\n      - ../config/many:/etc/many:ro\n")
	id := s.deploy("d")
	s.must("up", "deployment", "start", "--dir", "d", within)
	one := s.in(ns).Get("configmaps", id+"-host-path-config-kiosk-app-conf")
	if n := len(one.Str("binaryData", "app.conf")); n != (most+2)/3*4 {
		t.Errorf("%d bytes are live: %v", n, one.At("metadata"))
	}
	if got := s.in(ns).Get("configmaps", id+"-host-path-config-many"); got.Str("binaryData", ".two") != "/////////////w==" {
		t.Errorf("%v", got.At("binaryData", ".two"))
	}
	s.silent(func() { s.must("up", "deployment", "start", "--dir", "d", within) })

	s.edit("repo/config/kiosk/app.conf", "a", "aa")
	s.refused("usage", []string{"app.conf", "716801", "716800"}, "deployment", "restart", "--no-pull", "--dir", "d")
	s.edit("repo/config/kiosk/app.conf", "aa", "a")
	s.edit("repo/config/many/one", "b", "bb")
	s.refused("usage", []string{"config/many"}, "deployment", "restart", "--no-pull", "--dir", "d")
	from := *s
	from.dir = s.path("repo")
	if d := from.must("usage", "deploy", "create", "--spec-file", "deployment/spec.yml", "--deployment-dir", s.path("e")); !strings.Contains(d.err, "config/many") {
		t.Error(d.err)
	}
	if _, err := os.Stat(s.path("e")); err == nil {
		t.Error("a directory was made")
	}
	// At start what the directory has is judged.
	s.edit("d/config/many/one", "b", "bb")
	s.refused("usage", []string{"config/many"}, "deployment", "start", "--dir", "d")
}

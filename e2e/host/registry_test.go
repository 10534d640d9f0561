package host

import (
	"encoding/base64"
	"strings"
	"testing"

	"homelab/e2e/distribution"
)

const (
	commit = "3f9c2ab17d5e4068b92c3a4f5d6e7081929a3b4c"
	later  = "c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7"
)

// images is a watches file whose watch "shop" follows a tag.
func (s *site) images(from string) {
	s.write("homelab/watches.yaml", `
state-dir: `+s.path("state")+`
watches:
  shop:
    from: `+from+`
    to: exec:`+s.path("hook")+`
    probe: [{http: "`+s.url+`", body: "{sha256:12}"}]
    interval: 5s
    soak: 0s
`)
}

// short is how the story writes an id.
func short(id string) string { return strings.TrimPrefix(id, "sha256:")[:8] }

// A daemon follows a tag of a real registry through everything that happens to
// one: what is new is deployed once, and nothing else restarts anything.
func TestTagMoves(t *testing.T) {
	t.Parallel()
	r := distribution.New(t, "", "")
	s := newSite(t)
	s.images("oci://" + r.Ref("lab/shop:live"))
	one := distribution.Image(t, "one", commit)
	first := r.Push("lab/shop:live", one)
	d := s.start("deploy", "watch", "shop")
	// Before it has soaked, an answer would still be that of the switch.
	lives := func(id string) {
		t.Helper()
		d.until("live: shop runs "+short(id), 1)
	}
	lives(first)

	// A look is finished when poke answers.
	looked := func(code int, says string, actions int, runs string) {
		t.Helper()
		s.run("deploy", "watch", "poke", "shop").is(t, code, says)
		if s.actions() != actions || s.running() != runs {
			t.Errorf("%d actions, %s runs; want %d and %s:\n%s%s", s.actions(), s.running(), actions, runs, s.read("actions"), d.err.String())
		}
	}
	r.Push("lab/shop:live", one)
	r.Push("lab/shop:v1", one)
	looked(0, "nothing newer", 1, first)

	second := r.Push("lab/shop:live", distribution.Image(t, "two", later))
	looked(0, short(second), 2, second)
	lives(second)
	if got := s.read("actions"); !strings.HasSuffix(got, "activate "+second+" "+r.Ref("lab/shop")+"@"+second+"\n") {
		t.Errorf("it was told %s", got)
	}
	// What has been replaced does not come back by itself.
	r.Push("lab/shop:live", one)
	looked(5, "", 2, second)
	s.run("deploy", "watch", "status", "shop").is(t, 5, "")
	r.Push("lab/shop:live", distribution.Image(t, "two", later))
	looked(0, "nothing newer", 2, second)

	// Deleted: what runs, runs on. The tag comes back with something new.
	r.Delete("lab/shop", second)
	looked(0, "", 2, second)
	third := r.Push("lab/shop:live", distribution.Index(t, "three", commit, "linux/amd64", "linux/arm64"))
	looked(0, short(third), 3, third)
	lives(third)

	// It dies and comes back, and dies and comes back with nothing in it.
	r.Kill()
	looked(7, "", 3, third)
	r.Start()
	looked(0, "nothing newer", 3, third)
	r.Kill()
	r.Dir = t.TempDir()
	r.Start()
	looked(0, "", 3, third)
	fourth := r.Push("lab/shop:live", distribution.Image(t, "four", later))
	looked(0, short(fourth), 4, fourth)
	s.run("deploy", "watch", "shop", "--once", "--expect", "commit:"+later, "--json").is(t, 0, fourth)
	if a := d.stop(); a.code != 143 {
		t.Errorf("%+v", a)
	}
}

// The image of a platform has to be there, and the tag's own digest is the id.
func TestPlatform(t *testing.T) {
	t.Parallel()
	r := distribution.New(t, "", "")
	s := newSite(t)
	s.images("oci://" + r.Ref("lab/shop:live") + "?platform=linux/arm64")
	once := func(code int, says string) {
		t.Helper()
		s.run("deploy", "watch", "shop", "--once", "--json").is(t, code, says)
	}
	once(3, "")
	r.Push("lab/shop:live", distribution.Index(t, "zero", commit, "linux/amd64"))
	once(3, "linux/arm64")
	first := r.Push("lab/shop:live", distribution.Index(t, "one", commit, "linux/amd64", "linux/arm64"))
	once(0, first)
	s.run("deploy", "watch", "shop", "--once", "--expect", "commit:"+commit[:7], "--json").is(t, 0, first)
	r.Push("lab/shop:live", distribution.Index(t, "two", later, "linux/amd64"))
	once(0, "")
	if s.running() != first || s.actions() != 1 {
		t.Errorf("%s runs:\n%s", s.running(), s.read("actions"))
	}
	second := r.Push("lab/shop:live", distribution.Index(t, "three", later, "linux/arm64"))
	once(0, second)
	if s.running() != second || s.actions() != 2 {
		t.Errorf("%s runs:\n%s", s.running(), s.read("actions"))
	}
}

// A registry that asks who is there gets the docker configuration's
// credentials, and nobody else does.
func TestPassword(t *testing.T) {
	t.Parallel()
	const user, password = "watch", "canary-in-the-registry"
	r := distribution.New(t, user, password)
	s := newSite(t)
	s.images("oci://" + r.Ref("lab/shop:live"))
	id := r.Push("lab/shop:live", distribution.Image(t, "one", commit))
	secret := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	once := func(code int) {
		t.Helper()
		a := s.run("deploy", "watch", "shop", "--once", "--jsonl", "-v")
		a.is(t, code, "")
		for _, text := range []string{a.out, a.err, s.read("state/shop/journal.jsonl"), s.read("state/shop/status.json"), s.read("state/shop/state.json")} {
			if strings.Contains(text, password) || strings.Contains(text, secret) {
				t.Errorf("the password is in\n%s", text)
			}
		}
	}
	once(4)
	s.write("config.json", `{"auths": {"`+r.Addr+`": {"auth": "`+base64.StdEncoding.EncodeToString([]byte(user+":another"))+`"}}}`)
	once(4)
	s.write("config.json", `{"auths": {"`+r.Addr+`": {"auth": "`+secret+`"}}}`)
	once(0)
	if s.running() != id || s.actions() != 1 {
		t.Errorf("%s runs:\n%s", s.running(), s.read("actions"))
	}
}

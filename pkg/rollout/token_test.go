package rollout

import (
	"strings"
	"testing"
)

func TestTagNamesCommit(t *testing.T) {
	const sha = "abc1234def567890abc1234def567890abc12345"
	for _, r := range []struct {
		ref  string
		want bool
	}{
		{"web:abc1234", true},
		{"web:abc1234d", true},
		{"web:" + sha, true},
		{"web:" + sha + "0", true}, // a longer object id of the same beginning
		{"web:sha-abc1234", true},
		{"web:main-abc1234-1700000000", true},
		{"web:v1.2.3-5-gabc1234", true},
		{"web:1.2.3_abc1234", true},
		{"web:ABC1234", true},
		{"web:abc1234-amd64", true},
		{"web:abc1234-dirty", true},
		{"web:abc1234@sha256:" + strings.Repeat("0", 64), true},
		{"reg.lan:5000/team/web:abc1234", true},
		{"abc1234/app:latest", false},
		{"abc1234/app", false},
		{"abc1234.example.com/web:zzz", false},
		{"abc1234.example.com:8443/web", false},
		{"web@sha256:abc1234" + strings.Repeat("0", 57), false},
		{"web:xabc1234", false},
		{"web:abc12345", false},
		{"web:abc1234junk", false},
		{"web:1700000000", false},
		{"web:abc123", false}, // shorter than seven
		{"web:ggabc1234", false},
		{"web:Gabc1234", false},
		{"web:bc1234d", false}, // inside, not a prefix
		{"web:latest", false},
		{"web", false},
	} {
		if got := carries(ParseReference(r.ref).Tag, Expected{Commit: sha, Typed: 7}, false); got != r.want {
			t.Errorf("%s: %v, want %v", r.ref, got, r.want)
		}
	}
}

func TestTokenLengths(t *testing.T) {
	for _, r := range []struct {
		token, commit string
		typed         int
		want          bool
	}{
		{"abcd", "abcd", 4, true},
		{"abcd", "abcdef0123", 4, true},      // as short as it was typed
		{"abcd", "abcdef0123", 7, false},     // shorter than seven
		{"abcd", "abcdef0123", 0, false},     // not typed: as long as the commit
		{"abc", "abcd", 3, false},            // never below four
		{"abcdef012345", "abcdef0", 7, true}, // git does not know it: given as typed
		{"1700000000", "1700000", 7, false},  // a timestamp that begins so
		{"1700000", "1700000abc", 7, true},   // a prefix is one, even of digits alone
		{"17000000", "1700000a", 7, false},
		{"1700000a", "1700000", 7, true},
		{"g1700000", "1700000abc", 7, true},
		{"g", "abcdef0", 7, false},
		{"", "abcdef0", 7, false},
		{"abcdef0", "", 7, false},
		{strings.Repeat("a", 64), strings.Repeat("a", 64), 64, true},
		{strings.Repeat("a", 65), strings.Repeat("a", 64), 64, false},
	} {
		if got := namesCommit(r.token, r.commit, r.typed); got != r.want {
			t.Errorf("token %q commit %q typed %d: %v, want %v", r.token, r.commit, r.typed, got, r.want)
		}
	}
}

func TestBuildIDs(t *testing.T) {
	for _, r := range []struct {
		text, build string
		only, want  bool
	}{
		{"build-77", "build-77", false, true},
		{"main-build-77-amd64", "build-77", false, true},
		{"main_build.77", "build-77", false, true},
		{"build-770", "build-77", false, false},
		{"77-build", "build-77", false, false},
		{"Build-77", "build-77", false, false},
		{"v1.2.3", "v1.2.3", false, true},
		{"v1.2.30", "v1.2.3", false, false},
		{"_", "_", false, true},
		{"a", "_", false, false},
		{"build-77", "build-77", true, false}, // where only commits are read
		{"", "build-77", false, false},
	} {
		if got := carries(r.text, Expected{Build: r.build}, r.only); got != r.want {
			t.Errorf("%q in %q: %v, want %v", r.build, r.text, got, r.want)
		}
	}
	if carries("anything", Expected{}, false) {
		t.Error("nothing is carried by anything")
	}
}

func TestReferences(t *testing.T) {
	for _, r := range []struct {
		s, repo, tag, digest string
		mutable              bool
	}{
		{"web", "index.docker.io/library/web", "", "", true},
		{"web:latest", "index.docker.io/library/web", "latest", "", true},
		{"web:stable", "index.docker.io/library/web", "stable", "", true},
		{"web:v1", "index.docker.io/library/web", "v1", "", false},
		{"docker.io/library/web:v1", "index.docker.io/library/web", "v1", "", false},
		{"reg.lan:5000/a/web", "reg.lan:5000/a/web", "", "", true},
		{"reg.lan:5000/a/web:v1", "reg.lan:5000/a/web", "v1", "", false},
		{"reg.lan/web@" + sumNew, "reg.lan/web", "", sumNew, false},
		{"reg.lan/web:v1@" + sumNew, "reg.lan/web", "v1", sumNew, false},
		{"reg.lan/web:latest@" + sumNew, "reg.lan/web", "latest", sumNew, false},
		{"UPPER/Case:v1", "UPPER/Case:v1", "", "", true},
		{"", "", "", "", true},
		{":", ":", "", "", true},
		{"@", "", "", "", true},
	} {
		got := ParseReference(r.s)
		if got.Repo != r.repo || got.Tag != r.tag || got.Digest != r.digest || got.Mutable() != r.mutable || got.Written != r.s {
			t.Errorf("%q: %+v mutable %v", r.s, got, got.Mutable())
		}
	}
	if got := ParseReference("reg.lan:5000/web:v1").at(sumNew); got != "reg.lan:5000/web@"+sumNew {
		t.Error(got)
	}
	for _, r := range []struct {
		a, b string
		want bool
	}{
		{"web", "docker.io/library/web:latest", true},
		{"web:v1", "index.docker.io/library/web:v1", true},
		{"web:v1", "web:v2", false},
		{"web:v1@" + sumNew, "web@" + sumNew, true},
		{"web@" + sumNew, "web@" + sumOld, false},
		{"web:v1", "web@" + sumOld, false},
	} {
		if got := ParseReference(r.a).same(ParseReference(r.b)); got != r.want {
			t.Errorf("%s same as %s: %v", r.a, r.b, got)
		}
	}
}

func TestImageIDs(t *testing.T) {
	for _, r := range []struct{ s, repo, digest string }{
		{"docker-pullable://reg.lan/web@" + sumNew, "reg.lan/web", sumNew},
		{"reg.lan/web@" + sumNew, "reg.lan/web", sumNew},
		{"reg.lan:5000/web@" + sumNew, "reg.lan:5000/web", sumNew},
		{sumNew, "", sumNew},
		{"docker://" + sumNew, "", sumNew},
		{"", "", ""},
		{"reg.lan/web:v1", "", ""},
		{"sha256:", "", ""},
		{"sha256:xyz", "", ""},
		{"@", "", ""},
	} {
		if got := ParseImageID(r.s); got.Repo != r.repo || got.Digest != r.digest {
			t.Errorf("%q: %+v", r.s, got)
		}
	}
}

func TestCompanions(t *testing.T) {
	for repo, want := range map[string]bool{
		"docker.io/istio/proxyv2": true, "cr.l5d.io/linkerd/proxy": true, "reg.lan/team/proxy": false,
		"quay.io/oauth2-proxy/oauth2-proxy": true, "hashicorp/vault": true, "prom/node-exporter": true,
		"index.docker.io/library/busybox": true, "reg.lan/web": false, "index.docker.io/library/nginx": false,
	} {
		if aside(repo) != want {
			t.Errorf("%s: %v", repo, !want)
		}
	}
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"web:abc1234", "reg.lan:5000/a/b:v1@sha256:00", "", ":", "@@", "g", "ABC1234-dirty"} {
		f.Add(s, "abc1234def")
	}
	f.Fuzz(func(t *testing.T, ref, commit string) {
		r := ParseReference(ref)
		if r.Written != ref {
			t.Errorf("%q became %q", ref, r.Written)
		}
		if r.Tag != "" && !strings.Contains(ref, ":"+r.Tag) {
			t.Errorf("%q has no tag %q", ref, r.Tag)
		}
		ParseImageID(ref)
		e := Expected{Commit: strings.ToLower(commit), Typed: len(commit)}
		if !isHex(commit) || len(commit) < 4 || len(commit) > 64 {
			return
		}
		if carries(r.Tag, e, false) {
			found := false
			for _, tok := range tokens(r.Tag) {
				tok = strings.ToLower(strings.TrimPrefix(tok, "g"))
				found = found || strings.HasPrefix(tok, e.Commit) || strings.HasPrefix(e.Commit, tok)
			}
			if !found {
				t.Errorf("%q does not carry %q", ref, commit)
			}
		}
		if !carries("x-"+commit, e, false) {
			t.Errorf("a tag of its own does not carry %q", commit)
		}
	})
}

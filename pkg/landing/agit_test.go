package landing

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"homelab/pkg/fault"
)

// forRequest is a pull request of a repository that takes refs/for/BASE.
type forRequest struct {
	Number             int
	Head, Base         string
	Title, Description string
	Open               bool
}

// forgeWords are what the two forges say.
type forgeWords struct{ name, same, force string }

func words(kind string) forgeWords {
	if kind == "gitea" {
		return forgeWords{"Gitea", "new commit is same with old commit", "request `force-push` push option"}
	}
	return forgeWords{
		"Forgejo", "The new commit is the same as the old commit",
		"Updates were rejected because the tip of your current branch is behind its remote counterpart. If this is intentional, set the `force-push` option by adding `-o force-push=true` to your `git push` command.",
	}
}

// takesProposals makes the origin behave as Forgejo or Gitea do: the base is
// protected, refs/for/BASE makes pull requests.
func (w *world) takesProposals(kind string) {
	w.t.Helper()
	o := w.origin
	o.Git("config", "receive.advertisePushOptions", "true")
	o.Git("config", "receive.procReceiveRefs", "refs/for")
	w.protect(kind)
	hook(w.t, o, "proc-receive", "HOMELAB_PROC_RECEIVE="+kind+" exec '"+os.Args[0]+"'\n")
	if kind == "forgejo" { // the other says nothing there
		hook(w.t, o, "post-receive", `while read old new ref; do case $ref in refs/pull/*)
n=${ref#refs/pull/}; printf '\nVisit the existing pull request:\n  https://git.example.lan/lab/infra/pulls/%s\n\n' "${n%/head}" >&2;; esac; done
`)
	}
}

func (w *world) protect(kind string) {
	w.t.Helper()
	hook(w.t, w.origin, "pre-receive", "while read old new ref; do case $ref in refs/heads/"+w.base+") printf '\\n"+words(kind).name+": Not allowed to push to protected branch "+w.base+"\\n' >&2; exit 1;; esac; done\n")
}

func (w *world) unprotect() { hook(w.t, w.origin, "pre-receive", "cat > /dev/null\n") }

func (w *world) requests() []forRequest {
	w.t.Helper()
	all, err := readRequests(w.origin.Dir)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// close closes every request without merging.
func (w *world) closeRequests() {
	w.t.Helper()
	all := w.requests()
	for i := range all {
		all[i].Open = false
	}
	if err := writeRequests(w.origin.Dir, all); err != nil {
		w.t.Fatal(err)
	}
}

func readRequests(dir string) (all []forRequest, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "requests.json"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	return all, err
}

func writeRequests(dir string, all []forRequest) error {
	data, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "requests.json"), data, 0o600)
	}
	return err
}

// procReceive is the hook: git's protocol on stdin and stdout.
func procReceive() int {
	in := bufio.NewReader(os.Stdin)
	read := func() (string, bool) { // false: a flush
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return "", false
		}
		n, err := strconv.ParseUint(string(size[:]), 16, 16)
		if err != nil || n < 4 {
			return "", false
		}
		line := make([]byte, n-4)
		_, err = io.ReadFull(in, line)
		return strings.TrimSuffix(string(line), "\n"), err == nil
	}
	write := func(s string) { fmt.Printf("%04x%s", len(s)+4, s) }
	features, _ := read()
	read()
	write("version=1\x00push-options\n")
	fmt.Print("0000")
	command, _ := read()
	read()
	options := map[string]string{}
	if strings.Contains(features, "push-options") {
		for {
			o, ok := read()
			if !ok {
				break
			}
			key, value, _ := strings.Cut(o, "=")
			options[key] = value
		}
	}
	f := strings.Fields(command)
	c, ref := f[1], f[2]
	if no, to, old := propose(words(os.Getenv("HOMELAB_PROC_RECEIVE")), strings.TrimPrefix(ref, "refs/for/"), c, options); no != "" {
		write("ng " + ref + " " + no)
	} else {
		write("ok " + ref)
		write("option refname " + to)
		if old != "" {
			write("option old-oid " + old)
		}
		write("option new-oid " + c)
	}
	fmt.Print("0000")
	return 0
}

// propose makes or updates a request in the repository it runs in.
func propose(say forgeWords, base, c string, options map[string]string) (no, ref, old string) {
	run := func(args ...string) (string, error) {
		out, err := exec.Command("git", args...).Output()
		return strings.TrimSpace(string(out)), err
	}
	if _, err := run("rev-parse", "--verify", "refs/heads/"+base); err != nil || options["topic"] == "" {
		return "The topic-branch option is not set", "", ""
	}
	all, err := readRequests(".")
	if err != nil {
		return err.Error(), "", ""
	}
	head := options["topic"]
	if !strings.HasPrefix(head, "anna/") {
		head = "anna/" + head
	}
	i := slices.IndexFunc(all, func(r forRequest) bool { return r.Open && r.Head == head && r.Base == base })
	if i < 0 {
		i = len(all)
		all = append(all, forRequest{Number: 7 + len(all), Head: head, Base: base, Title: options["title"], Description: options["description"], Open: true})
	}
	ref = fmt.Sprintf("refs/pull/%d/head", all[i].Number)
	if old, _ = run("rev-parse", "--verify", "--quiet", ref); old != "" {
		_, forced := options["force-push"]
		lost, err := run("rev-list", "--max-count=1", old, "^"+c)
		switch {
		case err != nil:
			return err.Error(), "", ""
		case old == c:
			return say.same, "", ""
		case lost != "" && !forced:
			return say.force, "", ""
		}
	}
	if _, err := run("update-ref", ref, c); err != nil {
		return err.Error(), "", ""
	}
	if err := writeRequests(".", all); err != nil {
		return err.Error(), "", ""
	}
	return "", ref, old
}

func TestProposedByPush(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"forgejo", "gitea"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			w.takesProposals(kind)
			c := w.clone("anna/fan", "fan")
			page := ""
			use := func(*Deps) {} // not listed: its own words tell what it is
			if kind == "gitea" {
				page = "https://forge.example.lan/lab/infra"
				use = func(d *Deps) { d.Forge = noToken{Access{Kind: "gitea", Page: page}} }
			} else {
				page = "https://git.example.lan/lab/infra"
			}
			refused := func(r Result, s *story, number int64) {
				t.Helper()
				wants(t, r, s, fault.Held, "")
				at := fmt.Sprintf("%s/pulls/%d", page, number)
				if r.Pull == nil || *r.Pull != (PullRequest{URL: at, Number: number, State: "open"}) || r.Next != "homelab work land" || r.Landed != "" || string(w.tip()) != w.first {
					t.Fatalf("%+v %+v\n%s", r, r.Pull, s)
				}
				ref := fmt.Sprintf("refs/pull/%d/head", number)
				if got := w.origin.Git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/for"); got != "refs/heads/main" || w.origin.Git("rev-parse", ref) != string(r.Head) {
					t.Errorf("left on the server: %q; %s at %s", got, ref, w.origin.Git("rev-parse", ref))
				}
			}
			r, s := w.land(c, Options{}, use)
			refused(r, s, 7)
			if got := w.requests()[0]; got.Head != "anna/fan" || got.Base != "main" || got.Title != "add fan" || !strings.Contains(got.Description, "Verified merged with main") {
				t.Errorf("%+v", got)
			}
			// Again: the same one. With more: it follows.
			r, s = w.land(c, Options{}, use)
			refused(r, s, 7)
			c.Write("more", "x")
			c.Commit("more")
			r, s = w.land(c, Options{}, use)
			refused(r, s, 7)
			// Rewritten: what this clone proposed is replaced.
			c.Git("reset", "--quiet", "--soft", "HEAD~2")
			c.Write("fan", "better")
			c.Commit("a better fan")
			r, s = w.land(c, Options{}, use)
			refused(r, s, 7)
			if all := w.requests(); len(all) != 1 {
				t.Errorf("%+v", all)
			}
			// Closed without a merge: a new one, by the same command.
			w.closeRequests()
			c.Git("reset", "--quiet", "--soft", "HEAD~1")
			c.Write("fan", "best")
			c.Commit("the best fan")
			r, s = w.land(c, Options{}, use)
			refused(r, s, 8)
			// Merged.
			w.unprotect()
			m := w.fresh()
			m.Git("fetch", "--quiet", "origin", "refs/pull/8/head")
			m.Git("-c", "user.name=A", "-c", "user.email=a@x", "merge", "--quiet", "--no-ff", "-m", "Merge #8", "FETCH_HEAD")
			m.Git("push", "--quiet", "origin", "HEAD:main")
			merge := w.tip()
			w.someone("later", "x")
			r, s = w.land(c, Options{}, use)
			wants(t, r, s, fault.OK, Landed)
			if r.Landed != merge || r.Pull == nil || r.Pull.State != "merged" {
				t.Errorf("%+v %+v, want %s", r, r.Pull, merge)
			}
			r, s = w.land(c, Options{}, use)
			wants(t, r, s, fault.OK, Nothing)
		})
	}
}

// noToken is a listed forge that may be asked for nothing.
type noToken struct{ Access }

func (f noToken) Check(context.Context, string) (Access, error) { return f.Access, nil }
func (f noToken) Open(context.Context, Proposal) (PullRequest, error) {
	return PullRequest{}, fault.New(fault.Bug, "asked without a token", "")
}

func (f noToken) Look(context.Context, string, int64) (PullRequest, Merged, error) {
	return PullRequest{}, Merged{Unknown: true}, nil
}
func (f noToken) Closed(context.Context, string) string { return "" }

// Merged as one commit: what the base has by content is landed already.
func TestProposedAndSquashed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.takesProposals("forgejo")
	c := w.clone("anna/fan", "fan")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Held, "")
	w.unprotect()
	w.someone("fan", "fan\n")
	tip := w.tip()
	r, s = w.land(c, Options{})
	wants(t, r, s, fault.OK, Nothing)
	if w.tip() != tip {
		t.Errorf("%+v", r)
	}
}

// Somebody else added to the request: it is not replaced.
func TestProposalOfOthers(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"forgejo", "gitea"} {
		w := newWorld(t, "main")
		w.takesProposals(kind)
		c := w.clone("anna/fan", "fan")
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.Held, "")
		other := w.fresh()
		other.Git("fetch", "--quiet", "origin", "refs/pull/7/head")
		other.Git("checkout", "--quiet", "FETCH_HEAD")
		other.Write("theirs", "x")
		theirs := other.Commit("theirs")
		other.Git("push", "--quiet", "origin", "HEAD:refs/for/main", "-o", "topic=anna/fan")
		c.Git("reset", "--quiet", "--soft", "HEAD~1")
		c.Write("fan", "better")
		c.Commit("a better fan")
		r, s = w.land(c, Options{})
		wants(t, r, s, fault.Conflict, "")
		if got := w.origin.Git("rev-parse", "refs/pull/7/head"); got != theirs || len(w.requests()) != 1 {
			t.Errorf("%s: the request is at %s, theirs was %s: %+v", kind, got, theirs, r)
		}
	}
}

// A topic is a task's name, or the whole branch: two branches that end alike
// are two requests.
func TestTwoTopics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.takesProposals("forgejo")
	for _, branch := range []string{"feature/x", "bugfix/x"} {
		c := w.clone(branch, strings.ReplaceAll(branch, "/", "-"))
		r, s := w.land(c, Options{})
		wants(t, r, s, fault.Held, "")
	}
	if all := w.requests(); len(all) != 2 || all[0].Head != "anna/feature/x" || all[1].Head != "anna/bugfix/x" {
		t.Errorf("%+v", all)
	}
}

// Servers that do not make pull requests of pushes get the branch instead, and
// nothing else is left there.
func TestNoProposals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		set    func(w *world)
		access Access
		next   string
	}{
		{"no push options", func(w *world) { w.origin.Git("config", "receive.advertisePushOptions", "false") }, Access{}, "git request-pull main origin"},
		{"an ordinary ref", func(w *world) { w.origin.Git("config", "--unset", "receive.procReceiveRefs") }, Access{}, "git request-pull main origin"},
		{"another forge", func(*world) {}, Access{Kind: "github", Page: "https://github.com/lab/infra"}, "https://github.com/lab/infra/compare/main...anna/fan"},
		{"the server says where", func(w *world) {
			w.origin.Git("config", "receive.advertisePushOptions", "false")
			hook(w.t, w.origin, "post-receive", "printf '\\nCreate a new pull request for anna/fan:\\n  https://git.example.lan/lab/infra/compare/main...anna/fan\\n' >&2\n")
		}, Access{}, "https://git.example.lan/lab/infra/compare/main...anna/fan"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "main")
			w.takesProposals("forgejo")
			tc.set(w)
			c := w.clone("anna/fan", "fan")
			r, s := w.land(c, Options{}, func(d *Deps) { d.Forge = noToken{tc.access} })
			wants(t, r, s, fault.Held, "")
			if r.Pull != nil || r.Next != tc.next || w.origin.Git("rev-parse", "anna/fan") != string(r.Head) || len(w.requests()) != 0 {
				t.Errorf("next %q: %+v", r.Next, r)
			}
			if got := w.origin.Git("for-each-ref", "--format=%(refname)", "refs/for", "refs/pull"); got != "" {
				t.Errorf("left on the server: %q", got)
			}
		})
	}
}

// The reply is lost after the server made the request: one request, found.
func TestProposalReplyLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.takesProposals("forgejo")
	c := w.clone("anna/fan", "fan")
	hook(t, w.origin, "post-receive", "kill -KILL $PPID\n")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Held, "")
	if r.Pull == nil || r.Pull.Number != 7 || len(w.requests()) != 1 || r.Attempts != 1 {
		t.Errorf("%+v %+v", r, r.Pull)
	}
	// Never a reply: not known, and told so.
	c = w.clone("anna/light", "light")
	hook(t, w.origin, "proc-receive", "kill -KILL $PPID\n")
	r, s = w.land(c, Options{}, func(d *Deps) { d.Patience = 100 * time.Millisecond })
	wants(t, r, s, fault.Unreachable, "")
	if r.Unknown || r.Landed != "" || r.Pull != nil || len(w.requests()) != 1 {
		t.Errorf("%+v", r)
	}
	w.sound()
}

func TestProposalRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.takesProposals("forgejo")
	hook(t, w.origin, "pre-receive", `while read old new ref; do case $ref in
refs/heads/main) echo 'Forgejo: Not allowed to push to protected branch main' >&2; exit 1;;
refs/for/*) echo 'Forgejo: User permission denied for creating pull-request.' >&2; exit 1;; esac; done
`)
	c := w.clone("anna/fan", "fan")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Denied, "")
	if !strings.Contains(r.Reason, "denied for creating") || w.origin.Git("for-each-ref", "--format=%(refname)") != "refs/heads/main" {
		t.Errorf("%+v", r)
	}
}

// Who may only read is invited to propose, and does.
func TestProposalOfReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "main")
	w.takesProposals("forgejo")
	hook(t, w.origin, "pre-receive", `while read old new ref; do case $ref in refs/heads/*) printf '\nForgejo: User '\''bo'\'' is not allowed to push to branch '\''main'\'' in '\''lab/infra'\''.\nIf you instead wanted to create a pull request to the branch '\''main'\'', please use:\n' >&2; exit 1;; esac; done
`)
	c := w.clone("bo/fan", "fan")
	r, s := w.land(c, Options{})
	wants(t, r, s, fault.Held, "")
	if r.Pull == nil || r.Pull.Number != 7 {
		t.Errorf("%+v", r)
	}
}

func TestDescription(t *testing.T) {
	t.Parallel()
	if got := description("* 1234567 one\n* 89abcde two\n\nVerified: `x` passed\n"); got != "1234567 one; 89abcde two; Verified: `x` passed" {
		t.Errorf("%q", got)
	}
	got := description(strings.Repeat("ä", mostDescription))
	if len(got) > mostDescription+4 || strings.ContainsAny(got, "\n\uFFFD") {
		t.Errorf("%d bytes", len(got))
	}
}

package git_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/internal/gittest"
	"homelab/pkg/git"
)

const ref = "refs/heads/main"

func line(flag byte, summary string) []git.RefLine {
	return []git.RefLine{{Flag: flag, To: ref, Summary: summary}}
}

// Texts as servers and git itself write them.
func TestClassifyPush(t *testing.T) {
	for _, tc := range []struct {
		name  string
		reply git.PushReply
		want  git.PushClass
	}{
		{"moved", git.PushReply{Lines: line(' ', "1234567..89abcde")}, git.PushLanded},
		{"was there", git.PushReply{Lines: line('=', "[up to date]")}, git.PushLanded},
		{"words of a hook beside success", git.PushReply{Lines: line(' ', "1..2"), Text: "remote: error: GH013 was overridden: must not contain secrets\n"}, git.PushLanded},
		{"new branch", git.PushReply{Lines: line('*', "[new branch]")}, git.PushImpossible},
		{"forced", git.PushReply{Lines: line('+', "1234567...89abcde")}, git.PushImpossible},
		{"moved, then exit 1", git.PushReply{Lines: line(' ', "1..2"), Exit: 1}, git.PushUnknown},
		{"nothing said, exit 0", git.PushReply{}, git.PushUnknown},
		{"another ref's line", git.PushReply{Lines: []git.RefLine{{Flag: ' ', To: "refs/heads/x"}}}, git.PushUnknown},

		{"github secrets", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (push declined due to repository rule violations)"),
			Text: "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote: \nremote: - GITHUB PUSH PROTECTION\nremote:     - Push cannot contain secrets\n",
		}, git.PushPolicy},
		{"github secrets and a pull request", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (push declined due to repository rule violations)"),
			Text: "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote: - Changes must be made through a pull request.\nremote:     - Push cannot contain secrets\n",
		}, git.PushPolicy},
		{"github e-mail", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (push declined due to email privacy restrictions)"),
			Text: "remote: error: GH007: Your push would publish a private email address.\n",
		}, git.PushPolicy},
		{"github size", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: error: GH001: Large files detected.\nremote: error: File big is 200.00 MB; this exceeds GitHub's file size limit of 100.00 MB\n",
		}, git.PushPolicy},

		{"forgejo protected", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: \nremote: Forgejo: Not allowed to push to protected branch main\n",
		}, git.PushProtected},
		{"gitea protected", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: Gitea: Not allowed to push to protected branch main\n",
		}, git.PushProtected},
		{"github protected", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (protected branch hook declined)"),
			Text: "remote: error: GH006: Protected branch update failed for refs/heads/main.\nremote: error: At least 1 approving review is required by reviewers with write access.\n",
		}, git.PushProtected},
		{"github ruleset", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (push declined due to repository rule violations)"),
			Text: "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote: - Changes must be made through a pull request.\n",
		}, git.PushProtected},
		{"github required check", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (push declined due to repository rule violations)"),
			Text: "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote: - Required status check \"build\" is expected.\n",
		}, git.PushProtected},
		{"gitlab protected", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: GitLab: You are not allowed to push code to protected branches on this project.\n",
		}, git.PushProtected},
		{"github ruleset about something else", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (push declined due to repository rule violations)"),
			Text: "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote: - Commits must have verified signatures.\n",
		}, git.PushRejected},

		// Forgejo and Gitea, as their hooks write it.
		{"forgejo, may only read", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: \nremote: Forgejo: User 'bo' is not allowed to push to branch 'main' in 'lab/infra'.\nremote: If you instead wanted to create a pull request to the branch 'main', please use:\nremote: git push origin HEAD:refs/for/main/choose-a-descriptor\n",
		}, git.PushProtected},
		{"forgejo, may not even propose", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: \nremote: Forgejo: User 'bo' is not allowed to push to branch 'main' in 'lab/infra'.\n",
		}, git.PushRejected},
		{"gitea, may not write", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: \nremote: Gitea: User permission denied for writing.\n",
		}, git.PushRejected},
		{"forgejo protects a file", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: \nremote: Forgejo: branch main is protected from changing file go.mod\n",
		}, git.PushRejected},
		{"gitea wants signatures", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: \nremote: Gitea: branch main is protected from unverified commit 5d0e1f2\n",
		}, git.PushRejected},
		{"gitea sees a forced push", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: \nremote: Gitea: Not allowed to force-push to protected branch main\n",
		}, git.PushRejected},
		{"forgejo quota", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: \nremote: Forgejo: Quota exceeded\n",
		}, git.PushPolicy},
		{"forgejo could not ask itself", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: \nremote: Forgejo: Internal Server Connection Error\n",
		}, git.PushUnknown},
		{"gitea failed", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: \nremote: Gitea: Internal Server Error (no specific error)\n",
		}, git.PushUnknown},
		{"forgejo, key may only read", git.PushReply{
			Exit: 128, Text: "Forgejo: User: 2:bo with Key: 3:laptop is not authorized to write lab/infra.\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n",
		}, git.PushDenied},
		{"gitea, archived", git.PushReply{
			Exit: 128, Text: "Gitea: Repo: lab/infra is archived.\nfatal: Could not read from remote repository.\n",
		}, git.PushDenied},
		{"gitea, mirror", git.PushReply{
			Exit: 128, Text: "Gitea: Mirror Repository lab/infra is read-only\nfatal: Could not read from remote repository.\n",
		}, git.PushDenied},
		// GitHub.
		{"github failed", git.PushReply{Exit: 1, Lines: line('!', "[remote rejected] (Internal Server Error)")}, git.PushUnknown},
		{"github check is failing", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (protected branch hook declined)"),
			Text: "remote: error: GH006: Protected branch update failed for refs/heads/main.\nremote: error: Required status check \"ci-build\" is failing\n",
		}, git.PushProtected},
		{"github merge queue", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (push declined due to repository rule violations)"),
			Text: "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote: - Changes must be made through the merge queue\n",
		}, git.PushProtected},
		{"github forced", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (push declined due to repository rule violations)"),
			Text: "remote: error: GH013: Repository rule violations found for refs/heads/main.\nremote: - Cannot force-push to this branch\n",
		}, git.PushRejected},
		{"github, no right over ssh", git.PushReply{Exit: 128, Text: "ERROR: Permission to lab/infra.git denied to bo.\nfatal: Could not read from remote repository.\n"}, git.PushDenied},
		{"github, read-only key", git.PushReply{Exit: 128, Text: "ERROR: The key you are authenticating with has been marked as read only.\nfatal: Could not read from remote repository.\n"}, git.PushDenied},
		{"github, archived", git.PushReply{Exit: 128, Text: "ERROR: This repository was archived so it is read-only.\nfatal: Could not read from remote repository.\n"}, git.PushDenied},
		// GitLab.
		{"gitlab secrets", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: GitLab: \nremote: PUSH BLOCKED: Secrets detected in code changes\nremote: -- test.txt:2 | GitLab Personal Access Token\n",
		}, git.PushPolicy},
		{"gitlab size", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: GitLab: You are attempting to check in one or more blobs which exceed the 100MiB limit:\n",
		}, git.PushPolicy},
		{"gitlab, merging not allowed", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: GitLab: You are not allowed to merge code into protected branches on this project.\n",
		}, git.PushProtected},
		{"gitlab sees a forced push", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"),
			Text: "remote: GitLab: You are not allowed to force push code to a protected branch on this project.\n",
		}, git.PushRejected},
		{"gitlab message rule", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: GitLab: Commit message does not follow the pattern 'LAB-\\d+'\n",
		}, git.PushRejected},
		{"gitlab could not ask itself", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: GitLab: Failed to authorize your Git request: internal API unreachable\n",
		}, git.PushUnknown},
		{"gitlab is away", git.PushReply{Exit: 128, Text: "remote: ERROR: Internal API unreachable\nfatal: Could not read from remote repository.\n"}, git.PushUnknown},
		{"gitlab, no right over ssh", git.PushReply{Exit: 128, Text: "remote: ERROR: You are not allowed to push code to this project.\nfatal: Could not read from remote repository.\n"}, git.PushDenied},
		// gitolite.
		{"gitolite, no right to the branch", git.PushReply{
			Exit: 1, Lines: line('!', "[remote rejected] (hook declined)"),
			Text: "remote: FATAL: W refs/heads/main infra bo DENIED by fallthru\nremote: error: hook declined to update refs/heads/main\n",
		}, git.PushRejected},
		{"gitolite, no right at all", git.PushReply{
			Exit: 128, Text: "FATAL: W any infra bo DENIED by fallthru\n(or you mis-spelled the reponame)\nfatal: Could not read from remote repository.\n",
		}, git.PushDenied},

		{"lease", git.PushReply{Exit: 1, Lines: line('!', "[rejected] (stale info)")}, git.PushRace},
		{"fetch first", git.PushReply{Exit: 1, Lines: line('!', "[rejected] (fetch first)")}, git.PushRace},
		{"non-fast-forward", git.PushReply{Exit: 1, Lines: line('!', "[rejected] (non-fast-forward)")}, git.PushRace},
		{"lost on the server", git.PushReply{Exit: 1, Lines: line('!', "[remote rejected] (failed to update ref)")}, git.PushRace},
		{"locked on the server", git.PushReply{Exit: 1, Lines: line('!', "[remote rejected] (cannot lock ref 'refs/heads/main': is at 1 but expected 2)")}, git.PushRace},
		{"old value", git.PushReply{Exit: 1, Lines: line('!', "[remote rejected] (incorrect old value provided)")}, git.PushRace},

		{"a hook of the server", git.PushReply{Exit: 1, Lines: line('!', "[remote rejected] (pre-receive hook declined)"), Text: "remote: no tabs, please\n"}, git.PushRejected},
		{"hook that speaks of a lock", git.PushReply{Exit: 1, Lines: line('!', "[remote rejected] (update hook declined)"), Text: "remote: you cannot lock ref this way: stale info\n"}, git.PushRejected},
		{"server without room", git.PushReply{Exit: 1, Lines: line('!', "[remote rejected] (unpacker error)"), Text: "error: remote unpack failed: unable to create temporary object directory\n"}, git.PushRejected},
		{"no report", git.PushReply{Exit: 1, Lines: line('!', "[remote failure] (remote failed to report status)")}, git.PushUnknown},

		{"pre-push", git.PushReply{Exit: 1, Text: "tests are red\nerror: failed to push some refs to 'https://git.example.lan/a/b.git'\n"}, git.PushHook},
		{"submodule", git.PushReply{Exit: 128, Text: "The following submodule paths contain changes that can\nnot be found on any remote:\n  lib\n\nfatal: Aborting.\n"}, git.PushSubmodule},

		{"password refused", git.PushReply{Exit: 128, Text: "fatal: Authentication failed for 'https://git.example.lan/a/b.git/'\n"}, git.PushDenied},
		{"no prompt", git.PushReply{Exit: 128, Text: "fatal: could not read Username for 'https://git.example.lan': terminal prompts disabled\n"}, git.PushDenied},
		{"403", git.PushReply{Exit: 128, Text: "fatal: unable to access 'https://git.example.lan/a/b.git/': The requested URL returned error: 403\n"}, git.PushDenied},
		{"ssh key", git.PushReply{Exit: 128, Text: "git@git.example.lan: Permission denied (publickey).\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n"}, git.PushDenied},
		{"host key", git.PushReply{Exit: 128, Text: "Host key verification failed.\nfatal: Could not read from remote repository.\n"}, git.PushDenied},
		{"not there for us", git.PushReply{Exit: 128, Text: "remote: Repository not found.\nfatal: repository 'https://github.com/a/b.git/' not found\n"}, git.PushDenied},

		{"cut", git.PushReply{Exit: 128, Text: "error: RPC failed; curl 56 GnuTLS recv error (-54): Error in the pull function.\nsend-pack: unexpected disconnect while reading sideband packet\nfatal: the remote end hung up unexpectedly\n"}, git.PushUnknown},
		{"cut by the server, without a last word of git", git.PushReply{Exit: 1, Text: "send-pack: unexpected disconnect while reading sideband packet\nerror: error in sideband demultiplexer\nerror: failed to push some refs to 'ssh://git.example.lan/a/b.git'\n"}, git.PushUnknown},
		{"502", git.PushReply{Exit: 1, Text: "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502\nfatal: the remote end hung up unexpectedly\n"}, git.PushUnknown},
		{"deadline", git.PushReply{Exit: -1, Ended: git.ErrDeadline}, git.PushUnknown},
		{"interrupted after the server said yes", git.PushReply{Exit: -1, Ended: context.Canceled, Lines: line(' ', "1..2")}, git.PushUnknown},
		{"killed", git.PushReply{Exit: -1}, git.PushUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := git.ClassifyPush(tc.reply, ref); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestLinks(t *testing.T) {
	reply := git.PushReply{Text: "remote: \nremote: Create a new pull request for 'anna/fan':        \nremote:   https://git.example.lan/lab/infra/compare/main...anna/fan        \n" +
		"remote: Visit the existing pull requests:\nremote:   https://git.example.lan/lab/infra/pulls/7 merges into main\nTo https://git.example.lan/lab/infra.git\nhint: see https://example.org\nremote: javascript://x/y ftp://a/b https:// \n"}
	want := []string{"https://git.example.lan/lab/infra/compare/main...anna/fan", "https://git.example.lan/lab/infra/pulls/7"}
	if got := reply.Links(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for ref, want := range map[string]int64{"refs/pull/7/head": 7, "refs/pull/7/merge": 0, "refs/pull/x/head": 0, "refs/heads/pull/7/head": 0, "refs/pull/-1/head": 0, "refs/for/main": 0} {
		if n, ok := git.PullNumber(ref); n > 0 != ok || ok && n != want || !ok && want != 0 {
			t.Errorf("%s: %d %v", ref, n, ok)
		}
	}
}

func hook(t *testing.T, r *gittest.Repo, name, script string) {
	t.Helper()
	dir := r.Git("rev-parse", "--absolute-git-dir")
	if err := os.MkdirAll(filepath.Join(dir, "hooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hooks", name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// The same classes from a real server, so that the texts above are not only
// remembered.
func TestPushReal(t *testing.T) {
	origin := gittest.New(t, "main", "--bare")
	first := gittest.At(t, filepath.Join(t.TempDir()))
	first.Git("init", "--quiet", "--initial-branch=main")
	first.Write("a", "1")
	one := git.Commit(first.Commit("one"))
	first.Git("push", "--quiet", "file://"+origin.Dir, "main")
	clone := origin.Clone()
	clone.Write("b", "2")
	two := git.Commit(clone.Commit("two"))
	repo := open(t, clone)
	e := git.Endpoint{Remote: "origin"}

	push := func(p git.Push, want git.PushClass) git.PushReply {
		t.Helper()
		reply, err := repo.Push(t.Context(), e, p)
		if err != nil {
			t.Fatal(err)
		}
		if got := git.ClassifyPush(reply, p.Ref); got != want {
			t.Errorf("%s, want %s: %+v", got, want, reply)
		}
		return reply
	}
	push(git.Push{Commit: two, Ref: ref, Expect: two}, git.PushRace) // the lease names a value it does not have
	push(git.Push{Commit: two, Ref: "refs/heads/gone", Expect: one}, git.PushRace)
	if got := origin.Git("for-each-ref", "--format=%(refname)"); got != ref {
		t.Errorf("a push with a lease made a branch: %s", got)
	}

	hook(t, clone, "pre-push", "echo 'tests are red' >&2; exit 1\n")
	if reply := push(git.Push{Commit: two, Ref: ref, Expect: one}, git.PushHook); strings.Join(reply.Words(), "|") != "tests are red" {
		t.Errorf("words %q", reply.Words())
	}
	hook(t, clone, "pre-push", "exit 0\n")

	hook(t, origin, "pre-receive", "echo no tabs, please; exit 1\n")
	if reply := push(git.Push{Commit: two, Ref: ref, Expect: one}, git.PushRejected); !strings.Contains(strings.Join(reply.Words(), "|"), "no tabs, please") {
		t.Errorf("words %q", reply.Words())
	}
	hook(t, origin, "pre-receive", "echo 'Forgejo: Not allowed to push to protected branch main'; exit 1\n")
	push(git.Push{Commit: two, Ref: ref, Expect: one}, git.PushProtected)
	// A server on which another push has won between lease and update.
	hook(t, origin, "pre-receive", "exit 0\n")
	hook(t, origin, "update", "unset GIT_QUARANTINE_PATH; : > refs/heads/main.lock; exit 0\n")
	push(git.Push{Commit: two, Ref: ref, Expect: one}, git.PushRace)
	if err := os.Remove(filepath.Join(origin.Dir, "refs/heads/main.lock")); err != nil {
		t.Fatal(err)
	}
	hook(t, origin, "update", "exit 0\n")

	// The reply is lost after the server has accepted.
	hook(t, origin, "post-receive", "kill -KILL $PPID\n")
	push(git.Push{Commit: two, Ref: ref, Expect: one}, git.PushUnknown)
	if got := origin.Git("rev-parse", ref); got != string(two) {
		t.Errorf("the base is %s", got)
	}
	hook(t, origin, "post-receive", "exit 0\n")
	push(git.Push{Commit: two, Ref: ref, Expect: two}, git.PushLanded)

	// Create only.
	staging := "refs/heads/homelab/land/x"
	if reply, err := repo.Push(t.Context(), e, git.Push{Commit: two, Ref: staging}); err != nil || reply.Exit != 0 {
		t.Fatalf("%+v, %v", reply, err)
	}
	clone.Write("c", "3")
	three := git.Commit(clone.Commit("three"))
	push(git.Push{Commit: three, Ref: staging}, git.PushRace)
	// Deleting is refused unless it is what we left there.
	push(git.Push{Ref: staging, Expect: one}, git.PushRace)
	if reply, err := repo.Push(t.Context(), e, git.Push{Ref: staging, Expect: two}); err != nil || reply.Exit != 0 {
		t.Fatalf("%+v, %v", reply, err)
	}

	// Interrupted while the server thinks.
	hook(t, origin, "pre-receive", "sleep 30\n")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("enough"))
	defer cancel()
	began := time.Now()
	reply, err := repo.Push(ctx, e, git.Push{Commit: three, Ref: ref, Expect: two})
	if err != nil || reply.Ended == nil || reply.Ended.Error() != "enough" || time.Since(began) > 3*time.Second {
		t.Errorf("%+v, %v after %s", reply, err, time.Since(began))
	}
	hook(t, origin, "pre-receive", "exit 0\n")

	// Where the server is gone.
	if err := os.Rename(origin.Dir, origin.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	push(git.Push{Commit: three, Ref: ref, Expect: two}, git.PushDenied)
	if err := os.Rename(origin.Dir+".away", origin.Dir); err != nil {
		t.Fatal(err)
	}
}

package landing

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/poll"
)

// Forgejo and Gitea make a pull request of a push to refs/for/BASE, which
// needs neither a token nor the right to write. The topic names the request:
// the same one updates it (ADR 0031).

const (
	mostForTries    = 3    // pushes of one request whose replies were lost
	mostDescription = 4096 // bytes; it travels as a push option, in one line
)

// forTopic names the branch's request. A branch that is no task's has its
// whole name, as the last part of two may be the same.
func (l *lander) forTopic() string {
	if l.task.Topic != "" {
		return l.task.Topic
	}
	return l.out.Branch
}

// pushFor proposes the head by pushing to refs/for/BASE. done is false, and
// nothing is left on the server, when that server does not do so.
func (l *lander) pushFor(ctx context.Context, access Access) (done bool, err error) {
	topic, ref := l.forTopic(), "refs/for/"+l.out.Base
	p := git.Push{Commit: l.out.Head, Ref: ref, Plain: true, Options: []string{
		"topic=" + topic, "title=" + l.title(), "description=" + description(l.body()),
	}}
	mine, before := l.reviewed(func(r Record) bool { return r.Topic == topic && r.Remote == l.out.Remote && r.Base == l.out.Base })
	rewritten, err := l.rewritten(ctx, mine, before)
	if err != nil {
		return false, err
	}
	if rewritten {
		p.Options = append(p.Options, "force-push=true")
	}
	l.rec.Topic = topic
	if err := l.review(); err != nil {
		return false, err
	}
	for try := 1; ; try++ {
		reply, err := l.push(ctx, p)
		switch {
		case err != nil:
			return false, err
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case reply.NoPushOptions():
			l.rec.Topic = ""
			return false, nil
		}
		var line git.RefLine
		if len(reply.Lines) == 1 {
			line = reply.Lines[0]
		}
		switch {
		case reply.Exit == 0 && line.Flag != 0 && line.Flag != '!':
			return l.made(ctx, access, line.To, reply.Links(), before)
		case line.Flag == '!' && contains(line.Summary, "same as the old commit", "same with old commit"):
			// What is proposed already, also by a push whose reply was lost.
			return l.made(ctx, access, "", nil, before)
		}
		class := git.ClassifyPush(reply, ref)
		if class == git.PushUnknown && try < mostForTries { // the same push again changes nothing
			if err := poll.Sleep(ctx, l.Jitter(time.Second)); err != nil {
				return false, err
			}
			continue
		}
		return true, l.notMade(class, line, strings.Join(reply.Words(), "; "))
	}
}

// made notes the request that a push to refs/for/BASE made or updated. to is
// the ref that the server says it moved; "" when it moved none.
func (l *lander) made(ctx context.Context, access Access, to string, links []string, before *PullRequest) (done bool, err error) {
	n, known := git.PullNumber(to)
	address := ""
	for _, link := range links {
		if at, err := strconv.ParseInt(path.Base(link), 10, 64); err == nil && strings.HasSuffix(path.Dir(link), "/pulls") && (!known || at == n) {
			n, known, address = at, true, link
			break
		}
	}
	if !known && to != "" {
		if stray, err := l.unpushFor(ctx, to); stray || err != nil {
			l.rec.Topic = ""
			return false, err
		}
	}
	if !known {
		heads, err := l.pullHeads(ctx)
		if err != nil {
			return false, err
		}
		for at, c := range heads {
			if c == l.out.Head && at > n {
				n, known = at, true
			}
		}
	}
	if !known && before != nil {
		n, known = before.Number, true
	}
	page := l.page(access, l.url)
	if !known {
		return true, stop(fault.Held, "homelab work land", "%s takes pull requests only; one was made of %s, and the server does not say its number", l.out.Base, l.out.Branch)
	}
	if address == "" && before != nil && before.Number == n {
		address = before.URL
	}
	if address == "" && page != "" {
		address = fmt.Sprintf("%s/pulls/%d", page, n)
	}
	return true, l.proposed(PullRequest{URL: address, Number: n, State: "open"})
}

// unpushFor takes a ref away again that a server made of a push it did not
// understand, and says whether there was one.
func (l *lander) unpushFor(ctx context.Context, ref string) (bool, error) {
	var told git.Advertised
	if err := l.asking(ctx, func() (err error) { told, err = l.Repo.LsRemote(ctx, l.endpoint, ref); return err }); err != nil {
		return false, err
	}
	if told.Refs[ref] != l.out.Head {
		return false, nil
	}
	reply, err := l.Repo.Push(ctx, l.endpoint, git.Push{Ref: ref, Expect: l.out.Head})
	if err != nil {
		return true, err
	}
	if reply.Exit != 0 {
		l.warn("%s made %s of the proposal, and keeps it: %s", l.out.Remote, ref, strings.Join(reply.Words(), "; "))
	}
	return true, nil
}

// notMade is what a refused push to refs/for/BASE means.
func (l *lander) notMade(class git.PushClass, line git.RefLine, words string) *fault.Error {
	again := "homelab work land"
	if words == "" {
		words = line.Summary
	}
	switch {
	case contains(line.Summary, "force-push"):
		return stop(fault.Conflict, again, "the pull request of %s at %s has commits that are not this clone's; the base is unchanged", l.forTopic(), l.out.Remote).Because(words)
	case contains(line.Summary, "already contains this commit"):
		return stop(fault.Conflict, again, "%s got these commits meanwhile", l.out.Base).Because(words)
	}
	switch class {
	case git.PushUnknown:
		return stop(fault.Unreachable, again, "whether %s got the pull request is not known; the base is unchanged", l.out.Remote).Because(words)
	case git.PushHook, git.PushSubmodule:
		return stop(fault.Failed, again, "%s was not proposed to %s", l.out.Branch, l.out.Remote).Because(words)
	case git.PushConfig:
		return stop(fault.Usage, "git config --show-origin --get-regexp '^(push|remote)[.]'", "as git is configured here, it cannot push to %s", l.out.Remote).Because(words)
	case git.PushLanded, git.PushPolicy, git.PushProtected, git.PushRace, git.PushRejected, git.PushDenied, git.PushImpossible:
	}
	return stop(fault.Denied, again, "%s refuses the pull request; the base is unchanged", l.out.Remote).Because(words)
}

// rewritten says whether the request has commits that the head replaces. Only
// what this clone put there may be replaced, and there is no lease on it: what
// the server shows just now has to do.
func (l *lander) rewritten(ctx context.Context, mine []git.Commit, pull *PullRequest) (bool, error) {
	lost := false
	for _, c := range mine {
		in, err := l.Repo.IsAncestor(ctx, c, l.out.Head)
		if err != nil {
			return false, err
		}
		lost = lost || in != git.Yes
	}
	if !lost || pull == nil {
		return false, nil
	}
	heads, err := l.pullHeads(ctx)
	if err != nil {
		return false, err
	}
	at := heads[pull.Number]
	if at == "" || !slices.Contains(mine, at) {
		return false, nil
	}
	in, err := l.Repo.IsAncestor(ctx, at, l.out.Head)
	return in != git.Yes, err
}

func (l *lander) pullHeads(ctx context.Context) (heads map[int64]git.Commit, err error) {
	err = l.asking(ctx, func() (err error) { heads, err = l.Repo.PullHeads(ctx, l.endpoint); return err })
	return heads, err
}

// description is a request's body as a push option: those have no line breaks.
func description(body string) string {
	var parts []string
	for line := range strings.Lines(body) {
		if line = oneLine(line); line != "" {
			parts = append(parts, strings.TrimPrefix(line, "* "))
		}
	}
	s := strings.Join(parts, "; ")
	if len(s) <= mostDescription {
		return s
	}
	s = s[:mostDescription]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + " ..."
}

func contains(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
}

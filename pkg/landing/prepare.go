package landing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/poll"
	"homelab/pkg/ui"
)

// task is what was written down when the branch was started.
type task struct {
	Topic  string `json:"topic"`
	Branch string `json:"branch"`
	Base   string `json:"base"`
	Named  bool   `json:"named"` // the base was asked for by name
	Remote string `json:"remote"`
}

// taskOf reads the record of the branch's task; a zero one without.
func taskOf(common, branch string) task {
	dir := filepath.Join(common, "homelab", "tasks")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return task{}
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // an entry of our own directory
		var t task
		if err == nil && json.Unmarshal(data, &t) == nil && t.Branch == branch {
			return t
		}
	}
	return task{}
}

// The oldest git that can merge without a work tree.
const (
	gitMajor = 2
	gitMinor = 38
)

// prepare finds out what is to be landed where, and freezes it. Nothing but
// the clone's lock and refs below refs/homelab/ changes.
func (l *lander) prepare(ctx context.Context) error {
	if err := l.local(ctx); err != nil {
		return err
	}
	var err error
	who := fmt.Sprintf("%s (process %d)", l.out.Branch, os.Getpid())
	l.lock, err = acquire(ctx, l.Repo.CommonDir(), who, func(holder string) {
		l.say("land", "waiting for the landing of %s in this clone", holder)
	})
	if err != nil {
		if ctx.Err() != nil && fault.KindOf(context.Cause(ctx)) == fault.Timeout {
			return stop(fault.Timeout, "homelab work land", "time is up while another landing of this clone goes on; nothing was pushed").From(err)
		}
		return err
	}
	if l.out.ID, err = newID(time.Now()); err != nil {
		return err
	}

	// The work tree is looked at while the remote answers; what is wrong with
	// it is told first, as the remote has nothing to do with it.
	var st git.Status
	network, giveUp := context.WithCancel(ctx)
	defer giveUp()
	looked := ask(func() (err error) {
		if st, err = l.Repo.Status(ctx, false); err != nil || st.Head == "" || len(st.Changed) > 0 {
			giveUp()
		} else {
			l.lookForFilters(ctx, st.Head)
		}
		return err
	})
	var lsErr error
	remote, found := l.remote(ctx)
	if found == nil {
		l.say("land", "%s: asking %s for the base", l.out.Branch, remote)
		lsErr = l.discover(network, remote)
	}
	if err := looked.answer(); err != nil {
		return err
	}
	if err := l.clean(st); err != nil {
		l.out.Base, l.out.BaseBefore = "", "" // how far the question to the remote had come is chance
		return err
	}
	if err := errors.Join(found, lsErr); err != nil {
		return err
	}
	return l.snapshot(ctx)
}

// local makes the checks that need nobody else.
func (l *lander) local(ctx context.Context) error {
	v, err := git.Installed(ctx, l.Repo.Root(), l.Env)
	if err != nil {
		return err
	}
	if !v.AtLeast(gitMajor, gitMinor) {
		return stop(fault.Usage, "git --version", "git %s is too old: landing needs %d.%d or newer", v, gitMajor, gitMinor)
	}
	if l.Repo.Bare() {
		return stop(fault.Usage, "git worktree list", "this is a bare repository; land from one of its work trees")
	}
	branch, on, err := l.Repo.CurrentBranch(ctx)
	if err != nil {
		return err
	}
	if doing := l.Repo.InProgress(); doing != "" {
		next := "git " + doing + " --abort"
		if doing == "bisect" {
			next = "git bisect reset"
		}
		return stop(fault.Usage, next, "a %s is in progress here; end it first", doing)
	}
	if !on {
		return stop(fault.Usage, "git switch -c TOPIC", "no branch is checked out (HEAD is detached)")
	}
	l.out.Branch = branch
	if l.cfg, err = l.Repo.Config(ctx); err != nil {
		return err
	}
	l.Repo = l.Repo.Unattended(l.cfg)
	if !l.Repo.Identified(l.cfg) {
		if _, err := l.Repo.Committer(ctx); err != nil {
			return stop(fault.Usage, "git config --global user.email YOU@EXAMPLE.ORG", "git does not know who you are").From(err)
		}
	}
	l.task = taskOf(l.Repo.CommonDir(), branch)
	return nil
}

const mostNamed = 10 // files a message lists

// clean refuses what is likely a forgotten commit.
func (l *lander) clean(st git.Status) error {
	if st.Head == "" {
		return stop(fault.Usage, "git commit", "%s has no commit yet", l.out.Branch)
	}
	l.out.Head = st.Head
	if len(st.Changed) > 0 {
		return stop(fault.Usage, "git commit -a", "%d changed file(s) are not committed: %s", len(st.Changed), listed(st.Changed))
	}
	if len(st.Untracked) > 0 {
		l.warn("untracked, so neither verified nor landed: %s", listed(st.Untracked))
	}
	return nil
}

func listed(names []string) string {
	s := strings.Join(names[:min(mostNamed, len(names))], ", ")
	if len(names) > mostNamed {
		s += fmt.Sprintf(" and %d more", len(names)-mostNamed)
	}
	return s
}

// remote finds the landing remote.
func (l *lander) remote(ctx context.Context) (string, error) {
	all := l.cfg.Remotes()
	if len(all) == 0 {
		return "", stop(fault.Usage, "git remote add origin URL", "this clone has no remote to land on")
	}
	var err error
	urls := map[string]string{}
	in := remotes{flag: l.o.Remote, task: l.task.Remote, preferred: l.cfg.Get("checkout.defaultremote"), configured: all}
	in.same = func(a, b string) bool { return urls[a] != "" && sameURL(urls[a], urls[b]) }
	base := l.o.Base
	if base == "" && l.task.Named {
		base = l.task.Base
	}
	if base != "" {
		if r := l.cfg.Get("branch." + base + ".remote"); slices.Contains(all, r) {
			in.ofBase = r
		}
	}
	if len(all) > 1 && in.flag == "" && in.task == "" {
		for _, n := range all {
			if urls[n], _, err = l.Repo.URLs(ctx, l.cfg, n); err != nil {
				return "", err
			}
		}
		if in.file, err = l.remoteOfFile(ctx, all); err != nil {
			return "", err
		}
		// The branch of an unnamed base is the default one, which the clone
		// knows well enough to choose by; the live one decides all the rest.
		if base == "" && in.ofBase == "" {
			in.ofBase = l.remoteOfDefault(ctx, all)
		}
	}
	name, why, left := chooseRemote(in)
	if name == "" {
		name, left = l.writable(ctx, left)
	}
	switch {
	case name == "":
		return "", stop(fault.Usage, ui.Command("homelab", "work", "land", "--remote", strings.Fields(left[0])[0]),
			"several remotes could take the landing: %s; write \"remote: NAME\" into %s, or say --remote", strings.Join(left, ", "), l.File)
	case !slices.Contains(all, name):
		return "", stop(fault.Usage, "git remote -v", "%s names the remote %q, which this clone does not have", why, name)
	}
	return name, nil
}

// remoteOfFile reads which remote the cached default branches' files name.
func (l *lander) remoteOfFile(ctx context.Context, all []string) (string, error) {
	named := ""
	for _, n := range all {
		data, err := l.Repo.File(ctx, "refs/remotes/"+n+"/HEAD", l.File)
		if err != nil {
			if ctx.Err() != nil {
				return "", err
			}
			continue // no such branch, or no file in it: it names none
		}
		rules, err := l.Rules(n+"/HEAD:"+l.File, data)
		if err != nil {
			return "", err
		}
		if rules.Remote == "" || rules.Remote == named {
			continue
		}
		if named != "" {
			return "", stop(fault.Usage, ui.Command("homelab", "work", "land", "--remote", named), "the default branches of the remotes name different remotes: %s and %s", named, rules.Remote)
		}
		named = rules.Remote
	}
	return named, nil
}

// remoteOfDefault returns branch.B.remote of the local branch that has the
// name of the cached default branches, if they agree.
func (l *lander) remoteOfDefault(ctx context.Context, all []string) string {
	found := ""
	for _, b := range []string{"main", "master", "trunk"} {
		r := l.cfg.Get("branch." + b + ".remote")
		if r == "" || !slices.Contains(all, r) || b == l.out.Branch {
			continue
		}
		if found != "" && found != r || ctx.Err() != nil {
			return ""
		}
		found = r
	}
	return found
}

// asking repeats a question to the remote: what may be mended for a while, what
// was refused three times.
func (l *lander) asking(ctx context.Context, f func() error) error {
	patience := l.Patience
	if patience <= 0 {
		patience = time.Minute
	}
	return persistent(ctx, patience, func(contact *git.ContactError) {
		l.say("land", "%s does not answer, asking again: %s", l.remoteName(), contact.Text)
	}, f)
}

// persistent repeats f while its remote cannot be reached, for as long as
// patience says, and tells trouble once when asking again did not help at once;
// it may be nil. When ctx ends first the error holds what was in the way too.
func persistent(ctx context.Context, patience time.Duration, trouble func(*git.ContactError), f func() error) error {
	pause := poll.Exponential(500*time.Millisecond, 8*time.Second, 0.25)
	began, refused, broken := time.Now(), 0, 0
	for {
		err := f()
		contact, ok := errors.AsType[*git.ContactError](err)
		if !ok {
			return err
		}
		wait := pause.Next()
		switch contact.Contact {
		case git.Refused:
			if refused++; refused >= 3 {
				return err
			}
			wait = 2 * time.Second
		case git.Broken:
			if time.Since(began)+wait > patience {
				return err
			}
			if broken++; broken == 2 && trouble != nil {
				trouble(contact)
			}
		}
		if sleepErr := poll.Sleep(ctx, wait); sleepErr != nil {
			return errors.Join(sleepErr, err)
		}
	}
}

// discover asks the remote for the base, brings its tip here and reads the
// rules from it.
func (l *lander) discover(ctx context.Context, remote string) error {
	l.out.Remote = remote
	fetch, push, err := l.Repo.URLs(ctx, l.cfg, remote)
	if err != nil {
		return err
	}
	l.url = fetch
	if len(push) > 1 {
		return stop(fault.Usage, ui.Command("git", "remote", "get-url", "--push", "--all", remote), "%s pushes to %d places; a landing has one", remote, len(push))
	}
	l.endpoint = git.Endpoint{Remote: remote}
	if push[0] != fetch {
		// A lease taken from a mirror that lags behind would never match.
		l.endpoint = git.Endpoint{Remote: push[0], Push: remote}
	}

	named := l.o.Base
	if named == "" && l.task.Named {
		named = l.task.Base
	}
	var refs []string
	if named != "" {
		refs = []string{"refs/heads/" + named}
	}
	var told git.Advertised
	if err := l.asking(ctx, func() (err error) { told, err = l.Repo.LsRemote(ctx, l.endpoint, refs...); return err }); err != nil {
		return err
	}
	tip := told.Refs["HEAD"]
	switch {
	case named != "":
		if tip = told.Refs[refs[0]]; tip == "" {
			return stop(fault.Usage, ui.Command("git", "ls-remote", "--heads", remote), "%s has no branch %s", remote, named)
		}
		l.out.Base = named
	case told.Head == "" || tip == "" || !strings.HasPrefix(told.Head, "refs/heads/"):
		return stop(fault.Usage, "homelab work land --base BRANCH", "%s does not say which its default branch is", remote)
	default:
		l.out.Base = strings.TrimPrefix(told.Head, "refs/heads/")
	}
	if err := l.bring(ctx, tip); err != nil {
		return err
	}
	if err := l.readRules(ctx); err != nil {
		return err
	}
	if other := l.rules.Base; named == "" && other != "" && other != l.out.Base {
		l.out.Base = other
		err := l.bring(ctx, "")
		if errors.Is(err, git.ErrNoTip) {
			return stop(fault.Usage, ui.Command("git", "ls-remote", "--heads", remote), "%s names the base %s, which %s does not have", l.File, other, remote)
		} else if err != nil {
			return err
		}
		if err := l.readRules(ctx); err != nil {
			return err
		}
	}
	if r := l.rules.Remote; r != "" && r != remote && l.o.Remote == "" && l.task.Remote == "" {
		return stop(fault.Usage, ui.Command("homelab", "work", "land", "--remote", r), "%s on %s says to land on %s, not on %s", l.File, l.out.Base, r, remote)
	}
	return nil
}

// baseRef keeps the base's tip from being collected, without moving a
// remote-tracking ref that is the user's.
func (l *lander) baseRef() string      { return "refs/homelab/land/" + l.out.ID + "/base" }
func (l *lander) candidateRef() string { return "refs/homelab/land/" + l.out.ID + "/candidate" }
func (l *lander) baseName() string     { return "refs/heads/" + l.out.Base }

// bring makes the base's tip present and BaseBefore it. tip is what the remote
// just said; "" is not known.
func (l *lander) bring(ctx context.Context, tip git.Commit) error {
	l.refs = []string{l.baseRef()}
	if tip != "" {
		have, err := l.Repo.Exists(ctx, tip)
		if err != nil {
			return err
		}
		if have {
			l.out.BaseBefore = tip
			return l.Repo.UpdateRefs(ctx, git.RefChange{Name: l.baseRef(), New: tip, Whatever: true})
		}
	}
	if err := l.asking(ctx, func() error {
		return l.Repo.Fetch(ctx, l.endpoint, 0, "+"+l.baseName()+":"+l.baseRef())
	}); err != nil {
		return err
	}
	tip, err := l.Repo.Tip(ctx, l.baseRef())
	if err == nil && tip == "" {
		err = fmt.Errorf("%s is not there after it was fetched", l.baseRef())
	}
	l.out.BaseBefore = tip
	return err
}

// readRules reads the configuration file in the base: a branch must not be
// able to weaken its own gate.
func (l *lander) readRules(ctx context.Context) error {
	l.rules = Rules{}
	data, err := l.Repo.TreeFile(ctx, string(l.out.BaseBefore), l.File)
	if errors.Is(err, git.ErrNoFile) {
		return nil
	} else if err != nil {
		return err
	}
	l.rules, err = l.Rules(l.out.Base+":"+l.File, data)
	return err
}

// snapshot reads what is to be landed, and refuses what cannot be meant.
func (l *lander) snapshot(ctx context.Context) error {
	if l.out.Branch == l.out.Base {
		return stop(fault.Usage, "homelab work start TOPIC", "%s is the base itself: land from a branch", l.out.Base)
	}
	if err := l.complete(ctx); err != nil {
		return err
	}
	if err := l.compare(ctx); err != nil {
		return err
	}
	if odd := unfinished(l.list); len(odd) > 0 {
		return stop(fault.Usage, "git rebase -i --autosquash "+l.out.BaseBefore.Short(), "%d commit(s) wait to be squashed: %s", len(odd), listed(odd))
	}
	if l.gated = l.o.GateCI || l.rules.GateCI; l.gated && l.CI == nil {
		return stop(fault.Usage, "homelab doctor", "the gate is CI, and no CI server is configured")
	}
	if l.CI != nil && (l.gated || !l.o.NoWatch) {
		if err := l.CI.Configured(ctx); err != nil {
			return err
		}
		asking, giveUp := context.WithCancel(ctx)
		l.ciGiveUp = giveUp
		l.ciReady = ask(func() error { return l.CI.Ready(asking, l.url) })
	}
	if targets := l.targets(); len(targets) > 0 && l.Deploy != nil {
		if err := l.Deploy.Ready(ctx); err != nil {
			return err
		}
	}
	l.say("land", "%s onto %s at %s", l.out.Branch, l.out.Base, l.place())
	return l.others(ctx)
}

// place names the landing remote for a person.
func (l *lander) place() string {
	if r, err := git.ParseRemote(l.url); err == nil {
		return l.out.Remote + " (" + r.String() + ")"
	}
	return l.out.Remote
}

// targets are the workloads to wait for; the command line replaces the file.
func (l *lander) targets() []string {
	switch {
	case len(l.o.Targets) > 0:
		return l.o.Targets
	case l.o.NoWatch:
		return nil
	}
	return l.rules.Deploy
}

// others warns of another task's commits among those to be landed.
func (l *lander) others(ctx context.Context) error {
	if tasks, err := os.ReadDir(filepath.Join(l.Repo.CommonDir(), "homelab", "tasks")); err != nil || len(tasks) == 0 || len(tasks) == 1 && l.task.Topic != "" {
		return nil //nolint:nilerr // no other tasks, nothing to warn of
	}
	refs, err := l.Repo.Refs(ctx, "refs/heads/")
	if err != nil {
		return err
	}
	for _, r := range refs {
		name := strings.TrimPrefix(r.Name, "refs/heads/")
		if name == l.out.Branch || r.Commit == l.out.Head {
			continue
		}
		if t := taskOf(l.Repo.CommonDir(), name); t.Topic != "" && slices.ContainsFunc(l.list, func(e git.Entry) bool { return e.Commit == r.Commit }) {
			l.warn("the commits of task %s (%s) are part of this branch and land with it", t.Topic, name)
		}
	}
	return nil
}

// complete makes sure that a shallow clone knows where the branch left the
// base. It never cuts history: only more is fetched.
func (l *lander) complete(ctx context.Context) error {
	if cut, err := exists(filepath.Join(l.Repo.CommonDir(), "shallow")); err != nil || !cut {
		return err
	}
	for try := 0; ; try++ {
		_, err := l.Repo.MergeBase(ctx, l.out.BaseBefore, l.out.Head)
		if err == nil || !errors.Is(err, git.ErrUnrelated) {
			return err
		}
		shallow, err := l.Repo.IsShallow(ctx)
		if err != nil {
			return err
		}
		if !shallow || try == 4 {
			return stop(fault.Usage, "git log --oneline --graph HEAD "+l.out.BaseBefore.Short(), "%s and %s have no commit in common", l.out.Branch, l.out.Base)
		}
		deepen := 200
		if try == 3 {
			deepen = -1
		}
		if err := l.asking(ctx, func() error {
			return l.Repo.Fetch(ctx, l.endpoint, deepen, "+"+l.baseName()+":"+l.baseRef())
		}); err != nil {
			return err
		}
	}
}

// logFile is where the verification's output goes.
func (l *lander) logFile() string {
	return filepath.Join(landings(l.Repo.CommonDir()), l.out.ID, "verify.log")
}

func exists(name string) (bool, error) {
	_, err := os.Lstat(name) //nolint:gosec // only whether it is there
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

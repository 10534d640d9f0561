package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// say is an answer of the gate: three-valued, because a registry may not have
// answered.
type say int

const (
	unknown say = iota
	no
	yes
)

// gate is what the image gate says about the target's template.
type gate struct {
	say        say
	awaited    bool   // unknown only because an answer is on its way
	by         string // how it matched
	containers []string
	image      string // of the first gated container
	// expected is what it matched: what was asked for, or a newer commit.
	expected Expected
	newer    bool
	repos    []string        // of the containers that match
	tagged   map[string]bool // containers whose own tag names the expected
	odd      []string        // containers that do not match though others of their repository do
	unasked  []string        // references whose registry did not answer, with its words
	how      string          // what was compared
	dirty    bool
}

// weak reports whether the gate's own kind can never prove an identity.
func (g gate) weak() bool { return g.by == "" || g.by == byChangedSince }

const byChangedSince = "changed-since"

// judgeGate compares the target's template with what is expected; with
// AcceptNewer a descendant of the expected commit will do.
func (a *assessor) judgeGate() gate {
	g := a.judge(a.c.Expected)
	if g.say == yes || a.c.Expected.Commit == "" {
		return g
	}
	for _, found := range a.found(g) {
		d, ok := a.s.Ancestry[found]
		if !ok {
			a.want(Want{Kind: WantAncestry, Reference: found})
			if a.c.AcceptNewer && g.say == no {
				g.say, g.awaited = unknown, true
			}
			continue
		}
		if d.Answer != Yes || !a.c.AcceptNewer {
			continue
		}
		e := a.c.Expected
		e.Commit, e.Typed = found, 0
		if strings.HasPrefix(d.Commit, found) {
			e.Commit = d.Commit
		}
		if n := a.judge(e); n.say == yes {
			n.newer = true
			return n
		}
	}
	return g
}

// found lists the commits that the gated images themselves name.
func (a *assessor) found(g gate) []string {
	var out []string
	add := func(text string) {
		for _, t := range commitLike(text) {
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	for _, c := range a.t.Template.Containers {
		if !slices.Contains(g.containers, c.Name) {
			continue
		}
		add(ParseReference(c.Image).Tag)
		if i, ok := a.s.Images[c.Image]; ok {
			for _, r := range i.Revisions {
				add(r)
			}
		}
	}
	return out
}

// judge evaluates the gates for e: the commit's or build's, the image's, the
// digest's and the change's. All that were asked for must match.
func (a *assessor) judge(e Expected) gate {
	if a.c.NoGate {
		return gate{say: yes, containers: a.chosen(), image: a.imageOf(a.chosen()), expected: e, how: "no image gate"}
	}
	var parts []gate
	if e.Commit != "" || e.Build != "" {
		parts = append(parts, a.combine(e, a.climb, a.annotated))
	}
	if e.Image != "" || e.Digest != "" {
		parts = append(parts, a.combine(e, a.byDigest, nil))
	}
	if !a.c.ChangedSince.IsZero() {
		parts = append(parts, a.changed(e))
	}
	if len(a.c.Images) > 0 {
		parts = append(parts, a.exactly(e))
	}
	if len(parts) == 0 {
		return gate{say: no, containers: a.chosen(), image: a.imageOf(a.chosen()), expected: e, how: "nothing is expected"}
	}
	out := parts[0]
	for _, p := range parts[1:] {
		switch {
		case p.say == no && out.say != no:
			p.repos, p.tagged, p.unasked = append(p.repos, out.repos...), out.tagged, append(p.unasked, out.unasked...)
			out = p
		case p.say == unknown && out.say == yes:
			p.repos, p.tagged = append(p.repos, out.repos...), out.tagged
			out = p
		case p.say == unknown && out.say == unknown:
			out.awaited = out.awaited || p.awaited
			out.unasked = append(out.unasked, p.unasked...)
		}
	}
	return out
}

// verdictOf is one container's answer.
type verdictOf struct {
	say     say
	awaited bool
	by      string
	failed  string // the registry's words
	tag     bool
}

// combine joins the answers for the containers. Those that must match are the
// chosen ones, or all that share a repository with one that matches or ever
// matched: an application and its migration are updated together or not at all.
func (a *assessor) combine(e Expected, one func(Container, Expected) verdictOf, all func(Expected) string) gate {
	g := gate{expected: e, tagged: map[string]bool{}, how: a.how(e)}
	answers := map[string]verdictOf{}
	repos := slices.Clone(a.s.Memory.Repos)
	for _, c := range a.t.Template.Containers {
		if len(a.c.Containers) > 0 && !slices.Contains(a.c.Containers, c.Name) {
			continue
		}
		ref := ParseReference(c.Image)
		v := one(c, e)
		answers[c.Name] = v
		if v.say != yes {
			continue
		}
		g.tagged[c.Name] = v.tag
		if !slices.Contains(g.repos, ref.Repo) {
			g.repos = append(g.repos, ref.Repo)
		}
		if v.tag && dirty(ref.Tag) {
			g.dirty = true
		}
	}
	repos = append(repos, g.repos...)
	for _, c := range a.t.Template.Containers {
		if _, ok := answers[c.Name]; ok && (len(a.c.Containers) > 0 || slices.Contains(repos, ParseReference(c.Image).Repo)) {
			g.containers = append(g.containers, c.Name)
		}
	}
	if len(g.repos) == 0 && (len(a.c.Containers) > 0 || len(a.s.Memory.Repos) == 0) {
		if all != nil {
			if by := all(e); by != "" {
				g.containers = a.chosen()
				g.say, g.by, g.image = yes, by, a.imageOf(g.containers)
				return g
			}
		}
	}
	if len(g.containers) == 0 {
		g.containers = a.chosen()
	}
	g.image = a.imageOf(g.containers)
	g.say = yes
	for _, name := range g.containers {
		v := answers[name]
		switch v.say {
		case yes:
			if g.by == "" {
				g.by = v.by
				g.image = a.imageOf([]string{name})
			}
		case no:
			if g.say = no; len(g.repos) > 0 {
				g.odd = append(g.odd, name)
			}
		case unknown:
			if g.say == yes {
				g.say = unknown
			}
			if len(g.repos) > 0 {
				g.odd = append(g.odd, name)
			}
			g.awaited = g.awaited || v.awaited
			if v.failed != "" {
				g.unasked = append(g.unasked, a.imageOf([]string{name})+": "+v.failed)
			}
		}
	}
	if len(a.c.Containers) > 0 {
		for _, name := range a.c.Containers {
			if _, ok := answers[name]; !ok {
				g.say = no // a container that is not there runs nothing
				g.odd = append(g.odd, name)
			}
		}
	}
	if g.say != yes {
		g.by = ""
	}
	return g
}

// exactly compares the template with the references it was given, container by
// container: whoever applied them wants to know whether they still stand there.
func (a *assessor) exactly(e Expected) gate {
	g := gate{say: yes, by: "image", expected: e, tagged: map[string]bool{}, how: "the images that were applied"}
	for _, name := range slices.Sorted(maps.Keys(a.c.Images)) {
		g.containers = append(g.containers, name)
		c, ok := a.t.Template.Container(name)
		if ok && c.Image == a.c.Images[name] {
			if repo := ParseReference(c.Image).Repo; !slices.Contains(g.repos, repo) {
				g.repos = append(g.repos, repo)
			}
			continue
		}
		g.say, g.by, g.odd = no, "", append(g.odd, name)
	}
	g.image = a.imageOf(g.containers)
	return g
}

// chosen are the containers a gate is reported against while none matches:
// the named ones, else those of the only repository that is no well-known
// companion's, else all.
func (a *assessor) chosen() []string {
	if len(a.c.Containers) > 0 {
		return a.c.Containers
	}
	var repos, own, every []string
	for _, c := range a.t.Template.Containers {
		every = append(every, c.Name)
		repo := ParseReference(c.Image).Repo
		if aside(repo) {
			continue
		}
		own = append(own, c.Name)
		if !slices.Contains(repos, repo) {
			repos = append(repos, repo)
		}
	}
	if len(repos) == 1 {
		return own
	}
	return every
}

// imageOf is the reference of the first of the named containers; of several,
// a main container's comes first.
func (a *assessor) imageOf(names []string) string {
	out := ""
	for _, c := range a.t.Template.Containers {
		if slices.Contains(names, c.Name) && (out == "" || !c.Init) {
			if out = c.Image; !c.Init {
				return out
			}
		}
	}
	return out
}

// climb takes the steps for a commit or build id on one container. Once a step
// has matched, later ones are not tried: an image that moved on is known by
// what its predecessor was known by.
func (a *assessor) climb(c Container, e Expected) verdictOf {
	ref := ParseReference(c.Image)
	if a.step(MatchTag) && ref.Tag != "" && carries(ref.Tag, e, false) {
		return verdictOf{say: yes, by: "tag", tag: true}
	}
	if a.step(MatchAnnotation) && a.c.Key == "" {
		for _, key := range revisionEnv() {
			if v := c.Env[key]; v != "" && carries(v, e, false) {
				return verdictOf{say: yes, by: "env:" + key}
			}
		}
	}
	// A companion's image is not worth a request, nor is one when the template
	// itself has answered.
	if !a.step(MatchLabel) || a.annotated(e) != "" || (len(a.c.Containers) == 0 && aside(ref.Repo)) {
		return verdictOf{say: no}
	}
	answer, known, awaited := a.asked(c.Image)
	switch {
	case awaited:
		return verdictOf{awaited: true}
	case !known:
		return verdictOf{failed: answer.Err}
	case slices.ContainsFunc(answer.Revisions, func(r string) bool { return carries(r, e, false) }):
		return verdictOf{say: yes, by: "label"}
	default:
		return verdictOf{say: no}
	}
}

// step reports whether the ladder reaches a step.
func (a *assessor) step(m Match) bool {
	if a.c.Match != MatchAuto && a.c.Match != "" {
		return a.c.Match == m
	}
	if len(a.s.Memory.Matches) == 0 {
		return m != MatchDigest
	}
	by, _, _ := strings.Cut(a.s.Memory.Matches[len(a.s.Memory.Matches)-1].By, ":")
	switch by {
	case "tag":
		return m == MatchTag
	case "annotation", "env":
		return m == MatchTag || m == MatchAnnotation
	default:
		return m != MatchDigest
	}
}

// annotated looks for the expected in the template's own annotations and
// labels, which speak for the pod as a whole, and returns how it was found.
func (a *assessor) annotated(e Expected) string {
	if !a.step(MatchAnnotation) {
		return ""
	}
	keys := revisionKeys()
	if a.c.Key != "" {
		keys = []string{a.c.Key}
	}
	for _, key := range keys {
		for _, m := range []map[string]string{a.t.Template.Annotations, a.t.Template.Labels} {
			if v := m[key]; v != "" && carries(v, e, key == versionKey) {
				return "annotation:" + key
			}
		}
	}
	return ""
}

// byDigest answers for the wanted image and digest.
func (a *assessor) byDigest(c Container, e Expected) verdictOf {
	out := verdictOf{say: yes}
	ref := ParseReference(c.Image)
	join := func(v verdictOf) {
		if v.say == no || (v.say == unknown && out.say == yes) {
			v.awaited = v.awaited || out.awaited
			out = v
		}
		if out.by == "" {
			out.by = v.by
		}
	}
	if e.Image != "" {
		join(a.sameImage(ref, ParseReference(e.Image)))
	}
	if e.Digest != "" {
		join(a.sameDigest(c, ref, e.Digest))
	}
	return out
}

func (a *assessor) sameImage(ref, want Reference) verdictOf {
	if ref.same(want) {
		return verdictOf{say: yes, by: "image"}
	}
	if len(a.c.Containers) == 0 && ref.Repo != want.Repo && aside(ref.Repo) {
		return verdictOf{say: no}
	}
	mine, ok, waiting := a.asked(ref.Written)
	other, ok2, waiting2 := a.asked(want.Written)
	switch {
	case waiting || waiting2:
		return verdictOf{awaited: true}
	case !ok:
		return verdictOf{failed: mine.Err}
	case !ok2:
		return verdictOf{failed: other.Err}
	case mine.Digest != "" && (mine.Digest == other.Digest || slices.Contains(other.Closure, mine.Digest)):
		return verdictOf{say: yes, by: "image"}
	default:
		return verdictOf{say: no}
	}
}

func (a *assessor) sameDigest(c Container, ref Reference, want string) verdictOf {
	if ref.Digest == want {
		return verdictOf{say: yes, by: "digest"}
	}
	if len(a.c.Containers) == 0 && aside(ref.Repo) {
		return verdictOf{say: no}
	}
	asked := ref.Written
	if ref.Digest != "" {
		asked = ref.at(want) // what is wanted may be the index of what is pinned
	}
	answer, known, awaited := a.asked(asked)
	switch {
	case awaited:
		return verdictOf{awaited: true}
	case !known:
		// Without a registry the running pods themselves can still tell.
		if s := a.runs(c, want); s != unknown {
			return verdictOf{say: s, by: "digest"}
		}
		return verdictOf{failed: answer.Err}
	case ref.Digest != "" && slices.Contains(answer.Closure, ref.Digest):
		return verdictOf{say: yes, by: "digest"}
	case ref.Digest == "" && (answer.Digest == want || slices.Contains(answer.Closure, want)):
		return verdictOf{say: yes, by: "digest"}
	default:
		return verdictOf{say: no}
	}
}

// runs says yes when every pod of the target revision runs container c with
// digest. It never says no: what a pod shows may be another name for it.
func (a *assessor) runs(c Container, digest string) say {
	seen := 0
	for _, p := range a.pods.target {
		if !p.Active() {
			continue
		}
		i := slices.IndexFunc(p.Containers, func(s ContainerStatus) bool { return s.Name == c.Name })
		if i < 0 || p.Containers[i].State.Is != Running || ParseImageID(p.Containers[i].ImageID).Digest != digest {
			return unknown
		}
		seen++
	}
	if seen == 0 {
		return unknown
	}
	return yes
}

// changed is the weak gate: something was restarted or updated since.
func (a *assessor) changed(e Expected) gate {
	g := gate{say: no, by: byChangedSince, expected: e, containers: a.chosen(), how: "by a change since " + a.c.ChangedSince.UTC().Format(time.RFC3339)}
	g.image = a.imageOf(g.containers)
	for _, key := range []string{"keel.sh/update-time", "kubectl.kubernetes.io/restartedAt"} {
		if at, ok := parseTime(a.t.Template.Annotations[key]); ok && at.After(a.c.ChangedSince) {
			g.say = yes
			return g
		}
	}
	for _, c := range g.containers {
		before := ParseImageID(a.s.Memory.Digests[c]).Digest
		for _, p := range a.pods.target {
			for _, s := range p.Containers {
				if now := ParseImageID(s.ImageID).Digest; s.Name == c && before != "" && now != "" && now != before {
					g.say = yes
					return g
				}
			}
		}
	}
	g.by = ""
	return g
}

func parseTime(s string) (time.Time, bool) {
	// Keel writes what Go prints for a time, without the monotonic reading.
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05.999999999 -0700 MST", time.RFC1123} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// how says in words what was compared.
func (a *assessor) how(e Expected) string {
	var parts []string
	if what := e.short(); e.Commit != "" || e.Build != "" {
		switch a.c.Match {
		case MatchTag:
			parts = append(parts, what+" in the tag")
		case MatchAnnotation:
			if a.c.Key != "" {
				parts = append(parts, what+" in annotation or label "+a.c.Key)
			} else {
				parts = append(parts, what+" in annotations, labels and environment")
			}
		case MatchLabel:
			parts = append(parts, what+" in the image's revision label")
		case MatchDigest:
			parts = append(parts, what+" cannot be seen by digest")
		case MatchAuto, "":
			parts = append(parts, what+" in tag, annotations, environment and revision label")
		}
	}
	if e.Image != "" {
		parts = append(parts, "image "+e.Image)
	}
	if e.Digest != "" {
		parts = append(parts, "digest "+e.Digest)
	}
	return strings.Join(parts, " and ")
}

// short names what is expected in as few characters as identify it.
func (e Expected) short() string {
	switch {
	case e.Commit != "":
		n := e.Typed
		if n <= 0 {
			n = 7
		}
		return e.Commit[:min(len(e.Commit), max(n, 7))]
	case e.Build != "":
		return e.Build
	case e.Image != "":
		return e.Image
	default:
		return e.Digest
	}
}

// impossible returns why the gate can never match, or "" when that is not
// certain, and what would help.
func (a *assessor) impossible(g gate) (why, help string) {
	if g.say != no && !a.onlyDigests() {
		return "", ""
	}
	e := a.c.Expected
	if e.Head {
		switch {
		case a.s.Remote == nil:
			a.want(Want{Kind: WantRemote, Reference: e.Commit})
		case a.s.Remote.Answer == No:
			return fmt.Sprintf("%s is not on %s: no image can have been built from it", e.short(), orText(a.s.Remote.Where, "any remote")),
				"push it, or name another commit with --sha"
		}
	}
	if e.Commit == "" && e.Build == "" {
		return "", ""
	}
	history, whole := a.history()
	if !whole {
		return "", ""
	}
	gated := map[string]bool{}
	for _, name := range g.containers {
		if c, ok := a.t.Template.Container(name); ok {
			gated[c.Name] = true
		}
	}
	if len(gated) == 0 {
		return "", ""
	}
	bare, pinned, answered := true, true, true
	var first string
	for _, t := range append([]Template{a.t.Template}, history...) {
		for _, c := range t.Containers {
			if !gated[c.Name] {
				continue
			}
			ref := ParseReference(c.Image)
			if ref.Digest == "" || ref.Tag != "" {
				pinned = false
			}
			if len(commitLike(ref.Tag)) > 0 {
				bare = false
			}
		}
	}
	for _, c := range a.t.Template.Containers {
		if !gated[c.Name] {
			continue
		}
		if first == "" {
			first = c.Image
		}
		ref := ParseReference(c.Image)
		if ref.Tag != "" && ref.Tag != "latest" || ref.Digest != "" {
			bare = false
		}
		if i, ok := a.s.Images[c.Image]; !ok || i.Err != "" || len(i.Revisions) > 0 {
			answered = false
		}
	}
	for _, key := range revisionKeys() {
		if a.t.Template.Annotations[key] != "" || a.t.Template.Labels[key] != "" {
			bare = false
		}
	}
	for _, c := range a.t.Template.Containers {
		if gated[c.Name] && len(c.Env) > 0 {
			bare = false
		}
	}
	const advice = "tag images with the commit, label them org.opencontainers.image.revision, or gate with --image, --digest or --changed-since"
	switch {
	case pinned && (a.c.Match == MatchTag || a.c.Match == MatchDigest):
		return fmt.Sprintf("%s is pinned by digest alone, and so were all revisions before it: --match %s cannot see a commit in it", first, a.c.Match),
			"use --match auto, --match label or --digest"
	case bare && (a.c.Match == MatchTag || answered):
		return fmt.Sprintf("%s names no commit: not its tag, nor the template, nor the image's labels, nor any tag before it", first), advice
	}
	return "", ""
}

func (a *assessor) onlyDigests() bool { return a.c.Match == MatchDigest && a.c.Expected.Commit != "" }

// history lists the templates of older revisions; whole is false while they
// are not or cannot be known.
func (a *assessor) history() (older []Template, whole bool) {
	switch a.t.Kind {
	case Deployment:
		for _, r := range a.s.ReplicaSets {
			if r.Owner.UID == a.t.UID {
				older = append(older, r.Template)
			}
		}
		return older, a.s.ReplicaSetSight == Seen
	case StatefulSet, DaemonSet:
		if a.s.RevisionSight == Unread {
			a.want(Want{Kind: WantRevisions})
		}
		for _, r := range a.s.Revisions {
			if r.Owner.UID == a.t.UID {
				older = append(older, r.Template)
			}
		}
		return older, a.s.RevisionSight == Seen
	case CronJob:
		return nil, true
	}
	return nil, false
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

package program

import (
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/artifact"
)

// Variables is what a program is told, as HOMELAB_*. What is zero, or is not
// what it should be, is not set at all: the texts come from elsewhere, so each
// is checked once more here.
type Variables struct {
	Action, Watch, Run string
	Attempt            int
	Deadline           time.Time
	To                 *artifact.Candidate // what is to run: ARTIFACT_*, COMMIT, PLATFORM, BUILD_*
	ToPath             string
	From               *artifact.Candidate // what it replaces: PREVIOUS_*
	FromPath           string
	Compare            string // a page that shows what changed
}

// Of returns what a program is told about a switch.
func Of(s artifact.Switch) Variables {
	v := Variables{
		Watch: s.Watch, Run: s.Run, Attempt: s.Attempt, Deadline: s.Deadline,
		To: &s.To, ToPath: s.ToPath, FromPath: s.FromPath, Compare: s.Compare,
	}
	if s.From != nil {
		v.From = &s.From.Candidate
	}
	return v
}

// Environ returns PATH, HOME, LANG and the names of env, and then v. What env
// does not have is not set.
func (v Variables) Environ(env []string, names ...string) []string {
	out := pick(env, append([]string{"PATH", "HOME", "LANG"}, names...))
	set := func(name, value string) {
		if value != "" && !strings.ContainsRune(value, 0) {
			out = append(out, "HOMELAB_"+name+"="+value)
		}
	}
	set("ACTION", v.Action)
	set("WATCH", v.Watch)
	set("RUN_ID", v.Run)
	set("ATTEMPT", positive(int64(v.Attempt)))
	if !v.Deadline.IsZero() {
		set("DEADLINE", v.Deadline.UTC().Format(time.RFC3339))
	}
	if c := v.To; c != nil {
		set("COMMIT", commit(*c))
		set("PLATFORM", matching(`[A-Za-z0-9][A-Za-z0-9._/+-]{0,63}`, c.Meta.Platform))
		set("BUILD_UUID", uuid(*c))
		set("BUILD_URL", page(c.Meta.URL))
		set("ARTIFACT_PATH", path(v.ToPath))
		set("ARTIFACT_SHA256", sum(*c))
		set("ARTIFACT_SIZE", positive(c.Size))
		set("ARTIFACT_REF", Reference(*c, v.From))
	}
	set("COMPARE_URL", page(v.Compare))
	if c := v.From; c != nil {
		set("PREVIOUS_PATH", path(v.FromPath))
		set("PREVIOUS_SHA256", sum(*c))
		set("PREVIOUS_UUID", uuid(*c))
		set("PREVIOUS_REF", Reference(*c, v.To))
	}
	return out
}

// Reference is an image by repository and digest; "" it is none. What a target
// was found to run is known by its digest alone: then the repository is that of
// other, as one watch has one source.
func Reference(c artifact.Candidate, other *artifact.Candidate) string {
	digest := sum(c)
	if c.Kind != artifact.Image || digest == "" {
		return ""
	}
	repo := repository(c.Ref)
	if repo == "" && other != nil {
		repo = repository(other.Ref)
	}
	if repo == "" {
		return ""
	}
	return repo + "@sha256:" + digest
}

// repository is what stands before the tag and the digest.
func repository(ref string) string {
	name, _, _ := strings.Cut(ref, "@")
	if tag := strings.LastIndexByte(name, ':'); tag > strings.LastIndexByte(name, '/') {
		name = name[:tag]
	}
	return matching(`[A-Za-z0-9\[][A-Za-z0-9._:/\[\]-]{0,400}`, name)
}

// pick returns those variables of env that have one of the names, in the order
// of names; of two of a name the last, as a shell takes it.
func pick(env, names []string) []string {
	var out []string
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			continue
		}
		for _, kv := range slices.Backward(env) {
			if strings.HasPrefix(kv, n+"=") {
				out = append(out, kv)
				break
			}
		}
	}
	return out
}

// Name says why name cannot be that of a variable to hand on; "" it can.
func Name(name string) string {
	switch {
	case strings.ContainsRune(name, '='):
		return "only a name can be given; its value is taken from the environment, since everybody can read a command line"
	case matching(`[A-Za-z_][A-Za-z0-9_]*`, name) == "":
		return "is no name of a variable"
	case strings.HasPrefix(name, "HOMELAB_"):
		return "HOMELAB_* is what a hook is told by the watch"
	}
	return ""
}

func matching(pattern, s string) string {
	if regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(s) {
		return s
	}
	return ""
}

func sum(c artifact.Candidate) string {
	if id, err := artifact.ParseID(string(c.ID)); err != nil || id != c.ID || !strings.HasPrefix(string(id), "sha256:") {
		return ""
	}
	return c.ID.Hex()
}

func commit(c artifact.Candidate) string {
	h := c.Meta.Commit
	if h == "" && c.Kind == artifact.Commit {
		h = c.ID.Hex()
	}
	return matching(`[0-9a-f]{40}|[0-9a-f]{64}`, h)
}

func uuid(c artifact.Candidate) string {
	return matching(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`, c.Meta.UUID)
}

func path(p string) string {
	if !filepath.IsAbs(p) {
		return ""
	}
	return p
}

func page(s string) string {
	u, err := url.Parse(matching(`[!-~]+`, s))
	if err != nil || len(s) > 2000 || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return s
}

func positive(n int64) string {
	if n <= 0 {
		return ""
	}
	return itoa(n)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// Fill replaces {sha256}, {sha256:N}, {commit} and {uuid} in text by what c
// has. missing is the first that c has not.
func Fill(text string, c artifact.Candidate) (filled, missing string) {
	filled = placeholder().ReplaceAllStringFunc(text, func(p string) string {
		var v string
		name, n, _ := strings.Cut(strings.Trim(p, "{}"), ":")
		switch name {
		case "sha256":
			v = sum(c)
			if digits, err := strconv.Atoi(n); err == nil {
				v = v[:min(digits, len(v))]
			}
		case "commit":
			v = commit(c)
		case "uuid":
			v = uuid(c)
		}
		if v == "" && missing == "" {
			missing = p
		}
		return v
	})
	return filled, missing
}

func placeholder() *regexp.Regexp {
	return regexp.MustCompile(`\{(?:sha256(?::(?:[1-9]|[1-5][0-9]|6[0-4]))?|commit|uuid)\}`)
}

// Placeholders reports whether text has placeholders, and which word in braces
// looks like one and is none; "" there is no such.
func Placeholders(text string) (has bool, wrong string) {
	known := placeholder()
	for _, p := range regexp.MustCompile(`\{[A-Za-z0-9_:.-]+\}`).FindAllString(text, -1) {
		if known.FindString(p) != p {
			return has, p
		}
		has = true
	}
	return has, ""
}

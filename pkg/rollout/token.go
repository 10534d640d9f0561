package rollout

import (
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// revisionEnv are the variables that name the commit an image was built from,
// in the order they are tried.
func revisionEnv() []string {
	return []string{"GIT_SHA", "COMMIT_SHA", "SOURCE_COMMIT", "VERSION"}
}

// revisionKeys are the annotations and labels that do, in that order.
func revisionKeys() []string {
	return []string{
		"org.opencontainers.image.revision", "git-sha", "git-commit", "commit", "revision", "homelab/revision", versionKey,
	}
}

// versionKey often holds a version that only looks like a build id, so that
// only a commit is read from it.
const versionKey = "app.kubernetes.io/version"

// Reference is an image reference taken apart.
type Reference struct {
	Written string // as it was given
	Repo    string // registry and path, normalised; the text before the tag when it does not parse
	Tag     string // "" when there is none
	Digest  string // sha256:...; "" when there is none
}

// ParseReference takes s apart. It accepts what a kubelet does, and of an
// invalid reference it knows the text alone.
func ParseReference(s string) Reference {
	r := Reference{Written: s}
	base, digest, pinned := strings.Cut(s, "@")
	if pinned {
		r.Digest = digest
	}
	tag, err := name.NewTag(base, name.WeakValidation)
	if err != nil {
		r.Repo = base
		return r
	}
	r.Repo = tag.Repository.Name()
	// A default tag is none: only what is written says something.
	if strings.HasSuffix(base, ":"+tag.TagStr()) {
		r.Tag = tag.TagStr()
	}
	return r
}

// Mutable reports whether the reference may name another image tomorrow: it
// is not pinned, and its tag is missing, "latest", or has no digit.
func (r Reference) Mutable() bool {
	return r.Digest == "" && (r.Tag == "" || r.Tag == "latest" || !strings.ContainsAny(r.Tag, "0123456789"))
}

// at is the repository pinned to digest.
func (r Reference) at(digest string) string {
	base, _, _ := strings.Cut(r.Written, "@")
	if r.Tag != "" {
		base = strings.TrimSuffix(base, ":"+r.Tag)
	}
	return base + "@" + digest
}

// same reports whether both name the same thing, however it is written.
func (r Reference) same(o Reference) bool {
	if r.Written == o.Written {
		return true
	}
	tag := func(r Reference) string {
		if r.Tag == "" && r.Digest == "" {
			return "latest"
		}
		return r.Tag
	}
	return r.Repo == o.Repo && r.Digest == o.Digest && (r.Digest != "" || tag(r) == tag(o))
}

// tokens splits s at every character that is no ASCII letter or digit.
func tokens(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// hexToken returns token as lower-case hex digits, without the one g that
// "git describe" puts before a commit; ok is false when it is no hex.
func hexToken(token string) (hex string, ok bool) {
	if rest, found := strings.CutPrefix(token, "g"); found && isHex(rest) {
		token = rest
	}
	return strings.ToLower(token), isHex(token)
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

func isDecimal(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// names reports whether token names commit, of which typed digits were given.
func namesCommit(token, commit string, typed int) bool {
	if typed <= 0 || typed > len(commit) {
		typed = len(commit)
	}
	hex, ok := hexToken(token)
	if !ok || commit == "" || len(hex) < max(4, min(7, typed)) || len(hex) > 64 {
		return false
	}
	if strings.HasPrefix(commit, hex) {
		return true
	}
	// A longer number may be a timestamp that happens to begin so.
	return strings.HasPrefix(hex, commit) && !isDecimal(hex)
}

// carries reports whether text, a tag or the value of an annotation, names
// what is expected. commitOnly switches build ids off.
func carries(text string, e Expected, commitOnly bool) bool {
	parts := tokens(text)
	if e.Commit != "" && slices.ContainsFunc(parts, func(t string) bool { return namesCommit(t, e.Commit, e.Typed) }) {
		return true
	}
	if e.Build == "" || commitOnly {
		return false
	}
	if text == e.Build {
		return true
	}
	want := tokens(e.Build)
	if len(want) == 0 {
		return false
	}
	for i := range len(parts) - len(want) + 1 {
		if slices.Equal(parts[i:i+len(want)], want) {
			return true
		}
	}
	return false
}

// dirty reports whether a tag says that it was built from more than a commit.
func dirty(tag string) bool {
	return slices.ContainsFunc(tokens(tag), func(t string) bool { return t == "dirty" || t == "modified" })
}

// commitLike returns the tokens of text that look like commits: seven or more
// hex digits that are not just a number.
func commitLike(text string) []string {
	var out []string
	for _, t := range tokens(text) {
		if hex, ok := hexToken(t); ok && len(hex) >= 7 && len(hex) <= 64 && !isDecimal(hex) {
			out = append(out, hex)
		}
	}
	return out
}

// aside reports whether a repository is that of a well-known companion, whose
// image never carries the application's commit.
func aside(repo string) bool {
	last := repo[strings.LastIndexByte(repo, '/')+1:]
	if strings.Contains(last, "exporter") {
		return true
	}
	switch last {
	case "proxyv2", "istio-proxy", "envoy", "proxy-init", "linkerd-proxy", "linkerd2-proxy", "kuma-dp", "consul-dataplane",
		"oauth2-proxy", "kube-rbac-proxy", "authelia", "pomerium", "cloud-sql-proxy", "cloudsql-proxy", "gce-proxy",
		"vault", "vault-k8s", "vault-agent", "secrets-store-csi-driver", "infisical-agent", "tailscale",
		"fluent-bit", "fluentd", "promtail", "vector", "opentelemetry-collector", "otel-collector", "configmap-reload",
		"k8s-sidecar", "pause", "busybox":
		return true
	default:
		// Linkerd's image is called proxy, as many others' are.
		return strings.HasSuffix(repo, "linkerd/proxy")
	}
}

// Carries reports whether text, such as a tag, names the commit, by the rule
// that the image gate goes by.
func Carries(text, commit string) bool { return carries(text, Expected{Commit: commit}, true) }

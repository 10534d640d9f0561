package render

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"homelab/pkg/stack/file"
)

// CredentialsSecret returns the name of the Secret that holds the variables of
// credentials files.
func CredentialsSecret(id string) string { return id + "-credentials" }

// variable is one variable of a container.
type variable struct {
	name, value string
	secret, key string // where the value is instead; "" nowhere
}

// environment returns the variables of a container: env_file below
// environment, config.env over both, in the order they are first named.
func (r *renderer) environment(p *pod, s *service) []corev1.EnvVar {
	var vars []variable
	set := func(v variable) {
		if i := slices.IndexFunc(vars, func(o variable) bool { return o.name == v.name }); i >= 0 {
			vars[i] = v
			return
		}
		vars = append(vars, v)
	}
	if r.v2() {
		for _, v := range r.envFiles(p, s) {
			set(v)
		}
	}
	for _, name := range s.env {
		// A variable without a value is the environment's, and the only
		// environment is config.env: it follows below if it is there.
		if v := s.cfg.Environment[name]; v != nil {
			set(variable{name: name, value: *v})
		}
	}
	for _, e := range r.d.Env {
		if e.Value != "" {
			v := variable{name: e.Name, value: e.Value}
			if e.Credential && r.v2() {
				v = variable{name: e.Name, secret: CredentialsSecret(r.id()), key: e.Name}
			}
			set(v)
		}
	}
	if !r.v2() {
		r.strangers(p, s, vars)
		r.siblings(p, s, vars)
	}
	vars = r.resolved(vars)
	out := make([]corev1.EnvVar, 0, len(vars))
	for _, v := range vars {
		if bad := validation.IsRelaxedEnvVarName(v.name); len(bad) > 0 {
			r.refuse(p, s, "environment", "%q cannot be the name of a variable", v.name)
			continue
		}
		one := corev1.EnvVar{Name: v.name, Value: refer(r.literal(v.value))}
		if v.secret != "" {
			one = corev1.EnvVar{Name: v.name, ValueFrom: inSecret(v.secret, v.key)}
		}
		out = append(out, one)
	}
	return out
}

// envFiles reads env_file.
func (r *renderer) envFiles(p *pod, s *service) []variable {
	var vars []variable
	for _, f := range s.cfg.EnvFiles {
		path := f.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(p.src.Path), path)
		}
		raw, err := r.read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && (!bool(f.Required) || r.o.Missing == MissingLater):
			continue
		case err != nil:
			r.refuse(p, s, "env_file", "%s: %v", f.Path, reason(err))
			continue
		}
		values := map[string]string{}
		env := map[string]string{}
		for _, e := range r.d.Env {
			env[e.Name] = e.Value
		}
		for name := range hidden(r.d) {
			env[name] = markOpen + name + markClose
		}
		lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
		if err := dotenv.ParseWithFormat(bytes.NewReader(raw), f.Path, values, lookup, f.Format); err != nil {
			// The library's text may quote a secret.
			r.refuse(p, s, "env_file", "%s is no environment file: NAME=value in each line", f.Path)
			continue
		}
		names := slices.Collect(maps.Keys(values))
		slices.SortFunc(names, func(a, b string) int { // the order of the file
			if d := assigned(raw, a) - assigned(raw, b); d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})
		for _, n := range names {
			vars = append(vars, variable{name: n, value: values[n]})
		}
	}
	return vars
}

// assigned returns where a variable is set in an environment file.
func assigned(raw []byte, name string) int {
	m := regexp.MustCompile(`(?m)^[ \t]*(?:export[ \t]+)?` + regexp.QuoteMeta(name) + `[ \t]*[=:]`).FindIndex(raw)
	if m == nil {
		return len(raw)
	}
	return m[0]
}

// siblings replaces the names of the pod's other services by localhost, as
// whole words. Inside a host name, a path or a URL that may be another thing
// than the service: it is told.
func (r *renderer) siblings(p *pod, s *service, vars []variable) {
	for i := range vars {
		for _, o := range p.services {
			if o.name == s.name {
				continue
			}
			out, inside := localhost(vars[i].value, o.name)
			vars[i].value = out
			if inside {
				r.tell(p, s, file.Changed, "sibling-name", "environment",
					"%s holds the service name %q inside a host name, path or URL: it became localhost there", vars[i].name, o.name)
			}
		}
	}
}

// strangers tells of variables that name a service of another pod as a host:
// under V1 such a name has never resolved.
func (r *renderer) strangers(p *pod, s *service, vars []variable) {
	for i := range r.pods {
		o := &r.pods[i]
		if !p.job && o.name == p.name {
			continue
		}
		for _, other := range o.services {
			if p.service(other.name) != nil {
				continue // its own is meant
			}
			if !slices.ContainsFunc(vars, func(v variable) bool { return strings.Contains(v.value, other.name) }) {
				continue
			}
			host := regexp.MustCompile(`(?:^|//|@|,)` + regexp.QuoteMeta(other.name) + `(?::[0-9]+)?(?:$|[/,?])`)
			for _, v := range vars {
				if host.MatchString(v.value) {
					r.tell(p, s, file.Changed, "pod-name", "environment",
						"%s names %s, a service of pod %s: service names resolve in their own pod only", v.name, other.name, o.name)
				}
			}
		}
	}
}

// localhost replaces word in value wherever no letter, digit or "_" stands
// beside it. inside reports a replacement that more than a port stands at.
func localhost(value, word string) (out string, inside bool) {
	var b strings.Builder
	url := strings.Contains(value, "://")
	last := 0
	for at := 0; word != ""; {
		i := strings.Index(value[at:], word)
		if i < 0 {
			break
		}
		i += at
		end := i + len(word)
		if i > 0 && wordByte(value[i-1]) && wordByte(word[0]) || end < len(value) && wordByte(value[end]) && wordByte(word[len(word)-1]) {
			at = i + 1
			continue
		}
		b.WriteString(value[last:i])
		b.WriteString("localhost")
		inside = inside || url ||
			i > 0 && strings.IndexByte("./-@", value[i-1]) >= 0 ||
			end < len(value) && strings.IndexByte("./-@", value[end]) >= 0
		last, at = end, end
	}
	b.WriteString(value[last:])
	return b.String(), inside
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// literal writes a text so that a container sees it as it is: the API replaces
// $(NAME) and $$ in variables and arguments. V1 left them alone.
func (r *renderer) literal(s string) string {
	if r.v2() && (strings.Contains(s, "$(") || strings.Contains(s, "$$") || strings.Contains(s, markOpen)) {
		return strings.ReplaceAll(s, "$", "$$")
	}
	return s
}

func (r *renderer) literals(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = refer(r.literal(s))
	}
	return out
}

// envFrom returns the Secrets whose keys every container has as variables.
func (r *renderer) envFrom() []corev1.EnvFromSource {
	names := []string{r.id() + "-generated-secrets"}
	for _, s := range r.d.Spec.Secrets {
		names = append(names, s.Name)
	}
	out := make([]corev1.EnvFromSource, 0, len(names))
	for _, n := range names {
		out = append(out, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: n}, Optional: new(true),
		}})
	}
	return out
}

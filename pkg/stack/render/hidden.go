package render

import (
	"cmp"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	compose "github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"homelab/pkg/stack/file"
)

// Variables whose values are in Secrets are not put into what a container is
// given: a template is read by more people than a Secret, and a value that is
// generated in the cluster is not known here. A mark stands for them until the
// container is written, and then a reference that the kubelet resolves. The
// marks are characters that no text has.
const (
	markOpen  = "\ue0f5"
	markClose = "\ue0f6"
)

// hidden returns the variables of d that only Secrets hold, and which Secret.
func hidden(d *file.Directory) map[string]string {
	if d.Deployment.Rules == file.V1 || d.Spec == nil {
		return nil
	}
	out := map[string]string{}
	for _, g := range d.Spec.Generated {
		out[g.Name] = d.Deployment.ID + "-generated-secrets"
	}
	for _, v := range d.Env {
		switch {
		case v.Credential && v.Value != "":
			out[v.Name] = CredentialsSecret(d.Deployment.ID)
		case v.Value != "":
			delete(out, v.Name) // a plain one wins over what is generated
		}
	}
	return out
}

// hide puts marks where a service's variables, command, entrypoint and
// healthcheck name what is in Secrets. It may be repeated.
func (l *composeLoader) hide(service *yaml.Node) {
	if len(l.hidden) == 0 || l.look {
		return
	}
	mark := func(n *yaml.Node, from int) {
		if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$") {
			n.Value = n.Value[:from] + l.marked(n.Value[from:])
		}
	}
	for _, key := range []string{"environment", "command", "entrypoint", "healthcheck"} {
		v := child(service, key)
		if key == "healthcheck" {
			v = child(v, "test")
		}
		switch {
		case v == nil:
		case v.Kind == yaml.ScalarNode:
			mark(v, 0)
		case v.Kind == yaml.MappingNode:
			for _, value := range pairs(v) {
				mark(value, 0)
			}
		case v.Kind == yaml.SequenceNode:
			for _, e := range v.Content {
				from := 0
				if key == "environment" {
					if from = strings.IndexByte(e.Value, '=') + 1; from == 0 {
						continue
					}
				}
				mark(e, from)
			}
		}
	}
}

// value returns a variable as compose puts it in: a mark for one whose value is
// made in the cluster, since it is not empty.
func (l *composeLoader) value(name string) (string, bool) {
	v, ok := l.env.Resolve(name)
	if l.generated(name) {
		return markOpen + name + markClose, true
	}
	return v, ok
}

// generated tells whether only a Secret will ever know a variable's value.
func (l *composeLoader) generated(name string) bool {
	_, hidden := l.hidden[name]
	return hidden && !l.look && l.env[name] == ""
}

// misplaced refuses values that are made in the cluster where nothing can refer
// to them. node was hidden in: what is left stands somewhere else.
func (l *composeLoader) misplaced(path, service string, node *yaml.Node) {
	var walk func(key string, n *yaml.Node)
	walk = func(key string, n *yaml.Node) {
		for _, c := range n.Content {
			walk(key, c)
		}
		if n.Kind != yaml.ScalarNode {
			return
		}
		for _, m := range l.named.FindAllStringSubmatch(n.Value, -1) {
			if name := m[1] + m[2]; m[0] != "$$" && l.generated(name) {
				l.c.problem(Problem{File: path, Line: n.Line, Service: service, Key: key, Message: notHere(name)})
			}
		}
	}
	for k, v := range pairs(node) {
		if !strings.HasPrefix(k.Value, "x-") {
			walk(k.Value, v)
		}
	}
}

func notHere(name string) string {
	return "the value of " + name + " is made in the cluster and only a Secret has it: it can be named in environment, env_file, command, entrypoint, and in a healthcheck that a shell runs"
}

// inherit takes what a service has from files it extends with marks: compose has
// put the values in. nodes are what the service is made of, its own last.
func (l *composeLoader) inherit(cfg *compose.ServiceConfig, nodes []*yaml.Node) {
	if len(l.hidden) == 0 || l.look {
		return
	}
	env := map[string]string{}
	var command, entrypoint, test *yaml.Node
	for _, n := range nodes {
		l.hide(n)
		for name, value := range variables(child(n, "environment")) {
			env[l.text(name)] = value
		}
		command = cmp.Or(child(n, "command"), command)
		entrypoint = cmp.Or(child(n, "entrypoint"), entrypoint)
		test = cmp.Or(child(child(n, "healthcheck"), "test"), test)
	}
	cfg.Environment = maps.Clone(cfg.Environment)
	for name, value := range env {
		if strings.Contains(value, markOpen) && cfg.Environment[name] != nil {
			text := l.text(value)
			cfg.Environment[name] = &text
		}
	}
	if words, ok := l.markedWords(command); ok {
		cfg.Command = words
	}
	if words, ok := l.markedWords(entrypoint); ok {
		cfg.Entrypoint = words
	}
	if test == nil || cfg.HealthCheck == nil {
		return
	}
	h := *cfg.HealthCheck
	switch {
	case test.Kind == yaml.ScalarNode && strings.Contains(test.Value, markOpen):
		h.Test = compose.HealthCheckTest{"CMD-SHELL", l.text(test.Value)}
	case test.Kind == yaml.SequenceNode:
		if words, ok := l.markedWords(test); ok {
			h.Test = compose.HealthCheckTest(words)
		}
	}
	cfg.HealthCheck = &h
}

// variables walks an environment of either form; what has no value is left out.
func variables(n *yaml.Node) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if n != nil && n.Kind == yaml.SequenceNode {
			for _, e := range n.Content {
				if name, value, ok := strings.Cut(e.Value, "="); ok && !yield(name, value) {
					return
				}
			}
			return
		}
		for k, v := range pairs(n) {
			if v.Kind == yaml.ScalarNode && v.Tag != "!!null" && !yield(k.Value, v.Value) {
				return
			}
		}
	}
}

// markedWords are the words of a command of either form, if one has a mark.
func (l *composeLoader) markedWords(n *yaml.Node) (words []string, ok bool) {
	switch {
	case n == nil:
		return nil, false
	case n.Kind == yaml.ScalarNode:
		if !strings.Contains(n.Value, markOpen) {
			return nil, false
		}
		return l.split(n)
	}
	for _, e := range n.Content {
		ok = ok || strings.Contains(e.Value, markOpen)
		words = append(words, l.text(e.Value))
	}
	return words, ok
}

// split divides a command given as one string as compose does.
func (l *composeLoader) split(n *yaml.Node) ([]string, bool) {
	word := func(text string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text}
	}
	in := func(key string, v *yaml.Node) *yaml.Node {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{word(key), v}}
	}
	one := in("command", word(n.Value))
	one.Content = append(one.Content, word("image"), word("x"))
	p, err := l.load(file.Source{Path: "compose.yml"}, in("services", in("x", one)))
	if err != nil {
		return nil, false
	}
	return p.Services["x"].Command, true
}

// shellRefer writes marks as variables of the shell that runs a healthcheck.
// Between single quotes it would not look for them.
func shellRefer(text string) (string, bool) {
	var out strings.Builder
	single, double := false, false
	for i, c := range text {
		switch {
		case single && c == '\'':
			single = false
		case single:
			if strings.HasPrefix(text[i:], markOpen) {
				return "", false
			}
		case c == '\'' && !double:
			single = true
		case c == '"' && (i == 0 || text[i-1] != '\\'):
			double = !double
		}
		switch string(c) {
		case markOpen:
			out.WriteString("${")
		case markClose:
			out.WriteString("}")
		default:
			out.WriteRune(c)
		}
	}
	return out.String(), true
}

// shellCheck is the text of a healthcheck that a shell runs, with variables of
// the container for what only Secrets hold; false when it was refused.
func (r *renderer) shellCheck(p *pod, s *service, c *corev1.Container, text string) (string, bool) {
	secrets := hidden(r.d)
	for _, name := range marks(text) {
		for _, e := range c.Env {
			if e.Name == name && (e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil || e.ValueFrom.SecretKeyRef.Name != secrets[name] || e.ValueFrom.SecretKeyRef.Key != name) {
				r.refuse(p, s, "healthcheck", "%s is in a Secret, and the service sets a variable of that name to something else: a healthcheck can have only that one", name)
				return "", false
			}
		}
	}
	out, ok := shellRefer(text)
	if !ok {
		r.refuse(p, s, "healthcheck", "%s is in a Secret, and the shell finds it as a variable, but not between single quotes: write double ones", strings.Join(marks(text), ", "))
	}
	return out, ok
}

// marked replaces variables by marks. What stands for an empty one is left out:
// these are not empty.
func (l *composeLoader) marked(text string) string {
	return l.named.ReplaceAllStringFunc(text, func(m string) string {
		parts := l.named.FindStringSubmatch(m)
		name := parts[1] + parts[2]
		if _, ok := l.hidden[name]; !ok || m == "$$" {
			return m
		}
		return markOpen + name + markClose
	})
}

// namedVariable matches a variable with or without what stands for it, and an
// escaped dollar.
func namedVariable() *regexp.Regexp {
	return regexp.MustCompile(`\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::?[-?][^{}]*)?\}|([A-Za-z_][A-Za-z0-9_]*))`)
}

// marks returns the variables that text has marks of.
func marks(text string) []string {
	var out []string
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, markOpen)
		if !ok {
			return out
		}
		name, end, ok := strings.Cut(after, markClose)
		if !ok {
			return out
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
		rest = end
	}
}

// refer writes marks as references to variables of the container.
func refer(text string) string {
	return strings.NewReplacer(markOpen, "$(", markClose, ")").Replace(text)
}

// inSecret is a variable's value in a Secret.
func inSecret(secret, key string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key,
	}}
}

// resolved takes the values that marks stand for from their Secrets: of a
// variable that is one as a whole, or as variables of the same name, which come
// first, for only what stands before can be referred to.
func (r *renderer) resolved(vars []variable) []variable {
	secrets := hidden(r.d)
	var needed []variable
	for i, v := range vars {
		found := marks(v.value)
		if len(found) == 1 && v.value == markOpen+found[0]+markClose {
			vars[i] = variable{name: v.name, secret: secrets[found[0]], key: found[0]}
			continue
		}
		for _, name := range found {
			one := variable{name: name, secret: secrets[name], key: name}
			if !slices.Contains(needed, one) {
				needed = append(needed, one)
			}
		}
	}
	if len(needed) == 0 {
		return vars
	}
	return append(needed, slices.DeleteFunc(vars, func(v variable) bool {
		return slices.ContainsFunc(needed, func(n variable) bool { return n.name == v.name })
	})...)
}

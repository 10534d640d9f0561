package render

import (
	"regexp"
	"slices"
	"strings"

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

// hide puts marks where a service's variables, command and entrypoint name what
// is in Secrets.
func (l *composeLoader) hide(service *yaml.Node) {
	if len(l.hidden) == 0 || l.look {
		return
	}
	mark := func(n *yaml.Node, from int) {
		if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$") {
			n.Value = n.Value[:from] + l.marked(n.Value[from:])
		}
	}
	for _, key := range []string{"environment", "command", "entrypoint"} {
		v := child(service, key)
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

package directory

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
)

// answer is what an init hook wants in the spec: its keys in order.
type answer struct{ root *yaml.Node }

// ask runs the init hooks until one answers with a mapping; nil when none does.
func (o InitOptions) ask(ctx context.Context, stack *file.Stack, hooks []string) (*answer, error) {
	c := hook.Context{Target: string(o.Target), StackName: stack.Name, Args: []string{}}
	raw, err := read(filepath.Join(stack.Dir, "stack.yml"))
	if err != nil {
		return nil, err
	}
	if c.Stack, err = hook.Document(raw); err != nil {
		return nil, err
	}
	for _, h := range hook.For(hook.Init, hooks) {
		out, err := o.Hooks.Run(ctx, hook.Init, h, c, nil)
		if err != nil {
			return nil, err
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(out, &doc); err != nil {
			return nil, fault.New(fault.Failed, "hook "+h+" answered with something that is no mapping", "").Because(err.Error()).From(err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		if doc.Content[0].Kind != yaml.MappingNode {
			return nil, fault.New(fault.Failed, "hook "+h+" answered with something that is no mapping", "")
		}
		return &answer{root: doc.Content[0]}, nil
	}
	return nil, nil //nolint:nilnil // nobody wants anything
}

// settings are the hook's config, which everything else wins over.
func (a *answer) settings() []pairText {
	if a == nil {
		return nil
	}
	var out []pairText
	for _, p := range pairs(child(a.root, "config")) {
		if p.value.Kind == yaml.ScalarNode {
			out = append(out, pairText{p.key.Value, text(p.value)})
		}
	}
	return out
}

// merge puts what the hook wants into a generated spec, whose shape stays.
func (a *answer) merge(spec []byte) ([]byte, error) {
	if a == nil {
		return spec, nil
	}
	blocks := blocksOf(string(spec))
	fixed := []string{"stack", "deploy-to", "kube-config", "image-registry"}
	last := []string{"config", "network", "volumes", "configmaps", "secrets"}
	var more []string
	named := slices.Concat(keysOf(child(a.root, "volumes")), keysOf(child(a.root, "configmaps")))
	for _, section := range []string{"volumes", "configmaps"} {
		blocks[section] = without(blocks[section], named)
	}
	for _, p := range pairs(a.root) {
		key := p.key.Value
		var body string
		var err error
		switch key {
		case "config":
			continue // it is among the settings
		case "network", "volumes", "configmaps":
			if len(pairs(p.value)) == 0 {
				continue
			}
			value := p.value
			if ports := portsOf(blocks[key]); key == "network" && ports {
				value = less(value, "ports")
			}
			if body, err = encode(value, 2); err != nil {
				return nil, err
			}
			if blocks[key] == "" {
				blocks[key] = key + ":\n"
			}
			if key == "network" {
				body = blocks[key] + body
			} else {
				body = key + ":\n" + body + strings.TrimPrefix(blocks[key], key+":\n")
			}
		default:
			if body, err = encode(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{p.key, p.value}}, 0); err != nil {
				return nil, err
			}
			if !slices.Contains(fixed, key) && !slices.Contains(last, key) {
				more = append(more, key)
			}
		}
		blocks[key] = body
	}
	var b strings.Builder
	for _, key := range slices.Concat(fixed, more, last) {
		b.WriteString(blocks[key])
	}
	return []byte(b.String()), nil
}

// blocksOf splits a generated spec at its top-level keys.
func blocksOf(spec string) map[string]string {
	blocks := map[string]string{}
	key := ""
	for line := range strings.Lines(spec) {
		if line[0] != ' ' {
			key, _, _ = strings.Cut(line, ":")
		}
		blocks[key] += line
	}
	return blocks
}

// without removes the lines of entries from a block; a block without any left
// is none.
func without(block string, names []string) string {
	var b strings.Builder
	entries := 0
	for line := range strings.Lines(block) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		if line[0] == ' ' && slices.Contains(names, strings.Trim(name, `'"`)) {
			continue
		}
		if line[0] == ' ' {
			entries++
		}
		b.WriteString(line)
	}
	if entries == 0 {
		return ""
	}
	return b.String()
}

func portsOf(network string) bool { return strings.Contains(network, "\n  ports:\n") }

func keysOf(n *yaml.Node) []string {
	var out []string
	for _, p := range pairs(n) {
		out = append(out, p.key.Value)
	}
	return out
}

// less is a mapping without one of its keys.
func less(n *yaml.Node, key string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, p := range pairs(n) {
		if p.key.Value != key {
			out.Content = append(out.Content, p.key, p.value)
		}
	}
	return out
}

// encode writes a mapping in the shape of a generated spec, indented by that
// many blanks.
func encode(n *yaml.Node, indent int) (string, error) {
	if len(pairs(n)) == 0 {
		return "", nil
	}
	blockStyle(n)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return "", err
	}
	if err := e.Close(); err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range strings.Lines(b.String()) {
		out.WriteString(strings.Repeat(" ", indent) + line)
	}
	return out.String(), nil
}

// blockStyle makes everything below n a line of its own, and null nothing.
func blockStyle(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		n.Value = ""
	}
	if len(n.Content) > 0 {
		n.Style &^= yaml.FlowStyle
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

package directory

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"homelab/pkg/stack/file"
)

// withPorts returns the compose file with the spec's ports in place of its
// own. Only the lines of those ports change; a file that is written in a way
// that cannot be cut by lines is written anew with its comments.
func withPorts(c *composeFile, ports map[string][]string) ([]byte, error) {
	raw := c.src.Raw
	// From the end, so that the lines of the ones before stay where they are.
	var changed []service
	for _, s := range c.services {
		want, ok := ports[s.name]
		if ok && !slices.Equal(want, shortPorts(s)) {
			changed = append(changed, s)
		}
	}
	if len(changed) == 0 {
		return raw, nil
	}
	out, ok := cutPorts(raw, c.root, changed, ports)
	if ok && samePorts(out, c, ports) {
		return out, nil
	}
	return anew(c, changed, ports)
}

func shortPorts(s service) []string {
	out := []string{}
	for _, p := range s.ports {
		out = append(out, p.text)
	}
	return out
}

// samePorts proves that text has the wanted ports, and everything else as c.
func samePorts(text []byte, c *composeFile, ports map[string][]string) bool {
	got, err := inspect(file.Source{Name: c.src.Name, Path: c.src.Path, Raw: text}, c.job)
	if err != nil || len(got.services) != len(c.services) {
		return false
	}
	for i, s := range got.services {
		want, ok := ports[s.name]
		if !ok {
			want = shortPorts(c.services[i])
		}
		if s.name != c.services[i].name || !slices.Equal(shortPorts(s), want) || len(s.mounts) != len(c.services[i].mounts) {
			return false
		}
	}
	return true
}

// cutPorts replaces whole lines; false when the file is not written so.
func cutPorts(raw []byte, doc *yaml.Node, changed []service, ports map[string][]string) ([]byte, bool) {
	lines := strings.SplitAfter(string(raw), "\n")
	services := child(doc.Content[0], "services")
	type edit struct {
		from, to int // lines, 0-based, to exclusive
		text     string
	}
	var edits []edit
	for _, s := range changed {
		var key, body *yaml.Node
		for i := 0; services != nil && i+1 < len(services.Content); i += 2 {
			if services.Content[i].Value == s.name {
				key, body = services.Content[i], services.Content[i+1]
			}
		}
		if body == nil || body.Kind != yaml.MappingNode || body.Style&yaml.FlowStyle != 0 || len(body.Content) == 0 {
			return nil, false
		}
		column := body.Content[0].Column
		if column <= key.Column || body.Content[0].Line == key.Line {
			return nil, false
		}
		e := edit{from: body.Content[0].Line - 1, to: body.Content[0].Line - 1}
		for i := 0; i+1 < len(body.Content); i += 2 {
			if k, v := body.Content[i], body.Content[i+1]; k.Value == "ports" {
				if v.Kind == yaml.AliasNode || v.Anchor != "" || v.Style&yaml.FlowStyle != 0 && lastLine(v) != k.Line {
					return nil, false
				}
				e.from, e.to = k.Line-1, lastLine(v)
			}
		}
		var b strings.Builder
		indent := strings.Repeat(" ", column-1)
		if list := ports[s.name]; len(list) == 0 {
			b.WriteString(indent + "ports: []\n")
		} else {
			b.WriteString(indent + "ports:\n")
			for _, p := range list {
				b.WriteString(indent + "  - " + quoted(p) + "\n")
			}
		}
		e.text = b.String()
		edits = append(edits, e)
	}
	slices.SortFunc(edits, func(a, b edit) int { return b.from - a.from })
	for _, e := range edits {
		if e.to > len(lines) {
			return nil, false
		}
		if e.to == len(lines) && e.to > e.from && !strings.HasSuffix(lines[e.to-1], "\n") {
			e.text = strings.TrimSuffix(e.text, "\n")
		}
		lines = slices.Concat(lines[:e.from:e.from], []string{e.text}, lines[e.to:])
	}
	return []byte(strings.Join(lines, "")), true
}

// lastLine returns the last line a node of single-line scalars stands on.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// anew writes the document again with the wanted ports.
func anew(c *composeFile, changed []service, ports map[string][]string) ([]byte, error) {
	services := child(c.root.Content[0], "services")
	for _, s := range changed {
		list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, p := range ports[s.name] {
			list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: p, Style: yaml.SingleQuotedStyle})
		}
		for i := 0; services != nil && i+1 < len(services.Content); i += 2 {
			if services.Content[i].Value != s.name {
				continue
			}
			body := services.Content[i+1]
			if body.Kind == yaml.AliasNode {
				// The service it repeats keeps its own ports.
				body = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
					{Kind: yaml.ScalarNode, Tag: "!!merge", Value: "<<"}, body,
				}}
				services.Content[i+1] = body
			}
			set := false
			for k := 0; k+1 < len(body.Content); k += 2 {
				if body.Content[k].Value == "ports" {
					body.Content[k+1], set = list, true
				}
			}
			if !set {
				body.Content = append(body.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "ports"}, list)
			}
		}
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(c.root); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

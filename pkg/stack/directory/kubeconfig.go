package directory

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kubeconfig is the copy of a kubeconfig that lies in another directory: files
// it names relative to itself are named by where they are. Without any it is the
// text as it is, as it also is when it is no YAML: who connects says so.
func kubeconfig(path string, data []byte) []byte {
	var root yaml.Node
	if yaml.Unmarshal(data, &root) != nil {
		return data
	}
	dir, changed := filepath.Dir(path), false
	files := []string{"certificate-authority", "client-certificate", "client-key", "tokenFile"}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for i, c := range n.Content {
			walk(c)
			if n.Kind != yaml.MappingNode || i%2 == 0 || c.Kind != yaml.ScalarNode || c.Value == "" || filepath.IsAbs(c.Value) {
				continue
			}
			// A plugin's command without a slash is looked for in PATH.
			key := n.Content[i-1].Value
			if slices.Contains(files, key) || key == "command" && strings.Contains(c.Value, "/") {
				c.Value, changed = filepath.Join(dir, c.Value), true
			}
		}
	}
	walk(&root)
	if !changed {
		return data
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if e.Encode(&root) != nil || e.Close() != nil {
		return data
	}
	return out.Bytes()
}

package compose

import (
	"bytes"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

// override is what the spec adds to the compose files, as one of them; nil
// when it adds nothing.
func (m *maker) override() []byte {
	services, volumes := mapping(), mapping()
	for _, s := range m.out.Services {
		cfg, one := m.project.Services[s.Name], mapping()
		if s.Image != cfg.Image {
			put(one, "image", text(s.Image))
		}
		if cfg.Build != nil {
			put(one, "build", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!reset", Value: "null"})
		}
		var mounts []*yaml.Node
		for _, v := range cfg.Volumes {
			if v.Type != types.VolumeTypeVolume || !m.configMap(v.Source) {
				continue
			}
			mount := mapping()
			put(mount, "type", text(types.VolumeTypeBind))
			put(mount, "source", text(m.configDir(v.Source)))
			put(mount, "target", text(v.Target))
			put(mount, "read_only", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
			mounts = append(mounts, mount)
		}
		if len(mounts) > 0 {
			put(one, "volumes", &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: mounts})
		}
		if len(one.Content) > 0 {
			put(services, s.Name, one)
		}
	}
	for _, v := range m.out.Volumes {
		if v.Path == "" || v.Object == "" {
			continue
		}
		opts, one := mapping(), mapping()
		put(opts, "type", text("none"))
		put(opts, "o", text("bind"))
		put(opts, "device", text(v.Path))
		put(one, "driver", text("local"))
		put(one, "driver_opts", opts)
		put(volumes, v.Name, one)
	}
	root := mapping()
	if len(services.Content) > 0 {
		put(root, "services", services)
	}
	if len(volumes.Content) > 0 {
		put(root, "volumes", volumes)
	}
	if len(root.Content) == 0 {
		return nil
	}
	var b bytes.Buffer
	b.WriteString("# What spec.yml adds to the compose files. Written at every start.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil { // nodes of our own making
		return nil
	}
	return b.Bytes()
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} }

// text is a string that compose reads as it is: no variables are put in.
func text(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.ReplaceAll(s, "$", "$$")}
}

func put(m *yaml.Node, key string, v *yaml.Node) {
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, v)
}

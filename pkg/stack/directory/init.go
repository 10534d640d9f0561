package directory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
)

// Recipe says how init maps the ports of services.
type Recipe string

// The recipes.
const (
	AnyVariableRandom    Recipe = "any-variable-random" // as the compose file has them
	LocalhostSame        Recipe = "localhost-same"
	AnySame              Recipe = "any-same"
	LocalhostFixedRandom Recipe = "localhost-fixed-random"
	AnyFixedRandom       Recipe = "any-fixed-random"
)

// Recipes returns all recipes, the default first.
func Recipes() []Recipe {
	return []Recipe{AnyVariableRandom, LocalhostSame, AnySame, LocalhostFixedRandom, AnyFixedRandom}
}

// InitOptions say what a first spec is to hold.
type InitOptions struct {
	Stack         string // as it will stand in the spec
	Target        file.Target
	KubeConfig    string
	ImageRegistry string
	Config        []string // NAME=value, in order; wins over ConfigFile
	ConfigFile    string   // an environment file; "" none
	Ports         Recipe   // "" is the default
	NoHooks       bool
	Hooks         *hook.Runner              // runs init hooks; nil: they are refused
	Output        string                    // where the spec goes
	Force         bool                      // replace it, keeping the old text beside it
	Judge         func([]file.Notice) error // may refuse what would only be told; nil refuses nothing
	Free          func(ip string, port int, udp bool) bool
	Random        io.Reader
}

// Init is what an init did.
type Init struct {
	File    string
	Backup  string // where the old text went; "" none
	Stack   *file.Stack
	Spec    *file.Spec
	Text    []byte
	Notices []file.Notice
}

// ExistsError is a spec that is there already.
type ExistsError struct {
	File       string
	Customised []string // the keys that a fresh one would not have, or have otherwise
}

func (e *ExistsError) Error() string {
	return e.File + " exists: a spec is generated once, then edited and committed"
}

// WriteSpec writes a stack's first spec file. Errors are *fault.Error of kind
// Usage, *file.Problems and *ExistsError.
func WriteSpec(ctx context.Context, env file.Env, o InitOptions) (*Init, error) {
	if _, err := settings(env, o, nil); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	stack, notices, err := env.LoadStack(o.Stack)
	if err != nil {
		return nil, err
	}
	l, err := load(env, stack)
	if err != nil {
		return nil, err
	}
	hooks := StackHooks(env, stack)
	skipped, err := judgeHooks(o.Hooks, hooks, o.NoHooks)
	if err != nil {
		return nil, err
	}
	var wants *answer
	if len(hooks) > 0 && !o.NoHooks {
		if wants, err = o.ask(ctx, stack, hooks); err != nil {
			return nil, err
		}
	}
	config, err := settings(env, o, wants.settings())
	if err != nil {
		return nil, err
	}
	out := &Init{File: o.Output, Stack: stack, Notices: append(notices, skipped...)}
	text, told, err := specText(o, config, l)
	if err != nil {
		return nil, err
	}
	if text, err = wants.merge(text); err != nil {
		return nil, err
	}
	if wants != nil {
		set := keysOf(child(wants.root, "volumes"))
		told = slices.DeleteFunc(told, func(n file.Notice) bool {
			name, ok := strings.CutPrefix(n.Key, "volumes.")
			return ok && slices.Contains(set, name)
		})
	}
	out.Text, out.Notices = text, append(out.Notices, told...)
	if out.Spec, notices, err = file.ParseSpec(o.Output, text); err != nil {
		return nil, fmt.Errorf("the spec that was generated is not valid: %w", err)
	}
	out.Notices = append(out.Notices, notices...)
	if o.Judge != nil {
		if err := o.Judge(out.Notices); err != nil {
			return nil, err
		}
	}
	path := env.Path(o.Output)
	old, err := os.ReadFile(path) //nolint:gosec // the file the user names
	if err == nil {
		if !o.Force {
			return nil, &ExistsError{File: o.Output, Customised: customised(old, text)}
		}
		if !bytes.Equal(old, text) {
			out.Backup = o.Output + ".bak"
			if err := writeFile(path+".bak", old, 0o644); err != nil {
				return nil, unwritable(out.Backup, err)
			}
		}
	} else if _, gone := os.Lstat(path); gone == nil {
		return nil, fault.Usagef("", "%s cannot be read", o.Output).Because(err.Error()).From(err)
	}
	if err := writeFile(path, text, 0o644); err != nil {
		return nil, unwritable(o.Output, err)
	}
	return out, nil
}

func unwritable(name string, err error) error {
	return fault.Usagef("", "%s cannot be written", name).Because(reason(err)).From(err)
}

func (o InitOptions) check() error {
	const help = "homelab deploy init --help"
	switch {
	case o.Target != file.Compose && o.Target != file.K8s && o.Target != file.Kind:
		return fault.Usagef(help, "--deploy-to must be compose, k8s or k8s-kind, not %q", string(o.Target))
	case o.Target == file.K8s && o.KubeConfig == "":
		return fault.Usagef(help, "--deploy-to k8s needs --kube-config")
	case o.Target != file.K8s && o.KubeConfig != "":
		return fault.Usagef(help, "--kube-config is for --deploy-to k8s only")
	case o.Target != file.K8s && o.ImageRegistry != "":
		return fault.Usagef(help, "--image-registry is for --deploy-to k8s only")
	case o.Ports != "" && !slices.Contains(Recipes(), o.Ports):
		var names []string
		for _, r := range Recipes() {
			names = append(names, string(r))
		}
		return fault.Usagef(help, "--map-ports-to-host must be one of %s, not %q", strings.Join(names, ", "), string(o.Ports))
	}
	return nil
}

// pairText is a setting of the command line or a file.
type pairText struct{ name, value string }

// settings returns the config section: the file's in its order, replaced and
// followed by the flag's.
func settings(env file.Env, o InitOptions, out []pairText) ([]pairText, error) {
	const help = "homelab deploy init --help"
	set := func(name, value string) {
		for i := range out {
			if out[i].name == name {
				out[i].value = value
				return
			}
		}
		out = append(out, pairText{name, value})
	}
	if o.ConfigFile != "" {
		data, err := read(env.Path(o.ConfigFile))
		if err != nil {
			return nil, err
		}
		vars, err := file.ParseEnv(o.ConfigFile, data, nil)
		if err != nil {
			return nil, err
		}
		for _, v := range vars {
			set(v.Name, v.Value)
		}
	}
	for _, p := range o.Config {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			// The text may be a secret that was pasted without its name.
			return nil, fault.Usagef(help, "--config takes NAME=VALUE pairs with commas between them: one of them has no NAME=")
		}
		set(strings.TrimSpace(name), value)
	}
	return out, nil
}

// specText generates the spec. Its shape is relied on by scripts that edit it
// line by line.
func specText(o InitOptions, config []pairText, l *loaded) ([]byte, []file.Notice, error) {
	var b strings.Builder
	var notices []file.Notice
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("stack: %s", scalar(o.Stack))
	line("deploy-to: %s", o.Target)
	if o.KubeConfig != "" {
		line("kube-config: %s", scalar(o.KubeConfig))
	}
	if o.ImageRegistry != "" {
		line("image-registry: %s", scalar(o.ImageRegistry))
	} else if o.Target == file.K8s {
		notices = append(notices, file.Notice{
			Code: "no-image-registry", Level: file.Warning, File: o.Output, Key: "image-registry",
			Message: "without image-registry the cluster must be able to pull every image by the name the compose files give it",
		})
	}
	if len(config) > 0 {
		line("config:")
		for _, c := range config {
			line("  %s: %s", scalar(c.name), scalar(c.value))
		}
	}
	if err := portsText(&b, o, l.files); err != nil {
		return nil, nil, err
	}
	names, readOnly := namedVolumes(l.files)
	var volumes, maps []string
	for _, v := range names {
		if o.Target != file.Compose && readOnly[v] && strings.Contains(v, "config") {
			maps = append(maps, v)
		} else {
			volumes = append(volumes, v)
		}
	}
	if len(volumes) > 0 {
		line("volumes:")
	}
	for _, v := range volumes {
		if o.Target == file.Compose {
			line("  %s: %s", scalar(v), scalar("./data/"+v))
			continue
		}
		line("  %s:", scalar(v))
		if o.Target == file.Kind {
			notices = append(notices, inNode(o.Output, 0, v, ""))
		}
	}
	if len(maps) > 0 {
		line("configmaps:")
	}
	for _, v := range maps {
		line("  %s: %s", scalar(v), scalar("./configmaps/"+v))
	}
	if o.Target != file.Compose {
		line("secrets: {}")
	}
	return []byte(b.String()), notices, nil
}

// inNode warns of a volume that has no path: on kind its data is lost with the
// cluster.
func inNode(name string, line int, volume, root string) file.Notice {
	path := "./data/" + volume
	if root != "" {
		path = filepath.Join(root, volume)
	}
	return file.Notice{
		Code: "volume-in-node", Level: file.Warning, File: name, Line: line, Key: "volumes." + volume,
		Message: fmt.Sprintf("volume %s has no path: its data survives pods, but lies inside the kind node and is lost with the cluster; write %s: %s to keep it on this host", volume, volume, path),
	}
}

// portsText writes network.ports.
func portsText(b *strings.Builder, o InitOptions, files []*composeFile) error {
	type entry struct {
		service string
		ports   []string
	}
	var list []entry
	taken := map[int]bool{}
	for _, f := range files {
		if f.job {
			continue
		}
		for _, s := range f.services {
			i := slices.IndexFunc(list, func(e entry) bool { return e.service == s.name })
			if i < 0 && len(s.ports) > 0 {
				list, i = append(list, entry{service: s.name}), len(list)
			}
			for _, p := range s.ports {
				mapped, err := o.mapPort(p.text, taken)
				if err != nil {
					return err
				}
				for _, m := range mapped {
					if !slices.Contains(list[i].ports, m) {
						list[i].ports = append(list[i].ports, m)
					}
				}
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	b.WriteString("network:\n  ports:\n")
	for _, e := range list {
		fmt.Fprintf(b, "    %s:\n", scalar(e.service))
		for _, p := range e.ports {
			fmt.Fprintf(b, "     - %s\n", quoted(p))
		}
	}
	return nil
}

// mapPort applies the recipe to one entry of ports.
func (o InitOptions) mapPort(text string, taken map[int]bool) ([]string, error) {
	ip, fixed := "", false
	switch o.Ports {
	case "", AnyVariableRandom:
		return []string{text}, nil
	case LocalhostSame:
		ip = "127.0.0.1"
	case AnySame:
		ip = "0.0.0.0"
	case LocalhostFixedRandom:
		ip, fixed = "127.0.0.1", true
	case AnyFixedRandom:
		ip, fixed = "0.0.0.0", true
	}
	var out []string
	ports, suffix := containerPorts(text)
	for _, p := range ports {
		host := p
		if fixed {
			n, err := o.freePort(ip, suffix == "/udp", taken)
			if err != nil {
				return nil, err
			}
			host = strconv.Itoa(n)
		}
		out = append(out, ip+":"+host+":"+p+suffix)
	}
	return out, nil
}

// The ports that are handed out.
const (
	lowestPort  = 20000
	highestPort = 50000
)

func (o InitOptions) freePort(ip string, udp bool, taken map[int]bool) (int, error) {
	var b [4]byte
	for range 500 {
		if _, err := io.ReadFull(o.Random, b[:]); err != nil {
			return 0, fmt.Errorf("a port needs random bytes: %w", err)
		}
		n := lowestPort + int(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]))%(highestPort-lowestPort+1)
		if !taken[n] && o.Free(ip, n, udp) {
			taken[n] = true
			return n, nil
		}
	}
	return 0, fault.Usagef("", "no port from %d to %d is free on %s", lowestPort, highestPort, ip)
}

// PortFree says whether nothing listens at an address of this machine.
func PortFree(ip string, port int, udp bool) bool {
	at := net.JoinHostPort(ip, strconv.Itoa(port))
	if udp {
		c, err := net.ListenPacket("udp", at) //nolint:noctx // it binds, and dials nothing
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	l, err := net.Listen("tcp", at) //nolint:noctx // it binds, and dials nothing
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// scalar returns s as YAML on one line, with single quotes where it needs any.
func scalar(s string) string {
	out := file.Scalar(s)
	if inner, ok := strings.CutPrefix(out, `"`); ok && !strings.ContainsAny(out, `\'`) {
		return "'" + strings.TrimSuffix(inner, `"`) + "'"
	}
	return out
}

// quoted returns s in single quotes.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// customised returns the dotted keys of old that fresh does not have, or has
// with another value; nil when old cannot be read as YAML.
func customised(old, fresh []byte) []string {
	was, now := leaves(old), leaves(fresh)
	var out []string
	for _, l := range was {
		i := slices.IndexFunc(now, func(n leaf) bool { return n.key == l.key })
		if i < 0 || now[i].value != l.value {
			out = append(out, l.key)
		}
	}
	for _, l := range now {
		if !slices.ContainsFunc(was, func(n leaf) bool { return n.key == l.key }) {
			out = append(out, l.key)
		}
	}
	return out
}

// vanished returns the dotted keys of old that are not in fresh.
func vanished(old, fresh []byte) []string {
	now := leaves(fresh)
	var out []string
	for _, l := range leaves(old) {
		if !slices.ContainsFunc(now, func(n leaf) bool { return n.key == l.key || strings.HasPrefix(n.key, l.key+".") }) {
			out = append(out, l.key)
		}
	}
	return out
}

type leaf struct{ key, value string }

// leaves returns what stands in a YAML file: each value under its dotted key.
// A list is one value.
func leaves(data []byte) []leaf {
	var doc yaml.Node
	if yaml.Unmarshal(data, &doc) != nil || len(doc.Content) == 0 {
		return nil
	}
	var out []leaf
	var walk func(key string, n *yaml.Node, depth int)
	walk = func(key string, n *yaml.Node, depth int) {
		list := pairs(n)
		if len(list) > 0 && depth < 6 {
			for _, p := range list {
				k := p.key.Value
				if key != "" {
					k = key + "." + k
				}
				walk(k, p.value, depth+1)
			}
			return
		}
		if key == "" {
			return
		}
		value := ""
		if n = resolve(n); n != nil && (n.Kind != yaml.MappingNode || len(n.Content) > 0) {
			var v any
			if n.Decode(&v) == nil && v != nil {
				value = fmt.Sprintf("%T %v", v, v)
			}
		}
		out = append(out, leaf{key, value})
	}
	walk("", doc.Content[0], 0)
	return out
}

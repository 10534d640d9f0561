package workload

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
)

// Scheme is the scheme of this target's URLs.
const Scheme = "k8s"

// Spec names one container of one workload.
type Spec struct {
	Kind            rollout.Kind // Deployment, StatefulSet or DaemonSet
	Namespace, Name string
	Container       string
	// By is the field manager that writes the image; "" is the container's own.
	By string
}

const (
	help      = "homelab deploy watch --help"
	supported = "deployment (deploy), statefulset (sts), daemonset (ds)"
)

// Parse reads k8s://NS/[KIND/]NAME?container=C. The error is a *fault.Error of
// kind Usage; nothing is contacted.
func Parse(text string) (Spec, error) {
	no := func(format string, args ...any) (Spec, error) {
		return Spec{}, fault.Usagef(help, "--to "+ui.Clean(text)+": "+format, args...)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != Scheme {
		return no("it is not k8s://NAMESPACE/[KIND/]NAME?container=NAME")
	}
	if u.User != nil || u.Fragment != "" || u.Port() != "" || u.Opaque != "" {
		return no("it takes a namespace, a name and container=NAME, and nothing else")
	}
	s := Spec{Kind: rollout.Deployment, Namespace: u.Host}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	switch len(parts) {
	case 1:
	case 2:
		kind, ok := rollout.ParseKind(parts[0])
		if !ok || kind == rollout.CronJob {
			return no("%s is not supported; there are: %s", ui.Clean(parts[0]), supported)
		}
		s.Kind = kind
	default:
		return no("it has too many parts: k8s://NAMESPACE/[KIND/]NAME")
	}
	s.Name = parts[len(parts)-1]
	if _, kind := rollout.ParseKind(s.Namespace); kind {
		return no("%s is a kind, not a namespace: k8s://NAMESPACE/%s/%s", s.Namespace, s.Namespace, ui.Clean(s.Name))
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return no("its query cannot be read")
	}
	for key := range q {
		if key != "container" {
			return no("%s is not known; there is: container", ui.Clean(key))
		}
	}
	if len(q["container"]) != 1 || q.Get("container") == "" {
		return no("it must name one container: ?container=NAME")
	}
	s.Container = q.Get("container")
	label := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	name := regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	switch {
	case !label.MatchString(s.Namespace):
		return no("%q is no name of a namespace", ui.Clean(s.Namespace))
	case !name.MatchString(s.Name):
		return no("%q is no name of a workload", ui.Clean(s.Name))
	case !label.MatchString(s.Container):
		return no("%q is no name of a container", ui.Clean(s.Container))
	}
	return s, nil
}

// String is the one way to write s.
func (s Spec) String() string {
	kind := ""
	if s.Kind != rollout.Deployment {
		kind = string(s.Kind) + "/"
	}
	return Scheme + "://" + s.Namespace + "/" + kind + s.Name + "?container=" + s.Container
}

// managers is how the field managers of all watches begin.
const managers = "homelab-watch."

// Manager is the field manager under which the container's image is written.
func (s Spec) Manager() string {
	if s.By != "" {
		return s.By
	}
	return managers + s.Container
}

// object names the workload in sentences.
func (s Spec) object() string { return string(s.Kind) + " " + s.Namespace + "/" + s.Name }

func (s Spec) resource() kube.Resource { return kube.Apps(string(s.Kind) + "s") }

// kind is the kind as objects spell it.
func (s Spec) kind() string {
	return map[rollout.Kind]string{
		rollout.Deployment: "Deployment", rollout.StatefulSet: "StatefulSet", rollout.DaemonSet: "DaemonSet", rollout.CronJob: "CronJob",
	}[s.Kind]
}

// container is C in t; ok is false when there is none, or when it is an init
// container, which runs nothing that could be watched.
func (s Spec) container(t rollout.Target) (rollout.Container, bool) {
	c, ok := t.Template.Container(s.Container)
	return c, ok && !c.Init
}

// owners are the field managers that own the image of C, this watch's own
// first.
func (s Spec) owners(t rollout.Target) (own bool, others []string) {
	for _, m := range t.Managers {
		switch {
		case !slices.Contains(m.Images, s.Container):
		case m.Name == s.Manager() && m.Operation == "Apply": // an update under that name is somebody's else
			own = true
		case !slices.Contains(others, m.Name):
			others = append(others, m.Name)
		}
	}
	return own, others
}

// stranger is who put the image there if it was not this watch; "" it was, or
// nobody knows.
func (s Spec) stranger(t rollout.Target) string {
	own, others := s.owners(t)
	if own {
		return ""
	}
	return strings.Join(others, ", ")
}

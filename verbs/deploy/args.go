package deploy

import (
	"fmt"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
	"homelab/verbs/verb/workload"
)

// kindOf reads a kind as people type it, also in the plural; false for a word
// that names none.
func kindOf(word string) (rollout.Kind, bool) {
	if k, ok := rollout.ParseKind(word); ok {
		return k, true
	}
	return rollout.ParseKind(strings.TrimSuffix(strings.ToLower(word), "s"))
}

const supported = "deployment (deploy), statefulset (sts), daemonset (ds), cronjob (cj)"

// known says whether word names a kind of object that Kubernetes users type,
// supported here or not, so that "pod/web" is told apart from a namespace.
func known(word string) bool {
	if _, ok := kindOf(word); ok {
		return true
	}
	switch strings.ToLower(word) {
	case "pod", "pods", "po", "job", "jobs", "replicaset", "replicasets", "rs", "rollout", "rollouts",
		"service", "services", "svc", "pvc", "node", "nodes", "canary", "ksvc":
		return true
	}
	return false
}

// parseTarget reads NS/NAME or NS/KIND/NAME; with a namespace given apart also
// NAME and KIND/NAME. The error is a usage error.
func parseTarget(arg, namespace, help string) (workload.Ref, error) {
	no := func(format string, a ...any) (workload.Ref, error) {
		return workload.Ref{}, fault.Usagef(help, "%s: %s", ui.Clean(arg), fmt.Sprintf(format, a...))
	}
	parts := strings.Split(arg, "/")
	for _, p := range parts {
		if p == "" || strings.ContainsAny(p, " \t\r\n") {
			return no("a part of it is empty or has a space in it")
		}
	}
	t := workload.Ref{Kind: rollout.Deployment, Namespace: namespace, Name: parts[len(parts)-1]}
	kind := ""
	switch len(parts) {
	case 1:
		if namespace == "" {
			return no("it lacks a namespace: write NAMESPACE/%s, or add -n", parts[0])
		}
	case 2:
		switch {
		case known(parts[0]) && namespace != "":
			kind = parts[0]
		case known(parts[0]):
			return no("%s is a kind, not a namespace: write NAMESPACE/%s, or add -n", parts[0], arg)
		default:
			t.Namespace = parts[0]
		}
	case 3:
		t.Namespace, kind = parts[0], parts[1]
	default:
		return no("it has too many parts: NAMESPACE/[KIND/]NAME")
	}
	if namespace != "" && t.Namespace != namespace {
		return no("its namespace contradicts -n %s", ui.Clean(namespace))
	}
	if kind != "" {
		k, ok := kindOf(kind)
		if !ok {
			return no("%s is not supported; there are: %s", kind, supported)
		}
		t.Kind = k
	}
	return t, nil
}

// parseTargets reads all of them; a workload named twice is one.
func parseTargets(args []string, namespace, help string) ([]workload.Ref, error) {
	if len(args) == 0 {
		return nil, fault.Usagef(help, "no workload is named: NAMESPACE/[KIND/]NAME")
	}
	var out []workload.Ref
	seen := map[workload.Ref]bool{}
	for _, a := range args {
		t, err := parseTarget(a, namespace, help)
		if err != nil {
			return nil, err
		}
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out, nil
}

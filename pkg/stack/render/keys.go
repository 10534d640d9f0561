package render

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"homelab/pkg/stack/file"
)

// effect is what a key of a compose service comes to.
type effect int

const (
	none    effect = iota // nothing: a notice
	applied               // it is rendered, or judged where it is rendered
	second                // rendered under V2; a notice under V1
)

// effects is what is known of every key of a service. A key that is not here
// has no effect, like one that is none.
func effects() map[string]effect {
	return map[string]effect{
		"image": applied, "ports": applied, "environment": applied, "volumes": applied,
		"entrypoint": applied, "command": applied, "user": applied, "labels": applied,
		"deploy": applied, "depends_on": applied, "network_mode": applied, "networks": applied,
		"restart": applied, "build": applied, "profiles": applied, "extends": applied, "expose": applied,

		"env_file": second, "healthcheck": second, "working_dir": second, "cap_add": second,
		"cap_drop": second, "privileged": second, "read_only": second, "tty": second,
		"stdin_open": second, "hostname": second, "sysctls": second, "extra_hosts": second,
		"tmpfs": second, "shm_size": second, "secrets": second, "configs": second,
		"stop_grace_period": second,

		"annotations": none, "attach": none, "blkio_config": none, "cgroup": none, "cgroup_parent": none,
		"container_name": none, "cpu_count": none, "cpu_percent": none, "cpu_period": none,
		"cpu_quota": none, "cpu_rt_period": none, "cpu_rt_runtime": none, "cpu_shares": none,
		"cpus": none, "cpuset": none, "credential_spec": none, "develop": none,
		"device_cgroup_rules": none, "devices": none, "dns": none, "dns_opt": none, "dns_search": none,
		"dockerfile": none, "domainname": none, "external_links": none, "gpus": none, "group_add": none,
		"init": none, "ipc": none, "isolation": none, "label_file": none, "links": none, "log_driver": none,
		"log_opt": none, "logging": none, "mac_address": none, "mem_limit": none, "mem_reservation": none,
		"mem_swappiness": none, "memswap_limit": none, "models": none, "name": none, "net": none,
		"oom_kill_disable": none, "oom_score_adj": none, "pid": none, "pids_limit": none, "platform": none,
		"post_start": none, "pre_start": none, "pre_stop": none, "provider": none, "pull_policy": none,
		"pull_refresh_after": none, "runtime": none, "scale": none, "security_opt": none,
		"stop_signal": none, "storage_opt": none, "ulimits": none, "umask": none, "use_api_socket": none,
		"userns_mode": none, "uts": none, "volume_driver": none, "volumes_from": none,
	}
}

// keys judges every key of a service and removes what has no effect: a value
// nobody reads need not be valid either.
func (l *composeLoader) keys(path, service string, node *yaml.Node) {
	known := effects()
	keep := node.Content[:0:0]
	for k, v := range pairs(node) {
		switch e := known[k.Value]; {
		case strings.HasPrefix(k.Value, "x-"):
		case e == applied || e == second && l.rules != file.V1:
			keep = append(keep, k, v)
		case e == second:
			l.ignored(path, service, k, k.Value, fmt.Sprintf("%s has no effect under the rules this deployment was made with; it has with \"render: v2\" in deployment.yml", k.Value))
		default:
			l.ignored(path, service, k, k.Value, k.Value+" has no effect here")
		}
	}
	node.Content = keep
	l.deploy(path, service, child(node, "deploy"))
}

// deploy judges what stands below deploy: resources are rendered.
func (l *composeLoader) deploy(path, service string, deploy *yaml.Node) {
	for _, level := range []struct {
		node   *yaml.Node
		prefix string
		has    []string
	}{
		{deploy, "deploy.", []string{"resources"}},
		{child(deploy, "resources"), "deploy.resources.", []string{"limits", "reservations"}},
		{child(child(deploy, "resources"), "limits"), "deploy.resources.limits.", []string{"cpus", "memory"}},
		{child(child(deploy, "resources"), "reservations"), "deploy.resources.reservations.", []string{"cpus", "memory"}},
	} {
		if level.node == nil || level.node.Kind != yaml.MappingNode {
			continue
		}
		keep := level.node.Content[:0:0]
		for k, v := range pairs(level.node) {
			switch {
			case strings.HasPrefix(k.Value, "x-"):
			case slices.Contains(level.has, k.Value):
				keep = append(keep, k, v)
			default:
				l.ignored(path, service, k, level.prefix+k.Value, level.prefix+k.Value+" has no effect here")
			}
		}
		level.node.Content = keep
	}
}

func (l *composeLoader) ignored(path, service string, at *yaml.Node, key, text string) {
	l.c.notice(file.Notice{
		Code: "compose-key", Level: file.Ignored, File: path, Line: at.Line, Service: service, Key: key, Message: text,
	})
}

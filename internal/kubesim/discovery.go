package kubesim

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// discovery answers what general clients such as kubectl ask first: the
// server's version and what it serves. These requests are open to everybody and
// not in the record.
func (s *Sim) discovery(w http.ResponseWriter, path string) bool {
	var answer any
	switch p := strings.Split(strings.Trim(path, "/"), "/"); {
	case path == "/version":
		answer = Object{"major": "1", "minor": "34", "gitVersion": "v1.34.0", "platform": "linux/amd64"}
	case path == "/api":
		answer = Object{"kind": "APIVersions", "versions": []string{"v1"}}
	case path == "/apis":
		groups, versions := []Object{}, map[string]string{}
		for _, k := range s.kinds {
			if k.group != "" {
				versions[k.group] = k.version
			}
		}
		for _, name := range slices.Sorted(maps.Keys(versions)) {
			version := Object{"groupVersion": name + "/" + versions[name], "version": versions[name]}
			groups = append(groups, Object{"name": name, "versions": []Object{version}, "preferredVersion": version})
		}
		answer = Object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
	case len(p) == 2 && p[0] == "api":
		answer = s.resources("", p[1])
	case len(p) == 3 && p[0] == "apis":
		answer = s.resources(p[1], p[2])
	default:
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
	return true
}

// resources lists what a group serves.
func (s *Sim) resources(group, version string) Object {
	list := []Object{}
	for _, name := range slices.Sorted(maps.Keys(s.kinds)) {
		k := s.kinds[name]
		if k.group == group && k.version == version {
			list = append(list, Object{
				"name": name, "singularName": strings.ToLower(k.kind), "kind": k.kind, "namespaced": !k.cluster,
				"verbs": []string{"get", "list", "watch"},
			})
		}
	}
	return Object{
		"kind": "APIResourceList", "apiVersion": "v1", "resources": list,
		"groupVersion": strings.TrimPrefix(group+"/"+version, "/"),
	}
}

package kube

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// Resource is a kind of object as it stands in API paths.
type Resource struct {
	Group   string // "" for the core group
	Version string
	Plural  string // "deployments"
}

// Core is a resource of the core group, version v1: pods, events, nodes.
func Core(plural string) Resource { return Resource{Version: "v1", Plural: plural} }

// Apps is a resource of apps/v1: deployments, replicasets.
func Apps(plural string) Resource { return Resource{Group: "apps", Version: "v1", Plural: plural} }

// Batch is a resource of batch/v1: cronjobs, jobs.
func Batch(plural string) Resource { return Resource{Group: "batch", Version: "v1", Plural: plural} }

// String is the form of permission rules: "deployments.apps", "pods".
func (r Resource) String() string {
	if r.Group == "" {
		return r.Plural
	}
	return r.Plural + "." + r.Group
}

// path is the API path of a collection, or with a name of one object. An empty
// namespace means cluster-scoped, or all namespaces.
func (r Resource) path(namespace, name, sub string) string {
	parts := []string{"api", r.Version}
	if r.Group != "" {
		parts = []string{"apis", r.Group, r.Version}
	}
	if namespace != "" {
		parts = append(parts, "namespaces", namespace)
	}
	parts = append(parts, r.Plural)
	if name != "" {
		parts = append(parts, name)
	}
	if sub != "" {
		parts = append(parts, sub)
	}
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// Object is one object as served. Items of a list carry no kind and
// apiVersion: the server leaves them out.
type Object struct {
	Name, Namespace, UID, ResourceVersion string
	Labels                                map[string]string
	Raw                                   json.RawMessage
	// Value is the place for what Query.Keep made of Raw.
	Value any
}

// Query narrows a list or a watch. The zero value is everything.
type Query struct {
	// Name follows one object: the field selector metadata.name is added, a
	// refused list falls back to GET, and silence is checked.
	Name   string
	Labels string // label selector; also applied here, as a server may ignore it
	Fields string // field selector; metadata.name= is also applied here
	Limit  int    // List only: at most this many items in all; 0 all
	// Keep sees every object as it arrives, before it is collected, and
	// returns false to leave it out. It may replace Raw by a decoded Value, so
	// that a long list is never in memory as JSON. Called from Follow's or
	// List's goroutine.
	Keep func(*Object) bool
}

func (q Query) values() url.Values {
	v := url.Values{}
	fields := q.Fields
	if q.Name != "" {
		if fields != "" {
			fields += ","
		}
		fields += "metadata.name=" + q.Name
	}
	if fields != "" {
		v.Set("fieldSelector", fields)
	}
	if q.Labels != "" {
		v.Set("labelSelector", q.Labels)
	}
	return v
}

// decode reads an object's metadata and hands on the rest as it is.
func decode(raw json.RawMessage) (Object, error) {
	var m struct {
		Metadata *struct {
			Name            string            `json:"name"`
			Namespace       string            `json:"namespace"`
			UID             string            `json:"uid"`
			ResourceVersion string            `json:"resourceVersion"`
			Labels          map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return Object{}, err
	}
	if m.Metadata == nil {
		return Object{}, errNotObject
	}
	return Object{
		Name: m.Metadata.Name, Namespace: m.Metadata.Namespace, UID: m.Metadata.UID,
		ResourceVersion: m.Metadata.ResourceVersion, Labels: m.Metadata.Labels, Raw: raw,
	}, nil
}

// version reads a resourceVersion as the number it is; 0 when it is none.
func version(rv string) uint64 {
	n, err := strconv.ParseUint(rv, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

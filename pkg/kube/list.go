package kube

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// List returns the objects as they are now and the collection's
// resourceVersion. The list is decoded item by item as it arrives. It is one
// attempt, a 401 and a 403 confirmed; the error is as Get's. q.Keep may see
// items of an attempt that then fails.
// Source: GET /apis/{group}/{version}/namespaces/{ns}/{plural}.
func (c *Cluster) List(ctx context.Context, r Resource, ns string, q Query) (items []Object, rv string, err error) {
	s, err := newSieve(ns, q)
	if err != nil {
		return nil, "", err
	}
	err = confirmed(ctx, func() (err error) {
		items, rv, err = c.list(ctx, r, ns, q, s)
		return err
	})
	return items, rv, err
}

func (c *Cluster) list(ctx context.Context, r Resource, ns string, q Query, s sieve) ([]Object, string, error) {
	req := request{verb: "list", resource: r, namespace: ns, query: q.values(), total: listTimeout}
	if q.Limit > 0 {
		req.query.Set("limit", itoa(int64(q.Limit)))
	}
	res, err := c.ask(ctx, req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	var items []Object
	rv, err := decodeList(res.Body, func(o Object) {
		if (q.Limit == 0 || len(items) < q.Limit) && s.keeps(&o) {
			items = append(items, o)
		}
	})
	if err != nil {
		return nil, "", c.broken(ctx, req, err)
	}
	c.good()
	return items, rv, nil
}

// decodeList calls each for every item and returns the list's resourceVersion.
func decodeList(in io.Reader, each func(Object)) (rv string, err error) {
	d := json.NewDecoder(in)
	if err := delim(d, '{'); err != nil {
		return "", err
	}
	isList := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		switch key {
		case "kind":
			var kind string
			if err := d.Decode(&kind); err != nil {
				return "", err
			}
			isList = strings.HasSuffix(kind, "List")
		case "metadata":
			var m struct {
				ResourceVersion string `json:"resourceVersion"`
			}
			if err := d.Decode(&m); err != nil {
				return "", err
			}
			rv = m.ResourceVersion
		case "items":
			if err := decodeItems(d, each); err != nil {
				return "", err
			}
		default:
			var skip json.RawMessage
			if err := d.Decode(&skip); err != nil {
				return "", err
			}
		}
	}
	if err := delim(d, '}'); err != nil {
		return "", err
	}
	if !isList {
		return "", errNotObject
	}
	return rv, nil
}

func decodeItems(d *json.Decoder, each func(Object)) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t == nil {
		return nil // null: an empty list of some servers
	}
	if t != json.Delim('[') {
		return errNotObject
	}
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		o, err := decode(raw)
		if err != nil {
			return err
		}
		each(o)
	}
	return delim(d, ']')
}

func delim(d *json.Decoder, want json.Delim) error {
	switch t, err := d.Token(); {
	case err != nil:
		return err
	case t != want:
		return errNotObject
	}
	return nil
}

// sieve applies a query again to what a server sent.
type sieve struct {
	namespace, name string
	labels          labels.Selector
	keep            func(*Object) bool
}

// newSieve fails for a label selector that cannot be parsed.
func newSieve(ns string, q Query) (sieve, error) {
	selector, err := labels.Parse(q.Labels)
	if err != nil {
		return sieve{}, err
	}
	s := sieve{namespace: ns, name: q.Name, labels: selector, keep: q.Keep}
	for term := range strings.SplitSeq(q.Fields, ",") {
		if name, ok := strings.CutPrefix(term, "metadata.name="); ok && s.name == "" {
			s.name = strings.TrimPrefix(name, "=")
		}
	}
	return s, nil
}

// selects says whether the query is about o.
func (s sieve) selects(o *Object) bool {
	return (s.namespace == "" || o.Namespace == s.namespace) && (s.name == "" || o.Name == s.name) &&
		s.labels.Matches(labels.Set(o.Labels))
}

func (s sieve) keeps(o *Object) bool { return s.selects(o) && (s.keep == nil || s.keep(o)) }

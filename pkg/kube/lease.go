package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"time"
)

// leaseTime is how a Lease writes a time.
const leaseTime = "2006-01-02T15:04:05.000000Z07:00"

// Lease is a coordination.k8s.io Lease: who acts, and for how long. What it
// has beside these fields stays as it is when it is written again.
type Lease struct {
	Holder      string        // "" nobody
	Lasts       time.Duration // since Renewed; 0 not given
	Acquired    time.Time
	Renewed     time.Time
	Transitions int
	Annotations map[string]string
	// Version is the object's resourceVersion: a write of another one is a 409.
	Version string

	object map[string]any
}

// ReadLease returns a Lease as it is now. One attempt, and the errors are
// Get's.
func (c *Cluster) ReadLease(ctx context.Context, ns, name string) (Lease, error) {
	o, err := c.Get(ctx, leases(), ns, name)
	if err != nil {
		return Lease{}, err
	}
	return decodeLease(o.Raw)
}

// WriteLease stores what ReadLease or WriteLease returned, changed, if nobody
// changed it meanwhile, and returns what it is then. It is sent once, but for a
// 401 and a 403, which change nothing and are confirmed. The error is as Get's;
// see IsConflict. Source: PUT of the object.
func (c *Cluster) WriteLease(ctx context.Context, ns, name string, l Lease) (Lease, error) {
	body, err := json.Marshal(l.encode())
	if err != nil {
		return Lease{}, err
	}
	var out Lease
	err = confirmed(ctx, func() error {
		if err := c.limit.wait(ctx); err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base.JoinPath(leases().path(ns, name, "")).String(), bytes.NewReader(body))
		if err != nil {
			return &UnreachableError{What: "update " + leases().String() + " " + name, Err: err}
		}
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", "application/json")
		res, err := c.Transport().RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body) // in memory already
		if err == nil {
			out, err = decodeLease(raw)
		}
		if err != nil {
			return c.broken(ctx, named(c.base, req), err)
		}
		return nil
	})
	return out, err
}

func leases() Resource {
	return Resource{Group: "coordination.k8s.io", Version: "v1", Plural: "leases"}
}

func decodeLease(raw []byte) (Lease, error) {
	var o map[string]any
	if err := json.Unmarshal(raw, &o); err != nil {
		return Lease{}, err
	}
	if _, ok := o["metadata"].(map[string]any); !ok {
		return Lease{}, errNotObject
	}
	return LeaseOf(o), nil
}

// LeaseOf reads the Lease that an object is. Fields that are missing or cannot
// be read are zero.
func LeaseOf(o map[string]any) Lease {
	meta, _ := o["metadata"].(map[string]any)
	spec, _ := o["spec"].(map[string]any)
	l := Lease{object: o, Lasts: time.Duration(number(spec["leaseDurationSeconds"])) * time.Second, Transitions: int(number(spec["leaseTransitions"]))}
	l.Version, _ = meta["resourceVersion"].(string)
	l.Holder, _ = spec["holderIdentity"].(string)
	l.Acquired, l.Renewed = moment(spec["acquireTime"]), moment(spec["renewTime"])
	notes, _ := meta["annotations"].(map[string]any)
	l.Annotations = make(map[string]string, len(notes))
	for k, v := range notes {
		l.Annotations[k], _ = v.(string)
	}
	return l
}

// Expired says that the lease has not been renewed for as long as it lasts, or
// for lasts where it does not say.
func (l Lease) Expired(now time.Time, lasts time.Duration) bool {
	if l.Lasts > 0 {
		lasts = l.Lasts
	}
	return l.Renewed.IsZero() || now.Sub(l.Renewed) > lasts
}

// Put writes the lease's spec into an object's.
func (l Lease) Put(o map[string]any) {
	spec, _ := o["spec"].(map[string]any)
	spec = maps.Clone(spec)
	if spec == nil {
		spec = map[string]any{}
	}
	spec["holderIdentity"] = l.Holder
	spec["leaseDurationSeconds"] = int64(l.Lasts / time.Second)
	for key, t := range map[string]time.Time{"acquireTime": l.Acquired, "renewTime": l.Renewed} {
		if !t.IsZero() {
			spec[key] = t.UTC().Format(leaseTime)
		}
	}
	if l.Transitions > 0 {
		spec["leaseTransitions"] = int64(l.Transitions)
	}
	o["spec"] = spec
}

// encode is the object as it was read, with what was changed.
func (l Lease) encode() map[string]any {
	o := maps.Clone(l.object)
	if o == nil {
		o = map[string]any{}
	}
	meta, _ := o["metadata"].(map[string]any)
	meta = maps.Clone(meta)
	if meta == nil {
		meta = map[string]any{}
	}
	notes := map[string]any{}
	for k, v := range l.Annotations {
		notes[k] = v
	}
	meta["annotations"], meta["resourceVersion"] = notes, l.Version
	o["metadata"] = meta
	l.Put(o)
	return o
}

func number(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

func moment(v any) time.Time {
	text, _ := v.(string)
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

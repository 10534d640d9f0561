package file

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ParseDeployment reads a deployment.yml; name is how it is shown. The error
// is *Problems.
func ParseDeployment(name string, data []byte) (Deployment, []Notice, error) {
	r := &reader{file: name}
	top := r.open(data)
	if err := r.err(); err != nil {
		return Deployment{}, nil, err
	}
	f := r.fields(top, "cluster-id", "deployment-id", "stack-source", "spec-source", "render", "created-by")
	d := Deployment{
		ClusterID: r.text(f["cluster-id"]), ID: r.text(f["deployment-id"]), StackSource: r.text(f["stack-source"]),
		SpecSource: r.text(f["spec-source"]), CreatedBy: r.text(f["created-by"]), Rules: V1,
	}
	switch v := r.text(f["render"]); v {
	case "", "v1":
	case "v2":
		d.Rules = V2
	default:
		r.fail(f["render"], "must be v1 or v2, not %s", quoted(v))
	}
	// A kind cluster may have dots in its name.
	if d.ClusterID != "" && !regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`).MatchString(d.ClusterID) {
		r.fail(f["cluster-id"], "must be lower-case letters, digits, . and -, not %s", quoted(d.ClusterID))
	}
	idKey := f["deployment-id"]
	if d.ID == "" {
		d.ID, d.FallbackID, idKey = d.ClusterID, true, f["cluster-id"]
	}
	switch {
	case d.ID == "" && len(r.problems) == 0:
		r.fail(f["deployment-id"], "is missing, and so is cluster-id")
	case d.ID != "" && !label(d.ID) && len(r.problems) == 0:
		r.fail(idKey, "must be lower-case letters, digits and -, at most 63, not %s", quoted(d.ID))
	}
	if d.ClusterID == "" {
		d.ClusterID = d.ID
	}
	sortNotices(r.notices)
	return d, r.notices, r.err()
}

// Marshal returns the file's text. V1 is written by leaving render out, as the
// original tool does not know the key.
func (d Deployment) Marshal() []byte {
	var b strings.Builder
	line := func(key, v string) {
		if v != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, Scalar(v))
		}
	}
	line("cluster-id", d.ClusterID)
	if !d.FallbackID {
		line("deployment-id", d.ID)
	}
	line("stack-source", d.StackSource)
	line("spec-source", d.SpecSource)
	if d.Rules == V2 {
		line("render", "v2")
	}
	line("created-by", d.CreatedBy)
	return []byte(b.String())
}

// Scalar returns s as YAML reads it back: a string, quoted where it must be.
func Scalar(s string) string {
	out, err := yaml.Marshal(s)
	if err != nil || strings.Contains(strings.TrimSuffix(string(out), "\n"), "\n") {
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// FreshID returns an id for a new deployment: tenths of seconds since 2024 and
// two characters of random, so that two made at once differ.
func FreshID(now time.Time, random io.Reader) (string, error) {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	var b [2]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("an id needs random bytes: %w", err)
	}
	n := now.Sub(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).Milliseconds() / 100
	return "laconic-" + strconv.FormatInt(max(n, 0), 36) + string([]byte{digits[int(b[0])%36], digits[int(b[1])%36]}), nil
}

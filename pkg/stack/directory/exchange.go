package directory

import (
	"fmt"
	"slices"
	"strings"

	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

// CheckExchange refuses a stack whose config names containers that it does not
// have. The error is *file.Problems.
func CheckExchange(d *file.Directory, rendered *render.Result) error {
	var names []string
	for _, w := range rendered.Workloads {
		for c := range w.Images {
			names = append(names, c)
		}
	}
	slices.Sort(names)
	var bad []file.Problem
	for _, x := range d.Stack.Exchange {
		for _, c := range []string{x.Container, x.From} {
			if !slices.Contains(names, ContainerOf(d, c)) {
				bad = append(bad, file.Problem{
					File: x.Pos.File, Line: x.Pos.Line, Key: "config." + x.Container + "." + x.Variable,
					Message: fmt.Sprintf("names the container %q: the containers are %s", c, strings.Join(names, ", ")),
				})
			}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &file.Problems{List: bad}
}

// ContainerOf returns what the container of a service is called where the
// deployment runs: clusters know no "_" in names.
func ContainerOf(d *file.Directory, service string) string {
	if d.Spec.EffectiveTarget() == file.Compose {
		return service
	}
	return strings.ReplaceAll(service, "_", "-")
}

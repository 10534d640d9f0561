package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/fault"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/hook"
	"homelab/pkg/stack/render"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/stackview"
	"homelab/verbs/verb/workload"
)

// StackDeps is what the verbs need that make spec files and deployment
// directories.
type StackDeps struct {
	// Env says where stacks are found. A usage error for a configuration that
	// cannot be used.
	Env func(ctx context.Context) (file.Env, error)
	// Clusters lists the kind clusters that run on this machine.
	Clusters func(ctx context.Context) ([]directory.Cluster, error)
	// Hooks runs what stacks bring along, where hooks run that have no deployment
	// yet; tell is told what they print.
	Hooks   func(dir string, tell func(string)) *hook.Runner
	Version string
	Rules   file.Rules // that new directories are made with
}

// The JSON shapes below are public; stackview has those of the deployment verbs.

type placeJSON struct {
	Path   string  `json:"path"`
	Commit *string `json:"commit,omitempty"`
}

type sourceJSON struct {
	Spec  placeJSON `json:"spec"`
	Stack placeJSON `json:"stack"`
}

type volumeJSON struct {
	Name     string  `json:"name"`
	Spec     *string `json:"spec"`
	HostPath *string `json:"host_path"`
}

// stackResult is what deploy init and deploy create end in.
type stackResult struct {
	ui.Header
	Deployment *stackview.Deployment   `json:"deployment,omitempty"`
	Source     *sourceJSON             `json:"source,omitempty"`
	Plan       *stackview.Plan[string] `json:"plan,omitempty"`
	Targets    []workload.Target       `json:"targets"`
	Volumes    []volumeJSON            `json:"volumes"`
	Edited     []string                `json:"edited,omitempty"`   // by hand; kept as FILE.bak
	Vanished   []string                `json:"vanished,omitempty"` // keys the spec no longer has
	Problems   []problemJSON           `json:"problems,omitempty"` // all of what is wrong; the reason tells the first few
	Notices    []file.Notice           `json:"notices"`
	Revision   *int                    `json:"revision"`

	subject string
}

type problemJSON struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Service string `json:"service,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

// Text returns the result's line.
func (r *stackResult) Text(int, bool) []string { return []string{verb.Line(&r.Header, r.subject)} }

func newStackResult(kind string) *stackResult {
	return &stackResult{Header: ui.Header{Kind: kind}, Targets: []workload.Target{}, Volumes: []volumeJSON{}, Notices: []file.Notice{}}
}

// tell puts notices into the story, each in a line with its place.
func tell(io *ui.Streams, notices []file.Notice) {
	for _, n := range notices {
		word, _ := stackview.Word(n.Level)
		where := n.File
		if n.Line > 0 {
			where += fmt.Sprintf(":%d", n.Line)
		}
		if where != "" {
			where += ": "
		}
		io.Note(ui.L(word + ": " + where + n.Message))
	}
}

// strict refuses notices of what has no, or another, effect.
func strict(notices []file.Notice) error {
	var list []file.Problem
	for _, n := range notices {
		if n.Level == file.Changed || n.Level == file.Ignored {
			list = append(list, file.Problem{File: n.File, Line: n.Line, Service: n.Service, Key: n.Key, Message: "(" + n.Code + ") " + n.Message})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return &file.Problems{List: list}
}

// failed ends a run with what was wrong; problems of files are listed whole.
func (r *stackResult) failed(io *ui.Streams, err error, next string) error {
	if p, ok := errors.AsType[*file.Problems](err); ok {
		err = p.Fault(next)
		for _, x := range p.List {
			r.Problems = append(r.Problems, problemJSON{
				File: ui.Clean(x.File), Line: x.Line, Service: ui.Clean(x.Service), Key: ui.Clean(x.Key), Message: ui.Clean(x.Message),
			})
		}
		if len(p.List) > 1 {
			for _, x := range p.List {
				io.Note(ui.L(x.String()))
			}
		}
	}
	e := verb.Fault(err)
	if e.Kind == fault.Bug {
		return err
	}
	if e.Next == "" && e.Kind == fault.Usage {
		e.Next = next
	}
	r.Header = verb.NewFailure(r.Kind, e).Header
	return verb.Finish(io, r, e.Kind, e)
}

// notEmpty refuses flags that were given and say nothing: most likely a
// variable that is not set.
func notEmpty(c *cobra.Command) error {
	var err error
	c.Flags().Visit(func(f *pflag.Flag) {
		if v := f.Value.String(); (strings.TrimSpace(v) == "" || v == "[]") && f.Value.Type() != "bool" && err == nil {
			err = fault.Usagef(c.CommandPath()+" --help", "--%s is empty; give a value or leave it out", f.Name)
		}
	})
	return err
}

func namespaceOf(spec *file.Spec, stack string) *string {
	ns := spec.NamespaceFor(stack)
	return &ns
}

func volumesOf(spec *file.Spec, rendered *render.Result) []volumeJSON {
	out := []volumeJSON{}
	for _, v := range spec.Volumes {
		j := volumeJSON{Name: v.Name, Spec: optional(v.Path)}
		if rendered != nil {
			if i := slices.IndexFunc(rendered.Volumes, func(x render.Volume) bool { return x.Name == v.Name }); i >= 0 {
				j.HostPath = optional(rendered.Volumes[i].HostPath)
			}
		}
		out = append(out, j)
	}
	return out
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// clean returns notices that a terminal can be shown, each once.
func clean(notices []file.Notice) []file.Notice {
	out := make([]file.Notice, 0, len(notices))
	for _, n := range notices {
		if n = stackview.Clean(n); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

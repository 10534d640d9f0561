package stack

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
)

// Scheme is the scheme of this target.
const Scheme = "stack"

const help = "homelab deploy watch --help"

// Spec names one container of one deployment directory.
type Spec struct {
	Dir       string // absolute and clean
	Container string
}

// Parse reads what follows "stack:"; a "?" or "%" of the path itself is written
// %3F or %25. Nothing is looked up. The error is a *fault.Error of kind Usage.
func Parse(rest string) (Spec, error) {
	bad := func(why string) error {
		return fault.Usagef(help, "--to stack:%.300s", ui.Clean(rest)).Because(why)
	}
	raw, query, _ := strings.Cut(rest, "?")
	path, err := url.PathUnescape(raw)
	switch {
	case err != nil:
		return Spec{}, bad("a % in the path is written %25, a ? is written %3F")
	case path == "":
		return Spec{}, bad("want the absolute path of a deployment directory: stack:DIR?container=NAME")
	case strings.ContainsRune(path, 0):
		return Spec{}, bad("no path has a NUL character in it")
	case strings.HasPrefix(path, "//") && !strings.HasPrefix(path, "///"):
		return Spec{}, bad("it names a host; want the absolute path of a directory here")
	case !filepath.IsAbs(path):
		return Spec{}, bad("want an absolute path: what a daemon's directory is nobody knows")
	}
	s := Spec{Dir: filepath.Clean(path)}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(value)
		switch {
		case err != nil:
			return Spec{}, bad("its query cannot be read")
		case key != "container":
			return Spec{}, bad(ui.Clean(key) + " is not known; there is: container")
		case s.Container != "":
			return Spec{}, bad("container is given twice")
		case !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`).MatchString(value):
			return Spec{}, bad(`"` + ui.Clean(value) + `" is no name of a container`)
		}
		s.Container = value
	}
	if s.Container == "" {
		return Spec{}, bad("without a container it takes commits, and no source offers those yet: name ?container=NAME")
	}
	return s, nil
}

// String is what Parse reads, with the scheme, in one form for each Spec.
func (s Spec) String() string {
	return Scheme + ":" + strings.NewReplacer("%", "%25", "?", "%3F").Replace(s.Dir) + "?container=" + s.Container
}

package file

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"homelab/pkg/fault"
)

// Spec is a target "file:PATH[?unit=NAME][&copy=true]".
type Spec struct {
	Path string // absolute and clean
	Unit string // restarted by systemctl after each switch; "" none
	Copy bool   // PATH is a copy, else a symbolic link into the store
}

// longestName leaves room for the dot and the ending of the name beside PATH,
// in the 255 bytes a file system allows.
const longestName = 255 - len("..part")

// Parse reads what follows "file:"; a "?" or "%" of the path itself is written
// %3F or %25. Nothing is looked up. The error is a *fault.Error of kind Usage.
func Parse(rest string) (Spec, error) {
	var s Spec
	raw, query, _ := strings.Cut(rest, "?")
	path, err := url.PathUnescape(raw)
	bad := func(why string) error {
		return fault.Usagef("homelab deploy watch --help", "--to file:%.300s", rest).Because(why)
	}
	switch {
	case err != nil:
		return Spec{}, bad("a % in the path is written %25, a ? is written %3F")
	case path == "":
		return Spec{}, bad("want the absolute path of a file")
	case strings.ContainsRune(path, 0):
		return Spec{}, bad("no path has a NUL character in it")
	case strings.HasPrefix(path, "//") && !strings.HasPrefix(path, "///"):
		return Spec{}, bad("it names a host; want the absolute path of a file here")
	case !filepath.IsAbs(path):
		return Spec{}, bad("want an absolute path: what a daemon's directory is nobody knows")
	case strings.HasSuffix(path, "/"), filepath.Base(path) == "." || filepath.Base(path) == "..":
		return Spec{}, bad("want the path of a file, this is a directory")
	}
	s.Path = filepath.Clean(path)
	if len(filepath.Base(s.Path)) > longestName {
		return Spec{}, bad(fmt.Sprintf("the name is longer than %d bytes, and one beside it is needed while it is replaced", longestName))
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(value)
		switch {
		case err != nil:
			return Spec{}, bad(key + " cannot be read: a % is written %25")
		case seen[key]:
			return Spec{}, bad(key + " is given twice")
		case key == "unit":
			if !regexp.MustCompile(`^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,254}$`).MatchString(value) {
				return Spec{}, bad("unit is no name of a systemd unit")
			}
			s.Unit = value
		case key == "copy":
			if value != "true" && value != "false" {
				return Spec{}, bad("copy is true or false")
			}
			s.Copy = value == "true"
		default:
			return Spec{}, bad(fmt.Sprintf("%.60q is not known; there are unit=NAME and copy=true", key))
		}
		seen[key] = true
	}
	return s, nil
}

// String is what Parse reads, in one form for each Spec.
func (s Spec) String() string {
	out := "file:" + strings.NewReplacer("%", "%25", "?", "%3F").Replace(s.Path)
	mark := "?"
	if s.Unit != "" {
		out, mark = out+mark+"unit="+s.Unit, "&"
	}
	if s.Copy {
		out += mark + "copy=true"
	}
	return out
}

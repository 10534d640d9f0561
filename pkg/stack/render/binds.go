package render

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
)

// A bind mount is static content that ships with a stack: it becomes a
// ConfigMap, the same on every cluster, and nothing of this machine is mounted
// anywhere.

// bindBudget is how many bytes of raw content one bind may hold. In base64 it
// stays below the mebibyte an object may have, with room for the rest.
const bindBudget = 700 << 10

// configMapBudget is how many bytes a ConfigMap may hold at all.
const configMapBudget = 1 << 20

// staticMode is the mode of every file that comes out of a ConfigMap: scripts
// among them must run.
const staticMode int32 = 0o755

// content is what the files of one source come to.
type content struct {
	data    map[string][]byte  // by key
	items   []corev1.KeyToPath // nil: every key is its file's name
	dir     bool
	name    string   // a single file's name in the volume
	skipped []string // subdirectories that were left out, where that is allowed
}

// refusedError is content that cannot become a ConfigMap.
type refusedError struct {
	why     string
	missing bool // the source is not there, which a hook may still change
}

func (e *refusedError) Error() string { return e.why }

func refusef(format string, args ...any) error {
	return &refusedError{why: fmt.Sprintf(format, args...)}
}

func isMissing(err error) bool {
	r, ok := errors.AsType[*refusedError](err)
	return ok && r.missing
}

// source says where content is read and what it may hold.
type source struct {
	path     string   // absolute
	within   []string // it, and what its links lead to, must lie in one of these; nil: anywhere
	budget   int64
	advice   string // what to do with more
	skipDirs bool   // subdirectories are left out, else refused
	onlyDir  bool   // a single file is refused

	leave func(path string) bool // files of a directory that are none of its content; nil: none
}

// read reads s. The error is a *refusedError.
func (m Machine) read(s source) (content, error) {
	path := filepath.Clean(s.path)
	if s.within != nil && !slices.ContainsFunc(s.within, func(root string) bool { _, ok := below(filepath.Clean(root), path); return ok }) {
		return content{}, refusef("it lies outside the stack and the deployment directory: what a stack mounts must ship with it")
	}
	info, err := m.look(s, path)
	if err != nil {
		return content{}, err
	}
	if !info.IsDir() {
		if s.onlyDir {
			return content{}, refusef("it is a file, not a directory")
		}
		name := filepath.Base(path)
		return m.collect(s, content{name: name}, []entry{{name: name, path: path, size: info.Size()}})
	}
	list, err := m.files().ReadDir(path)
	if err != nil {
		return content{}, refusef("it cannot be read: %v", reason(err))
	}
	c := content{dir: true}
	entries := make([]entry, 0, len(list))
	for _, e := range list {
		sub := filepath.Join(path, e.Name())
		if s.leave != nil && s.leave(sub) {
			continue
		}
		info, err := m.look(s, sub)
		if err != nil {
			return content{}, refusef("%s in it: %v", e.Name(), err)
		}
		if info.IsDir() {
			if !s.skipDirs {
				return content{}, refusef("it has the subdirectory %s, and only flat directories can be mounted: %s", e.Name(), s.advice)
			}
			c.skipped = append(c.skipped, e.Name())
			continue
		}
		entries = append(entries, entry{name: e.Name(), path: sub, size: info.Size()})
	}
	return m.collect(s, c, entries)
}

// entry is one file that becomes a key.
type entry struct {
	name, path string
	size       int64
}

// collect reads entries into c within the budget, which is judged before the
// first byte is read.
func (m Machine) collect(s source, c content, entries []entry) (content, error) {
	var size int64
	for _, e := range entries {
		size += e.size
	}
	c.data = make(map[string][]byte, len(entries))
	over := func(size int64) error {
		return refusef("it holds %d bytes, more than the %d a ConfigMap can carry: %s", size, s.budget, s.advice)
	}
	if size > s.budget {
		return content{}, over(size)
	}
	size = 0
	hashed := false
	for _, e := range entries {
		raw, err := m.files().ReadFile(e.path)
		if err != nil {
			return content{}, refusef("%s cannot be read: %v", e.name, reason(err))
		}
		if size += int64(len(raw)); size > s.budget {
			return content{}, over(size)
		}
		key, err := keyFor(e.name)
		if err != nil {
			return content{}, err
		}
		hashed = hashed || key != e.name
		c.data[key] = raw
		c.items = append(c.items, corev1.KeyToPath{Key: key, Path: e.name})
	}
	if !hashed {
		c.items = nil
	}
	return c, nil
}

// look judges one file or directory: what it is, and where its links lead.
func (m Machine) look(s source, path string) (fs.FileInfo, error) {
	info, err := m.files().Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			if l, lerr := m.files().Lstat(path); lerr == nil && l.Mode()&fs.ModeSymlink != 0 {
				return nil, &refusedError{why: "it is a link to nothing", missing: true}
			}
			return nil, &refusedError{why: "it does not exist", missing: true}
		}
		return nil, refusef("it cannot be read: %v", reason(err))
	}
	if s.within != nil {
		leads := m.real(path)
		if !slices.ContainsFunc(s.within, func(root string) bool { _, ok := below(m.real(root), leads); return ok }) {
			return nil, refusef("it is a link out of the stack, to %s: what a stack mounts must ship with it", leads)
		}
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, refusef("it is %s, which no cluster can be given", fileKind(info.Mode()))
	}
	return info, nil
}

// fileKind names what is neither a file nor a directory.
func fileKind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeDevice != 0:
		return "a device"
	default:
		return "a special file"
	}
}

// reason is what went wrong with a file, without the path that stands before it.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// keyFor returns the key a file is stored under: its name where the API takes
// it, else a hash of it. A name that starts with two dots, or is no text,
// cannot be mounted under its own name at all.
func keyFor(name string) (string, error) {
	if strings.HasPrefix(name, "..") || !utf8.ValidString(name) {
		return "", refusef("no volume can hold a file named %q: rename it", name)
	}
	plain := len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
	if plain && name != "." {
		return name, nil
	}
	return "file-" + digest(name, 16), nil
}

// digest returns the first n hexadecimal digits of s's SHA-256.
func digest(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:n]
}

// sanitise turns the source of a bind into part of a name: one leading "./" or
// "../" off, "/" and "." as "-", other characters dropped, lower case, runs and
// ends of "-" collapsed. The result may be empty.
func sanitise(source string) string {
	if s, ok := strings.CutPrefix(source, "../"); ok {
		source = s
	} else {
		source = strings.TrimPrefix(source, "./")
	}
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(source) {
		switch {
		case r == '/' || r == '.' || r == '-':
			dash = b.Len() > 0
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			if dash {
				b.WriteByte('-')
				dash = false
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

// shorten fits a name into the 63 characters of a label.
func shorten(name string) string {
	if len(name) <= 63 {
		return name
	}
	return name[:54] + "-" + digest(name, 8)
}

// bindNames gives each source its name, in the order they are asked for: the
// first of several that come to one name keeps it.
type bindNames struct {
	byPath map[string]string // absolute path -> name
	taken  map[string]bool
}

// reserve keeps a name for something else.
func (n *bindNames) reserve(name string) {
	if n.byPath == nil {
		n.byPath, n.taken = map[string]string{}, map[string]bool{}
	}
	n.taken[name] = true
}

// name returns "host-path-…" for the source as written, which is path.
func (n *bindNames) name(written, path string) string {
	if name, ok := n.byPath[path]; ok {
		return name
	}
	base := "host-path-" + sanitise(written)
	name := base
	// The hash is of the source as written, not of where it lies on this
	// machine: the same stack must get the same names everywhere. One spelling
	// in a pod and in a job can mean two files.
	for salt := ""; name == "host-path-" || n.taken[name]; salt += "#" {
		name = strings.TrimSuffix(base, "-") + "-" + digest(written+salt, 8)
	}
	n.reserve(name)
	n.byPath[path] = name
	return name
}

package web

import (
	"fmt"
	"path"
	"strings"

	"homelab/pkg/artifact"
)

// ParseSums returns the id that a checksum file gives for name. Lines are
// "HEX  name", "HEX *name" or "SHA256 (name) = HEX"; others, as of further
// algorithms or a signature around them, are passed over. Names count by their
// last part. It is an error if none fits, or several do: which of two files is
// meant cannot be told.
func ParseSums(text, name string) (artifact.ID, error) {
	var found []artifact.ID
	for line := range strings.Lines(text) {
		id, of, ok := sumsLine(strings.TrimRight(line, "\r\n"))
		if ok && path.Base(of) == name {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("it lists no sha256 of %s", name)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("it lists %s %d times", name, len(found))
}

// sumsLine reads one line.
func sumsLine(line string) (id artifact.ID, name string, ok bool) {
	var hex string
	if rest, tagged := strings.CutPrefix(line, "SHA256 ("); tagged {
		at := strings.LastIndex(rest, ") = ")
		if at < 0 {
			return "", "", false
		}
		name, hex = rest[:at], rest[at+len(") = "):]
	} else {
		if len(line) < 67 || line[64] != ' ' || line[65] != ' ' && line[65] != '*' {
			return "", "", false
		}
		hex, name = line[:64], line[66:]
	}
	id, err := artifact.ParseID("sha256:" + hex)
	return id, name, err == nil && name != "" && !strings.HasSuffix(name, "/")
}

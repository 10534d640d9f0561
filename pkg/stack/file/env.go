package file

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

// Credentials is one of the spec's credentials-files.
type Credentials struct {
	Path    string // as the spec has it
	Content []byte
}

const credentialsMark = "# credentials file: "

// MarshalEnv returns config.env: the spec's settings in their order, then each
// credentials file. Values are quoted where dotenv would read something else
// than the spec says. The error is *Problems.
func MarshalEnv(s *Spec, rules Rules, files []Credentials) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Settings of " + specFile + ". Edit that file: this one is written from it.\n")
	for _, c := range s.Config {
		v, ok := quoteEnv(settingText(c, rules))
		if !ok {
			return nil, problems([]Problem{{File: c.Pos.File, Line: c.Pos.Line, Key: "config." + c.Name, Message: "cannot be written to an environment file"}})
		}
		fmt.Fprintf(&b, "%s=%s\n", c.Name, v)
	}
	for _, f := range files {
		fmt.Fprintf(&b, "%s%s\n", credentialsMark, f.Path)
		b.Write(f.Content)
		if len(f.Content) > 0 && !bytes.HasSuffix(f.Content, []byte("\n")) {
			b.WriteByte('\n')
		}
	}
	for _, f := range files {
		if _, err := dotenv.Parse(bytes.NewReader(f.Content)); err != nil {
			// The library's text may quote a secret: only the line is repeated.
			line := 0
			_, _ = fmt.Sscanf(err.Error(), "line %d:", &line)
			return nil, problems([]Problem{{File: f.Path, Line: line, Message: "is no environment file: NAME=value in each line"}})
		}
	}
	return b.Bytes(), nil
}

// settingText is a scalar as the rules write it.
func settingText(c Setting, rules Rules) string {
	switch c.Kind {
	case Null:
		if rules == V1 {
			return "None"
		}
		return ""
	case Bool:
		v := strings.ToLower(c.Value)
		if rules == V1 {
			v = strings.ToUpper(v[:1]) + v[1:]
		}
		return v
	case String, Number:
	}
	return c.Value
}

// quoteEnv returns v as dotenv reads it back; false when it cannot.
func quoteEnv(v string) (string, bool) {
	for _, q := range []string{v, "'" + strings.ReplaceAll(v, "'", `\'`) + "'", doubleQuoted(v)} {
		if readsBack(q, v) {
			return q, true
		}
	}
	return "", false
}

func doubleQuoted(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `$$`).Replace(v) + `"`
}

// readsBack proves a form in the place it is written to, between other lines.
func readsBack(text, want string) bool {
	plain := text == want
	if plain && (strings.ContainsAny(text, "\n\r\"'$`\\#") || text != strings.TrimFunc(text, unicode.IsSpace)) {
		return false // some other reader of the file would see it differently
	}
	got, err := dotenv.Parse(strings.NewReader("A=1\nX=" + text + "\nB=2\n"))
	return err == nil && len(got) == 3 && got["X"] == want && got["A"] == "1" && got["B"] == "2"
}

// ParseEnv reads a config.env: what dotenv makes of it, in the order of the
// file. credentials are the spec's credentials-files: what stands below the
// comment that names one came from it. A later value replaces an earlier one.
// The error is *Problems.
func ParseEnv(name string, data []byte, credentials []string) ([]EnvVar, error) {
	values, err := dotenv.Parse(bytes.NewReader(data))
	if err != nil {
		line := 0
		_, _ = fmt.Sscanf(err.Error(), "line %d:", &line)
		return nil, problems([]Problem{{File: name, Line: line, Message: "is no environment file: NAME=value in each line"}})
	}
	var out []EnvVar
	add := func(key string, credential bool) {
		v, ok := values[key]
		if !ok {
			return
		}
		i := slices.IndexFunc(out, func(e EnvVar) bool { return e.Name == key })
		if i < 0 {
			out = append(out, EnvVar{Name: key, Value: v, Credential: credential})
			return
		}
		out[i].Credential = credential
	}
	walkEnv(string(data), credentials, add)
	return out, nil
}

// walkEnv calls add with each key in order, as dotenv finds them.
func walkEnv(src string, credentials []string, add func(key string, credential bool)) {
	export := regexp.MustCompile(`^export\s+`)
	credential := false
	src = strings.TrimPrefix(src, "\ufeff")
	for {
		src = strings.TrimLeftFunc(src, unicode.IsSpace)
		if src == "" {
			return
		}
		line, rest, _ := strings.Cut(src, "\n")
		if src[0] == '#' {
			credential = credential || strings.HasPrefix(line, credentialsMark) ||
				slices.ContainsFunc(credentials, func(p string) bool { return strings.HasSuffix(strings.TrimSpace(line), " "+p) })
			src = rest
			continue
		}
		head := strings.TrimPrefix(line, export.FindString(line))
		i := strings.IndexAny(head, "=:")
		if i < 0 {
			src = rest
			continue
		}
		key := strings.TrimRightFunc(head[:i], unicode.IsSpace)
		add(key, credential)
		src = afterValue(src[len(line)-len(head)+i+1:])
	}
}

// afterValue returns what follows a value: the rest of its line, or what
// stands behind the closing quote.
func afterValue(src string) string {
	trimmed := strings.TrimLeft(src, " \t\v\f\r")
	if trimmed == "" || trimmed[0] != '"' && trimmed[0] != '\'' {
		_, rest, _ := strings.Cut(src, "\n")
		return rest
	}
	escaped := false
	for i := 1; i < len(trimmed); i++ {
		switch c := trimmed[i]; {
		case c == trimmed[0] && !escaped:
			return trimmed[i+1:]
		case c == '\\' && !escaped:
			escaped = true
		default:
			escaped = false
		}
	}
	return ""
}

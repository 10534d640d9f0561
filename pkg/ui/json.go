package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// encode returns v as one line of JSON, < > & as they are, invalid UTF-8
// replaced, every string redacted. What would act on a terminal is escaped, so
// that JSON may be looked at there. s.mu is held.
func (s *Streams) encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding the output: %w", err)
	}
	out := bytes.TrimRight(b.Bytes(), "\n")
	return s.redactJSON(out)
}

// event returns an event's object: type and time first, then v's own fields.
func (s *Streams) event(typ string, v any) ([]byte, error) {
	head, err := s.encode(struct {
		Type string `json:"type"`
		Time string `json:"time"`
	}{typ, s.timestamp()})
	if err != nil || v == nil {
		return head, err
	}
	body, err := s.encode(v)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(body, []byte("null")) {
		return head, nil
	}
	if body[0] != '{' {
		return join(head, append([]byte(`"value":`), body...)), nil
	}
	fields, err := without(body, "type", "time")
	if err != nil {
		return nil, err
	}
	return join(head, fields), nil
}

// join puts fields behind those of the object head.
func join(head, fields []byte) []byte {
	if len(fields) == 0 {
		return head
	}
	out := append(bytes.TrimSuffix(head, []byte("}")), ',')
	return append(append(out, fields...), '}')
}

// without returns the fields of object in their order, those named left out:
// the event's own would be there twice.
func without(object []byte, names ...string) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil { // {
		return nil, fmt.Errorf("reading an event: %w", err)
	}
	var out []byte
fields:
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("reading an event: %w", err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("reading an event: %w", err)
		}
		for _, n := range names {
			if key == n {
				continue fields
			}
		}
		if len(out) > 0 {
			out = append(out, ',')
		}
		name, err := quoteJSON(fmt.Sprint(key))
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return out, nil
}

// redactJSON redacts each string of p for itself: encoded, a secret with a
// quote in it would not be recognised, and cut out of the encoded text it
// could take a quote along.
func (s *Streams) redactJSON(p []byte) ([]byte, error) {
	var out []byte
	for i := 0; i < len(p); i++ {
		if p[i] != '"' {
			out = append(out, p[i])
			continue
		}
		end := i + 1
		for p[end] != '"' {
			if p[end] == '\\' {
				end++
			}
			end++
		}
		var text string
		if err := json.Unmarshal(p[i:end+1], &text); err != nil {
			return nil, fmt.Errorf("redacting the output: %w", err)
		}
		quoted, err := quoteJSON(s.redactText(text))
		if err != nil {
			return nil, err
		}
		out = append(out, quoted...)
		i = end
	}
	return out, nil
}

func quoteJSON(text string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return nil, fmt.Errorf("encoding the output: %w", err)
	}
	q := strings.TrimSuffix(b.String(), "\n")
	// encoding/json escapes C0 only.
	if strings.IndexFunc(q, unwanted) < 0 {
		return []byte(q), nil
	}
	var out strings.Builder
	for _, r := range q {
		if unwanted(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return []byte(out.String()), nil
}

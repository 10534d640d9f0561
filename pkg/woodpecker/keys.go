package woodpecker

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// exactKeys refuses a value whose objects spell a key we know in another case,
// or have it twice: the decoder would let the later one override the first.
// The value has been decoded into t already, so its shape is right. Keys that t
// does not know are free.
func exactKeys(d *json.Decoder, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	list := t.Kind() == reflect.Slice && within(t.Elem())
	if !list && t.Kind() != reflect.Struct {
		var skipped json.RawMessage
		return d.Decode(&skipped)
	}
	open, err := d.Token()
	if err != nil || open == nil { // null
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		of := reflect.TypeFor[any]()
		if list {
			of = t.Elem()
		} else {
			token, err := d.Token()
			if err != nil {
				return err
			}
			key, _ := token.(string)
			known, field := fieldOf(t, key)
			switch {
			case known == "":
			case known != key:
				return fmt.Errorf("the key %q where %q is due", key, known)
			case seen[key]:
				return fmt.Errorf("the key %q twice", key)
			default:
				of, seen[key] = field, true
			}
		}
		if err := exactKeys(d, of); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// within says whether values of t have keys to look at.
func within(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

// fieldOf returns the key of t that the decoder would take key for, and its
// type; "" for none.
func fieldOf(t reflect.Type, key string) (string, reflect.Type) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && strings.EqualFold(name, key) {
			return name, f.Type
		}
	}
	return "", nil
}

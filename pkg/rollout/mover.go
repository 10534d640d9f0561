package rollout

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"homelab/pkg/ui"
)

type jsonManager struct {
	Manager   string          `json:"manager"`
	Operation string          `json:"operation"`
	Time      time.Time       `json:"time"`
	FieldsV1  json.RawMessage `json:"fieldsV1"`
}

// managers reduces managedFields to the entries that own the image of a
// container below the pod spec that path leads to. Entries that do not parse
// own nothing: the field only ever explains.
func managers(entries []jsonManager, path []string) []Manager {
	var out []Manager
	for _, e := range entries {
		spec := e.FieldsV1
		for _, step := range path {
			spec = fields(spec)[step]
		}
		var images []string
		for _, list := range []string{"f:containers", "f:initContainers"} {
			for key, item := range fields(fields(spec)[list]) {
				if _, ok := fields(item)["f:image"]; !ok {
					continue
				}
				var name struct {
					Name string `json:"name"`
				}
				if k, ok := strings.CutPrefix(key, "k:"); ok && json.Unmarshal([]byte(k), &name) == nil && name.Name != "" {
					images = append(images, name.Name)
				}
			}
		}
		if len(images) > 0 {
			slices.Sort(images)
			out = append(out, Manager{Name: ui.Clean(e.Manager), Operation: e.Operation, Time: e.Time, Images: slices.Compact(images)})
		}
	}
	return out
}

// fields returns the members of a set of fields; nil when raw is none.
func fields(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

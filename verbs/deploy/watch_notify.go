package deploy

import (
	"fmt"
	"strings"

	"homelab/pkg/artifact/notify"
	"homelab/pkg/artifact/run"
	"homelab/pkg/config"
	"homelab/pkg/ui"
)

// notifyKey is the one key of a watch that has no flag: a receiver has several
// parts, and its URL does not belong into a command line, which everybody on
// the host can read.
const notifyKey = "notify"

// notified reads the receivers of a watches file.
func (o *watchFlags) notified(w *config.Watches, s config.Setting) error {
	if len(s.Values) > 0 {
		return w.Problem(s.Line, notifyKey+" is a list of sections: [{webhook: URL, on: [rolled_back, halted]}]")
	}
	for _, section := range s.Parts {
		parts := make([]notify.Part, len(section))
		line := s.Line
		for i, p := range section {
			parts[i] = notify.Part{Key: p.Key, Value: p.Value}
			if i == 0 {
				line = p.Line
			}
		}
		spec, err := notify.Parse(parts)
		if err != nil {
			return w.Problem(line, notifyKey+": "+ui.Clean(err.Error()))
		}
		o.receivers = append(o.receivers, spec)
	}
	return nil
}

// beside is what the sentence about a watch says of its source, and of those
// who are told.
func beside(v run.View) string {
	var words []string
	if v.Trouble != "" {
		words = append(words, "the source cannot be asked: "+v.Trouble)
	}
	if v.Failing != "" {
		words = append(words, "upstream fails: "+v.Failing)
	}
	for _, s := range v.Notify {
		if s.Trouble != "" {
			words = append(words, fmt.Sprintf("notifications to %s: %d wait, %d were lost: %s", s.To, s.Waiting, s.Lost, s.Trouble))
		}
	}
	if words == nil {
		return ""
	}
	return ui.Clean("; " + strings.Join(words, "; "))
}

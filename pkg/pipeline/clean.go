package pipeline

import (
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// cleaned returns p with every text that a person chose cleaned of control
// characters: names, messages and errors come from commits and files that
// anybody may have written. It is applied once, where a row enters.
func cleaned(p woodpecker.Pipeline) woodpecker.Pipeline {
	for _, s := range []*string{
		&p.Commit, &p.Branch, &p.Ref, &p.Refspec, &p.Title, &p.Message,
		&p.Author, &p.Sender, &p.ForgeURL, &p.ReviewedBy,
	} {
		if s == &p.Message {
			*s = ui.Clean(firstLine(*s))
			continue
		}
		*s = ui.Clean(*s)
	}
	p.Status, p.Event = woodpecker.Status(ui.Clean(string(p.Status))), woodpecker.Event(ui.Clean(string(p.Event)))
	errs := make([]woodpecker.Message, len(p.Errors))
	for i, e := range p.Errors {
		errs[i] = woodpecker.Message{Type: ui.Clean(e.Type), Message: ui.Clean(e.Message), IsWarning: e.IsWarning}
	}
	p.Errors = errs
	if p.Cancel != nil {
		c := *p.Cancel
		c.ByUser, c.ByStep = ui.Clean(c.ByUser), ui.Clean(c.ByStep)
		p.Cancel = &c
	}
	flows := make([]woodpecker.Workflow, len(p.Workflows))
	for i, w := range p.Workflows {
		w.Name, w.Error, w.State = ui.Clean(w.Name), ui.Clean(w.Error), woodpecker.Status(ui.Clean(string(w.State)))
		environ := make(map[string]string, len(w.Environ))
		for k, v := range w.Environ {
			environ[ui.Clean(k)] = ui.Clean(v)
		}
		w.Environ = environ
		steps := make([]woodpecker.Step, len(w.Steps))
		for j, s := range w.Steps {
			s.Name, s.Error, s.Type, s.State = ui.Clean(s.Name), ui.Clean(s.Error), ui.Clean(s.Type), woodpecker.Status(ui.Clean(string(s.State)))
			steps[j] = s
		}
		w.Steps = steps
		flows[i] = w
	}
	p.Workflows = flows
	return p
}

func firstLine(s string) string {
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}

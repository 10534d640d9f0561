package file

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
)

// Problem is one mistake in a file.
type Problem struct {
	File    string // as it is to be shown
	Line    int    // 1-based; 0: the file as a whole
	Service string // of a compose file; "" otherwise
	Key     string // dotted: "network.http-proxy[0].host-name"; "" none
	Message string // continues "FILE:LINE: KEY "
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if p.Service != "" {
		b.WriteString("service " + p.Service + ": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + " ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is everything that is wrong with a set of files, in their order.
// It is never empty.
type Problems struct{ List []Problem } //nolint:errname // a list, and an error in form only

const maxTold = 8 // put into one sentence; the JSON result has them all

// Error tells the first few; List has them all.
func (p *Problems) Error() string {
	what, why := p.told()
	if why == "" {
		return what
	}
	return what + ": " + why
}

func (p *Problems) told() (what, why string) {
	if len(p.List) == 1 {
		return p.List[0].String(), ""
	}
	same := true
	for _, x := range p.List {
		same = same && x.File == p.List[0].File
	}
	var told []string
	for _, x := range p.List[:min(maxTold, len(p.List))] {
		switch {
		case same && x.Line > 0:
			x.File = fmt.Sprintf("line %d", x.Line)
		case same:
			x.File = ""
		default:
			x.File = filepath.Base(x.File)
			if x.Line > 0 {
				x.File += fmt.Sprintf(":%d", x.Line)
			}
		}
		x.Line = 0
		told = append(told, x.String())
	}
	if rest := len(p.List) - len(told); rest > 0 {
		told = append(told, fmt.Sprintf("and %d more", rest))
	}
	where := "the files have"
	if same {
		where = p.List[0].File + " has"
	}
	return fmt.Sprintf("%s %d problems", where, len(p.List)), strings.Join(told, "; ")
}

// Fault returns the problems as a usage error; next is a command that helps.
func (p *Problems) Fault(next string) *fault.Error {
	what, why := p.told()
	return fault.New(fault.Usage, what, next).Because(why).From(p)
}

// AsProblems returns the problems err carries, nil when it carries none.
func AsProblems(err error) []Problem {
	if p, ok := errors.AsType[*Problems](err); ok {
		return p.List
	}
	return nil
}

// Join returns what the errors say as one: their problems together when each
// of them is *Problems; the first other one otherwise. nil when all are nil.
func Join(errs ...error) error {
	var all []Problem
	for _, err := range errs {
		if err == nil {
			continue
		}
		list := AsProblems(err)
		if list == nil {
			return err
		}
		for _, p := range list {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	return problems(all)
}

// problems returns nil for none.
func problems(list []Problem) error {
	if len(list) == 0 {
		return nil
	}
	return &Problems{List: list}
}

func byLine(list []Problem) {
	slices.SortStableFunc(list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
}

func sortNotices(list []Notice) {
	slices.SortStableFunc(list, func(a, b Notice) int { return cmp.Compare(a.Line, b.Line) })
}

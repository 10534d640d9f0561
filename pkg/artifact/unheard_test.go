package artifact

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// TestUnheard: at the start it is said soon whom nothing is heard of, and that
// it is over; later a few failures are no news.
func TestUnheard(t *testing.T) {
	down := errors.New("503")
	for name, tc := range map[string]struct {
		set  func(w *world)
		mend func(w *world)
		want []string // within two seconds, and then
		then []string
	}{
		"well": {func(*world) {}, func(*world) {}, nil, nil},
		"a source that refuses": {
			func(w *world) { w.lookErr = down },
			func(w *world) { w.lookErr = nil },
			[]string{"trouble the source cannot be asked: 503"},
			[]string{"recovered the source answers"},
		},
		"a source that is silent, and then refuses": {
			func(w *world) { w.lookErr, w.took[DoLook] = down, 15*time.Second },
			func(w *world) { w.lookErr = nil },
			[]string{"note the source has not answered yet"},
			[]string{"trouble the source cannot be asked: 503", "recovered the source answers"},
		},
		"a slow source": {
			func(w *world) { w.took[DoLook] = 5 * time.Second },
			func(*world) {},
			[]string{"note the source has not answered yet"},
			nil,
		},
		"one failure": {
			func(w *world) {
				w.answer = func(Query) (Look, error) { w.answer = nil; return Look{}, down }
			},
			func(*world) {},
			nil,
			nil,
		},
		"a target that cannot be asked": {
			func(w *world) { w.observe = func() (Observation, error) { return Observation{}, down } },
			func(w *world) { w.observe = nil },
			[]string{"trouble the target cannot be asked: 503"},
			[]string{"recovered the target answers"},
		},
		"a target that is silent": {
			func(w *world) { w.took[DoObserve] = 5 * time.Second },
			func(*world) {},
			[]string{"note the target has not answered yet"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).settled()
			tc.set(w)
			told := func() (out []string) {
				for _, e := range w.events {
					if slices.Contains([]EventType{TroubleEvent, RecoveredEvent, NoteEvent}, e.Type) {
						out = append(out, string(e.Type)+" "+e.Text)
					}
				}
				w.events = nil
				return out
			}
			w.input(Input{What: Begin})
			w.run(2 * time.Second)
			if got := told(); !slices.Equal(got, tc.want) {
				t.Errorf("at first %q", got)
			}
			w.run(30 * time.Second)
			tc.mend(w)
			w.run(5 * time.Minute)
			if got := told(); !slices.Equal(got, tc.then) {
				t.Errorf("then %q", got)
			}
			w.lookErr = down
			w.run(5 * time.Minute)
			if got := told(); len(got) != 0 {
				t.Errorf("later %q", got)
			}
			if len(w.broken) > 0 {
				t.Error(w.broken)
			}
		})
	}
}

package artifact

import (
	"testing"
	"time"
)

func TestUpstream(t *testing.T) {
	now := noon()
	denied := &Failure{Class: Transient, What: "503"}
	hot := func(age time.Duration) []heat {
		return []heat{{"the artifact of pipeline 7 is not there", now.Add(-age), true}}
	}
	for name, tc := range map[string]struct {
		s    State
		want Upstream
	}{
		"never asked":                  {State{}, Upstream{}},
		"answered":                     {State{Looks: 1}, Upstream{Answers: true}},
		"absent is an answer":          {State{Looks: 1, lookErr: &Failure{Class: Absent}}, Upstream{Answers: true}},
		"a failure is no trouble":      {State{Looks: 2, lookErr: denied}, Upstream{}},
		"trouble":                      {State{Looks: 9, lookErr: denied, Troubled: true}, Upstream{Trouble: "503"}},
		"something is coming":          {State{Looks: 1, missing: true, hot: hot(hotMost - 1)}, Upstream{Answers: true, Busy: true}},
		"and does not come":            {State{Looks: 1, missing: true, hot: hot(hotMost)}, Upstream{Answers: true, Busy: true, Late: "the artifact of pipeline 7 is not there"}},
		"a long pipeline is no matter": {State{Looks: 1, hot: hot(hotMost)}, Upstream{Answers: true, Busy: true}},
		"what was hot":                 {State{Looks: 1, missing: true, hot: []heat{{"x", now.Add(-time.Hour), false}}}, Upstream{Answers: true}},
	} {
		if got := tc.s.Upstream(now); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

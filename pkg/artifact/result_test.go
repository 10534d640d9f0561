package artifact

import (
	"encoding/json"
	"testing"
	"time"

	"homelab/pkg/fault"
)

// TestShow pins the shape of a result.
func TestShow(t *testing.T) {
	w := newWorld(t).settled()
	w.c.Run = "r1"
	w.candidate("b", 2)
	w.bad[id("b")] = true
	o := w.once(Request{Expect: expect("b"), Wait: time.Minute})
	got, err := json.Marshal(Show(o, w.c, w.s.Memory, "https://x/y", "file:/z"))
	if err != nil {
		t.Fatal(err)
	}
	a, b := string(id("a")), string(id("b"))
	want := `{"watch":"www","run":"r1","from":"https://x/y","to":"file:/z","state":"rolled_back","expected":"` + b + `",` +
		`"candidate":{"id":"` + b + `","order":2,"size":10,"uuid":"00000000-0000-0000-0000-000000000062"},` +
		`"running":{"id":"` + a + `"},"previous":null,"verified":{"hash":true,"signature":null,"reproduced":null},"health":"healthy",` +
		`"probes":[{"probe":"http:x","ok":true,"attempts":3,"detail":"200"}],` +
		`"rollback":{"done":true,"to":"` + a + `","reason":"the probes did not pass three times in a row within 2m0s: http:x 200"},` +
		`"quarantined":["` + b + `"],"superseded_by":null,"owner":null,"warnings":[]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestStateKind is the code of the status verb.
func TestStateKind(t *testing.T) {
	for want, do := range map[fault.Kind]func(*world){
		fault.OK:   func(*world) {},
		fault.Held: func(w *world) { w.runs = id("x") },
		fault.Unreachable: func(w *world) {
			w.lookErr = fails(Transient, "")
		},
		fault.Timeout: func(w *world) { w.candidate("b", 2); w.took[DoFetch] = time.Hour },
		fault.Conflict: func(w *world) {
			w.candidate("b", 2)
			w.stage = func() error { return fails(Owned, "") }
		},
		fault.Unsafe: func(w *world) {
			w.candidate("b", 2)
			w.bad[id("b")] = true
			w.c.NoRollback = true
		},
	} {
		w := newWorld(t).settled()
		do(w)
		w.input(Input{What: Begin})
		w.run(4 * time.Minute)
		if got := w.s.Kind(); got != want {
			t.Errorf("%v: %s, want %s", w.s.Shown(), got, want)
		}
		if st := StatusOf(w.s, "www"); st.Kind != want || st.State != w.s.Memory.Phase || st.Quarantine == nil {
			t.Errorf("status %+v", st)
		}
	}
}

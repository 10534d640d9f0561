package verb_test

import (
	"testing"
	"time"

	"github.com/spf13/cobra"

	"homelab/verbs/verb"
)

// Verbs share the flags, but not the default of --timeout: a watch ended after
// the half minute of a verb that was registered later.
func TestTimeoutIsTheVerbsOwn(t *testing.T) {
	for _, c := range []struct {
		args []string
		want time.Duration
	}{
		{[]string{"first"}, time.Hour},
		{[]string{"second"}, 30 * time.Second},
		{[]string{"first", "--timeout", "5s"}, 5 * time.Second},
		{[]string{"second", "--timeout=0"}, 0},
	} {
		flags := &verb.Flags{}
		var got time.Duration
		root := &cobra.Command{Use: "root"}
		for _, v := range []struct {
			name    string
			timeout time.Duration
		}{{"first", time.Hour}, {"second", 30 * time.Second}} {
			x := &cobra.Command{Use: v.name, Run: func(*cobra.Command, []string) { got = flags.Timeout }}
			flags.Network(x, v.timeout)
			root.AddCommand(x)
		}
		root.SetArgs(c.args)
		if err := root.Execute(); err != nil || got != c.want {
			t.Errorf("%q: timeout %v, want %v (%v)", c.args, got, c.want, err)
		}
	}
}

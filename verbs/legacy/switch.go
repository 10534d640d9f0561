package legacy

import (
	"strconv"

	"github.com/spf13/pflag"
)

// either are two flags that mean the opposite of each other; the one that
// stands last counts, as scripts append what they want to change.
type either struct {
	value *bool
	means bool // what this flag makes of it
}

// Set is called with "true" for a flag without a value.
func (e either) Set(s string) error {
	v, err := strconv.ParseBool(s)
	if err == nil {
		*e.value = v == e.means
	}
	return err
}

func (e either) String() string {
	if e.value == nil {
		return ""
	}
	return strconv.FormatBool(*e.value == e.means)
}

// Type makes help show no value.
func (either) Type() string { return "bool" }

// IsBoolFlag lets the flag stand alone.
func (either) IsBoolFlag() bool { return true }

// pair adds two such flags.
func pair(f *pflag.FlagSet, value *bool, yes, no, usage string) {
	for _, x := range []struct {
		name  string
		means bool
	}{{yes, true}, {no, false}} {
		text := usage
		if !x.means {
			text = "the opposite of --" + yes
		}
		flag := f.VarPF(either{value, x.means}, x.name, "", text)
		flag.NoOptDefVal = "true"
	}
}

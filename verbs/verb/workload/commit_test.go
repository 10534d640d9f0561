package workload

import (
	"errors"
	"strings"
	"testing"

	"homelab/pkg/fault"
)

func TestCheckSHA(t *testing.T) {
	t.Parallel()
	for sha, want := range map[string]string{
		"": "blank", " \t": "blank", "abc": "too short", "a b": "space", "reg/web": "--image", "sha256:12": "--digest",
		"abcd": "", "3F9C2AB": "", "v1.2.3": "", "build-77": "", "HEAD~1": "", "xyz": "",
	} {
		err := checkSHA(sha, "help")
		text := ""
		if e, ok := errors.AsType[*fault.Error](err); ok {
			text = e.What + " " + e.Why
		}
		if (err == nil) != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%q: %v", sha, err)
		}
	}
}

package git

import "testing"

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]Version{
		"git version 2.39.5\n":                 {2, 39, 5},
		"git version 2.39.5 (Apple Git-154)\n": {2, 39, 5},
		"git version 2.50.0.rc1\n":             {2, 50, 0},
		"git version 3.0\n":                    {3, 0, 0},
		"git version 2.46.0.windows.1\n":       {2, 46, 0},
	} {
		if got, err := parseVersion(in); got != want || err != nil {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "git version", "git version x.y", "hub version 2.1"} {
		if got, err := parseVersion(in); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestResembling(t *testing.T) {
	names := []string{"main", "master", "anna/fan", "anna/fan-curve", "Main-2", "origin/main"}
	for in, want := range map[string]string{"mian": "main", "MAIN": "main", "fan": "anna/fan", "mastr": "master"} {
		if got := resembling(in, names); len(got) == 0 || got[0] != want {
			t.Errorf("%s: %q, want %s first", in, got, want)
		}
	}
	if got := resembling("deploy", names); len(got) != 0 {
		t.Errorf("deploy: %q", got)
	}
	if got := resembling("main", []string{"origin/main", "main1", "main2", "main3"}); len(got) != 3 {
		t.Errorf("%q, want three", got)
	}
}

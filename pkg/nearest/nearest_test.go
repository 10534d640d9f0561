package nearest

import "testing"

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b        string
		limit, want int
	}{
		{"", "", 3, 0},
		{"main", "main", 0, 0},
		{"main", "man", 3, 1},
		{"main", "mains", 3, 1},
		{"main", "mein", 3, 1},
		{"main", "mian", 3, 1}, // a swap is one slip
		{"main", "", 9, 4},
		{"kitten", "sitting", 9, 3},
		{"kitten", "sitting", 2, 3}, // more than the limit is one more
		{"kitten", "sitting", 1, 2},
		{"a", "abcdefgh", 2, 3},
		{"zähler", "zahler", 3, 1}, // letters, not bytes
		{"ca", "abc", 9, 3},        // what was swapped is not parted again
	} {
		for _, pair := range [][2]string{{tc.a, tc.b}, {tc.b, tc.a}} {
			if got := Distance(pair[0], pair[1], tc.limit); got != tc.want {
				t.Errorf("Distance(%q, %q, %d) = %d, want %d", pair[0], pair[1], tc.limit, got, tc.want)
			}
		}
	}
}

func TestOf(t *testing.T) {
	known := []string{"server", "dial", "ca-file", "to"}
	for _, tc := range []struct {
		name  string
		slips int
		want  string
	}{
		{"sever", 1, "server"},
		{"SERVER", 1, "server"},
		{"ca_file", 1, "ca-file"},
		{"dail", 1, "dial"},
		{"serv", 1, ""},
		{"serv", 2, "server"},
		{"xy", 2, ""}, // no letter of "to" is left
		{"colour", 2, ""},
		{"", 2, ""},
		{"server-" + string(make([]byte, longest)), longest, ""},
	} {
		if got := Of(tc.name, known, tc.slips); got != tc.want {
			t.Errorf("Of(%q, %d) = %q, want %q", tc.name, tc.slips, got, tc.want)
		}
	}
	if got := Of("cat", []string{"dog", "car", "bat", "cat"}, 3); got != "cat" {
		t.Errorf("the nearest is %q", got)
	}
	if got := Of("cat", []string{"dog", "car", "bat"}, 3); got != "car" {
		t.Errorf("the first of the nearest is %q", got)
	}
}

func TestSlips(t *testing.T) {
	for name, want := range map[string]int{"": 1, "ab": 1, "abcde": 1, "abcdef": 2, "abcdefghi": 3} {
		if got := Slips(name); got != want {
			t.Errorf("Slips(%q) = %d, want %d", name, got, want)
		}
	}
}

package file

import "testing"

func TestBackup(t *testing.T) {
	t.Parallel()
	d := &Directory{Path: "/d", Hashes: map[string]string{"config/a/x": "1", "config/a/y.bak": "2"}}
	for path, want := range map[string]bool{
		"/d/config/a/x.bak": true, "/d/config/a/gone.bak": true, "/d/config/a/y.bak": false, "/d/config/a/x": false, "/e/config/a/x.bak": false,
	} {
		if got := d.Backup(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if (&Directory{Path: "/d"}).Backup("/d/config/a/x.bak") {
		t.Error("a directory of which nothing is recorded has copies of ours")
	}
}

package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/store"
	"homelab/pkg/fault"
)

// rot damages a stored file, which nobody but root may write to.
func rot(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put(t, path, "rot", 0o444)
}

func put(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func of(body string) artifact.Candidate {
	return artifact.Candidate{ID: artifact.NewID(sha256.Sum256([]byte(body))), Kind: artifact.File, Size: int64(len(body))}
}

// bench is a path, a store and a systemd for one test.
type bench struct {
	t     *testing.T
	dir   string // state
	path  string
	store *store.Store
	bin   string
	told  []string
	free  int64
}

// systemd is a stand-in: what it was asked goes to a file, and it answers as
// files beside it say. It "runs" what the path leads to when it is restarted.
const systemd = `#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>asked
case $1 in
show) cat load 2>/dev/null || echo loaded ;;
is-active) state=$(cat active 2>/dev/null || echo active); echo $state; [ $state = active ] || exit 3 ;;
restart)
	[ ! -f hang ] || exec sleep 60
	[ ! -f slow ] || sleep 0.3
	[ ! -f refuse ] || { echo "Job for $2 failed because the control process exited with error code." >&2; exit 1; }
	cat "$(cat path)" >runs ;;
esac
`

func newBench(t *testing.T) *bench {
	t.Helper()
	top := t.TempDir()
	b := &bench{t: t, dir: filepath.Join(top, "state"), bin: filepath.Join(top, "bin"), free: 1 << 40}
	b.path = filepath.Join(top, "at", "www.hvt")
	err := errors.Join(os.Mkdir(b.bin, 0o755), os.Mkdir(filepath.Dir(b.path), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	if b.store, err = store.Open(filepath.Join(b.dir, "store"), store.Options{Free: func(string) (int64, error) { return b.free, nil }}); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(b.bin, "systemctl"), systemd, 0o755)
	put(t, filepath.Join(b.bin, "path"), b.path, 0o644)
	return b
}

func (b *bench) target(s Spec) *Target {
	b.t.Helper()
	s.Path = b.path
	target, err := New(s, b.deps())
	if err != nil {
		b.t.Fatal(err)
	}
	target.linger = 100 * time.Millisecond
	return target
}

func (b *bench) deps() Deps {
	return Deps{
		Path: b.store.Path, Dir: b.dir, Env: []string{"PATH=" + b.bin + ":" + os.Getenv("PATH"), "TOKEN=canary"},
		Import: func(ctx context.Context, path string) (artifact.ID, error) { return b.store.Import(ctx, "r1", path) },
		Tell:   func(l string) { b.told = append(b.told, l) },
		Free:   func(string) (int64, error) { return b.free, nil },
	}
}

// has puts body into the store.
func (b *bench) has(body string) artifact.Candidate {
	b.t.Helper()
	err := b.store.Fetch(b.t.Context(), "r1", of(body), func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, body)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return of(body)
}

// change is the switch to what the store has, from what is said to run.
func (b *bench) change(to, from string) artifact.Switch {
	b.t.Helper()
	c := b.has(to)
	s := artifact.Switch{Watch: "www", Run: "r1", Attempt: 1, Deadline: time.Now().Add(time.Minute), To: c, ToPath: b.store.Path(c.ID)}
	if from != "" {
		s.From = &artifact.Version{Candidate: of(from)}
	}
	return s
}

func (b *bench) read(path string) string {
	b.t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(raw)
}

func (b *bench) asked() []string {
	return strings.Split(strings.TrimSuffix(b.read(filepath.Join(b.bin, "asked")), "\n"), "\n")
}

// beside is what lies in the path's directory.
func (b *bench) beside() []string {
	b.t.Helper()
	var all []string
	entries, err := os.ReadDir(filepath.Dir(b.path))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func (b *bench) runs(target *Target) string {
	b.t.Helper()
	o, err := target.Observe(b.t.Context(), nil)
	if err != nil {
		return string(class(err)) + ": " + err.Error()
	}
	for _, body := range []string{"old", "new", "other"} {
		if o.Is(of(body).ID) {
			return body
		}
	}
	return string(o.Sight) + " " + o.Why
}

func class(err error) artifact.Class {
	if err == nil {
		return ""
	}
	return artifact.FailureOf(err, "unclassed").Class
}

const unit = "vm-www.service"

func root() bool { return os.Getuid() == 0 }

func TestObserve(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	for _, tc := range []struct {
		name  string
		make  func(b *bench) error
		sight artifact.Sight // "": an error
		id    artifact.ID
		what  string
	}{
		{"nothing", func(*bench) error { return nil }, artifact.Nothing, "", ""},
		{"a file", func(b *bench) error { return os.WriteFile(b.path, []byte(long), 0o600) }, artifact.Runs, of(long).ID, ""},
		{"an empty file", func(b *bench) error { return os.WriteFile(b.path, nil, 0o600) }, artifact.Runs, of("").ID, ""},
		{"a link into the store", func(b *bench) error { return os.Symlink(b.store.Path(b.has("old").ID), b.path) }, artifact.Runs, of("old").ID, ""},
		{"a link to a link", func(b *bench) error {
			put(b.t, b.path+".real", "old", 0o644)
			return errors.Join(os.Symlink("www.hvt.real", b.path+".link"), os.Symlink("www.hvt.link", b.path))
		}, artifact.Runs, of("old").ID, ""},
		{"a link to nowhere", func(b *bench) error { return os.Symlink("gone", b.path) }, artifact.Nothing, "", ""},
		{"a link to itself", func(b *bench) error { return os.Symlink(b.path, b.path) }, artifact.Unknown, "", "in circles"},
		{"a directory", func(b *bench) error { return os.Mkdir(b.path, 0o755) }, artifact.Unknown, "", "no file"},
		{"a link to a directory", func(b *bench) error { return os.Symlink(b.dir, b.path) }, artifact.Unknown, "", "no file"},
		{"a pipe", func(b *bench) error { return syscall.Mkfifo(b.path, 0o600) }, artifact.Unknown, "", "no file"},
		{"a device", func(b *bench) error { return os.Symlink("/dev/zero", b.path) }, artifact.Unknown, "", "no file"},
		{"no directory", func(b *bench) error { b.path = filepath.Join(b.dir, "gone", "www"); return nil }, "", "", "absent: there is no directory"},
		{"a file for a directory", func(b *bench) error {
			b.path = filepath.Join(put(b.t, b.path, "", 0o600), "www")
			return nil
		}, "", "", "absent: there is no directory"},
		{"a file nobody may read", func(b *bench) error { return os.WriteFile(b.path, []byte("old"), 0) }, "", "", "denied: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if root() && strings.HasPrefix(tc.what, "denied") {
				t.Skip("root reads everything")
			}
			b := newBench(t)
			if err := tc.make(b); err != nil {
				t.Fatal(err)
			}
			o, err := b.target(Spec{}).Observe(t.Context(), nil)
			if tc.sight == "" {
				if err == nil || !strings.HasPrefix(string(class(err))+": "+err.Error(), tc.what) {
					t.Errorf("%+v, %v", o, err)
				}
				return
			}
			if err != nil || o.Sight != tc.sight || o.ID != tc.id || !strings.Contains(o.Why, tc.what) {
				t.Errorf("%+v, %v", o, err)
			}
		})
	}
	b := newBench(t)
	put(t, b.path, "old", 0o600)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	cancel(cause)
	if o, err := b.target(Spec{}).Observe(ctx, nil); !errors.Is(err, cause) {
		t.Errorf("ctx was over: %+v, %v", o, err)
	}
}

// The whole way, with a link and a copy, with a unit and without: first
// version, next version, back.
func TestThereAndBack(t *testing.T) {
	for _, spec := range []Spec{{}, {Copy: true}, {Unit: unit}, {Unit: unit, Copy: true}} {
		t.Run(spec.String(), func(t *testing.T) {
			b := newBench(t)
			target := b.target(spec)
			steps := []struct {
				to, from string
				do       func(context.Context, artifact.Switch) error
			}{{"old", "", target.Activate}, {"new", "old", target.Activate}, {"old", "new", target.Rollback}}
			for _, st := range steps {
				s := b.change(st.to, st.from)
				if _, err := target.Stage(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if got := b.beside(); len(got) > 1 {
					t.Errorf("staging left %q", got)
				}
				if err := st.do(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				info, err := os.Lstat(b.path)
				if err != nil || (info.Mode()&os.ModeSymlink == 0) != spec.Copy {
					t.Errorf("%v, %v", info, err)
				}
				if got := b.runs(target); got != st.to {
					t.Errorf("it runs %s, want %s", got, st.to)
				}
				if got := b.beside(); !slices.Equal(got, []string{"www.hvt"}) {
					t.Errorf("beside the path lie %q", got)
				}
				if got := b.read(filepath.Join(b.bin, "runs")); spec.Unit != "" && got != st.to {
					t.Errorf("the unit runs %q", got)
				}
				if r, err := target.Ready(t.Context(), s); err != nil || r.State != artifact.IsReady || r.Proof {
					t.Errorf("%+v, %v", r, err)
				}
			}
			if asked := strings.Count(b.read(filepath.Join(b.bin, "asked")), "restart vm-www.service\n"); spec.Unit != "" && asked != 3 {
				t.Errorf("asked of systemd: %q", b.asked())
			}
			if _, err := os.Stat(filepath.Join(b.dir, "restart.json")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the marker stays: %v", err)
			}
		})
	}
}

func TestStage(t *testing.T) {
	for _, tc := range []struct {
		name     string
		spec     Spec
		make     func(b *bench, s *artifact.Switch)
		class    artifact.Class
		why      artifact.Why
		what     string
		warnings int
		stored   bool // "old" is in the store afterwards
	}{
		{"a file that was found", Spec{}, func(b *bench, _ *artifact.Switch) { put(b.t, b.path, "old", 0o600) }, "", "", "", 0, true},
		{"with a copy, too", Spec{Copy: true}, func(b *bench, _ *artifact.Switch) { put(b.t, b.path, "old", 0o600) }, "", "", "", 0, true},
		{"a link elsewhere", Spec{}, func(b *bench, _ *artifact.Switch) {
			if err := os.Symlink(put(b.t, filepath.Join(b.bin, "old"), "old", 0o600), b.path); err != nil {
				b.t.Fatal(err)
			}
		}, "", "", "", 1, true},
		{"what was stored has rotted, what runs has not", Spec{}, func(b *bench, _ *artifact.Switch) {
			put(b.t, b.path, "old", 0o600)
			b.has("old")
			rot(b.t, b.store.Path(of("old").ID))
		}, "", "", "", 0, true},
		{"a way back that is elsewhere", Spec{}, func(b *bench, _ *artifact.Switch) { put(b.t, b.path, "other", 0o600) }, "", "", "", 0, false},
		{"full, but no way back is wanted", Spec{}, func(b *bench, s *artifact.Switch) {
			put(b.t, b.path, "old", 0o600)
			b.free, s.NoRollback = 5, true
		}, "", "", "", 1, false},
		{"the disk is full", Spec{}, func(b *bench, _ *artifact.Switch) { put(b.t, b.path, "old", 0o600); b.free = 5 }, artifact.Hold, artifact.DiskFull, "5 bytes are free", 0, false},
		{"the other disk is full", Spec{Copy: true}, func(b *bench, s *artifact.Switch) { s.From = nil; b.free = 5 }, artifact.Hold, artifact.DiskFull, "twice 3 are wanted", 0, false},
		{"it has just enough", Spec{Copy: true}, func(b *bench, s *artifact.Switch) { s.From = nil; b.free = 6 }, "", "", "", 0, false},
		{"a check, which fetches nothing", Spec{}, func(b *bench, s *artifact.Switch) { put(b.t, b.path, "old", 0o600); s.ToPath += "x" }, "", "", "", 0, true},
		{"no absolute path", Spec{}, func(_ *bench, s *artifact.Switch) { s.ToPath = "store/x" }, artifact.Hold, artifact.Preflight, "absolute", 0, false},
		{"an image", Spec{}, func(_ *bench, s *artifact.Switch) { s.To.Kind = artifact.Image }, artifact.Hold, artifact.Preflight, "not a file but of kind image", 0, false},
		{"a directory", Spec{}, func(b *bench, _ *artifact.Switch) { _ = os.Mkdir(b.path, 0o755) }, artifact.Hold, artifact.Preflight, "no file", 0, false},
		{"something in the way", Spec{}, func(b *bench, s *artifact.Switch) {
			s.From = nil
			_ = os.Mkdir(filepath.Join(filepath.Dir(b.path), ".www.hvt.part"), 0o755)
		}, artifact.Hold, artifact.Preflight, "is in the way", 0, false},
		{"what a crash left in the way", Spec{}, func(b *bench, s *artifact.Switch) {
			s.From = nil
			put(b.t, filepath.Join(filepath.Dir(b.path), ".www.hvt.part"), "ne", 0o600)
		}, "", "", "", 0, false},
		{"a directory nobody may write to", Spec{}, func(b *bench, s *artifact.Switch) {
			s.From = nil
			_ = os.Chmod(filepath.Dir(b.path), 0o500)
		}, artifact.Denied, "", "permission", 0, false},
		{"no such unit", Spec{Unit: "gone.service"}, func(b *bench, s *artifact.Switch) { s.From = nil; put(b.t, b.bin+"/load", "not-found\n", 0o600) }, artifact.Absent, "", "gone.service", 0, false},
		{"a masked unit", Spec{Unit: "vm"}, func(b *bench, s *artifact.Switch) { s.From = nil; put(b.t, b.bin+"/load", "masked\n", 0o600) }, artifact.Hold, artifact.Preflight, "masked", 0, false},
		{"no systemd", Spec{Unit: "vm"}, func(b *bench, s *artifact.Switch) {
			s.From = nil
			put(b.t, b.bin+"/systemctl", "#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n", 0o755)
		}, artifact.Transient, "", "Failed to connect to bus", 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if root() && tc.class == artifact.Denied {
				t.Skip("root writes everywhere")
			}
			b := newBench(t)
			s := b.change("new", "old")
			tc.make(b, &s)
			before := b.beside()
			st, err := b.target(tc.spec).Stage(t.Context(), s)
			if f := artifact.FailureOf(err, "unclassed"); class(err) != tc.class || f != nil && (f.Why != tc.why || !strings.Contains(f.Error(), tc.what)) || len(st.Warnings) != tc.warnings {
				t.Errorf("%+v, %v", st, err)
			}
			if tc.stored != (b.store.Verify(t.Context(), of("old").ID) == nil) {
				t.Errorf("the way back is in the store: %v", !tc.stored)
			}
			if tc.class == "" && !slices.Equal(b.beside(), before) {
				t.Errorf("it left %q", b.beside())
			}
			if strings.Contains(b.read(filepath.Join(b.bin, "asked")), "restart") {
				t.Error("it restarted the unit")
			}
		})
	}
}

// An activation that cannot be made has changed nothing.
func TestActivateChangesNothing(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name  string
		spec  Spec
		ctx   context.Context //nolint:containedctx // a case's
		make  func(b *bench, s *artifact.Switch)
		class artifact.Class
	}{
		{"not in the store", Spec{}, t.Context(), func(_ *bench, s *artifact.Switch) { s.ToPath += "x" }, artifact.Failed},
		{"it has rotted", Spec{Copy: true}, t.Context(), func(b *bench, s *artifact.Switch) { rot(b.t, s.ToPath) }, artifact.Failed},
		{"over before it began", Spec{Copy: true}, over, func(*bench, *artifact.Switch) {}, "unclassed"},
		{"a directory came between", Spec{}, t.Context(), func(b *bench, _ *artifact.Switch) {
			_ = os.Remove(b.path)
			_ = os.Mkdir(b.path, 0o755)
		}, artifact.Transient},
	} {
		for _, name := range []string{"", unit} {
			t.Run(tc.name+" "+name, func(t *testing.T) {
				b := newBench(t)
				put(t, b.path, "old", 0o600)
				s := b.change("new", "old")
				tc.make(b, &s)
				tc.spec.Unit = name
				target := b.target(tc.spec)
				was := b.runs(target)
				if err := target.Activate(tc.ctx, s); class(err) != tc.class {
					t.Errorf("%v", err)
				}
				if got := b.runs(target); got != was || !slices.Equal(b.beside(), []string{"www.hvt"}) {
					t.Errorf("it runs %s, there lie %q", got, b.beside())
				}
				if b.read(filepath.Join(b.bin, "asked")) != "" {
					t.Errorf("asked of systemd: %q", b.asked())
				}
			})
		}
	}
}

// A copy is for those for whom the file before it was.
func TestCopyKeepsTheMode(t *testing.T) {
	b := newBench(t)
	target := b.target(Spec{Copy: true})
	for i, want := range []os.FileMode{0o644, 0o750} {
		if i > 0 {
			put(t, b.path, "old", want|os.ModeSetuid)
		}
		if err := target.Activate(t.Context(), b.change("new", "")); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(b.path); err != nil || st.Mode() != want {
			t.Errorf("mode %v, want %v, %v", st.Mode(), want, err)
		}
	}
}

// A restart that fails is told, and is no readiness; of a way back the unit
// itself decides.
func TestRestart(t *testing.T) {
	for _, tc := range []struct {
		name, file, text string
		back             bool
		failed           bool
		ready            artifact.ReadyState
	}{
		{"refused", "refuse", "", false, true, artifact.NotReady},
		{"refused on the way back", "refuse", "", true, true, artifact.IsReady},
		{"hangs", "hang", "", false, true, artifact.NotReady},
		{"slow, and nobody waits any more", "slow", "", false, false, artifact.IsReady},
		{"failed afterwards", "active", "failed", false, false, artifact.NotReady},
		{"starting", "active", "activating", false, false, artifact.NotYet},
		{"ended in peace", "active", "inactive", false, false, artifact.IsReady},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			put(t, b.path, "old", 0o600)
			put(t, filepath.Join(b.bin, tc.file), tc.text, 0o600)
			target := b.target(Spec{Unit: unit})
			s, do := b.change("new", "old"), target.Activate
			if tc.back {
				do = target.Rollback
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tc.file == "hang" || tc.file == "slow" {
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			if tc.file == "slow" {
				target.linger = time.Minute
			}
			err := do(ctx, s)
			if (class(err) == artifact.Failed) != tc.failed || (err != nil) != tc.failed {
				t.Errorf("%v", err)
			}
			if tc.file == "refuse" && (len(b.told) != 1 || !slices.Equal(target.Evidence(), b.told) || !strings.Contains(err.Error(), b.told[0])) {
				t.Errorf("told %q, evidence %q, %v", b.told, target.Evidence(), err)
			}
			// The path was replaced: that is what runs, or tries to.
			if got := b.runs(target); got != "new" {
				t.Errorf("it runs %s", got)
			}
			if r, err := target.Ready(t.Context(), s); err != nil || r.State != tc.ready || r.State != artifact.IsReady && r.Reason == "" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestMain lets this program be the one that is killed.
func TestMain(m *testing.M) {
	if at := os.Getenv("FILE_TEST_KILLED_AT"); at != "" {
		killed(at)
		return
	}
	m.Run()
}

// killed activates and ends by SIGKILL at a step.
func killed(at string) {
	top, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	dir := filepath.Join(top, "state")
	st, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	if err != nil {
		panic(err)
	}
	spec := Spec{Path: filepath.Join(top, "at", "www.hvt"), Copy: os.Getenv("FILE_TEST_COPY") == "true"}
	if os.Getenv("FILE_TEST_UNIT") == "true" {
		spec.Unit = unit
	}
	target, err := New(spec, Deps{
		Path: st.Path, Dir: dir, Env: []string{"PATH=" + filepath.Join(top, "bin") + ":/usr/bin:/bin"},
		Import: func(ctx context.Context, path string) (artifact.ID, error) { return st.Import(ctx, "r2", path) },
	})
	if err != nil {
		panic(err)
	}
	target.step = func(name string) {
		if name == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	s := artifact.Switch{To: of("new"), ToPath: st.Path(of("new").ID), From: &artifact.Version{Candidate: of("old")}}
	if err := target.Activate(context.Background(), s); err != nil {
		panic(err)
	}
}

// Whenever a process is killed, the path leads to a whole file, what runs can
// be told, and the same activation once more ends right.
func TestKilled(t *testing.T) {
	for _, spec := range []Spec{{}, {Copy: true}, {Unit: unit}, {Unit: unit, Copy: true}} {
		for _, at := range []string{"written", "prepared", "marked", "renamed", "restarted"} {
			if at == "written" && !spec.Copy || (at == "marked" || at == "restarted") && spec.Unit == "" {
				continue
			}
			t.Run(fmt.Sprintf("%v at %s", spec, at), func(t *testing.T) {
				b := newBench(t)
				if err := os.Symlink(b.store.Path(b.has("old").ID), b.path); err != nil {
					t.Fatal(err)
				}
				put(t, filepath.Join(b.bin, "runs"), "old", 0o644)
				s := b.change("new", "old")
				target := b.target(spec)
				c := exec.CommandContext(t.Context(), os.Args[0])
				c.Dir = filepath.Dir(b.bin)
				c.Env = append(os.Environ(), "FILE_TEST_KILLED_AT="+at, fmt.Sprintf("FILE_TEST_COPY=%v", spec.Copy), fmt.Sprintf("FILE_TEST_UNIT=%v", spec.Unit != ""))
				if out, err := c.CombinedOutput(); c.ProcessState.ExitCode() != -1 {
					t.Fatalf("it was not killed: %v\n%s", err, out)
				}

				// As a start would find it.
				now := b.read(b.path)
				if renamed := at == "renamed" || at == "restarted"; now != "old" && !renamed || now != "new" && renamed {
					t.Errorf("the path leads to %q", now)
				}
				want := now
				if spec.Unit != "" && at == "renamed" {
					want = b.read(filepath.Join(b.bin, "runs"))
					if want != "old" {
						t.Fatalf("the unit runs %q", want)
					}
				}
				if at == "restarted" {
					want = "old" // it cannot be told any more: it is done once more
				}
				if got := b.runs(target); got != want {
					t.Errorf("it runs %s, want %s", got, want)
				}
				if err := target.Activate(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if got := b.runs(target); got != "new" || b.read(b.path) != "new" || !slices.Equal(b.beside(), []string{"www.hvt"}) {
					t.Errorf("then it runs %s; there lie %q", got, b.beside())
				}
				if got := b.read(filepath.Join(b.bin, "runs")); spec.Unit != "" && got != "new" {
					t.Errorf("then the unit runs %q", got)
				}
			})
		}
	}
}

func TestParse(t *testing.T) {
	name := strings.Repeat("n", 249)
	for _, tc := range []struct {
		rest, want string // String of the Spec, or a part of the error
		bad        bool
	}{
		{"/srv/www.hvt", "file:/srv/www.hvt", false},
		{"///srv//x/../www.hvt?", "file:/srv/www.hvt", false},
		{"/srv/www.hvt?unit=vm-www.service", "file:/srv/www.hvt?unit=vm-www.service", false},
		{"/srv/www.hvt?copy=true&unit=vm@a%2db", "file:/srv/www.hvt?unit=vm@a-b&copy=true", false},
		{"/srv/www.hvt?copy=false", "file:/srv/www.hvt", false},
		{"/srv/a%20b%3Fc%25", "file:/srv/a b%3Fc%25", false},
		{"/srv/" + name, "file:/srv/" + name, false},
		{"/srv/" + name + "n", "longer than", true},
		{"", "absolute path", true},
		{"www.hvt", "absolute path", true},
		{"//host/www.hvt", "names a host", true},
		{"/srv/", "directory", true},
		{"/", "directory", true},
		{"/srv/..", "directory", true},
		{"/srv/100%", "%25", true},
		{"/srv/a%00", "NUL", true},
		{"/srv/a?unit=", "unit", true},
		{"/srv/a?unit=-x", "unit", true},
		{"/srv/a?unit=a%20b", "unit", true},
		{"/srv/a?unit=a/b", "unit", true},
		{"/srv/a?unit=a&unit=b", "twice", true},
		{"/srv/a?copy=yes", "true or false", true},
		{"/srv/a?copy", "true or false", true},
		{"/srv/a?uint=x", `"uint" is not known`, true},
	} {
		s, err := Parse(tc.rest)
		if tc.bad {
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Kind != fault.Usage || e.Next == "" || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "--to file:") {
				t.Errorf("%q: %+v, %v", tc.rest, s, err)
			}
			continue
		}
		if err != nil || s.String() != tc.want {
			t.Errorf("%q: %s, %v", tc.rest, s, err)
		}
		if again, err := Parse(strings.TrimPrefix(s.String(), "file:")); err != nil || again != s {
			t.Errorf("%q: read again as %+v, %v", tc.rest, again, err)
		}
	}
	if _, err := New(Spec{Path: "/a", Unit: "u"}, Deps{Dir: "relative"}); err == nil {
		t.Error("a relative directory was taken")
	}
}

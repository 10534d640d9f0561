package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"homelab/e2e/cluster"
	"homelab/e2e/machine"
	"homelab/internal/buildersim"
	"homelab/internal/tlstest"
)

const (
	unitFile = "../../docs/homelab-watch@.service"
	// The rule as it is on the page, from its comment on.
	ruleOnPage = "(?s)```js\n// /etc/polkit-1/rules.d/50-homelab-watch.rules\n(.*?)```"
)

// The unit is one that systemd understands to the last word.
func TestUnitVerified(t *testing.T) {
	t.Parallel()
	analyze := machine.Need(t, "HOMELAB_E2E_ANALYZE", "systemd-analyze")
	b, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	// The program has to be there.
	unit := strings.Replace(string(b), "/usr/local/bin/homelab", program(t), 1)
	verify := func(unit string) (said, all string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "homelab-watch@www.service")
		if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		// It fails for what is wrong with this machine's other units, too.
		out, _ := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
		return strings.Join(regexp.MustCompile(`(?m)^.*homelab-watch@.*$`).FindAllString(string(out), -1), "\n"), string(out)
	}
	if said, all := verify(strings.Replace(unit, "KillMode=", "KilMode=", 1)); !strings.Contains(said, "KilMode") {
		machine.Skip(t, "systemd-analyze", "a misspelt directive is no news to it: "+all)
	}
	if said, _ := verify(unit); said != "" {
		t.Error(said)
	}
}

// A real is a systemd of its own in which nothing but the unit, a service that
// it restarts, the bus and polkit run.
type real struct {
	t       *testing.T
	pid     string // of systemd
	unified string // the control group
}

// newReal starts systemd. etc is what /etc has, by name.
func newReal(t *testing.T, etc map[string]string) *real {
	t.Helper()
	const what = "systemd in namespaces"
	systemd := machine.Need(t, "HOMELAB_E2E_SYSTEMD", what)
	if os.Geteuid() != 0 {
		machine.Skip(t, what, "this is not root")
	}
	namespaces := []string{"--pid", "--mount", "--fork", "--kill-child", "--cgroup", "--ipc", "--uts"}
	if out, err := exec.Command("unshare", append(namespaces, "mount", "-t", "tmpfs", "tmpfs", "/mnt")...).CombinedOutput(); err != nil {
		machine.Skip(t, what, strings.TrimSpace(fmt.Sprintf("unshare: %v %s", err, out)))
	}
	r := &real{t: t}
	var err error
	if r.unified, err = group(); err != nil {
		machine.Skip(t, what, err.Error())
	}
	t.Cleanup(func() {
		eventually(t, "the control group is empty", func() bool { return removeAll(r.unified) == nil })
	})
	dir := t.TempDir()
	for name, text := range etc {
		file := filepath.Join(dir, "etc", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	words := append([]string{"-c", `echo $$ >"$0/cgroup.procs" && exec unshare "$@"`, r.unified}, namespaces...)
	cmd := exec.Command("sh", append(words, "sh", "testdata/root.sh", root, filepath.Join(dir, "etc"), program(t), systemd)...)
	var said story
	cmd.Stdout, cmd.Stderr = &said, &said
	done, err := cluster.Spawn(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	eventually(t, "systemd is up", func() bool {
		select {
		case <-done:
			machine.Skip(t, what, "it ended: "+said.String())
		default:
		}
		b, _ := os.ReadFile(filepath.Join(r.unified, "init.scope/cgroup.procs"))
		r.pid, _, _ = strings.Cut(string(b), "\n")
		return r.pid != "" && r.show("e2e.target", "ActiveState") == "active"
	})
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := r.run(0, "journalctl", "--no-pager", "-o", "short-monotonic")
			t.Log(out)
		}
	})
	return r
}

// group makes a control group below that of this process.
func group() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	at := regexp.MustCompile(`(?m)^\S+ \S+ \S+ / (\S+) .* - cgroup2 `).FindSubmatch(mounts)
	in := regexp.MustCompile(`(?m)^0::(.*)$`).FindSubmatch(own)
	if at == nil || in == nil {
		return "", errors.New("no control groups of version 2")
	}
	return os.MkdirTemp(filepath.Join(string(at[1]), string(in[1])), "homelab-e2e-")
}

// removeAll removes a control group with those below it.
func removeAll(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(d))
	}
	return err
}

// run runs a command beside systemd, as a user, and returns what it says and
// how it ends.
func (r *real) run(uid int, words ...string) (string, int) {
	r.t.Helper()
	as := strconv.Itoa(uid)
	cmd := exec.Command("nsenter", append([]string{
		"-t", r.pid, "-m", "-p", "-C", "-i", "-u", "-r", "-w", "env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent",
		"setpriv", "--reuid=" + as, "--regid=" + as, "--clear-groups",
	}, words...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	done, err := cluster.Spawn(cmd)
	if err != nil {
		r.t.Fatal(err)
	}
	<-done
	return strings.TrimSpace(out.String()), cmd.ProcessState.ExitCode()
}

// ok runs a command as root, which must work.
func (r *real) ok(words ...string) string {
	r.t.Helper()
	out, code := r.run(0, words...)
	if code != 0 {
		r.t.Fatalf("%q: %d, %s", words, code, out)
	}
	return out
}

// show is one property of a unit.
func (r *real) show(unit, property string) string {
	out, _ := r.run(0, "systemctl", "show", "--value", "-p", property, unit)
	return out
}

// becomes waits until a property has a value.
func (r *real) becomes(unit, property, value string) {
	r.t.Helper()
	eventually(r.t, unit+" "+property+"="+value, func() bool { return r.show(unit, property) == value })
}

func (r *real) journal(unit string) string {
	return r.ok("journalctl", "--no-pager", "-o", "cat", "-u", unit)
}

func (r *real) write(name, text string) {
	r.t.Helper()
	r.ok("sh", "-c", `printf %s "$1" >"$2"`, "sh", text, name)
}

const watchUser, otherUser = 990, 993

// The documented unit under a real systemd, with the documented rule under a
// real polkit.
func TestSystemd(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	f := buildersim.NewFiles()
	f.Set(buildersim.Settings{ETags: buildersim.Quoted, LastModified: true})
	ca := tlstest.NewCA(t)
	s := ca.Serve(t, f, "127.0.0.1")
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	put := func(text string) {
		at = at.Add(time.Minute)
		f.Put("/www.hvt", []byte(text), at)
	}
	watches := func(interval string) string {
		from := "{from: " + s.URL("127.0.0.1") + "/www.hvt, from-ca-file: /etc/homelab/ca.pem, soak: 0s, interval: " + interval + ", to: "
		return "state-dir: /var/lib/homelab\nwatches:\n" +
			"  www: " + from + "\"file:/srv/unikernels/www.hvt?unit=vm-www.service\"}\n" +
			"  down: {from: \"https://127.0.0.1:1/x\", to: \"file:/srv/unikernels/down\"}\n" +
			"  bad: {from: \"ftp://127.0.0.1/x\", to: \"file:/srv/unikernels/bad\"}\n"
	}
	etc := map[string]string{
		"passwd": `root:x:0:0::/root:/bin/sh
homelab-watch:x:990:990::/nonexistent:/bin/sh
messagebus:x:991:991::/nonexistent:/usr/sbin/nologin
polkitd:x:992:992::/nonexistent:/usr/sbin/nologin
somebody:x:993:993::/nonexistent:/bin/sh
`,
		"group":                "root:x:0:\nhomelab-watch:x:990:\nmessagebus:x:991:\npolkitd:x:992:\nsomebody:x:993:\n",
		"machine-id":           "5f0a5f0a5f0a5f0a5f0a5f0a5f0a5f0a\n",
		"os-release":           "ID=e2e\n",
		"homelab/watches.yaml": watches("5m"),
		"homelab/ca.pem":       string(ca.PEM()),
		"systemd/system/e2e.target": "[Unit]\nDefaultDependencies=no\nRequires=systemd-journald.service dbus.socket\nWants=polkit.service vm-www.service vm-other.service\n" +
			"After=homelab-watch@www.service\n", // so that how it ended is remembered,
		"systemd/system/homelab-watch@.service":              string(unit),
		"systemd/system/homelab-watch@down.service.d/w.conf": "[Service]\nWatchdogSec=6s\nRestartSec=100ms\n",
		"systemd/system/systemd-journald-audit.socket":       "[Unit]\nDescription=none: it is the kernel's\n[Socket]\nListenStream=/run/no-audit\n",
		"systemd/system/vm-www.service":                      "[Service]\nExecStartPre=-/bin/cp /srv/unikernels/www.hvt /run/vm-www\nExecStart=/bin/sleep infinity\n",
		"systemd/system/vm-other.service":                    "[Service]\nExecStart=/bin/sleep infinity\n",
		"polkit-1/rules.d/50-homelab-watch.rules":            page(t, ruleOnPage),
	}
	r := newReal(t, etc)
	r.ok("install", "-d", "-o", "homelab-watch", "/srv/unikernels")
	r.becomes("polkit.service", "ActiveState", "active")
	const www, down = "homelab-watch@www", "homelab-watch@down"

	// A source that is down does not stop it, and start returns when it has
	// seen what runs.
	r.ok("systemctl", "start", down)
	if state := r.show(down, "ActiveState"); state != "active" {
		t.Errorf("%s is %s", down, state)
	}

	// Restarting the unit of what it deploys is all that it may.
	put("one")
	before := r.show("vm-www.service", "MainPID")
	r.ok("systemctl", "start", www)
	eventually(t, "the first version is live", func() bool { return strings.Contains(r.journal(www), "live: www runs") })
	if got := r.ok("cat", "/run/vm-www"); got != "one" || r.show("vm-www.service", "MainPID") == before {
		t.Errorf("%q runs, process %s as before", got, before)
	}
	for _, c := range []struct {
		uid  int
		verb string
		unit string
		may  bool
	}{
		{watchUser, "restart", "vm-www.service", true},
		{watchUser, "try-restart", "vm-www.service", false},
		{watchUser, "stop", "vm-www.service", false},
		{watchUser, "start", "vm-www.service", false},
		{watchUser, "restart", "vm-other.service", false},
		{otherUser, "restart", "vm-www.service", false},
		{watchUser, "daemon-reload", "", false},
		{watchUser, "mask", "vm-www.service", false},
	} {
		words := []string{"systemctl", "--no-ask-password", c.verb}
		if c.unit != "" {
			words = append(words, c.unit)
		}
		if out, code := r.run(c.uid, words...); (code == 0) != c.may {
			t.Errorf("user %d, %s %s: %d, %s", c.uid, c.verb, c.unit, code, out)
		}
	}

	// Whoever comes by ssh meets the daemon, and follows it.
	put("two")
	out, code := r.run(watchUser, "homelab", "deploy", "watch", "www", "--once", "--wait", "60s", "--jsonl")
	if code != 0 || !strings.Contains(out, `"verdict":"live"`) || r.ok("cat", "/run/vm-www") != "two" {
		t.Errorf("%d, %s", code, out)
	}
	if got := r.ok("stat", "-c", "%a %U", "/var/lib/homelab"); got != "711 homelab-watch" {
		t.Errorf("its state is %s", got)
	}
	r.ok("homelab", "deploy", "watch", "status", "www")

	// Reload: a good file is taken over by the same process, a bad one is not.
	pid := r.show(www, "MainPID")
	r.write("/etc/homelab/watches.yaml", watches("4m"))
	r.ok("systemctl", "reload", www)
	eventually(t, "it has reloaded", func() bool { return strings.Contains(r.journal(www), "www  reloaded") })
	r.write("/etc/homelab/watches.yaml", "watches: {www: {form: x}}")
	r.ok("systemctl", "reload", www)
	eventually(t, "it has not reloaded", func() bool { return strings.Contains(r.journal(www), "not reloaded") })
	if now := r.show(www, "MainPID"); now != pid || r.show(www, "ActiveState") != "active" {
		t.Errorf("process %s, was %s, %s", now, pid, r.show(www, "ActiveState"))
	}
	r.write("/etc/homelab/watches.yaml", watches("5m"))

	// It may do little.
	status := r.ok("cat", "/proc/"+pid+"/status")
	for _, want := range []string{"CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Uid:\t990\t990\t990\t990"} {
		if !strings.Contains(status, want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}

	// Killed, it is started again; stopped, it has ended well.
	r.ok("systemctl", "kill", "--kill-whom=main", "-s", "KILL", www)
	r.becomes(www, "NRestarts", "1")
	r.becomes(www, "ActiveState", "active")
	r.ok("systemctl", "stop", www)
	if state, result, status := r.show(www, "ActiveState"), r.show(www, "Result"), r.show(www, "ExecMainStatus"); state != "inactive" || result != "success" || status != "143" {
		t.Errorf("stopped it is %s, %s, %s", state, result, status)
	}

	// While somebody else is the watch, a run by ssh say, it comes again until
	// that has ended.
	r.ok("systemd-run", "--quiet", "--unit=holder", "flock", "/var/lib/homelab/www/lock", "sleep", "infinity")
	eventually(t, "the lock is held", func() bool {
		_, code := r.run(0, "flock", "--nonblock", "/var/lib/homelab/www/lock", "true")
		return code != 0
	})
	r.ok("systemctl", "start", "--no-block", www)
	r.becomes(www, "ExecMainStatus", "9")
	time.Sleep(2 * time.Second) // a limit of five starts would be reached
	r.ok("systemctl", "stop", "holder")
	r.becomes(www, "ActiveState", "active")

	// A bad line is nothing that another start mends.
	if out, code := r.run(0, "systemctl", "start", "homelab-watch@bad"); code == 0 {
		t.Errorf("%s", out)
	}
	if state, n, status := r.show("homelab-watch@bad", "ActiveState"), r.show("homelab-watch@bad", "NRestarts"), r.show("homelab-watch@bad", "ExecMainStatus"); state != "failed" || n != "0" || status != "64" {
		t.Errorf("after a wrong configuration it is %s, %s restarts, exit %s", state, n, status)
	}

	// The watchdog: fed by a loop that turns, and it bites one that hangs.
	fed := func() string { return r.show(down, "WatchdogTimestampMonotonic") }
	first := fed()
	eventually(t, "the watchdog is fed", func() bool { return fed() != first && fed() != "0" })
	n := r.show(down, "NRestarts")
	r.ok("systemctl", "kill", "--kill-whom=main", "-s", strconv.Itoa(int(syscall.SIGSTOP)), down)
	eventually(t, "the watchdog has bitten", func() bool { return r.show(down, "NRestarts") != n })
	r.becomes(down, "ActiveState", "active")
	if said := r.ok("journalctl", "--no-pager", "-o", "cat", "-u", down); !strings.Contains(said, "Watchdog timeout") {
		t.Errorf("the journal:\n%s", said)
	}
}

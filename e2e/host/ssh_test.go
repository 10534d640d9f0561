package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"homelab/e2e/cluster"
	"homelab/e2e/machine"
	"homelab/internal/buildersim"
	"homelab/internal/tlstest"
)

// files is a watches file whose watch "www" follows a file, and put replaces
// that file and returns its id.
func (s *site) files(more string) (put func(text string) string) {
	s.t.Helper()
	f := buildersim.NewFiles()
	f.Set(buildersim.Settings{ETags: buildersim.Quoted, LastModified: true})
	ca := tlstest.NewCA(s.t)
	s.write("homelab/watches.yaml", `
state-dir: `+s.path("state")+`
watches:
  www:
    from: `+ca.Serve(s.t, f, "127.0.0.1").URL("127.0.0.1")+`/www.hvt
    from-ca-file: `+ca.File(s.t)+`
    to: exec:`+s.path("hook")+`
    probe: [{http: "`+s.url+`", body: "{sha256:12}"}]
    soak: 0s
`+more)
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	return func(text string) string {
		at = at.Add(time.Minute)
		f.Put("/www.hvt", []byte(text), at)
		return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text)))
	}
}

// daemon starts the watch and returns when it has looked once: it will not look
// again soon by itself.
func (s *site) daemon() *process {
	s.t.Helper()
	p := s.start("deploy", "watch", "www")
	eventually(s.t, "the daemon has looked", func() bool {
		out := s.run("deploy", "watch", "status", "www", "--json").out
		return strings.Contains(out, `"daemon":true`) && strings.Contains(out, `"last_good":`)
	})
	return p
}

// page returns the one match of the expression in the page about watches.
func page(t *testing.T, expression string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/deploy-watch.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(expression).FindAllSubmatch(b, -1)
	if len(found) != 1 {
		t.Fatalf("%d matches of %s in the page", len(found), expression)
	}
	return string(found[0][1])
}

// A door is an sshd that allows everything a key does not forbid.
type door struct {
	site *site
	addr string
	user string
	key  ssh.Signer
	file string // the private key
	host ssh.PublicKey
}

func newDoor(s *site) *door {
	t := s.t
	t.Helper()
	sshd := machine.Need(t, "HOMELAB_E2E_SSHD", "an sshd")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	d := &door{site: s, user: me.Username, file: s.path("ssh/ci")}
	pair := func(name string) ssh.Signer {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		block, err := ssh.MarshalPrivateKey(private, name)
		if err != nil {
			t.Fatal(err)
		}
		s.write("ssh/"+name, string(pem.EncodeToMemory(block)))
		k, err := ssh.NewSignerFromKey(private)
		if err := errors.Join(err, os.Chmod(s.path("ssh/"+name), 0o600)); err != nil {
			t.Fatal(err)
		}
		return k
	}
	d.key, d.host = pair("ci"), pair("host").PublicKey()
	options := page(t, `(?m)^(restrict,command=".*") ssh-ed25519 AAAA\.\.\. ci$`)
	s.write("ssh/authorized_keys", options+" "+string(ssh.MarshalAuthorizedKey(d.key.PublicKey())))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = free.Addr().String()
	_ = free.Close()
	hostname, port, _ := net.SplitHostPort(d.addr)
	s.write("ssh/known_hosts", fmt.Sprintf("[%s]:%s %s", hostname, port, ssh.MarshalAuthorizedKey(d.host)))
	bin := s.path("bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.Symlink(program(t), filepath.Join(bin, "homelab"))); err != nil {
		t.Fatal(err)
	}
	s.write("ssh/config", `
ListenAddress `+d.addr+`
HostKey `+s.path("ssh/host")+`
AuthorizedKeysFile `+s.path("ssh/authorized_keys")+`
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
AllowAgentForwarding yes
X11Forwarding yes
PermitTunnel yes
PermitTTY yes
PermitUserRC yes
MaxStartups 100
Subsystem sftp internal-sftp
SetEnv HOME=`+s.home+` XDG_CONFIG_HOME=`+s.home+` PATH=`+bin+`:`+os.Getenv("PATH")+`
`)
	if me.Uid == "0" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where sshd locks a part of itself in
			t.Fatal(err)
		}
	}
	log, err := os.Create(s.path("ssh/log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(sshd, "-D", "-e", "-f", s.path("ssh/config"))
	cmd.Stdout, cmd.Stderr = log, log
	done, err := cluster.Spawn(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-done
	})
	eventually(t, "sshd answers", func() bool {
		select {
		case <-done:
			t.Fatalf("sshd ended: %s", s.read("ssh/log"))
		default:
		}
		c, err := net.Dial("tcp", d.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return d
}

// command is what somebody with the key types.
func (d *door) command(words ...string) *process {
	d.site.t.Helper()
	host, port, _ := net.SplitHostPort(d.addr)
	return d.site.spawn(exec.Command("ssh", append([]string{
		"-T", "-F", "none", "-p", port, "-i", d.file, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + d.site.path("ssh/known_hosts"), "-o", "LogLevel=ERROR", d.user + "@" + host,
	}, words...)...))
}

// dial is a connection by the key, for what the program ssh would not do.
func (d *door) dial() *ssh.Client {
	d.site.t.Helper()
	c, err := ssh.Dial("tcp", d.addr, &ssh.ClientConfig{
		User: d.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(d.key)}, HostKeyCallback: ssh.FixedHostKey(d.host),
	})
	if err != nil {
		d.site.t.Fatalf("%v\n%s", err, d.site.read("ssh/log"))
	}
	d.site.t.Cleanup(func() { _ = c.Close() })
	return c
}

// The key as it is documented makes the host look: what is expected comes, the
// story and the verdict go through ssh, with a daemon and without.
func TestSSHLooks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	put := s.files("")
	d := newDoor(s)
	d.command().end().is(t, 3, `"verdict":"absent"`)
	first := put("one")
	a := d.command(first).end().is(t, 0, `"verdict":"live"`)
	for _, want := range []string{`"type":"candidate"`, `"type":"fetch"`, `"type":"verify"`, `"type":"probe"`, `"type":"outcome"`} {
		if !strings.Contains(a.out, want) {
			t.Errorf("no %s in\n%s", want, a.out)
		}
	}
	d.command().end().is(t, 0, `"verdict":"current"`)
	second := put("two")
	d.command().end().is(t, 0, second)
	d.command(first).end().is(t, 6, second)

	w := s.daemon()
	third := put("three")
	a = d.command(third).end().is(t, 0, `"verdict":"live"`)
	if !strings.Contains(a.out, `"type":"verify"`) || !strings.Contains(w.err.String(), short(third)) || s.running() != third || s.actions() != 3 {
		t.Errorf("%s runs, the daemon:\n%s\nssh:\n%s", s.running(), w.err.String(), a.out)
	}
	w.stop()
}

// A connection that breaks in the middle of a switch ends nothing.
func TestSSHBreaks(t *testing.T) {
	t.Parallel()
	for _, beside := range []bool{false, true} {
		t.Run(fmt.Sprintf("daemon=%t", beside), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			put := s.files("")
			d := newDoor(s)
			d.command(put("one")).end().is(t, 0, "")
			if beside {
				s.daemon()
			}
			s.write("slow", "")
			second := put("two")
			p := d.command(second)
			eventually(t, "the switch has begun", func() bool { return s.actions() == 2 })
			_ = p.cmd.Process.Kill()
			<-p.done
			if s.running() == second {
				t.Fatal("the switch was over before the connection was")
			}
			if err := os.Remove(s.path("slow")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is live", func() bool { return s.run("deploy", "watch", "status", "www").code == 0 })
			if s.running() != second || s.actions() != 2 {
				t.Errorf("%s runs:\n%s", s.running(), s.read("actions"))
			}
		})
	}
}

// The key makes the host look, nothing more.
func TestSSHNothingMore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	put := s.files("")
	d := newDoor(s)
	d.command(put("one")).end().is(t, 0, "")
	sum := put("two")
	trap := s.path("trap")
	for _, c := range []string{
		"id", "sh", "; touch " + trap, "$(touch " + trap + ")", "`touch " + trap + "`", sum + "; touch " + trap, sum + "\ntouch " + trap,
		sum + " && touch " + trap, "| touch " + trap, "--to exec:/bin/sh", sum + " --to exec:/bin/sh", "--expect " + sum, "--help", "--version",
		" " + sum, sum + " ", strings.ToUpper(sum), "sha256:*", "uuid:../../x", "\x1b[2J", strings.Repeat("a", 100_000), "scp -t /tmp",
		"git-upload-pack /", "internal-sftp", "-f " + trap,
	} {
		n, err := d.dial().NewSession()
		if err != nil {
			t.Fatal(err)
		}
		out, err := n.Output(c)
		if exit, ok := errors.AsType[*ssh.ExitError](err); !ok || exit.ExitStatus() != 64 || !strings.Contains(string(out), `"verdict":"usage"`) {
			t.Errorf("%.60q: %v\n%s", c, err, out)
		}
	}
	if _, err := os.Stat(trap); err == nil {
		t.Error("a command was obeyed")
	}

	// No other way through the door.
	c := d.dial()
	session := func() *ssh.Session {
		t.Helper()
		n, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := session().RequestPty("xterm", 24, 80, nil); err == nil {
		t.Error("it gives a terminal")
	}
	if err := session().Setenv("HOMELAB_CONFIG", trap); err == nil {
		t.Error("it takes variables")
	}
	for what, body := range map[string][]byte{
		"auth-agent-req@openssh.com": nil,
		"x11-req": ssh.Marshal(struct {
			Single         bool
			Protocol, Name string
			Screen         uint32
		}{true, "MIT-MAGIC-COOKIE-1", "00112233445566778899aabbccddeeff", 0}),
	} {
		if ok, err := session().SendRequest(what, true, body); ok || err != nil {
			t.Errorf("%s: %t, %v", what, ok, err)
		}
	}
	if conn, err := c.Dial("tcp", strings.TrimPrefix(s.url, "http://")); err == nil {
		t.Error("it leads to other addresses")
		_ = conn.Close()
	}
	if conn, err := c.Dial("unix", s.path("state/www/control.sock")); err == nil {
		t.Error("it leads to sockets")
		_ = conn.Close()
	}
	if l, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("it listens for others")
		_ = l.Close()
	}
	if code, said := subsystem(t, c, "sftp"); code != 64 || !strings.Contains(said, `"verdict":"usage"`) {
		t.Errorf("sftp: %d, %s", code, said)
	}

	if s.actions() != 1 {
		t.Errorf("somebody had it act:\n%s", s.read("actions"))
	}
	// A shell is the same look, whatever is typed into it.
	shell := session()
	shell.Stdin = strings.NewReader("touch " + trap + "\n")
	out, err := shell.StdoutPipe()
	if err := errors.Join(err, shell.Shell()); err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(out)
	if err := shell.Wait(); err != nil || !strings.Contains(string(said), `"verdict":"live"`) || s.running() != sum {
		t.Errorf("a shell: %v\n%s", err, said)
	}
	if _, err := os.Stat(trap); err == nil {
		t.Error("what was typed was obeyed")
	}
}

// subsystem asks for one and returns what it says and how it ends.
func subsystem(t *testing.T, c *ssh.Client, name string) (code uint32, said string) {
	t.Helper()
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{name})); !ok || err != nil {
		t.Fatalf("%t, %v", ok, err)
	}
	b, _ := io.ReadAll(ch)
	for q := range requests {
		if q.Type == "exit-status" {
			code = binary.BigEndian.Uint32(q.Payload)
		}
	}
	return code, string(b)
}

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"homelab/e2e/cluster"
)

// A process is one homelab process.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	done   <-chan struct{}
	out    story
	err    story
	began  time.Time
	result result
}

// A result is what a run says at its end: the part of the JSON that is checked.
type result struct {
	Verdict  string
	ExitCode int `json:"exit_code"`
	Reason   string
	Next     string
	Targets  []struct {
		Verdict   string
		Phase     string
		Verified  bool
		MatchedBy string `json:"matched_by"`
		Reason    string
		Next      string
		Warnings  []string
		Cause     struct {
			Class, Reason, Message, Pod, Container string
			LogTail                                []string `json:"log_tail"`
		}
	}
}

// start runs homelab with a kubeconfig and nothing else of this machine's.
func start(t *testing.T, kubeconfig string, args ...string) *process {
	t.Helper()
	binary := os.Getenv("HOMELAB_E2E_BINARY")
	if binary == "" {
		t.Fatal("HOMELAB_E2E_BINARY does not name the program: use scripts/e2e")
	}
	home := t.TempDir()
	r := &process{t: t, began: time.Now()}
	r.cmd = exec.Command(binary, append(args, "--json", "--kubeconfig", kubeconfig)...)
	r.cmd.Dir = home // no checkout
	r.cmd.Env = []string{"HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "PATH=" + os.Getenv("PATH"), "DOCKER_CONFIG=" + home}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	var err error
	if r.done, err = cluster.Spawn(r.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
	})
	return r
}

// until waits until the story holds the words, while the process runs.
func (r *process) until(words string) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(r.err.String(), words); time.Sleep(20 * time.Millisecond) {
		select {
		case <-r.done:
			r.t.Fatalf("ended without saying %q:\n%s%s", words, r.err.String(), r.out.String())
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("did not say %q:\n%s", words, r.err.String())
		}
	}
}

func (r *process) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// end waits for the process and reads its result; it is no error how it ended.
func (r *process) end(limit time.Duration) {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(limit):
		r.t.Fatalf("still there after %v:\n%s", limit, r.err.String())
	}
	if err := json.Unmarshal([]byte(r.out.String()), &r.result); err != nil {
		r.t.Fatalf("%v: exit %d:\n%s%s", err, r.cmd.ProcessState.ExitCode(), r.err.String(), r.out.String())
	}
	if got := r.cmd.ProcessState.ExitCode(); got != r.result.ExitCode {
		r.t.Errorf("exit %d, and the result says %d", got, r.result.ExitCode)
	}
}

// A story collects what a process writes while others read it.
type story struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *story) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *story) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

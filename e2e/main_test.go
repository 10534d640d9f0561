package e2e

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"homelab/e2e/cluster"
	"homelab/internal/dockersim"
)

// shared is the control plane of all tests: a test has a namespace of its own.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(dockersim.EnvDir) != "" {
		dockersim.Main() // as the program docker
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	bin := os.Getenv("HOMELAB_E2E_CONTROLPLANE")
	if bin == "" {
		fmt.Fprintln(os.Stderr, "e2e: HOMELAB_E2E_CONTROLPLANE does not say where the control plane's programs are; scripts/e2e builds them and runs these tests")
		return 1
	}
	dir, err := os.MkdirTemp("", "homelab-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)

	began := time.Now()
	shared, err = cluster.Start(context.Background(), bin, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "e2e: control plane up in %.1f s\n", time.Since(began).Seconds())
	// The processes die with this one; the folder does not.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-stop
		shared.Stop()
		_ = os.RemoveAll(dir)
		signal.Reset()
		_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
	}()

	code := m.Run()
	if err := shared.Nodes.Problems(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: the nodes themselves went wrong:", err)
		code = max(code, 1)
	}
	if code != 0 && os.Getenv("HOMELAB_E2E_LOGS") != "" {
		if err := shared.CopyLogs(os.Getenv("HOMELAB_E2E_LOGS")); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
		}
	}
	shared.Stop()
	return code
}

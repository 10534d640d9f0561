package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"homelab/internal/dockersim"
)

// cmdDocker steers a simulated container engine, whose kind nodes have the
// simulated cluster: "docker start" puts its program first into PATH, and says
// in KUBECONFIG where kind writes contexts. "docker cluster NAME
// [SOURCE:DESTINATION...]", "docker stopped NAME", "docker delete NAME",
// "docker image REF ID", "docker blind|sees", "docker broken TEXT", "docker
// refuse WORD..."; "docker calls PATTERN COUNT" counts command lines, "docker
// nodes COUNT" nodes.
func cmdDocker(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: docker WORD...")
	}
	dir := filepath.Join(w.work, "docker")
	e := &dockersim.Engine{Dir: dir}
	count := func(n int, want string) {
		if strconv.Itoa(n) != want {
			ts.Fatalf("%d, not %s", n, want)
		}
	}
	switch args[0] {
	case "start":
		program, err := exec.LookPath("dockersim")
		ts.Check(err)
		e, err = dockersim.New(dir, program)
		ts.Check(err)
		ts.Setenv("PATH", e.Bin()+string(os.PathListSeparator)+ts.Getenv("PATH"))
		from := ts.Getenv("KUBECONFIG")
		b, err := os.ReadFile(from)
		ts.Check(err)
		ts.Check(e.Kube(strings.ReplaceAll(string(b), "certificate-authority: ", "certificate-authority: "+filepath.Dir(from)+"/")))
		ts.Setenv("KUBECONFIG", filepath.Join(w.work, "contexts"))
	case "cluster", "stopped":
		var mounts []dockersim.Mount
		for _, m := range args[2:] {
			from, to, _ := strings.Cut(m, ":")
			mounts = append(mounts, dockersim.Mount{Source: from, Destination: to})
		}
		ts.Check(e.Cluster(args[1], args[0] == "cluster", mounts...))
	case "delete":
		ts.Check(e.Delete(args[1]))
	case "image":
		ts.Check(e.Image(args[1], args[2]))
	case "blind", "sees":
		ts.Check(e.Blind(args[0] == "blind"))
	case "broken":
		ts.Check(e.Break(strings.Join(args[1:], " ")))
	case "refuse":
		ts.Check(e.Refuse(args[1:]...))
	case "calls":
		re, n := regexp.MustCompile(args[1]), 0
		calls, err := e.Calls()
		ts.Check(err)
		for _, c := range calls {
			if re.MatchString(c) {
				n++
			}
		}
		count(n, args[2])
	case "nodes":
		nodes, err := e.Nodes()
		ts.Check(err)
		count(len(nodes), args[1])
	default:
		ts.Fatalf("docker %s?", args[0])
	}
}

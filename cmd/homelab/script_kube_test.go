package main

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rogpeppe/go-internal/testscript"

	"homelab/internal/lab"
)

// cmdKube steers a simulated cluster: "kube start [--no-checkout]", then what
// lab.Kube.Do takes. Starting leaves the script in a checkout as lab start
// does, with a kubeconfig whose context is homelab.
func cmdKube(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	switch {
	case len(args) == 0:
		ts.Fatalf("usage: kube WORD...")
	case args[0] == "start":
		w.kube = lab.NewKube(w.t)
		ts.Setenv("KUBECONFIG", w.kube.Server.Kubeconfig(w.t, "homelab", lab.KubeToken, "shop"))
		// Of registries only those on the loopback are there, and nobody's
		// credentials.
		ts.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
		ts.Setenv("DOCKER_CONFIG", filepath.Join(w.work, "home", ".docker"))
		if !slices.Contains(args, "--no-checkout") {
			w.enter(ts)
		}
	case w.kube == nil:
		ts.Fatalf("kube start comes first")
	default:
		if err := w.kube.Do(args...); neg != (err != nil) {
			ts.Fatalf("%v", err)
		}
	}
}

// cmdRegistry: "registry start" starts a registry on the loopback at $REG;
// "registry push REPO:TAG [REVISION]" pushes an image whose label names that
// revision, its digest is then in $DIGEST; "registry stop".
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: registry start|stop|push REPO:TAG [REVISION]")
	}
	switch args[0] {
	case "start":
		w.registry = httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
		w.t.Cleanup(w.registry.Close)
		ts.Setenv("REG", strings.TrimPrefix(w.registry.URL, "http://"))
	case "stop":
		w.registry.Close()
	case "push":
		ref, err := name.ParseReference(ts.Getenv("REG")+"/"+args[1], name.Insecure)
		ts.Check(err)
		file, err := empty.Image.ConfigFile()
		ts.Check(err)
		file = file.DeepCopy()
		file.Config.Labels = map[string]string{"of": args[1]}
		if len(args) > 2 {
			file.Config.Labels["org.opencontainers.image.revision"] = args[2]
		}
		image, err := mutate.ConfigFile(empty.Image, file)
		ts.Check(err)
		ts.Check(remote.Write(ref, image))
		digest, err := image.Digest()
		ts.Check(err)
		ts.Setenv("DIGEST", digest.String())
	default:
		ts.Fatalf("registry %s?", args[0])
	}
}

// cmdTTYHeight proves that no frame of the last run's live view was taller
// than its screen: "ttyheight PATTERN COUNT", where lines that match PATTERN
// never stand on it more than COUNT times.
func cmdTTYHeight(ts *testscript.TestScript, neg bool, args []string) {
	t := worldOf(ts).term
	if t == nil || neg || len(args) != 2 {
		ts.Fatalf("usage: onpty ..., then ttyheight PATTERN COUNT")
	}
	re := regexp.MustCompile("(?m)" + args[0])
	most, err := strconv.Atoi(args[1])
	ts.Check(err)
	for _, f := range t.Frames() {
		if n := len(re.FindAllString(f, -1)); n > most {
			ts.Fatalf("%d lines match:\n%s", n, f)
		}
	}
}

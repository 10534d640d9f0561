// Package cluster runs a real Kubernetes control plane on loopback for tests:
// etcd, kube-apiserver, kube-controller-manager and kube-scheduler as their own
// processes, and nodes that only pretend (Nodes). Everything the controllers
// and the scheduler decide is real; what a kubelet would report is made up by
// rules on the image tag.
package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ready is how long the control plane may take to come up; it needs some
// seconds.
const ready = 60 * time.Second

// users is how many static tokens there are: the API server reads the file
// only when it starts, so they are made before any test asks.
const users = 200

// A Cluster is one control plane and its nodes.
type Cluster struct {
	Admin *Client // may do everything
	Nodes *Nodes

	APIServer, ControllerManager, Scheduler *Process

	dir    string
	url    string
	ca     *authority
	procs  []*Process // in the order they were started
	tokens chan user
	end    context.CancelFunc
}

type user struct{ name, token string }

// Start brings a control plane up from the programs in the folder bin, with
// its data in dir, and returns when it answers and its controllers work.
func Start(ctx context.Context, bin, dir string) (*Cluster, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &Cluster{dir: dir, tokens: make(chan user, users), end: cancel}
	if err := c.start(ctx, bin); err != nil {
		var logs bytes.Buffer
		for _, p := range c.procs {
			fmt.Fprintf(&logs, "\n%s", p.tail())
		}
		c.Stop()
		return nil, fmt.Errorf("%w%s", err, logs.String())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, bin string) error {
	var err error
	if c.ca, err = newAuthority(c.dir); err != nil {
		return err
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	c.url = fmt.Sprintf("https://127.0.0.1:%d", ports[0])
	etcd := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[2])

	serving, err := c.ca.issue("apiserver")
	if err != nil {
		return err
	}
	toKubelet, err := c.ca.issue("apiserver-to-kubelet")
	if err != nil {
		return err
	}
	accounts, err := c.accountKey()
	if err != nil {
		return err
	}
	tokens, err := c.tokenFile()
	if err != nil {
		return err
	}
	admin, err := c.component("admin", "system:masters")
	if err != nil {
		return err
	}
	if c.Admin, err = c.client(admin); err != nil {
		return err
	}
	manager, err := c.component("system:kube-controller-manager")
	if err != nil {
		return err
	}
	scheduler, err := c.component("system:kube-scheduler")
	if err != nil {
		return err
	}

	// Nothing here outlives the tests: etcd need not wait for the disk.
	if _, err := c.run(bin, "etcd",
		"--data-dir="+filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster=default="+peer); err != nil {
		return err
	}
	if c.APIServer, err = c.run(bin, "kube-apiserver",
		"--etcd-servers="+etcd,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]),
		"--tls-cert-file="+serving.certFile, "--tls-private-key-file="+serving.keyFile,
		"--client-ca-file="+c.ca.file(), "--token-auth-file="+tokens,
		"--authorization-mode=RBAC", "--anonymous-auth=true",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+accounts, "--service-account-signing-key-file="+accounts,
		"--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
		"--kubelet-certificate-authority="+c.ca.file(), "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate="+toKubelet.certFile, "--kubelet-client-key="+toKubelet.keyFile,
		"--profiling=false"); err != nil {
		return err
	}
	if err := c.until(ctx, "the API server to be ready", func() error {
		_, err := c.Admin.Do(ctx, http.MethodGet, "/readyz", "", nil)
		return err
	}); err != nil {
		return err
	}
	// The node lifecycle controller would evict from nodes that send no
	// heartbeat; what becomes of a node is for the tests to say.
	if c.ControllerManager, err = c.run(bin, "kube-controller-manager",
		"--kubeconfig="+manager.file, "--leader-elect=false", "--secure-port=0",
		"--service-account-private-key-file="+accounts, "--root-ca-file="+c.ca.file(),
		"--use-service-account-credentials=true",
		"--controllers=*,-node-lifecycle-controller,-taint-eviction-controller,-node-ipam-controller,"+
			"-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller,"+
			"-horizontal-pod-autoscaler-controller,-certificatesigningrequest-signing-controller",
		"--kube-api-qps=300", "--kube-api-burst=600"); err != nil {
		return err
	}
	if c.Scheduler, err = c.run(bin, "kube-scheduler",
		"--kubeconfig="+scheduler.file, "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=300", "--kube-api-burst=600"); err != nil {
		return err
	}
	if c.Nodes, err = startNodes(ctx, c); err != nil {
		return err
	}
	if err := c.Nodes.Add(ctx, "node-a", nil, false); err != nil {
		return err
	}
	return c.until(ctx, "the controllers to make a service account", func() error {
		_, err := c.Admin.Do(ctx, http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", "", nil)
		return err
	})
}

// Kubeconfig is the administrator's; its context is called e2e.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "admin.kubeconfig") }

// URL is the API server's address.
func (c *Cluster) URL() string { return c.url }

// Stop ends everything, in the reverse order.
func (c *Cluster) Stop() {
	c.end()
	if c.Nodes != nil {
		c.Nodes.stop()
	}
	// Nobody needs their data: only etcd could lose some.
	for _, p := range c.procs {
		p.stop(0)
	}
}

// RestartAPIServer ends the API server, leaves it down for so long, and
// returns when it is ready again.
func (c *Cluster) RestartAPIServer(ctx context.Context, down time.Duration) error {
	c.APIServer.stop(2 * time.Second) // watches would hold it for much longer
	time.Sleep(down)
	if err := c.APIServer.start(); err != nil {
		return err
	}
	return c.until(ctx, "the API server to be ready again", func() error {
		_, err := c.Admin.Do(ctx, http.MethodGet, "/readyz", "", nil)
		return err
	})
}

// PauseControllers stops the controller manager where it stands; the function
// returned lets it go on.
func (c *Cluster) PauseControllers() (resume func(), err error) {
	if err := c.ControllerManager.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	return func() {
		if err := c.ControllerManager.Signal(syscall.SIGCONT); err != nil {
			panic(err) // it has ended: no test after this one can work
		}
	}, nil
}

func (c *Cluster) run(bin, name string, args ...string) (*Process, error) {
	p := &Process{
		name:    name,
		args:    append([]string{filepath.Join(bin, name)}, args...),
		logFile: filepath.Join(c.dir, name+".log"),
	}
	if err := p.start(); err != nil {
		return nil, err
	}
	c.procs = append(c.procs, p)
	return p, nil
}

// until asks again and again until ask has no error.
func (c *Cluster) until(ctx context.Context, what string, ask func() error) error {
	deadline := time.Now().Add(ready)
	for {
		err := ask()
		if err == nil {
			return nil
		}
		for _, p := range c.procs {
			if p.ended() {
				return fmt.Errorf("%s has ended", p.name)
			}
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("waited for %s: %w", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A login is a kubeconfig and what is in it.
type login struct {
	file string
	cert *pair
	user user
}

// component makes a user who shows a certificate, and its kubeconfig.
func (c *Cluster) component(name string, groups ...string) (login, error) {
	p, err := c.ca.issue(name, groups...)
	if err != nil {
		return login{}, err
	}
	l := login{cert: &p}
	l.file, err = c.kubeconfig(name, "default", map[string]any{"client-certificate": p.certFile, "client-key": p.keyFile})
	return l, err
}

// kubeconfig writes a kubeconfig; its context is called e2e.
func (c *Cluster) kubeconfig(name, namespace string, auth map[string]any) (string, error) {
	b, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "e2e",
		"clusters": []any{map[string]any{"name": "e2e", "cluster": map[string]any{
			"server": c.url, "certificate-authority": c.ca.file(),
		}}},
		"users":    []any{map[string]any{"name": name, "user": auth}},
		"contexts": []any{map[string]any{"name": "e2e", "context": map[string]any{"cluster": "e2e", "user": name, "namespace": namespace}}},
	}, "", " ")
	if err != nil {
		return "", err
	}
	file := filepath.Join(c.dir, name+".kubeconfig")
	return file, os.WriteFile(file, b, 0o600)
}

// client makes a client of its own connections for a login.
func (c *Cluster) client(l login) (*Client, error) {
	conf := &tls.Config{RootCAs: c.ca.pool(), MinVersion: tls.VersionTLS12}
	if l.cert != nil {
		conf.Certificates = []tls.Certificate{l.cert.tls}
	}
	t := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	return &Client{base: c.url, http: &http.Client{Transport: t}, token: l.user.token}, nil
}

// newUser hands out one of the users nobody has had yet.
func (c *Cluster) newUser(namespace string) (login, error) {
	select {
	case u := <-c.tokens:
		l := login{user: u}
		var err error
		l.file, err = c.kubeconfig(u.name, namespace, map[string]any{"token": u.token})
		return l, err
	default:
		return login{}, errors.New("no user is left: raise the number of tokens")
	}
}

func (c *Cluster) tokenFile() (string, error) {
	var b bytes.Buffer
	for i := range users {
		raw := make([]byte, 16)
		if _, err := rand.Read(raw); err != nil {
			return "", err
		}
		u := user{name: fmt.Sprintf("user-%03d", i), token: fmt.Sprintf("%x", raw)}
		fmt.Fprintf(&b, "%s,%s,%s\n", u.token, u.name, u.name)
		c.tokens <- u
	}
	file := filepath.Join(c.dir, "tokens.csv")
	return file, os.WriteFile(file, b.Bytes(), 0o600)
}

// accountKey makes the key that signs service accounts' tokens.
func (c *Cluster) accountKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	file := filepath.Join(c.dir, "accounts.key")
	return file, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// freePorts finds ports on loopback that nobody listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at once, or one port comes twice
		a, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("%v is no TCP address", l.Addr())
		}
		ports = append(ports, a.Port)
	}
	return ports, nil
}

// CopyLogs copies what the processes have written into the folder.
func (c *Cluster) CopyLogs(folder string) error {
	for _, p := range c.procs {
		b, err := os.ReadFile(p.logFile)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(p.logFile)), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

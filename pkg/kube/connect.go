package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"

	"homelab/pkg/fault"
)

// InCluster is the context's name when the pod's own service account is used.
const InCluster = "in-cluster"

const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// Options say where the cluster is and what a connection may do. Everything
// that comes from the environment is handed in: this package reads none of it,
// except that client-go gives a plugin the process's environment.
type Options struct {
	Kubeconfig []string // files, merged in this order, the first to set a value wins; missing ones are skipped
	Explicit   bool     // the user named the file: it has to exist, and there is no falling back
	Content    []byte   // the text of a kubeconfig, instead of files
	InCluster  ServiceAccount
	Context    string // "" is the files' current-context
	Namespace  string // "" is the context's
	UserAgent  string
	Path       string   // PATH, where credential plugins are looked for
	Hide       []string // names of environment variables that plugins must not see

	// Proxy is used where the kubeconfig names none; nil: no proxy.
	Proxy func(*url.URL) (*url.URL, error)

	Stdin  bool              // a plugin may read from stdin: it is a terminal and nobody else reads it
	Plugin func(line string) // what plugins say on stderr, as it comes; nil: kept for PluginError only
	Warn   func(text string) // API warnings, each once; nil: dropped
	Log    func(format string, args ...any)

	Random func() float64 // in [0,1), for jitter; nil: math/rand
}

// ServiceAccount is what a pod knows of its cluster. The zero value: not in one.
type ServiceAccount struct {
	Host, Port string // KUBERNETES_SERVICE_HOST and _PORT
	Dir        string // of token, ca.crt and namespace; "" is the usual one
}

// Connect reads the configuration and returns a Cluster. Nothing is dialled and
// no plugin is run. The error is a *fault.Error of kind Usage: no or an invalid
// kubeconfig, an unknown context, a plugin that is not installed.
func Connect(o Options) (*Cluster, error) {
	quiet()
	cfg, context, namespace, err := load(o)
	if err != nil {
		return nil, err
	}
	if o.Namespace != "" {
		namespace = o.Namespace
	}
	tls, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, invalid(context, err)
	}
	base, _, err := rest.DefaultServerURL(cfg.Host, "", schema.GroupVersion{Version: "v1"}, tls != nil || cfg.Insecure)
	if err != nil {
		return nil, invalid(context, err)
	}
	cfg.UserAgent = o.UserAgent
	if cfg.Proxy == nil {
		cfg.Proxy = func(r *http.Request) (*url.URL, error) {
			if o.Proxy == nil {
				return nil, nil
			}
			return o.Proxy(r.URL)
		}
	}
	o.Context, o.Namespace = context, namespace
	c := New(base, nil, o)
	cfg.Dial = c.conns.dialer()
	c.config = rest.CopyConfig(cfg)
	// The guard sits below the credentials, so that its limits start once a
	// plugin is through.
	cfg.WrapTransport = func(rt http.RoundTripper) http.RoundTripper {
		return &guard{next: rt, warn: c.warn, clock: &c.clock}
	}
	if file := cfg.BearerTokenFile; file != "" {
		// client-go's own reading of it keeps a refused token for up to a minute.
		cfg.BearerToken, cfg.BearerTokenFile = "", ""
		cfg.WrapTransport = transport.Wrappers(cfg.WrapTransport,
			transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(file)))
	}
	if e := cfg.ExecProvider; e != nil {
		if err := installed(e, o.Path, context); err != nil {
			return nil, err
		}
		if c.plugin, err = newPlugin(e, o); err != nil {
			return nil, err
		}
		c.rt, err = c.plugin.capture(func() (http.RoundTripper, error) { return rest.TransportFor(cfg) })
	} else {
		c.rt, err = rest.TransportFor(cfg)
	}
	if err != nil {
		c.Close()
		return nil, invalid(context, err)
	}
	return c, nil
}

// ErrNone says that no cluster is configured: no kubeconfig, and no pod around.
var ErrNone = errors.New("no cluster is configured")

// load picks the configuration, and the names of its context and namespace.
func load(o Options) (cfg *rest.Config, context, namespace string, err error) {
	rules := clientcmd.ClientConfigLoadingRules{Precedence: o.Kubeconfig}
	if o.Explicit {
		for _, f := range o.Kubeconfig {
			if _, err := os.Stat(f); err != nil {
				return nil, "", "", fault.Usagef("", "kubeconfig %s cannot be read", f).Because(cause(err)).From(err)
			}
		}
	}
	raw, err := rules.Load()
	if o.Content != nil {
		raw, err = clientcmd.Load(o.Content)
	}
	if err != nil {
		return nil, "", "", fault.Usagef("kubectl config view", "kubeconfig is invalid").Because(oneLine(err.Error())).From(err)
	}
	context = o.Context
	if context == "" {
		context = raw.CurrentContext
	}
	_, named := raw.Contexts[context]
	switch {
	case named:
	case !o.Explicit && o.InCluster.Host != "" && (context == InCluster || clientcmdapi.IsConfigEmpty(raw) && context == ""):
		return serviceAccount(o.InCluster)
	case clientcmdapi.IsConfigEmpty(raw):
		what := "no cluster is configured"
		if len(o.Kubeconfig) > 0 {
			what += ": no kubeconfig at " + strings.Join(o.Kubeconfig, ", ")
		}
		return nil, "", "", fault.Usagef("", "%s", what).
			Because("name one with --kubeconfig FILE or KUBECONFIG, or run inside the cluster").From(ErrNone)
	case context == "":
		return nil, "", "", fault.Usagef("kubectl config get-contexts", "the kubeconfig has no current context").
			Because("choose one with --context: " + contexts(raw))
	default:
		return nil, "", "", fault.Usagef("kubectl config get-contexts", "the kubeconfig has no context %q", context).
			Because("it has " + contexts(raw))
	}
	// clientcmd takes a missing user for an anonymous one.
	chosen := raw.Contexts[context]
	if _, found := raw.AuthInfos[chosen.AuthInfo]; !found && chosen.AuthInfo != "" {
		return nil, "", "", invalid(context, fmt.Errorf("there is no user %q", chosen.AuthInfo))
	}
	if _, found := raw.Clusters[chosen.Cluster]; !found {
		return nil, "", "", invalid(context, fmt.Errorf("there is no cluster %q", chosen.Cluster))
	}
	client := clientcmd.NewNonInteractiveClientConfig(*raw, context, &clientcmd.ConfigOverrides{}, nil)
	if cfg, err = client.ClientConfig(); err != nil {
		return nil, "", "", invalid(context, err)
	}
	return cfg, context, chosen.Namespace, nil
}

// HasContext says whether the configuration of o has a context of that name.
// One that cannot be read has none.
func HasContext(o Options, name string) bool {
	quiet()
	raw, err := (&clientcmd.ClientConfigLoadingRules{Precedence: o.Kubeconfig}).Load()
	if err != nil {
		return false
	}
	_, ok := raw.Contexts[name]
	return ok
}

// serviceAccount is the configuration of a pod. The token is read anew every
// minute and after a 401, as the kubelet rotates it.
func serviceAccount(a ServiceAccount) (*rest.Config, string, string, error) {
	dir := a.Dir
	if dir == "" {
		dir = serviceAccountDir
	}
	token := filepath.Join(dir, "token")
	if _, err := os.Stat(token); err != nil {
		return nil, "", "", fault.Usagef("", "no kubeconfig, and the pod has no service account token").Because(cause(err)).From(err)
	}
	namespace, err := os.ReadFile(filepath.Join(dir, "namespace")) //nolint:gosec // where the kubelet mounts it
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", "", fault.Usagef("", "the pod's service account is incomplete").Because(cause(err)).From(err)
	}
	return &rest.Config{
		Host:            "https://" + net.JoinHostPort(a.Host, a.Port),
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "ca.crt")},
		BearerTokenFile: token,
	}, InCluster, strings.TrimSpace(string(namespace)), nil
}

func invalid(context string, err error) error {
	return fault.Usagef("kubectl config view --minify --context "+quote(context), "kubeconfig context %q is unusable", context).
		Because(oneLine(err.Error())).From(err)
}

// contexts lists the names a user may choose from.
func contexts(c *clientcmdapi.Config) string {
	names := make([]string, 0, len(c.Contexts))
	for n := range c.Contexts {
		names = append(names, n)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "none"
	}
	if len(names) > 8 {
		names = append(names[:8], "...")
	}
	return strings.Join(names, ", ")
}

// cause is the operating system's part of a file error.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Path + ": " + p.Err.Error()
	}
	return err.Error()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// quote makes a name survive pasting into a shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// client-go logs through klog, which writes to stderr and cannot be set twice
// safely.
var quiet = sync.OnceFunc(func() { //nolint:gochecknoglobals // klog's logger is one for the process
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
})

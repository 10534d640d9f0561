// Package secret makes the Secrets of a deployment: the one its pods pull
// with, values that are generated once, and those a spec asks for from the
// environment or from files.
//
// A value goes into its Secret and nowhere else: errors and notices name the
// variable, the file and the key, never what was read. What a Secret in the
// cluster holds already is kept: nothing is made anew unless somebody removed
// it.
package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
	"homelab/pkg/transport"
)

// Source is where values come from on this machine.
type Source struct {
	Env  func(name string) (string, bool)
	Read func(path string) ([]byte, fs.FileMode, error)
	Home string    // what "~" stands for
	Rand io.Reader // of generated values
}

// Secret is one that is in the cluster.
type Secret struct {
	Type string
	Data map[string][]byte
}

// Live is the Secrets of the namespace by name, as read in this run.
type Live map[string]Secret

// Result is the Secrets that should be there.
type Result struct {
	Objects    []*unstructured.Unstructured // to apply; those that stay as they are with what they hold
	PullSecret string                       // what pods pull with; "" none
	Tokens     []transport.Secret           // for the redactor
	Notices    []file.Notice
}

// Names of the Secrets of deployment id.
func registryName(id string) string { return id + "-registry" }
func pullName(id string) string     { return id + "-image-pull-secret" }

// GeneratedName returns the name of the Secret of deployment id whose values
// are made once and outlive it.
func GeneratedName(id string) string { return id + "-generated-secrets" }

// PullSecret returns the name of the Secret that pods of d pull with; "" when
// its spec asks for none.
func PullSecret(d *file.Directory) string {
	switch {
	case d.Spec.RegistryCredentials != nil:
		return registryName(d.Deployment.ID)
	case d.Spec.ImagePullSecret != nil:
		return pullName(d.Deployment.ID)
	}
	return ""
}

// Make returns the Secrets of d. A value that is needed and cannot be read is
// a *fault.Error of kind Denied that names secret, key and source, all of them
// at once; nothing is contacted.
func Make(d *file.Directory, src Source, live Live) (Result, error) {
	m := &maker{d: d, src: src, live: live}
	m.pull()
	m.generated()
	for _, s := range d.Spec.Secrets {
		m.asked(s)
	}
	if len(m.missing) > 0 {
		return Result{}, fault.New(fault.Denied, m.missing[0], m.next).
			Because(strings.Join(m.missing[1:], "; "))
	}
	if m.err != nil {
		return Result{}, m.err
	}
	return m.out, nil
}

type maker struct {
	d       *file.Directory
	src     Source
	live    Live
	out     Result
	missing []string // sentences
	next    string
	err     error
}

func (m *maker) miss(next, format string, args ...any) {
	if len(m.missing) == 0 {
		m.next = next
	}
	m.missing = append(m.missing, fmt.Sprintf(format, args...))
}

func (m *maker) notice(level file.Level, code string, pos file.Pos, key, format string, args ...any) {
	m.out.Notices = append(m.out.Notices, file.Notice{
		Code: code, Level: level, File: pos.File, Line: pos.Line, Key: key, Message: fmt.Sprintf(format, args...),
	})
}

// pull makes what pods pull with.
func (m *maker) pull() {
	r, key := m.d.Spec.RegistryCredentials, "registry-credentials"
	if r == nil {
		r, key = m.d.Spec.ImagePullSecret, "image-pull-secret"
	}
	if r == nil {
		return
	}
	name := PullSecret(m.d)
	m.out.PullSecret = name
	token, source, err := m.token(*r, key)
	switch {
	case err != nil:
		m.miss("", "secret %s: %s: %v", name, source, err)
		return
	case token.IsZero():
		if there, ok := m.live[name]; ok {
			m.notice(file.Info, "registry-secret-kept", r.Pos, key, "%s has no token: Secret %s stays as it is", source, name)
			m.add(name, corev1.SecretType(there.Type), there.Data, true)
			return
		}
		m.miss("", "no token for the registry %s: %s is not set, and the namespace has no Secret %s", r.Server, source, name)
		return
	}
	m.out.Tokens = append(m.out.Tokens, token)
	raw, err := dockerConfig(r.Server, r.Username, token.Reveal())
	if err != nil {
		m.err = fmt.Errorf("secret %s: %w", name, err)
		return
	}
	m.add(name, corev1.SecretTypeDockerConfigJson, map[string][]byte{corev1.DockerConfigJsonKey: raw}, true)
}

// token reads the token of r; zero when its variable is unset or its file
// empty. A file wins over a variable.
func (m *maker) token(r file.Registry, key string) (transport.Secret, string, error) {
	if r.TokenFile == "" {
		source := "the variable " + r.TokenEnv
		v, _ := m.src.Env(r.TokenEnv)
		if strings.TrimSpace(v) == "" {
			return transport.Secret{}, source, nil
		}
		s, err := transport.NewSecret(v)
		return s, source, err
	}
	source := "the file " + r.TokenFile
	raw, mode, err := m.src.Read(m.path(r.TokenFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return transport.Secret{}, source, nil
	case err != nil:
		return transport.Secret{}, source, reason(err)
	}
	if mode.Perm()&0o077 != 0 {
		m.notice(file.Warning, "token-file-readable", r.Pos, key, "%s can be read by others: chmod 600 it", source)
	}
	if len(strings.TrimSpace(string(raw))) == 0 {
		return transport.Secret{}, source, nil
	}
	s, err := transport.NewSecret(string(raw))
	return s, source, err
}

// dockerConfig returns the content of a kubernetes.io/dockerconfigjson Secret.
func dockerConfig(server, username, token string) ([]byte, error) {
	type login struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Auth     string `json:"auth"`
	}
	l := login{username, token, base64.StdEncoding.EncodeToString([]byte(username + ":" + token))}
	auths := map[string]login{server: l}
	if server == "docker.io" {
		// The kubelet finds Docker Hub's images under its old address.
		auths["https://index.docker.io/v1/"] = l
	}
	return json.Marshal(map[string]any{"auths": auths})
}

// generated makes the values that have none yet. Those that exist stay, also
// when the spec has dropped them.
func (m *maker) generated() {
	if len(m.d.Spec.Generated) == 0 {
		return
	}
	name := GeneratedName(m.d.Deployment.ID)
	data := map[string][]byte{}
	inherited := m.live[m.d.Stack.Name+"-generated-secrets"].Data
	maps.Copy(data, m.live[name].Data)
	fresh := false
	for _, g := range m.d.Spec.Generated {
		if _, there := data[g.Name]; there {
			continue
		}
		fresh = true
		if v, there := inherited[g.Name]; there {
			data[g.Name] = v
			continue
		}
		v, err := generate(m.src.Rand, g)
		if err != nil {
			m.err = fmt.Errorf("secret %s: %s: %w", name, g.Name, err)
			return
		}
		data[g.Name] = v
	}
	if !fresh {
		return // it is data: nothing is written that need not be
	}
	m.add(name, corev1.SecretTypeOpaque, data, false)
}

// generate returns one new value: as text, for it becomes an environment
// variable.
func generate(random io.Reader, g file.Generated) ([]byte, error) {
	raw := make([]byte, g.N)
	if _, err := io.ReadFull(random, raw); err != nil {
		return nil, err
	}
	if g.Form == "base64" {
		return []byte(base64.StdEncoding.EncodeToString(raw)), nil
	}
	return []byte(hex.EncodeToString(raw)), nil
}

// asked makes or looks for one entry of secrets.
func (m *maker) asked(s file.Secret) {
	if len(s.Keys) == 0 {
		m.referred(s)
		return
	}
	data := map[string][]byte{}
	for _, k := range s.Keys {
		v, why := m.value(k)
		switch {
		case why == "":
			data[k.Name] = v
		case !k.Optional:
			m.miss("", "secret %s, key %s: %s", s.Name, k.Name, why)
		}
	}
	if len(data) > 0 {
		m.add(s.Name, corev1.SecretTypeOpaque, data, true)
	}
}

// value reads one key; why is what is wrong, "" when nothing is.
func (m *maker) value(k file.SecretKey) (v []byte, why string) {
	if k.File == "" {
		text, _ := m.src.Env(k.Env)
		if text == "" {
			return nil, "the variable " + k.Env + " is not set or empty"
		}
		return []byte(text), ""
	}
	raw, _, err := m.src.Read(m.path(k.File))
	if err != nil {
		return nil, "the file " + k.File + " cannot be read: " + reason(err).Error()
	}
	return raw, ""
}

// referred warns of a Secret that pods will look for in vain.
func (m *maker) referred(s file.Secret) {
	there, ok := m.live[s.Name]
	if !ok {
		m.notice(file.Warning, "secret-missing", s.Pos, "secrets."+s.Name, "Secret %s is not in the namespace: its variables will be unset", s.Name)
		return
	}
	var lost []string
	for _, key := range s.Refs {
		if _, ok := there.Data[key]; !ok {
			lost = append(lost, key)
		}
	}
	if len(lost) > 0 {
		m.notice(file.Warning, "secret-key-missing", s.Pos, "secrets."+s.Name, "Secret %s has no key %s", s.Name, strings.Join(lost, ", "))
	}
}

// add appends one Secret. Labelled ones belong to the running deployment and
// go with it; the others are data.
func (m *maker) add(name string, kind corev1.SecretType, data map[string][]byte, labelled bool) {
	labels := map[string]any{"app.kubernetes.io/managed-by": "homelab"}
	if labelled {
		labels["app"] = m.d.Deployment.ID
		labels["app.kubernetes.io/stack"] = m.d.Stack.Name
	}
	encoded := map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		encoded[k] = base64.StdEncoding.EncodeToString(data[k])
	}
	m.out.Objects = append(m.out.Objects, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": name, "namespace": m.d.Namespace(), "labels": labels},
		"type":     string(kind),
		"data":     encoded,
	}})
}

// path resolves "~" and what is relative to the deployment directory.
func (m *maker) path(p string) string {
	if p == "~" || strings.HasPrefix(p, "~/") {
		return filepath.Join(m.src.Home, p[1:])
	}
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(m.d.Path, p)
}

// reason returns what is wrong with a file, without its path: the caller names it.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

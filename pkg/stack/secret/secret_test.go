package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"homelab/pkg/fault"
	"homelab/pkg/stack/file"
)

type known struct {
	raw  string
	mode fs.FileMode
}

// from returns a source of these variables and files.
func from(env map[string]string, files map[string]known) Source {
	return Source{
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		Read: func(path string) ([]byte, fs.FileMode, error) {
			f, ok := files[path]
			if !ok {
				return nil, 0, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return []byte(f.raw), f.mode, nil
		},
		Home: "/home/anna",
		Rand: bytes.NewReader(bytes.Repeat([]byte{0xab}, 64)),
	}
}

func directory(s file.Spec) *file.Directory {
	s.Namespace = "shop"
	return &file.Directory{
		Path: "/srv/d", Spec: &s, Stack: &file.Stack{Name: "web"}, Deployment: file.Deployment{ID: "laconic-x1"},
	}
}

// data returns the decoded data of the Secret called name.
func data(t *testing.T, r Result, name string) map[string]string {
	t.Helper()
	for _, o := range r.Objects {
		if o.GetName() != name {
			continue
		}
		out := map[string]string{}
		for k, v := range o.Object["data"].(map[string]any) {
			raw, err := base64.StdEncoding.DecodeString(v.(string))
			if err != nil {
				t.Fatalf("%s %s: %v", name, k, err)
			}
			out[k] = string(raw)
		}
		return out
	}
	return nil
}

func codes(r Result) (out []string) {
	for _, n := range r.Notices {
		out = append(out, string(n.Level)+" "+n.Code)
	}
	return out
}

func TestPull(t *testing.T) {
	const tok = "ghp_canary"
	reg := file.Registry{Server: "ghcr.io", Username: "anna", TokenEnv: "TOK"}
	raw, err := dockerConfig("ghcr.io", "anna", tok)
	if err != nil {
		t.Fatal(err)
	}
	kept := Secret{Type: "kubernetes.io/dockerconfigjson", Data: map[string][]byte{".dockerconfigjson": raw}}
	withFile := file.Registry{Server: "ghcr.io", Username: "anna", TokenEnv: "TOK", TokenFile: "~/tok"}
	tests := []struct {
		name    string
		spec    file.Spec
		env     map[string]string
		files   map[string]known
		live    Live
		secret  string // the pull secret
		made    bool
		notices []string
		err     string
	}{
		{name: "none asked for"},
		{name: "from the variable", spec: file.Spec{RegistryCredentials: &reg}, env: map[string]string{"TOK": " " + tok + "\n"}, secret: "laconic-x1-registry", made: true},
		{name: "image-pull-secret", spec: file.Spec{ImagePullSecret: &reg}, env: map[string]string{"TOK": tok}, secret: "laconic-x1-image-pull-secret", made: true},
		{name: "both: one is enough", spec: file.Spec{ImagePullSecret: &reg, RegistryCredentials: &reg}, env: map[string]string{"TOK": tok}, secret: "laconic-x1-registry", made: true},
		{name: "the file wins", spec: file.Spec{RegistryCredentials: &withFile}, env: map[string]string{"TOK": "other"}, files: map[string]known{"/home/anna/tok": {tok + "\n", 0o600}}, secret: "laconic-x1-registry", made: true},
		{name: "others can read the file", spec: file.Spec{RegistryCredentials: &withFile}, files: map[string]known{"/home/anna/tok": {tok, 0o640}}, secret: "laconic-x1-registry", made: true, notices: []string{"warning token-file-readable"}},
		{name: "no token, a Secret is there", spec: file.Spec{RegistryCredentials: &reg}, live: Live{"laconic-x1-registry": kept}, secret: "laconic-x1-registry", made: true, notices: []string{"info registry-secret-kept"}},
		{name: "no token, no Secret", spec: file.Spec{RegistryCredentials: &reg}, err: "no token for the registry ghcr.io: the variable TOK is not set"},
		{name: "the file is missing", spec: file.Spec{RegistryCredentials: &withFile}, env: map[string]string{"TOK": tok}, err: "the file ~/tok is not set"},
		{name: "blank inside", spec: file.Spec{RegistryCredentials: &reg}, env: map[string]string{"TOK": "a b"}, err: "the variable TOK: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Make(directory(tt.spec), from(tt.env, tt.files), tt.live)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || fault.KindOf(err) != fault.Denied {
					t.Fatalf("error %v, want one of kind denied with %q", err, tt.err)
				}
				if strings.Contains(err.Error(), tok) {
					t.Fatalf("the error shows the token: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.PullSecret != tt.secret {
				t.Errorf("pods pull with %q, want %q", r.PullSecret, tt.secret)
			}
			if diff := cmp.Diff(tt.notices, codes(r)); diff != "" {
				t.Errorf("notices (-want +got):\n%s", diff)
			}
			got := data(t, r, tt.secret)
			if (got != nil) != tt.made {
				t.Fatalf("made: %v, want %v", got != nil, tt.made)
			}
			if !tt.made {
				return
			}
			var cfg struct {
				Auths map[string]struct{ Username, Password, Auth string }
			}
			if err := json.Unmarshal([]byte(got[".dockerconfigjson"]), &cfg); err != nil {
				t.Fatal(err)
			}
			a := cfg.Auths["ghcr.io"]
			if a.Username != "anna" || a.Password != tok || a.Auth != base64.StdEncoding.EncodeToString([]byte("anna:"+tok)) {
				t.Errorf("auths: %+v", cfg.Auths)
			}
			for _, o := range r.Objects {
				if o.GetLabels()["app"] != "laconic-x1" || o.Object["type"] != "kubernetes.io/dockerconfigjson" || o.GetNamespace() != "shop" {
					t.Errorf("labels %v, type %v, namespace %s", o.GetLabels(), o.Object["type"], o.GetNamespace())
				}
			}
		})
	}
}

func TestDockerHubHasTwoNames(t *testing.T) {
	raw, err := dockerConfig("docker.io", "anna", "t")
	if err != nil || !strings.Contains(string(raw), `"https://index.docker.io/v1/"`) || !strings.Contains(string(raw), `"docker.io"`) {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestGeneratedIsMadeOnce(t *testing.T) {
	spec := file.Spec{Generated: []file.Generated{{Name: "A", Form: "hex", N: 2}, {Name: "B", Form: "base64", N: 3}}}
	const name = "laconic-x1-generated-secrets"
	tests := []struct {
		name string
		live Live
		want map[string]string // nil: nothing is written
	}{
		{"first start", nil, map[string]string{"A": "abab", "B": "q6ur"}},
		{"again", Live{name: {Data: map[string][]byte{"A": []byte("1"), "B": []byte("2")}}}, nil},
		{"a key was added", Live{name: {Data: map[string][]byte{"A": []byte("1")}}}, map[string]string{"A": "1", "B": "q6ur"}},
		{"a dropped key stays", Live{name: {Data: map[string][]byte{"A": []byte("1"), "OLD": []byte("o")}}}, map[string]string{"A": "1", "B": "q6ur", "OLD": "o"}},
		{"the older name's are taken over", Live{"web-generated-secrets": {Data: map[string][]byte{"A": []byte("9")}}}, map[string]string{"A": "9", "B": "q6ur"}},
		{"ours win over the older name's", Live{name: {Data: map[string][]byte{"A": []byte("1")}}, "web-generated-secrets": {Data: map[string][]byte{"A": []byte("9")}}}, map[string]string{"A": "1", "B": "q6ur"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Make(directory(spec), from(nil, nil), tt.live)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, data(t, r, name)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, o := range r.Objects {
				if _, ok := o.GetLabels()["app"]; ok {
					t.Error("it has the label that stop deletes by")
				}
			}
		})
	}
}

func TestAsked(t *testing.T) {
	keys := func(k ...file.SecretKey) file.Spec { return file.Spec{Secrets: []file.Secret{{Name: "s", Keys: k}}} }
	env, files := map[string]string{"X": "one", "EMPTY": ""}, map[string]known{"/srv/d/f": {"two\n", 0o600}}
	tests := []struct {
		name    string
		spec    file.Spec
		live    Live
		want    map[string]string
		notices []string
		err     []string
	}{
		{name: "from both", spec: keys(file.SecretKey{Name: "A", Env: "X"}, file.SecretKey{Name: "B", File: "f"}), want: map[string]string{"A": "one", "B": "two\n"}},
		{name: "an optional one is left out", spec: keys(file.SecretKey{Name: "A", Env: "X"}, file.SecretKey{Name: "B", Env: "NONE", Optional: true}), want: map[string]string{"A": "one"}},
		{name: "none left: no Secret", spec: keys(file.SecretKey{Name: "B", Env: "NONE", Optional: true})},
		{name: "all that is missing at once", spec: keys(file.SecretKey{Name: "A", Env: "EMPTY"}, file.SecretKey{Name: "B", File: "gone"}), err: []string{
			"secret s, key A: the variable EMPTY is not set or empty", "secret s, key B: the file gone cannot be read: file does not exist",
		}},
		{name: "a reference that is there", spec: file.Spec{Secrets: []file.Secret{{Name: "s", Refs: []string{"K"}}}}, live: Live{"s": {Data: map[string][]byte{"K": nil}}}},
		{name: "a reference without its key", spec: file.Spec{Secrets: []file.Secret{{Name: "s", Refs: []string{"K"}}}}, live: Live{"s": {}}, notices: []string{"warning secret-key-missing"}},
		{name: "a reference to nothing", spec: file.Spec{Secrets: []file.Secret{{Name: "s"}}}, notices: []string{"warning secret-missing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Make(directory(tt.spec), from(env, files), tt.live)
			if len(tt.err) > 0 {
				if err == nil || fault.KindOf(err) != fault.Denied {
					t.Fatalf("error %v, want one of kind denied", err)
				}
				e := err.(*fault.Error) //nolint:errorlint // Make documents its type
				for _, part := range tt.err {
					if !strings.Contains(e.What+" "+e.Why, part) {
						t.Errorf("%s %s: does not say %q", e.What, e.Why, part)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, data(t, r, "s")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.notices, codes(r)); diff != "" {
				t.Errorf("notices (-want +got):\n%s", diff)
			}
		})
	}
}

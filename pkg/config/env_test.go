package config

import (
	"net/url"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFromOS(t *testing.T) {
	t.Setenv("WOODPECKER_TOKEN", "tok")
	t.Setenv("HOMELAB_TEST_EMPTY", "")
	e := FromOS()
	if v, ok := e.Lookup("WOODPECKER_TOKEN"); !ok || v != "tok" {
		t.Errorf("token: %q %v", v, ok)
	}
	if _, ok := e.Lookup("HOMELAB_TEST_EMPTY"); ok {
		t.Error("an empty variable counts as set")
	}
	if !slices.Contains(e.Child(), "HOMELAB_TEST_EMPTY=") || slices.Contains(e.Child(), "WOODPECKER_TOKEN=tok") {
		t.Errorf("child: %v", e.Child())
	}
}

func TestChildHasNoTokens(t *testing.T) {
	e := fromList([]string{
		"PATH=/bin", "WOODPECKER_TOKEN=a", "VAULT_TOKEN=b", "FORGEJO_TOKEN=c", "GITEA_TOKEN=d", "GITHUB_TOKEN=e", "GH_TOKEN=f",
		"WOODPECKER_SERVER=https://a", "GIT_ASKPASS=x", "EMPTY=", "A=b=c", "PATH2=/bin",
	})
	want := []string{"PATH=/bin", "WOODPECKER_SERVER=https://a", "GIT_ASKPASS=x", "EMPTY=", "A=b=c", "PATH2=/bin"}
	if diff := cmp.Diff(want, e.Child()); diff != "" {
		t.Error(diff)
	}
}

func TestDirectories(t *testing.T) {
	tests := []struct {
		env           map[string]string
		config, cache string
	}{
		{map[string]string{"HOME": "/h"}, "/h/.config", "/h/.cache"},
		{map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/x", "XDG_CACHE_HOME": "/y"}, "/x", "/y"},
		{map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "x", "XDG_CACHE_HOME": ""}, "/h/.config", "/h/.cache"},
		{map[string]string{"XDG_CONFIG_HOME": "/x"}, "/x", ""},
		{nil, "", ""},
	}
	for _, tt := range tests {
		e := FromMap(tt.env)
		if e.ConfigHome() != tt.config || e.CacheHome() != tt.cache {
			t.Errorf("%v: %q, %q", tt.env, e.ConfigHome(), e.CacheHome())
		}
	}
}

func TestTerminalVariables(t *testing.T) {
	tests := []struct {
		env               map[string]string
		noColor, dumb, ci bool
	}{
		{nil, false, false, false},
		{map[string]string{"NO_COLOR": "1", "TERM": "dumb", "CI": "true"}, true, true, true},
		{map[string]string{"NO_COLOR": "", "TERM": "xterm", "CI": ""}, false, false, false},
		{map[string]string{"NO_COLOR": "0", "CI": "woodpecker"}, true, false, true},
		{map[string]string{"CI": "FALSE"}, false, false, false},
		{map[string]string{"CI": "0"}, false, false, false},
	}
	for _, tt := range tests {
		e := FromMap(tt.env)
		if e.NoColor() != tt.noColor || e.DumbTerminal() != tt.dumb || e.CI() != tt.ci {
			t.Errorf("%v: %v %v %v", tt.env, e.NoColor(), e.DumbTerminal(), e.CI())
		}
	}
}

func TestProxy(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		url  string
		want string // "" none, "error" refused
	}{
		{"none", nil, "https://ci.example.lan", ""},
		{"https", map[string]string{"HTTPS_PROXY": "http://p:1"}, "https://ci.example.lan", "http://p:1"},
		{"https lower", map[string]string{"https_proxy": "http://p:1"}, "https://ci.example.lan", "http://p:1"},
		{"http lower", map[string]string{"http_proxy": "p:1"}, "http://ci.example.lan", "http://p:1"},
		{"http upper", map[string]string{"HTTP_PROXY": "p:1"}, "http://ci.example.lan", "http://p:1"},
		{"lower wins", map[string]string{"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, "https://ci.example.lan", "http://low:1"},
		{"empty lower does not", map[string]string{"https_proxy": "", "HTTPS_PROXY": "http://up:1"}, "https://ci.example.lan", "http://up:1"},
		{"other scheme", map[string]string{"HTTP_PROXY": "http://p:1"}, "https://ci.example.lan", ""},
		{"no_proxy", map[string]string{"HTTPS_PROXY": "http://p:1", "no_proxy": "example.lan"}, "https://ci.example.lan", ""},
		{"NO_PROXY", map[string]string{"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example.lan"}, "https://ci.example.lan", ""},
		{"NO_PROXY other", map[string]string{"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.lan"}, "https://ci.example.lan", "http://p:1"},
		{"NO_PROXY cidr", map[string]string{"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3", ""},
		{"NO_PROXY port", map[string]string{"HTTPS_PROXY": "http://p:1", "NO_PROXY": "ci.example.lan:8443"}, "https://ci.example.lan", "http://p:1"},
		{"NO_PROXY all", map[string]string{"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://ci.example.lan", ""},
		{"loopback", map[string]string{"HTTPS_PROXY": "http://p:1"}, "https://127.0.0.1:8443", ""},
		{"localhost", map[string]string{"HTTP_PROXY": "http://p:1"}, "http://localhost", ""},
		{"cgi", map[string]string{"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, "http://ci.example.lan", "error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The process's own variables must not matter.
			t.Setenv("HTTPS_PROXY", "http://process:1")
			t.Setenv("HTTP_PROXY", "http://process:1")
			t.Setenv("https_proxy", "http://process:1")
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			got, err := FromMap(tt.env).Proxy()(u)
			switch {
			case tt.want == "error":
				if err == nil {
					t.Errorf("got %v", got)
				}
			case err != nil:
				t.Error(err)
			case tt.want == "" && got != nil, tt.want != "" && (got == nil || got.String() != tt.want):
				t.Errorf("got %v, want %q", got, tt.want)
			}
		})
	}
}

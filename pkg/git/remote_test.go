package git

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode"
)

func TestParseRemote(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Remote
	}{
		{"https://git.example.lan/acme/site", Remote{"https", "git.example.lan", 0, "acme/site"}},
		{"https://git.example.lan/acme/site.git", Remote{"https", "git.example.lan", 0, "acme/site"}},
		{"https://git.example.lan/acme/site.git/", Remote{"https", "git.example.lan", 0, "acme/site"}},
		{"https://git.example.lan/acme/site///", Remote{"https", "git.example.lan", 0, "acme/site"}},
		{"HTTPS://Git.Example.LAN./acme/Site", Remote{"https", "git.example.lan", 0, "acme/Site"}},
		{"https://anna:s3cret@git.example.lan:3000/acme/site", Remote{"https", "git.example.lan", 3000, "acme/site"}},
		{"https://anna:s3@cret@git.example.lan/acme/site", Remote{"https", "git.example.lan", 0, "acme/site"}},
		{"https://git.example.lan:443/acme/site", Remote{"https", "git.example.lan", 0, "acme/site"}},
		{"https://git.example.lan:/acme/site", Remote{"https", "git.example.lan", 0, "acme/site"}},
		{"https://git.example.lan:22/acme/site", Remote{"https", "git.example.lan", 22, "acme/site"}},
		{"http://10.0.20.203:3000/acme/site", Remote{"http", "10.0.20.203", 3000, "acme/site"}},
		{"https://git.example.lan/a/b/c/d/site", Remote{"https", "git.example.lan", 0, "a/b/c/d/site"}},
		{"https://[fd00::5]/acme/site", Remote{"https", "fd00::5", 0, "acme/site"}},
		{"https://u@[FD00:0::5]:8443/acme/site", Remote{"https", "fd00::5", 8443, "acme/site"}},
		{"ssh://git@[fe80::1%25eth0]:2222/acme/site", Remote{"ssh", "fe80::1%eth0", 2222, "acme/site"}},
		{"ssh://git@git.example.lan:2222/acme/site.git", Remote{"ssh", "git.example.lan", 2222, "acme/site"}},
		{"ssh://git.example.lan:22/acme/site", Remote{"ssh", "git.example.lan", 0, "acme/site"}},
		{"git+ssh://git@git.example.lan/acme/site", Remote{"ssh", "git.example.lan", 0, "acme/site"}},
		{"git://git.example.lan/acme/site", Remote{"git", "git.example.lan", 0, "acme/site"}},
		{"git@git.example.lan:acme/site.git", Remote{"ssh", "git.example.lan", 0, "acme/site"}},
		{"git@git.example.lan:/acme/site.git", Remote{"ssh", "git.example.lan", 0, "acme/site"}},
		{"lab:acme/site", Remote{"ssh", "lab", 0, "acme/site"}},
		{"my_lab:group/sub/site", Remote{"ssh", "my_lab", 0, "group/sub/site"}},
		{"g:acme/site", Remote{"ssh", "g", 0, "acme/site"}},
		{"git@git.sr.ht:~anna/site", Remote{"ssh", "git.sr.ht", 0, "~anna/site"}},
		{"git@[fd00::5]:acme/site", Remote{"ssh", "fd00::5", 0, "acme/site"}},
		{"[fd00::5]:acme/site", Remote{"ssh", "fd00::5", 0, "acme/site"}},
		{"[git@git.example.lan:2222]:acme/site", Remote{"ssh", "git.example.lan", 2222, "acme/site"}},
		{"git@[git.example.lan:2222]:acme/site", Remote{"ssh", "git.example.lan", 2222, "acme/site"}},
		// Escapes are decoded once, and only once.
		{"https://git.example.lan/acme/my%20site", Remote{"https", "git.example.lan", 0, "acme/my site"}},
		{"https://git.example.lan/acme/a%252Fb", Remote{"https", "git.example.lan", 0, "acme/a%2Fb"}},
		{"https://git.example.lan/acme/site%2Egit", Remote{"https", "git.example.lan", 0, "acme/site"}},
		{"https://git.example.lan/acme/site.git.git", Remote{"https", "git.example.lan", 0, "acme/site.git"}},
		{"https://bücher.example/acme/site", Remote{"https", "xn--bcher-kva.example", 0, "acme/site"}},
	} {
		got, err := ParseRemote(tc.in)
		if err != nil || got != tc.want {
			t.Errorf("ParseRemote(%q) = %+v, %v; want %+v", tc.in, got, err, tc.want)
		}
	}
}

func TestParseRemoteRefuses(t *testing.T) {
	for in, why := range map[string]string{
		"":                                         "empty",
		"/srv/git/acme/site.git":                   "local path",
		"../site":                                  "local path",
		"./acme:site":                              "local path",
		"acme/site":                                "local path",
		"~/git/site:x/y":                           "local path",
		"origin":                                   "local path",
		"C:/repos/site":                            "local path",
		`C:\repos\site`:                            "backslash",
		"file:///srv/git/acme/site":                "local path",
		"file://host/srv/git/site":                 "local path",
		"ftp://git.example.lan/acme/site":          "only https",
		"ext::sh -c x/y":                           "helpers",
		"git.example.lan::acme/site":               "helpers",
		"https:///acme/site":                       "no host",
		"https://git.example.lan":                  "segment",
		"https://git.example.lan/":                 "segment",
		"https://git.example.lan/site":             "OWNER/NAME",
		"https://git.example.lan/acme/../x":        "segment",
		"https://git.example.lan/acme/./x":         "segment",
		"https://git.example.lan/acme/%2e%2E":      "segment",
		"https://git.example.lan//acme/x":          "segment",
		"https://git.example.lan/acme//x":          "segment",
		"https://git.example.lan/acme/.git":        "segment",
		"https://git.example.lan/acme/x/.git":      "segment",
		"https://git.example.lan/a%2Fb/x":          "slash",
		"https://git.example.lan/a/x%5Cy":          "slash",
		"https://git.example.lan/a/x%00":           "control",
		"https://git.example.lan/a/x%0Ay":          "control",
		"https://git.example.lan/a/x%zz":           "escape",
		"https://git.example.lan/a/x?y=z":          "query",
		"https://git.example.lan/a/x#y":            "query",
		"https://git.example.lan:0/a/x":            "no port",
		"https://git.example.lan:70000/a/x":        "no port",
		"ssh://git@git.example.lan:acme/site":      "host:owner/name",
		"https://[fd00::5/a/x":                     "brackets",
		"https://[fd00::5]x/a/x":                   "brackets",
		"https://[10.0.0.1]/a/x":                   "IPv6",
		"https://[fe80::1%25a b]/a/x":              "IPv6",
		"https://git example/a/x":                  "no valid name",
		"https://-oProxyCommand=x/a/x":             "no valid name",
		"git@-oProxyCommand=x:a/x":                 "no valid name",
		"https://git..example/a/x":                 "no valid name",
		"https://a%2eb/a/x":                        "no valid name",
		"git@git.example.lan:~/site":               "home",
		"git@git.example.lan:site":                 "OWNER/NAME",
		"git@git.example.lan:":                     "segment",
		"https://git.example.lan/a/x\n":            "control",
		"https://git.example.lan/a/\xff":           "control",
		"https://h/a/" + strings.Repeat("x", 5000): "too long",
	} {
		got, err := ParseRemote(in)
		var refused *RemoteError
		if !errors.As(err, &refused) {
			t.Errorf("ParseRemote(%.60q) = %+v, %v; want a refusal", in, got, err)
			continue
		}
		if !strings.Contains(refused.Why, why) {
			t.Errorf("ParseRemote(%.60q): %q; want %q in it", in, refused.Why, why)
		}
	}
}

// A password must not get out, however broken the URL around it is.
func TestParseRemoteHidesPasswords(t *testing.T) {
	for _, in := range []string{
		"https://anna:s3cret@git.example.lan/x",
		"https://anna:s3cret@git.example.lan/acme//x",
		"https://anna:s3cret/more@git.example.lan/acme/x",
		"https://anna:s3cret@",
		"ftp://anna:s3cret@git.example.lan/acme/x",
		"anna:s3cret@git.example.lan:acme/x",
		"anna:s3cret@git.example.lan/acme/x",
		"https://anna:s3cret?@git.example.lan/acme/x",
	} {
		r, err := ParseRemote(in)
		if err == nil {
			t.Errorf("ParseRemote(%q) = %+v; want a refusal", in, r)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("ParseRemote(%q): the error shows the password: %v", in, err)
		}
	}
}

func TestRemoteWords(t *testing.T) {
	r := Remote{Scheme: "https", Host: "fd00::5", Port: 8443, Path: "acme/my site"}
	if got := r.EscapedPath(); got != "acme/my%20site" {
		t.Errorf("EscapedPath() = %q", got)
	}
	if got := r.String(); got != "[fd00::5]:8443/acme/my site" {
		t.Errorf("String() = %q", got)
	}
}

func FuzzParseRemote(f *testing.F) {
	for _, seed := range []string{
		"https://u:p@git.example.lan:8443/acme/site.git/", "git@git.example.lan:acme/site", "[fd00::5]:a/b",
		"ssh://[fe80::1%25eth0]:22/a/b", "https://h/a/%2e%2e", "C:/a/b", "x::y", "https://h/a%252fb/c",
		"git@[h:22]:/a/b.git.git", "https://bücher.example/ä/ö",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > maxRemote/4 {
			return // escaped, it could not be read again
		}
		r, err := ParseRemote(in)
		if err != nil {
			if r != (Remote{}) {
				t.Fatalf("an error beside %+v", r)
			}
			return
		}
		if r.Host == "" || strings.ContainsAny(r.Host, "@/[] ") || r.Host != strings.ToLower(r.Host) {
			t.Fatalf("host %q", r.Host)
		}
		if strings.ContainsFunc(r.Path, unicode.IsControl) || !strings.Contains(r.Path, "/") {
			t.Fatalf("path %q", r.Path)
		}
		for s := range strings.SplitSeq(r.Path, "/") {
			if s == "" || s == "." || s == ".." {
				t.Fatalf("segment %q in %q", s, r.Path)
			}
		}
		// What was read names the same repository again, and a client that
		// puts the path into a URL sends what was meant.
		host := r.Host
		if strings.Contains(host, ":") {
			host = "[" + strings.Replace(host, "%", "%25", 1) + "]"
		}
		again, err := ParseRemote(r.Scheme + "://" + host + "/" + r.EscapedPath() + ".git")
		if err != nil || again.Host != r.Host || again.Path != r.Path {
			t.Fatalf("%+v, read again: %+v, %v", r, again, err)
		}
		u, err := url.Parse("https://h/" + r.EscapedPath())
		if err != nil || u.Path != "/"+r.Path {
			t.Fatalf("%q escaped is %q (%v)", r.Path, r.EscapedPath(), err)
		}
	})
}

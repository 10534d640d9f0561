package compose

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"homelab/pkg/transport"
)

// hub is what docker calls the registry of images without a host.
const hub = "https://index.docker.io/v1/"

// Login makes a DOCKER_CONFIG of its own, only this user's to read, that adds
// one registry's credentials to the user's own configuration; the returned
// func removes it. The user's contexts and plugins are found from there as well.
func Login(user, server, username string, token transport.Secret) (dir string, remove func(), err error) {
	config := map[string]any{}
	if raw, err := os.ReadFile(filepath.Join(user, "config.json")); err == nil { //nolint:gosec // docker's own
		_ = json.Unmarshal(raw, &config)
	}
	merge(config, server, username, token)
	raw, err := json.Marshal(config)
	if err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp("", "homelab-docker-") // 0700
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	for _, name := range []string{"contexts", "cli-plugins", "tls"} {
		if _, err := os.Stat(filepath.Join(user, name)); err != nil {
			continue
		}
		if err := os.Symlink(filepath.Join(user, name), filepath.Join(dir, name)); err != nil {
			remove()
			return "", nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

// merge puts a login into docker's configuration. A credential store would be
// asked instead of the file: it stays for the registries it is known to hold.
func merge(config map[string]any, server, username string, token transport.Secret) {
	host := server
	if server == "docker.io" {
		host = hub
	}
	section := func(key string) map[string]any {
		m, ok := config[key].(map[string]any)
		if !ok {
			m = map[string]any{}
		}
		return m
	}
	auths, helpers := section("auths"), section("credHelpers")
	if store, ok := config["credsStore"].(string); ok && store != "" {
		for other := range auths {
			if _, has := helpers[other]; !has {
				helpers[other] = store
			}
		}
		delete(config, "credsStore")
	}
	delete(helpers, host)
	delete(helpers, server)
	auths[host] = map[string]any{"auth": base64.StdEncoding.EncodeToString([]byte(username + ":" + token.Reveal()))}
	config["auths"] = auths
	if len(helpers) > 0 {
		config["credHelpers"] = helpers
	}
}

// From tells whether an image is of a registry.
func From(image, server string) bool {
	host, _, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host = "docker.io"
	}
	server, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://"), "/")
	if server == "index.docker.io" {
		server = "docker.io"
	}
	return host == server
}

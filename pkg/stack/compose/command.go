package compose

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Call is where the files of one command lie.
type Call struct {
	Project  *Project
	Files    []string // instead of the project's
	Override string   // "" none
	Env      []string // environment files; what is interpolated
	Config   string   // a DOCKER_CONFIG of its own; "" the user's
}

// base is what every command begins with.
func (c Call) base() []string {
	out := []string{"compose", "--ansi", "never"}
	files := c.Files
	if files == nil {
		files = c.Project.Files
	}
	for _, f := range files {
		out = append(out, "-f", f)
	}
	if c.Override != "" {
		out = append(out, "-f", c.Override)
	}
	out = append(out, "-p", c.Project.Name, "--project-directory", filepath.Join(c.Project.Dir, "compose"))
	env := c.Env
	if len(env) == 0 {
		env = []string{"/dev/null"} // without one compose takes a file nobody named
	}
	for _, f := range env {
		out = append(out, "--env-file", f)
	}
	return out
}

// bare addresses a project by its name alone, as its containers are labelled.
func bare(project string) []string { return []string{"compose", "--ansi", "never", "-p", project} }

// UpOptions are how a project is brought up.
type UpOptions struct {
	Wait     bool
	Left     time.Duration // how long it may be waited; 0: without end
	Services []string      // only these, without what they depend on; nil: all, and what is no service any more is removed
	Only     []string      // these, with what they depend on; nothing is removed then
	Recreate bool          // also what has not changed
}

// up is the command that brings a project up.
func (c Call) up(o UpOptions) []string {
	out := append(c.base(), "up", "-d")
	if c.Project.Pull != "" {
		out = append(out, "--pull", c.Project.Pull)
	}
	if o.Recreate {
		out = append(out, "--force-recreate")
	}
	if o.Services != nil {
		return append(append(out, "--no-deps"), o.Services...)
	}
	if len(o.Only) == 0 {
		out = append(out, "--remove-orphans")
	}
	if o.Wait {
		out = append(out, "--wait")
		if o.Left > 0 {
			out = append(out, "--wait-timeout", strconv.Itoa(int(max(1, math.Floor(o.Left.Seconds())))))
		}
	}
	return append(out, o.Only...)
}

// short is base, or the bare name of a project whose files do not render.
func (c Call) short() []string {
	if len(c.Project.Files) == 0 {
		return bare(c.Project.Name)
	}
	return c.base()
}

// down is the command that takes a project down.
func (c Call) down(volumes bool) []string {
	out := append(c.short(), "down", "--remove-orphans")
	if volumes {
		out = append(out, "--volumes")
	}
	return out
}

// LogOptions choose log lines.
type LogOptions struct {
	Services []string
	Tail     int    // lines of each container; negative: all
	Since    string // as docker reads it; "" all
	Follow   bool
	Bare     bool // without the names of containers
	Times    bool // each line begins with its time
}

func (c Call) logs(o LogOptions) []string {
	out := append(c.short(), "logs", "--no-color")
	if o.Tail >= 0 {
		out = append(out, "--tail", strconv.Itoa(o.Tail))
	}
	if o.Since != "" {
		out = append(out, "--since", o.Since)
	}
	if o.Follow {
		out = append(out, "--follow")
	}
	if o.Times {
		out = append(out, "--timestamps")
	}
	if o.Bare {
		out = append(out, "--no-log-prefix")
	}
	return append(out, o.Services...)
}

// Environment is what docker may see of an environment. A variable of the
// environment would win over one of the files: what the files set, and what
// steers compose, is not passed on.
func Environment(all []string, set map[string]bool) []string {
	known := []string{
		"PATH", "HOME", "USER", "TMPDIR", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK",
		"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
	}
	var out []string
	for _, kv := range all {
		key, _, _ := strings.Cut(kv, "=")
		needed := key == "PATH" || key == "HOME" || strings.HasPrefix(key, "DOCKER_")
		if slices.Contains(known, key) && (needed || !set[key]) {
			out = append(out, kv)
		}
	}
	return out
}

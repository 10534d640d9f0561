package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"homelab/pkg/fault"
)

// The files of a deployment directory.
const (
	specFile       = "spec.yml"
	deploymentFile = "deployment.yml"
	envFile        = "config.env"

	// StateDir holds what this program remembers of a directory.
	StateDir = ".homelab"
)

// IsDeployment says whether dir is a deployment directory.
func IsDeployment(dir string) bool {
	st, err := os.Stat(filepath.Join(dir, deploymentFile))
	return err == nil && st.Mode().IsRegular()
}

// Load reads and judges a deployment directory. Everything that is wrong with
// its files is reported at once, as *Problems; a directory without
// deployment.yml is a *fault.Error, Usage. The compose files are read, not
// judged.
func Load(dir string, env Env) (*Directory, []Notice, error) { return LoadAs(dir, dir, env) }

// LoadAs is Load of a directory that problems and notices call shown: one that
// is made beside the place it will have.
func LoadAs(dir, shown string, env Env) (*Directory, []Notice, error) {
	if !IsDeployment(dir) {
		return nil, nil, fault.Usagef("homelab deploy create --help", "%s is no deployment directory", shown).
			Because("there is no " + deploymentFile + " in it; --dir names another one")
	}
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, nil, fault.Usagef("", "%s cannot be read", shown).Because(err.Error()).From(err)
	}
	l := loader{dir: abs, shown: shown}
	d := &Directory{Path: abs}
	l.parse(deploymentFile, func(name string, data []byte) (n []Notice, err error) {
		d.Deployment, n, err = ParseDeployment(name, data)
		return n, err
	})
	l.parse(specFile, func(name string, data []byte) (n []Notice, err error) {
		d.Spec, n, err = ParseSpec(name, data)
		return n, err
	})
	l.parse(stackFile, func(name string, data []byte) (n []Notice, err error) {
		d.Stack, n, err = ParseStack(name, data)
		return n, err
	})
	if d.Spec != nil && d.Stack != nil {
		d.locate(env)
		l.errs = append(l.errs, Unsupported(d.Stack))
		l.compose(d)
		data, err := readFile(filepath.Join(abs, envFile))
		if err == nil {
			d.Env, err = ParseEnv(filepath.Join(shown, envFile), data, d.Spec.CredentialsFiles)
		} else if _, gone := os.Stat(filepath.Join(abs, envFile)); errors.Is(gone, fs.ErrNotExist) {
			err = nil
		}
		l.errs = append(l.errs, err)
	}
	state, err := ReadState(abs)
	d.Hashes = state.Hashes
	l.errs = append(l.errs, err)
	if err := Join(l.errs...); err != nil {
		return nil, l.notices, err
	}
	return d, l.notices, nil
}

type loader struct {
	dir, shown string
	notices    []Notice
	errs       []error
}

func (l *loader) parse(name string, parse func(string, []byte) ([]Notice, error)) {
	data, err := readFile(filepath.Join(l.dir, name))
	if err == nil {
		var n []Notice
		n, err = parse(filepath.Join(l.shown, name), data)
		l.notices = append(l.notices, n...)
	}
	l.errs = append(l.errs, err)
}

// compose reads the pod and job files in the stack's order.
func (l *loader) compose(d *Directory) {
	read := func(sub, name string) (Source, bool) {
		path := filepath.Join(l.dir, sub, "docker-compose-"+name+".yml")
		data, err := readFile(path)
		l.errs = append(l.errs, err)
		return Source{Name: name, Path: path, Raw: data}, err == nil
	}
	for _, p := range d.Stack.Pods {
		if s, ok := read("compose", p.Name); ok {
			d.Pods = append(d.Pods, s)
		}
	}
	for _, j := range d.Stack.Jobs {
		if s, ok := read("compose-jobs", j); ok {
			d.Jobs = append(d.Jobs, s)
		}
	}
}

// locate finds what the stack is called, and where it came from if that is
// still there.
func (d *Directory) locate(env Env) {
	source := d.Deployment.StackSource
	if source != "" && !filepath.IsAbs(source) {
		// Old files have a relative one: from the working directory, else from
		// the deployment.
		first := env.Path(source)
		if _, err := os.Stat(filepath.Join(first, stackFile)); err != nil {
			first = filepath.Join(d.Path, source)
		}
		source = first
	}
	d.Stack.Name = filepath.Base(filepath.Clean(d.Spec.Stack))
	if n := d.Stack.Name; (n == "." || n == ".." || n == "/") && source != "" {
		d.Stack.Name = filepath.Base(source)
	}
	if source == "" {
		return
	}
	if _, err := os.Stat(filepath.Join(source, stackFile)); err == nil {
		d.Stack.Dir, d.Stack.Root = source, rootOf(source)
	}
}

package render

import (
	"slices"

	compose "github.com/compose-spec/compose-go/v2/types"

	"homelab/pkg/stack/file"
)

// Summary is what compose files say, before there is a deployment.
type Summary struct {
	Services []ServiceSummary // of the pods, then of the jobs, in file order
	Volumes  []VolumeSummary  // declared at the top of a file, or used; each once
}

// ServiceSummary is one service of one file.
type ServiceSummary struct {
	File     string // the name of its pod or job
	Path     string // of the file
	Job      bool
	Name     string // as written
	Line     int
	Image    string
	Profiles []string
	Network  string   // network_mode; "" none
	Ports    []string // as written, variables too; the long form as a short one
	Volumes  []MountSummary
	Binds    []MountSummary
	EnvFiles []EnvFileSummary
	Files    []string // of secrets and configs the service uses, as written
	Extends  []string // files it extends services of, as written
}

// MountSummary is one entry of a service's volumes.
type MountSummary struct {
	Source   string // the volume's name, or the path as written
	Target   string
	ReadOnly bool
	RW       bool // the option rw stands there
	Line     int
}

// EnvFileSummary is one entry of env_file.
type EnvFileSummary struct {
	Path     string // as written
	Required bool
	Line     int
}

// VolumeSummary is a named volume.
type VolumeSummary struct {
	Name     string
	Path     string // the first file that has it
	Line     int
	Declared bool // at the top of some file
	Used     bool // by some service
	ReadOnly bool // every use is
}

// Inspect says what compose files hold, variables put in from env. A variable
// that is not set is empty; a required one is its name: nothing is deployed yet. Services
// of profiles are there. What cannot be read is a problem and left out.
func Inspect(pods, jobs []file.Source, env []file.EnvVar) (Summary, []Problem) {
	c := &collector{}
	l := newLoader(c, env, file.V2)
	l.look = true
	var out Summary
	for _, p := range l.files(pods, jobs) {
		for _, v := range p.volumes {
			o := out.volume(v, p.src.Path, p.lines["volumes."+v])
			o.Declared = true
		}
		for i := range p.services {
			out.service(&p, &p.services[i])
		}
	}
	return out, c.problems
}

// volume returns the entry of a volume, made if it is new.
func (s *Summary) volume(name, path string, line int) *VolumeSummary {
	i := slices.IndexFunc(s.Volumes, func(v VolumeSummary) bool { return v.Name == name })
	if i < 0 {
		i = len(s.Volumes)
		s.Volumes = append(s.Volumes, VolumeSummary{Name: name, Path: path, Line: line})
	}
	return &s.Volumes[i]
}

func (s *Summary) service(p *pod, from *service) {
	out := ServiceSummary{
		File: p.name, Path: p.src.Path, Job: p.job, Name: from.name, Line: from.line, Image: from.cfg.Image,
		Profiles: from.cfg.Profiles, Network: from.cfg.NetworkMode, Ports: from.ports,
	}
	for _, v := range from.cfg.Volumes {
		w := from.mounts[v.Target]
		m := MountSummary{Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly, RW: w.rw, Line: w.line}
		switch {
		case v.Type == compose.VolumeTypeBind:
			out.Binds = append(out.Binds, m)
		case v.Type == compose.VolumeTypeVolume && v.Source != "":
			out.Volumes = append(out.Volumes, m)
			o := s.volume(v.Source, p.src.Path, w.line)
			o.ReadOnly = v.ReadOnly && (o.ReadOnly || !o.Used)
			o.Used = true
		}
	}
	for _, f := range from.cfg.EnvFiles {
		out.EnvFiles = append(out.EnvFiles, EnvFileSummary{Path: f.Path, Required: bool(f.Required), Line: from.keys["env_file"]})
	}
	add := func(path string) {
		if path != "" && !slices.Contains(out.Files, path) {
			out.Files = append(out.Files, path)
		}
	}
	for _, ref := range from.cfg.Secrets {
		add(p.project.Secrets[ref.Source].File)
	}
	for _, ref := range from.cfg.Configs {
		add(p.project.Configs[ref.Source].File)
	}
	out.Extends = from.extends
	s.Services = append(s.Services, out)
}

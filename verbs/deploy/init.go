package deploy

import (
	"crypto/rand"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/stackview"
)

const initKind = "deploy.init"

type initOptions struct {
	Deps
	directory.InitOptions
	target, ports string
	pairs         []string
	strict        bool
}

func newInit(d Deps) *cobra.Command {
	o := &initOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "init --stack STACK --output FILE", Short: "Write a stack's first spec file, to be edited and committed",
		Long: `Write a stack's first spec file: where and how the stack is to run. It is
generated once, then edited and committed; "homelab deploy create" makes a
deployment directory of it. A file that is there is never replaced without
--force, which keeps the old text as FILE.bak.

STACK is a directory with a stack.yml, or a name that is looked for in the
stacks.roots of the configuration. Nothing is contacted.`,
		Example: `  homelab deploy init --stack ./stacks/shop --deploy-to k8s-kind --output spec.yml
  homelab deploy init --stack shop --deploy-to k8s --kube-config ~/.kube/lab \
    --image-registry registry.example.lan/shop --output spec.yml
  homelab deploy init --stack shop --output spec.yml --config LOG=debug,DOMAIN=shop.example.lan`,
		Tier: verb.Write, Kind: initKind, Codes: []fault.Kind{fault.OK, fault.Failed},
	}, func(c *cobra.Command, _ []string) error { return o.run(c) })
	f := c.Flags()
	f.StringVar(&o.Stack, "stack", "", "the `STACK`: a directory, or a name below the configured roots")
	f.StringVar(&o.Output, "output", "", "write the spec to `FILE`")
	f.StringVar(&o.target, "deploy-to", string(file.Compose), "the `TARGET`: compose, k8s or k8s-kind")
	f.StringArrayVar(&o.pairs, "config", nil, "settings as `NAME=VALUE,NAME=VALUE`")
	f.StringVar(&o.ConfigFile, "config-file", "", "settings from `FILE`, a NAME=VALUE in each line")
	f.StringVar(&o.KubeConfig, "kube-config", "", "the cluster's kubeconfig `FILE`, for k8s")
	f.StringVar(&o.ImageRegistry, "image-registry", "", "the `REGISTRY` images are pulled from, for k8s")
	f.StringVar(&o.ports, "map-ports-to-host", string(directory.AnyVariableRandom), "the `RECIPE` for ports: "+recipes())
	f.BoolVar(&o.Force, "force", false, "replace a spec that is there; the old one becomes FILE.bak")
	f.BoolVar(&o.NoHooks, "no-hooks", false, "go on although the stack has hooks, without running them")
	f.BoolVar(&o.strict, "strict", false, "refuse what has no, or another, effect here")
	return c
}

func recipes() string {
	var out []string
	for _, r := range directory.Recipes() {
		out = append(out, string(r))
	}
	return strings.Join(out[:len(out)-1], ", ") + " or " + out[len(out)-1]
}

func (o *initOptions) run(c *cobra.Command) error {
	help := c.CommandPath() + " --help"
	if err := notEmpty(c); err != nil {
		return err
	}
	for _, name := range []string{"stack", "output"} {
		if !c.Flags().Changed(name) {
			return fault.Usagef(help, "--%s is missing", name)
		}
	}
	env, err := o.Stacks.Env(c.Context())
	if err != nil {
		return err
	}
	for _, p := range o.pairs {
		o.Config = append(o.Config, strings.Split(p, ",")...)
	}
	o.Target, o.Ports = file.Target(o.target), directory.Recipe(o.ports)
	o.Hooks = o.Stacks.Hooks(env.WorkDir, func(line string) { o.IO.Note(ui.L(ui.Clean(line))) })
	o.Free, o.Random = directory.PortFree, rand.Reader
	if o.strict {
		o.Judge = strict
	}
	r := newStackResult(initKind)
	r.subject = ui.Clean(o.Output)
	got, err := directory.WriteSpec(c.Context(), env, o.InitOptions)
	if exists, ok := errors.AsType[*directory.ExistsError](err); ok {
		why := "it is what would be generated again"
		if len(exists.Customised) > 0 {
			why = "it differs from a fresh one in " + ui.Clean(some(exists.Customised))
		}
		next := verb.Again(c) + " --force"
		if len(exists.Customised) == 0 {
			next = ""
		}
		err = fault.Usagef(next, "%s", ui.Clean(exists.Error())).Because(why + "; --force replaces it and keeps it as " + ui.Clean(exists.File) + ".bak").From(err)
	}
	if err != nil {
		return r.failed(o.IO, err, help)
	}
	if got.Backup != "" {
		o.IO.Note(ui.L("warning: " + ui.Clean(got.File) + " was there and is replaced; its text is in " + ui.Clean(got.Backup) + " now"))
	}
	r.Notices = clean(got.Notices)
	tell(o.IO, r.Notices)
	r.Verdict, r.Reason = "created", "the spec of stack "+ui.Clean(got.Stack.Name)+" for "+string(got.Spec.Target)+"; edit it, commit it"
	r.Plan = &stackview.Plan[string]{Create: []string{}, Update: []string{}, Replace: []string{}, Delete: []string{}}
	if got.Backup != "" {
		r.Reason += "; the old one is " + ui.Clean(got.Backup)
		r.Plan.Update = append(r.Plan.Update, got.File)
	} else {
		r.Plan.Create = append(r.Plan.Create, got.File)
	}
	r.Next = ui.NextCommand(ui.Command("homelab", "deploy", "create", "--spec-file", o.Output))
	r.Deployment = &stackview.Deployment{Namespace: namespaceOf(got.Spec, got.Stack.Name), Target: got.Spec.Target, Stack: got.Stack.Name}
	r.Source = &sourceJSON{Spec: placeJSON{Path: env.Path(o.Output)}, Stack: placeJSON{Path: got.Stack.Dir}}
	r.Volumes = volumesOf(got.Spec, nil)
	return verb.Finish(o.IO, r, fault.OK, nil)
}

// some lists keys until a line is full.
func some(keys []string) string {
	const most = 12
	if len(keys) <= most {
		return strings.Join(keys, ", ")
	}
	return strings.Join(keys[:most], ", ") + " and others"
}

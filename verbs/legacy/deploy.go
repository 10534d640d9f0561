package legacy

import (
	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// group are the flags between "deploy" and its verb.
type group struct {
	*global
	include, exclude, envFile string
	cluster, target           string
}

func (g *global) deploy(name string) *cobra.Command {
	d := &group{global: g}
	c := verb.Group(name, "Make spec files and deployment directories", `Make a stack's spec file, and a deployment directory from it. --stack names the
stack and stands before "`+name+`".`)
	f := c.PersistentFlags()
	f.StringVar(&d.include, "include", "", "is not supported: a deployment has all pods of its stack")
	f.StringVar(&d.exclude, "exclude", "", "is not supported: a deployment has all pods of its stack")
	f.StringVar(&d.envFile, "env-file", "", "is not supported: settings are in the spec's config and credentials-files")
	f.StringVar(&d.cluster, "cluster", "", "the kind cluster's `NAME`, for create")
	f.StringVar(&d.target, "deploy-to", "", "the `TARGET`, for init: compose, k8s or k8s-kind")
	c.AddCommand(d.init(), d.create(), d.clusters())
	for _, v := range []string{"up", "down", "ps", "port", "exec", "logs"} {
		c.AddCommand(undirected(v))
	}
	c.AddCommand(other("setup"))
	return c
}

// undirected refuses a verb that ran a stack without a deployment directory.
func undirected(name string) *cobra.Command {
	c := other(name)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return fault.Usagef(Name+" deployment --help", "%s is not part of this program", c.CommandPath()).
			Because("a stack runs from a deployment directory: make one with deploy create, then use " + Name + " deployment --dir DIR " + name)
	}
	return c
}

// check refuses what is given to no effect that could be lived with.
func (d *group) check(c *cobra.Command) error {
	for _, name := range []string{"include", "exclude", "env-file"} {
		if f := c.Flags().Lookup(name); f != nil && f.Changed {
			return fault.Usagef(c.CommandPath()+" --help", "%s: --%s is not supported", c.CommandPath(), name)
		}
	}
	return nil
}

func (d *group) init() *cobra.Command {
	c := leaf("init", "Write a stack's spec file; one that is there becomes FILE.bak", nil, func(c *cobra.Command, _ []string) error {
		if err := d.check(c); err != nil {
			return err
		}
		w := line("deploy", "init")
		w.same(c, "stack", "deploy-to", "output", "config", "config-file", "kube-config", "image-registry", "map-ports-to-host")
		w.on("force")
		if c.Flags().Changed("cluster") {
			w.note("--cluster has no effect on init")
		}
		return d.call(c, w)
	})
	f := c.Flags()
	f.String("output", "", "write the spec to `FILE`")
	f.String("config", "", "settings as `NAME=VALUE,NAME=VALUE`")
	f.String("config-file", "", "settings from `FILE`, a NAME=VALUE in each line")
	f.String("kube-config", "", "the cluster's kubeconfig `FILE`, for k8s")
	f.String("image-registry", "", "the `REGISTRY` images are pulled from, for k8s")
	f.String("map-ports-to-host", "", "the `RECIPE` for ports; homelab deploy init --help lists them")
	return c
}

func (d *group) create() *cobra.Command {
	c := leaf("create [-- ARGS...]", "Make a deployment directory of a spec file, or bring one up to date", anyArgs, func(c *cobra.Command, args []string) error {
		if err := d.check(c); err != nil {
			return err
		}
		w := line("deploy", "create")
		w.same(c, "stack", "spec-file", "deployment-dir", "update", "helm-chart", "network-dir", "initial-peers", "cluster")
		if len(args) > 0 {
			w.args = append([]string{"--"}, args...)
		}
		if c.Flags().Changed("deploy-to") {
			w.note("--deploy-to has no effect on create: the spec decides")
		}
		return d.call(c, w)
	})
	f := c.Flags()
	f.String("spec-file", "", "the spec `FILE`")
	f.String("deployment-dir", "", "the `DIR` to make, or to bring up to date")
	f.Bool("update", false, "bring a directory that is there up to date")
	f.Bool("helm-chart", false, "make a Helm chart")
	f.String("network-dir", "", "a `DIR` for the stack's hooks")
	f.String("initial-peers", "", "a `LIST` for the stack's hooks")
	return c
}

// clusters is "k8s list cluster", which this program has no verb of its own for:
// scripts only want to know whether there is one.
func (d *group) clusters() *cobra.Command {
	k := verb.Group("k8s", "Look at kind clusters", "Look at the kind clusters of this machine.")
	l := verb.Group("list", "List kind clusters", "List the kind clusters of this machine.")
	l.AddCommand(leaf("cluster", "List the kind clusters that run, one in each line", nil, func(c *cobra.Command, _ []string) error {
		if err := d.check(c); err != nil {
			return err
		}
		names, err := d.Clusters(c.Context())
		if err != nil {
			return err
		}
		r := &listing{Header: ui.Header{Kind: "deploy.clusters", Verdict: "ok", Reason: "no kind cluster runs"}}
		for _, n := range names {
			r.lines = append(r.lines, ui.Clean(n))
		}
		if len(names) > 0 {
			r.Reason = "kind clusters that run"
		}
		return verb.Finish(d.IO, r, fault.OK, nil)
	}))
	k.AddCommand(l)
	return k
}

// listing is a result of lines.
type listing struct {
	ui.Header
	lines []string
}

// Text returns the lines, then that of the verdict.
func (l *listing) Text(int, bool) []string { return append(l.lines, verb.Line(&l.Header, "")) }

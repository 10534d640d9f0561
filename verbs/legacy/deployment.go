package legacy

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/fault"
	"homelab/verbs/verb"
)

// directory are the flags between "deployment" and its verb.
type directory struct {
	*global
	dir string
}

func (g *global) deployment() *cobra.Command {
	d := &directory{global: g}
	c := verb.Group("deployment", "Bring a deployment directory to its cluster, and look at it there", `Run what a deployment directory says. Unlike "homelab deployment", start, stop and
down leave the kind cluster alone unless --perform-cluster-management says
otherwise, and start and up end when everything is applied, unless --wait says
otherwise: only then was anything seen up.`)
	c.PersistentFlags().StringVar(&d.dir, "dir", ".", "the deployment `DIRECTORY`")
	c.AddCommand(
		d.start("start", true), d.start("up", false),
		d.stop("stop"), d.stop("down"),
		d.restart(),
		d.plain("update", "Make the cluster hold what the directory says now", "update"),
		d.plain("update-envs", "The same as update", "update"),
		d.prepare(),
		d.look("ps", "List the pods"), d.look("status", "Show how the deployment stands"), d.logs(),
		d.exec(), d.port(), d.job(),
		d.plain("push-images", "Push the stack's local images to the registry", "push-images"),
	)
	return c
}

// line begins a command line of this program.
func (d *directory) line(word string) *words {
	w := line("deployment", word)
	w.set("dir", d.dir)
	return w
}

// call refuses --stack: the directory knows its stack.
func (d *directory) call(c *cobra.Command, w *words) error {
	if c.Flags().Changed("stack") {
		return fault.Usagef(c.CommandPath()+" --help", "--stack and deployment exclude each other").
			Because("a deployment directory knows its stack")
	}
	return d.global.call(c, w)
}

// manage adds who manages the kind cluster.
func manage(f *pflag.FlagSet, skip *bool) {
	usage := "use the kind cluster as it is, never make or delete one; this is the default"
	if !*skip {
		usage = "use the kind cluster as it is, never make or delete one"
	}
	pair(f, skip, "skip-cluster-management", "perform-cluster-management", usage)
}

func (w *words) manage(skip bool) {
	if skip {
		w.on("skip-cluster-management")
	} else {
		w.on("perform-cluster-management")
	}
}

func (d *directory) start(name string, skip bool) *cobra.Command {
	attached, wait := false, false
	c := leaf(name+" [SERVICE...]", "Bring a stack up", anyArgs, func(c *cobra.Command, args []string) error {
		w := d.line("start")
		w.args = args
		w.manage(skip)
		if !wait {
			w.on("no-wait")
		}
		if attached {
			w.note("--stay-attached has no effect on kubernetes: deployment logs --follow shows what the containers say")
		}
		return d.call(c, w)
	})
	f := c.Flags()
	pair(f, &attached, "stay-attached", "detatch-terminal", "has no effect on kubernetes")
	manage(f, &skip)
	f.BoolVar(&wait, "wait", false, "wait until the stack is seen up")
	return c
}

func (d *directory) stop(name string) *cobra.Command {
	skip, volumes := true, false
	c := leaf(name+" [SERVICE...]", "Take a stack down; its volumes stay", anyArgs, func(c *cobra.Command, args []string) error {
		w := d.line("stop")
		w.args = args
		w.manage(skip)
		if volumes {
			w.on("delete-volumes")
		}
		w.same(c, "delete-namespace")
		return d.call(c, w)
	})
	f := c.Flags()
	pair(f, &volumes, "delete-volumes", "preserve-volumes", "delete this deployment's claims, volumes and generated secrets")
	manage(f, &skip)
	f.Bool("delete-namespace", false, "delete the namespace as well, if this deployment made it")
	return c
}

func (d *directory) restart() *cobra.Command {
	c := leaf("restart", "Bring a stack to what git says now, and see it up", nil, func(c *cobra.Command, _ []string) error {
		w := d.line("restart")
		w.same(c, "stack-path", "spec-file", "expected-ip", "image")
		if force, err := c.Flags().GetBool("force"); err == nil && force {
			if t, _, err := d.Tree.Find(w.verb); err == nil && lookup(t, "force") != nil {
				w.on("force")
			} else {
				w.note("--force has no effect: there is no check of DNS to skip")
			}
		}
		if c.Flags().Changed("config-file") {
			w.note("--config-file has no effect: restart takes the spec as it is and never makes it anew")
		}
		return d.call(c, w)
	})
	f := c.Flags()
	f.String("stack-path", "", "the stack's `DIRECTORY`, if it is not where it was")
	f.String("spec-file", "", "the tracked spec `FILE`; relative to the stack's repository")
	f.String("config-file", "", "has no effect")
	f.Bool("force", false, "skip the check of DNS")
	f.String("expected-ip", "", "the `ADDRESS` the hosts must resolve to")
	f.StringArray("image", nil, "run `CONTAINER=REFERENCE` instead of what the files say")
	return c
}

// plain is a verb without flags and arguments.
func (d *directory) plain(name, short, target string) *cobra.Command {
	return leaf(name, short, nil, func(c *cobra.Command, _ []string) error { return d.call(c, d.line(target)) })
}

// look is a verb that only looks.
func (d *directory) look(name, short string) *cobra.Command {
	return leaf(name, short, nil, func(c *cobra.Command, _ []string) error {
		w := d.line(name)
		w.look, w.dry = true, true
		return d.call(c, w)
	})
}

func (d *directory) logs() *cobra.Command {
	c := leaf("logs [SERVICE...]", "Show what the containers say", anyArgs, func(c *cobra.Command, args []string) error {
		w := d.line("logs")
		w.look, w.dry = true, true
		f := c.Flags()
		if f.Changed("tail") {
			w.flags = append(w.flags, "-n", f.Lookup("tail").Value.String())
		}
		if f.Changed("follow") {
			w.flags = append(w.flags, "-f="+f.Lookup("follow").Value.String())
		}
		w.args = args
		return d.call(c, w)
	})
	c.Flags().StringP("tail", "n", "", "only the last `N` lines")
	c.Flags().BoolP("follow", "f", false, "go on with what is said from now on")
	return c
}

func (d *directory) exec() *cobra.Command {
	c := leaf("exec SERVICE COMMAND...", "Run a command in a container", anyArgs, func(c *cobra.Command, args []string) error {
		w := d.line("exec")
		w.args, w.plain = args, true
		return d.call(c, w)
	})
	c.Flags().SetInterspersed(false)
	return c
}

func (d *directory) port() *cobra.Command {
	return leaf("port SERVICE PORT", "Show where a port can be reached", anyArgs, func(c *cobra.Command, args []string) error {
		w := d.line("port")
		w.args, w.dry, w.plain = args, true, true
		return d.call(c, w)
	})
}

func (d *directory) job() *cobra.Command {
	c := leaf("run-job NAME", "Run a Job of the stack once", anyArgs, func(c *cobra.Command, args []string) error {
		w := d.line("run-job")
		w.same(c, "helm-release")
		w.args = args
		return d.call(c, w)
	})
	c.Flags().String("helm-release", "", "the `NAME` of a Helm release")
	return c
}

func (d *directory) prepare() *cobra.Command {
	skip := false
	c := leaf("prepare", "Make everything but the pods", nil, func(c *cobra.Command, _ []string) error {
		w := d.line("prepare")
		w.manage(skip)
		return d.call(c, w)
	})
	manage(c.Flags(), &skip)
	return c
}

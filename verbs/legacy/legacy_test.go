package legacy_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/legacy"
	"homelab/verbs/verb"
)

// tree is a program with some verbs and flags, and without others.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "homelab"}
	add := func(group *cobra.Command, name string, flags ...string) {
		c := verb.New(verb.Spec{Use: name, Short: name, Tier: verb.Read}, func(*cobra.Command, []string) error { return nil })
		for _, f := range flags {
			c.Flags().String(f, "", "")
		}
		group.AddCommand(c)
	}
	deploy, deployment := &cobra.Command{Use: "deploy"}, &cobra.Command{Use: "deployment"}
	deployment.PersistentFlags().String("dir", "", "")
	root.AddCommand(deploy, deployment)
	add(root, "version")
	add(deploy, "init", "stack", "deploy-to", "output", "config", "config-file", "kube-config", "image-registry", "map-ports-to-host", "force")
	add(deploy, "create", "stack", "spec-file", "deployment-dir", "update", "cluster", "dry-run")
	const skip, perform = "skip-cluster-management", "perform-cluster-management"
	add(deployment, "start", skip, perform, "no-wait", "dry-run")
	add(deployment, "stop", skip, perform, "delete-volumes", "delete-namespace", "dry-run")
	add(deployment, "restart", "stack-path", "spec-file", "image", "dry-run")
	add(deployment, "update", "dry-run")
	for _, v := range []string{"ps", "status", "logs", "exec", "port"} {
		add(deployment, v)
	}
	return root
}

func TestCommandLines(t *testing.T) {
	const dir = "--dir=D"
	for _, c := range []struct {
		in   string
		want string // the words; or "!" and what is refused
		call legacy.Call
	}{
		{in: "version", want: "version"},
		{
			in:   "--stack test deploy --deploy-to k8s-kind init --output spec.yml --config A=1,B=2",
			want: "deploy init --stack=test --deploy-to=k8s-kind --output=spec.yml --config=A=1,B=2 --force",
		},
		{
			in:   "--stack test deploy-system init --deploy-to k8s --kube-config kube --image-registry r --map-ports-to-host any-same --config-file f --output s",
			want: "deploy init --stack=test --deploy-to=k8s --output=s --config-file=f --kube-config=kube --image-registry=r --map-ports-to-host=any-same --force",
		},
		{in: "deploy --cluster lab init --output s", want: "deploy init --output=s --force", call: legacy.Call{Notices: []string{"--cluster has no effect on init"}}},
		{in: "--dry-run deploy init --output s", want: "! laconic-so deploy init has no dry run"},
		{
			in:   "--quiet --stack test deploy --cluster lab create --spec-file s --deployment-dir d --update",
			want: "deploy create --stack=test --spec-file=s --deployment-dir=d --update=true --cluster=lab", call: legacy.Call{Quiet: true},
		},
		{
			in: "deploy --deploy-to k8s create --spec-file s -- --chain x", want: "deploy create --spec-file=s -- --chain x",
			call: legacy.Call{Notices: []string{"--deploy-to has no effect on create: the spec decides"}},
		},
		{in: "deploy create --spec-file s --network-dir n", want: "! laconic-so deploy create: --network-dir is not supported yet"},
		{in: "deploy --env-file e create --spec-file s", want: "! laconic-so deploy create: --env-file is not supported"},

		// Who manages the cluster; the last word counts.
		{in: "deployment --dir D start", want: "deployment start " + dir + " --skip-cluster-management --no-wait"},
		{in: "deployment --dir D start --wait", want: "deployment start " + dir + " --skip-cluster-management"},
		{in: "deployment --dir D up", want: "deployment start " + dir + " --perform-cluster-management --no-wait"},
		{in: "deployment --dir D up --skip-cluster-management", want: "deployment start " + dir + " --skip-cluster-management --no-wait"},
		{in: "deployment start --perform-cluster-management --dir D", want: "deployment start " + dir + " --perform-cluster-management --no-wait"},
		{
			in:   "deployment --dir D start --perform-cluster-management --skip-cluster-management",
			want: "deployment start " + dir + " --skip-cluster-management --no-wait",
		},
		{in: "deployment --dir D start --detatch-terminal", want: "deployment start " + dir + " --skip-cluster-management --no-wait"},
		{
			in: "deployment --dir D start --stay-attached", want: "deployment start " + dir + " --skip-cluster-management --no-wait",
			call: legacy.Call{Notices: []string{"--stay-attached has no effect on kubernetes: deployment logs --follow shows what the containers say"}},
		},
		{in: "--dry-run deployment --dir D start", want: "deployment start " + dir + " --skip-cluster-management --no-wait --dry-run"},
		{in: "deployment --dir D start web", want: "deployment start " + dir + " --skip-cluster-management --no-wait web"},
		{in: "deployment --dir D stop", want: "deployment stop " + dir + " --skip-cluster-management"},
		{in: "deployment --dir D down --delete-volumes", want: "deployment stop " + dir + " --skip-cluster-management --delete-volumes"},
		{in: "deployment --dir D down --delete-volumes --preserve-volumes", want: "deployment stop " + dir + " --skip-cluster-management"},
		{
			in:   "deployment --dir D stop --delete-volumes --perform-cluster-management --delete-namespace",
			want: "deployment stop " + dir + " --perform-cluster-management --delete-volumes --delete-namespace=true",
		},

		{in: "deployment --dir D restart", want: "deployment restart " + dir},
		{
			in:   "deployment --dir D restart --stack-path p --spec-file s --image a=1 --image b=2",
			want: "deployment restart " + dir + " --stack-path=p --spec-file=s --image=a=1 --image=b=2",
		},
		{in: "deployment --dir D restart --expected-ip 10.0.0.1", want: "! laconic-so deployment restart: --expected-ip is not supported yet"},
		{
			in: "deployment --dir D restart --force --config-file c", want: "deployment restart " + dir,
			call: legacy.Call{Notices: []string{
				"--force has no effect: there is no check of DNS to skip",
				"--config-file has no effect: restart takes the spec as it is and never makes it anew",
			}},
		},
		{in: "deployment --dir D update", want: "deployment update " + dir},
		{in: "deployment --dir D update-envs", want: "deployment update " + dir},

		{in: "--dry-run deployment --dir D ps", want: "deployment ps " + dir, call: legacy.Call{Look: true, Payload: true}},
		{in: "deployment --dir D status", want: "deployment status " + dir, call: legacy.Call{Look: true, Payload: true}},
		{in: "deployment --dir D logs", want: "deployment logs " + dir, call: legacy.Call{Look: true, Payload: true}},
		{in: "deployment --dir D logs -n 20 -f web db", want: "deployment logs " + dir + " -n 20 -f=true web db", call: legacy.Call{Look: true, Payload: true}},
		{in: "deployment --dir D logs --tail 5 --follow", want: "deployment logs " + dir + " -n 5 -f=true", call: legacy.Call{Look: true, Payload: true}},
		{in: "--debug deployment --dir D exec web ls -l --all", want: "deployment exec " + dir + " web ls -l --all", call: legacy.Call{Verbose: true, Payload: true}},
		{in: "deployment --dir D port web 80", want: "deployment port " + dir + " web 80", call: legacy.Call{Payload: true}},
		{in: "deployment --dir D prepare", want: "! laconic-so deployment prepare is not supported yet"},
		{in: "deployment --dir D push-images", want: "! laconic-so deployment push-images is not supported yet"},
		{in: "deployment --dir D run-job backup", want: "! laconic-so deployment run-job is not supported yet"},
		{in: "--stack s deployment --dir D ps", want: "! --stack and deployment exclude each other: a deployment directory knows its stack"},

		{in: "--local-stack --verbose --continue-on-error version", want: "version", call: legacy.Call{
			LocalStack: true, Verbose: true, Notices: []string{"--continue-on-error has no effect on this verb"},
		}},
	} {
		t.Run(c.in, func(t *testing.T) {
			streams, _, _ := ui.Test("")
			var got *legacy.Call
			root := legacy.New(legacy.Deps{
				IO: streams, Tree: tree(), Run: func(_ context.Context, call legacy.Call) error {
					got = &call
					return nil
				},
			})
			root.SetArgs(strings.Fields(c.in))
			err := root.ExecuteContext(t.Context())
			if why, refused := strings.CutPrefix(c.want, "! "); refused {
				e, ok := errors.AsType[*fault.Error](err)
				if !ok || e.Kind != fault.Usage || e.Error() != why || got != nil {
					t.Fatalf("%v, not %s", err, why)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.call.Args = strings.Fields(c.want)
			if diff := cmp.Diff(&c.call, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNamed(t *testing.T) {
	for path, want := range map[string]bool{
		"laconic-so": true, "/usr/local/bin/laconic-so": true, "./package/laconic-so-1.1.0": true,
		"homelab": false, "/home/laconic-so/bin/homelab": false, "": false,
	} {
		if legacy.Named(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

package workload_test

import (
	"errors"
	"strings"
	"testing"

	"homelab/pkg/artifact/target/workload"
	"homelab/pkg/fault"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct{ text, want, says string }{
		{text: "k8s://shop/web?container=web", want: "k8s://shop/web?container=web"},
		{text: "k8s://shop/deploy/web?container=web", want: "k8s://shop/web?container=web"},
		{text: "k8s://shop/Deployment/web?container=a-1", want: "k8s://shop/web?container=a-1"},
		{text: "k8s://shop/sts/db?container=db", want: "k8s://shop/statefulset/db?container=db"},
		{text: "k8s://shop/ds/agent.v2?container=agent", want: "k8s://shop/daemonset/agent.v2?container=agent"},
		{text: "k8s://shop/web", says: "one container"},
		{text: "k8s://shop/web?container=", says: "one container"},
		{text: "k8s://shop/web?container=a&container=b", says: "one container"},
		{text: "k8s://shop/web?container=web&image=x", says: "image is not known"},
		{text: "k8s://shop/cj/web?container=web", says: "cj is not supported"},
		{text: "k8s://shop/rollout/web?container=web", says: "rollout is not supported"},
		{text: "k8s://shop/a/b/c?container=web", says: "too many parts"},
		{text: "k8s://shop?container=web", says: "no name of a workload"},
		{text: "k8s://shop/?container=web", says: "no name of a workload"},
		{text: "k8s:///web?container=web", says: "no name of a namespace"},
		{text: "k8s://deployment/web?container=web", says: "is a kind"},
		{text: "k8s://Shop/web?container=web", says: "no name of a namespace"},
		{text: "k8s://shop/web?container=We_b", says: "no name of a container"},
		{text: "k8s://shop:1/web?container=web", says: "nothing else"},
		{text: "k8s://me@shop/web?container=web", says: "nothing else"},
		{text: "k8s://shop/web?container=web#x", says: "nothing else"},
		{text: "k8s:shop/web?container=web", says: "nothing else"},
		{text: "shop/web", says: "k8s://"},
		{text: "k8s://shop/web?container=web;x", says: "query"},
		{text: "k8s://sh\x1bop/web?container=web", says: "k8s://"},
	} {
		s, err := workload.Parse(tc.text)
		if tc.want != "" {
			if err != nil || s.String() != tc.want {
				t.Errorf("%s: %q, %v", tc.text, s, err)
			}
			if again, err := workload.Parse(s.String()); err != nil || again != s {
				t.Errorf("%s: not the same again: %+v, %v", tc.text, again, err)
			}
			continue
		}
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Usage || !strings.Contains(f.What, tc.says) || !strings.HasPrefix(f.What, "--to ") || f.Next == "" || strings.ContainsRune(f.What, 0x1b) {
			t.Errorf("%q: %v, want usage saying %q", tc.text, err, tc.says)
		}
	}
}

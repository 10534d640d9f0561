package directory

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// What a hook wants is merged into the shape that scripts edit line by line.
func TestMergeAnswer(t *testing.T) {
	const spec = "stack: shop\ndeploy-to: k8s-kind\nconfig:\n  A: 1\nnetwork:\n  ports:\n    web:\n     - '80'\nvolumes:\n  data:\n  logs:\nsecrets: {}\n"
	for name, c := range map[string]struct{ answer, want string }{
		"nothing": {"", spec},
		"other keys go before the sections": {
			"replicas: 2\nresources: {containers: {limits: {cpus: 1}}}\n",
			"stack: shop\ndeploy-to: k8s-kind\nreplicas: 2\nresources:\n  containers:\n    limits:\n      cpus: 1\nconfig:\n  A: 1\nnetwork:\n  ports:\n    web:\n     - '80'\nvolumes:\n  data:\n  logs:\nsecrets: {}\n",
		},
		"volumes it sets are not set again": {
			"volumes: {data: ./data/d, more: }\nsecrets: {s: }\n",
			"stack: shop\ndeploy-to: k8s-kind\nconfig:\n  A: 1\nnetwork:\n  ports:\n    web:\n     - '80'\nvolumes:\n  data: ./data/d\n  more:\n  logs:\nsecrets:\n  s:\n",
		},
		"a volume as a configmap": {
			"configmaps: {data: ./x, logs: ./y}\n",
			"stack: shop\ndeploy-to: k8s-kind\nconfig:\n  A: 1\nnetwork:\n  ports:\n    web:\n     - '80'\nconfigmaps:\n  data: ./x\n  logs: ./y\nsecrets: {}\n",
		},
		"the rest of network stays": {
			"network: {ports: {x: ['1']}, http-proxy: [{host-name: h}]}\n",
			"stack: shop\ndeploy-to: k8s-kind\nconfig:\n  A: 1\nnetwork:\n  ports:\n    web:\n     - '80'\n  http-proxy:\n    - host-name: h\nvolumes:\n  data:\n  logs:\nsecrets: {}\n",
		},
	} {
		var a *answer
		if c.answer != "" {
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(c.answer), &doc); err != nil {
				t.Fatal(err)
			}
			a = &answer{root: doc.Content[0]}
		}
		got, err := a.merge([]byte(spec))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

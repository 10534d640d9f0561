package render

import (
	"strings"
	"testing"

	"homelab/pkg/stack/file"
)

// TestVolumesApart: no volume is where files are generated.
func TestVolumesApart(t *testing.T) {
	for _, tc := range []struct {
		path, says string
	}{
		{"./data/x", ""},
		{"./mine", ""},
		{"./composed", ""},
		{"./config/demo", "lies in config"},
		{"./compose", "lies in compose"},
		{"./.homelab/stage", "lies in .homelab"},
		{"./data/../config.env", "lies in config.env"},
		{"@", "holds the deployment directory"},
		{"@/hooks", "lies in hooks"},
		{"/", "holds the deployment directory"},
	} {
		for _, rules := range []file.Rules{file.V1, file.V2} {
			d := unpack(t, archive(
				"spec.yml", "stack: demo\ndeploy-to: k8s-kind\nvolumes: {v: \"PATH\"}\n",
				"compose/docker-compose-main.yml", "services: {web: {image: web, volumes: ['v:/v']}}\nvolumes: {v: }\n",
			), rules)
			d.Spec.Volumes[0].Path = strings.Replace(tc.path, "@", d.Path, 1)
			r, err := Render(d, Options{}, Facts{})
			got := ""
			if err != nil {
				got = err.Error()
			} else if rules == file.V1 || tc.path == "/" {
				for _, n := range r.Notices {
					if n.Code == "volume-in-directory" {
						got = n.Message
					}
				}
			}
			if (rules == file.V1 || tc.path == "/") && err != nil || tc.says == "" && got != "" || !strings.Contains(got, tc.says) {
				t.Errorf("%s, v%d: %q, %v", tc.path, rules, got, err)
			}
		}
	}
}

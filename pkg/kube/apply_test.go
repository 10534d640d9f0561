package kube_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
)

func TestApply(t *testing.T) {
	sim, srv := serve(t)
	sim.Namespace("shop")
	sim.Put("deployments", deployment("web", 2))
	c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", kubesim.Admin, "")}})
	r := kube.Apps("deployments")
	o, err := c.Get(t.Context(), r, "shop", "web")
	if err != nil {
		t.Fatal(err)
	}
	body := func(rv, uid string, replicas int) []byte {
		return fmt.Appendf(nil, `{"apiVersion": "apps/v1", "kind": "Deployment",
			"metadata": {"name": "web", "namespace": "shop", "resourceVersion": %q, "uid": %q}, "spec": {"replicas": %d}}`, rv, uid, replicas)
	}
	replicas := func() any {
		return sim.Object("deployments", "shop", "web")["spec"].(kubesim.Object)["replicas"]
	}

	// The field is somebody else's: told by name, nothing is stored.
	_, err = c.Apply(t.Context(), r, "shop", "web", body(o.ResourceVersion, o.UID, 3), kube.ApplyOptions{Manager: "a"})
	if owners := kube.Owners(err); !kube.IsConflict(err) || len(owners) != 1 || owners[0].Field != ".spec.replicas" || !strings.Contains(owners[0].Message, `"`) {
		t.Errorf("%v: %+v", err, owners)
	}
	_, err = c.Apply(t.Context(), r, "shop", "web", body(o.ResourceVersion, o.UID, 3), kube.ApplyOptions{Manager: "a", Force: true, DryRun: true})
	if err != nil || replicas() != 2.0 {
		t.Errorf("%v, %v replicas after a dry run", err, replicas())
	}
	now, err := c.Apply(t.Context(), r, "shop", "web", body(o.ResourceVersion, o.UID, 3), kube.ApplyOptions{Manager: "a", Force: true})
	var got struct{ Spec struct{ Replicas int } }
	if err != nil || json.Unmarshal(now.Raw, &got) != nil || got.Spec.Replicas != 3 || replicas() != 3.0 || now.ResourceVersion == o.ResourceVersion {
		t.Errorf("%v, %+v", err, now)
	}

	// An old version, another object, and one that is gone.
	for what, b := range map[string][]byte{"version": body(o.ResourceVersion, o.UID, 4), "uid": body("", "another", 4)} {
		_, err = c.Apply(t.Context(), r, "shop", "web", b, kube.ApplyOptions{Manager: "a"})
		if !kube.IsConflict(err) || kube.Owners(err) != nil || replicas() != 3.0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	sim.Delete("deployments", "shop", "web")
	_, err = c.Apply(t.Context(), r, "shop", "web", body("", o.UID, 4), kube.ApplyOptions{Manager: "a"})
	if !kube.IsConflict(err) || sim.Object("deployments", "shop", "web") != nil {
		t.Errorf("%v", err)
	}

	// Refused twice, and then believed.
	u := sim.AddUser(kubesim.User{Name: "reader", Allow: []kubesim.Rule{{Verbs: []string{"get"}}}})
	sim.Forget()
	_, err = connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", u.Token, "")}}).
		Apply(t.Context(), r, "shop", "web", body("", o.UID, 4), kube.ApplyOptions{Manager: "a"})
	if s, ok := errors.AsType[*kube.StatusError](err); !kube.IsForbidden(err) || !ok || s.Verb != "apply" || sim.Count("patch", "") != 2 {
		t.Errorf("%v after %d requests", err, sim.Count("patch", ""))
	}
	if kube.IsConflict(err) || kube.IsConflict(nil) || kube.Owners(nil) != nil {
		t.Error("that is no conflict")
	}
}

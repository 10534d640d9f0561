package cluster

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"
)

// Refuse makes an admission webhook that denies every new object of the
// resource, pods or replicasets, in the namespace, in these words. The function
// returned takes it away.
func (s *Space) Refuse(resource, words string) (remove func()) {
	s.t.Helper()
	cert, err := s.C.ca.issue("webhook-" + s.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert.tls}, MinVersion: tls.VersionTLS12},
		ErrorLog:          log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var review struct{ Request struct{ UID string } }
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{
				"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
				"response": map[string]any{"uid": review.Request.UID, "allowed": false, "status": map[string]any{"message": words}},
			})
		}),
	}
	go func() { _ = server.ServeTLS(l, "", "") }() // ends by being closed
	s.t.Cleanup(func() { _ = server.Close() })
	return s.webhook(resource, l.Addr().String(), words)
}

// Break makes an admission webhook for new objects of the resource that nobody
// answers, as when its pods are down. The function returned takes it away.
func (s *Space) Break(resource string) (remove func()) {
	s.t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.webhook(resource, fmt.Sprintf("127.0.0.1:%d", ports[0]), "failed calling webhook")
}

func (s *Space) webhook(resource, address, words string) (remove func()) {
	s.t.Helper()
	group := strings.TrimPrefix(strings.TrimSuffix(groups[resource], "/v1"), "/apis/")
	if resource == "pods" {
		group = ""
	}
	name := "e2e-" + s.Name + "-" + resource
	s.Create(fmt.Sprintf(`{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
		"metadata": {"name": %q},
		"webhooks": [{"name": "policy.e2e.example", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
			"timeoutSeconds": 2,
			"clientConfig": {"url": "https://%s/", "caBundle": %q},
			"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": %q}},
			"rules": [{"apiGroups": [%q], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [%q]}]}]}`,
		name, address, base64.StdEncoding.EncodeToString(s.C.ca.pem), s.Name, group, resource))
	remove = func() {
		_, _ = s.C.Admin.Do(context.Background(), http.MethodDelete, s.Path("validatingwebhookconfigurations", name), "", nil)
	}
	s.t.Cleanup(remove)
	probe := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}`
	if resource == "replicasets" {
		probe = `{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "probe"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
			"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}}}`
	}
	s.untilRefused(resource, probe, words)
	return remove
}

// Policy makes an admission policy, judged by the server itself, that denies
// every new pod of the namespace in these words.
func (s *Space) Policy(words string) {
	s.t.Helper()
	name := "e2e-" + s.Name
	s.Create(fmt.Sprintf(`{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": %q},
		"spec": {"failurePolicy": "Fail",
			"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
			"validations": [{"expression": "false", "message": %q}]}}`, name, words))
	s.Create(fmt.Sprintf(`{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": %q},
		"spec": {"policyName": %q, "validationActions": ["Deny"],
			"matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": %q}}}}}`, name, name, s.Name))
	s.t.Cleanup(func() {
		for _, r := range []string{"validatingadmissionpolicybindings", "validatingadmissionpolicies"} {
			_, _ = s.C.Admin.Do(context.Background(), http.MethodDelete, s.Path(r, name), "", nil)
		}
	})
	s.untilRefused("pods", `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}`, words)
}

// untilRefused waits until a new object is refused in these words: the server
// learns of a policy some time after it was made.
func (s *Space) untilRefused(resource, probe, words string) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		_, err := s.do(http.MethodPost, s.Path(resource, "")+"?dryRun=All", "application/json", probe)
		if err != nil && strings.Contains(err.Error(), words) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %v for new %s to be refused: %v", patience, resource, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

package kind

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// The ingress controller's names. They are those of every cluster that stacks
// are deployed to, so that an existing controller is recognised.
const (
	CaddyNamespace  = "caddy-system"
	CaddyName       = "caddy-ingress-controller"
	CaddyConfig     = "caddy-ingress-controller-configmap"
	CaddyClass      = "caddy"
	CaddyBackup     = "caddy-cert-backup"
	CaddyImage      = "ghcr.io/laconicnetwork/caddy-ingress:latest"
	CaddyAnnotation = "homelab/caddy-ingress-image" // on a namespace: the image its deployment wants

	// CaddySelector selects the Secrets in which the controller keeps certificates.
	CaddySelector = "manager=caddy"
	// CaddyBackupFile is where the backup lies, below the kind-mount-root.
	CaddyBackupFile = "caddy-cert-backup/caddy-secrets.yaml"

	acme         = "https://acme-v02.api.letsencrypt.org/directory"
	backupImage  = "docker.io/alpine/kubectl:latest"
	backupInNode = "/mnt/caddy-cert-backup"
)

// Controller is how the ingress controller should be.
type Controller struct {
	Image  string // "" is CaddyImage
	Email  string // of the ACME account; "" none
	Backup bool   // the node has an umbrella mount to write certificates to
}

func caddyLabels() map[string]string {
	return map[string]string{
		"app.kubernetes.io/name": CaddyName, "app.kubernetes.io/instance": "caddy-ingress", "app.kubernetes.io/component": "controller",
	}
}

// CaddyObjects returns the objects of the ingress controller in the order in
// which they are applied: the Deployment after all it needs, so that restored
// certificates can be put before it.
func CaddyObjects(c Controller) (before, after []*unstructured.Unstructured, err error) {
	labels := caddyLabels()
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: CaddyNamespace, Labels: labels}
	}
	global := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Labels: labels} }
	account := []rbacv1.Subject{{Kind: "ServiceAccount", Name: CaddyName, Namespace: CaddyNamespace}}
	config := map[string]string{"acmeCA": acme, "email": c.Email}
	first := []runtime.Object{
		&corev1.Namespace{TypeMeta: of("v1", "Namespace"), ObjectMeta: global(CaddyNamespace)},
		&corev1.ServiceAccount{TypeMeta: of("v1", "ServiceAccount"), ObjectMeta: meta(CaddyName)},
		&rbacv1.ClusterRole{
			TypeMeta: of("rbac.authorization.k8s.io/v1", "ClusterRole"), ObjectMeta: global(CaddyName),
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingresses", "ingressclasses"}, Verbs: []string{"get", "list", "watch"}},
				{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"ingresses/status"}, Verbs: []string{"get", "update", "patch"}},
				{APIGroups: []string{""}, Resources: []string{"configmaps", "services", "endpoints", "pods", "nodes", "namespaces"}, Verbs: []string{"get", "list", "watch"}},
				{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"get", "list", "watch"}},
				{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete"}},
				{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete"}},
				{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
			},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta: of("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), ObjectMeta: global(CaddyName),
			RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: CaddyName}, Subjects: account,
		},
		&corev1.ConfigMap{TypeMeta: of("v1", "ConfigMap"), ObjectMeta: meta(CaddyConfig), Data: config},
		&networkingv1.IngressClass{
			TypeMeta: of("networking.k8s.io/v1", "IngressClass"),
			ObjectMeta: metav1.ObjectMeta{
				Name: CaddyClass, Labels: labels, Annotations: map[string]string{"ingressclass.kubernetes.io/is-default-class": "true"},
			},
			Spec: networkingv1.IngressClassSpec{Controller: "caddy.io/ingress-controller"},
		},
		&corev1.Service{
			TypeMeta: of("v1", "Service"), ObjectMeta: meta(CaddyName),
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Selector: labels, Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP},
				{Name: "https", Port: 443, TargetPort: intstr.FromString("https"), Protocol: corev1.ProtocolTCP},
			}},
		},
	}
	last := []runtime.Object{caddyDeployment(c, meta(CaddyName))}
	if c.Backup {
		last = append(last, backup(meta)...)
	}
	if before, err = untyped(first); err == nil {
		after, err = untyped(last)
	}
	return before, after, err
}

func caddyDeployment(c Controller, meta metav1.ObjectMeta) *appsv1.Deployment {
	image := c.Image
	if image == "" {
		image = CaddyImage
	}
	probe := func(delay int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:        corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(9765)}},
			InitialDelaySeconds: delay, PeriodSeconds: 10,
		}
	}
	grace := int64(60)
	return &appsv1.Deployment{
		TypeMeta: of("apps/v1", "Deployment"), ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(1)),
			// The pod holds host ports 80 and 443: a second one could never start
			// beside it, so a rolling update would wait for ever.
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Selector: &metav1.LabelSelector{MatchLabels: meta.Labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels},
				Spec: corev1.PodSpec{
					ServiceAccountName: CaddyName, TerminationGracePeriodSeconds: &grace,
					NodeSelector: map[string]string{"ingress-ready": "true", "kubernetes.io/os": "linux"},
					Tolerations: []corev1.Toleration{
						{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpEqual, Effect: corev1.TaintEffectNoSchedule},
						{Key: "node-role.kubernetes.io/master", Operator: corev1.TolerationOpEqual, Effect: corev1.TaintEffectNoSchedule},
					},
					Containers: []corev1.Container{{
						Name: CaddyName, Image: image, ImagePullPolicy: corev1.PullAlways,
						Args: []string{"-config-map=" + CaddyNamespace + "/" + CaddyConfig, "-class-name=" + CaddyClass},
						Env: []corev1.EnvVar{
							{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
							{Name: "POD_NAMESPACE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}},
						},
						Ports: []corev1.ContainerPort{
							{Name: "http", ContainerPort: 80, HostPort: 80, Protocol: corev1.ProtocolTCP},
							{Name: "https", ContainerPort: 443, HostPort: 443, Protocol: corev1.ProtocolTCP},
							{Name: "metrics", ContainerPort: 9765, Protocol: corev1.ProtocolTCP},
						},
						LivenessProbe: probe(3), ReadinessProbe: probe(3),
						SecurityContext: &corev1.SecurityContext{
							AllowPrivilegeEscalation: new(true),
							Capabilities:             &corev1.Capabilities{Add: []corev1.Capability{"NET_BIND_SERVICE"}, Drop: []corev1.Capability{"ALL"}},
						},
						VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
					}},
					Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
				},
			},
		},
	}
}

// backup writes the certificates to the umbrella mount, so that a new cluster
// need not ask for them again and run into the issuer's limits.
func backup(meta func(string) metav1.ObjectMeta) []runtime.Object {
	script := fmt.Sprintf("umask 077 && kubectl get secrets -n %s -l %s -o yaml > /backup/.new && mv /backup/.new /backup/caddy-secrets.yaml", CaddyNamespace, CaddySelector)
	kind := corev1.HostPathDirectoryOrCreate
	return []runtime.Object{
		&corev1.ServiceAccount{TypeMeta: of("v1", "ServiceAccount"), ObjectMeta: meta(CaddyBackup)},
		&rbacv1.Role{
			TypeMeta: of("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: meta(CaddyBackup),
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list"}}},
		},
		&rbacv1.RoleBinding{
			TypeMeta: of("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: meta(CaddyBackup),
			RoleRef:  rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: CaddyBackup},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: CaddyBackup, Namespace: CaddyNamespace}},
		},
		&batchv1.CronJob{
			TypeMeta: of("batch/v1", "CronJob"), ObjectMeta: meta(CaddyBackup),
			Spec: batchv1.CronJobSpec{
				Schedule: "*/5 * * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent,
				SuccessfulJobsHistoryLimit: new(int32(1)), FailedJobsHistoryLimit: new(int32(1)),
				JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
					BackoffLimit: new(int32(0)),
					Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
						ServiceAccountName: CaddyBackup, RestartPolicy: corev1.RestartPolicyNever,
						Tolerations: []corev1.Toleration{{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}},
						Containers: []corev1.Container{{
							Name: "backup", Image: backupImage, ImagePullPolicy: corev1.PullIfNotPresent,
							Command: []string{"sh", "-c", script}, VolumeMounts: []corev1.VolumeMount{{Name: "backup", MountPath: "/backup"}},
						}},
						Volumes: []corev1.Volume{{Name: "backup", VolumeSource: corev1.VolumeSource{
							HostPath: &corev1.HostPathVolumeSource{Path: backupInNode, Type: &kind},
						}}},
					}},
				}},
			},
		},
	}
}

// RestoredSecrets returns the certificates of a backup as objects that can be
// applied to a new cluster: without what belonged to the old one.
func RestoredSecrets(backup []byte) ([]*unstructured.Unstructured, error) {
	var list struct {
		Items []struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name        string            `json:"name"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"metadata"`
			Type string            `json:"type"`
			Data map[string]string `json:"data"`
		} `json:"items"`
	}
	if err := yaml.Unmarshal(backup, &list); err != nil {
		return nil, fmt.Errorf("the backup of the certificates: %w", err)
	}
	var out []*unstructured.Unstructured
	for _, s := range list.Items {
		if s.Kind != "Secret" || s.Metadata.Name == "" || s.Metadata.Labels["manager"] != "caddy" {
			continue
		}
		data := map[string]any{}
		for k, v := range s.Data {
			data[k] = v
		}
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "data": data}}
		if s.Type != "" {
			u.Object["type"] = s.Type
		}
		u.SetName(s.Metadata.Name)
		u.SetNamespace(CaddyNamespace)
		u.SetLabels(s.Metadata.Labels)
		out = append(out, u)
	}
	return out, nil
}

func of(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

// untyped returns objects as they are applied: without the fields that only
// the server fills.
func untyped(objects []runtime.Object) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, o := range objects {
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, err
		}
		delete(m, "status")
		prune(m)
		out = append(out, &unstructured.Unstructured{Object: m})
	}
	return out, nil
}

// prune removes creationTimestamp and empty maps that conversion leaves.
func prune(m map[string]any) {
	delete(m, "creationTimestamp")
	for k, v := range m {
		switch v := v.(type) {
		case map[string]any:
			prune(v)
			if len(v) == 0 && k != "emptyDir" {
				delete(m, k)
			}
		case []any:
			for _, e := range v {
				if em, ok := e.(map[string]any); ok {
					prune(em)
				}
			}
		case nil:
			delete(m, k)
		}
	}
}

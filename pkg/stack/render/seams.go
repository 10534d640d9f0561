package render

import corev1 "k8s.io/api/core/v1"

// volumes fills in Result.Volumes and Mounts, the PVs and PVCs, and the
// ConfigMaps of configmaps and binds, and refuses what cannot be a volume.
func (r *renderer) volumes() {}

// podVolumes returns what a pod needs of named volumes, configmaps, binds and
// anonymous volumes: the pod's volumes, and the mounts of each container by its
// name (service.container), in the order of the file.
func (r *renderer) podVolumes(p *pod) ([]corev1.Volume, map[string][]corev1.VolumeMount) {
	return nil, nil
}

// network adds the Services, NodePorts, the Ingress, the external services and
// the object that holds the CA certificates, and refuses a route or a
// maintenance-service whose container does not exist.
func (r *renderer) network() {}

// caCertificates returns what every container needs to trust ca-certificates:
// the pod's volumes, the mounts and the variables; nothing when there are none.
// The variables go behind those of config.env.
func (r *renderer) caCertificates() ([]corev1.Volume, []corev1.VolumeMount, []corev1.EnvVar) {
	return nil, nil, nil
}

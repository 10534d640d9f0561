// Package kind manages the kind cluster a deployment runs in: which one it
// attaches to, when it is made and when it may go, what its nodes have mounted,
// the images that have to be inside it, and its ingress controller.
//
// Deployments share clusters, so the decisions stand on facts about all of
// them: AtStart and AtStop are pure and say why. The cluster itself is made by
// kind's own library, which runs the container engine's client by itself; what
// that library does not tell (mounts, local images) is asked of the same client
// through the package that starts processes.
package kind

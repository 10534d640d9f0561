// Package workload makes one container of a Kubernetes workload run an image.
// It decides what that container runs, whether the image may be written there,
// what is written, and what a rollout means for a deployment; how a rollout is
// going is pkg/rollout's judgement, and what is done about it is the watch's.
//
// One field is written, spec.template.spec.containers[C].image, with server-side
// apply under a field manager of the container's own, so that the API server
// itself keeps two writers apart: nobody's field is taken unless a person said
// so, and two watches can share a pod. A write is bound to the version of the
// object that was looked at, and to its UID, so that it changes nothing that
// was not judged and never brings a deleted object back.
//
// The way back is the digest that ran, with its repository. The image's text is
// none: "web:live" is the bad image by now; and undoing the rollout would undo
// what other people changed as well.
package workload

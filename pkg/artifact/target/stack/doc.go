// Package stack makes one container of a deployed stack run an image: by the
// very code of "deployment update" with an override for that container, and
// back by that of "deployment rollback". What the stack's rollout means is
// judged there; what is done about it is the watch's.
//
// Before anything is changed it is written down what there is to go back to:
// the revision that runs, where its files came from, the images that no file
// says, and the digest that ran. The revision's own image text is no way back
// for a container that is watched: "web:live" is the bad image by now. So the
// revision comes back with the digest.
//
// Other people keep their say. Who writes to the directory holds its lock and
// is waited for; images that were overridden for other containers stay; and
// where somebody brought the deployment to another state since, nothing goes
// back over it. Volumes, Secrets and generated values are touched as little as
// by any update, and nothing is deleted.
//
// Of a deployment to compose no revisions are recorded. Its files are kept
// aside instead, and put back with the images.
package stack

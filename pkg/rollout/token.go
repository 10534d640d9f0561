package rollout

// revisionEnv are the variables that name the commit an image was built from,
// in the order they are tried.
func revisionEnv() []string {
	return []string{"GIT_SHA", "COMMIT_SHA", "SOURCE_COMMIT", "VERSION"}
}

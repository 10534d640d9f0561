package rollout

import "strings"

// occasion is where a text comes from; the same words mean different things
// when an image is pulled and when a pod is created.
type occasion int

const (
	onPull   occasion = iota // an image
	onCreate                 // a pod, claim or ReplicaSet, by a controller
	onConfig                 // a container's configuration
	onStart                  // a container
	onMount                  // a volume
)

// classify returns the class of text on an occasion, and false for a text
// nobody has described, which is shown and waited for. What may pass is tried
// first: a server that fails also says "not found".
func classify(on occasion, text string) (class Class, known bool) {
	t := strings.ToLower(text)
	is := func(patterns ...string) bool {
		for _, p := range patterns {
			if like(t, p) {
				return true
			}
		}
		return false
	}
	if is("failed to sync * cache", "no space left") {
		return ClassTransient, true
	}
	switch on {
	case onPull:
		switch {
		case is("i/o timeout", "connection refused", "connection reset", "no such host", "tls handshake timeout",
			"context deadline exceeded", "429 too many requests", "status: 429", "status code: 429", "status code 429", "toomanyrequests"),
			word(t, "eof"), serverError(t):
			return ClassTransient, true
		case is("signaturevalidationfailed", "not found", "manifest unknown", "no match for platform",
			"repository does not exist", "pull access denied", "insufficient_scope", "401 unauthorized", "403 forbidden",
			"denied:", "x509:", "server gave http response to https client"):
			return ClassImage, true
		}
	case onCreate:
		switch {
		case is("failed calling webhook", "timeout: request did not complete", "context deadline exceeded", "i/o timeout",
			"connection refused", "object is being deleted", "object has been modified", "operation cannot be fulfilled",
			"already exists", "because it is being terminated"), word(t, "conflict"):
			return ClassTransient, true
		case is("exceeded quota"):
			return ClassQuota, true
		case is("violates podsecurity", "denied the request", "denied request:", "validate.kyverno.svc-fail",
			"maximum * usage per", "minimum * usage per", `serviceaccount "*" not found`, "no priorityclass with name",
			"unable to validate against any security context constraint"):
			return ClassAdmission, true
		case is(`persistentvolumeclaim "*" not found`, `storageclass.storage.k8s.io "*" not found`):
			return ClassVolume, true
		case is("is invalid:"):
			return ClassPermanent, true
		}
	case onConfig, onStart:
		switch {
		case is(`secret "*" not found`, `configmap "*" not found`, "couldn't find key", "runasnonroot and image will run as root"):
			return ClassConfig, true
		case on == onStart && is("exec format error", "executable file not found", "no such file or directory", "permission denied: unknown"):
			return ClassPermanent, true
		}
	case onMount:
		if is(`persistentvolumeclaim "*" not found`, `storageclass.storage.k8s.io "*" not found`,
			`secret "*" not found`, `configmap "*" not found`) {
			return ClassVolume, true
		}
	}
	return ClassTransient, false
}

// like reports whether the parts of pattern between its stars stand in text,
// in order.
func like(text, pattern string) bool {
	for part := range strings.SplitSeq(pattern, "*") {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}

// word reports whether text contains w as a word of its own. A reference such
// as reg/eof:1 is no end of file.
func word(text, w string) bool {
	for i := 0; ; {
		j := strings.Index(text[i:], w)
		if j < 0 {
			return false
		}
		start, end := i+j, i+j+len(w)
		if (start == 0 || apart(text[start-1])) && (end == len(text) || apart(text[end])) {
			return true
		}
		i = end
	}
}

func apart(b byte) bool { return strings.IndexByte(" \t\n\"',;()[]", b) >= 0 || b == ':' }

// serverError reports whether a registry answered with a 5xx. The number alone
// says nothing: tags and digests contain numbers.
func serverError(text string) bool {
	for _, w := range []string{"500 internal server error", "502 bad gateway", "503 service unavailable", "504 gateway time"} {
		if strings.Contains(text, w) {
			return true
		}
	}
	for _, before := range []string{"status: 5", "status code: 5", "status code 5", "http status 5"} {
		_, rest, found := strings.Cut(text, before)
		if found && len(rest) >= 2 && isDecimal(rest[:2]) && (len(rest) == 2 || !isDecimal(rest[2:3])) {
			return true
		}
	}
	return false
}

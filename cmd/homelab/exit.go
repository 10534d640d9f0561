package main

import (
	"errors"

	"homelab/pkg/fault"
	"homelab/verbs/verb"
)

// exitCode is the one place where an error becomes the process's status.
func exitCode(err error) int {
	if done, ok := errors.AsType[*verb.Exit](err); ok {
		return done.Kind.Code()
	}
	return fault.KindOf(err).Code()
}

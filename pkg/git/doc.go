// Package git asks the git binary about a checkout and reads what a remote's
// URL names. It is also the only package that starts processes (ADR 0013):
// Run is the runner for git and for everything else that has to be started.
//
// It decides how a child is started, bounded and ended, and how git's answers
// become types. What follows from an answer is for its callers.
//
// # Whose repository
//
// The repository is found from a directory, never from the environment. Git
// sets GIT_DIR, GIT_INDEX_FILE and their like for its hooks, aliases and
// "rebase --exec" commands; inherited, they would make every child work on the
// hook's repository, or on its half-written index, whatever directory it was
// given. They are therefore removed from every child. The settings a person
// may have meant (GIT_CONFIG_*, GIT_SSH_COMMAND, GIT_ASKPASS, identity, CA and
// proxy variables) stay. A hook finds the right repository all the same: git
// starts hooks inside it.
//
// The environment itself is always the caller's: this package reads none, and
// a program is looked up in the PATH it was handed.
//
// # Asking changes nothing
//
// Questions take no optional lock, follow no replace ref (the server does not
// know them) and never go to the network: in a partial clone a missing object
// is an answer, ErrMissing or Unproven, and not a download that might hang or
// ask for a password.
package git

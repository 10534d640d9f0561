// Package vault reads one field of one KV secret: the token another server
// wants. It finds out the KV version itself and words what went wrong so that
// a person can act on it. Which token is for which server is not its business:
// configuration decides that (ADR 0010).
//
// The requests are those of Vault's own client library, over our transport:
// pinned dial, extra CA, retries, and the Vault token attached only for the
// configured origin (ADR 0009). The library reads VAULT_* of the process
// itself, also when handed a complete configuration. Nothing of that is meant
// to count here, since configuration has already read and weighed it; client.go
// says how each variable is undone.
package vault

// Package woodpecker is a small client of Woodpecker's REST API: context
// first, one decoded answer or one classified error per call. It knows the
// shapes and quirks of servers 3.0 to 3.17 and nothing of verdicts: what a
// status means for a watch is decided in package pipeline.
//
// Three server habits shape it. An answer can be empty, cut, HTML or a false
// 401 or 404 under load, so one function (judge) sorts every exchange into
// answer, transient or refusal, and a refusal is believed only after it has
// been repeated (ADR 0005). A write is never repeated: there is no write
// deduplication on the server, so callers read the state back instead. And
// shapes drift between versions, so decoding is lenient about unknown keys and
// strict about what identifies an answer: its id and the number asked for.
package woodpecker

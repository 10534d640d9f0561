// Package ui owns the two channels of a run: the story on stderr and the one
// result on stdout (ADR 0008). It decides how they look: live view or plain
// lines, text or JSON, colour, width, cleaning of foreign text, and that
// nothing secret passes. What is told, and when, is the caller's decision:
// domain packages hand typed updates to a verb, and the verb turns them into
// lines here.
//
// The package reads no environment and looks up no locale; the caller hands
// both in with [Settings]. It sleeps and ticks through pkg/poll only
// (ADR 0006).
package ui

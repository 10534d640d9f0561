// Package source is what the sources of artifacts that speak HTTP share: one
// exchange with its classes, and text of strangers made safe. The sources
// themselves are the packages below it.
//
// A source asks once and the watch looks again (ADR 0006): a passing fault is
// returned at once. Only a refusal is asked again before it is believed (ADR
// 0005), because it would be told to somebody.
package source

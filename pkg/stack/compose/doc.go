// Package compose runs a deployment directory with the container engine of this
// machine, through "docker compose".
//
// Make decides, from files alone: which compose files are given, what they are
// overridden with, which containers there should be. Engine asks and orders;
// Judge says of what it saw whether a service is up. The compose files of a
// directory are never changed: what the spec adds (images, the places of
// volumes, configuration that is mounted) is one more file behind them.
package compose

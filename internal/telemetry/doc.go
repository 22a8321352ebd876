// Package telemetry is how a server is watched: the registry of its metrics and what serves them, its traces and where
// they are sent, and how its log is written. It knows nothing of flows, stores or HTTP routes: engine, httpapi, pg and
// sqlite say what they have to tell by small interfaces and hooks of their own, which the types here satisfy, and
// cmd/server hands these in. It never looks anything up and never fails a request.
//
// The metrics are documented in docs/metrics.md.
package telemetry

// Package httpapi is the HTTP interface: it checks requests against api/openapi.yaml, translates them into commands and
// queries, and answers with flows, pages and problems. It decides nothing: rules live in package flows, commits in
// package engine. Reads go to the store directly.
//
// A request passes, in this order: request id and log, cross-origin check, routing (so that 404 and 405 are right), the host
// where nobody says who they are, the caller and its scope, query check, body guard, schema, and the handler. Every error
// leaves through one table, in problem.go.
package httpapi

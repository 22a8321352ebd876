// Package oas is the HTTP interface generated from api/openapi.yaml: request types, parameters and the strict chi
// server. Nothing in oas.gen.go is edited by hand; `make generate` writes it, and `make test` fails where it is stale.
// Package httpapi implements it.
package oas

//go:generate go tool oapi-codegen -config oapi-codegen.yaml ../../../api/openapi.yaml

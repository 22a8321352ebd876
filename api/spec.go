// Package api holds the contract as OpenAPI: openapi.yaml, written by hand, from which package oas is generated and
// against which package httpapi checks every request.
package api

//go:generate go run ./reference ../docs/reference.md

import _ "embed" // for the contract

// Spec is openapi.yaml.
//
//go:embed openapi.yaml
var Spec []byte

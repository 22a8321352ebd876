// Package flows is the domain: what a flow is, which commands change it, and every rule of what a change may do.
//
// It is pure. [Decide] takes what is recorded, a command and the time, and returns a [Change] that says what is to be
// written; nothing here touches a clock, a database, randomness or the network. Identifiers and times come in from
// outside. The caller's JSON is kept as raw text and never re-encoded, so numbers come back digit for digit.
//
// The engine calls Decide for each command; stores write changes and hold no rule of their own; the HTTP layer
// translates between requests, commands and problems.
package flows

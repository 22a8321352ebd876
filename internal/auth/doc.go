// Package auth tells who sent a request and what they may do: a [Caller] with its scopes and its owners, from an API key
// or a JWT. It also counts what one caller may use of a server: requests a second, and streams at once.
//
// It never decides what a call needs (package httpapi has that table) and never looks at flows. It writes nothing but the
// time a key was last used. Package httpapi asks it on every request; cmd/server starts and stops it, and makes keys with
// [NewKey].
package auth

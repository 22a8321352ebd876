// Package faults holds the tests of what survives: servers and databases are killed in the middle of load, and afterwards
// every change that was acknowledged must be there, wholly and once, with its audit events. It has no code of its own; the
// tests drive the built server through internal/servertest and look at it through the public API alone.
//
//	go test ./faults   the short form, for every change of the code
//	make faults        the long form: 20 kills for each test, 20,000 timers, servers frozen for longer than any limit,
//	                   ten minutes of load, and each fuzz target for a while
//
// What is killed, stopped, frozen, cut off or filled up: the server, PostgreSQL, a primary with a synchronous standby, the
// network between the two, the disk. Each test says with -v what it did: rounds, requests acknowledged, not made, in doubt.
//
// A test of a kill has three parts. The load (load_test.go) sends changes and writes into a ledger (ledger_test.go) what
// it was told of each: made, not made, or nothing. The fault is the test's own. The checker (snapshot_test.go,
// ledger_test.go) reads everything back, and finds whatever does not follow from the trail or contradicts the ledger; that
// it does find losses is a test too. In most of them the load comes from callers with keys (callers_test.go), of whom some
// reach for what is not theirs, and what is counted for each must equal what is there.
//
// The tests of waits (timers_test.go, races_test.go) look at one flow's trail at a time: a wait ends once, not before its
// time by the database's clock, by whom the trail says and whoever was told so, and whatever was down meanwhile.
//
// A history (history_test.go) is what the clients of one flow asked for and were told, with the times of both; porcupine
// looks for an order that explains it. That a change was synced before it was acknowledged is seen from outside: by tracing
// the server's system calls on SQLite, those of PostgreSQL (tracer_linux_test.go), and by the latter's statistics
// (synced_test.go). A backup
// is tested by restoring it (backup_test.go).
//
// Of the same kind, elsewhere, as they look inside: what a mixed load leaves behind, and generated requests.
//
//	go test ./cmd/server -run Soak -timeout 1h -soak 10m
//	go test ./internal/httpapi -run Generated -timeout 1h -generated 500 -seed 2
package faults

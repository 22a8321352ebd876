// Package servertest runs the server as an operator does: it builds cmd/server, with the race detector, once in a test
// process, and starts it as a process of its own on a free port of the loopback interface, on whichever database a test
// gives it. It owns those processes, their logs and a small client; it never reaches into the server but by HTTP, signals
// and the command line. The tests of cmd/server and of faults call it.
//
// A server never outlives the test that started it, nor the test process, in whatever way that ends.
package servertest

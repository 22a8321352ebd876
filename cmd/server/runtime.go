package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// This file is how the program uses the machine: its threads and its memory.

// leastThreads is how many threads run the program's code at a time, at least. On a small machine all of them may be busy with
// requests when the database answers a batch, and everybody waits until one looks for news; of more than there are
// processors, one is idle and looks at once, and the system makes room for it.
const leastThreads = 4

// useThreads sees to leastThreads. Where GOMAXPROCS is set, that decides; and a process that is given less time than the
// machine's processors have would only have used up its share sooner.
func useThreads() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == runtime.NumCPU() {
		runtime.GOMAXPROCS(max(leastThreads, runtime.NumCPU()))
	}
}

// ballastBytes is memory that is never touched, and so takes none: it counts as in use when Go decides how far the heap may
// grow before it is collected. A server has little in use, and collecting it at each doubling takes a good part of a busy
// one's time; to collect at a fixed multiple instead would take too much memory under a thousand connections.
const ballastBytes = 24 << 20

// newBallast is kept for as long as the process lives. Go clears what it gives out where it may have been used before, which
// touches it.
func newBallast() []byte {
	ballast := make([]byte, ballastBytes)
	untouch(ballast)
	return ballast
}

// restPeriod is how long no collection makes a server idle: a busy one collects several times a second.
const restPeriod = 20 * time.Second

// giveBackAll gives what a load has left in memory back to the system, until ctx ends. Go by itself collects an idle process
// after two minutes, and keeps of what is free then as much as the heap may grow to.
func giveBackAll(ctx context.Context) {
	r := rest{collections: collections, giveBack: debug.FreeOSMemory}
	ticker := time.NewTicker(restPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.look()
		}
	}
}

// rest tells when a process has fallen idle.
type rest struct {
	collections func() uint64
	giveBack    func()
	last        uint64 // at the last look
	given       uint64 // when memory was given back
}

// look gives memory back where nothing was collected since the last look, but was since memory was given back.
func (r *rest) look() {
	now := r.collections()
	if now == r.last && now != r.given {
		r.giveBack()
		now = r.collections() // giving back collects
		r.given = now
	}
	r.last = now
}

// collections is how often Go has collected.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

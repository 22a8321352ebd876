package main

import (
	"runtime"
	"runtime/debug"
	"testing"

	"taskflow/internal/servertest"
)

// TestThreads holds on how many threads a server runs, and that GOMAXPROCS decides where it is set.
func TestThreads(t *testing.T) {
	least := runtime.GOMAXPROCS(0)
	if least == runtime.NumCPU() { // nothing takes processors away from the process
		least = max(leastThreads, least)
	}
	for set, want := range map[string]float64{"": float64(least), "1": 1, "3": 3} {
		s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"GOMAXPROCS=" + set}})
		if got := value(scrape(t, s.Client), "go_sched_gomaxprocs_threads"); got != want {
			t.Errorf("with GOMAXPROCS=%q there are %v threads, want %v", set, got, want)
		}
	}
}

// Memory is given back once after each load, and not under one.
func TestRest(t *testing.T) {
	var n, given uint64
	r := rest{collections: func() uint64 { return n }, giveBack: func() { given++; n++ }}
	for i, step := range []struct {
		collected uint64 // since the look before
		given     uint64 // so far
	}{{5, 0}, {3, 0}, {0, 1}, {0, 1}, {0, 1}, {1, 1}, {0, 2}, {0, 2}, {40, 2}, {1, 2}, {0, 3}} {
		n += step.collected
		if r.look(); given != step.given {
			t.Fatalf("look %d: given back %d times, want %d", i, given, step.given)
		}
	}
}

// What giving back is told by, and what it does: the collections are counted, and free memory leaves.
func TestGiveBack(t *testing.T) {
	before := collections()
	runtime.GC()
	if now := collections(); now <= before {
		t.Errorf("%d collections after one, %d before", now, before)
	}
	var sum byte
	for i, b := range make([]byte, 64<<20) { // read, so that it is there
		sum += b + byte(i)
	}
	r := rest{collections: collections, giveBack: debug.FreeOSMemory, last: collections()}
	r.look()
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapIdle-m.HeapReleased > 8<<20 {
		t.Errorf("%d MB are free and kept (%d)", (m.HeapIdle-m.HeapReleased)>>20, sum)
	}
}

package main

import (
	"runtime"
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

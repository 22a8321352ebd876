package faults_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
)

// stopLimit is how long a server may take to stop.
const stopLimit = 15 * time.Second

// terminate asks a server to stop and checks how it does.
func terminate(t *testing.T, s *servertest.Server) time.Duration {
	t.Helper()
	asked := time.Now()
	s.Signal(syscall.SIGTERM)
	code, took := s.AwaitExit(patience), time.Since(asked)
	if code != 0 || took > stopLimit {
		t.Errorf("a server took %v to stop, with code %d", took, code)
	}
	return took
}

// TestTerminateServer stops servers under load: whatever they have taken on is answered, and what is acknowledged is there.
// Busy connections are told that they end, so next to no request meets the end of one, and is left in doubt.
func TestTerminateServer(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, n int) {
		servers := servertest.StartAll(t, servertest.Options{Database: url}, n)
		l := &ledger{}
		for round := range *rounds {
			load := startLoad(t, servers, l)
			load.awaitMore(50 + rand.IntN(200))
			victim := servers[round%n]
			_, _, before := l.counts()
			took := terminate(t, victim)
			victim.Restart()
			load.awaitMore(50)
			load.finish()
			if _, _, unanswered := l.counts(); unanswered-before > workers/3 {
				t.Errorf("%d requests were left without an answer", unanswered-before)
			}
			verify(t, fmt.Sprintf("stop %d of a server, in %v", round+1, took.Round(time.Millisecond)), victim.Client, l)
		}
		checkLogs(t, servers)
	})
}

// TestRollingRestart restarts three replicas one after the other under the load of clients that repeat at another replica
// what got no answer or was not made. Nothing fails for good, nothing is lost and nothing is made twice.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	servers := servertest.StartAll(t, servertest.Options{Database: pgtest.Empty(t)}, 3)
	l := &ledger{}
	load := startLoadOf(t, servers, l, true)
	load.awaitMore(50)
	restarts := 0
	for range max(1, *rounds/3) {
		for _, s := range servers {
			terminate(t, s)
			load.awaitMore(20) // the others go on
			s.Restart()
			load.awaitMore(50)
			restarts++
		}
	}
	load.finish()
	failed := 0
	for _, r := range l.requests {
		if r.key != "" && r.effects[0].fate != made {
			failed++
		}
	}
	if failed > workers { // those that the load's end met on their way
		t.Errorf("%d requests were not made in the end", failed)
	}
	verify(t, fmt.Sprintf("%d restarts, %d requests repeated elsewhere", restarts, l.repeats), servers[0].Client, l)
	checkLogs(t, servers)
}

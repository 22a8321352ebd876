package faults_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"taskflow/internal/servertest"
)

// TestKillServer kills servers in the middle of load: the only one on SQLite, one of two in turn on PostgreSQL.
func TestKillServer(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, n int) {
		servers, l := startWithKeys(t, servertest.Options{Database: url}, n)
		for round := range *rounds {
			load := startLoad(t, servers, l)
			load.awaitMore(50 + rand.IntN(200))
			victim := servers[round%n]
			victim.Kill()
			if n > 1 {
				load.awaitMore(50) // the others go on
			}
			victim.Restart()
			load.awaitMore(50)
			load.finish()
			verify(t, fmt.Sprintf("kill %d of a server", round+1), victim.Client, l)
		}
		checkLogs(t, servers)
		if _, _, unanswered := l.counts(); unanswered == 0 {
			t.Error("no kill has left a request without an answer: they came at quiet moments")
		}
	})
}

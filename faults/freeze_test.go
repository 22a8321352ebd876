package faults_test

import (
	"flag"
	"fmt"
	"net/url"
	"syscall"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
)

var freeze = flag.Duration("freeze", 5*time.Second, "how long a frozen server stands still")

const (
	// serverLimits is the longest of the limits that a server sets itself or its database: for an idle connection.
	serverLimits = 2 * time.Minute
	// idleLimit is the database's for a transaction whose client is silent, idleLimitShort the one for a short freeze.
	idleLimit, idleLimitShort = 10 * time.Second, 2 * time.Second
	frozenTimers              = 200
)

// TestFreezeServer stops one of two servers (SIGSTOP) in the middle of a transaction, for longer than every limit, while
// timers are due, and has it go on. The other goes on as soon as the database has ended the frozen one's transaction, and
// fires every timer; the frozen one overwrites nothing when it wakes, and is honest about what it does not know.
func TestFreezeServer(t *testing.T) {
	t.Parallel()
	database, idle := pgtest.Empty(t), idleLimit
	if *freeze <= serverLimits {
		database, idle = withShortLimits(t, database), idleLimitShort
	}
	servers, l := startWithKeys(t, servertest.Options{Database: database}, 2)
	for round := range max(1, *rounds/7) {
		victim, other := servers[round%2], servers[(round+1)%2]
		ids := running(t, other.Client, frozenTimers)
		load := startLoad(t, servers, l)
		load.awaitMore(50)
		freezeInTransaction(t, database, victim)
		frozen := time.Now()
		due := setTimers(t, other.Client, ids, frozen.Add(idle), 5*time.Second)
		load.awaitMore(50)
		wentOn := time.Since(frozen)
		until(t, frozen.Add(*freeze))
		victim.Signal(syscall.SIGCONT)
		awaitService(t, servers, again)
		load.awaitMore(50)
		load.finish()
		for _, id := range ids {
			if err := servertest.Await(t.Context(), patience, func() bool { return other.Flow(t, id).Status != "waiting" }); err != nil {
				t.Fatalf("flow %s still waits", id)
			}
		}
		if late := checkTimers(t, other.Client, due, "a freeze"); late > idle+again {
			t.Errorf("a timer was late by %v, want %v at most: the other server is there for it", late, idle+again)
		}
		if wentOn > idle+again {
			t.Errorf("the other server went on after %v", wentOn)
		}
		verify(t, fmt.Sprintf("freeze %d, for %v; the other server went on within %v", round+1, *freeze, wentOn.Round(time.Millisecond)), other.Client, l)
	}
	checkLogs(t, servers)
}

// withShortLimits has the database end what stands still before a short freeze is over.
func withShortLimits(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for _, name := range []string{"idle_in_transaction_session_timeout", "lock_timeout"} {
		query.Set(name, fmt.Sprint(idleLimitShort.Milliseconds()))
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// freezeInTransaction stops a server at a moment at which it has a transaction open.
func freezeInTransaction(t *testing.T, database string, s *servertest.Server) {
	t.Helper()
	// What has been idle for a while is the frozen server's: the other's are idle for an instant.
	const open = `select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'
		and state_change < clock_timestamp() - interval '100 milliseconds'`
	db := servertest.OpenDatabase(t, database)
	err := servertest.Await(t.Context(), patience, func() bool {
		s.Signal(syscall.SIGSTOP)
		until(t, time.Now().Add(150*time.Millisecond))
		var n int
		if err := db.QueryRowContext(t.Context(), open).Scan(&n); err != nil {
			t.Fatalf("looking for open transactions: %v", err)
		}
		if n == 0 {
			s.Signal(syscall.SIGCONT)
		}
		return n > 0
	})
	if err != nil {
		t.Fatal("the server was never met in a transaction")
	}
}

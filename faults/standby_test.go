package faults_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
)

// TestPromoteStandby kills the primary in the middle of load and promotes its synchronous standby. The servers find it by
// themselves, and nothing that was acknowledged is lost.
func TestPromoteStandby(t *testing.T) {
	t.Parallel()
	for round := range max(1, *rounds/5) {
		primary := durableCluster(t)
		standby, err := primary.Standby(t.Context())
		if err != nil {
			t.Fatalf("making a standby: %v", err)
		}
		stopAfter(t, standby)
		servers, l := startWithKeys(t, servertest.Options{Database: pgtest.PrimaryURL("postgres", primary, standby)}, 2)
		load := startLoad(t, servers, l)
		load.awaitMore(100 + rand.IntN(200))
		kill(t, primary)
		died := time.Now()
		if err := standby.Promote(t.Context()); err != nil {
			t.Fatal(err)
		}
		promoted := time.Now()
		for _, s := range servers {
			s.AwaitReady(again)
		}
		load.awaitMore(100)
		t.Logf("promoted in %v; the servers go on %v later", promoted.Sub(died).Round(time.Millisecond), time.Since(promoted).Round(time.Millisecond))
		load.finish()
		verify(t, fmt.Sprintf("promotion %d", round+1), servers[0].Client, l)
		checkLogs(t, servers)
		wantMet(t, servers, l)
	}
}

// TestPromoteStandby_Control shows that TestPromoteStandby would find losses: with a standby that the primary does not wait
// for, and that is sent nothing in the last moments, the same kill loses acknowledged changes. What is left is whole.
func TestPromoteStandby_Control(t *testing.T) {
	t.Parallel()
	primary := durableCluster(t)
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatalf("making a standby: %v", err)
	}
	stopAfter(t, standby)
	db := servertest.OpenDatabase(t, primary.URL("postgres"))
	execute(t, db, []string{"alter system set synchronous_standby_names = ''", "select pg_reload_conf()"})
	servers, l := startWithKeys(t, servertest.Options{Database: pgtest.PrimaryURL("postgres", primary, standby)}, 2)
	load := startLoad(t, servers, l)
	load.awaitMore(50)
	freezeProcess(t, db, "select pid from pg_stat_replication")
	load.awaitMore(100)
	kill(t, primary)
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		s.AwaitReady(again)
	}
	load.finish()
	wantLosses(t, "with an asynchronous standby", servers[0].Client, l)
}

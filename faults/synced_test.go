package faults_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"testing"

	"taskflow/internal/servertest"
)

// syncedChanges is how many changes are watched, one after the other.
const syncedChanges = 40

// changeOneByOne makes so many changes that each is a commit of its own, none waiting for another.
func changeOneByOne(t *testing.T, c *servertest.Client) {
	t.Helper()
	id := c.Create(t).ID
	for i := range syncedChanges - 1 {
		c.Call(t, http.StatusOK, http.MethodPost, "/flows/"+id+"/state", fmt.Sprintf(`{"patch": {"n": %d}}`, i))
	}
}

// TestSynced_Postgres counts the syncs of PostgreSQL's log by its own statistics: as many changes as are made one after the
// other, so many syncs at least. With a database that is told not to sync, the count finds it.
func TestSynced_Postgres(t *testing.T) {
	cluster := durableCluster(t)
	url := cluster.URL("postgres")
	db := servertest.OpenDatabase(t, url)
	servertest.Start(t, servertest.Options{Database: url}).Stop() // makes the schema, uncounted
	for _, c := range []struct {
		name, setting string
		synced        bool
	}{
		{"as it is by default", "", true},
		{"without synchronous_commit", "alter system set synchronous_commit = off", false},
		{"without fsync", "alter system set fsync = off", false},
	} {
		if c.setting != "" {
			execute(t, db, []string{c.setting, "select pg_reload_conf()"})
		}
		before := walSyncs(t, db)
		s := servertest.Start(t, servertest.Options{Database: url})
		changeOneByOne(t, s.Client)
		if code, _ := s.Stop(); code != 0 {
			t.Errorf("%s: the server ended with %d", c.name, code)
		}
		syncs := walSyncs(t, db) - before
		if c.synced != (syncs >= syncedChanges) {
			t.Errorf("%s: PostgreSQL has synced its log %d times for %d changes", c.name, syncs, syncedChanges)
		}
		t.Logf("%s: %d syncs for %d changes one after the other", c.name, syncs, syncedChanges)
		if c.setting != "" {
			execute(t, db, []string{"alter system reset all", "select pg_reload_conf()"})
		}
	}
}

// walSyncs is how often the log has been synced, when no server is connected: a connection adds its own count as it ends.
func walSyncs(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	err := servertest.Await(t.Context(), patience, func() bool {
		var connected int
		const ask = "select count(*) from pg_stat_activity where application_name = 'taskflow'"
		if err := db.QueryRowContext(t.Context(), ask).Scan(&connected); err != nil {
			t.Fatal(err)
		}
		return connected == 0
	})
	if err != nil {
		t.Fatal("a server that has ended is still connected")
	}
	var version int
	if err := db.QueryRowContext(t.Context(), "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	const since14, since18 = "select wal_sync from pg_stat_wal", "select sum(fsyncs)::bigint from pg_stat_io where object = 'wal'"
	ask := since14
	if version >= 180000 {
		ask = since18
	}
	if err := db.QueryRowContext(t.Context(), ask).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

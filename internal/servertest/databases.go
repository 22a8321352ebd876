package servertest

import (
	"path/filepath"
	"testing"

	"taskflow/internal/pg/pgtest"
)

// Databases runs a test on each kind of database: url is that of a new one with no schema, for this test alone. Where the
// database takes several servers, servers is 2, else 1.
func Databases(t *testing.T, test func(t *testing.T, url string, servers int)) {
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t), 1) })
	t.Run("postgres", func(t *testing.T) { test(t, pgtest.Empty(t), 2) })
}

// SQLite is the URL of a new SQLite file.
func SQLite(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "taskflow.db") }

// StartAll starts a number of servers on one database, all at once, and waits until they are ready.
func StartAll(t testing.TB, o Options, servers int) []*Server {
	t.Helper()
	all := make([]*Server, servers)
	for i := range all {
		all[i] = Launch(t, o)
	}
	for _, s := range all {
		s.AwaitReady(readyTimeout)
	}
	return all
}

package servertest

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
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

// OpenDatabase opens a server's database behind its back, until the test's end.
func OpenDatabase(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, source := "pgx", url
	if path, embedded := strings.CutPrefix(url, "sqlite:"); embedded {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatalf("opening %s: %v", driver, err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

const (
	ageOnPostgres = `update flows set ended_at = ended_at - make_interval(secs => $1) where id = $2::uuid`
	ageOnSQLite   = `UPDATE flows SET ended_at = ended_at - $1 * 1000000 WHERE id = $2`
)

// Age has a flow that has ended have ended so much earlier.
func Age(t testing.TB, url string, flow string, by time.Duration) {
	t.Helper()
	id := uuid.MustParse(flow)
	statement, key := ageOnPostgres, any(flow)
	if strings.HasPrefix(url, "sqlite:") {
		statement, key = ageOnSQLite, id[:]
	}
	result, err := OpenDatabase(t, url).ExecContext(t.Context(), statement, int64(by.Seconds()), key)
	if err != nil {
		t.Fatalf("ageing flow %s: %v", flow, err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		t.Fatalf("ageing flow %s: %d rows, %v", flow, n, err)
	}
}

package pgtest_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"

	"github.com/jackc/pgx/v5"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

func TestDatabaseIsMigratedAndPrivate(t *testing.T) {
	t.Parallel()
	one, two := pgtest.Database(t), pgtest.Database(t)
	if one == two {
		t.Fatal("two databases share an address")
	}
	first, second := connect(t, one), connect(t, two)
	if _, err := first.Exec(t.Context(), "update feed set seq = 5"); err != nil {
		t.Fatal(err)
	}
	var seq, version int64
	const read = "select seq, (select max(version_id) from goose_db_version) from feed"
	if err := second.QueryRow(t.Context(), read).Scan(&seq, &version); err != nil {
		t.Fatal(err)
	}
	if seq != 0 || version != pg.LatestVersion() {
		t.Errorf("the second database has seq %d and schema %d, want 0 and %d", seq, version, pg.LatestVersion())
	}
}

func TestEmptyHasNoTables(t *testing.T) {
	t.Parallel()
	var tables int
	conn := connect(t, pgtest.Empty(t))
	const count = "select count(*) from pg_tables where schemaname = 'public'"
	if err := conn.QueryRow(t.Context(), count).Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables != 0 {
		t.Errorf("an empty database has %d tables", tables)
	}
}

// A killed cluster keeps what was committed, comes back at the same address, and Stop leaves nothing behind.
func TestClusterKillStartStop(t *testing.T) {
	t.Parallel()
	cluster, err := pgtest.StartCluster(t.Context(), pgtest.Options{Settings: map[string]string{"work_mem": "5MB"}})
	if err != nil {
		t.Fatal(err)
	}
	url := cluster.URL("postgres")
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	var fsync, workMem string
	const settings = "select current_setting('fsync'), current_setting('work_mem')"
	if err := conn.QueryRow(t.Context(), settings).Scan(&fsync, &workMem); err != nil {
		t.Fatal(err)
	}
	if fsync != "on" || workMem != "5MB" {
		t.Errorf("fsync %s, work_mem %s; want on, 5MB", fsync, workMem)
	}
	if _, err := conn.Exec(t.Context(), "create table kept as select 7 as n"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Fatal("a killed cluster takes connections")
	}
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := connect(t, url).QueryRow(t.Context(), "select n from kept").Scan(&n); err != nil || n != 7 {
		t.Fatalf("after the crash: %d, %v", n, err)
	}
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(config.Host); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cluster's folder is still there: %v", err)
	}
}

const ownerVariable = "PGTEST_OWNER"

// TestOwner is the process that TestClusterEndsWithItsProcess kills; on its own it does nothing.
func TestOwner(t *testing.T) {
	out := os.Getenv(ownerVariable)
	if out == "" {
		return
	}
	cluster, err := pgtest.StartCluster(t.Context(), pgtest.Options{Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out+".new", []byte(cluster.URL("postgres")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(out+".new", out); err != nil {
		t.Fatal(err)
	}
	<-t.Context().Done() // until it is killed
}

// Even SIGKILL of the owner ends the cluster and removes its folder.
func TestClusterEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "url")
	owner := exec.Command(os.Args[0], "-test.run=^TestOwner$")
	owner.Env = append(os.Environ(), ownerVariable+"="+out)
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var url []byte
	eventually(t, "the owner's cluster started", func() bool {
		var err error
		url, err = os.ReadFile(out)
		return err == nil
	})
	config, err := pgx.ParseConfig(string(url))
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := owner.Wait(); !errors.As(err, &exit) {
		t.Fatalf("the owner ended with %v", err)
	}
	eventually(t, "the cluster's folder went", func() bool {
		_, err := os.Stat(config.Host)
		return errors.Is(err, os.ErrNotExist)
	})
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

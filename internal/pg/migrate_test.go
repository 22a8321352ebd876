package pg_test

import (
	"errors"
	"io/fs"
	"net/url"
	"sync"
	"testing"

	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"
	"taskflow/migrations"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

func TestLatestVersion(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(migrations.Postgres, "postgres/*.sql")
	must(t, err)
	if got := pg.LatestVersion(); got != int64(len(files)) {
		t.Errorf("LatestVersion is %d, and there are %d files, numbered without a gap", got, len(files))
	}
}

// samples is a row to write before the migration to the version after it, and a query that must still be true at the
// newest version. Each migration that moves data gets one.
var samples = map[int64]struct{ insert, still string }{
	1: {
		`insert into flows (id, mode, controller_id, goal, owner_session_key, requester_origin, current_step, state, status,
			cancel_requested, revision, labels, steps_total, steps_active, created_at, updated_at)
		values ('00000000-0000-7000-8000-000000000001', 'managed', 'c', 'g', 'o', '', 'init', '{"n": 1.10}', 'created',
			false, 0, '{}', 0, 0, now(), now())`,
		`select count(*) = 1 and min(state::text) = '{"n": 1.10}' from flows`,
	},
}

// Every version, one by one, with data in between; then down again and up once more.
func TestMigrationsOneByOne(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	conn, s := connect(t, url), open(t, url)
	version := func() int64 {
		t.Helper()
		v, err := s.SchemaVersion(t.Context())
		must(t, err)
		return v
	}
	if v := version(); v != 0 {
		t.Errorf("an empty database has schema %d", v)
	}
	for v := int64(1); v <= pg.LatestVersion(); v++ {
		must(t, pg.Migrate(t.Context(), url, v))
		if got := version(); got != v {
			t.Errorf("after the migration to %d the schema is %d", v, got)
		}
		if sample, ok := samples[v]; ok {
			exec(t, conn, sample.insert)
		}
	}
	for v, sample := range samples {
		if !query[bool](t, conn, sample.still) {
			t.Errorf("what was written at version %d has suffered", v)
		}
	}
	must(t, create(t.Context(), s, newFlow()))
	for v := pg.LatestVersion() - 1; v > 0; v-- {
		must(t, pg.Migrate(t.Context(), url, v))
		if got := version(); got != v {
			t.Errorf("after the migration down to %d the schema is %d", v, got)
		}
	}
	undoAll(t, url)
	const tables = `select count(*) from pg_tables where schemaname = 'public' and tablename <> 'goose_db_version'`
	if n := query[int](t, conn, tables); n != 0 {
		t.Errorf("%d tables are left at version 0", n)
	}
	must(t, pg.Migrate(t.Context(), url, 0))
	must(t, create(t.Context(), s, newFlow()))
}

// undoAll goes down to no schema at all, which Migrate does not offer.
func undoAll(t *testing.T, url string) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	must(t, err)
	files, err := fs.Sub(migrations.Postgres, "postgres")
	must(t, err)
	db := stdlib.OpenDB(*config)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	must(t, err)
	_, err = provider.DownTo(t.Context(), 0)
	must(t, err)
}

// Replicas that start at once all find the schema there.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			if err := pg.Migrate(t.Context(), url, 0); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	const applied = `select count(*) from goose_db_version where version_id = $1`
	if n := query[int](t, connect(t, url), applied, pg.LatestVersion()); n != 1 {
		t.Errorf("the newest migration was recorded %d times", n)
	}
}

// What a database URL says of the pool is nothing that the database itself knows.
func TestMigrateWithSettingsOfThePool(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(pgtest.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	settings := u.Query()
	settings.Set("pool_max_conns", "7")
	settings.Set("pool_max_conn_lifetime", "1h")
	u.RawQuery = settings.Encode()
	must(t, pg.CheckURL(u.String()))
	must(t, pg.Migrate(t.Context(), u.String(), 0))
	must(t, create(t.Context(), open(t, u.String()), newFlow()))
}

// A schema that a later release has migrated further stays as it is.
func TestMigrateNewerSchema(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, s := connect(t, url), open(t, url)
	newer := pg.LatestVersion() + 1
	exec(t, conn, "insert into goose_db_version (version_id, is_applied) values ($1, true)", newer)
	must(t, pg.Migrate(t.Context(), url, 0))
	if v, err := s.SchemaVersion(t.Context()); err != nil || v != newer {
		t.Errorf("schema %d, %v; want %d", v, err, newer)
	}
	must(t, create(t.Context(), s, newFlow()))
}

func TestMigrateErrors(t *testing.T) {
	t.Parallel()
	if err := pg.Migrate(t.Context(), pgtest.Empty(t), pg.LatestVersion()+1); err == nil {
		t.Error("migrated to a version that does not exist")
	}
	if err := pg.Migrate(t.Context(), "postgres:///none?host="+t.TempDir(), 0); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a database: %v", err)
	}
}

package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/sqlite"
)

func version(t *testing.T, path string) int64 {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, err := s.SchemaVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMigrateOneByOneWithData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if got := version(t, path); got != 0 {
		t.Errorf("version of a new file: %d", got)
	}
	latest := sqlite.LatestVersion()
	for v := int64(1); v <= latest; v++ {
		if err := sqlite.Migrate(t.Context(), path, v); err != nil {
			t.Fatalf("to %d: %v", v, err)
		}
		if got := version(t, path); got != v {
			t.Errorf("version %d after migrating to %d", got, v)
		}
		fill(t, path, int(v))
	}
	for v := latest - 1; v >= 1; v-- {
		if err := sqlite.Migrate(t.Context(), path, v); err != nil {
			t.Fatalf("down to %d: %v", v, err)
		}
		if got := version(t, path); got != v {
			t.Errorf("version %d after migrating down to %d", got, v)
		}
	}
	if err := sqlite.Migrate(t.Context(), path, 0); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path, sqlite.Options{})
	if got := lastSeq(t, s); got != latest {
		t.Errorf("last seq %d, want the %d events written on the way", got, latest)
	}
}

// fill adds a flow, in the words of the schema of that version.
func fill(t *testing.T, path string, n int) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n < 4 { // the schemas between serve that release too
		release1{t, s}.create(aFlow(n))
		return
	}
	mustSave(t, s, created(aFlow(n)))
}

func TestDownMigrationsDropWhatUpMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := openAt(t, path, sqlite.Options{})
	mustSave(t, s, created(aFlow(1)))
	if err := sqlite.DownAll(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	var left int
	const count = `SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'goose%' AND name NOT LIKE 'sqlite%'`
	if err := s.Readers().QueryRowContext(t.Context(), count).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("%d tables and indexes are left", left)
	}
	if err := sqlite.Migrate(t.Context(), path, 0); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, created(aFlow(1)))
}

func TestManyMigrateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	var all sync.WaitGroup
	for n := range 6 {
		all.Go(func() {
			if err := sqlite.Migrate(t.Context(), path, 0); err != nil {
				t.Error(err)
				return
			}
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := save(t.Context(), s, created(aFlow(n))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := lastSeq(t, openAt(t, path, sqlite.Options{})); got != 6 {
		t.Errorf("last seq %d, want 6", got)
	}
}

func TestMigrateLeavesANewerSchemaAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := openAt(t, path, sqlite.Options{})
	newer := sqlite.LatestVersion() + 1
	err := s.OnWriter(t.Context(), func(c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (?, 1)`, newer)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Migrate(t.Context(), path, 0); err != nil {
		t.Fatal(err)
	}
	if got := version(t, path); got != newer {
		t.Errorf("version %d, want %d", got, newer)
	}
}

func TestMigrateRefusesUnknownVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	for _, v := range []int64{-1, sqlite.LatestVersion() + 1} {
		if err := sqlite.Migrate(t.Context(), path, v); err == nil {
			t.Errorf("Migrate to %d succeeded", v)
		}
	}
}

func TestMigrateWhileTheServerRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := openAt(t, path, sqlite.Options{})
	f := aFlow(1)
	mustSave(t, s, created(f))
	if err := sqlite.Migrate(t.Context(), path, 0); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, changed(f, func(f *flows.Flow) { f.Goal = "another" }))
}

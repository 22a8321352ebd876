// Package sqlitetest gives tests SQLite files that have the current schema already. It is to the embedded database what
// pgtest is to PostgreSQL.
package sqlitetest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"taskflow/internal/sqlite"
)

// File makes a file with the current schema for one test, and returns its path. It goes with the test's temporary folder.
func File(t testing.TB) string {
	t.Helper()
	file, err := migrated()
	if err != nil {
		t.Fatalf("no SQLite file for tests: %v", err)
	}
	path := filepath.Join(t.TempDir(), "taskflow.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// migrated is the content of a migrated file. Each test has a copy, for the migrations take longer than most tests.
var migrated = sync.OnceValues(migrate)

func migrate() ([]byte, error) {
	folder, err := os.MkdirTemp("", "tfsqlite")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "taskflow.db")
	if err := sqlite.Migrate(context.Background(), path, 0); err != nil {
		return nil, err
	}
	return os.ReadFile(path) // closed, so that nothing of it is in a log
}

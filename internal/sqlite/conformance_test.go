package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"taskflow/internal/sqlite"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.db")
	if err := sqlite.Migrate(t.Context(), empty, 0); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(empty) // closed, so that nothing of it is in a log
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(t *testing.T) store.Store {
		path := filepath.Join(t.TempDir(), "taskflow.db")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		return openAs(t, path, sqlite.Options{})
	})
}

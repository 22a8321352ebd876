package sqlite_test

import (
	"testing"

	"taskflow/internal/sqlite"
	"taskflow/internal/sqlite/sqlitetest"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return openAs(t, sqlitetest.File(t), sqlite.Options{})
	})
}

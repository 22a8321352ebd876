package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"taskflow/migrations"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
)

// lockPoll is how often a process that waits for another's migration looks again.
const lockPoll = 50 * time.Millisecond

// Migrate brings the schema of the file at path to version to, up or down; 0 is [LatestVersion]. It makes the file
// where it is missing. Several processes may call it at once: one migrates under a lock, the others wait for it and
// find the work done. The lock is on a file of its own beside the database, path + ".lock", which stays. A schema that
// is newer than this program is left as it is where to is 0.
func Migrate(ctx context.Context, path string, to int64) (err error) {
	latest := LatestVersion()
	if to < 0 || to > latest {
		return fmt.Errorf("SQLite schema version %d: the versions are 1 to %d", to, latest)
	}
	if path, err = resolve(path); err != nil {
		return err
	}
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, lockPoll); err != nil {
		return fmt.Errorf("locking %q for the migration: %w", lock.Path(), err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	db, err := openPool(writerDSN(path), 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := migrate(ctx, db, to); err != nil {
		return fmt.Errorf("migrating SQLite file %q: %w", path, classify(err))
	}
	return nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	source, err := fs.Sub(migrations.SQLite, "sqlite")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, source,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
}

func migrate(ctx context.Context, db *sql.DB, to int64) error {
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	if to == 0 {
		_, err = provider.Up(ctx)
		return err
	}
	current, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if to >= current {
		_, err = provider.UpTo(ctx, to)
	} else {
		_, err = provider.DownTo(ctx, to)
	}
	return err
}

// LatestVersion is the version of the newest migration in this program.
func LatestVersion() int64 {
	var latest int64
	names, _ := fs.Glob(migrations.SQLite, "sqlite/*.sql") // fails for a bad pattern only
	for _, name := range names {
		if version, err := goose.NumericComponent(name); err == nil {
			latest = max(latest, version)
		}
	}
	return latest
}

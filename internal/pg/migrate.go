package pg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"taskflow/migrations"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrationWait is how long, in tries of a second, a replica waits for another one's migration.
const migrationWait = 600

// Migrate brings the schema to version to, up or down; 0 is the newest, and never goes down: a newer schema than this
// release knows is left as it is. One replica at a time does it, under a lock of the database; the others wait.
//
// Errors: store.ErrUnavailable, ctx's error, or what the database says.
func Migrate(ctx context.Context, url string, to int64) (err error) {
	pool, err := readURL(url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	config := pool.ConnConfig
	config.RuntimeParams["application_name"] = applicationName
	// A migration waits for no long reader with every writer queued up behind it; it fails and can be run again.
	config.RuntimeParams["lock_timeout"] = milliseconds(lockTimeout)
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, migrationWait))
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	files, err := fs.Sub(migrations.Postgres, "postgres")
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	if err := migrate(ctx, provider, to); err != nil {
		return fmt.Errorf("migrating: %w", classify(ctx, err))
	}
	return nil
}

func migrate(ctx context.Context, provider *goose.Provider, to int64) error {
	if to == 0 {
		_, err := provider.Up(ctx)
		return err
	}
	if to < 0 || to > LatestVersion() {
		return fmt.Errorf("there is no schema version %d; the newest is %d", to, LatestVersion())
	}
	current, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if to < current {
		_, err = provider.DownTo(ctx, to)
	} else {
		_, err = provider.UpTo(ctx, to)
	}
	return err
}

// LatestVersion is the newest schema version that this release knows.
func LatestVersion() int64 {
	files, _ := fs.Glob(migrations.Postgres, "postgres/*.sql")
	var latest int64
	for _, file := range files {
		if version, err := goose.NumericComponent(file); err == nil {
			latest = max(latest, version)
		}
	}
	return latest
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"taskflow/internal/pg"
	"taskflow/internal/sqlite"
	"taskflow/internal/store"
	"taskflow/internal/telemetry"
)

// database is the configured store, and what differs between the two kinds.
type database struct {
	store.Store
	committers    int   // 0 is the engine's own choice
	schemaVersion int64 // that this program needs
	pools         func() []telemetry.Pool
}

// connectPatience is how long a start waits for a database that is starting too.
const connectPatience = 30 * time.Second

// open migrates the schema, unless that is left to the operator, and opens the store.
func (c *databaseConfig) open(ctx context.Context, log *slog.Logger, watched watch) (*database, error) {
	if !c.NoAutoMigrate {
		if err := c.migrate(ctx, 0, log); err != nil {
			return nil, err
		}
	}
	if path, embedded := c.sqlitePath(); embedded {
		s, err := sqlite.Open(ctx, path, sqlite.Options{Logger: log, Hooks: watched.sqlite()})
		if err != nil {
			return nil, fmt.Errorf("opening the database: %w", err)
		}
		return &database{Store: s, committers: 1, schemaVersion: sqlite.LatestVersion(), pools: poolsOf(s.Pools)}, nil // SQLite has one writer
	}
	s, err := pg.Open(ctx, c.URL, pg.Options{Logger: log, Hooks: watched.pg()})
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	return &database{Store: s, schemaVersion: pg.LatestVersion(), pools: poolsOf(s.Pools)}, nil
}

// poolsOf are a store's pools as the metrics have them.
func poolsOf[P pg.Pool | sqlite.Pool](pools func() []P) func() []telemetry.Pool {
	return func() (all []telemetry.Pool) {
		for _, p := range pools() {
			all = append(all, telemetry.Pool(p))
		}
		return all
	}
}

// migrate brings the schema to a version, 0 being the newest, and waits a while for a database that cannot be reached.
func (c *databaseConfig) migrate(ctx context.Context, to int64, log *slog.Logger) error {
	deadline := time.Now().Add(connectPatience)
	for {
		err := c.migrateOnce(ctx, to)
		if err == nil || !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
			return err
		}
		log.WarnContext(ctx, "waiting for the database", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

func (c *databaseConfig) migrateOnce(ctx context.Context, to int64) error {
	var err error
	if path, embedded := c.sqlitePath(); embedded {
		err = sqlite.Migrate(ctx, path, to)
	} else {
		err = pg.Migrate(ctx, c.URL, to)
	}
	if err != nil {
		return fmt.Errorf("migrating the schema: %w", err)
	}
	return nil
}

type migrateCommand struct {
	To int64 `help:"The version to go to, up or down; the newest where it is not given." placeholder:"V"`
}

// Run migrates the schema and says where it is.
func (c *migrateCommand) Run(ctx context.Context, db *databaseConfig, log *slog.Logger) error {
	if err := db.migrate(ctx, c.To, log); err != nil {
		return err
	}
	quiet := *db
	quiet.NoAutoMigrate = true
	opened, err := quiet.open(ctx, log, watch{})
	if err != nil {
		return err
	}
	version, err := opened.SchemaVersion(ctx)
	if err == nil {
		log.InfoContext(ctx, "schema migrated", "version", version)
	}
	return errors.Join(err, opened.Close())
}

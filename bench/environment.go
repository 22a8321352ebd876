package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// This file records what a figure depends on: the machine, the disk, the settings of PostgreSQL.

// environment is where and on what was measured.
type environment struct {
	Cores      int               `json:"cores"`
	System     string            `json:"system"`
	Go         string            `json:"go"`
	PostgreSQL map[string]string `json:"postgresql"`
	// FsyncMicros is the median time of one 8 KiB write with fsync, in the folder of the databases. Group commit is
	// worth the more, the slower that is.
	FsyncMicros int64 `json:"fsync_us"`
}

func (e environment) line() string {
	return fmt.Sprintf("%d cores, %s, %s, PostgreSQL %s (fsync %s, synchronous_commit %s), fsync of 8 KiB: %d µs",
		e.Cores, e.System, e.Go, e.PostgreSQL["server_version"], e.PostgreSQL["fsync"],
		e.PostgreSQL["synchronous_commit"], e.FsyncMicros)
}

var errNotDurable = errors.New("PostgreSQL is not set to be durable")

const readSettings = `
SELECT name, current_setting(name) FROM pg_settings WHERE name IN ('server_version', 'fsync', 'synchronous_commit',
    'full_page_writes', 'wal_sync_method', 'wal_level', 'shared_buffers', 'max_connections', 'max_wal_size')`

// inspect reads the environment. A PostgreSQL that could lose a commit is errNotDurable.
func inspect(ctx context.Context, databaseURL, folder string) (environment, error) {
	e := environment{Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		PostgreSQL: map[string]string{}}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return e, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, readSettings)
	if err != nil {
		return e, fmt.Errorf("reading the settings: %w", err)
	}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		e.PostgreSQL[name] = value
		return nil
	}); err != nil {
		return e, fmt.Errorf("reading the settings: %w", err)
	}
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if e.PostgreSQL[name] != "on" {
			return e, fmt.Errorf("%w: %s is %s", errNotDurable, name, e.PostgreSQL[name])
		}
	}
	e.FsyncMicros, err = timeFsync(folder)
	return e, err
}

// timeFsync writes and syncs a page a hundred times.
func timeFsync(folder string) (micros int64, err error) {
	file, err := os.Create(filepath.Join(folder, "fsync"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	page, took := make([]byte, 8<<10), make([]int64, 100)
	for i := range took {
		start := time.Now()
		if _, err := file.WriteAt(page, 0); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		took[i] = time.Since(start).Microseconds()
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// childEnvironment is this process's, without what would change a server or pgbench behind the flags' back.
func childEnvironment(extra ...string) []string {
	kept := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "TASKFLOW_") || strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "OTEL_")
	})
	return append(kept, extra...)
}

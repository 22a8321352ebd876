// Package pgtest gives tests a PostgreSQL: a private cluster that it starts and that ends with the process, or the
// server that TEST_POSTGRES_URL names. It owns the cluster's folder and processes and nothing else; it never touches a
// database that it did not make. Tests call [Database]; tests of crashes and the load generator call [StartCluster].
//
// Where no PostgreSQL can be had it fails; it never skips.
package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/pg"
	"taskflow/migrations"

	"github.com/jackc/pgx/v5"
)

// Database makes a database with the current schema for one test, and drops it at the test's end. It returns the
// address. The server is shared by the tests of a process and runs without fsync.
func Database(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("no PostgreSQL for tests: %v", err)
	}
	return s.database(t, s.template)
}

// Empty is Database without any schema, for tests of migrations.
func Empty(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("no PostgreSQL for tests: %v", err)
	}
	return s.database(t, "template0")
}

// server is where the tests of this process have their databases.
type server struct {
	url      func(database string) string
	admin    string // the address of a database to create others from
	template string
	cluster  *Cluster // nil where the server is not ours; held so that its leash is
}

// shared starts the server on first use. The end of the process ends it.
var shared = sync.OnceValues(startShared)

func startShared() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s := &server{admin: os.Getenv("TEST_POSTGRES_URL")}
	if s.admin == "" {
		cluster, err := StartCluster(ctx, Options{Fast: true})
		if err != nil {
			return nil, err
		}
		s.cluster, s.url, s.admin = cluster, cluster.URL, cluster.URL("postgres")
	} else {
		base, err := url.Parse(s.admin)
		if err != nil {
			return nil, fmt.Errorf("TEST_POSTGRES_URL: %w", err)
		}
		s.url = func(database string) string {
			u := *base
			u.Path = "/" + database
			return u.String()
		}
	}
	return s, s.makeTemplate(ctx)
}

// makeTemplate makes the migrated database that the tests' own are copied from. Its name goes by the migrations, so a
// server that outlives the process keeps one for each schema; a lock lets one process make it.
func (s *server) makeTemplate(ctx context.Context) error {
	hash := sha256.New()
	err := fs.WalkDir(migrations.Postgres, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(migrations.Postgres, path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	s.template = "taskflow_template_" + hex.EncodeToString(hash.Sum(nil)[:6])
	return s.do(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "select pg_advisory_lock(hashtext($1))", s.template); err != nil {
			return err
		}
		var made bool
		const done = "select exists(select from pg_database where datname = $1 and datistemplate)"
		if err := conn.QueryRow(ctx, done, s.template).Scan(&made); err != nil || made {
			return err
		}
		// What a process left half made is made again.
		if _, err := conn.Exec(ctx, "drop database if exists "+quote(s.template)); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "create database "+quote(s.template)+" template template0"); err != nil {
			return err
		}
		if err := pg.Migrate(ctx, s.url(s.template), 0); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "alter database "+quote(s.template)+" is_template true")
		return err
	})
}

// database copies a template for one test.
func (s *server) database(t testing.TB, template string) string {
	t.Helper()
	name := "taskflow_test_" + strings.ToLower(rand.Text()[:12])
	run := func(sql string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return s.do(ctx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, sql)
			return err
		})
	}
	if err := run("create database " + quote(name) + " template " + quote(template)); err != nil {
		t.Fatalf("making a database: %v", err)
	}
	t.Cleanup(func() {
		if err := run("drop database " + quote(name) + " with (force)"); err != nil {
			t.Errorf("dropping the test's database: %v", err)
		}
	})
	return s.url(name)
}

// do runs fn on a connection to the server.
func (s *server) do(ctx context.Context, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	return errors.Join(fn(conn), conn.Close(ctx))
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbyName is what a standby calls itself to its primary.
const standbyName = "standby"

// Standby copies a running cluster into one of its own, which follows it, and has the primary wait for it in every commit
// from then on (synchronous_standby_names). The caller stops it with Stop.
func (c *Cluster) Standby(ctx context.Context) (*Cluster, error) {
	root, err := os.MkdirTemp("", "tfpg")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the standby: %w", err)
	}
	s := &Cluster{root: root, bin: c.bin, options: c.options, account: c.account}
	if err := s.copyOf(ctx, c); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	if err := c.awaitStandby(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// copyOf makes the data folder.
func (c *Cluster) copyOf(ctx context.Context, primary *Cluster) error {
	if err := c.Own(c.root); err != nil {
		return err
	}
	from := "host=" + primary.root + " user=postgres application_name=" + standbyName
	if port := primary.options.Settings["port"]; port != "" {
		from += " port=" + port
	}
	backup := exec.CommandContext(ctx, filepath.Join(c.bin, "pg_basebackup"), "--dbname", from, "--pgdata", c.data(),
		"--write-recovery-conf", "--checkpoint=fast", "--no-sync")
	backup.Dir, backup.SysProcAttr, backup.Env = c.root, c.account, environment()
	if out, err := backup.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	return nil
}

// awaitStandby makes commits wait for the standby, and waits until they do.
func (c *Cluster) awaitStandby(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connecting to the primary: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range []string{"alter system set synchronous_standby_names = " + quote(standbyName), "select pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("naming the standby: %w", err)
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for synchronous := false; !synchronous; {
		const ask = "select exists(select from pg_stat_replication where sync_state = 'sync')"
		if err := conn.QueryRow(ctx, ask).Scan(&synchronous); err != nil {
			return fmt.Errorf("asking for the standby: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the standby does not follow: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Promote makes a primary of a standby, and returns when it is one.
func (c *Cluster) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connecting to the standby: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var promoted bool
	if err := conn.QueryRow(ctx, "select pg_promote(true, 60)").Scan(&promoted); err != nil || !promoted {
		return fmt.Errorf("promoting the standby: %v, %w", promoted, err)
	}
	return nil
}

// PrimaryURL is the address of a database of whichever of some clusters takes changes.
func PrimaryURL(database string, clusters ...*Cluster) string {
	hosts := make([]string, len(clusters))
	for i, c := range clusters {
		hosts[i] = c.root
	}
	query := url.Values{"host": {strings.Join(hosts, ",")}, "user": {"postgres"}, "sslmode": {"disable"}, "target_session_attrs": {"read-write"}}
	return "postgres:///" + url.PathEscape(database) + "?" + query.Encode()
}

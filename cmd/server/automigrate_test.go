package main

import (
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

// TestSubcommands_MigrateAsServersDo runs commands on a database without a schema: with --no-auto-migrate they leave it alone
// and fail, and without they make it, as a server would. TestKeys_ReadTheSameVariables has those for keys.
func TestSubcommands_MigrateAsServersDo(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"prune", "--older-than=P30D"}, {"rotate-callback-key"}} {
		t.Run(args[0], func(t *testing.T) {
			servertest.Databases(t, func(t *testing.T, url string, _ int) {
				r := servertest.Run(t, servertest.Options{Database: url}, append(args, "--no-auto-migrate")...)
				if tables := everyTable(t, url); r.Code != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, "server: ") || len(tables) > 0 {
					t.Errorf("with --no-auto-migrate: %+v, and it has made %q", r, tables)
				}
				r = servertest.Run(t, servertest.Options{Database: url}, args...)
				if tables := everyTable(t, url); r.Code != 0 || r.Stdout == "" || len(tables) < 5 {
					t.Errorf("without: %+v, and there are %q", r, tables)
				}
			})
		})
	}
}

package main

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

// TestKeys_OnlyTheHashIsStored reads the whole database after keys were made and used: of each there is the SHA-256 of the
// exact string, and nothing of what is secret in it.
func TestKeys_OnlyTheHashIsStored(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		ids := map[string]string{} // by key
		for _, args := range [][]string{everything("kate"), append(everything("bob"), "--expires", "P90D")} {
			key, id := makeKey(t, url, args...)
			ids[key] = id
		}
		s := servertest.Start(t, withKeys(url))
		for key := range ids {
			s.Call(t, http.StatusCreated, http.MethodPost, "/flows", newFlow, append(bearer(key), "Idempotency-Key", "k")...)
		}
		s.Stop() // notes their last use
		db := servertest.OpenDatabase(t, url)
		rows := everyRow(t, db, url)
		for key, id := range ids {
			var hash []byte
			if err := db.QueryRowContext(t.Context(), "select hash from api_keys where id = $1", id).Scan(&hash); err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256([]byte(key)); !bytes.Equal(hash, sum[:]) {
				t.Errorf("the hash of %s is %x, want %x", id, hash, sum)
			}
			text := key[strings.LastIndex(key, id+"_")+len(id)+1:]
			secret, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil || len(secret) != 32 {
				t.Fatalf("a secret of %d bytes, %v", len(secret), err)
			}
			if !strings.Contains(rows, id) || !strings.Contains(rows, string(hash)) {
				t.Fatalf("the rows that were read do not have the key's id and hash:\n%q", rows)
			}
			for _, form := range []string{text, string(secret), hex.EncodeToString(secret), hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte(key))} {
				if strings.Contains(rows, form) {
					t.Errorf("the database has the secret of %s, as %q", id, form)
				}
			}
		}
	})
}

// everyRow is the text of each row of each table.
func everyRow(t *testing.T, db *sql.DB, url string) string {
	t.Helper()
	var all strings.Builder
	for _, table := range everyTable(t, url) {
		for _, row := range query(t, db, fmt.Sprintf("select * from %q", table)) {
			fmt.Fprintf(&all, "%s: %s\n", table, row)
		}
	}
	return all.String()
}

// everyTable are the names of a database's tables.
func everyTable(t *testing.T, url string) (names []string) {
	t.Helper()
	tables := "select tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
	if strings.HasPrefix(url, "sqlite:") {
		tables = "select name from sqlite_master where type = 'table'"
	}
	for _, row := range query(t, servertest.OpenDatabase(t, url), tables) {
		names = append(names, fmt.Sprint(row[0]))
	}
	return names
}

// query is the rows of a query, bytes as they are.
func query(t *testing.T, db *sql.DB, statement string) (all [][]any) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, places := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			places[i] = &values[i]
		}
		if err := rows.Scan(places...); err != nil {
			t.Fatal(err)
		}
		all = append(all, values)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

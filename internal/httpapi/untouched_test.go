package httpapi_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
	"taskflow/internal/sqlite/sqlitetest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// This file holds that another owner's flow takes as long as none, without a clock: it is neither locked nor read, so there
// is nothing that could take longer.

// sameAsNone sends everything that can be asked of a flow, about one that is another's and about one that does not exist.
func sameAsNone(t *testing.T, api *client, another string) {
	operations(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, o *openapi3.Operation) {
		if !strings.HasPrefix(path, "/flows/{id}") {
			return
		}
		for _, headers := range [][]string{nil, {`If-Match: "99"`}, {"Prefer: wait=60", `If-None-Match: "2"`}, {"Idempotency-Key: " + uuid.NewString()}} {
			ask := func(id string) string {
				target, body := sample(t, path, id, o)
				return without(api.in(t).do(method, target, body, headers...), id)
			}
			wantText(t, strings.Join(headers, ", "), ask(another), ask(uuid.NewString()))
		}
	})
	for path, body := range map[string]string{
		"/external-events": `{"topic":"t","correlation_id":"c","flow_id":"%s"}`,
		"/batch":           `{"commands":[{"method":"POST","path":"/flows/%s/start"},{"method":"POST","path":"/flows/%[1]s/cancel"}]}`,
	} {
		ask := func(id string) string { return without(api.in(t).post(path, fmt.Sprintf(body, id)), id) }
		wantText(t, path, ask(another), ask(uuid.NewString()))
	}
	for _, list := range []string{"/events?limit=5&flow_id=", "/events?after=0&order=-seq&flow_id="} {
		wantText(t, list, without(api.in(t).get(list+another), another), without(api.in(t).get(list+noFlow()[len("/flows/"):]), another))
	}
}

// TestTenants_LockedFlow has somebody lock the row of kate's flow and hold it. Whatever bob asks of it is answered as if there
// were none; whoever waited for the lock would be answered with 503 in the end. SQLite has no locks of rows.
func TestTenants_LockedFlow(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	all := openPostgres(t, address, twoTenants)
	kate := all.as("kate")
	path := kate.inStatus("waiting")
	locks, watches := connect(t, address), connect(t, address)
	tx, err := locks.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hers := strings.TrimPrefix(path, "/flows/")
	if _, err := tx.Exec(t.Context(), "select from flows where id = $1 for update", hers); err != nil {
		t.Fatal(err)
	}
	sameAsNone(t, all.as("bob"), hers)
	answered := make(chan int, 1)
	go func() { // ends with the answer, which is waited for
		a, err := kate.try(context.Background(), http.MethodPost, path+"/resume", "")
		if err != nil {
			t.Errorf("kate's own change: %v", err)
		}
		answered <- a.status
	}()
	if err := servertest.Await(t.Context(), 10*time.Second, func() bool {
		const ask = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
		return number(t, watches, ask) > 0
	}); err != nil {
		t.Error("kate's own change does not wait for the lock: it holds nothing up")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := <-answered; status != http.StatusOK {
		t.Errorf("kate's own change, once there is no lock: %d", status)
	}
}

// bigState is the member of a body with a state that no row has room for.
func bigState() string {
	random := make([]byte, 100_000)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(random)
	return `"state":{"big":"` + strings.Repeat(marker, 1000) + hex.EncodeToString(random) + `"}`
}

// marker stands in what is stored of a big state, as it is.
const marker = "kate's own "

// TestTenants_UnreadState_Postgres counts how often the database has looked up a state that is stored outside of its row.
func TestTenants_UnreadState_Postgres(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	conn := connect(t, address)
	lookups := func() int64 { // a connection adds its own as it ends
		t.Helper()
		if err := servertest.Await(t.Context(), 10*time.Second, func() bool {
			return number(t, conn, "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'taskflow'") == 0
		}); err != nil {
			t.Fatal("a server that has ended is still connected")
		}
		return number(t, conn, "select sum(toast_blks_read + toast_blks_hit)::bigint from pg_statio_user_tables where relname in ('flows', 'events')")
	}
	var path string
	t.Run("made", func(t *testing.T) { path = openPostgres(t, address, twoTenants).as("kate").created(bigState()) })
	before := lookups()
	t.Run("asked for by another", func(t *testing.T) {
		sameAsNone(t, openPostgres(t, address, twoTenants).as("bob"), strings.TrimPrefix(path, "/flows/"))
	})
	if after := lookups(); after != before {
		t.Errorf("the state was looked up: %d blocks, %d before", after, before)
	}
	t.Run("read by its owner", func(t *testing.T) { openPostgres(t, address, twoTenants).as("kate").get(path).want(http.StatusOK) })
	if after := lookups(); after == before {
		t.Error("the count does not tell that the owner has read it")
	}
}

// TestTenants_UnreadState_SQLite breaks the pages that a state is stored on: whoever reads it fails.
func TestTenants_UnreadState_SQLite(t *testing.T) {
	t.Parallel()
	file := sqlitetest.File(t)
	var path string
	t.Run("made", func(t *testing.T) { path = openSQLite(t, file, twoTenants).as("kate").created(bigState()) })
	breakPages(t, file)
	t.Run("asked for by another", func(t *testing.T) {
		sameAsNone(t, openSQLite(t, file, twoTenants).as("bob"), strings.TrimPrefix(path, "/flows/"))
	})
	t.Run("read by its owner", func(t *testing.T) {
		kate := openSQLite(t, file, twoTenants).as("kate")
		for _, read := range []string{path, path + "/events"} {
			if a := kate.in(t).get(read); a.status < 500 {
				t.Errorf("GET %s is answered with %d: its pages are not broken", read, a.status)
			}
		}
	})
}

// breakPages has each page that a big state overflows to go on where there is none.
func breakPages(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	size := int(content[16])<<8 | int(content[17]) // of a page; see sqlite.org/fileformat.html
	broken := 0
	for page := size; page+size <= len(content); page += size {
		// An overflow page begins with the number of the next, a page of a tree with its kind, which is not 0.
		if content[page] == 0 && bytes.Contains(content[page:page+size], []byte(marker)) {
			copy(content[page:], []byte{0x7f, 0xff, 0xff, 0xff})
			broken++
		}
	}
	if broken < 2 {
		t.Fatalf("%d pages of a state were found, want its and the trail's", broken)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func number(t *testing.T, conn *pgx.Conn, query string) (n int64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

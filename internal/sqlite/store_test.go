package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/sqlite"
	"taskflow/internal/sqlite/sqlitetest"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// openAt opens the file with its schema up to date.
func openAt(t testing.TB, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	if err := sqlite.Migrate(t.Context(), path, 0); err != nil {
		t.Fatal(err)
	}
	return openAs(t, path, o)
}

// openAs opens the file with the schema it has, and closes it when the test ends.
func openAs(t testing.TB, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func open(t testing.TB) *sqlite.Store {
	return openAs(t, sqlitetest.File(t), sqlite.Options{})
}

var testEpoch = time.Date(2026, 4, 23, 15, 0, 0, 123000, time.UTC)

// aFlow is the n-th of flows that are each a microsecond younger than the one before.
func aFlow(n int) *flows.Flow {
	at := testEpoch.Add(time.Duration(n) * time.Microsecond)
	return &flows.Flow{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)), Mode: flows.Managed, ControllerID: "kate/inbox",
		Goal: "a goal", OwnerSessionKey: "agent:kate:session:1", CurrentStep: "init", State: json.RawMessage(`{"n":1.10}`),
		Status: flows.Created, Labels: map[string]string{"team": "a"}, CreatedAt: at, UpdatedAt: at,
	}
}

// created is what makes the flows, with an event each.
func created(list ...*flows.Flow) store.Writes {
	w := store.Writes{Created: list}
	for _, f := range list {
		w.Events = append(w.Events, event(f, flows.EventCreated))
	}
	return w
}

func event(f *flows.Flow, kind flows.EventKind) flows.Event {
	return flows.Event{FlowID: f.ID, Revision: f.Revision, Kind: kind, Payload: json.RawMessage(`{}`), Actor: "test", At: f.UpdatedAt}
}

// changed raises a flow's revision, and is what writes that.
func changed(f *flows.Flow, change func(*flows.Flow)) store.Writes {
	f.Revision++
	change(f)
	return store.Writes{
		Updated: []store.FlowUpdate{{Flow: f, State: true, Labels: true, Wait: true}},
		Events:  []flows.Event{event(f, flows.EventStateUpdated)},
	}
}

func save(ctx context.Context, s store.Updater, w store.Writes) error {
	return s.Update(ctx, func(tx store.Tx) error { return tx.Save(w) })
}

func mustSave(t testing.TB, s store.Updater, w store.Writes) {
	t.Helper()
	if err := save(t.Context(), s, w); err != nil {
		t.Fatal(err)
	}
}

// lastSeq is the number of the last event, 0 where there is none.
func lastSeq(t testing.TB, s store.Reader) int64 {
	t.Helper()
	page, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, Desc: true, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Items) == 0 {
		return 0
	}
	return page.Items[0].Seq
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	for _, path := range []string{"", ":memory:", "file:x.db?mode=memory"} {
		if s, err := sqlite.Open(t.Context(), path, sqlite.Options{}); err == nil {
			t.Errorf("Open(%q) succeeded", path)
			s.Close()
		}
	}
	folder := t.TempDir()
	if _, err := sqlite.Open(t.Context(), folder, sqlite.Options{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("opening a folder: %v, want ErrUnavailable", err)
	}
}

func TestOpenMakesTheFolderAndTakesAnyName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "a b?c#d%20é.db")
	s := openAt(t, path, sqlite.Options{})
	mustSave(t, s, created(aFlow(1)))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is not where it was asked for: %v", err)
	}
}

func TestClosedStoreIsUnavailable(t *testing.T) {
	s := open(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := save(t.Context(), s, created(aFlow(1))); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Update: %v", err)
	}
	if _, err := s.Flow(t.Context(), uuid.New(), flows.Everyone); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Flow: %v", err)
	}
}

func TestCloseWaitsForWhatIsUnderWay(t *testing.T) {
	s := open(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	var updated, closed error
	var both sync.WaitGroup
	both.Go(func() {
		updated = s.Update(t.Context(), func(tx store.Tx) error {
			close(begun)
			<-finish
			return tx.Save(created(aFlow(1)))
		})
	})
	<-begun
	both.Go(func() { closed = s.Close() })
	close(finish)
	both.Wait()
	if updated != nil || closed != nil {
		t.Errorf("Update: %v, Close: %v", updated, closed)
	}
}

func TestSettingsAreInForceOnEveryConnection(t *testing.T) {
	s := openAs(t, sqlitetest.File(t), sqlite.Options{Readers: 3})
	var conns []*sql.Conn
	for range 3 { // held at once, so that they are three
		c, err := s.Readers().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for i, c := range conns {
		checkSettings(t, c, fmt.Sprintf("reader %d", i), map[string]string{
			"journal_mode": "wal", "synchronous": "2", "busy_timeout": "5000", "query_only": "1"})
	}
	err := s.OnWriter(t.Context(), func(c *sql.Conn) error {
		checkSettings(t, c, "writer", map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "5000",
			"query_only": "0", "wal_autocheckpoint": "4000", "journal_size_limit": "16777216"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeysAreReadBesideSlowReads holds every connection that callers' reads have.
func TestKeysAreReadBesideSlowReads(t *testing.T) {
	s := openAs(t, sqlitetest.File(t), sqlite.Options{Readers: 1})
	held, err := s.Readers().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for what, read := range map[string]func() error{
		"the API keys":         func() error { _, err := s.APIKeys(ctx); return err },
		"the callback keys":    func() error { _, err := s.CallbackKeys(ctx); return err },
		"the schema's version": func() error { _, err := s.SchemaVersion(ctx); return err },
	} {
		if err := read(); err != nil {
			t.Errorf("%s beside a slow read: %v", what, err)
		}
	}
}

func checkSettings(t *testing.T, c *sql.Conn, who string, want map[string]string) {
	t.Helper()
	for name, value := range want {
		var got string
		if err := c.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != value {
			t.Errorf("%s: %s is %s, want %s", who, name, got, value)
		}
	}
}

func TestOneReaderIsEnough(t *testing.T) {
	s := openAs(t, sqlitetest.File(t), sqlite.Options{Readers: 1})
	f := aFlow(1)
	mustSave(t, s, created(f))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reads := []func() error{
		func() error { _, err := s.Flows(ctx, store.FlowQuery{Owners: flows.Everyone, Limit: 5}); return err },
		func() error {
			_, err := s.Flows(ctx, store.FlowQuery{Owners: flows.Everyone, Limit: 5, WithoutState: true, Mode: f.Mode})
			return err
		},
		func() error {
			_, err := s.Events(ctx, store.EventQuery{Owners: flows.Everyone, Limit: 5, Mode: f.Mode})
			return err
		},
		func() error {
			_, err := s.Events(ctx, store.EventQuery{Owners: flows.Everyone, Limit: 5, FlowID: f.ID, FromFlow: true, After: new(int64(9))})
			return err
		},
		func() error {
			_, err := s.Steps(ctx, store.StepQuery{Owners: flows.Everyone, Limit: 5, FlowID: f.ID})
			return err
		},
		func() error { _, err := s.Stats(ctx, flows.Everyone); return err },
		func() error { _, err := s.SchemaVersion(ctx); return err },
		func() error {
			_, err := s.ExternalEvents(ctx, store.ExternalEventQuery{Owners: flows.Everyone, Limit: 5})
			return err
		},
		func() error { _, err := s.Delivering(ctx, 5); return err },
		func() error { _, _, _, err := s.NextDue(ctx); return err },
		func() error { _, err := s.CountEnded(ctx, f.CreatedAt); return err },
		func() error { _, err := s.CallbackKeys(ctx); return err },
	}
	var all sync.WaitGroup
	for i, read := range slices.Repeat(reads, 5) {
		all.Go(func() {
			if err := read(); err != nil {
				t.Errorf("read %d: %v", i%len(reads), err)
			}
		})
	}
	all.Wait()
}

func TestZeroFlowIDIsNotEveryFlow(t *testing.T) {
	s := open(t)
	mustSave(t, s, created(aFlow(1)))
	for _, q := range []store.EventQuery{{Limit: 5}, {Limit: 5, Desc: true}, {Limit: 5, Kinds: flows.EventKinds}} {
		q.FromFlow = true
		if page, err := s.Events(t.Context(), q); !errors.Is(err, flows.ErrNotFound) {
			t.Errorf("Events(%+v): %d events, %v; want ErrNotFound", q, len(page.Items), err)
		}
	}
}

func TestReaderSeesWhatWasAnswered(t *testing.T) {
	s := open(t)
	f := aFlow(1)
	mustSave(t, s, created(f))
	for range 200 {
		mustSave(t, s, changed(f, func(*flows.Flow) {}))
		got, err := s.Flow(t.Context(), f.ID, flows.Everyone)
		if err != nil {
			t.Fatal(err)
		}
		if got.Revision != f.Revision {
			t.Fatalf("read revision %d after %d was committed", got.Revision, f.Revision)
		}
	}
}

func TestSecondStoreOnTheSameFile(t *testing.T) {
	path := sqlitetest.File(t)
	server, beside := openAs(t, path, sqlite.Options{}), openAs(t, path, sqlite.Options{Readers: 1})
	const each = 100
	var both sync.WaitGroup
	for i, s := range []*sqlite.Store{server, beside} {
		both.Go(func() {
			for n := range each {
				if err := save(t.Context(), s, created(aFlow(i*each+n))); err != nil {
					t.Errorf("store %d: %v", i, err)
				}
				if _, err := s.Flow(t.Context(), aFlow(i*each+n).ID, flows.Everyone); err != nil {
					t.Errorf("store %d: %v", i, err)
				}
			}
		})
	}
	both.Wait()
	for i, s := range []*sqlite.Store{server, beside} {
		if got := lastSeq(t, s); got != 2*each {
			t.Errorf("store %d: last seq %d, want %d", i, got, 2*each)
		}
	}
}

func TestClockIsTheOptionsInMicroseconds(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("x", 3600))
	s := openAs(t, sqlitetest.File(t), sqlite.Options{Now: func() time.Time { return now }})
	err := s.Update(t.Context(), func(tx store.Tx) error {
		snapshot, err := tx.Load(store.Need{})
		if want := time.Date(2026, 1, 2, 2, 4, 5, 678901000, time.UTC); snapshot.Now != want {
			t.Errorf("Now is %v, want %v", snapshot.Now, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLabelsOfAnyTextAreFoundAndForgotten(t *testing.T) {
	s := open(t)
	keys := []string{`<a href="x">&`, `quote"back\slash`, "tab\tline\nend", "\u2028é😀", "", "'; DROP TABLE flows; --"}
	f := aFlow(1)
	f.Labels = map[string]string{}
	for _, k := range keys {
		f.Labels[k] = "v" + k
	}
	mustSave(t, s, created(f))
	for _, k := range keys {
		if got := labelled(t, s, store.Label{Key: k, Value: "v" + k}); got != 1 {
			t.Errorf("label %q: %d flows, want 1", k, got)
		}
	}
	mustSave(t, s, changed(f, func(f *flows.Flow) { f.Labels = nil }))
	for _, k := range keys {
		if got := labelled(t, s, store.Label{Key: k, Value: "v" + k}); got != 0 {
			t.Errorf("removed label %q: %d flows, want 0", k, got)
		}
	}
}

// labelled counts by the index alone.
func labelled(t *testing.T, s *sqlite.Store, l store.Label) (n int) {
	t.Helper()
	const count = `SELECT count(*) FROM flow_labels WHERE key = ? AND value = ?`
	if err := s.Readers().QueryRowContext(t.Context(), count, l.Key, l.Value).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEraseLeavesNothing(t *testing.T) {
	s := open(t)
	f := aFlow(1)
	w := created(f)
	w.Steps = []*flows.Step{{ID: uuid.New(), FlowID: f.ID, RunID: "r", Runtime: flows.Managed, Status: flows.StepRunning,
		Result: json.RawMessage("null"), ObservedAt: f.CreatedAt, CreatedAt: f.CreatedAt, UpdatedAt: f.CreatedAt}}
	mustSave(t, s, w)
	mustSave(t, s, store.Writes{Erased: []uuid.UUID{f.ID}})
	for _, table := range []string{"flows", "flow_labels", "steps", "events"} {
		var n int
		if err := s.Readers().QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != 0 {
			t.Errorf("%d rows left in %s", n, table)
		}
	}
}

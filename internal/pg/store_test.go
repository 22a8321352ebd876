package pg_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, pgtest.Database(t)) })
}

// open opens a store that the test's end closes.
func open(t testing.TB, url string) *pg.Store {
	t.Helper()
	return openWith(t, url, pg.Options{})
}

func openWith(t testing.TB, url string, o pg.Options) *pg.Store {
	t.Helper()
	s, err := pg.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// connect opens a plain connection beside the store.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func newFlow() *flows.Flow {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return &flows.Flow{ID: uuid.Must(uuid.NewV7()), Mode: flows.Managed, ControllerID: "kate/inbox", Goal: "a goal",
		OwnerSessionKey: "agent:kate", CurrentStep: "init", State: json.RawMessage(`{"n":1.10}`), Status: flows.Running,
		Labels: map[string]string{"team": "blue"}, CreatedAt: now, UpdatedAt: now}
}

func eventOf(f *flows.Flow, actor string) flows.Event {
	kind := flows.EventStateUpdated
	if f.Revision == 0 {
		kind = flows.EventCreated
	}
	return flows.Event{FlowID: f.ID, Revision: f.Revision, Kind: kind, Payload: json.RawMessage(`{}`), Actor: actor,
		At: f.UpdatedAt}
}

// create saves new flows with an event each.
func create(ctx context.Context, s store.Updater, list ...*flows.Flow) error {
	var need store.Need
	w := store.Writes{Created: list}
	for _, f := range list {
		need.Flows = append(need.Flows, f.ID)
		w.Events = append(w.Events, eventOf(f, "creator"))
	}
	return s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.Load(need)
		if err != nil {
			return err
		}
		if len(snapshot.Flows) > 0 {
			return flows.ErrAlreadyExists
		}
		return tx.Save(w)
	})
}

// raise takes a flow one revision on, with an event by actor. between runs after the load, with the run's number.
func raise(ctx context.Context, s store.Updater, id uuid.UUID, actor string, between func(run int)) error {
	run := 0
	return s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.Load(store.Need{Flows: []uuid.UUID{id}})
		if err != nil {
			return err
		}
		if run++; between != nil {
			between(run)
		}
		next := *snapshot.Flows[id]
		next.Revision++
		next.UpdatedAt = snapshot.Now
		return tx.Save(store.Writes{Updated: []store.FlowUpdate{{Flow: &next}}, Events: []flows.Event{eventOf(&next, actor)}})
	})
}

// trail reads the actors of a flow's events, oldest first.
func trail(t testing.TB, s store.Reader, id uuid.UUID) []string {
	t.Helper()
	page, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, FlowID: id, FromFlow: true, Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	actors := make([]string, len(page.Items))
	for i, e := range page.Items {
		actors[i] = e.Actor
		if e.Revision != int64(i) {
			t.Errorf("event %d of the trail has revision %d", i, e.Revision)
		}
	}
	return actors
}

func expectTrail(t testing.TB, s store.Reader, id uuid.UUID, want ...string) {
	t.Helper()
	if got := fmt.Sprint(trail(t, s, id)); got != fmt.Sprint(want) {
		t.Errorf("trail %v, want %v", got, want)
	}
}

// with adds a parameter to an address.
func with(t testing.TB, address, name, value string) string {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Open needs no database; the first use without one is ErrUnavailable, for changes and reads alike.
func TestOpenWithoutDatabase(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres:///none?host="+t.TempDir())
	if err := create(t.Context(), s, newFlow()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Update: %v", err)
	}
	if _, err := s.Flow(t.Context(), uuid.New(), flows.Everyone); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Flow: %v", err)
	}
	if _, err := s.SchemaVersion(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("SchemaVersion: %v", err)
	}
	if _, err := s.SweepAnswers(t.Context(), time.Now(), 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("SweepAnswers: %v", err)
	}
	if _, err := s.Prune(t.Context(), time.Now(), 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Prune: %v", err)
	}
	if _, _, _, err := s.NextDue(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("NextDue: %v", err)
	}
	if err := s.AddCallbackKey(t.Context(), store.CallbackKey{}, true); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("AddCallbackKey: %v", err)
	}
}

func TestOpenBadURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://host:notaport/db", "postgres://host/db?default_query_exec_mode=exec",
		"postgres://host/db?default_query_exec_mode=simple_protocol"} {
		if _, err := pg.Open(t.Context(), url, pg.Options{}); err == nil {
			t.Errorf("%s was taken", url)
		}
	}
}

// Statements may be prepared, or described each time, as a pooler needs it: what is written is read.
func TestWaysToAsk(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec"} {
		s := open(t, with(t, pgtest.Database(t), "default_query_exec_mode", mode))
		f := timed(time.Hour)
		must(t, create(t.Context(), s, f))
		must(t, raise(t.Context(), s, f.ID, mode, nil))
		found, err := s.Flow(t.Context(), f.ID, flows.Everyone)
		must(t, err)
		if found.Revision != f.Revision+1 || string(found.State) != string(f.State) || !found.CreatedAt.Equal(f.CreatedAt) || found.Wait == nil {
			t.Errorf("%s: read %+v", mode, found)
		}
		expectTrail(t, s, f.ID, "creator", mode)
	}
}

// Close waits for a change that is under way; later ones find no store.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, reader := open(t, url), open(t, url)
	f := newFlow()
	must(t, create(t.Context(), s, f))
	loaded, closing := make(chan struct{}), make(chan error, 1)
	updated := make(chan error, 1)
	go func() {
		updated <- raise(t.Context(), s, f.ID, "late", func(int) {
			close(loaded)
			// The store is told to close while the flow is locked, and must not be done before this change is.
			go func() { closing <- s.Close() }()
		})
	}()
	<-loaded
	must(t, <-closing)
	expectTrail(t, reader, f.ID, "creator", "late")
	must(t, <-updated)
	if err := raise(t.Context(), s, f.ID, "too late", nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Update after Close: %v", err)
	}
	if _, err := s.Flow(t.Context(), f.ID, flows.Everyone); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Flow after Close: %v", err)
	}
}

// A caller that gives up before the commit is sent changes nothing; afterwards it cannot.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s := openWith(t, url, pg.Options{Writers: 1})
	f := newFlow()
	must(t, create(t.Context(), s, f))

	ctx, cancel := context.WithCancel(t.Context())
	err := raise(ctx, s, f.ID, "gave up", func(int) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("given up after the load: %v", err)
	}

	other := connect(t, url)
	exec(t, other, "begin")
	exec(t, other, "select from flows where id = $1 for update", f.ID.String())
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := raise(ctx, s, f.ID, "gave up", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up while waiting for a lock: %v", err)
	}
	exec(t, other, "rollback")

	// Once the commit waits for the feed counter, it is on its way.
	exec(t, other, "begin")
	exec(t, other, "select from feed for update")
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- raise(ctx, s, f.ID, "too late to give up", nil) }()
	waitBlocked(t, connect(t, url))
	cancel()
	exec(t, other, "commit")
	must(t, <-done)
	expectTrail(t, s, f.ID, "creator", "too late to give up")
}

// waitBlocked waits until a connection of the store waits for a lock, and returns its process.
func waitBlocked(t testing.TB, conn *pgx.Conn) (pid int) {
	t.Helper()
	const blocked = `select coalesce(min(pid), 0) from pg_stat_activity
		where datname = current_database() and application_name = 'taskflow' and wait_event_type = 'Lock'`
	deadline := time.Now().Add(30 * time.Second)
	for pid == 0 {
		if time.Now().After(deadline) {
			t.Fatal("nothing ever waited for a lock")
		}
		pid = query[int](t, conn, blocked)
	}
	return pid
}

// Whatever callers read, and however long it takes, the keys and the schema's version are read meanwhile.
func TestKeysAreReadBesideSlowReads(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s := openWith(t, url, pg.Options{Readers: 1})
	holder, watcher := connect(t, url), connect(t, url)
	exec(t, holder, "begin")
	exec(t, holder, "lock table flows in access exclusive mode")
	slow := make(chan error, 1)
	go func() { _, err := s.Stats(t.Context(), flows.Everyone); slow <- err }()
	waitBlocked(t, watcher)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // the lock is held for longer than any read may take
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
	exec(t, holder, "rollback")
	must(t, <-slow)
}

// A panic rolls back, gives the connection and the locks back, and goes on.
func TestPanicRollsBack(t *testing.T) {
	t.Parallel()
	s := openWith(t, pgtest.Database(t), pg.Options{Writers: 1})
	f := newFlow()
	must(t, create(t.Context(), s, f))
	func() {
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = raise(t.Context(), s, f.ID, "panics", func(int) { panic("boom") })
	}()
	must(t, raise(t.Context(), s, f.ID, "next", nil))
	expectTrail(t, s, f.ID, "creator", "next")
}

// A lock that cannot be had is tried for once more, and is then the database's fault, not the caller's.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s := open(t, with(t, url, "lock_timeout", "50"))
	f := newFlow()
	must(t, create(t.Context(), s, f))
	other := connect(t, url)
	exec(t, other, "begin")
	exec(t, other, "select from flows where id = $1 for update", f.ID.String())
	if err := raise(t.Context(), s, f.ID, "blocked", nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while the flow is locked: %v", err)
	}
	exec(t, other, "rollback")
	must(t, raise(t.Context(), s, f.ID, "free", nil))
	expectTrail(t, s, f.ID, "creator", "free")
}

// A statement that the database refuses is the caller's error as it is, and is not tried again.
func TestRefusedStatement(t *testing.T) {
	t.Parallel()
	s := open(t, pgtest.Database(t))
	f := newFlow()
	f.State = json.RawMessage(`{"a":`)
	runs := 0
	err := s.Update(t.Context(), func(tx store.Tx) error {
		runs++
		return tx.Save(store.Writes{Created: []*flows.Flow{f}})
	})
	if err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown) || runs != 1 {
		t.Errorf("%d runs, %v", runs, err)
	}
	if _, err := s.Flow(t.Context(), f.ID, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestErrorsByCode(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for code, want := range map[string]error{
		"53100": store.ErrUnavailable, "53300": store.ErrUnavailable, "57P01": store.ErrUnavailable,
		"57P03": store.ErrUnavailable, "25006": store.ErrUnavailable, "08006": store.ErrUnavailable,
		"40P01": store.ErrUnavailable, "40001": store.ErrUnavailable, "57014": store.ErrUnavailable,
		"55P03": store.ErrUnavailable, "42P01": store.ErrUnavailable, "42703": store.ErrUnavailable,
		"23505": cause, "22P02": cause, "42601": cause, "": cause,
	} {
		err := pg.ErrorOf(code, cause)
		if !errors.Is(err, want) || !errors.Is(err, cause) || errors.Is(err, store.ErrUnavailable) != (want != cause) {
			t.Errorf("%q becomes %v", code, err)
		}
	}
}

// A batch is two round trips, whatever is in it.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	p, through := newProxy(t, pgtest.Database(t))
	s := openWith(t, through, pg.Options{Writers: 1})
	batch := func(key byte) {
		f, pair := newFlow(), flows.Pair{Topic: "t", CorrelationID: fmt.Sprint(key)}
		f.Wait = waitFor(f, pair)
		step := &flows.Step{ID: uuid.New(), FlowID: f.ID, RunID: "r", Runtime: flows.Managed, Task: "t",
			Status: flows.StepRunning, Result: json.RawMessage("null")}
		answer := store.Answer{Key: store.AnswerKey{key}, Response: []byte("ok"), CreatedAt: f.CreatedAt}
		event := newExternalEvent(pair)
		must(t, s.Update(t.Context(), func(tx store.Tx) error {
			_, err := tx.Load(store.Need{Flows: []uuid.UUID{f.ID}, Answers: []store.AnswerKey{answer.Key},
				Steps: []store.StepKey{{FlowID: f.ID, RunID: "r"}}, Await: []flows.Pair{pair}, Match: []store.Match{{Pair: pair, Owners: flows.Everyone}},
				Events: []uuid.UUID{event.ID}})
			if err != nil {
				return err
			}
			return tx.Save(store.Writes{Created: []*flows.Flow{f}, Steps: []*flows.Step{step},
				Answers: []store.Answer{answer}, Events: []flows.Event{eventOf(f, "a"), eventOf(f, "b")},
				ExternalEvents: []*flows.ExternalEvent{event}})
		}))
	}
	due := func(n byte) {
		must(t, create(t.Context(), s, timed(-time.Hour)))
		before := p.roundTrips()
		if _, err := fireDue(t.Context(), s, 10); err != nil {
			t.Fatal(err)
		}
		if took := p.roundTrips() - before; n > 1 && took != 2 {
			t.Errorf("firing took %d round trips, want 2", took)
		}
	}
	for n := range byte(2) { // the first connects and prepares
		before := p.roundTrips()
		batch(n + 1)
		if took := p.roundTrips() - before; n > 0 && took != 2 {
			t.Errorf("a batch took %d round trips, want 2", took)
		}
		due(n + 1)
	}
}

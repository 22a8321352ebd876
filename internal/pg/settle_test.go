package pg_test

import (
	"errors"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
)

// cut starts a store behind a proxy and cuts the wire at the first commit of one change.
func cut(t *testing.T, how fate, refusing bool, patience time.Duration) (s *pg.Store, p *proxy, id [16]byte, runs int, err error) {
	t.Helper()
	p, through := newProxy(t, pgtest.Database(t))
	s = openWith(t, through, pg.Options{Writers: 1})
	if patience > 0 {
		s.SetPatience(patience)
	}
	f := newFlow()
	must(t, create(t.Context(), s, f))
	must(t, raise(t.Context(), s, f.ID, "warm", nil)) // so that every statement is prepared
	err = raise(t.Context(), s, f.ID, "cut", func(run int) {
		if runs = run; run == 1 {
			p.meet(how, refusing)
		}
	})
	return s, p, f.ID, runs, err
}

// The commit went through and its answer was lost: the change is there, and was made once.
func TestCommitAnswerLost(t *testing.T) {
	t.Parallel()
	s, _, id, runs, err := cut(t, cutAnswer, false, 0)
	if err != nil || runs != 1 {
		t.Errorf("%d runs, %v", runs, err)
	}
	expectTrail(t, s, id, "creator", "warm", "cut")
}

// The commit never arrived: the change is run again, and made once.
func TestCommitNeverArrived(t *testing.T) {
	t.Parallel()
	s, _, id, runs, err := cut(t, cutRequest, false, 0)
	if err != nil || runs != 2 {
		t.Errorf("%d runs, %v", runs, err)
	}
	expectTrail(t, s, id, "creator", "warm", "cut")
}

// The commit never arrived, but the server does not know yet that the client is gone: it is asked until it does.
func TestCommitInProgress(t *testing.T) {
	t.Parallel()
	p, through := newProxy(t, pgtest.Database(t))
	s := openWith(t, through, pg.Options{Writers: 1})
	f := newFlow()
	must(t, create(t.Context(), s, f))
	let := make(chan struct{})
	runs := 0
	err := raise(t.Context(), s, f.ID, "stalled", func(run int) {
		if runs = run; run == 1 {
			p.meet(stallRequest, false)
			timer := time.AfterFunc(500*time.Millisecond, func() { p.letGo(); close(let) })
			t.Cleanup(func() { timer.Stop() })
		}
	})
	if err != nil || runs != 2 {
		t.Errorf("%d runs, %v", runs, err)
	}
	select {
	case <-let:
	default:
		t.Error("the change went on while its first transaction was open")
	}
	expectTrail(t, s, f.ID, "creator", "stalled")
}

// The database stays away: nobody can know, whatever became of the commit.
func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		how  fate
		want []string
	}{
		"committed": {cutAnswer, []string{"creator", "warm", "cut"}},
		"lost":      {cutRequest, []string{"creator", "warm"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p, id, runs, err := cut(t, c.how, true, 300*time.Millisecond)
			if !errors.Is(err, store.ErrOutcomeUnknown) || errors.Is(err, store.ErrUnavailable) || runs != 1 {
				t.Errorf("%d runs, %v", runs, err)
			}
			p.heal()
			expectTrail(t, s, id, c.want...)
		})
	}
}

// The server ends the connection during the commit: nothing was committed, and the change is run again.
func TestCommitTerminated(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s := open(t, url)
	f := newFlow()
	must(t, create(t.Context(), s, f))
	holder, watcher := connect(t, url), connect(t, url)
	exec(t, holder, "begin")
	exec(t, holder, "select from feed for update")
	done := make(chan error, 1)
	go func() { done <- raise(t.Context(), s, f.ID, "terminated", nil) }()
	exec(t, watcher, "select pg_terminate_backend($1)", waitBlocked(t, watcher))
	exec(t, holder, "rollback")
	must(t, <-done)
	expectTrail(t, s, f.ID, "creator", "terminated")
}

// Connections that broke while nobody looked cost nobody an error, and no commit was in doubt.
func TestTerminatedWhileIdle(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s := openWith(t, url, pg.Options{Writers: 3, Readers: 3})
	f := newFlow()
	must(t, create(t.Context(), s, f))
	watcher := connect(t, url)
	for range 3 {
		expectTrail(t, s, f.ID, "creator")
		const terminate = `select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
			where datname = current_database() and application_name = 'taskflow'`
		if n := query[int](t, watcher, terminate); n == 0 {
			t.Fatal("the store has no connections")
		}
		expectTrail(t, s, f.ID, "creator")
		must(t, s.Update(t.Context(), func(tx store.Tx) error {
			_, err := tx.Load(store.Need{})
			return err
		}))
	}
}

// A primary that has become a standby takes no changes, and is not read from.
func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s := open(t, with(t, url, "default_transaction_read_only", "on"))
	if err := create(t.Context(), s, newFlow()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Update: %v", err)
	}
	if _, err := s.Stats(t.Context(), flows.Everyone); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Stats: %v", err)
	}
}

// Of a transaction id that was handed out again after a crash, the status alone would lie.
func TestOutcome(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, conn := open(t, url), connect(t, url)
	there, mine := newFlow(), newFlow()
	must(t, create(t.Context(), s, there))
	must(t, create(t.Context(), s, mine))
	xid := query[string](t, conn, "select xmin::text from flows where id = $1", mine.ID.String())
	other := query[string](t, conn, "select xmin::text from flows where id = $1", there.ID.String())
	aborted := aborts(t, conn)
	receipt := newExternalEvent(flows.Pair{Topic: "t", CorrelationID: "c"})
	save(t, s, store.Writes{ExternalEvents: []*flows.ExternalEvent{receipt}})
	published := query[string](t, conn, "select xmin::text from external_events where id = $1", receipt.ID.String())
	event := store.Writes{ExternalEvents: []*flows.ExternalEvent{receipt}}
	noEvent := store.Writes{ExternalEvents: []*flows.ExternalEvent{newExternalEvent(receipt.Pair)}}
	gone := newFlow()
	answer := store.Answer{Key: store.AnswerKey{1}, CreatedAt: time.Now()}
	own := store.Writes{Created: []*flows.Flow{mine}, Events: []flows.Event{eventOf(mine, "creator")}}
	for _, c := range []struct {
		name, xid string
		writes    store.Writes
		want      string
	}{
		{"committed", xid, own, "committed"},
		{"aborted", aborted, own, "lost"},
		{"in the future", "4000000000", own, "lost"},
		{"another's id, the flow as it was", other, own, "lost"},
		{"another's id, the answer not there", other, store.Writes{Answers: []store.Answer{answer}}, "lost"},
		{"another's id, a flow that may have been erased since", other,
			store.Writes{Created: []*flows.Flow{gone}, Events: []flows.Event{eventOf(gone, "creator")}}, "unclear"},
		{"an external event", published, event, "committed"},
		{"another's id, the external event may have been written again", other, event, "unclear"},
		{"another's id, no such external event", other, noEvent, "lost"},
		{"nothing to tell by", xid, store.Writes{Erased: nil}, "unclear"},
		{"forgotten", "3", own, "unclear"},
	} {
		got, err := s.Outcome(t.Context(), c.xid, c.writes)
		if err != nil || got != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
}

// aborts returns the id of a transaction that was rolled back.
func aborts(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	exec(t, conn, "begin")
	xid := query[string](t, conn, "select pg_current_xact_id()::text")
	exec(t, conn, "rollback")
	return xid
}

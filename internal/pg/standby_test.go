package pg_test

import (
	"errors"
	"testing"
	"time"

	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// mirrored starts a primary with a synchronous standby that is down, a store on it and a flow that is on both.
func mirrored(t *testing.T) (primary, standby *pgtest.Cluster, s *pg.Store, id uuid.UUID) {
	t.Helper()
	primary, err := pgtest.StartCluster(t.Context(), pgtest.Options{Fast: true})
	must(t, err)
	t.Cleanup(func() { must(t, primary.Stop()) })
	must(t, pg.Migrate(t.Context(), primary.URL("postgres"), 0))
	standby, err = primary.Standby(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, standby.Stop()) })
	s = open(t, primary.URL("postgres"))
	f := newFlow()
	must(t, create(t.Context(), s, f))
	must(t, standby.Kill())
	return primary, standby, s, f.ID
}

// cancelWait waits until a commit other than that of process but waits for the standby, cuts the wait short as an operator
// may, and returns the commit's process. done must not be told of the change meanwhile.
func cancelWait(t *testing.T, conn *pgx.Conn, but int, done <-chan error) (pid int) {
	t.Helper()
	const waiting = `select coalesce(min(pid), 0) from pg_stat_activity
		where application_name = 'taskflow' and wait_event = 'SyncRep' and pid <> $1`
	deadline := time.Now().Add(30 * time.Second)
	for pid == 0 {
		select {
		case err := <-done:
			t.Fatalf("answered while the standby is down: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("no commit ever waited for the standby")
		}
		pid = query[int](t, conn, waiting, but)
	}
	exec(t, conn, "select pg_cancel_backend($1)", pid)
	return pid
}

// A commit whose wait for the standby was cut short is not acknowledged, nor is it by one that was cut short likewise; but
// by one that the standby has confirmed. What was acknowledged is on the standby.
func TestCommitNotOnStandby(t *testing.T) {
	t.Parallel()
	primary, standby, s, id := mirrored(t)
	operator := connect(t, primary.URL("postgres"))
	done := make(chan error, 1)
	go func() { done <- raise(t.Context(), s, id, "cut short", nil) }()
	first := cancelWait(t, operator, 0, done)
	second := cancelWait(t, operator, first, done)
	cancelWait(t, operator, second, done)
	must(t, standby.Start(t.Context()))
	must(t, <-done)
	must(t, primary.Kill())
	must(t, standby.Promote(t.Context()))
	expectTrail(t, open(t, standby.URL("postgres")), id, "creator", "cut short")
}

// cancelWaits cuts every wait for the standby short until done tells how it ended.
func cancelWaits(t *testing.T, conn *pgx.Conn, done <-chan error) error {
	t.Helper()
	const cancel = `select count(pg_cancel_backend(pid)) from pg_stat_activity
		where application_name = 'taskflow' and wait_event = 'SyncRep'`
	cut := 0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		select {
		case err := <-done:
			if cut == 0 {
				t.Errorf("answered before its wait was cut short: %v", err)
			}
			return err
		default:
			cut += query[int](t, conn, cancel)
		}
	}
	t.Fatal("never answered")
	return nil
}

// Where the standby stays away, nobody can promise that a change outlives its primary.
func TestCommitNotOnStandby_Unknown(t *testing.T) {
	t.Parallel()
	primary, _, s, id := mirrored(t)
	s.SetPatience(300 * time.Millisecond)
	operator := connect(t, primary.URL("postgres"))
	answered := store.AnswerKey{1} // of a change whose commit was cut short
	exec(t, operator, "set synchronous_commit = local")
	exec(t, operator, "insert into answers (key, fingerprint, response, created_at) values ($1, $1, 'ok', now())", answered[:])
	for what, change := range map[string]func() error{
		"a change": func() error { return raise(t.Context(), s, id, "cut short", nil) },
		"a key":    func() error { return s.AddAPIKey(t.Context(), store.APIKey{ID: "k", Owners: "*"}) },
		"an answer given once more": func() error {
			return s.Update(t.Context(), func(tx store.Tx) error {
				_, err := tx.Load(store.Need{Answers: []store.AnswerKey{answered}})
				return err
			})
		},
	} {
		done := make(chan error, 1)
		go func() { done <- change() }()
		if err := cancelWaits(t, operator, done); !errors.Is(err, store.ErrOutcomeUnknown) {
			t.Errorf("%s that is on no standby: %v", what, err)
		}
	}
	expectTrail(t, s, id, "creator", "cut short")
}

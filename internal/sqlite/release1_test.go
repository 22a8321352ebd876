package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/sqlite"
	"taskflow/internal/store"

	"github.com/google/uuid"
	sqlite3 "modernc.org/sqlite/lib"
)

// The statements that the release with schema 1 changes flows by, word for word. They must do on every later schema what
// they did on theirs.
const (
	insertFlow1 = `
INSERT INTO flows (id, mode, controller_id, owner_session_key, requester_origin, created_at,
	status, revision, cancel_requested, steps_total, steps_active, updated_at, ended_at, wait_kind, waiting_since,
	current_step, goal, resumed_by, wait, labels, state)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	updateFlow1 = `
UPDATE flows SET status = ?, revision = ?, cancel_requested = ?, steps_total = ?, steps_active = ?, updated_at = ?,
	ended_at = ?, wait_kind = ?, waiting_since = ?, current_step = ?, goal = ?, resumed_by = ?, wait = ?,
	labels = coalesce(?, labels), state = coalesce(?, state)
WHERE id = ?`
	selectFlow1 = `SELECT id, mode, controller_id, owner_session_key, requester_origin, current_step, goal, status,
	cancel_requested, revision, steps_total, steps_active, created_at, updated_at, ended_at, labels, resumed_by, wait,
	state FROM flows WHERE id = ?`
	insertLabel1  = `INSERT INTO flow_labels (key, value, created_at, flow_id) VALUES (?, ?, ?, ?)`
	deleteLabels1 = `
DELETE FROM flow_labels WHERE (key, value, created_at, flow_id) IN (
	SELECT j.key, j.value, f.created_at, f.id FROM flows f CROSS JOIN json_each(f.labels) j WHERE f.id = ?)`
	deleteSteps1  = `DELETE FROM steps WHERE flow_id = ?`
	deleteEvents1 = `DELETE FROM events WHERE flow_id = ?`
	deleteFlow1   = `DELETE FROM flows WHERE id = ?`
	insertEvent1  = `INSERT INTO events (seq, flow_id, revision, kind, payload, actor, at) VALUES (?, ?, ?, ?, ?, ?, ?)`
	selectFeed1   = `SELECT seq, batch FROM feed WHERE id = 1`
	updateFeed1   = `UPDATE feed SET seq = seq + ?, batch = ? WHERE id = 1`
)

// release1 changes a file as that release does.
type release1 struct {
	t *testing.T
	s *sqlite.Store
}

func (r release1) exec(query string, args ...any) {
	r.t.Helper()
	err := r.s.OnWriter(r.t.Context(), func(c *sql.Conn) error {
		result, err := c.ExecContext(r.t.Context(), query, args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 && query == updateFlow1 {
			return errors.Join(err, errors.New("no flow was updated"))
		}
		return nil
	})
	if err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
}

// changing are the values that both statements for flows have. That release knows of manual waits alone.
func (r release1) changing(f *flows.Flow) []any {
	var ended, kind, since, wait any
	if f.EndedAt != nil {
		ended = f.EndedAt.UnixMicro()
	}
	if w := f.Wait; w != nil {
		kind, since = string(w.Kind), w.Since.UnixMicro()
		text, err := json.Marshal(map[string]any{"kind": w.Kind, "generation": w.Generation, "since": flows.FormatTime(w.Since)})
		if err != nil {
			r.t.Fatal(err)
		}
		wait = string(text)
	}
	return []any{string(f.Status), f.Revision, f.CancelRequested, f.StepsTotal, f.StepsActive, f.UpdatedAt.UnixMicro(), ended,
		kind, since, f.CurrentStep, f.Goal, nil, wait}
}

func (r release1) create(f *flows.Flow) {
	r.t.Helper()
	args := append([]any{f.ID[:], string(f.Mode), f.ControllerID, f.OwnerSessionKey, f.RequesterOrigin,
		f.CreatedAt.UnixMicro()}, r.changing(f)...)
	r.exec(insertFlow1, append(args, `{"team":"a"}`, string(f.State))...)
	r.exec(insertLabel1, "team", "a", f.CreatedAt.UnixMicro(), f.ID[:])
	var seq int64
	if err := r.s.Readers().QueryRowContext(r.t.Context(), `SELECT seq + 1 FROM feed`).Scan(&seq); err != nil {
		r.t.Fatal(err)
	}
	r.exec(updateFeed1, 1, 7)
	r.exec(insertEvent1, seq, f.ID[:], f.Revision, "created", "{}", "test", f.CreatedAt.UnixMicro())
}

func (r release1) update(f *flows.Flow) {
	r.t.Helper()
	r.exec(updateFlow1, append(r.changing(f), nil, string(f.State), f.ID[:])...)
}

func (r release1) erase(id uuid.UUID) {
	r.t.Helper()
	for _, query := range []string{deleteLabels1, deleteSteps1, deleteEvents1, deleteFlow1} {
		r.exec(query, id[:])
	}
}

// status reads a flow's status as that release does.
func (r release1) status(id uuid.UUID) (status string) {
	r.t.Helper()
	values := make([]any, 19)
	for i := range values {
		values[i] = new(any)
	}
	values[7] = &status
	if err := r.s.Readers().QueryRowContext(r.t.Context(), selectFlow1, id[:]).Scan(values...); err != nil {
		r.t.Fatal(err)
	}
	var seq, batch int64
	if err := r.s.Readers().QueryRowContext(r.t.Context(), selectFeed1).Scan(&seq, &batch); err != nil {
		r.t.Fatal(err)
	}
	return status
}

func waits(f *flows.Flow, w *flows.Wait) *flows.Flow {
	f.Status, f.Wait = flows.Waiting, w
	return f
}

func TestFlowsOfRelease1AreMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := sqlite.Migrate(t.Context(), path, 1); err != nil {
		t.Fatal(err)
	}
	plain, waiting, ended := aFlow(1), waits(aFlow(2), manual(5)), aFlow(3)
	ended.Status, ended.EndedAt = flows.Finished, at(time.Hour)
	old := release1{t, openAs(t, path, sqlite.Options{})}
	for _, f := range []*flows.Flow{plain, waiting, ended} {
		old.create(f)
	}
	s := openAt(t, path, sqlite.Options{})
	for _, want := range []*flows.Flow{plain, waiting, ended} {
		got, err := s.Flow(t.Context(), want.ID, flows.Everyone)
		if err != nil {
			t.Fatal(err)
		}
		if string(flows.StoreWait(got.Wait)) != string(flows.StoreWait(want.Wait)) || got.Status != want.Status {
			t.Errorf("%s with the wait %s, want %s with %s", got.Status, flows.StoreWait(got.Wait), want.Status, flows.StoreWait(want.Wait))
		}
	}
	if n, err := s.CountEnded(t.Context(), *at(2 * time.Hour)); n != 1 || err != nil {
		t.Errorf("%d flows have ended, %v; want 1", n, err)
	}
	if due, _, ok, err := s.NextDue(t.Context()); ok || err != nil {
		t.Errorf("a manual wait is due at %v, %v", due, err)
	}
	next := *waiting
	mustSave(t, s, changed(&next, func(f *flows.Flow) { f.Wait = timer(time.Minute); f.Wait.Since = *at(time.Second) }))
	if due, _, ok, err := s.NextDue(t.Context()); !ok || err != nil || !due.Equal(*at(time.Minute)) {
		t.Errorf("next due %v %v %v, want %v", due, ok, err, at(time.Minute))
	}
}

func TestRelease1WorksOnThisSchema(t *testing.T) {
	old := release1{t, open(t)}
	f, other := aFlow(1), aFlow(2)
	old.create(f)
	old.create(other)
	f.Status, f.EndedAt = flows.Finished, at(time.Hour)
	old.update(f)
	if got := old.status(f.ID); got != "finished" {
		t.Errorf("status %s, want finished", got)
	}
	if pruned, err := old.s.Prune(t.Context(), *at(2 * time.Hour), 10); pruned != 1 || err != nil {
		t.Errorf("pruned %d, %v; want 1", pruned, err)
	}
	old.erase(other.ID)
	if page, err := old.s.Flows(t.Context(), store.FlowQuery{Owners: flows.Everyone, Limit: 5}); err != nil || len(page.Items) != 0 {
		t.Errorf("%d flows left, %v", len(page.Items), err)
	}
}

// What a flow waits for is recorded twice, and release 1 changes one of the two.
func TestWhatRelease1HasChangedIsNotFoundByItsOldWait(t *testing.T) {
	now := testEpoch
	s := atTime(t, &now)
	old := release1{t, s}
	either := func() *flows.Wait { return anyOf(timerCondition(time.Minute), eventCondition("pay", "7")) }
	resumed, again, erased, edited, kept := waits(aFlow(1), either()), waits(aFlow(2), either()), waits(aFlow(3), either()),
		waits(aFlow(4), either()), waits(aFlow(5), either())
	mustSave(t, s, created(resumed, again, erased, edited, kept))

	old.erase(erased.ID)
	resumed.Status, resumed.Wait = flows.Running, nil
	old.update(resumed)
	old.update(waits(again, manual(9)))
	old.update(edited) // which drops the conditions that it does not know

	pair := flows.Pair{Topic: "pay", CorrelationID: "7"}
	check := func(when string) {
		t.Helper()
		found := load(t, s, store.Need{Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}})
		if !slices.Equal(found.Waiting[store.Match{Pair: pair, Owners: flows.Everyone}], []uuid.UUID{kept.ID}) || found.More[store.Match{Pair: pair, Owners: flows.Everyone}] {
			t.Errorf("%s: %v wait for the event, want %s alone", when, found.Waiting[store.Match{Pair: pair, Owners: flows.Everyone}], kept.ID)
		}
		now = *at(time.Hour)
		if due := loadDue(t, s, 10); len(due) != 1 || due[kept.ID] == nil {
			t.Errorf("%s: %d flows are due, want %s alone", when, len(due), kept.ID)
		}
	}
	check("at first")
	check("again")
	if got := rows(t, s, "SELECT count(*) FROM awaited"); got != 1 {
		t.Errorf("%d rows are left to match with, want those of one flow", got)
	}
	if got := rows(t, s, "SELECT count(*) FROM flows WHERE due_at IS NOT NULL AND waiting_since IS NOT NULL"); got != 1 {
		t.Errorf("%d flows have a due time, want one", got)
	}
	// An id that is used again is another flow.
	mustSave(t, s, created(waits(aFlow(3), either())))
	if got := load(t, s, store.Need{Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}}).Waiting[store.Match{Pair: pair, Owners: flows.Everyone}]; len(got) != 2 {
		t.Errorf("%v wait for the event, want two", got)
	}
}

// More flows than are offered an event are gone before the first that waits.
func TestWhatRelease1HasErasedDoesNotCrowdOutWhatWaits(t *testing.T) {
	now := *at(time.Hour)
	s := atTime(t, &now)
	pair := flows.Pair{Topic: "pay", CorrelationID: "7"}
	var w store.Writes
	for n := range 2*store.MatchLimit + 3 {
		f := waits(aFlow(n), event1("pay", "7"))
		if n > 2*store.MatchLimit {
			f.Wait.Since = *at(time.Minute)
		}
		w.Created = append(w.Created, f)
	}
	mustSave(t, s, w)
	for _, f := range w.Created[:2*store.MatchLimit+1] {
		release1{t, s}.erase(f.ID)
	}
	found := load(t, s, store.Need{Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}})
	if got := found.Waiting[store.Match{Pair: pair, Owners: flows.Everyone}]; len(got) != 2 || found.More[store.Match{Pair: pair, Owners: flows.Everyone}] || len(found.Flows) != 2 {
		t.Errorf("%d flows wait, more %v; want the two that are there", len(got), found.More[store.Match{Pair: pair, Owners: flows.Everyone}])
	}
}

func TestRepairIsSettledLikeAnyWrite(t *testing.T) {
	now := testEpoch
	s := atTime(t, &now)
	f := waits(aFlow(1), timer(time.Minute))
	mustSave(t, s, created(f))
	release1{t, s}.update(waits(f, manual(9)))
	now = *at(time.Hour)
	ioError := resultCode(sqlite3.SQLITE_IOERR)
	s.NextCommit(func(context.Context, func(context.Context) error) error { return ioError })
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.LoadDue(10); err != nil {
			return err
		}
		return tx.Save(created(aFlow(2))) // a second mark in one transaction
	})
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown) {
		t.Errorf("a commit that was lost: %v, want ErrUnavailable", err)
	}
	if due := loadDue(t, s, 10); len(due) != 0 {
		t.Errorf("%d flows are due, want none", len(due))
	}
	if _, _, ok, err := s.NextDue(t.Context()); ok || err != nil {
		t.Errorf("something is due still: %v, %v", ok, err)
	}
}

func TestWaitsSurviveTheWayDownAndUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := openAt(t, path, sqlite.Options{})
	single := waits(aFlow(1), event1("ship", "1"))
	several := waits(aFlow(2), anyOf(timerCondition(time.Hour), eventCondition("pay", "7"), eventCondition("pay", "7"),
		timerCondition(time.Minute+time.Microsecond), eventCondition("123", "é\"'")))
	timed, late := waits(aFlow(3), timer(2*time.Minute)), waits(aFlow(4), manual(1))
	late.Wait.Timeout = &flows.Timeout{At: *at(3 * time.Minute), Then: flows.TimeoutFails}
	mustSave(t, s, created(single, several, timed, late, aFlow(5)))
	before := derived(t, s)
	for _, to := range []int64{1, 2} {
		if err := sqlite.Migrate(t.Context(), path, to); err != nil {
			t.Fatal(err)
		}
	}
	if after := derived(t, s); !slices.Equal(before, after) || len(before) != 4+3 {
		t.Errorf("derived from the waits:\n%q\nbefore:\n%q", after, before)
	}
}

// derived is all that flows are matched by.
func derived(t *testing.T, s *sqlite.Store) (list []string) {
	t.Helper()
	const query = `
SELECT 'due ' || hex(id) || ' ' || coalesce(due_at, '-') AS x FROM flows WHERE waiting_since IS NOT NULL
UNION ALL SELECT 'pair ' || topic || ' ' || correlation_id || ' ' || since || ' ' || hex(flow_id) FROM awaited ORDER BY x`
	got, err := s.Readers().QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	for got.Next() {
		var line string
		if err := got.Scan(&line); err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
	if err := got.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

package pg

import (
	"encoding/binary"
	"slices"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Each statement that reads after a lock is one of its own: under read committed that gives it a fresh snapshot, and so
// what the lock's last holder committed.
const (
	begin = `begin isolation level read committed read write`

	// In the order of the array, which is sorted.
	lockHashes = `select pg_advisory_xact_lock(lock) from unnest($1::bigint[]) as lock`

	loadAnswers = `select key, fingerprint, response, created_at, owners from answers where key = any($1::bytea[])`

	// A row that had to be waited for comes as its last holder left it. One that appears meanwhile does not come: an
	// insert of it then meets the unique key, and the change is run again.
	loadFlows = `select ` + flowColumns + ` from flows f where f.id = any($1::uuid[]) order by f.id for update`

	loadSteps = `select ` + stepColumns + ` from steps s
		where (s.flow_id, s.run_id) in (select flow_id, run_id from unnest($1::uuid[], $2::text[]) as u(flow_id, run_id))`

	// The clock is asked once, before the walk: asked for each row it could not be the walk's end, and the walk would go
	// on through what is not due.
	loadDue = `
select ` + flowColumns + ` from flows f
where f.due_since = f.waiting_since and f.due_at <= (select clock_timestamp())
order by f.due_at, f.id limit $1 for update skip locked`

	loadClock = `select clock_timestamp(), pg_current_xact_id()::text`
)

// Load implements store.Tx in one round trip.
func (t *tx) Load(need store.Need) (store.Snapshot, error) {
	snapshot := store.Snapshot{
		Flows:   make(map[uuid.UUID]*flows.Flow),
		Steps:   make(map[store.StepKey]*flows.Step),
		Answers: make(map[store.AnswerKey]*store.Answer),
	}
	var batch pgx.Batch
	batch.Queue(begin)
	if len(need.Answers) > 0 {
		batch.Queue(lockHashes, answerLocks(need.Answers))
		queueLoadAnswers(&batch, need.Answers, snapshot.Answers)
	}
	if len(need.Await)+len(need.Match) > 0 {
		batch.Queue(lockHashes, pairLocks(need))
		queueLoadPairs(&batch, need, &snapshot)
	}
	queueLoadFlows(&batch, &need, snapshot.Flows)
	if len(need.Steps) > 0 {
		queueLoadSteps(&batch, &need, snapshot.Steps)
	}
	if len(need.Events) > 0 {
		queueLoadExternalEvents(&batch, need.Events, &snapshot)
	}
	if len(need.Callers) > 0 {
		queueLoadOpen(&batch, need.Callers, &snapshot)
	}
	if err := t.start(&batch, &snapshot); err != nil {
		return store.Snapshot{}, err
	}
	matchWaiting(need.Match, &snapshot)
	t.loaded = snapshot
	return snapshot, nil
}

// LoadDue implements store.Tx in one round trip.
func (t *tx) LoadDue(limit int) (store.Snapshot, error) {
	snapshot := store.Snapshot{Flows: make(map[uuid.UUID]*flows.Flow)}
	var batch pgx.Batch
	batch.Queue(begin)
	batch.Queue(loadDue, limit).Query(each(scanFlow, func(f *flows.Flow) { snapshot.Flows[f.ID] = f }))
	if err := t.start(&batch, &snapshot); err != nil {
		return store.Snapshot{}, err
	}
	return snapshot, nil
}

// start sends a batch that begins the transaction, and reads the clock when it has every lock.
func (t *tx) start(batch *pgx.Batch, snapshot *store.Snapshot) error {
	t.begun = true
	batch.Queue(loadClock).QueryRow(func(row pgx.Row) error { return row.Scan(&snapshot.Now, &t.xid) })
	end := t.hooks.roundTrip(t.ctx, "load")
	t.err = t.conn.SendBatch(t.ctx, batch).Close()
	end(t.err)
	if t.err != nil {
		return t.err
	}
	snapshot.Now = snapshot.Now.UTC()
	return nil
}

// queueLoadFlows locks and reads flows, by the plainest statement that does it.
func queueLoadFlows(batch *pgx.Batch, need *store.Need, found map[uuid.UUID]*flows.Flow) {
	keep := each(scanFlow, func(f *flows.Flow) { found[f.ID] = f })
	switch {
	case narrowed(need):
		batch.Queue(loadCovered, coveredArgs(need)...).Query(keep)
	case len(need.Match) > 0:
		topics, correlations := pairColumns(pairsOf(need.Match))
		batch.Queue(loadFlowsAndWaiting, distinct(need.Flows), topics, correlations, store.MatchLimit).Query(keep)
	case len(need.Flows) > 0:
		batch.Queue(loadFlows, distinct(need.Flows)).Query(keep)
	}
}

func queueLoadSteps(batch *pgx.Batch, need *store.Need, found map[store.StepKey]*flows.Step) {
	keep := each(scanStep, func(s *flows.Step) { found[store.StepKey{FlowID: s.FlowID, RunID: s.RunID}] = s })
	if len(need.Owned) > 0 {
		batch.Queue(loadCoveredSteps, coveredSteps(need)...).Query(keep)
		return
	}
	ids := column(need.Steps, func(k store.StepKey) [16]byte { return k.FlowID })
	runs := column(need.Steps, func(k store.StepKey) string { return k.RunID })
	batch.Queue(loadSteps, ids, runs).Query(keep)
}

func queueLoadAnswers(batch *pgx.Batch, keys []store.AnswerKey, found map[store.AnswerKey]*store.Answer) {
	raw := column(keys, func(k store.AnswerKey) []byte { return k[:] })
	batch.Queue(loadAnswers, raw).Query(each(scanAnswer, func(a *store.Answer) { found[a.Key] = a }))
}

func scanAnswer(row pgx.CollectableRow) (*store.Answer, error) {
	var a store.Answer
	var key, fingerprint []byte
	err := row.Scan(&key, &fingerprint, &a.Response, &a.CreatedAt, (*string)(&a.Owners))
	copy(a.Key[:], key)
	copy(a.Fingerprint[:], fingerprint)
	a.CreatedAt = a.CreatedAt.UTC()
	return &a, err
}

// answerLocks are the advisory locks of keys: the first 64 bits of each hash, sorted, without duplicates. Two keys that
// share them only wait for each other.
func answerLocks(keys []store.AnswerKey) []int64 {
	locks := column(keys, func(k store.AnswerKey) int64 { return int64(binary.BigEndian.Uint64(k[:8])) })
	slices.Sort(locks)
	return slices.Compact(locks)
}

// distinct drops duplicates.
func distinct(ids []uuid.UUID) [][16]byte {
	sorted := slices.SortedFunc(slices.Values(ids), compareIDs)
	return column(slices.Compact(sorted), func(id uuid.UUID) [16]byte { return id })
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

// column takes one value of each row.
func column[T, V any](rows []T, value func(T) V) []V {
	values := make([]V, len(rows))
	for i, row := range rows {
		values[i] = value(row)
	}
	return values
}

// each hands every row of a result to keep.
func each[T any](scan func(pgx.CollectableRow) (T, error), keep func(T)) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				return err
			}
			keep(v)
		}
		return rows.Err()
	}
}

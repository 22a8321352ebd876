package pg

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Waits and external events meet in pairs. Whoever begins a wait for a pair, or has an event for it, holds the pair's lock
// until the commit: so the one sees what the other has left, and neither is missed. Whoever ends a wait in another way
// holds its flow and not its pairs, so rows may go from awaited under the lock; none comes.
const (
	// awaiting are the flows that wait for a pair p, the longest first. The subquery leaves out what the release before
	// has left behind; a join could be walked from the wrong end.
	awaiting = `
        from awaited a
        where a.topic = p.topic and a.correlation_id = p.correlation_id
            and (select f.waiting_since from flows f where f.id = a.flow_id) = a.since`

	// latestAwaiting is when the last wait for a pair p began, those included that the release before has left behind.
	latestAwaiting = `(select max(a.since) from awaited a where a.topic = p.topic and a.correlation_id = p.correlation_id)`

	// What has not expired is found first and put in order then: no index has both. mine are the owners of the flows that
	// the events may be for.
	loadBuffered = `
with mine as materialized (
    select f.owner_session_key as owner from flows f where f.id = any($4::uuid[])
    union select owner from unnest($5::text[]) as u(owner))
select ` + externalColumns + `
from unnest($1::text[], $2::text[], $3::int[]) as p(topic, correlation_id, most)
cross join lateral (
    select alive.id from (
        select e.id, row_number() over (partition by e.owners, e.flow_id order by e.at, e.id) as n from external_events e
        where e.topic = p.topic and e.correlation_id = p.correlation_id and e.outcome = 'buffered'
            and e.expires_at > (select clock_timestamp()) and (e.flow_id is null or e.flow_id = any($4::uuid[]))
            and (e.owners = '*' or exists (select from mine where mine.owner = e.owners
                or right(e.owners, 1) = '*' and starts_with(mine.owner, left(e.owners, -1))))
        offset 0) alive
    where alive.n <= p.most) oldest
join external_events x on x.id = oldest.id`

	// Asked before the flows are read: some may have gone by then, and then it says too much, which costs a transaction
	// that finds none. Asked afterwards it could say too little.
	loadMore = `
select p.topic, p.correlation_id, ` + latestAwaiting + ` as latest from unnest($1::text[], $2::text[]) as p(topic, correlation_id)
where exists (select` + awaiting + ` offset $3 limit 1)`

	// loadFlowsAndWaiting is loadFlows with the flows that wait for pairs: one statement, so one order of locks. A flow
	// that was waited for comes as its last holder left it, and may wait no more.
	loadFlowsAndWaiting = `
select ` + flowColumns + ` from flows f
where f.id = any($1::uuid[] || array(
    select waiting.flow_id from unnest($2::text[], $3::text[]) as p(topic, correlation_id)
    cross join lateral (select a.flow_id` + awaiting + ` order by a.since, a.flow_id limit $4) waiting))
order by f.id for update`

	eraseAwaited = `delete from awaited where flow_id = any($1::uuid[])`

	insertAwaited = `
insert into awaited (topic, correlation_id, since, flow_id)
select topic, correlation_id, since, flow_id
from unnest($1::text[], $2::text[], $3::timestamptz[], $4::uuid[]) as u(topic, correlation_id, since, flow_id)`
)

// pairLocks are the advisory locks of every pair, sorted, without duplicates. Two pairs that share one only wait for each
// other.
func pairLocks(need store.Need) []int64 {
	locks := column(slices.Concat(need.Await, pairsOf(need.Match)), pairLock)
	slices.Sort(locks)
	return slices.Compact(locks)
}

// pairLock is the first 64 bits of a hash. The parts hold no NUL.
func pairLock(p flows.Pair) int64 {
	sum := sha256.Sum256([]byte("pair\x00" + p.Topic + "\x00" + p.CorrelationID))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// pairColumns are the pairs without duplicates, as two columns.
func pairColumns(pairs []flows.Pair) (topics, correlations []string) {
	sorted := slices.SortedFunc(slices.Values(pairs), func(a, b flows.Pair) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), strings.Compare(a.CorrelationID, b.CorrelationID))
	})
	sorted = slices.Compact(sorted)
	return column(sorted, func(p flows.Pair) string { return p.Topic }),
		column(sorted, func(p flows.Pair) string { return p.CorrelationID })
}

// queueLoadPairs reads what is kept for the pairs of need.Await and its flows, and which of need.Match are waited for by
// more flows than one transaction takes.
func queueLoadPairs(batch *pgx.Batch, need store.Need, snapshot *store.Snapshot) {
	snapshot.Buffered = make(map[flows.Pair][]*flows.ExternalEvent)
	if len(need.Await) > 0 {
		topics, correlations := pairColumns(need.Await)
		limits := store.KeptLimits(need.Await)
		most := make([]int32, len(topics))
		for i := range topics {
			most[i] = int32(limits[flows.Pair{Topic: topics[i], CorrelationID: correlations[i]}])
		}
		batch.Queue(loadBuffered, topics, correlations, most, distinct(named(&need)), need.Creating).Query(func(rows pgx.Rows) error {
			err := each(scanExternalEvent, func(e *flows.ExternalEvent) {
				snapshot.Buffered[e.Pair] = append(snapshot.Buffered[e.Pair], e)
			})(rows)
			for _, events := range snapshot.Buffered {
				slices.SortFunc(events, func(a, b *flows.ExternalEvent) int {
					return cmp.Or(a.At.Compare(b.At), compareIDs(a.ID, b.ID))
				})
			}
			return err
		})
	}
	snapshot.More, snapshot.Latest = make(map[store.Match]bool), make(map[store.Match]time.Time)
	switch {
	case len(need.Match) == 0:
	case narrowed(&need):
		queueLoadCoveredMore(batch, need.Match, snapshot)
	default:
		topics, correlations := pairColumns(pairsOf(need.Match))
		batch.Queue(loadMore, topics, correlations, store.MatchLimit).Query(each(pgx.RowToStructByName[crowd], func(c crowd) {
			m := store.Match{Pair: flows.Pair{Topic: c.Topic, CorrelationID: c.CorrelationID}, Owners: flows.Everyone}
			snapshot.More[m], snapshot.Latest[m] = true, c.Latest.UTC()
		}))
	}
}

// crowd is a pair that more flows wait for than one transaction takes.
type crowd struct {
	Topic, CorrelationID string
	Latest               time.Time
}

// matchWaiting fills in Waiting: of the flows that were locked, those that wait for the pairs now.
func matchWaiting(matches []store.Match, snapshot *store.Snapshot) {
	if len(matches) == 0 {
		return
	}
	asked := make(map[flows.Pair][]store.Match, len(matches))
	for _, m := range matches {
		if !slices.Contains(asked[m.Pair], m) {
			asked[m.Pair] = append(asked[m.Pair], m)
		}
	}
	snapshot.Waiting = make(map[store.Match][]uuid.UUID)
	for id, f := range snapshot.Flows {
		if f.Wait == nil {
			continue
		}
		for _, p := range f.Wait.Pairs() {
			for _, m := range asked[p] {
				if m.Owners.Covers(f.OwnerSessionKey) {
					snapshot.Waiting[m] = append(snapshot.Waiting[m], id)
				}
			}
		}
	}
	for p, ids := range snapshot.Waiting {
		slices.SortFunc(ids, func(a, b uuid.UUID) int {
			return cmp.Or(snapshot.Flows[a].Wait.Since.Compare(snapshot.Flows[b].Wait.Since), compareIDs(a, b))
		})
		if len(ids) > store.MatchLimit { // with flows that were asked for by id
			if last := snapshot.Flows[ids[len(ids)-1]].Wait.Since; last.After(snapshot.Latest[p]) {
				snapshot.Latest[p] = last
			}
			snapshot.Waiting[p], snapshot.More[p] = ids[:store.MatchLimit], true
		}
	}
}

// queueAwaited brings awaited to what the flows wait for.
func queueAwaited(batch *pgx.Batch, w *store.Writes) {
	stale := slices.Clone(w.Erased)
	begun := slices.Clone(w.Created)
	for _, u := range w.Updated {
		if u.Wait {
			stale = append(stale, u.Flow.ID)
			begun = append(begun, u.Flow)
		}
	}
	if len(stale) > 0 {
		batch.Queue(eraseAwaited, distinct(stale))
	}
	var topics, correlations []string
	var times []time.Time
	var ids [][16]byte
	for _, f := range begun {
		if f.Wait == nil {
			continue
		}
		for _, p := range f.Wait.Pairs() {
			topics, correlations = append(topics, p.Topic), append(correlations, p.CorrelationID)
			times, ids = append(times, f.Wait.Since), append(ids, f.ID)
		}
	}
	if len(topics) > 0 {
		batch.Queue(insertAwaited, topics, correlations, times, ids)
	}
}

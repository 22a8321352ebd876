package pg

import (
	"slices"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A transaction for callers that do not cover everyone finds what they cover before it locks: another's flow is neither
// locked nor read, and takes as long as none. A flow's owner never changes, so what was covered without a lock is covered
// with it.
const (
	// coversF is whether the pattern (owner, exact) of p covers the flow f.
	coversF = `case when p.exact then f.owner_session_key = p.owner else starts_with(f.owner_session_key, p.owner) end`

	// coveredAwaiting is awaiting, of flows that are covered.
	coveredAwaiting = `
        from awaited a
        where a.topic = p.topic and a.correlation_id = p.correlation_id
            and (select f.waiting_since from flows f where f.id = a.flow_id and ` + coversF + `) = a.since`

	// loadCovered is loadFlowsAndWaiting with flows that must be covered: one statement, so one order of locks.
	loadCovered = `
select ` + flowColumns + ` from flows f
where f.id = any($1::uuid[] || array(
    select p.id from unnest($2::uuid[], $3::text[], $4::bool[]) as p(id, owner, exact)
    where (select ` + coversF + ` from flows f where f.id = p.id)) || array(
    select waiting.flow_id
    from unnest($5::text[], $6::text[], $7::text[], $8::bool[]) as p(topic, correlation_id, owner, exact)
    cross join lateral (select a.flow_id` + coveredAwaiting + ` order by a.since, a.flow_id limit $9) waiting))
order by f.id for update`

	// loadCoveredMore is loadMore of flows that are covered; n counts the pairs from 1.
	loadCoveredMore = `
select p.n, ` + latestAwaiting + ` as latest from unnest($1::text[], $2::text[], $3::text[], $4::bool[])
    with ordinality as p(topic, correlation_id, owner, exact, n)
where exists (select` + coveredAwaiting + ` offset $5 limit 1)`

	loadCoveredSteps = `select ` + stepColumns + ` from steps s
		where (s.flow_id, s.run_id) in (
			select p.flow_id, p.run_id
			from unnest($1::uuid[], $2::text[], $3::text[], $4::bool[]) as p(flow_id, run_id, owner, exact)
			where (select ` + coversF + ` from flows f where f.id = p.flow_id))`

	loadOpen = `select caller, n from open_flows where caller = any($1::text[])`
)

// narrowed reports whether some caller of a batch does not cover everyone.
func narrowed(need *store.Need) bool {
	return len(need.Owned) > 0 || slices.ContainsFunc(need.Match, func(m store.Match) bool { return m.Owners != flows.Everyone })
}

// patterns are owners as two columns, of which the first has what is compared: all of an owner, or a prefix.
func patterns[T any](rows []T, of func(T) flows.Owners) (owner []string, exact []bool) {
	for _, row := range rows {
		prefix, isPrefix := of(row).Prefix()
		owner, exact = append(owner, prefix), append(exact, !isPrefix)
	}
	return owner, exact
}

// coveredArgs are the arguments of loadCovered.
func coveredArgs(need *store.Need) []any {
	ids := column(need.Owned, func(o store.OwnedFlow) [16]byte { return o.ID })
	owner, exact := patterns(need.Owned, func(o store.OwnedFlow) flows.Owners { return o.Owners })
	return append([]any{distinct(need.Flows), ids, owner, exact}, append(matchArgs(need.Match), store.MatchLimit)...)
}

// matchArgs are the matches as four columns.
func matchArgs(matches []store.Match) []any {
	owner, exact := patterns(matches, func(m store.Match) flows.Owners { return m.Owners })
	return []any{
		column(matches, func(m store.Match) string { return m.Topic }),
		column(matches, func(m store.Match) string { return m.CorrelationID }),
		owner, exact,
	}
}

// coveredSteps are the arguments of loadCoveredSteps: each step with each pattern that its flow was named with.
func coveredSteps(need *store.Need) []any {
	by := make(map[uuid.UUID][]flows.Owners)
	for _, id := range need.Flows {
		by[id] = []flows.Owners{flows.Everyone}
	}
	for _, o := range need.Owned {
		by[o.ID] = append(by[o.ID], o.Owners)
	}
	var ids [][16]byte
	var runs []string
	var all []flows.Owners
	for _, key := range need.Steps {
		for _, owners := range by[key.FlowID] {
			ids, runs, all = append(ids, key.FlowID), append(runs, key.RunID), append(all, owners)
		}
	}
	owner, exact := patterns(all, func(o flows.Owners) flows.Owners { return o })
	return []any{ids, runs, owner, exact}
}

func queueLoadCoveredMore(batch *pgx.Batch, matches []store.Match, snapshot *store.Snapshot) {
	batch.Queue(loadCoveredMore, append(matchArgs(matches), store.MatchLimit)...).Query(each(pgx.RowToStructByName[coveredCrowd],
		func(c coveredCrowd) {
			snapshot.More[matches[c.N-1]], snapshot.Latest[matches[c.N-1]] = true, c.Latest.UTC()
		}))
}

// coveredCrowd is a match, counted from 1, that is a crowd.
type coveredCrowd struct {
	N      int64
	Latest time.Time
}

func queueLoadOpen(batch *pgx.Batch, callers []string, snapshot *store.Snapshot) {
	snapshot.Open = make(map[string]int64)
	batch.Queue(loadOpen, callers).Query(each(pgx.RowToStructByPos[openFlows], func(o openFlows) {
		snapshot.Open[o.Caller] = o.N
	}))
}

// openFlows is a row of open_flows.
type openFlows struct {
	Caller string
	N      int64
}

// named are the flows that a transaction looks at by their ids.
func named(need *store.Need) []uuid.UUID {
	return slices.Concat(need.Flows, column(need.Owned, func(o store.OwnedFlow) uuid.UUID { return o.ID }))
}

func pairsOf(matches []store.Match) []flows.Pair {
	return column(matches, func(m store.Match) flows.Pair { return m.Pair })
}

// covered adds that an owner, in a column, is covered.
func (s *statement) covered(column string, owners flows.Owners) {
	switch prefix, isPrefix := owners.Prefix(); {
	case owners == flows.Everyone:
	case owners == "":
		s.add(` and false`)
	case isPrefix:
		s.add(` and starts_with(`+column+`, ?)`, prefix)
	default:
		s.add(` and `+column+` = ?`, prefix)
	}
}

// ofOwners adds the range of owner_session_key that is covered, for an index to be walked by.
func (s *statement) ofOwners(owners flows.Owners) {
	if _, isPrefix := owners.Prefix(); !isPrefix {
		s.covered(`f.owner_session_key`, owners)
		return
	}
	low, high := owners.Range()
	s.add(` and f.owner_session_key >= ?`, low)
	if high != "" {
		s.add(` and f.owner_session_key < ?`, high)
	}
}

// The counts rise and fall in the order of the arrays, which are sorted: each row is locked until the commit. What falls
// below zero was counted by the release before, or not at all.
const countOpen = `
insert into open_flows as o (caller, n)
select u.caller, u.n from unnest($1::text[], $2::bigint[]) as u(caller, n)
where u.n > 0 or exists (select from open_flows o where o.caller = u.caller)
on conflict (caller) do update set n = greatest(o.n + excluded.n, 0)`

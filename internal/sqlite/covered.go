package sqlite

import (
	"encoding/json"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// covered is the condition that an owner, in a column, is covered. Its text is one of four for each column.
func covered(column string, owners flows.Owners) (condition string, args []any) {
	switch prefix, isPrefix := owners.Prefix(); {
	case owners == flows.Everyone:
		return "TRUE", nil
	case owners == "":
		return "FALSE", nil
	case isPrefix:
		return "substr(" + column + ", 1, length(?)) = ?", []any{prefix, prefix}
	default:
		return column + " = ?", []any{prefix}
	}
}

// flowCovered is the condition that a flow, which every row is of, is covered. It is asked once, not for each row.
func flowCovered(id uuid.UUID, owners flows.Owners) (condition string, args []any) {
	if owners == flows.Everyone {
		return "TRUE", nil
	}
	condition, args = covered("owner_session_key", owners)
	return "EXISTS (SELECT 1 FROM flows WHERE id = ? AND " + condition + ")", append([]any{id[:]}, args...)
}

// owned is the range of owner_session_key that is covered, for flows_owner to be walked by.
func owned(c *clause, owners flows.Owners) {
	if _, isPrefix := owners.Prefix(); !isPrefix {
		condition, args := covered("f.owner_session_key", owners)
		c.and(condition, args...)
		return
	}
	low, high := owners.Range()
	c.and("f.owner_session_key >= ?", low)
	if high != "" {
		c.and("f.owner_session_key < ?", high)
	}
}

// loadCovered adds a flow to what was found, where it is covered.
func (t *tx) loadCovered(s *store.Snapshot, o store.OwnedFlow) {
	if s.Flows[o.ID] != nil {
		return
	}
	condition, args := covered("owner_session_key", o.Owners)
	f := new(flows.Flow)
	if t.found(func(r row) error { return scanFlow(r, f) }, selectFlow+" AND "+condition, append([]any{o.ID[:]}, args...)...) {
		s.Flows[o.ID] = f
	}
}

const (
	selectAwaiting = `
SELECT flow_id FROM awaited WHERE topic = ? AND correlation_id = ? ORDER BY since, flow_id LIMIT ?`

	// What the release before has left behind of flows that are gone is passed over: who covers everyone clears it away.
	selectCoveredAwaiting = `
SELECT a.flow_id FROM awaited a CROSS JOIN flows f ON f.id = a.flow_id WHERE a.topic = ? AND a.correlation_id = ? AND `
	inOrderOfWaiting = ` ORDER BY a.since, a.flow_id LIMIT ?`
)

// awaiting are flows that are covered and by awaited wait for a pair, the longest first.
func (t *tx) awaiting(m store.Match, limit int) []uuid.UUID {
	if m.Owners == flows.Everyone {
		ids, _ := t.ids(selectAwaiting, m.Topic, m.CorrelationID, limit)
		return ids
	}
	condition, args := covered("f.owner_session_key", m.Owners)
	args = append(append([]any{m.Topic, m.CorrelationID}, args...), limit)
	ids, _ := t.ids(selectCoveredAwaiting+condition+inOrderOfWaiting, args...)
	return ids
}

// What has expired, is for other flows or from senders that cover none of these is left out, however much of it there is:
// it must not crowd out what is kept for these. The lists are read only where an event names its flow or its owners.
const selectBuffered = `
SELECT ` + externalColumns + ` FROM external_events WHERE id IN (
	SELECT id FROM (
		SELECT e.id, row_number() OVER (PARTITION BY e.owners, e.flow_id ORDER BY e.at, e.id) AS n
		FROM external_events e INDEXED BY external_events_buffered
		WHERE e.outcome = 'buffered' AND e.topic = ? AND e.correlation_id = ? AND e.expires_at > ?
			AND (e.flow_id IS NULL OR e.flow_id IN (SELECT unhex(value) FROM json_each(?)))
			AND (e.owners = '*' OR EXISTS (SELECT 1 FROM json_each(?) mine WHERE mine.value = e.owners
				OR substr(e.owners, -1) = '*' AND substr(mine.value, 1, length(e.owners) - 1) = substr(e.owners, 1, length(e.owners) - 1))))
	WHERE n <= ?)
ORDER BY at, id`

// loadBuffered adds the events that are kept for the pairs of need.Await and the flows that it names.
func (t *tx) loadBuffered(s *store.Snapshot, need *store.Need) {
	ids := append([]uuid.UUID(nil), need.Flows...)
	for _, o := range need.Owned {
		ids = append(ids, o.ID)
	}
	these, mine := hexList(ids), ownersOf(s, need.Creating)
	limits := store.KeptLimits(need.Await)
	for _, pair := range need.Await {
		if _, known := s.Buffered[pair]; known {
			continue
		}
		var list []*flows.ExternalEvent
		_ = t.each(func(r row) error {
			e := new(flows.ExternalEvent)
			list = append(list, e)
			return scanExternal(r, e)
		}, selectBuffered, pair.Topic, pair.CorrelationID, s.Now.UnixMicro(), these, mine, limits[pair])
		s.Buffered[pair] = list
	}
}

// ownersOf is a JSON list of the owners of the flows that were found, and of others.
func ownersOf(s *store.Snapshot, others []string) string {
	known := make(map[string]bool, len(s.Flows))
	list := []string{}
	add := func(owner string) {
		if !known[owner] {
			known[owner] = true
			list = append(list, owner)
		}
	}
	for _, f := range s.Flows {
		add(f.OwnerSessionKey)
	}
	for _, owner := range others {
		add(owner)
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic("sqlite: encoding a list of strings: " + err.Error()) // cannot be
	}
	return string(text)
}

const selectOpen = `SELECT n FROM open_flows WHERE caller = ?`

// loadOpen adds the counts of callers' open flows.
func (t *tx) loadOpen(s *store.Snapshot, callers []string) {
	s.Open = make(map[string]int64, len(callers))
	for _, caller := range callers {
		var n int64
		if t.found(func(r row) error { return r.Scan(&n) }, selectOpen, caller) {
			s.Open[caller] = n
		}
	}
}

// countOpen changes the count of a caller's open flows. What falls below zero was counted by the release before, or not
// at all.
const countOpen = `
INSERT INTO open_flows (caller, n) VALUES (?1, max(?2, 0))
ON CONFLICT (caller) DO UPDATE SET n = max(n + ?2, 0)`

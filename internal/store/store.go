// Package store is what the engine and the HTTP layer ask of a database: one way to change, [Updater], and one to read,
// [Reader]. It holds no SQL and no rule of the domain. The packages pg and sqlite implement it; package storetest holds
// the one suite that every implementation passes, with a case for each sentence here.
package store

import (
	"context"
	"errors"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

var (
	// ErrUnavailable: the database cannot be reached or does not accept changes now. Nothing was changed.
	ErrUnavailable = errors.New("database unavailable")
	// ErrOutcomeUnknown: the connection broke during the commit, and it could not be found out afterwards whether the
	// change is there. Never retried by the store.
	ErrOutcomeUnknown = errors.New("outcome of the commit unknown")
)

// Store is one database.
type Store interface {
	Updater
	Reader
	// Close waits for what is under way and gives back every connection.
	Close() error
}

// Updater changes flows.
type Updater interface {
	// Update runs fn in one transaction and commits what it saved. When Update returns nil, the change is durable
	// (fsync). When it returns an error other than ErrOutcomeUnknown, nothing was changed.
	//
	// fn may run again, with fresh data, after a serialization failure, a deadlock, a lost race to insert, or a
	// connection that broke before the commit was sent; the store bounds the number of tries. fn must not touch
	// anything but the Tx and what it assigns anew on each run. An error from fn rolls back and is returned as it is;
	// so does a panic, which goes on.
	//
	// Errors: ErrUnavailable, ErrOutcomeUnknown, ctx's error before the commit was sent, or whatever the database
	// says of a statement it refuses.
	Update(ctx context.Context, fn func(Tx) error) error

	// SweepAnswers deletes at most limit stored answers that were recorded before the given time, and returns how
	// many it deleted.
	SweepAnswers(ctx context.Context, before time.Time, limit int) (int, error)

	// SweepExternalEvents deletes at most limit external events that were recorded before the given time and are
	// neither delivering nor, by the database's clock, still buffered, and returns how many it deleted.
	SweepExternalEvents(ctx context.Context, before time.Time, limit int) (int, error)

	// Prune erases at most limit flows that ended before the given time, with their steps and events, oldest end
	// first, and returns how many it erased. Flows that another transaction has locked are passed over.
	Prune(ctx context.Context, endedBefore time.Time, limit int) (int, error)

	// AddCallbackKey records a key that signs callback URLs. With onlyFirst it does so only where there is none yet,
	// also when several servers try at once.
	AddCallbackKey(ctx context.Context, key CallbackKey, onlyFirst bool) error
}

// CallbackKey signs callback URLs. The newest signs those of new waits; the others are kept for the waits they signed.
type CallbackKey struct {
	ID        string // 8 characters, URL-safe
	Secret    []byte // 32 bytes
	CreatedAt time.Time
}

// Now reads the database's clock, the one clock that counts.
func Now(ctx context.Context, u Updater) (now time.Time, err error) {
	err = u.Update(ctx, func(tx Tx) error {
		snapshot, err := tx.Load(Need{})
		now = snapshot.Now
		return err
	})
	return now, err
}

// Tx is one transaction. Load comes first and once; Save last, and at most once.
type Tx interface {
	// Load locks and reads. Locks are taken in one order by every writer: answer keys, then pairs, then flows by id.
	// What is read after a lock is what was committed when the lock was had. What does not exist is missing in the
	// Snapshot.
	Load(need Need) (Snapshot, error)
	// LoadDue takes the place of Load: it locks and reads at most limit waiting flows whose wait is due by the
	// database's clock, the earliest first, passing over those that another transaction has locked. Nothing that is
	// not due is looked at. Only Now and Flows are set.
	LoadDue(limit int) (Snapshot, error)
	// Save writes everything in w. It may put the writing off until the commit, and report its errors there.
	Save(w Writes) error
}

// Need is what a transaction is going to look at. Duplicates are allowed.
type Need struct {
	Answers []AnswerKey
	Flows   []uuid.UUID
	Steps   []StepKey // their flows must be in Flows
	// Await are pairs for which a wait may begin or an event be kept: they are locked, and their buffered events read.
	Await []flows.Pair
	// Match are pairs for which an external event is there: they are locked, and the flows that wait for them are
	// locked and read, at most MatchLimit of each pair.
	Match []flows.Pair
	// Events are external events to read by id.
	Events []uuid.UUID
}

// MatchLimit is how many flows one transaction offers an external event to.
const MatchLimit = 500

// StepKey names a step.
type StepKey struct {
	FlowID uuid.UUID
	RunID  string
}

// AnswerKey is the SHA-256 of a caller and the idempotency key it sent.
type AnswerKey [32]byte

// Answer is the stored answer to a request with an idempotency key.
type Answer struct {
	Key         AnswerKey
	Fingerprint [32]byte // SHA-256 of the request, to tell a repeat from another request
	Response    []byte   // opaque here
	CreatedAt   time.Time
}

// Snapshot is what was found.
type Snapshot struct {
	// Now is the database's clock, read after the locks were had.
	Now     time.Time
	Flows   map[uuid.UUID]*flows.Flow
	Steps   map[StepKey]*flows.Step
	Answers map[AnswerKey]*Answer
	// Buffered are the kept events of Need.Await that are for any flow or for one of Need.Flows, oldest first, at most
	// MatchLimit of each pair; some may have expired, but none stands in the way of one that has not.
	Buffered map[flows.Pair][]*flows.ExternalEvent
	// Waiting are the flows that wait for the pairs of Need.Match, the longest first; each is in Flows too. More says
	// that there are others.
	Waiting map[flows.Pair][]uuid.UUID
	More    map[flows.Pair]bool
	// Events are those of Need.Events that exist.
	Events map[uuid.UUID]*flows.ExternalEvent
}

// Writes is the net effect of a batch of changes. A flow is in at most one of Created and Updated; one that is in
// Erased as well is erased first, so that its id can be used again.
type Writes struct {
	Erased  []uuid.UUID // with their steps and events
	Created []*flows.Flow
	Updated []FlowUpdate
	// Steps are inserted, or replace the recorded step of the same (FlowID, RunID); ID and CreatedAt of a recorded
	// step stay as they are.
	Steps []*flows.Step
	// Events are appended to the trail in this order; Seq is handed out by the store, in commit order over all
	// writers: a reader that has seen a Seq never later finds a new event below it. The store does not write Seq back.
	Events []flows.Event
	// ExternalEvents are inserted, or replace the recorded one of the same id.
	ExternalEvents []*flows.ExternalEvent
	// Answers replace a stored answer of the same key (one that has expired).
	Answers []Answer
}

// Empty reports whether there is nothing to write.
func (w *Writes) Empty() bool {
	return len(w.Erased)+len(w.Created)+len(w.Updated)+len(w.Steps)+len(w.Events)+len(w.ExternalEvents)+len(w.Answers) == 0
}

// FlowUpdate is a recorded flow as it is to be. The flags spare the database what has not changed.
type FlowUpdate struct {
	Flow   *flows.Flow
	State  bool // State differs
	Labels bool // Labels differ
	Wait   bool // Wait differs: what it waits for, and when it is due, is recorded for matching
	// Narrow says that nothing but the goal, the current step, the state, the labels, the revision and UpdatedAt differs.
	Narrow bool
}

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
	// change is there; or it is there, and its wait for the synchronous standby was cut short. Never retried by the store.
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

	// AddAPIKey records a key; flows.ErrAlreadyExists where its id is taken by another.
	AddAPIKey(ctx context.Context, key APIKey) error
	// RevokeAPIKey revokes a key as of the database's clock, or does nothing where that was done before;
	// flows.ErrNotFound where there is no such key.
	RevokeAPIKey(ctx context.Context, id string) error
	// NoteKeyUse records when keys were last used, by their ids. An earlier time than the recorded one, or an unknown
	// id, changes nothing.
	NoteKeyUse(ctx context.Context, used map[string]time.Time) error
}

// APIKey lets a caller in. The key itself is not kept.
type APIKey struct {
	ID     string
	Name   string   // of the caller, as the audit trail shows it
	Hash   [32]byte // SHA-256 of the exact key
	Scopes []string // none has a space
	Owners flows.Owners
	// Times are UTC with microseconds.
	CreatedAt time.Time
	// ExpiresAt, RevokedAt and LastUsedAt are nil where that is not so.
	ExpiresAt, RevokedAt, LastUsedAt *time.Time
}

// CallbackKey signs callback URLs. The newest signs those of new waits, once every server has had the time to read it (package
// httpapi says how long); the others are kept for the waits they signed.
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
	// Flows are looked at whoever owns them: by the server itself, by callers that cover everyone, and by a Create, which
	// must know that its id is taken.
	Flows []uuid.UUID
	// Owned are looked at where they are covered; one that is not is neither locked nor read, unless it is in Flows too.
	Owned []OwnedFlow
	Steps []StepKey // their flows must be in Flows or Owned; one whose flow is not read is not read either
	// Creating are the owners of flows that may be created, whose waits may begin in the same transaction.
	Creating []string
	// Await are pairs for which a wait may begin or an event be kept: they are locked, and their buffered events read.
	Await []flows.Pair
	// Match are pairs for which an external event is there: they are locked, and the flows that wait for them and are
	// covered are locked and read, at most MatchLimit of each.
	Match []Match
	// Events are external events to read by id.
	Events []uuid.UUID
	// Callers are those whose open flows are counted. Nothing is locked for that: changes that commit at the same
	// instant do not see each other's.
	Callers []string
}

// OwnedFlow is a flow, and what the caller who names it covers.
type OwnedFlow struct {
	ID     uuid.UUID
	Owners flows.Owners
}

// Match is the pair of an external event, and what its sender covers.
type Match struct {
	flows.Pair
	Owners flows.Owners
}

// MatchLimit is how many flows one transaction offers an external event to.
const MatchLimit = 500

// keptSpare are for those that expire between the load and the decision.
const keptSpare = 100

// KeptLimits is how many of the events that are kept for a pair are loaded: as many as there may be waits for it, as each ends
// by one.
func KeptLimits(await []flows.Pair) map[flows.Pair]int {
	limits := make(map[flows.Pair]int, len(await))
	for _, p := range await {
		limits[p]++
	}
	for p, waits := range limits {
		limits[p] = max(MatchLimit, waits+keptSpare)
	}
	return limits
}

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
	Fingerprint [32]byte     // SHA-256 of the request, to tell a repeat from another request
	Owners      flows.Owners // what the caller covered when it made the request
	Response    []byte       // opaque here
	CreatedAt   time.Time
}

// Snapshot is what was found.
type Snapshot struct {
	// Now is the database's clock, read after the locks were had.
	Now     time.Time
	Flows   map[uuid.UUID]*flows.Flow
	Steps   map[StepKey]*flows.Step
	Answers map[AnswerKey]*Answer
	// Buffered are the kept events of Need.Await that are for any flow or for one of Need.Flows and Need.Owned, and whose
	// sender covers everyone, one of Need.Creating or the owner of one of those flows; oldest first, at most KeptLimits of
	// each pair, sender's Owners and flow that they are for. There are as many for each as Need.Await names the pair. Some
	// may have expired, but none stands in the way of one that has not.
	Buffered map[flows.Pair][]*flows.ExternalEvent
	// Waiting are the flows that wait for the pairs of Need.Match, the longest first; each is in Flows too. More says
	// that there are others, and Latest, of those that More has, when the last of all waits for the pair began, whoever's
	// it is; it may say too late a time.
	Waiting map[Match][]uuid.UUID
	More    map[Match]bool
	Latest  map[Match]time.Time
	// Events are those of Need.Events that exist.
	Events map[uuid.UUID]*flows.ExternalEvent
	// Open are how many flows that have not ended each of Need.Callers has created; 0 may be missing.
	Open map[string]int64
}

// Writes is the net effect of a batch of changes. A flow is in at most one of Created and Updated; one that is in
// Erased as well is erased first, so that its id can be used again.
type Writes struct {
	Erased  []uuid.UUID // with their steps and events
	Created []*flows.Flow
	Updated []FlowUpdate
	// Steps are inserted, or replace the step of the same (FlowID, RunID) that Load found; ID and CreatedAt of a recorded
	// step stay as they are.
	Steps []*flows.Step
	// Events are appended to the trail in this order; Seq is handed out by the store, in commit order over all
	// writers: a reader that has seen a Seq never later finds a new event below it. The store does not write Seq back.
	Events []flows.Event
	// ExternalEvents are inserted, or replace the one of the same id that Load found.
	ExternalEvents []*flows.ExternalEvent
	// Answers are inserted, or replace the stored answer of the same key (one that has expired) that Load found.
	Answers []Answer
	// Open changes the counts of open flows, by the caller that created them. A count never goes below zero. The release
	// before does not keep them: flows that it ends while both run stay counted.
	Open map[string]int64
}

// Empty reports whether there is nothing to write.
func (w *Writes) Empty() bool {
	return len(w.Erased)+len(w.Created)+len(w.Updated)+len(w.Steps)+len(w.Events)+len(w.ExternalEvents)+len(w.Answers)+len(w.Open) == 0
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

package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"taskflow/internal/store"
)

const (
	// keysFresh is how old the list of keys may get before a request reads it again.
	keysFresh = time.Second
	// keysStale is the age from which the list says nothing any more: a key may have been revoked since. Together with the
	// time that a request takes it stays below the 5 s within which a revocation holds everywhere.
	keysStale = 4 * time.Second
	// keysPause is the least time between two tries to read the list: for unknown ids, and while the database is away.
	keysPause = time.Second
	// keysPatience bounds one try.
	keysPatience = 2 * time.Second
)

// KeyStore is where the keys are: a store.
type KeyStore interface {
	APIKeys(ctx context.Context) ([]store.APIKey, error)
	NoteKeyUse(ctx context.Context, used map[string]time.Time) error
}

// Keys checks API keys against a copy of the list, which is read again while it is used: a revocation holds within 5 s at
// every server, and where the database gives no answer for longer, no key is good. It owns one goroutine, which writes
// down when keys were used, from NewKeys to Close.
type Keys struct {
	store KeyStore
	log   *slog.Logger
	list  atomic.Pointer[keyList]
	// loading holds a token while the list is read.
	loading chan struct{}
	// failed and looked are when the last try failed and when an unknown id last had the list read again; guarded by
	// loading.
	failed, looked time.Time
	uses           keyUses
	stop           context.CancelFunc
	work           sync.WaitGroup
}

// keyList is the list of keys as it was at a time.
type keyList struct {
	asked time.Time // before the database was asked
	byID  map[string]knownKey
}

// knownKey is a key as the list has it.
type knownKey struct {
	hash    [sha256.Size]byte
	revoked bool
	expires *time.Time
	caller  Caller
}

// NewKeys starts to check keys.
func NewKeys(s KeyStore, log *slog.Logger) *Keys {
	running, stop := context.WithCancel(context.Background())
	k := &Keys{store: s, log: log, loading: make(chan struct{}, 1), uses: keyUses{at: map[string]time.Time{}}, stop: stop}
	k.work.Go(func() { k.noteAll(running) })
	return k
}

// Close writes down what is left to write, until ctx ends.
func (k *Keys) Close(ctx context.Context) error {
	k.stop()
	k.work.Wait()
	return k.note(ctx)
}

// caller is whose key text is. Errors: Refused, ErrUnavailable, ctx's.
func (k *Keys) caller(ctx context.Context, text string) (Caller, error) {
	unknown := &Refused{Reason: "The API key is not known here, or was revoked."}
	id, ok := keyID(text)
	if !ok {
		return Caller{}, unknown
	}
	list, err := k.fresh(ctx)
	if err != nil {
		return Caller{}, err
	}
	key, known := list.byID[id]
	if !known {
		if list, err = k.lookAgain(ctx, list); err != nil {
			return Caller{}, err
		}
		key, known = list.byID[id]
	}
	now := time.Now()
	hash := sha256.Sum256([]byte(text))
	same := subtle.ConstantTimeCompare(hash[:], key.hash[:]) == 1
	switch {
	case !known || !same || key.revoked:
		return Caller{}, unknown
	case key.expires != nil && !now.Before(*key.expires):
		return Caller{}, &Refused{Reason: "The API key has expired."}
	}
	k.uses.add(id, now)
	return key.caller, nil
}

// fresh is the list, read again where it is due: by one request, while the others go on with what there is as long as it
// may be used.
func (k *Keys) fresh(ctx context.Context) (*keyList, error) {
	list := k.list.Load()
	switch age := list.age(); {
	case age < keysFresh:
		return list, nil
	case age < keysStale:
		select {
		case k.loading <- struct{}{}:
		default:
			return list, nil
		}
	default:
		select {
		case k.loading <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { <-k.loading }()
	if now := k.list.Load(); now.age() < keysFresh {
		return now, nil // somebody was faster
	}
	if time.Since(k.failed) >= keysPause {
		k.load(ctx)
	}
	if list = k.list.Load(); list.age() >= keysStale {
		return nil, fmt.Errorf("%w: the keys were last read %v ago", ErrUnavailable, list.age())
	}
	return list, nil
}

// lookAgain reads the list once more for an id that is not in it, unless that was done a moment ago.
func (k *Keys) lookAgain(ctx context.Context, list *keyList) (*keyList, error) {
	select {
	case k.loading <- struct{}{}:
		defer func() { <-k.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if now := k.list.Load(); now != list {
		return now, nil
	}
	if time.Since(k.looked) < keysPause || time.Since(k.failed) < keysPause {
		return list, nil
	}
	k.looked = time.Now()
	k.load(ctx)
	return k.list.Load(), nil
}

// load reads the list; the caller holds loading. A request that is given up does not take the list from the others.
func (k *Keys) load(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysPatience)
	defer cancel()
	asked := time.Now()
	keys, err := k.store.APIKeys(ctx)
	if err != nil {
		k.failed = time.Now()
		k.log.WarnContext(ctx, "the API keys cannot be read", "error", err)
		return
	}
	list := &keyList{asked: asked, byID: make(map[string]knownKey, len(keys))}
	for _, key := range keys {
		c := Caller{ID: "key:" + key.ID, Name: key.Name, Owners: key.Owners, Limited: true}
		for _, s := range key.Scopes {
			c.Scopes = append(c.Scopes, Scope(s))
		}
		list.byID[key.ID] = knownKey{hash: key.Hash, revoked: key.RevokedAt != nil, expires: key.ExpiresAt, caller: c}
	}
	k.list.Store(list)
}

// age is how long ago the list was true; the absent list is older than any.
func (l *keyList) age() time.Duration {
	if l == nil {
		return 1<<63 - 1
	}
	return time.Since(l.asked)
}

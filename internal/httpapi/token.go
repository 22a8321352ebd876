package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// capability is what a callback's URL lets its holder do: end one wait of one flow, by one of its conditions.
type capability struct {
	flow       uuid.UUID
	generation int64
	condition  int
	since      int64  // when the wait began, in microseconds; 0 in the old form
	key        string // the wait's own: see keyring.nameWait
}

// A token is, in URL-safe base64: the key's id (6 bytes), the flow's id (16), the generation (8), the condition (1), the
// wait's nonce (8), its beginning (8), and the first 16 bytes of the HMAC-SHA256 over a fixed name and all of that.
//
// The release before signed neither nonce nor beginning, so that a URL opened a later wait too, where a flow had been
// erased and its id was used again. That old form opens only waits that were named without a nonce: those which that
// release began. They keep it until they end, as it is what their URLs have, and what its servers beside this one can read.
const (
	tokenKeySize   = 6
	tokenNonceSize = 8
	oldBodySize    = tokenKeySize + 16 + 8 + 1
	tokenBodySize  = oldBodySize + tokenNonceSize + 8
	tokenMACSize   = 16
	tokenPurpose   = "taskflow callback 2\x00"
	oldPurpose     = "taskflow callback 1\x00"
	// nonceMark is between a key's id and a nonce in the name of a wait; base64 has none.
	nonceMark = "."
)

var tokenEncoding = base64.RawURLEncoding.Strict()

const (
	// keysRefresh is how often each server reads the keys; keysSettle is the age at which a new key begins to sign, so
	// that every server has it by then.
	keysRefresh = 10 * time.Second
	keysSettle  = 30 * time.Second
	// keysRetry is the least time between two looks for a key that a token names and this server does not have.
	keysRetry = time.Second
)

// keyring holds the keys that sign callback URLs.
type keyring struct {
	reader store.Reader
	log    *slog.Logger

	mu       sync.RWMutex // guards everything below
	secrets  map[string][]byte
	signing  string
	lastLook time.Time
	trouble  error // of the last reading; nil where it went well
}

// NewCallbackKey makes a key for [store.Updater.AddCallbackKey].
func NewCallbackKey(now time.Time) store.CallbackKey {
	raw := make([]byte, tokenKeySize+sha256.Size)
	_, _ = rand.Read(raw) // never fails: it ends the program where the system has no randomness
	return store.CallbackKey{ID: tokenEncoding.EncodeToString(raw[:tokenKeySize]), Secret: raw[tokenKeySize:], CreatedAt: now}
}

// load reads the keys.
func (k *keyring) load(ctx context.Context) error {
	keys, err := k.reader.CallbackKeys(ctx)
	if err != nil {
		k.note(err)
		return err
	}
	secrets := make(map[string][]byte, len(keys))
	signing := ""
	for i, key := range keys { // oldest first
		secrets[key.ID] = key.Secret
		if i == 0 || time.Since(key.CreatedAt) > keysSettle {
			signing = key.ID
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.secrets, k.signing, k.trouble = secrets, signing, nil
	return nil
}

// note keeps why the keys could not be read. A caller that hung up meanwhile says nothing about them.
func (k *keyring) note(trouble error) {
	if errors.Is(trouble, context.Canceled) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.trouble = trouble
}

// refreshAll keeps the keys fresh until ctx ends. Until there is one it looks more often.
func (k *keyring) refreshAll(ctx context.Context) {
	for {
		pause := keysRefresh
		if k.newest() == "" {
			pause = keysRetry
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			if err := k.load(ctx); err != nil && ctx.Err() == nil {
				k.log.Debug("reading the callback keys", "error", err) // the old ones serve on
			}
		}
	}
}

// newest is the id of the key that signs new URLs; "" where there is none yet.
func (k *keyring) newest() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.signing
}

// nameWait makes the name that a new wait with a callback is given: the id of the key that signs, and a nonce. No other
// wait has the same one, not even of another flow that is given the id of this one after it is gone. "" where there is no
// key yet.
func (k *keyring) nameWait() string {
	id := k.newest()
	if id == "" {
		return ""
	}
	var nonce [tokenNonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails, as above
	return id + nonceMark + tokenEncoding.EncodeToString(nonce[:])
}

func (k *keyring) secret(id string) []byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.secrets[id]
}

// sign makes the token of a capability; ok is false where its key is not known here.
func (k *keyring) sign(c capability) (token string, ok bool) {
	id, nonceText, bound := strings.Cut(c.key, nonceMark)
	key, err := tokenEncoding.DecodeString(id)
	nonce, bad := tokenEncoding.DecodeString(nonceText)
	secret := k.secret(id)
	if err != nil || bad != nil || secret == nil {
		return "", false
	}
	body := append(key, c.flow[:]...)
	body = binary.BigEndian.AppendUint64(body, uint64(c.generation))
	body = append(body, byte(c.condition))
	purpose := oldPurpose
	if bound {
		purpose = tokenPurpose
		body = append(body, nonce...)
		body = binary.BigEndian.AppendUint64(body, uint64(c.since))
	}
	return tokenEncoding.EncodeToString(append(body, tokenMAC(secret, purpose, body)...)), true
}

// open reads a token and checks it in constant time, without the database: only a key that is not known here is looked
// for, at a bounded rate. What is not signed by a key of this service is errNoCallback.
func (k *keyring) open(ctx context.Context, token string) (capability, error) {
	raw, err := tokenEncoding.DecodeString(token)
	if err != nil || tokenEncoding.EncodeToString(raw) != token { // base64 passes line ends over
		return capability{}, errNoCallback
	}
	purpose := tokenPurpose
	switch len(raw) {
	case tokenBodySize + tokenMACSize:
	case oldBodySize + tokenMACSize:
		purpose = oldPurpose
	default:
		return capability{}, errNoCallback
	}
	body, mac := raw[:len(raw)-tokenMACSize], raw[len(raw)-tokenMACSize:]
	id := tokenEncoding.EncodeToString(body[:tokenKeySize])
	secret, err := k.find(ctx, id)
	if err != nil {
		return capability{}, err
	}
	if secret == nil || !hmac.Equal(mac, tokenMAC(secret, purpose, body)) {
		return capability{}, errNoCallback
	}
	rest := body[tokenKeySize:]
	c := capability{
		flow: uuid.UUID(rest[:16]), generation: int64(binary.BigEndian.Uint64(rest[16:24])), condition: int(rest[24]), key: id,
	}
	if rest = rest[25:]; len(rest) > 0 {
		c.key += nonceMark + tokenEncoding.EncodeToString(rest[:tokenNonceSize])
		c.since = int64(binary.BigEndian.Uint64(rest[tokenNonceSize:]))
	}
	return c, nil
}

// find is the secret of the key that a token names, looked for where it is not known here; nil where there is no such key.
// It fails where that cannot be told, as the keys could not be read or there is none yet: a sender that is answered 404 does
// not try again.
func (k *keyring) find(ctx context.Context, id string) ([]byte, error) {
	if secret := k.secret(id); secret != nil {
		return secret, nil
	}
	if k.mayLook() {
		_ = k.load(ctx) // noted as trouble
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	secret := k.secrets[id]
	if secret == nil && (k.trouble != nil || len(k.secrets) == 0) {
		return nil, &problem{slug: slugUnavailable, detail: "It cannot be found out now whether there is such a callback. Nothing was changed.", cause: k.trouble}
	}
	return secret, nil
}

// conditionOf is the condition of a flow's wait that a capability ends; nil where the flow does not wait for it, or no longer.
func (c capability) conditionOf(f *flows.Flow) *flows.Condition {
	w := f.Wait
	if w == nil || w.Generation != c.generation || w.CallbackKey != c.key || c.condition >= len(w.Conditions) {
		return nil
	}
	return &w.Conditions[c.condition]
}

func (k *keyring) mayLook() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.lastLook) < keysRetry {
		return false
	}
	k.lastLook = time.Now()
	return true
}

func tokenMAC(secret []byte, purpose string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(purpose))
	mac.Write(body)
	return mac.Sum(nil)[:tokenMACSize]
}

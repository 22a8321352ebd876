package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"taskflow/internal/store"

	"github.com/google/uuid"
)

// capability is what a callback's URL lets its holder do: end one wait of one flow, by one of its conditions.
type capability struct {
	flow       uuid.UUID
	generation int64
	condition  int
	key        string // the id of the key that signs it
}

// A token is, in URL-safe base64: the key's id (6 bytes), the flow's id (16), the generation (8), the condition (1), and
// the first 16 bytes of the HMAC-SHA256 over a fixed name and all of that.
const (
	tokenKeySize  = 6
	tokenBodySize = tokenKeySize + 16 + 8 + 1
	tokenMACSize  = 16
	tokenPurpose  = "taskflow callback 1\x00"
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
	k.secrets, k.signing = secrets, signing
	return nil
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

func (k *keyring) secret(id string) []byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.secrets[id]
}

// sign makes the token of a capability; ok is false where its key is not known here.
func (k *keyring) sign(c capability) (token string, ok bool) {
	key, err := tokenEncoding.DecodeString(c.key)
	secret := k.secret(c.key)
	if err != nil || secret == nil {
		return "", false
	}
	body := append(key, c.flow[:]...)
	body = binary.BigEndian.AppendUint64(body, uint64(c.generation))
	body = append(body, byte(c.condition))
	return tokenEncoding.EncodeToString(append(body, tokenMAC(secret, body)...)), true
}

// open reads a token and checks it in constant time, without the database: only a key that is not known here is looked
// for, at a bounded rate.
func (k *keyring) open(ctx context.Context, token string) (capability, bool) {
	raw, err := tokenEncoding.DecodeString(token)
	if err != nil || len(raw) != tokenBodySize+tokenMACSize || tokenEncoding.EncodeToString(raw) != token { // base64 passes line ends over
		return capability{}, false
	}
	body, mac := raw[:tokenBodySize], raw[tokenBodySize:]
	id := tokenEncoding.EncodeToString(body[:tokenKeySize])
	secret := k.secret(id)
	if secret == nil && k.mayLook() {
		if err := k.load(ctx); err == nil {
			secret = k.secret(id)
		}
	}
	if secret == nil || !hmac.Equal(mac, tokenMAC(secret, body)) {
		return capability{}, false
	}
	rest := body[tokenKeySize:]
	return capability{
		flow: uuid.UUID(rest[:16]), generation: int64(binary.BigEndian.Uint64(rest[16:24])), condition: int(rest[24]), key: id,
	}, true
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

func tokenMAC(secret, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(tokenPurpose))
	mac.Write(body)
	return mac.Sum(nil)[:tokenMACSize]
}

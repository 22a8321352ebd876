package httpapi

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// A page that had to look at the flows or receipts of other owners may end at one of them, and its cursor names it. So
// callers that do not cover everything get such cursors encrypted, under a key that every server derives from those of
// callback URLs.

const veilPurpose = "taskflow cursor 1\x00"

// veil makes a cursor unreadable to the caller of ctx, where it could tell of what the caller does not cover.
func (a *api) veil(ctx context.Context, cursor string) (string, error) {
	if cursor == "" || callerOf(ctx).Owners == flows.Everyone {
		return cursor, nil
	}
	id := a.keys.newest()
	secret := a.keys.secret(id)
	key, err := tokenEncoding.DecodeString(id)
	if err != nil || secret == nil {
		return "", fmt.Errorf("%w: there is no key for cursors yet", store.ErrUnavailable)
	}
	aead, err := veilCipher(secret)
	if err != nil {
		return "", err
	}
	return cursorEncoding.EncodeToString(aead.Seal(key, nil, []byte(cursor), []byte(callerOf(ctx).ID))), nil
}

// unveil reads what veil made for the same caller.
func (a *api) unveil(ctx context.Context, cursor *string) (*string, error) {
	if cursor == nil || callerOf(ctx).Owners == flows.Everyone {
		return cursor, nil
	}
	refused := badQuery("cursor", "is not the next_cursor of a page that you were given")
	raw, err := cursorEncoding.DecodeString(*cursor)
	if err != nil || len(raw) < tokenKeySize || cursorEncoding.EncodeToString(raw) != *cursor {
		return nil, refused
	}
	secret := a.keys.secret(tokenEncoding.EncodeToString(raw[:tokenKeySize]))
	if secret == nil {
		return nil, refused
	}
	aead, err := veilCipher(secret)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, raw[tokenKeySize:], []byte(callerOf(ctx).ID))
	if err != nil {
		return nil, refused
	}
	text := string(plain)
	return &text, nil
}

// veilCipher is AES-256-GCM under a key of its own.
func veilCipher(secret []byte) (cipher.AEAD, error) {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(veilPurpose))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("cursor key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// A key is tfk_<id>_<secret>: an id of letters and digits, which names the row, and 32 random bytes in URL-safe base64.
// Only the SHA-256 of the whole string is kept. A plain hash will do: there is no dictionary of 256 random bits.
const (
	keyPrefix    = "tfk_"
	keyIDLength  = 16
	keySecret    = 32
	keyMaxLength = 128 // longer ones are nobody's, and are not hashed
)

// KeySpec is what a new key is to be.
type KeySpec struct {
	Name   string
	Scopes []Scope
	// Owners are whose flows it is for, like agent:kate:*.
	Owners flows.Owners
	// Lifetime is how long it is good for; 0 is for ever.
	Lifetime time.Duration
}

// NewKey makes a key. text is the key itself, which is kept nowhere.
func NewKey(spec KeySpec, now time.Time) (key store.APIKey, text string, err error) {
	if err := checkName(spec.Name); err != nil {
		return store.APIKey{}, "", err
	}
	if len(spec.Scopes) == 0 {
		return store.APIKey{}, "", fmt.Errorf("a key needs a scope, of %v", Scopes())
	}
	for _, s := range spec.Scopes {
		if !slices.Contains(Scopes(), s) {
			return store.APIKey{}, "", fmt.Errorf("%q is not a scope, of which there are %v", s, Scopes())
		}
		key.Scopes = append(key.Scopes, string(s))
	}
	if err := spec.Owners.Validate(); err != nil {
		return store.APIKey{}, "", err
	}
	slices.Sort(key.Scopes)
	key.Scopes = slices.Compact(key.Scopes)
	key.ID, key.Name, key.Owners, key.CreatedAt = strings.ToLower(rand.Text()[:keyIDLength]), spec.Name, spec.Owners, now
	if spec.Lifetime > 0 {
		expires := now.Add(spec.Lifetime)
		key.ExpiresAt = &expires
	}
	secret := make([]byte, keySecret)
	_, _ = rand.Read(secret) // never fails: it ends the program where the system has no randomness
	text = keyPrefix + key.ID + "_" + base64.RawURLEncoding.EncodeToString(secret)
	key.Hash = sha256.Sum256([]byte(text))
	return key, text, nil
}

// keyID is the id in what is to be a key; ok is false where it is none.
func keyID(text string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	if !ok || len(text) > keyMaxLength {
		return "", false
	}
	id, _, ok = strings.Cut(rest, "_")
	return id, ok && id != ""
}

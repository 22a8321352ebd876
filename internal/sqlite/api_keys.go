package sqlite

import (
	"context"
	"fmt"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

const selectAPIKeys = `
SELECT id, name, hash, scopes, owners, created_at, expires_at, revoked_at, last_used_at
FROM api_keys ORDER BY created_at, id`

// APIKeys implements [store.Reader].
func (s *Store) APIKeys(ctx context.Context) ([]store.APIKey, error) {
	var keys []store.APIKey
	err := s.read(ctx, func() error {
		rows, err := s.keys.QueryContext(ctx, selectAPIKeys)
		return eachRow(rows, err, func(r row) error {
			keys = append(keys, store.APIKey{})
			return scanAPIKey(r, &keys[len(keys)-1])
		})
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func scanAPIKey(r row, k *store.APIKey) error {
	var hash []byte
	var scopes string
	err := r.Scan(&k.ID, &k.Name, &hash, &scopes, &k.Owners, micros{&k.CreatedAt}, nullMicros{&k.ExpiresAt},
		nullMicros{&k.RevokedAt}, nullMicros{&k.LastUsedAt})
	copy(k.Hash[:], hash)
	k.Scopes = strings.Fields(scopes)
	return err
}

const (
	insertAPIKey = `
INSERT INTO api_keys (id, name, hash, scopes, owners, created_at, expires_at, revoked_at, last_used_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`
	revokeAPIKey = `UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?`
	noteKeyUse   = `UPDATE api_keys SET last_used_at = ?1 WHERE id = ?2 AND (last_used_at IS NULL OR last_used_at < ?1)`
)

// AddAPIKey implements [store.Updater].
func (s *Store) AddAPIKey(ctx context.Context, k store.APIKey) error {
	return s.changeKey(ctx, k.ID, flows.ErrAlreadyExists, insertAPIKey, k.ID, k.Name, k.Hash[:], strings.Join(k.Scopes, " "),
		string(k.Owners), k.CreatedAt.UnixMicro(), microsOf(k.ExpiresAt), microsOf(k.RevokedAt), microsOf(k.LastUsedAt))
}

// RevokeAPIKey implements [store.Updater].
func (s *Store) RevokeAPIKey(ctx context.Context, id string) error {
	return s.changeKey(ctx, id, flows.ErrNotFound, revokeAPIKey, s.clock().UnixMicro(), id)
}

// changeKey runs a statement that changes one key; where it changes none, that is refused.
func (s *Store) changeKey(ctx context.Context, id string, refused error, query string, args ...any) error {
	return s.transact(ctx, func(t *tx) error {
		changed, err := t.exec(query, args...)
		if err != nil {
			return err
		}
		if changed == 0 {
			return fmt.Errorf("API key %s: %w", id, refused)
		}
		_, err = t.mark(0)
		return err
	})
}

// NoteKeyUse implements [store.Updater].
func (s *Store) NoteKeyUse(ctx context.Context, used map[string]time.Time) error {
	return s.transact(ctx, func(t *tx) error {
		var changed int64
		for id, at := range used {
			n, err := t.exec(noteKeyUse, at.UnixMicro(), id)
			if err != nil {
				return err
			}
			changed += n
		}
		if changed == 0 {
			return nil
		}
		_, err := t.mark(0)
		return err
	})
}

package pg

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
)

const (
	selectAPIKeys = `
select id, name, hash, scopes, owners, created_at, expires_at, revoked_at, last_used_at
from api_keys order by created_at, id`

	// A key that is there with the same hash is this one, added by a try whose answer was lost.
	insertAPIKey = `
insert into api_keys (id, name, hash, scopes, owners, created_at, expires_at, revoked_at, last_used_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (id) do update set hash = excluded.hash where api_keys.hash = excluded.hash`

	revokeAPIKey = `update api_keys set revoked_at = coalesce(revoked_at, clock_timestamp()) where id = $1`

	// The rows are locked in the order of their ids, so that servers that note the same keys do not deadlock.
	noteKeyUse = `
with used as materialized (
    select k.id, u.at from unnest($1::text[], $2::timestamptz[]) as u(id, at) join api_keys k on k.id = u.id
    where k.last_used_at is null or k.last_used_at < u.at
    order by k.id for update of k)
update api_keys k set last_used_at = greatest(k.last_used_at, used.at) from used where k.id = used.id`
)

// AddAPIKey implements store.Updater.
func (s *Store) AddAPIKey(ctx context.Context, k store.APIKey) error {
	return s.on(ctx, s.writers, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, insertAPIKey, k.ID, k.Name, k.Hash[:], strings.Join(k.Scopes, " "), string(k.Owners),
			k.CreatedAt, k.ExpiresAt, k.RevokedAt, k.LastUsedAt)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("API key %s: %w", k.ID, flows.ErrAlreadyExists)
		}
		return err
	})
}

// RevokeAPIKey implements store.Updater.
func (s *Store) RevokeAPIKey(ctx context.Context, id string) error {
	return s.on(ctx, s.writers, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, revokeAPIKey, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("API key %s: %w", id, flows.ErrNotFound)
		}
		return err
	})
}

// NoteKeyUse implements store.Updater.
func (s *Store) NoteKeyUse(ctx context.Context, used map[string]time.Time) error {
	ids := slices.Sorted(maps.Keys(used))
	return s.on(ctx, s.writers, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, noteKeyUse, ids, column(ids, func(id string) time.Time { return used[id] }))
		return err
	})
}

// APIKeys implements store.Reader.
func (s *Store) APIKeys(ctx context.Context) (keys []store.APIKey, err error) {
	err = s.on(ctx, s.keys, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, selectAPIKeys)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, scanAPIKey)
		return err
	})
	return keys, err
}

func scanAPIKey(row pgx.CollectableRow) (k store.APIKey, err error) {
	var hash []byte
	var scopes string
	err = row.Scan(&k.ID, &k.Name, &hash, &scopes, (*string)(&k.Owners), &k.CreatedAt, &k.ExpiresAt, &k.RevokedAt,
		&k.LastUsedAt)
	copy(k.Hash[:], hash)
	k.Scopes = strings.Fields(scopes)
	k.CreatedAt, k.ExpiresAt, k.RevokedAt, k.LastUsedAt = k.CreatedAt.UTC(), inUTC(k.ExpiresAt), inUTC(k.RevokedAt), inUTC(k.LastUsedAt)
	return k, err
}

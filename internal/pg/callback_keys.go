package pg

import (
	"context"
	"fmt"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
)

const (
	selectCallbackKeys = `select id, secret, created_at from callback_keys order by created_at, id`

	// Whoever adds a key holds the lock until the commit, and looks for others in a statement after it.
	lockCallbackKeys = `select pg_advisory_xact_lock(hashtextextended('taskflow callback_keys', 0))`

	insertFirstCallbackKey = `
insert into callback_keys (id, secret, created_at)
select $1, $2::bytea, $3::timestamptz where not exists (select from callback_keys)`

	// A key that is there with the same secret is this one, added by a try whose answer was lost.
	insertCallbackKey = `
insert into callback_keys (id, secret, created_at) values ($1, $2, $3)
on conflict (id) do update set secret = excluded.secret where callback_keys.secret = excluded.secret`
)

// AddCallbackKey implements store.Updater. An id that another key has is flows.ErrAlreadyExists.
func (s *Store) AddCallbackKey(ctx context.Context, key store.CallbackKey, onlyFirst bool) error {
	insert := insertCallbackKey
	if onlyFirst {
		insert = insertFirstCallbackKey
	}
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	return s.on(ctx, s.writers, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, lockCallbackKeys); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, insert, key.ID, key.Secret, key.CreatedAt)
			if err == nil && tag.RowsAffected() == 0 && !onlyFirst {
				err = fmt.Errorf("callback key %s: %w", key.ID, flows.ErrAlreadyExists)
			}
			return err
		})
	})
}

// CallbackKeys implements store.Reader.
func (s *Store) CallbackKeys(ctx context.Context) (keys []store.CallbackKey, err error) {
	err = s.on(ctx, s.keys, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, selectCallbackKeys)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (k store.CallbackKey, err error) {
			err = row.Scan(&k.ID, &k.Secret, &k.CreatedAt)
			k.CreatedAt = k.CreatedAt.UTC()
			return k, err
		})
		return err
	})
	return keys, err
}

package sqlite

import (
	"context"

	"taskflow/internal/store"
)

const selectCallbackKeys = `SELECT id, secret, created_at FROM callback_keys ORDER BY created_at, id`

// CallbackKeys implements [store.Reader].
func (s *Store) CallbackKeys(ctx context.Context) ([]store.CallbackKey, error) {
	var keys []store.CallbackKey
	err := s.read(ctx, func() error {
		rows, err := s.keys.QueryContext(ctx, selectCallbackKeys)
		return eachRow(rows, err, func(r row) error {
			keys = append(keys, store.CallbackKey{})
			key := &keys[len(keys)-1]
			return r.Scan(&key.ID, &key.Secret, micros{&key.CreatedAt})
		})
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

const (
	insertCallbackKey      = `INSERT INTO callback_keys (id, secret, created_at) VALUES (?, ?, ?)`
	insertFirstCallbackKey = `
INSERT INTO callback_keys (id, secret, created_at) SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM callback_keys)`
)

// AddCallbackKey implements [store.Updater]. A key whose id is taken is an error.
func (s *Store) AddCallbackKey(ctx context.Context, key store.CallbackKey, onlyFirst bool) error {
	insert := insertCallbackKey
	if onlyFirst {
		insert = insertFirstCallbackKey
	}
	return s.transact(ctx, func(t *tx) error {
		added, err := t.exec(insert, key.ID, key.Secret, key.CreatedAt.UnixMicro())
		if err != nil || added == 0 {
			return err
		}
		_, err = t.mark(0)
		return err
	})
}

package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// This file holds what [Memory] does with the keys that let callers in.

// AddAPIKey implements [store.Updater].
func (m *Memory) AddAPIKey(ctx context.Context, key store.APIKey) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.apiKey(key.ID) != nil {
		return fmt.Errorf("API key %s: %w", key.ID, flows.ErrAlreadyExists)
	}
	m.apiKeys = append(m.apiKeys, copyAPIKey(key))
	slices.SortFunc(m.apiKeys, func(a, b store.APIKey) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return nil
}

func (m *Memory) apiKey(id string) *store.APIKey {
	for i := range m.apiKeys {
		if m.apiKeys[i].ID == id {
			return &m.apiKeys[i]
		}
	}
	return nil
}

// RevokeAPIKey implements [store.Updater].
func (m *Memory) RevokeAPIKey(ctx context.Context, id string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	key := m.apiKey(id)
	if key == nil {
		return fmt.Errorf("API key %s: %w", id, flows.ErrNotFound)
	}
	if key.RevokedAt == nil {
		now := m.clock()
		key.RevokedAt = &now
	}
	return nil
}

// NoteKeyUse implements [store.Updater].
func (m *Memory) NoteKeyUse(ctx context.Context, used map[string]time.Time) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for id, at := range used {
		if key := m.apiKey(id); key != nil && (key.LastUsedAt == nil || key.LastUsedAt.Before(at)) {
			at := at.UTC().Truncate(time.Microsecond)
			key.LastUsedAt = &at
		}
	}
	return nil
}

// APIKeys implements [store.Reader].
func (m *Memory) APIKeys(ctx context.Context) ([]store.APIKey, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []store.APIKey
	for _, key := range m.apiKeys {
		list = append(list, copyAPIKey(key))
	}
	return list, nil
}

func copyAPIKey(key store.APIKey) store.APIKey {
	key.Scopes = slices.Clone(key.Scopes)
	key.ExpiresAt, key.RevokedAt, key.LastUsedAt = copyOf(key.ExpiresAt), copyOf(key.RevokedAt), copyOf(key.LastUsedAt)
	return key
}

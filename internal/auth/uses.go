package auth

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
)

const (
	// notePause is how often the times of use are written: they are for people, who ask for days.
	notePause = time.Minute
	// notePatience bounds one try.
	notePatience = 5 * time.Second
)

// keyUses are the times at which keys were last used, as far as they are not written yet: one for each key.
type keyUses struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (u *keyUses) add(id string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.at[id] = at
}

// take hands out what there is.
func (u *keyUses) take() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.at
	u.at = map[string]time.Time{}
	return taken
}

// giveBack keeps what could not be written, for the next time, but for keys that were used since.
func (u *keyUses) giveBack(taken map[string]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(taken, u.at)
	u.at = taken
}

// noteAll writes the times of use down every minute, until ctx ends.
func (k *Keys) noteAll(ctx context.Context) {
	tick := time.NewTicker(notePause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := k.note(ctx); err != nil && !errors.Is(err, context.Canceled) {
				k.log.Warn("the use of API keys was not noted", "error", err)
			}
		}
	}
}

// note writes what there is to write in one batch.
func (k *Keys) note(ctx context.Context) error {
	taken := k.uses.take()
	if len(taken) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, notePatience)
	defer cancel()
	err := k.store.NoteKeyUse(ctx, taken)
	if err != nil {
		k.uses.giveBack(taken)
	}
	return err
}

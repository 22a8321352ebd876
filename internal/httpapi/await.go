package httpapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/store"
)

// maxWait is the longest that a request may wait for something new.
const maxWait = 60 * time.Second

// parseWait reads how long a Prefer header (RFC 7240) asks to wait, and caps it; ok is false where it does not ask. Other
// preferences are passed over.
func parseWait(prefer *string) (wait time.Duration, ok bool, err error) {
	if prefer == nil {
		return 0, false, nil
	}
	for _, part := range strings.Split(*prefer, ",") {
		preference, _, _ := strings.Cut(part, ";")
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if err != nil {
			return 0, false, badHeader("Prefer", "must have a whole number of seconds for wait")
		}
		return min(maxWait, time.Duration(seconds)*time.Second), true, nil
	}
	return 0, false, nil
}

// applied is the Preference-Applied header for a wait.
func applied(wait time.Duration) string { return fmt.Sprintf("wait=%d", int(wait.Seconds())) }

// await calls look until it has found something, and at least once: again whenever an event that matches q was committed,
// and for the last time when wait is over or the server stops. Each call has the time of an ordinary request.
func (a *api) await(ctx context.Context, wait time.Duration, q store.EventQuery, look func(context.Context) (found bool, err error)) error {
	found, err := look(ctx)
	if found || err != nil || wait == 0 {
		return err
	}
	if err := a.open(); err != nil {
		return err
	}
	defer a.streams.Add(-1)
	r := requestOf(ctx)
	if err := r.extend(wait + a.options.RequestTimeout); err != nil {
		return err
	}
	waiting, cancel := a.untilStopping(r.open)
	defer cancel()
	waiting, done := context.WithTimeout(waiting, wait)
	defer done()
	q.After = nil
	follower, err := a.engine.Follow(waiting, q) // from here on nothing is missed; what came before is looked for below
	if err != nil {
		return err
	}
	defer follower.Close()
	for {
		looking, cancel := context.WithTimeout(r.open, a.options.RequestTimeout)
		found, err := look(looking)
		cancel()
		if found || err != nil || waiting.Err() != nil {
			return err
		}
		if err := untilNews(waiting, follower); err != nil {
			return err
		}
	}
}

// untilNews returns when there is an event to follow, or ctx has ended.
func untilNews(ctx context.Context, follower *engine.Follower) error {
	for {
		events, more, err := follower.Take(ctx)
		if len(events) > 0 || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}

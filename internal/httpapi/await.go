package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/engine"
	"taskflow/internal/store"
)

const (
	// maxWait is the longest that a request may wait for something new.
	maxWait = 60 * time.Second
	// reread is how often a request that waits for news of one flow looks for the flow as well: that it was erased is no
	// event, and may have been another server's doing.
	reread = 5 * time.Second
)

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
// every now and then where q is of one flow, and for the last time when wait is over or the server stops. Each call has the
// time of an ordinary request.
func (a *api) await(ctx context.Context, wait time.Duration, q store.EventQuery, look func(context.Context) (found bool, err error)) error {
	found, err := look(ctx)
	if found || err != nil || wait == 0 {
		return err
	}
	release, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer release()
	r := requestOf(ctx)
	if err := r.extend(wait + a.options.RequestTimeout); err != nil {
		return err
	}
	waiting, cancel := a.untilStopping(r.open())
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
		looking, cancel := context.WithTimeout(r.open(), a.options.RequestTimeout)
		err := a.mayStillRead(looking)
		if err == nil {
			found, err = look(looking)
		}
		cancel()
		if q.FromFlow && waiting.Err() == nil && (errors.Is(err, store.ErrUnavailable) || errors.Is(err, auth.ErrUnavailable)) {
			err = nil // it is looked again in a moment, and for the last time when the wait is over
		}
		if found || err != nil || waiting.Err() != nil {
			return err
		}
		if err := a.untilNews(waiting, follower, q.FromFlow); err != nil {
			return err
		}
	}
}

// untilNews returns when there is an event to follow, when the caller's credentials are good no more, which is for await to
// tell, or when ctx has ended; of one flow, also when it is time to look for it.
func (a *api) untilNews(ctx context.Context, follower *engine.Follower, ofFlow bool) error {
	if ofFlow {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, reread)
		defer done()
	}
	doubt := time.NewTicker(recheck)
	defer doubt.Stop()
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
		case <-doubt.C:
			if a.mayStillRead(ctx) != nil {
				return nil
			}
		case <-more:
		}
	}
}

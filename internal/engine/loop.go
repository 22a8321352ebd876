package engine

import "log/slog"

// trouble logs when a loop begins to fail and when it works again, not every time in between.
type trouble struct {
	log     *slog.Logger
	doing   string
	failing bool
}

func (t *trouble) report(err error) {
	switch {
	case err != nil && !t.failing:
		t.log.Warn("trouble with "+t.doing, "error", err)
	case err == nil && t.failing:
		t.log.Info("no more trouble with " + t.doing)
	}
	t.failing = err != nil
}

// signal leaves a token for a loop, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

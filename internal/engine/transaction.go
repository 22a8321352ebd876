package engine

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"taskflow/internal/store"
)

// transact runs one transaction, watched. fn decides on the workspace of what load found.
func (e *Engine) transact(ctx context.Context, work string, requests []string, load func(store.Tx) (store.Snapshot, error), fn func(*workspace)) error {
	began, end := time.Now(), func(error) {}
	if e.options.Trace != nil {
		ctx, end = e.options.Trace(ctx, work, requests)
	}
	w, err := e.update(ctx, load, fn)
	if err == nil {
		e.tell(func() { e.committed(w) })
		e.tell(func() { e.observe(w) })
	}
	e.tell(func() {
		end(err)
		commands := 0
		if w != nil {
			commands = w.commands
		}
		e.options.Observer.Committed(work, commands, time.Since(began), outcomeOf(err))
	})
	return err
}

// update is the transaction. A panic in it has rolled it back, and is an error like any other.
func (e *Engine) update(ctx context.Context, load func(store.Tx) (store.Snapshot, error), fn func(*workspace)) (w *workspace, err error) {
	defer e.recovered(&err)
	err = e.store.Update(ctx, func(tx store.Tx) error {
		w = nil
		snapshot, err := load(tx)
		if err != nil {
			return err
		}
		w = newWorkspace(snapshot, e.options.AnswerTTL)
		fn(w)
		return w.save(tx)
	})
	return w, err
}

// tell runs what follows a transaction. What is durable is not to be made once more, so a panic in it is logged and no more.
func (e *Engine) tell(fn func()) {
	var err error
	defer e.recovered(&err)
	fn()
}

// recovered is to be deferred: it logs a panic and makes an error of it.
func (e *Engine) recovered(err *error) {
	if p := recover(); p != nil {
		e.options.Logger.Error("panic in the engine", "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", p)
	}
}

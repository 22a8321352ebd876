package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// commitTimeout bounds one batch, with all the tries the store makes of it, so that a database that answers nothing
// ends as store.ErrUnavailable or store.ErrOutcomeUnknown and not in silence.
const commitTimeout = 20 * time.Second

// request is one call of Apply or ApplyAll. The caller owns it until it is queued and again once done is closed; in
// between the committer does.
type request struct {
	// claimed is set by the committer that takes the request out of the queue, or by the caller that gives up waiting,
	// whoever is first.
	claimed atomic.Bool

	commands []Command
	invalid  map[int]error // commands refused before they were queued, by index
	once     *Once[[]Outcome]
	publish  *Publication // instead of commands

	outcomes  []Outcome
	published Published
	replay    []byte
	err       error
	done      chan struct{}
}

// claim takes the request, to make it or to withdraw it, and reports whether nobody had before.
func (r *request) claim() bool { return r.claimed.CompareAndSwap(false, true) }

func (r *request) refuse(i int, err error) {
	if r.invalid == nil {
		r.invalid = make(map[int]error)
	}
	r.invalid[i] = err
}

// fail answers every command of the request with one error.
func (r *request) fail(err error) {
	r.err, r.replay = err, nil
	r.outcomes = make([]Outcome, len(r.commands))
	for i := range r.outcomes {
		r.outcomes[i].Err = err
	}
	if r.once == nil && r.publish == nil {
		r.err = nil // each command has its own answer
	}
}

// publishWeight is how many commands a publication counts as. It may resume up to store.MatchLimit flows, but as a rule
// resumes one: counted as 64, a few of them filled a batch of callers that publish and change by turns, and whole flows took
// a tenth more of the processor.
const publishWeight = 16

// weight is how many commands the request counts as in a batch.
func (r *request) weight() int {
	if r.publish != nil {
		return publishWeight
	}
	return max(1, len(r.commands))
}

// part is some of the commands as a request of their own.
func (r *request) part(from, to int) *request {
	p := &request{commands: r.commands[from:to]}
	for i, err := range r.invalid {
		if from <= i && i < to {
			p.refuse(i-from, err)
		}
	}
	return p
}

// commitAll serves one queue until it is closed and empty.
func (e *Engine) commitAll(queue chan *request) {
	for first := range queue {
		if !first.claim() {
			continue
		}
		runtime.Gosched() // requests that are all but queued come along: that is no waiting, and makes the batch worth more
		batch := e.collect(first, queue)
		_ = e.commit(batch) // each caller is told, and logs it with what it knows of the request
		for _, r := range batch {
			close(r.done)
		}
	}
}

// collect adds what has queued behind first, without waiting for more: waiting for a batch to fill only costs.
func (e *Engine) collect(first *request, queue chan *request) []*request {
	batch, commands := []*request{first}, first.weight()
	for commands < e.options.Batch {
		select {
		case r, open := <-queue:
			if !open {
				return batch
			}
			if r.claim() {
				batch = append(batch, r)
				commands += r.weight()
			}
		default:
			return batch
		}
	}
	return batch
}

// commit makes the changes of a batch and fills in every outcome. Where the transaction fails for a reason of one of
// its commands, the batch is split until that command stands alone, so that no stranger fails with it. The error is what
// was told to callers of transactions that failed; a command that was refused is none.
func (e *Engine) commit(batch []*request) error {
	err := e.try(batch)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrOutcomeUnknown):
		for _, r := range batch {
			r.fail(err)
		}
	case len(batch) > 1:
		half := len(batch) / 2
		return errors.Join(e.commit(batch[:half]), e.commit(batch[half:]))
	case batch[0].once == nil && len(batch[0].commands) > 1:
		return e.commitHalves(batch[0])
	default:
		batch[0].fail(err)
	}
	return err
}

// commitHalves makes two changes of a request that asked for no single one.
func (e *Engine) commitHalves(r *request) error {
	half := len(r.commands) / 2
	first, second := r.part(0, half), r.part(half, len(r.commands))
	err := errors.Join(e.commit([]*request{first}), e.commit([]*request{second}))
	r.outcomes = append(first.outcomes, second.outcomes...)
	return err
}

// try decides and writes a batch in one transaction.
func (e *Engine) try(batch []*request) error {
	// The transaction outlives its callers: one that hangs up abandons its answer, not the change of everybody else.
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	var requests []string
	if e.options.Trace != nil {
		requests = traceparentsOf(batch)
	}
	load := func(tx store.Tx) (store.Snapshot, error) { return tx.Load(need(batch)) }
	err := e.transact(ctx, workChanges, requests, load, func(w *workspace) {
		for _, r := range batch {
			w.run(r)
		}
	})
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, store.ErrOutcomeUnknown) {
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// committed tells the loops of what a batch has written.
func (e *Engine) committed(w *workspace) {
	e.noteDue(w)
	if len(w.events) > 0 {
		e.feed.note()
	}
}

// need is everything the commands of a batch look at.
func need(batch []*request) store.Need {
	var n store.Need
	for _, r := range batch {
		if r.once != nil {
			n.Answers = append(n.Answers, r.once.Key)
		}
		if r.publish != nil {
			r.publish.need(&n)
		}
		for i := range r.commands {
			c := &r.commands[i]
			needFlow(&n, c)
			if c.Once != nil {
				n.Answers = append(n.Answers, c.Once.Key)
			}
			n.Await = append(n.Await, c.Awaits()...)
			if runID, ok := c.Needs(); ok {
				n.Steps = append(n.Steps, store.StepKey{FlowID: c.FlowID, RunID: runID})
			}
		}
	}
	return n
}

// needFlow adds the command's flow: to those that are looked at whoever owns them only where that is right.
func needFlow(n *store.Need, c *Command) {
	create, creates := c.Action.(flows.Create)
	if creates {
		n.Creating = append(n.Creating, create.OwnerSessionKey)
		if c.MaxOpen > 0 {
			n.Callers = append(n.Callers, c.CallerID)
		}
	}
	if creates {
		n.Flows = append(n.Flows, c.FlowID)
		return
	}
	needOwned(n, c.FlowID, c.Owners)
}

// needOwned adds a flow that must be covered.
func needOwned(n *store.Need, id uuid.UUID, owners flows.Owners) {
	if owners == flows.Everyone {
		n.Flows = append(n.Flows, id)
		return
	}
	n.Owned = append(n.Owned, store.OwnedFlow{ID: id, Owners: owners})
}

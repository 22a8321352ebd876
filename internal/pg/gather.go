package pg

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Reads of single flows that come while others are under way are gathered, and read by one statement: a busy server reads
// many flows at the price of a few. An idle one reads each at once, by the caller itself.

// gathered is how many reads one statement takes at most.
const gathered = 128

// gatherers is how many statements read what was gathered at a time: as many as there are committers, for the same reason.
// On two cores a second one halves what each statement reads, and all reads together take a fifth more of the processor.
func gatherers() int { return max(1, runtime.GOMAXPROCS(0)/4) }

// A flow is found once for each row of p that names and covers it.
const selectGathered = `select p.n, ` + flowColumns + `
	from unnest($1::uuid[], $2::text[], $3::bool[]) with ordinality as p(id, owner, exact, n)
	join flows f on f.id = p.id
	where ` + coversF

// flowReads gathers. Its goroutines live from start to stop.
type flowReads struct {
	store    *Store
	underWay atomic.Int64
	queue    chan *flowRead
	work     sync.WaitGroup
}

// flowRead is one read. The caller owns it until it is queued and again once done is closed.
type flowRead struct {
	id     uuid.UUID
	owners flows.Owners
	found  *flows.Flow
	err    error
	done   chan struct{}
}

func startReads(s *Store) *flowReads {
	r := &flowReads{store: s, queue: make(chan *flowRead, gathered)}
	for range gatherers() {
		r.work.Go(r.gatherAll)
	}
	return r
}

// stop waits for the reads that are queued. No other may come.
func (r *flowReads) stop() {
	close(r.queue)
	r.work.Wait()
}

// flow reads one flow, or flows.ErrNotFound. The statement that reads it begins after the call.
func (r *flowReads) flow(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.Flow, error) {
	defer r.underWay.Add(-1)
	if r.underWay.Add(1) == 1 {
		return r.store.flowAlone(ctx, id, owners)
	}
	read := &flowRead{id: id, owners: owners, done: make(chan struct{})}
	select {
	case r.queue <- read:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-read.done:
		return read.found, read.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *flowReads) gatherAll() {
	for first := range r.queue {
		runtime.Gosched() // callers that can go on ask now: that is no waiting, and makes the statement worth more
		reads := []*flowRead{first}
		for more := true; more && len(reads) < gathered; {
			select {
			case read, open := <-r.queue:
				if more = open; open {
					reads = append(reads, read)
				}
			default:
				more = false
			}
		}
		r.read(reads)
	}
}

// read answers reads by one statement, which is no caller's: one that gives up leaves the others theirs. Where it fails for
// another reason than that the database is away, each is read alone, so that none fails for another's flow.
func (r *flowReads) read(reads []*flowRead) {
	found, err := r.readAll(reads)
	apart := err != nil && !errors.Is(err, store.ErrUnavailable)
	for i, read := range reads {
		switch read.found, read.err = found[int64(i+1)], err; {
		case apart:
			read.found, read.err = r.store.flowAlone(context.Background(), read.id, read.owners)
		case read.found == nil && err == nil:
			read.err = flows.ErrNotFound
		}
		close(read.done)
	}
}

// readAll finds the flows of reads, by their place in the list, from 1.
func (r *flowReads) readAll(reads []*flowRead) (found map[int64]*flows.Flow, err error) {
	ids := column(reads, func(r *flowRead) [16]byte { return r.id })
	owner, exact := patterns(reads, func(r *flowRead) flows.Owners { return r.owners })
	err = r.store.read(context.Background(), func(ctx context.Context, conn *pgx.Conn) error {
		found = make(map[int64]*flows.Flow, len(reads)) // anew, should the first connection break
		rows, err := conn.Query(ctx, selectGathered, ids, owner, exact)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			columns := fieldsOf(rows)
			n := columns.bigint()
			if found[n], err = columns.flow(); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return found, err
}

// Flow implements store.Reader.
func (s *Store) Flow(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.Flow, error) {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closed {
		return nil, busy.wrap(errClosed)
	}
	return s.reads.flow(ctx, id, owners)
}

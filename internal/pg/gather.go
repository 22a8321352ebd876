package pg

import (
	"context"
	"errors"
	"sync"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Reads of single flows that come while others are under way are gathered, and read by one statement: a busy server reads
// many flows at the price of a few. An idle one reads each at once.
const (
	// readsAlone is how many reads are under way, each by a statement of its own, before others are gathered.
	readsAlone = 2
	// gatherers read what was gathered, each by one statement at a time.
	gatherers = 2
	// gathered is how many reads one statement takes at most.
	gathered = 128
)

// A flow is found once for each row of p that names and covers it.
const selectGathered = `select p.n, ` + flowColumns + `
	from unnest($1::uuid[], $2::text[], $3::bool[]) with ordinality as p(id, owner, exact, n)
	join flows f on f.id = p.id
	where ` + coversF

// flowReads gathers. Its goroutines live from start to stop.
type flowReads struct {
	store *Store
	alone chan struct{} // holds a token for each read under way by itself
	queue chan *flowRead
	work  sync.WaitGroup
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
	r := &flowReads{store: s, alone: make(chan struct{}, readsAlone), queue: make(chan *flowRead, gathered)}
	for range gatherers {
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
	select {
	case r.alone <- struct{}{}:
		defer func() { <-r.alone }()
		return r.store.flowAlone(ctx, id, owners)
	default:
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
			var n int64
			f, err := scanFlowAfter(rows, &n)
			if err != nil {
				return err
			}
			found[n] = f
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

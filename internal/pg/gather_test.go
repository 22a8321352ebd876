package pg_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/pg/pgtest"

	"github.com/google/uuid"
)

// TestManyReadsAtOnce reads flows by so many callers at once that reads are gathered: each gets its own flow, or none where
// there is none or it is not covered, and the newest that was saved before it asked.
func TestManyReadsAtOnce(t *testing.T) {
	s := open(t, pgtest.Database(t))
	var list []*flows.Flow
	for i := range 10 {
		f := newFlow()
		f.OwnerSessionKey = fmt.Sprintf("agent:%d:x", i%2)
		list = append(list, f)
	}
	if err := create(t.Context(), s, list...); err != nil {
		t.Fatal(err)
	}
	patterns := []flows.Owners{flows.Everyone, "agent:0:*", "agent:1:x", "agent:*", "nobody", ""}
	var readers sync.WaitGroup
	for range 64 {
		readers.Go(func() {
			for range 50 {
				f, owners := list[rand.IntN(len(list))], patterns[rand.IntN(len(patterns))]
				got, err := s.Flow(t.Context(), f.ID, owners)
				switch covered := owners.Covers(f.OwnerSessionKey); {
				case covered && (err != nil || got.ID != f.ID || got.OwnerSessionKey != f.OwnerSessionKey):
					t.Errorf("%s for %q: %v, %v", f.ID, owners, got, err)
				case !covered && !errors.Is(err, flows.ErrNotFound):
					t.Errorf("%s for %q: %v, %v; want none", f.ID, owners, got, err)
				}
				if got, err := s.Flow(t.Context(), uuid.New(), owners); !errors.Is(err, flows.ErrNotFound) {
					t.Errorf("no flow: %v, %v", got, err)
				}
			}
		})
	}
	readers.Wait()
}

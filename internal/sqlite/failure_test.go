package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/sqlite"
	"taskflow/internal/sqlite/sqlitetest"
	"taskflow/internal/store"

	"github.com/google/uuid"
	sqlite3 "modernc.org/sqlite/lib"
)

// resultCode is an error as the driver returns it, of a kind that cannot be provoked.
type resultCode int

func (c resultCode) Error() string { return fmt.Sprintf("result code %d", int(c)) }
func (c resultCode) Code() int     { return int(c) }

func big(n int) *flows.Flow {
	f := aFlow(n)
	f.State = json.RawMessage(`"` + strings.Repeat("x", 200_000) + `"`)
	return f
}

func TestFullDiskChangesNothingAndRecovers(t *testing.T) {
	s := open(t)
	mustSave(t, s, created(aFlow(0)))
	setMaxPages(t, s, 1) // SQLite takes the current size for the least
	for n := range 3 {
		// The small flow of the batch would fit; the large one does not.
		err := save(t.Context(), s, created(aFlow(10+n), big(20+n)))
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrOutcomeUnknown) {
			t.Fatalf("on a full disk: %v, want ErrUnavailable", err)
		}
	}
	page, err := s.Flows(t.Context(), store.FlowQuery{Owners: flows.Everyone, Limit: 10})
	if err != nil || len(page.Items) != 1 || lastSeq(t, s) != 1 {
		t.Fatalf("after the failures: %d flows, %v, last seq %d; want what was there before", len(page.Items), err, lastSeq(t, s))
	}
	setMaxPages(t, s, 1<<30)
	mustSave(t, s, created(aFlow(10), big(20)))
	if got := lastSeq(t, s); got != 3 {
		t.Errorf("last seq %d after there was room again, want 3", got)
	}
}

func setMaxPages(t *testing.T, s *sqlite.Store, pages int) {
	t.Helper()
	err := s.OnWriter(t.Context(), func(c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count(%d)", pages))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCommitInDoubt(t *testing.T) {
	ioError := resultCode(sqlite3.SQLITE_IOERR_FSYNC)
	lost := func(context.Context, func(context.Context) error) error { return ioError }
	persisted := func(ctx context.Context, commit func(context.Context) error) error {
		return errors.Join(ioError, commit(ctx))
	}
	cases := []struct {
		name   string
		commit func(context.Context, func(context.Context) error) error
		want   error
		there  bool
	}{
		{"lost", lost, store.ErrUnavailable, false},
		{"persisted", persisted, nil, true},
		{"full", func(context.Context, func(context.Context) error) error { return resultCode(sqlite3.SQLITE_FULL) },
			store.ErrUnavailable, false},
		{"not written", func(context.Context, func(context.Context) error) error {
			return resultCode(sqlite3.SQLITE_IOERR_WRITE)
		},
			store.ErrUnavailable, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			erased, f := aFlow(0), aFlow(1)
			mustSave(t, s, created(erased))
			s.NextCommit(c.commit)
			if err := save(t.Context(), s, created(f)); !errors.Is(err, c.want) {
				t.Errorf("Update: %v, want %v", err, c.want)
			}
			if _, err := s.Flow(t.Context(), f.ID, flows.Everyone); (err == nil) != c.there {
				t.Errorf("reading the flow: %v; it should be there: %v", err, c.there)
			}
			// A write without an event is found out about as well.
			s.NextCommit(c.commit)
			if err := save(t.Context(), s, store.Writes{Erased: []uuid.UUID{erased.ID}}); !errors.Is(err, c.want) {
				t.Errorf("erasing: %v, want %v", err, c.want)
			}
			if _, err := s.Flow(t.Context(), erased.ID, flows.Everyone); errors.Is(err, flows.ErrNotFound) != c.there {
				t.Errorf("reading the erased flow: %v; it should be gone: %v", err, c.there)
			}
			mustSave(t, s, created(aFlow(2)))
		})
	}
}

func TestCommitInDoubtWhereAnotherWroteSince(t *testing.T) {
	path := sqlitetest.File(t)
	s, beside := openAs(t, path, sqlite.Options{}), openAs(t, path, sqlite.Options{})
	mustSave(t, s, created(aFlow(0)))
	s.NextCommit(func(ctx context.Context, commit func(context.Context) error) error {
		if err := commit(ctx); err != nil {
			return err
		}
		return errors.Join(resultCode(sqlite3.SQLITE_IOERR), save(ctx, beside, created(aFlow(2))))
	})
	if err := save(t.Context(), s, created(aFlow(1))); !errors.Is(err, store.ErrOutcomeUnknown) {
		t.Errorf("Update: %v, want ErrOutcomeUnknown", err)
	}
	mustSave(t, s, created(aFlow(3)))
	if got := lastSeq(t, s); got != 4 {
		t.Errorf("last seq %d, want 4", got)
	}
}

func TestLockedFileIsUnavailable(t *testing.T) {
	t.Parallel() // it waits for as long as a connection waits for a lock
	path := sqlitetest.File(t)
	s, beside := openAs(t, path, sqlite.Options{}), openAs(t, path, sqlite.Options{})
	err := beside.Update(t.Context(), func(store.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := save(ctx, s, created(aFlow(1))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline: %v", err)
		}
		if err := save(t.Context(), s, created(aFlow(1))); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("without: %v, want ErrUnavailable", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, created(aFlow(1)))
}

func TestFileThatMayNotBeWrittenIsUnavailable(t *testing.T) {
	s := open(t)
	err := s.OnWriter(t.Context(), func(c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), "PRAGMA query_only(1)") // SQLITE_READONLY, as root too
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := save(t.Context(), s, created(aFlow(1))); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Update: %v, want ErrUnavailable", err)
	}
}

func TestErrorKeptByFnIsNotCommitted(t *testing.T) {
	s := open(t)
	f := aFlow(1)
	mustSave(t, s, created(f))
	err := s.Update(t.Context(), func(tx store.Tx) error {
		_ = tx.Save(created(aFlow(2), f)) // f exists
		return nil
	})
	if err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Update: %v, want the refusal of the statement", err)
	}
	if got := lastSeq(t, s); got != 1 {
		t.Errorf("last seq %d, want 1", got)
	}
}

func TestCancelledBeforeTheCommit(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx store.Tx) error {
		err := tx.Save(created(aFlow(1)))
		cancel()
		return err
	})
	if !errors.Is(err, context.Canceled) || lastSeq(t, s) != 0 {
		t.Errorf("Update: %v, last seq %d; want the context's error and no event", err, lastSeq(t, s))
	}
}

func TestCancelDuringTheCommitDoesNotInterruptIt(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.NextCommit(func(commitCtx context.Context, commit func(context.Context) error) error {
		cancel()
		return commit(commitCtx)
	})
	if err := save(ctx, s, created(aFlow(1))); err != nil || lastSeq(t, s) != 1 {
		t.Errorf("Update: %v, last seq %d; want nil and 1", err, lastSeq(t, s))
	}
}

func TestLogStaysBounded(t *testing.T) {
	path := sqlitetest.File(t)
	s := openAs(t, path, sqlite.Options{})
	var largest int64
	for n := range 300 { // 60 MB
		mustSave(t, s, created(big(n)))
		largest = max(largest, logSize(t, path))
	}
	if limit := int64(24 << 20); largest > limit {
		t.Errorf("the log grew to %d bytes, want at most %d", largest, limit)
	}
}

func TestLogStaysBoundedUnderOverlappingReads(t *testing.T) {
	path := sqlitetest.File(t)
	s := openAs(t, path, sqlite.Options{})
	const limit = 1 << 20
	s.LimitLog(limit)
	f := aFlow(0)
	mustSave(t, s, created(f))
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range 3 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Flow(ctx, f.ID, flows.Everyone); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var largest int64
	for n := range 50 {
		mustSave(t, s, created(big(1+n)))
		largest = max(largest, logSize(t, path))
	}
	if largest > 4*limit { // of ten that were written
		t.Errorf("the log grew to %d bytes, want at most %d", largest, 4*limit)
	}
}

func logSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

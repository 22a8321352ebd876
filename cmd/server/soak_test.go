package main

import (
	"bufio"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

var soak = flag.Duration("soak", 7*time.Second, "how long the mixed load on each database lasts whose remains are measured")

const (
	soakSettle = 30 * time.Second
	// What may remain of a load: of goroutines and files what is opened late, of memory what a cache takes; SQLite's are
	// outside of Go's heap.
	moreGoroutines, moreFiles = 3, 4
	moreHeap                  = 4 << 20
	// pooled is how many connections to PostgreSQL the server keeps once so many were wanted at a time, which may be late: the
	// writers', the readers' and the keys'.
	pooled = 4 + 16 + 2
	// sqliteCaches is what SQLite's connections keep of a file that is large enough: the writer's 32,000 KiB, and 8,000 for each
	// of the four readers and the keys' own.
	sqliteCaches = (32_000 + 5*8_000) << 10
)

// warmUp fills caches and pools before the first measurement. A long load has a long one, as what fills slowly is no leak.
func warmUp() time.Duration { return max(2*time.Second, *soak/10) }

// TestSoak_NothingGrows runs the whole server in this process, so that its goroutines and its heap can be counted, under a
// mixed load. Afterwards they are where they were before it, and so are files and connections to the database.
func TestSoak_NothingGrows(t *testing.T) {
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		address, who := servertest.FreeAddress(t), soakCallers(t, url)
		stop := serveInProcess(t, url, address)
		var db *sql.DB
		if strings.HasPrefix(url, "postgres:") {
			db = servertest.OpenDatabase(t, url)
			db.SetMaxOpenConns(1)
		}
		mixedLoad(t, "http://"+address, who, warmUp())
		before := settled(t, db, nil)
		if before.caches = sqliteCaches; db != nil {
			before.caches, before.spare = 0, int64(pooled-before.connections)
		}
		requests := mixedLoad(t, "http://"+address, who, *soak)
		after := settled(t, db, &before)
		if grown := after.grown(before); len(grown) > 0 {
			t.Errorf("after %d requests in %v there is more than before: %v", requests, *soak, grown)
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		}
		if err := stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
		t.Logf("%d requests in %v: before %v, after %v", requests, *soak, before, after)
	})
}

// TestSoak_FindsLeaks keeps a few things that a server might keep, and measures.
func TestSoak_FindsLeaks(t *testing.T) {
	before := measure(t, nil)
	release := make(chan struct{})
	var leaked sync.WaitGroup
	for range 2 * moreGoroutines {
		leaked.Go(func() { <-release })
	}
	var files []*os.File
	for range 2 * moreFiles {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	heap := make([]byte, moreHeap+moreHeap/4)
	outside, err := syscall.Mmap(-1, 0, moreResident+moreResident/4, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(outside); i += os.Getpagesize() {
		outside[i] = 1 // what was never touched is not resident
	}
	after := measure(t, nil)
	if grown := after.grown(before); len(grown) != 4 {
		t.Errorf("of leaked goroutines, files, heap and memory outside of it only %v were found: before %v, after %v", grown, before, after)
	}
	runtime.KeepAlive(heap)
	if err := syscall.Munmap(outside); err != nil {
		t.Error(err)
	}
	for _, f := range files {
		f.Close()
	}
	close(release)
	leaked.Wait()
}

// usage is what the process has of each.
type usage struct {
	goroutines, files, connections int
	heap, resident                 int64 // bytes
	// What may come without being a leak: bytes to resident, and connections, each of which is a file.
	caches, spare int64
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %d connections, heap %.1f MiB, resident %.1f MiB",
		u.goroutines, u.files, u.connections, float64(u.heap)/(1<<20), float64(u.resident)/(1<<20))
}

// grown says what is more than before, beyond what may remain.
func (u usage) grown(before usage) (grown []string) {
	for _, c := range []struct {
		what              string
		now, before, more int64
	}{
		{"goroutines", int64(u.goroutines), int64(before.goroutines), moreGoroutines},
		{"files", int64(u.files), int64(before.files), moreFiles + before.spare},
		{"connections", int64(u.connections), int64(before.connections), before.spare},
		{"heap", u.heap, before.heap, moreHeap},
		{"resident memory", u.resident, before.resident, moreResident + before.caches},
	} {
		if c.now > c.before+c.more {
			grown = append(grown, fmt.Sprintf("%s: %d, was %d", c.what, c.now, c.before))
		}
	}
	return grown
}

// settled measures when what the last requests left behind has gone: the least of a second; or, where there is a
// measurement from before, as soon as nothing has grown.
func settled(t *testing.T, db *sql.DB, before *usage) usage {
	t.Helper()
	least := measure(t, db)
	limit := time.Second
	if before != nil {
		limit = soakSettle
	}
	_ = servertest.Await(t.Context(), limit, func() bool { // the caller judges
		now := measure(t, db)
		least.goroutines, least.files = min(least.goroutines, now.goroutines), min(least.files, now.files)
		least.connections, least.heap, least.resident = min(least.connections, now.connections), min(least.heap, now.heap), min(least.resident, now.resident)
		return before != nil && len(least.grown(*before)) == 0
	})
	return least
}

func measure(t *testing.T, db *sql.DB) (u usage) {
	t.Helper()
	debug.FreeOSMemory() // what Go keeps for later is no leak
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	u.goroutines, u.heap = runtime.NumGoroutine(), int64(memory.HeapAlloc)
	if files, err := os.ReadDir("/dev/fd"); err == nil {
		u.files = len(files)
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil { // where there is none, the heap must do
		var size, pages int64
		if _, err := fmt.Sscan(string(statm), &size, &pages); err == nil {
			u.resident = pages * int64(os.Getpagesize())
		}
	}
	if db != nil {
		const ask = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'taskflow'"
		if err := db.QueryRowContext(t.Context(), ask).Scan(&u.connections); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// serveInProcess runs the server until stop, which waits for its end.
func serveInProcess(t *testing.T, url, address string) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { // ends with cancel; stop waits for it
		err := run(ctx, []string{"--database-url", url, "--listen", address, "--log-format", "json", "--auth", "keys", "--rate-limit", "100000", "--rate-burst", "100000"}, nil, io.Discard, write)
		ended <- err
		_ = write.Close()
	}()
	listening := make(chan bool, 1)
	drained := make(chan struct{})
	go func() { // ends with the server, which closes its log
		defer close(drained)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			if strings.Contains(lines.Text(), `"listening"`) {
				listening <- true
			}
		}
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		<-drained
		return err
	})
	t.Cleanup(func() { _ = stop() })
	select {
	case <-listening:
	case <-drained:
		t.Fatalf("the server did not start: %v", stop())
	}
	return stop
}

package main

import (
	"bufio"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

var soak = flag.Duration("soak", 7*time.Second, "how long the mixed load on each database lasts whose remains are measured")

const (
	soakWorkers = 12
	soakWarmUp  = 2 * time.Second // fills caches and pools before the first measurement
	soakSettle  = 30 * time.Second
	// What may remain of a load: of goroutines and files what a pool opens late, of memory what a cache takes; SQLite's are
	// outside of Go's heap.
	moreGoroutines, moreFiles, moreConnections = 3, 4, 2
	moreHeap, moreResident                     = 16 << 20, 160 << 20
)

// TestSoak_NothingGrows runs the whole server in this process, so that its goroutines and its heap can be counted, under a
// mixed load. Afterwards they are where they were before it, and so are files and connections to the database.
func TestSoak_NothingGrows(t *testing.T) {
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		address := servertest.FreeAddress(t)
		stop := serveInProcess(t, url, address)
		var db *sql.DB
		if strings.HasPrefix(url, "postgres:") {
			db = servertest.OpenDatabase(t, url)
			db.SetMaxOpenConns(1)
		}
		mixedLoad(t, "http://"+address, soakWarmUp)
		before := settled(t, db, nil)
		requests := mixedLoad(t, "http://"+address, *soak)
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
	heap := make([]byte, 2*moreHeap)
	after := measure(t, nil)
	if grown := after.grown(before); len(grown) < 3 {
		t.Errorf("of leaked goroutines, files and memory only %v were found: before %v, after %v", grown, before, after)
	}
	runtime.KeepAlive(heap)
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
		{"files", int64(u.files), int64(before.files), moreFiles},
		{"connections", int64(u.connections), int64(before.connections), moreConnections},
		{"heap", u.heap, before.heap, moreHeap},
		{"resident memory", u.resident, before.resident, moreResident},
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
	runtime.GC()
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
		err := run(ctx, []string{"--database-url", url, "--listen", address, "--log-format", "json"}, nil, io.Discard, write)
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

// mixedLoad has clients do everything that the API has, for a time, and returns how many requests they sent. Their
// connections are closed when it returns.
func mixedLoad(t *testing.T, url string, lasts time.Duration) int64 {
	t.Helper()
	var sent atomic.Int64
	t.Run("load", func(t *testing.T) {
		c := servertest.NewClient(t, url)
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		var working sync.WaitGroup
		for range soakWorkers {
			w := &soaker{t: t, client: c, sent: &sent}
			working.Go(func() {
				for ctx.Err() == nil && !t.Failed() {
					w.story()
				}
			})
		}
		working.Wait()
	})
	return sent.Load()
}

// soaker is one client.
type soaker struct {
	t      *testing.T
	client *servertest.Client
	sent   *atomic.Int64
}

// send sends a request that must be answered with one of the statuses that a server under load may give.
func (w *soaker) send(method, path, body string, header ...string) servertest.Answer {
	w.sent.Add(1)
	answer, err := w.client.Send(method, path, body, header...)
	if err != nil || answer.Status >= 500 {
		w.t.Errorf("%s %s: %v, %d: %s", method, path, err, answer.Status, answer.Body)
	}
	return answer
}

// story takes one flow through a wait of some kind to its end, with reads, refusals and repeats on the way.
func (w *soaker) story() {
	var f servertest.Flow
	created := w.send(http.MethodPost, "/flows", `{"mode": "mirrored", "controller_id": "soak", "goal": "Last", "owner_session_key": "soak", "labels": {"a": "b"}}`)
	if err := created.Decode(&f); err != nil || f.ID == "" {
		w.t.Errorf("a flow was not created: %v: %s", err, created.Body)
		return
	}
	path := "/flows/" + f.ID
	w.send(http.MethodPut, path+"/steps/one", `{"task": "Work", "status": "running"}`)
	for range 2 {
		w.send(http.MethodPost, path+"/state", `{"patch": {"a": [1.10]}, "current_step": "two"}`, "Idempotency-Key", f.ID)
	}
	w.send(http.MethodPost, path+"/state", `{"patch": 1}`, "If-Match", `"0"`) // 409
	w.wait(path, f.ID)
	for _, read := range []string{path, path + "/events", path + "/steps", path + "/wait", "/flows?limit=5&label=a:b", "/events?order=-seq&limit=5", "/stats", "/flows/none", "/readyz"} {
		w.send(http.MethodGet, read, "")
	}
	w.send(http.MethodPost, "/batch", fmt.Sprintf(`{"commands": [{"method": "POST", "path": "%s/resume"}, {"method": "POST", "path": "%s/finish"}]}`, path, path))
	w.send(http.MethodPost, path+"/finish", `{"nonsense": 1}`)
	if rand.IntN(2) == 0 {
		w.send(http.MethodDelete, path, "")
	}
}

// wait begins a wait and has it end.
func (w *soaker) wait(path, id string) {
	begin := func(wait string) servertest.Answer {
		return w.send(http.MethodPost, path+"/wait", `{"wait": `+wait+`}`)
	}
	switch rand.IntN(4) {
	case 0:
		begin(`{"kind": "timer", "after": "PT0.05S"}`)
	case 1:
		begin(fmt.Sprintf(`{"kind": "external_event", "topic": "soak", "correlation_id": %q, "timeout": {"after": "PT1S", "on_timeout": "resume"}}`, id))
		w.send(http.MethodPost, "/external-events", fmt.Sprintf(`{"topic": "soak", "correlation_id": %q, "payload": {"a": 1}}`, id))
	case 2:
		var waiting struct{ Wait struct{ URL string } }
		if err := begin(`{"kind": "callback"}`).Decode(&waiting); err == nil {
			w.send(http.MethodPost, strings.TrimPrefix(waiting.Wait.URL, w.client.URL), `{"a": 1}`)
			w.send(http.MethodPost, strings.TrimPrefix(waiting.Wait.URL, w.client.URL), `{"a": 1}`)
		}
	default:
		begin(`{"kind": "any_of", "conditions": [{"kind": "manual"}, {"kind": "timer", "after": "P1D"}]}`)
	}
}

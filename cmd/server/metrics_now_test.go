package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"

	dto "github.com/prometheus/client_model/go"
)

// awaitMetric scrapes a server until a metric is as it must be.
func awaitMetric(t *testing.T, c *servertest.Client, what string, is func(map[string]*dto.MetricFamily) bool) {
	t.Helper()
	if err := servertest.Await(t.Context(), time.Minute, func() bool { return is(scrape(t, c)) }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestMetrics_Streams holds that live streams are counted while they are open.
func TestMetrics_Streams(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	const name = "taskflow_streams"
	var open []*servertest.Stream
	for n := range 2 {
		stream, err := s.Stream(t.Context(), "/events")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		open = append(open, stream)
		if got := value(scrape(t, s.Client), name); got != float64(n+1) {
			t.Errorf("%d streams are open, and the metric says %v", n+1, got)
		}
	}
	open[0].Close()
	awaitMetric(t, s.Client, "one of two streams was closed", func(now map[string]*dto.MetricFamily) bool { return value(now, name) == 1 })
	if n := value(scrape(t, s.Client), "taskflow_streams_cut_off_total"); n != 0 {
		t.Errorf("%v streams were cut off, and none was slow", n)
	}
}

// TestMetrics_StreamsCutOff holds that a stream whose client does not read is counted when it is cut off.
func TestMetrics_StreamsCutOff(t *testing.T) {
	t.Parallel()
	url := servertest.SQLite(t)
	s := servertest.Start(t, servertest.Options{Database: url, Env: []string{"TASKFLOW_STREAM_TIMEOUT=PT0.2S"}})
	s.Create(t)
	// An event that no buffers on the way take; to have it come of requests would take many, and seconds.
	execute(t, url, `update events set payload = '{"x": "' || hex(zeroblob(4000000)) || '"}'`)
	dial(t, s, "GET /events?after=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n") // and nothing is read
	awaitMetric(t, s.Client, "its client does not read", func(now map[string]*dto.MetricFamily) bool {
		return value(now, "taskflow_streams_cut_off_total") == 1
	})
	awaitMetric(t, s.Client, "it is open no more", func(now map[string]*dto.MetricFamily) bool { return value(now, "taskflow_streams") == 0 })
}

// TestMetrics_TimersOverdue has a trigger refuse the end of a wait, and holds that the metric says for how long it is late.
func TestMetrics_TimersOverdue(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, url string, _ int) {
		s := servertest.Start(t, servertest.Options{Database: url})
		refuse, allow := []string{
			"create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$",
			"create trigger refused before insert on events for each row when (new.kind = 'resumed') execute function refuse()",
		}, "drop trigger refused on events"
		if strings.HasPrefix(url, "sqlite:") {
			refuse = []string{"create trigger refused before insert on events when new.kind = 'resumed' begin select raise(abort, 'refused'); end"}
			allow = "drop trigger refused"
		}
		execute(t, url, refuse...)
		id, _ := wait(t, s.Client, `"kind": "timer", "after": "PT0.001S"`)
		overdue := func(now map[string]*dto.MetricFamily) bool { return value(now, "taskflow_timers_overdue_seconds") > 0 }
		awaitMetric(t, s.Client, "a timer cannot fire", overdue)
		if f := s.Flow(t, id); f.Status != "waiting" {
			t.Errorf("the flow is %s: nothing is overdue", f.Status)
		}
		execute(t, url, allow)
		awaitMetric(t, s.Client, "the timer may fire", func(now map[string]*dto.MetricFamily) bool { return !overdue(now) })
		if f := s.Flow(t, id); f.Status != "running" {
			t.Errorf("nothing is overdue any more, and the flow is %s", f.Status)
		}
	})
}

func execute(t *testing.T, url string, statements ...string) {
	t.Helper()
	db := servertest.OpenDatabase(t, url)
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// TestMetrics_WhileAChangeIsHeldUp holds what the metrics say while one change holds a connection to the database, others queue
// behind it, and it is run again because the connection broke.
func TestMetrics_WhileAChangeIsHeldUp(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	s := servertest.Start(t, servertest.Options{Database: url})
	h := holdUp(t, url, s)
	is := func(what string, want float64, name string, labels ...string) {
		t.Helper()
		awaitMetric(t, s.Client, what, func(now map[string]*dto.MetricFamily) bool { return value(now, name, labels...) == want })
	}
	was := scrape(t, s.Client)
	h.change(1)
	pid := h.awaitWaiting(0)
	is("a change waits for a lock", 1, "taskflow_database_connections", "pool", "writers", "state", "acquired")
	is("it has been taken", 0, "taskflow_queue_depth")
	h.change(3)
	is("three changes behind it", 3, "taskflow_queue_depth")
	execute(t, url, fmt.Sprintf("select pg_terminate_backend(%d)", pid))
	h.awaitWaiting(pid)
	is("its connection broke, and it is run again", 1, "taskflow_database_retries_total", "reason", "broken")
	h.release()
	is("all are answered", 0, "taskflow_queue_depth")
	is("one was run again, once", 1, "taskflow_database_retries_total")
	now := scrape(t, s.Client)
	if n := batches(now).GetSampleCount() - batches(was).GetSampleCount(); n != 2 {
		t.Errorf("%d commits, want one of the change that was held up, and one of those behind it", n)
	}
	if n := batches(now).GetSampleSum() - batches(was).GetSampleSum(); n != 4 {
		t.Errorf("%v commands were committed, want 4", n)
	}
}

// batches are the batches of changes that were committed.
func batches(families map[string]*dto.MetricFamily) *dto.Histogram {
	for _, m := range families["taskflow_batch_commands"].GetMetric() {
		if m.GetLabel()[0].GetValue() == "changes" {
			return m.GetHistogram()
		}
	}
	return nil
}

// heldUp are changes of one flow, which its database holds up by a lock.
type heldUp struct {
	t        *testing.T
	server   *servertest.Server
	db       *sql.DB
	lock     *sql.Tx
	path     string
	changing sync.WaitGroup
}

func holdUp(t *testing.T, url string, s *servertest.Server) *heldUp {
	t.Helper()
	h := &heldUp{t: t, server: s, db: servertest.OpenDatabase(t, url), path: "/flows/" + s.Create(t, `"mode": "mirrored"`).ID + "/state"}
	t.Cleanup(h.release)
	var err error
	if h.lock, err = h.db.BeginTx(t.Context(), nil); err == nil {
		_, err = h.lock.ExecContext(t.Context(), "lock table flows in exclusive mode")
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// change sends changes, which are answered once they are released.
func (h *heldUp) change(n int) {
	for range n {
		h.changing.Go(func() {
			if answer, err := h.server.Send(http.MethodPost, h.path, `{"patch": {}}`); err != nil || answer.Status != http.StatusOK {
				h.t.Errorf("a change that was held up: %v, %d %s", err, answer.Status, answer.Body)
			}
		})
	}
}

// awaitWaiting waits until a connection of the server waits for the lock, and returns the process that serves it; other is
// one that is not meant.
func (h *heldUp) awaitWaiting(other int) (pid int) {
	h.t.Helper()
	const waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and pid <> $1"
	err := servertest.Await(h.t.Context(), time.Minute, func() bool {
		return h.db.QueryRowContext(h.t.Context(), waiting, other).Scan(&pid) == nil
	})
	if err != nil {
		h.t.Fatalf("no change waits for the lock: %v", err)
	}
	return pid
}

// release lets the changes go on, and waits for their answers. It may be called again.
func (h *heldUp) release() {
	if h.lock != nil {
		_ = h.lock.Rollback() // of a second call, which finds it over
	}
	h.changing.Wait()
}

package faults_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"

	"github.com/google/uuid"
)

// TestBackup_UnderLoad backs a database up while its servers change it, as docs/operations.md says, and restores it. The
// copy has every change that was acknowledged before the backup began, and agrees with its own trail; a server starts on it
// and goes on where it ends.
func TestBackup_UnderLoad(t *testing.T) {
	servertest.Databases(t, func(t *testing.T, url string, n int) {
		servers := servertest.StartAll(t, servertest.Options{Database: url}, n)
		l := &ledger{}
		load := startLoad(t, servers, l)
		load.awaitMore(200)
		w := leaveWaiting(t, servers[0].Client)
		known := l.soFar()
		restore := backUp(t, url)
		load.awaitMore(100) // it does not stand in the way
		load.finish()
		verify(t, "backed up under load", servers[0].Client, l)
		for _, s := range servers {
			s.Stop()
		}
		copied := servertest.Start(t, servertest.Options{Database: restore()})
		s, err := takeSnapshot(copied.Client)
		if err != nil {
			t.Fatal(err)
		}
		s.withoutWaiting(w)
		for _, wrong := range append(s.check(), known.check(s)...) {
			t.Error(wrong)
		}
		w.goOn(t, copied, slices.Max(s.seqs))
		checkLogs(t, append(servers, copied))
		t.Logf("%d requests were known when the backup began; the copy has %d flows and %d events and goes on", len(known.requests), len(s.flows), len(s.seqs))
	})
}

// soFar is what clients know now.
func (l *ledger) soFar() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{requests: slices.Clone(l.requests), odd: slices.Clone(l.odd)}
}

// backUp backs a database up, and returns how to restore it into a new one, whose URL that returns.
func backUp(t *testing.T, url string) (restore func() string) {
	t.Helper()
	folder := t.TempDir()
	if strings.HasPrefix(url, "sqlite:") {
		path := filepath.Join(folder, "backup.db")
		execute(t, servertest.OpenDatabase(t, url), []string{"VACUUM INTO '" + path + "'"})
		return func() string { return "sqlite:" + path }
	}
	file := filepath.Join(folder, "backup.dump")
	run(t, pgtest.Program(t, "pg_dump"), "--format=custom", "--file="+file, "--dbname="+url)
	return func() string {
		empty := pgtest.Empty(t)
		run(t, pgtest.Program(t, "pg_restore"), "--no-owner", "--exit-on-error", "--single-transaction", "--dbname="+empty, file)
		return empty
	}
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// left is what is under way when a backup is made: waits of each kind, an event that nobody waits for yet, and a request
// that will be repeated.
type left struct {
	timer, callback, manual, later string // ids of flows
	path                           string // of the callback's URL
	key, body                      string // of a request that was answered
}

func leaveWaiting(t *testing.T, c *servertest.Client) left {
	t.Helper()
	ids := running(t, c, 4)
	w := left{timer: ids[0], callback: ids[1], manual: ids[2], later: ids[3], key: uuid.NewString(), body: `{"patch": {"repeated": 1}}`}
	c.Call(t, http.StatusOK, http.MethodPost, "/external-events", `{"topic": "backup", "correlation_id": "1", "ttl": "P1D"}`)
	c.Call(t, http.StatusOK, http.MethodPost, "/flows/"+w.manual+"/state", w.body, "Idempotency-Key", w.key)
	beginWait(t, c, w.manual, `{"kind": "manual"}`)
	w.path = strings.TrimPrefix(beginWait(t, c, w.callback, `{"kind": "callback"}`).Wait.URL, c.URL)
	beginWait(t, c, w.timer, `{"kind": "timer", "after": "PT4S"}`)
	return w
}

// withoutWaiting takes out of a snapshot the flows that go on by themselves while it is taken.
func (s *snapshot) withoutWaiting(w left) {
	delete(s.flows, w.timer)
	delete(s.events, w.timer)
}

// goOn ends everything that was left, on a server over the copy. last is the newest event it had.
func (w left) goOn(t *testing.T, s *servertest.Server, last int64) {
	t.Helper()
	repeat := s.Call(t, http.StatusOK, http.MethodPost, "/flows/"+w.manual+"/state", w.body, "Idempotency-Key", w.key)
	if repeat.Header.Get("Idempotent-Replayed") != "true" {
		t.Error("the copy does not know an answer that was given before the backup")
	}
	s.Call(t, http.StatusOK, http.MethodPost, w.path, `{"a": 1}`)
	s.Call(t, http.StatusOK, http.MethodPost, "/flows/"+w.manual+"/resume", "")
	if f := beginWait(t, s.Client, w.later, `{"kind": "external_event", "topic": "backup", "correlation_id": "1"}`); f.Status != "running" {
		t.Errorf("the copy has lost a buffered event: the flow that waits for it is %s", f.Status)
	}
	if err := servertest.Await(t.Context(), patience, func() bool { return s.Flow(t, w.timer).Status == "running" }); err != nil {
		t.Error("a timer does not fire on the copy")
	}
	var seqs []int64
	for id, kind := range map[string]string{w.timer: "timer", w.callback: "callback", w.manual: "manual", w.later: "external_event"} {
		all, err := servertest.All[event](s.Client, "/flows/"+id+"/events")
		if err != nil {
			t.Fatal(err)
		}
		end := all[len(all)-1]
		if end.Kind != "resumed" || causeOf(t, end.Event).Kind != kind {
			t.Errorf("a wait that was left to end by %s was ended by %+v", kind, end)
		}
		seqs = append(seqs, end.Seq)
	}
	f := s.Create(t)
	newest, err := servertest.All[event](s.Client, "/flows/"+f.ID+"/events")
	if err != nil {
		t.Fatal(err)
	}
	feed, err := servertest.All[event](s.Client, fmt.Sprintf("/events?after=%d", last))
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range feed {
		if e.Seq != last+1+int64(i) {
			t.Errorf("after %d events the feed of the copy goes on with %d, want %d", i, e.Seq, last+1+int64(i))
		}
	}
	if newest[0].Seq <= slices.Max(seqs) || time.Since(newest[0].at()) > patience {
		t.Errorf("the newest event of the copy is %+v, and others are %v", newest[0], seqs)
	}
}

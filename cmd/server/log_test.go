package main

import (
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// TestLog_HoldsNothingConfidential sends marked values by every way there is and looks for them in the log.
func TestLog_HoldsNothingConfidential(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, database string) {
		s := servertest.Start(t, servertest.Options{Database: database, Env: []string{"TASKFLOW_LOG_LEVEL=debug", "TASKFLOW_MAX_STATE=4KiB"}})
		sendMarked(t, s)
		s.Stop()
		log := s.Log()
		if !strings.Contains(log, `"route":"/flows/{id}/state"`) || !strings.Contains(log, `"request_id":"visible-1"`) {
			t.Errorf("the log does not name requests by route and id:\n%s", log)
		}
		if at := strings.Index(log, "marked"); at >= 0 {
			t.Errorf("the log has a marked value:\n%.600s", log[max(0, at-300):])
		}
	}
	t.Run("sqlite", func(t *testing.T) { test(t, servertest.SQLite(t)) })
	t.Run("postgres", func(t *testing.T) {
		u, err := url.Parse(pgtest.Empty(t))
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("postgres", "marked-password")
		test(t, u.String())
	})
}

// sendMarked sends good and bad requests, every value of a caller's marked.
func sendMarked(t *testing.T, s *servertest.Server) {
	flow := s.Create(t, `"requester_origin": "marked"`, `"state": {"marked": "marked"}`, `"labels": {"marked": "marked"}`)
	path := "/flows/" + flow.ID
	for _, r := range []struct {
		status             int
		method, path, body string
		header             []string
	}{
		{200, "POST", path + "/state", `{"patch": {"marked": "marked"}}`, []string{"Idempotency-Key", "marked-key", "X-Request-Id", "visible-1"}},
		{422, "POST", path + "/state", `{"patch": {"marked": 2}}`, []string{"Idempotency-Key", "marked-key"}},
		{400, "POST", path + "/state", `{"patch": marked}`, nil},
		{400, "POST", path + "/state", `{"marked": 1}`, nil},
		{400, "POST", path + "/state", `{"patch": {}}`, []string{"Idempotency-Key", "marked key"}},
		{400, "POST", path + "/state", `{"patch": {}}`, []string{"If-Match", "marked"}},
		{400, "POST", path + "/state", `{"patch": {}}`, []string{"If-Match", `"0"`, "X-Request-Id", "marked id, refused", "Idempotency-Key", `"marked`}},
		{413, "POST", path + "/state", `{"patch": {"marked": "` + strings.Repeat("marked", 1000) + `"}}`, nil},
		{415, "POST", path + "/state", `{"patch": {"marked": 1}}`, []string{"Content-Type", "text/marked"}},
		{409, "POST", path + "/finish", `{"final_state": {"marked": 1}}`, nil},
		{201, "PUT", path + "/steps/marked%2Frun", `{"task": "marked", "status": "failed", "result": "marked"}`, nil},
		{200, "GET", "/flows?owner_session_key=marked&q=marked&label=marked:marked", "", []string{"Authorization", "Bearer marked", "Cookie", "marked"}},
		{400, "GET", "/flows?cursor=marked", "", nil},
		{404, "GET", "/marked", "", nil},
		{404, "GET", "/flows/marked", "", nil},
		{200, "POST", "/batch", `{"commands": [{"method": "POST", "path": "` + path + `/fail", "body": {"reason": "marked"}, "idempotency_key": "marked"}]}`, nil},
		{200, "POST", path + "/cancel", `{"reason": "marked"}`, []string{"Idempotency-Key", "marked-cancel"}},
	} {
		s.Call(t, r.status, r.method, r.path, r.body, r.header...)
	}
	for _, text := range []string{"marked\r\n\r\n", "GET /marked HTTP/1.1\r\nHost: localhost\r\nmarked\r\n\r\n", "POST /flows HTTP/1.1\r\nHost: localhost\r\nContent-Length: marked\r\n\r\n"} {
		conn := dial(t, s, text)
		_, _ = io.ReadAll(conn) // whatever it answers
	}
	half := dial(t, s, "POST /flows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"marked\"")
	if err := half.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(half)
}

// TestSQLite_OthersMayReadAndMigrate runs a reader and a subcommand beside a server that is busy.
func TestSQLite_OthersMayReadAndMigrate(t *testing.T) {
	t.Parallel()
	database := servertest.SQLite(t)
	s := servertest.Start(t, servertest.Options{Database: database})
	flow := s.Create(t)
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(database, "sqlite:")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const changes = 100
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		for i := range changes {
			answer, err := s.Send(http.MethodPost, "/flows/"+flow.ID+"/state", fmt.Sprintf(`{"patch": {"n": %d}}`, i))
			if err != nil || answer.Status != http.StatusOK {
				t.Errorf("change %d beside others: %v, status %d: %s", i, err, answer.Status, answer.Body)
			}
		}
	})
	for range 3 {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		revision := func() (n int64) {
			if err := tx.QueryRowContext(t.Context(), "select max(revision) from flows").Scan(&n); err != nil {
				t.Errorf("reading beside the server: %v", err)
			}
			return n
		}
		before := revision()
		if r := servertest.Run(t, servertest.Options{Database: database}, "migrate"); r.Code != 0 {
			t.Errorf("migrate beside the server: %+v", r)
		}
		if after := revision(); after != before {
			t.Errorf("one reading transaction sees revisions %d and %d", before, after)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
	writing.Wait()
	if got := s.Flow(t, flow.ID); got.Revision != changes {
		t.Errorf("revision %d, want %d", got.Revision, changes)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"

	"github.com/jackc/pgx/v5/pgxpool"
)

func startPlain(t *testing.T) (url string, pool *pgxpool.Pool) {
	t.Helper()
	pool, err := openPlainPool(t.Context(), pgtest.Empty(t), 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	server := httptest.NewServer(newPlainHandler(pool))
	t.Cleanup(server.Close)
	return server.URL, pool
}

// send posts a body, or gets where it is empty, and returns the status and the answer.
func send(t *testing.T, url, body, ifMatch string) (status int, answer string) {
	t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	if ifMatch != "" {
		r.Header.Set("If-Match", ifMatch)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func plainTrail(t *testing.T, pool *pgxpool.Pool, id string) string {
	t.Helper()
	var trail string
	const read = `SELECT string_agg(revision || ' ' || kind, ', ' ORDER BY seq) FROM events WHERE flow_id = $1::uuid`
	if err := pool.QueryRow(t.Context(), read, id).Scan(&trail); err != nil {
		t.Fatal(err)
	}
	return trail
}

func TestPlainHandler(t *testing.T) {
	url, pool := startPlain(t)
	status, answer := send(t, url+"/flows", string(createBody), "")
	if status != 201 {
		t.Fatalf("create: %d %s", status, answer)
	}
	id, err := flowID([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	flow := url + "/flows/" + id
	cases := []struct {
		name, url, body, ifMatch string
		status                   int
	}{
		{"start", flow + "/start", "{}", "", 200},
		{"start again", flow + "/start", "{}", "", 409},
		{"patch", flow + "/state", `{"patch":{"a":1,"phase":"next"}}`, "", 200},
		{"patch at the right revision", flow + "/state", `{"patch":{"b":2},"current_step":"two"}`, `"2"`, 200},
		{"patch at an old revision", flow + "/state", `{"patch":{"b":3}}`, `"2"`, 409},
		{"patch that is no object", flow + "/state", `{"patch":[1]}`, "", 400},
		{"patch of no flow", url + "/flows/00000000-0000-0000-0000-000000000000/state", `{"patch":{}}`, "", 404},
		{"ready", url + "/readyz", "", "", 200},
	}
	for _, c := range cases {
		if status, answer := send(t, c.url, c.body, c.ifMatch); status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, status, c.status, answer)
		}
	}
	_, answer = send(t, flow, "", "")
	var got plainFlow
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	state := fmt.Sprintf("%d %s %s %v", got.Revision, got.Status, got.CurrentStep, got.State)
	if want := "3 running two map[a:1 b:2 phase:next progress:0]"; state != want {
		t.Errorf("got %q, want %q", state, want)
	}
	if got, want := plainTrail(t, pool, id), "0 created, 1 started, 2 state_updated, 3 state_updated"; got != want {
		t.Errorf("trail %q, want %q", got, want)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE flows SET status = 'finished'"); err != nil {
		t.Fatal(err)
	}
	if status, _ := send(t, flow+"/state", `{"patch":{}}`, ""); status != 409 {
		t.Errorf("a finished flow took a change: %d", status)
	}
}

// The load generator drives the plain handler as it drives the server, and its check of the revisions holds: many
// connections on one flow lose no change.
func TestLoadOnPlainHandler(t *testing.T) {
	url, pool := startPlain(t)
	got, err := runLoad(t.Context(), loadCommand{URL: url, Scenario: "one-flow", Connections: 8, Flows: 1, Batch: 1,
		Duration: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var rise, events int64
	const count = `SELECT (SELECT sum(revision) FROM flows), (SELECT count(*) FROM events WHERE revision > 0)`
	if err := pool.QueryRow(t.Context(), count).Scan(&rise, &events); err != nil {
		t.Fatal(err)
	}
	if got.Failures != 0 || got.Changes == 0 || rise != events || rise <= got.Changes {
		t.Errorf("%d failures, %d changes in the window, revisions rose by %d, %d events", got.Failures, got.Changes, rise, events)
	}
}

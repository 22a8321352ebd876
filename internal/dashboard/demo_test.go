package dashboard_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

// demo fills a server with what a small company's flows may look like, all of it by the API. It returns the id of the flow
// with the richest story.
func demo(t *testing.T, c *servertest.Client) string {
	t.Helper()
	d := &demonstration{t: t, c: c, random: rand.New(rand.NewPCG(7, 7))}
	for i := range 64 {
		d.flow(i)
	}
	return d.refund()
}

type demonstration struct {
	t      *testing.T
	c      *servertest.Client
	random *rand.Rand
}

type kindOfFlow struct {
	controller, goal, owner, team string
	steps                         []string
}

func kindsOfFlows() []kindOfFlow {
	return []kindOfFlow{
		{"kate/inbox-triage", "Triage the inbox and draft replies", "agent:kate:session:abc", "support", []string{"fetch", "classify", "draft"}},
		{"shop/orders", "Fulfil order %d", "shop:eu", "commerce", []string{"reserve stock", "charge card", "ship"}},
		{"ci/nightly", "Nightly build of main, run %d", "ci:nightly", "platform", []string{"build", "test", "publish"}},
		{"billing/invoices", "Issue the invoices of week %d", "billing", "finance", []string{"collect", "render", "send"}},
		{"data/exports", "Export the ledger of shard %d", "data:eu", "finance", []string{"snapshot", "encrypt", "upload"}},
	}
}

func (d *demonstration) post(path, body string) servertest.Answer {
	d.t.Helper()
	answer, err := d.c.Send(http.MethodPost, path, body)
	if err != nil || answer.Status >= 300 {
		d.t.Fatalf("POST %s %s: %v, %d %s", path, body, err, answer.Status, answer.Body)
	}
	return answer
}

func (d *demonstration) flow(i int) {
	d.t.Helper()
	kind := kindsOfFlows()[d.random.IntN(5)]
	goal := kind.goal
	if kind.controller != "kate/inbox-triage" {
		goal = fmt.Sprintf(kind.goal, 1040+i)
	}
	body, err := json.Marshal(map[string]any{
		"controller_id": kind.controller, "goal": goal, "owner_session_key": kind.owner, "labels": map[string]string{"team": kind.team, "region": []string{"eu", "us"}[i%2]},
		"state": map[string]any{"attempt": 1, "items": d.random.IntN(40)},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	path := "/flows/" + value(d.t, d.post("/flows", string(body)), "id")
	if i%11 == 0 {
		return
	}
	d.post(path+"/start", "")
	for n, step := range kind.steps[:d.random.IntN(4)] {
		d.c.Call(d.t, http.StatusCreated, http.MethodPut, fmt.Sprintf("%s/steps/%s-%d", path, kind.team, n), fmt.Sprintf(`{"task": %q, "status": "succeeded"}`, step))
	}
	d.post(path+"/state", fmt.Sprintf(`{"patch": {"done": %d}, "current_step": %q}`, d.random.IntN(9), kind.steps[1]))
	d.ending(path, i)
}

// ending leaves a flow somewhere in its life.
func (d *demonstration) ending(path string, i int) {
	d.t.Helper()
	switch i % 9 {
	case 0, 1, 2:
		d.post(path+"/finish", `{"final_state": {"sent": true}}`)
	case 3:
		d.post(path+"/fail", `{"reason": "The mail server refused the login"}`)
	case 4:
		d.post(path+"/wait", fmt.Sprintf(`{"wait": {"kind": "timer", "after": "PT%dM"}}`, 3+7*i))
	case 5:
		d.post(path+"/wait", fmt.Sprintf(`{"wait": {"kind": "external_event", "topic": "payment", "correlation_id": "order-%d", "timeout": {"after": "P2D", "on_timeout": "fail"}}}`, 1040+i))
	case 6:
		d.post(path+"/wait", `{"wait": {"kind": "manual", "details": {"question": "Send the drafts?"}}}`)
	case 7:
		if i%2 == 0 {
			d.post(path+"/cancel", `{"reason": "Duplicate of another flow"}`)
		}
	}
}

// refund is a flow that has been through much and waits for a person.
func (d *demonstration) refund() string {
	d.t.Helper()
	id := value(d.t, d.post("/flows", `{"controller_id": "shop/refunds", "goal": "Refund order 1093: parcel lost in transit", "owner_session_key": "shop:eu", "requester_origin": "support desk",
		"labels": {"team": "commerce", "region": "eu", "priority": "high"},
		"state": {"order": 12345678901234567890, "customer": {"name": "Ida Lindqvist", "since": 2019}, "amount": {"value": 129.90, "currency": "EUR"}}}`), "id")
	path := "/flows/" + id
	d.post(path+"/start", "")
	d.step(path, "trace-parcel", "Trace the parcel with the carrier", "succeeded", `{"carrier": "Nordpost", "scans": 7}`)
	d.post(path+"/state", `{"patch": {"parcel": {"last_seen": "Malmö hub", "days_silent": 9}}, "current_step": "verify-claim"}`)
	d.step(path, "check-fraud", "Check the claim for fraud", "succeeded", `{"score": 0.10}`)
	d.post(path+"/wait", `{"wait": {"kind": "external_event", "topic": "carrier-claim", "correlation_id": "order-1093"}}`)
	d.post("/external-events", `{"topic": "carrier-claim", "correlation_id": "order-1093", "payload": {"accepted": true, "reference": "NP-448120"}}`)
	d.post(path+"/state", `{"patch": {"amount": {"value": 134.85, "currency": "EUR"}, "shipping_refunded": true}, "current_step": "approval"}`)
	d.step(path, "draft-mail", "Draft the apology to the customer", "running", "null")
	d.post("/external-events", `{"topic": "approval", "correlation_id": "order-1092", "payload": {"by": "jonas"}}`)
	d.post(path+"/wait", `{"wait": {"kind": "any_of", "conditions": [{"kind": "callback"}, {"kind": "external_event", "topic": "approval", "correlation_id": "order-1093"}],
		"details": {"question": "Refund 134.85 EUR to Ida Lindqvist?"}, "timeout": {"after": "P2D", "on_timeout": "cancel"}}}`)
	return id
}

func (d *demonstration) step(path, run, task, status, result string) {
	d.t.Helper()
	d.c.Call(d.t, http.StatusCreated, http.MethodPut, path+"/steps/"+run, fmt.Sprintf(`{"task": %q, "status": %q, "result": %s}`, task, status, result))
}

// spread lays what has happened in a moment over the last minutes, behind the back of a server on SQLite: the story of the
// demonstration would else be over in a second.
func spread(t *testing.T, url string, over time.Duration) {
	t.Helper()
	db := servertest.OpenDatabase(t, url)
	for _, statement := range []string{
		`UPDATE events SET at = (SELECT max(at) FROM events) - ((SELECT max(seq) FROM events) - seq) * $1 / (SELECT max(seq) FROM events)`,
		`UPDATE flows SET created_at = (SELECT min(at) FROM events WHERE flow_id = flows.id), updated_at = (SELECT max(at) FROM events WHERE flow_id = flows.id) WHERE $1 > 0`,
		`UPDATE flows SET waiting_since = updated_at, wait = json_set(wait, '$.since', strftime('%Y-%m-%dT%H:%M:%S.000000Z', updated_at / 1000000, 'unixepoch')) WHERE status = 'waiting' AND $1 > 0`,
		`UPDATE flows SET ended_at = updated_at WHERE ended_at IS NOT NULL AND $1 > 0`,
		`UPDATE steps SET created_at = (SELECT min(at) FROM events WHERE flow_id = steps.flow_id) + (SELECT count(*) FROM steps AS s WHERE s.flow_id = steps.flow_id AND s.id < steps.id) * 9000000,
			updated_at = (SELECT min(at) FROM events WHERE flow_id = steps.flow_id) + (SELECT count(*) FROM steps AS s WHERE s.flow_id = steps.flow_id AND s.id < steps.id) * 11000000 + 14000000 WHERE $1 > 0`,
	} {
		if _, err := db.ExecContext(t.Context(), statement, over.Microseconds()); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

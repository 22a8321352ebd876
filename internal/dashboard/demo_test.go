package dashboard_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

// demo fills a server with what a small company's flows may look like, all of it by the API. It returns the id of the flow
// with the richest story.
func demo(t *testing.T, c *servertest.Client) string {
	t.Helper()
	d := &demonstration{t: t, c: c, random: rand.New(rand.NewPCG(7, 7)), in: map[string][]string{}}
	for range 330 {
		d.turn()
	}
	return d.refund()
}

// demonstration is a small company at work: in are the paths of its flows by status.
type demonstration struct {
	t      *testing.T
	c      *servertest.Client
	random *rand.Rand
	in     map[string][]string
	made   int
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

// turn makes one thing happen; the more flows are in a status, the likelier one of them leaves it.
func (d *demonstration) turn() {
	d.t.Helper()
	switch {
	case d.random.IntN(9) < len(d.in["created"]):
		d.start(d.leave("created"))
	case d.random.IntN(24) < len(d.in["running"]):
		d.goOn(d.leave("running"))
	case d.random.IntN(90) < len(d.in["waiting"]):
		path := d.leave("waiting")
		d.post(path+"/resume", `{"state_patch": {"approved_by": "kate"}}`)
		d.in["running"] = append(d.in["running"], path)
	default:
		d.create()
	}
}

// leave takes a flow out of those in a status.
func (d *demonstration) leave(status string) string {
	at := d.random.IntN(len(d.in[status]))
	path := d.in[status][at]
	d.in[status] = slices.Delete(d.in[status], at, at+1)
	return path
}

func (d *demonstration) create() {
	d.t.Helper()
	kind := kindsOfFlows()[d.random.IntN(len(kindsOfFlows()))]
	goal := kind.goal
	if strings.Contains(goal, "%d") {
		goal = fmt.Sprintf(goal, 1040+d.made)
	}
	d.made++
	body, err := json.Marshal(map[string]any{
		"controller_id": kind.controller, "goal": goal, "owner_session_key": kind.owner, "current_step": kind.steps[0],
		"labels": map[string]string{"team": kind.team, "region": []string{"eu", "us"}[d.made%2]},
		"state":  map[string]any{"attempt": 1, "items": d.random.IntN(40)},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.in["created"] = append(d.in["created"], "/flows/"+value(d.t, d.post("/flows", string(body)), "id"))
}

func (d *demonstration) start(path string) {
	d.t.Helper()
	d.post(path+"/start", "")
	d.in["running"] = append(d.in["running"], path)
}

// goOn ends a running flow, has it wait, or leaves it running with some progress.
func (d *demonstration) goOn(path string) {
	d.t.Helper()
	switch n := d.random.IntN(20); {
	case n < 6:
		d.post(path+"/finish", `{"final_state": {"sent": true}}`)
	case n < 8:
		d.post(path+"/fail", `{"reason": "The mail server refused the login"}`)
	case n < 9:
		d.post(path+"/cancel", `{"reason": "Duplicate of another flow"}`)
	case n < 15:
		waits := []string{
			fmt.Sprintf(`{"kind": "timer", "after": "PT%dM"}`, 2+d.random.IntN(300)),
			fmt.Sprintf(`{"kind": "external_event", "topic": "payment", "correlation_id": "order-%d", "timeout": {"after": "PT%dH", "on_timeout": "fail"}}`, 1000+d.random.IntN(90), 1+d.random.IntN(40)),
			`{"kind": "manual", "details": {"question": "Send the drafts?"}}`,
		}
		d.post(path+"/wait", `{"wait": `+waits[d.random.IntN(len(waits))]+`}`)
		d.in["waiting"] = append(d.in["waiting"], path)
	default:
		d.post(path+"/state", fmt.Sprintf(`{"patch": {"done": %d}, "current_step": "review"}`, d.random.IntN(9)))
		d.in["running"] = append(d.in["running"], path)
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
		`UPDATE flow_labels SET created_at = (SELECT created_at FROM flows WHERE id = flow_id) WHERE $1 > 0`,
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

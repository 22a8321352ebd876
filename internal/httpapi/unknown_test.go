package httpapi_test

import (
	"fmt"
	"strings"
	"testing"

	"taskflow/internal/store/storetest"
)

// brokenCommits break the connection during a commit that went through, and one that did not.
var brokenCommits = map[bool]func() storetest.Fault{true: storetest.UnknownPersisted, false: storetest.UnknownLost}

// count is how many events of a kind a flow's trail has.
func (c *client) count(path, kind string) (n int) {
	c.t.Helper()
	for _, e := range c.trail(path) {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// TestUnknownOutcomeOfAnEventIsSettledByARepeat breaks the commits of external events, of which one is waited for and the
// other is not: a repeat under the same key leaves one receipt and has one effect.
func TestUnknownOutcomeOfAnEventIsSettledByARepeat(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for persisted, fault := range brokenCommits {
			replayed := map[bool]string{true: "true", false: ""}[persisted]
			for _, outcome := range []string{"delivered", "buffered"} {
				id := fmt.Sprintf("%s-%t", outcome, persisted)
				wait := fmt.Sprintf(`{"kind":"external_event","topic":"t","correlation_id":%q}`, id)
				event := fmt.Sprintf(`{"topic":"t","correlation_id":%q,"payload":{"n":1.10}}`, id)
				path := api.running("")
				if outcome == "delivered" {
					api.post(path+"/wait", `{"wait":`+wait+`}`).want(200)
				}
				api.faulty.Inject(fault())
				api.post("/external-events", event, "Idempotency-Key: "+id).problem(503, "unavailable").has("/outcome_unknown", "true")
				a := api.post("/external-events", event, "Idempotency-Key: "+id).want(200).has("/outcome", quoted(outcome)).hasHeader("Idempotent-Replayed", replayed)
				api.post("/external-events", event, "Idempotency-Key: "+id).want(200).has("/id", a.at("/id")).hasHeader("Idempotent-Replayed", "true")
				if outcome == "buffered" {
					api.post(path+"/wait", `{"wait":`+wait+`}`).want(200).has("/status", `"running"`)
				}
				api.get(path).has("/status", `"running"`, "/state/resume_event", `{"n":1.10}`, "/resumed_by/event_id", a.at("/id"))
				api.post(path+"/wait", `{"wait":`+wait+`}`).want(200).has("/status", `"waiting"`) // there is no second one
				if n := api.count(path, "resumed"); n != 1 {
					t.Errorf("%s: the flow was resumed %d times: %s", id, n, api.kinds(path))
				}
				receipts := items[struct{ ID string }](api.get("/external-events?correlation_id=" + id))
				if len(receipts) != 1 || quoted(receipts[0].ID) != a.at("/id") {
					t.Errorf("%s: receipts %v, want the one of %s", id, receipts, a.at("/id"))
				}
			}
		}
	}, withFaults)
}

// TestUnknownOutcomeOfACallbackIsSettledByARepeat breaks the commits of callbacks and rejections. A sender has no key: the
// URL itself says which wait it is, and a repeat finds it ended or ends it.
func TestUnknownOutcomeOfACallbackIsSettledByARepeat(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for persisted, fault := range brokenCommits {
			for _, c := range []struct{ call, body, state, outcome string }{
				{"", `{"n":1.10}`, `{"resume_event":{"n":1.10}}`, "resumed"}, {"/reject", `{"reason":"no"}`, "", "rejected"},
			} {
				path, url := api.callback(callbackWait)
				api.faulty.Inject(fault())
				api.post(url+c.call, c.body).problem(503, "unavailable").has("/outcome_unknown", "true")
				if status := strings.Trim(api.get(path).at("/status"), `"`); (status == "running") != persisted {
					t.Errorf("the flow is %s, persisted: %t", status, persisted)
				}
				for i := range 2 {
					want := resumed // of both: the wait is over
					if persisted || i > 0 {
						want = alreadyResumed
					}
					wantText(t, "a repeat", api.post(url+c.call, c.body).want(200).body, want)
				}
				a := api.get(path).has("/status", `"running"`, "/resumed_by/kind", `"callback"`, "/resumed_by/outcome", quoted(c.outcome))
				if c.state != "" {
					a.has("/state", c.state)
				}
				if n := api.count(path, "resumed"); n != 1 || a.at("/revision") != "3" {
					t.Errorf("%s: resumed %d times: %s", c.outcome, n, api.kinds(path))
				}
			}
		}
	}, withFaults)
}

package httpapi_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/sqlite"

	"github.com/google/uuid"
)

// publish sends an event for a pair with more members, each with a comma in front.
func (c *client) publish(topic, id, members string) answer {
	c.t.Helper()
	return c.post("/external-events", `{"topic":`+quoted(topic)+`,"correlation_id":`+quoted(id)+members+`}`).want(200)
}

func TestEventsThatFindTheirFlows(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		first, _ := api.waiting(event7)
		second, _ := api.waiting(`{"kind":"any_of","conditions":[{"kind":"manual"},` + event7 + `]}`)
		other, _ := api.waiting(strings.Replace(event7, "order-7", "order-8", 1))
		a := api.publish("payment", "order-7", `,"payload":{"n":1.10}`)
		a.has("/outcome", `"delivered"`, "/flow_count", "2", "/expires_at", "null", "/flow_id", "null", "/topic", `"payment"`, "/correlation_id", `"order-7"`, "/flows/0/revision", "3", "/flows/1/revision", "3")
		for path, condition := range map[string]string{first: "null", second: "1"} {
			api.get(path).has("/status", `"running"`, "/state", `{"resume_event":{"n":1.10}}`, "/resumed_by/kind", `"external_event"`, "/resumed_by/event_id", a.at("/id"), "/resumed_by/condition", condition)
			if last := api.trail(path)[3]; last.Actor != "external-event" || last.Kind != "resumed" {
				t.Errorf("%+v", last)
			}
			if !strings.Contains(a.at("/flows"), strings.TrimPrefix(path, "/flows/")) {
				t.Errorf("%s is not on the receipt %s", path, a.body)
			}
		}
		api.get(other).has("/status", `"waiting"`)
		wantText(t, "the receipt", api.get("/external-events/"+strings.Trim(a.at("/id"), `"`)).want(200).body, a.body)
		api.get("/external-events/"+uuid.NewString()).problem(404, "not-found")
		api.get("/external-events/x").problem(404, "not-found")

		for payload, want := range map[string]string{"": "null", `,"payload":null`: "null", `,"payload":[]`: "[]", `,"payload":"x"`: `"x"`} {
			path, _ := api.waiting(strings.Replace(event7, "order-7", "order-9", 1))
			api.publish("payment", "order-9", payload).has("/outcome", `"delivered"`)
			api.get(path).has("/state", `{"resume_event":`+want+`}`)
			api.post(path+"/cancel", "").want(200)
			id := api.publish("payment", "order-10", `,"flow_id":`+quoted(strings.TrimPrefix(path, "/flows/"))).has("/outcome", `"unmatched"`, "/expires_at", "null").at("/id")
			api.erase(path).want(204)
			api.get("/external-events/"+strings.Trim(id, `"`)).has("/outcome", `"unmatched"`)
		}
		id := strings.Trim(a.at("/id"), `"`)
		api.post(first+"/finish", "").want(200)
		api.erase(first).want(204)
		api.get("/external-events/"+id).has("/flow_count", "2")
	})
}

// TestEventsForOneFlow wants flow_id to narrow, also what is kept.
func TestEventsForOneFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		a, _ := api.waiting(event7)
		b, _ := api.waiting(event7)
		only := func(path string) string { return `,"flow_id":` + quoted(strings.TrimPrefix(path, "/flows/")) }
		api.publish("payment", "order-7", only(b)).has("/outcome", `"delivered"`, "/flow_count", "1", "/flow_id", quoted(strings.TrimPrefix(b, "/flows/")))
		api.get(a).has("/status", `"waiting"`)
		c := api.running("")
		api.publish("payment", "order-7", only(c)).has("/outcome", `"buffered"`, "/flow_count", "0")
		api.get(a).has("/status", `"waiting"`)
		api.post(b+"/wait", `{"wait":`+event7+`}`).want(200).has("/status", `"waiting"`)
		api.post(c+"/wait", `{"wait":`+event7+`}`).want(200).has("/status", `"running"`, "/resumed_by/kind", `"external_event"`)
		api.refused(404, "not-found", "POST", "/external-events", `{"topic":"t","correlation_id":"c"`+only(noFlow())+`}`)
	})
}

// TestEventsAreKept wants the oldest first, each for one flow, in the wait's own commit.
func TestEventsAreKept(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		var ids []string
		for i := range 3 {
			a := api.publish("payment", "order-7", fmt.Sprintf(`,"payload":%d`, i)).has("/outcome", `"buffered"`, "/flows", "[]")
			a.has("/expires_at", seconds(t, a.at("/created_at"), 3600))
			ids = append(ids, a.at("/id"))
		}
		for i := range 3 {
			path := api.running("")
			a := api.post(path+"/wait", `{"wait":`+event7+`}`).want(200)
			a.has("/status", `"running"`, "/state", fmt.Sprintf(`{"resume_event":%d}`, i), "/resumed_by/event_id", ids[i], "/revision", "3")
			wantText(t, "trail", api.kinds(path), "created 0, started 1, waiting 2, resumed 3")
			api.get("/external-events/"+strings.Trim(ids[i], `"`)).has("/outcome", `"delivered"`, "/flows/0/id", a.at("/id"), "/flows/0/revision", "3", "/expires_at", "null")
		}
		api.waiting(event7)
	})
}

func TestHowLongEventsAreKept(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for ttl, keep := range map[string]float64{"PT1S": 1, "P30D": 30 * 86400, "PT720H": 30 * 86400, "P1W": 7 * 86400} {
			a := api.publish("t", ttl, `,"ttl":`+quoted(ttl)).has("/outcome", `"buffered"`)
			a.has("/expires_at", seconds(t, a.at("/created_at"), keep))
		}
		api.publish("t", "none", `,"ttl":"PT0S"`).has("/outcome", `"unmatched"`, "/expires_at", "null")
		api.waiting(`{"kind":"external_event","topic":"t","correlation_id":"none"}`)
		for _, ttl := range []string{"P31D", "P30DT1S", "P1M", "P1Y", "-PT1S", "", "P", "PT", "1h", "P1.5Y"} {
			api.post("/external-events", `{"topic":"t","correlation_id":"c","ttl":`+quoted(ttl)+`}`).problem(422, "invalid-value").pointers("/ttl")
		}
		if list := items[struct{ ID string }](api.get("/external-events?correlation_id=c")); len(list) != 0 {
			t.Errorf("a refused event has a receipt: %v", list)
		}
	})
}

func TestEventsThatAreRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for body, want := range map[string]string{
			`{}`: "400 /correlation_id /topic", `{"topic":"t"}`: "400 /correlation_id", `{"topic":"","correlation_id":"c"}`: "422 /topic", `{"topic":"t","correlation_id":"` + repeated(257) + `"}`: "422 /correlation_id",
			`{"topic":"t","correlation_id":"c","flow_id":"x"}`: "422 /flow_id", `{"topic":"t","correlation_id":"c","x":1}`: "400 /x", `{"topic":1,"correlation_id":"c"}`: "400 /topic", `{"topic":"t","correlation_id":"c","ttl":null}`: "400 /ttl",
		} {
			status, pointers, _ := strings.Cut(want, " ")
			slug := map[string]string{"400": "invalid-request", "422": "invalid-value"}[status]
			a := api.post("/external-events", body)
			if fmt.Sprint(a.status) != status {
				t.Errorf("%s: %d, want %s", body, a.status, want)
				continue
			}
			p := a.problem(a.status, slug)
			var got []string
			for _, e := range p.Errors {
				got = append(got, e.Pointer)
			}
			if len(got) != len(strings.Fields(pointers)) {
				t.Errorf("%s: %v, want %s", body, got, pointers)
			}
		}
		api.post("/external-events", `{"topic":"t","correlation_id":"c","payload":`+padded(maxState+1)+`}`).problem(413, "payload-too-large")
		api.publish("t", "c", `,"payload":`+padded(maxState)).has("/outcome", `"buffered"`)
		api.post("/external-events", "{}", "Content-Type: text/plain").problem(415, "unsupported-media-type")
	})
}

func TestRepeatedEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path, _ := api.waiting(event7)
		body := `{"topic":"payment","correlation_id":"order-7"}`
		first := api.post("/external-events", body, "Idempotency-Key: k").want(200).has("/outcome", `"delivered"`)
		api.post(path+"/wait", `{"wait":`+event7+`}`).want(200)
		again := api.post("/external-events", body, "Idempotency-Key: k").want(200).hasHeader("Idempotent-Replayed", "true")
		wantText(t, "the repeat", again.body, first.body)
		api.get(path).has("/status", `"waiting"`)
		api.post("/external-events", body+" ", "Idempotency-Key: k").problem(422, "idempotency-key-reused")
		api.post("/external-events", body, "Idempotency-Key: k2").want(200).has("/outcome", `"delivered"`)
	})
}

type receipt struct {
	ID, Topic, Outcome string
	CorrelationID      string `json:"correlation_id"`
}

func TestListsOfEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		var all []string
		for i := range 7 {
			ttl := ""
			if i%3 == 0 {
				ttl = `,"ttl":"PT0S"`
			}
			all = append([]string{strings.Trim(api.publish(fmt.Sprintf("t%d", i%2), fmt.Sprintf("c%d", i), ttl).at("/id"), `"`)}, all...)
		}
		ids := func(list []receipt) string {
			var out []string
			for _, r := range list {
				out = append(out, r.ID)
			}
			return strings.Join(out, " ")
		}
		for query, want := range map[string][]int{
			"": {0, 1, 2, 3, 4, 5, 6}, "topic=t0": {0, 2, 4, 6}, "topic=t1": {1, 3, 5}, "correlation_id=c6": {0}, "topic=t1&correlation_id=c6": {}, "outcome=buffered": {1, 2, 4, 5}, "outcome=unmatched": {0, 3, 6},
			"outcome=delivered": {}, "outcome=delivering": {}, "outcome=expired": {}, "topic=t0&outcome=unmatched": {0, 6},
		} {
			var wanted []string
			for _, i := range want {
				wanted = append(wanted, all[i])
			}
			wantText(t, query, ids(items[receipt](api.get(withQuery("/external-events", query)))), strings.Join(wanted, " "))
			wantText(t, query+" by 2", ids(pages[receipt](api, withQuery("/external-events", query), 2)), strings.Join(wanted, " "))
		}
		for _, query := range []string{"topic=", "outcome=lost", "outcome=", "cursor=x", "limit=0", "limit=501", "x=1", "flow_id=x", "topic=a&topic=b", "cursor=" + api.get("/flows?limit=1").next()} {
			api.get("/external-events?"+query).problem(400, "invalid-request")
		}
	})
}

// clock is a clock that a test sets forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// TestEventsExpire goes by the clock of the store.
func TestEventsExpire(t *testing.T) {
	var c clock
	api := serveSQLite(t, func(s *setup) { s.sqlite = sqlite.Options{Now: c.now} })
	short := strings.Trim(api.publish("payment", "order-7", `,"ttl":"PT1M","payload":"short"`).at("/id"), `"`)
	api.publish("payment", "order-7", `,"ttl":"PT1H","payload":"long"`)
	c.ahead.Store(int64(2 * time.Minute))
	api.get("/external-events/"+short).has("/outcome", `"expired"`)
	if got := items[receipt](api.get("/external-events?outcome=expired")); len(got) != 1 || got[0].ID != short {
		t.Errorf("expired: %v", got)
	}
	if got := items[receipt](api.get("/external-events?outcome=buffered")); len(got) != 1 || got[0].ID == short {
		t.Errorf("buffered: %v", got)
	}
	path := api.running("")
	api.post(path+"/wait", `{"wait":`+event7+`}`).want(200).has("/state", `{"resume_event":"long"}`)
	api.waiting(event7)
}

// near lists the events that an explanation of a flow's wait has, with what it says of each.
func (c *client) near(path string) string {
	c.t.Helper()
	var near []struct {
		Event   receipt
		Differs string
	}
	decode(c.t, c.get(path+"/wait").want(200).at("/near_events"), &near)
	var lines []string
	for _, n := range near {
		lines = append(lines, n.Event.Topic+" "+n.Event.CorrelationID+": "+n.Differs)
	}
	return strings.Join(lines, "\n")
}

// TestNearEvents wants the events that almost ended a wait, with the reason why they did not.
func TestNearEvents(t *testing.T) {
	var c clock
	api := serveSQLite(t, func(s *setup) { s.sqlite = sqlite.Options{Now: c.now} })
	elsewhere := api.running("")
	for _, e := range [][3]string{
		{"payment", "order-7", `,"ttl":"PT1M"`}, {"payment", "order-7", `,"ttl":"PT0S"`}, {"payment", "order-8", ""}, {"Payment", "order-7", ""}, {"refund", "order-9", ""},
		{"payment", "order-7", `,"flow_id":` + quoted(strings.TrimPrefix(elsewhere, "/flows/"))},
	} {
		api.publish(e[0], e[1], e[2])
	}
	c.ahead.Store(int64(2 * time.Minute))
	path, _ := api.waiting(event7)
	wantText(t, "near events", api.near(path), strings.Join([]string{
		"payment order-7: It was for another flow.", "Payment order-7: Its topic is another.", "payment order-8: Its correlation_id is another.",
		"payment order-7: It was not kept, and the flow did not wait yet.", "payment order-7: It expired before the flow began to wait.",
	}, "\n"))
	twice, _ := api.waiting(`{"kind":"any_of","conditions":[` + event7 + `,{"kind":"external_event","topic":"payment","correlation_id":"order-1"}]}`)
	var near []struct{ Event receipt }
	decode(t, api.get(twice+"/wait").want(200).at("/near_events"), &near)
	seen := map[string]bool{}
	for _, n := range near {
		if seen[n.Event.ID] {
			t.Errorf("%+v is told of twice", n)
		}
		seen[n.Event.ID] = true
	}
}

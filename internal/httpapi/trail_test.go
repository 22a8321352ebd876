package httpapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// seqs are the numbers of events.
func seqs(list []event) []int64 {
	out := []int64{}
	for _, e := range list {
		out = append(out, e.Seq)
	}
	return out
}

func sameSeqs(t testing.TB, what string, got []event, want []int64) {
	t.Helper()
	if !slices.Equal(seqs(got), want) {
		t.Errorf("%s: %v, want %v", what, seqs(got), want)
	}
}

func reversed(list []int64) []int64 {
	out := slices.Clone(list)
	slices.Reverse(out)
	return out
}

// byAfter reads a list of events to its end by the seq of the last event seen.
func byAfter(c *client, path string, limit int) []event {
	c.t.Helper()
	path = withQuery(path, fmt.Sprintf("limit=%d", limit))
	page := c.get(path).events()
	all := page
	for len(page) > 0 && len(all) < 10_000 {
		page = c.get(fmt.Sprintf("%s&after=%d", path, page[len(page)-1].Seq)).events()
		all = append(all, page...)
	}
	return all
}

// TestEventsPageInBothOrders pages through one flow's trail and through everybody's, by cursor and by seq.
func TestEventsPageInBothOrders(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		population(api)
		flow := api.inStatus("finished")
		for _, path := range []string{"/events", flow + "/events"} {
			all := seqs(api.get(path + "?limit=500").events())
			if len(all) < 3 || !slices.IsSorted(all) {
				t.Fatalf("%s: %v", path, all)
			}
			for _, limit := range []int{1, 3, len(all), 500} {
				sameSeqs(t, path, pages[event](api, path, limit), all)
				sameSeqs(t, path, byAfter(api, path, limit), all)
				sameSeqs(t, path, byAfter(api, path+"?order=seq", limit), all)
				sameSeqs(t, path, pages[event](api, path+"?order=-seq", limit), reversed(all))
				sameSeqs(t, path, byAfter(api, path+"?order=-seq", limit), reversed(all))
			}
			sameSeqs(t, "after 0", api.get(path+"?after=0&limit=500").events(), all)
			sameSeqs(t, "after the last", api.get(fmt.Sprintf("%s?after=%d", path, all[len(all)-1])).events(), nil)
			sameSeqs(t, "after one that will be", api.get(path+"?after=9223372036854775807").events(), nil)
			sameSeqs(t, "before the first", api.get(fmt.Sprintf("%s?order=-seq&after=%d", path, all[0])).events(), nil)
			sameSeqs(t, "from the far end", api.get(path+"?order=-seq&limit=500&after=9223372036854775807").events(), reversed(all))
			if next := api.get(fmt.Sprintf("%s?limit=%d", path, len(all)+1)).next(); next != "" {
				t.Errorf("%s: the last page leads on to %q", path, next)
			}
			cursor := api.get(path + "?limit=1").next()
			api.get(path+"?after=1&cursor="+cursor).problem(400, "invalid-request").pointers("after")
		}
		// A reader that has come to the end finds what happens next, and nothing twice.
		last := api.lastSeq()
		api.created("")
		sameSeqs(t, "new", api.get(fmt.Sprintf("/events?after=%d", last)).events(), []int64{last + 1})
		api.get(noFlow()+"/events").problem(404, "not-found")
	})
}

func TestCursorOfOneTrailLeadsOnInIt(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		one, two := api.running(""), api.running("")
		cursor := api.get(one + "/events?limit=1").next()
		for _, e := range api.get(two + "/events?cursor=" + cursor).events() {
			if "/flows/"+e.FlowID != two {
				t.Errorf("an event of %s in the trail of %s", e.FlowID, two)
			}
		}
	})
}

// TestFiltersOfEvents asks for events by what their flows are.
func TestFiltersOfEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		population(api)
		flows := map[string]flow{}
		byGoal := map[string]string{}
		for _, f := range api.get("/flows").flows() {
			flows[f.ID], byGoal[f.Goal] = f, f.ID
		}
		all := api.get("/events?limit=500").events()
		kate := func(e event) bool { return flows[e.FlowID].OwnerSessionKey == "kate" }
		inbox := func(e event) bool { return flows[e.FlowID].ControllerID == "inbox" }
		mirrored := func(e event) bool { return flows[e.FlowID].Mode == "mirrored" }
		kind := func(kinds ...string) func(event) bool {
			return func(e event) bool { return slices.Contains(kinds, e.Kind) }
		}
		cases := map[string][]func(event) bool{
			"owner_session_key=kate": {kate}, "controller_id=inbox": {inbox}, "mode=mirrored": {mirrored},
			"flow_id=" + byGoal["b"]:                  {func(e event) bool { return e.FlowID == byGoal["b"] }},
			"flow_id=" + strings.ToUpper(byGoal["b"]): {func(e event) bool { return e.FlowID == byGoal["b"] }},
			"kind=started":                            {kind("started")},
			"kind=started&kind=failed":                {kind("started", "failed")},
			"owner_session_key=kate&kind=created":     {kate, kind("created")},
			"controller_id=inbox&mode=mirrored&kind=started&owner_session_key=kate": {inbox, mirrored, kind("started"), kate},
			"flow_id=" + byGoal["d"] + "&owner_session_key=kate":                    {kate, func(e event) bool { return e.FlowID == byGoal["d"] }},
			"flow_id=0197b3a0-5c1e-7d3a-9c55-3f2e8a1b7c4d":                          {func(event) bool { return false }},
			"owner_session_key=nobody":                                              {func(event) bool { return false }},
			"kind=step_observed":                                                    {kind("step_observed")},
			"kind=created&kind=started&kind=waiting&kind=resumed&kind=finished&kind=failed&kind=cancel_requested&kind=cancelled&kind=state_updated&kind=step_observed": {},
		}
		for query, filters := range cases {
			want := []int64{}
			for _, e := range all {
				if !slices.ContainsFunc(filters, func(f func(event) bool) bool { return !f(e) }) {
					want = append(want, e.Seq)
				}
			}
			sameSeqs(t, query, api.get("/events?"+query).events(), want)
			sameSeqs(t, query+" by cursor", pages[event](api, "/events?"+query, 2), want)
			sameSeqs(t, query+" newest first", pages[event](api, "/events?order=-seq&"+query, 2), reversed(want))
			if len(want) > 1 {
				sameSeqs(t, query+" after", api.get(fmt.Sprintf("/events?%s&after=%d", query, want[0])).events(), want[1:])
			}
		}
	})
}

// TestStats counts an empty service, and then a small one.
func TestStats(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		const none = `{"by_status":{"cancelled":0,"created":0,"failed":0,"finished":0,"running":0,"waiting":0},"by_controller":[],"failed_by_controller":[],` +
			`"next_timer":null,"due_next":[],"oldest_waiting":null,"waiting_longest":[]}`
		wantText(t, "empty", api.get("/stats").want(200).body, none)
		population(api)
		oldest := api.get("/flows?status=waiting").flows()[0]
		younger := api.inStatus("waiting")
		a := api.get("/stats").want(200)
		a.has("/by_status", `{"cancelled":1,"created":1,"failed":1,"finished":0,"running":2,"waiting":2}`,
			"/by_controller", `[{"controller_id":"inbox","flows":4},{"controller_id":"orders","flows":2},{"controller_id":"kate/inbox-triage","flows":1}]`,
			"/failed_by_controller", `[{"controller_id":"inbox","flows":1}]`,
			"/oldest_waiting", `{"flow_id":"`+oldest.ID+`","since":"`+oldest.Wait.Since+`"}`,
			"/waiting_longest/0", `{"flow_id":"`+oldest.ID+`","controller_id":`+quoted(oldest.ControllerID)+`,"goal":`+quoted(oldest.Goal)+`,"since":"`+oldest.Wait.Since+`"}`,
			"/waiting_longest/1/flow_id", quoted(younger[len("/flows/"):]))
		api.post("/flows/"+oldest.ID+"/resume", "").want(200)
		api.get("/stats").has("/oldest_waiting/flow_id", quoted(younger[len("/flows/"):]))
		api.post(younger+"/cancel", "").want(200)
		api.get("/stats").has("/oldest_waiting", "null", "/by_status/waiting", "0", "/by_status/cancelled", "2")
		api.erase(younger).want(204)
		api.get("/stats").has("/by_status/cancelled", "1")
	})
}

// TestEventsOfManyWritersHaveOneOrder reads the feed while many write to it: whoever has seen n never finds one below n.
func TestEventsOfManyWritersHaveOneOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		const writers, each = 8, 10
		var seen []event
		done := make(chan struct{})
		go func() { // ends with the last writer, which the test waits for
			defer close(done)
			atOnce(writers, func(int) answer {
				for range each {
					api.post("/flows", createBody(""))
				}
				return answer{}
			})
		}()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			after := int64(0)
			if len(seen) > 0 {
				after = seen[len(seen)-1].Seq
			}
			seen = append(seen, api.get(fmt.Sprintf("/events?limit=500&after=%d", after)).events()...)
		}
		sameSeqs(t, "read while written", seen, seqs(api.get("/events?limit=500").events()))
		if len(seen) != writers*each {
			t.Errorf("%d events, want %d", len(seen), writers*each)
		}
	})
}

package httpapi_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// pages reads a list to its end and fails the test where a page is longer than its limit, or the list does not end.
func pages[T any](c *client, path string, limit int) []T {
	c.t.Helper()
	path = withQuery(path, fmt.Sprintf("limit=%d", limit))
	var all []T
	for cursor := ""; ; {
		a := c.get(path + cursor)
		page := items[T](a)
		if len(page) > limit || len(all) > 10_000 {
			c.t.Fatalf("%s: a page of %d, after %d items", path, len(page), len(all))
		}
		all = append(all, page...)
		if a.next() == "" {
			return all
		}
		if a.next() != url.QueryEscape(a.next()) {
			c.t.Errorf("next_cursor %q is not URL-safe", a.next())
		}
		cursor = "&cursor=" + a.next()
	}
}

func withQuery(path, query string) string {
	if strings.Contains(path, "?") {
		return path + "&" + query
	}
	return path + "?" + query
}

// goals are the goals of flows in their order, which tests use as names.
func goals(list []flow) string {
	var out []string
	for _, f := range list {
		out = append(out, f.Goal)
	}
	return strings.Join(out, " ")
}

// population makes flows that differ in everything a filter goes by. They are created in the order of their names and
// changed last in another.
func population(api *client) {
	make := func(goal, members string) string {
		return api.created(quoted("goal") + ":" + quoted(goal) + "," + members)
	}
	a := make("a", `"owner_session_key":"kate","controller_id":"inbox","labels":{"team":"x","env":"prod"}`)
	b := make("b", `"owner_session_key":"kate","controller_id":"inbox","mode":"mirrored","labels":{"team":"x"}`)
	c := make("c", `"owner_session_key":"kate","controller_id":"orders","labels":{"team":"y","env":"prod"}`)
	d := make("d", `"owner_session_key":"john","controller_id":"orders","labels":{"a:b":"c:d","a":"b:c","empty":""}`)
	e := make("e", `"owner_session_key":"john","controller_id":"inbox","mode":"mirrored"`)
	make("f", `"owner_session_key":"kate:2","controller_id":"inbox","labels":{"team":"X"}`)
	api.post(e+"/wait", manualWait).want(200)
	api.post(d+"/start", "").want(200)
	api.post(c+"/cancel", "").want(200)
	api.post(b+"/request-cancel", "").want(200)
	api.post(a+"/start", "").want(200)
	api.post(a+"/fail", `{"reason":"r"}`).want(200)
}

// TestFiltersOfFlows asks for every filter, and for some of them together. The answers are in the order of creation.
func TestFiltersOfFlows(t *testing.T) {
	cases := []struct{ query, want string }{
		{"", "a b c d e f"},
		{"owner_session_key=kate", "a b c"}, {"owner_session_key=kate%3A2", "f"}, {"owner_session_key=KATE", ""}, {"owner_session_key=k", ""},
		{"status=created", "f"}, {"status=running", "b d"}, {"status=waiting", "e"}, {"status=finished", ""}, {"status=failed", "a"}, {"status=cancelled", "c"},
		{"status=running&status=waiting", "b d e"}, {"status=running&status=running", "b d"},
		{"status=created&status=running&status=waiting&status=finished&status=failed&status=cancelled", "a b c d e f"},
		{"controller_id=inbox", "a b e f"}, {"controller_id=orders", "c d"}, {"controller_id=none", ""},
		{"mode=managed", "a c d f"}, {"mode=mirrored", "b e"},
		{"label=team:x", "a b"}, {"label=team:X", "f"}, {"label=env:prod", "a c"}, {"label=team:x&label=env:prod", "a"}, {"label=team:x&label=team:y", ""},
		{"label=empty:", "d"}, {"label=team:", ""}, {"label=none:x", ""}, {"label=a:b:c", "d"}, {"label=a:b:c:d", ""}, // the first colon divides
		{"wait_kind=manual", "e"}, {"wait_kind=manual&status=running", ""}, {"wait_kind=manual&status=waiting", "e"},
		{"cancel_requested=true", "b"}, {"cancel_requested=false", "a c d e f"},
		{"q=a", "a"}, {"q=A", ""}, {"q=%25", ""}, {"q=_", ""}, {"q=%2A", ""},
		{"owner_session_key=kate&status=running", "b"}, {"owner_session_key=kate&label=env:prod", "a c"}, {"owner_session_key=john&controller_id=inbox&mode=mirrored", "e"},
		{"owner_session_key=kate&q=b", "b"}, {"controller_id=orders&status=cancelled&label=team:y", "c"}, {"mode=mirrored&cancel_requested=true&status=running", "b"},
		{"view=full", "a b c d e f"}, {"view=summary&mode=mirrored", "b e"}, {"created_after=2000-01-01T00:00:00Z", "a b c d e f"},
		{"created_before=2000-01-01T00:00:00Z", ""}, {"updated_after=9999-12-31T00:00:00Z", ""}, {"updated_before=9999-12-31T00:00:00%2B02:00", "a b c d e f"},
	}
	eachStore(t, func(t *testing.T, api *client) {
		population(api)
		for _, c := range cases {
			wantText(t, c.query, goals(api.get(withQuery("/flows?order=created_at", c.query)).flows()), c.want)
			for _, limit := range []int{1, 3} {
				wantText(t, fmt.Sprintf("%s by %d", c.query, limit), goals(pages[flow](api, withQuery("/flows?order=created_at", c.query), limit)), c.want)
			}
			newest := strings.Fields(c.want)
			slices.Reverse(newest)
			wantText(t, c.query+", newest first", goals(pages[flow](api, "/flows?"+strings.TrimPrefix(c.query+"&", "&")+"order=-created_at", 2)), strings.Join(newest, " "))
		}
	})
}

// TestSubstringsOfGoals looks for what means something to a database.
func TestSubstringsOfGoals(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, goal := range []string{"100%", "a_b", `back\\slash`, "it's", "Übung", "über", "<b>", "[x]"} {
			api.created(quoted("goal") + ":" + quoted(goal))
		}
		for q, want := range map[string]string{
			"%": "100%", "0%": "100%", "_": "a_b", `\`: `back\slash`, "'": "it's", "Ü": "Übung", "ü": "über", "b": `a_b back\slash Übung über <b>`, "[x": "[x]", "*": "", "?": "", ".": "", "^a": "",
		} {
			wantText(t, q, goals(api.get("/flows?order=created_at&q="+url.QueryEscape(q)).flows()), want)
		}
	})
}

// TestTimesBoundFlows takes the bounds from flows, which are exclusive.
func TestTimesBoundFlows(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		population(api)
		list := api.get("/flows?order=created_at").flows()
		for i, f := range list {
			before, after := list[:i], list[i+1:]
			wantText(t, "before "+f.Goal, goals(api.get("/flows?order=created_at&created_before="+f.CreatedAt).flows()), goals(before))
			wantText(t, "after "+f.Goal, goals(api.get("/flows?order=created_at&created_after="+f.CreatedAt).flows()), goals(after))
			wantText(t, "between", goals(api.get("/flows?created_after="+list[0].CreatedAt+"&created_before="+f.CreatedAt+"&order=created_at").flows()),
				goals(list[min(1, i):i]))
		}
		const byUpdate = "f e d c b a"
		wantText(t, "by update", goals(pages[flow](api, "/flows?order=updated_at", 2)), byUpdate)
		b := list[1]
		wantText(t, "updated after b", goals(api.get("/flows?order=updated_at&updated_after="+b.UpdatedAt).flows()), "a")
		wantText(t, "updated before b", goals(api.get("/flows?order=updated_at&updated_before="+b.UpdatedAt).flows()), "f e d c")
	})
}

// TestOrdersOfFlows pages through every order, with other flows changing at the same time.
func TestOrdersOfFlows(t *testing.T) {
	orders := map[string]string{
		"": "f e d c b a", "?order=-created_at": "f e d c b a", "?order=created_at": "a b c d e f",
		"?order=updated_at": "f e d c b a", "?order=-updated_at": "a b c d e f",
		"?order=-updated_at&owner_session_key=kate": "a b c", "?order=updated_at&status=running": "d b", "?order=-updated_at&q=d": "d",
	}
	eachStore(t, func(t *testing.T, api *client) {
		population(api)
		for query, want := range orders {
			for _, limit := range []int{1, 2, 3, 6, 7, 500} {
				wantText(t, fmt.Sprintf("%s by %d", query, limit), goals(pages[flow](api, "/flows"+query, limit)), want)
			}
		}
		// A flow that comes while somebody pages is not in the way of those that were there.
		first := api.get("/flows?order=-created_at&limit=3")
		api.created(`"goal":"late"`)
		rest := api.get("/flows?order=-created_at&limit=3&cursor=" + first.next())
		wantText(t, "pages", goals(first.flows())+" "+goals(rest.flows()), "f e d c b a")
		// The default is fifty to a page.
		for range 50 {
			api.created("")
		}
		if a := api.get("/flows"); len(a.flows()) != 50 || a.next() == "" {
			t.Errorf("a page of %d, next %q", len(a.flows()), a.next())
		}
	})
}

// TestSummaryLeavesTheStateOut and nothing else.
func TestSummaryLeavesTheStateOut(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.created(`"state":{"a":1}`)
		full := api.get(path).body
		wantText(t, "full", api.get("/flows?view=full").at("/items/0"), full)
		wantText(t, "default", api.get("/flows").at("/items/0"), full)
		wantText(t, "summary", api.get("/flows?view=summary").at("/items/0"), strings.Replace(full, `"state":{"a":1},`, "", 1))
	})
}

// TestParametersThatAreBad sends a bad value of every parameter of every list.
func TestParametersThatAreBad(t *testing.T) {
	limits := []string{"limit=0", "limit=-1", "limit=501", "limit=", "limit=x", "limit=1.5", "limit=1e1", "limit=+5", "limit=%205", "limit=0x5", "limit=99999999999999999999",
		"limit=5&limit=5", "limit=5,5", "cursor=", "cursor=x&cursor=x", "cursor=%00", "cursor=" + strings.Repeat("A", 257)}
	modes := []string{"mode=", "mode=x", "mode=Managed", "mode=managed&mode=managed", "mode=managed,mirrored"}
	labels := []string{"owner_session_key=", "owner_session_key=a&owner_session_key=b", "owner_session_key=%00", "owner_session_key=%FF", "owner_session_key=%ED%A0%80",
		"owner_session_key=" + strings.Repeat("%C3%BC", 257), "controller_id=", "controller_id=a&controller_id=a", "controller_id=a%00b", "controller_id=%C3"}
	after := []string{"after=", "after=-1", "after=x", "after=1.5", "after=9223372036854775808", "after=1&after=1"}
	orders := []string{"order=", "order=seq,-seq", "order=SEQ", "order=seq&order=seq", "order=created_at"}
	bad := map[string][]string{
		"/flows": slices.Concat(limits, modes, labels, []string{
			"status=", "status=x", "status=running,waiting", "status=RUNNING", "status=%00", strings.Repeat("status=running&", 7),
			"label=", "label=x", "label=:x", "label=%00:x", "label=%FF:x", "label=" + strings.Repeat("k", 320) + ":", strings.TrimSuffix(strings.Repeat("label=a:b&", 33), "&"),
			"wait_kind=", "wait_kind=timer2", "wait_kind=manual&wait_kind=manual", "cancel_requested=", "cancel_requested=yes", "cancel_requested=1",
			"cancel_requested=TRUE", "cancel_requested=true&cancel_requested=true", "created_after=", "created_after=yesterday", "created_after=2026-04-23",
			"created_before=2026-04-23T15:00:00", "created_before=2026-04-23T15:00:00+02:00", "updated_after=2026-02-30T00:00:00Z",
			"updated_before=9999-12-31T23:59:59-01:00", "updated_before=1", "updated_after=2026-04-23T15:00:00Z&updated_after=2026-04-23T15:00:00Z",
			"q=", "q=a&q=b", "q=%00", "q=%FF", "q=" + strings.Repeat("x", 257), "order=", "order=name", "order=created_at&order=created_at", "order=created_at,updated_at",
			"view=", "view=short", "view=full&view=full", "sort=1", "offset=1", "Status=running", "statuses=running", "status[]=running", "=", "=1",
		}),
		"/events": slices.Concat(limits, modes, labels, after, orders, []string{
			"kind=", "kind=x", "kind=created,started", "flow_id=", "flow_id=x", "flow_id=urn:uuid:0197b3a0-5c1e-7d3a-9c55-3f2e8a1b7c4d",
			"flow_id=0197b3a05c1e7d3a9c553f2e8a1b7c4d", strings.TrimSuffix(strings.Repeat("kind=created&", 11), "&"), "status=created",
		}),
		"/events/": slices.Concat(limits, after, orders, []string{"kind=created", "mode=managed"}),
		"/steps":   slices.Concat(limits, []string{"order=seq", "after=1"}),
	}
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.created("")
		for list, queries := range bad {
			path := list
			if list == "/events/" || list == "/steps" {
				path = flow + strings.TrimSuffix(list, "/")
			}
			for _, query := range queries {
				p := api.get(path+"?"+query).problem(400, "invalid-request")
				if len(p.Errors) != 1 || p.Errors[0].Detail == "" {
					t.Errorf("%s?%s: errors %v", path, query, p.Errors)
				}
			}
			api.get(path + "?").want(200) // a question mark alone asks for nothing
			api.get(path + "?limit=500").want(200)
			api.get(path + "?limit=1").want(200)
		}
	})
}

// TestCursorsThatAreBad sends what is no cursor, or one of another list or order.
func TestCursorsThatAreBad(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		api.created("")
		for i := range 2 {
			api.observe(flow, fmt.Sprint(i), "running").want(201)
		}
		lists := []string{
			"/flows?order=created_at", "/flows?order=-created_at", "/flows?order=updated_at", "/flows?order=-updated_at", flow + "/steps?limit=1",
			"/events?order=seq", "/events?order=-seq",
		}
		cursors := map[string]string{}
		for _, list := range lists {
			if cursors[list] = api.get(list + "&limit=1").next(); strings.Contains(list, "/steps") {
				cursors[list] = api.get(list).next()
			}
			if cursors[list] == "" {
				t.Fatalf("%s has no second page", list)
			}
		}
		refuse := func(list, cursor string) {
			api.get(list+"&cursor="+url.QueryEscape(cursor)).problem(400, "invalid-request").pointers("cursor")
		}
		for _, list := range lists {
			for other, cursor := range cursors {
				if other != list {
					refuse(list, cursor)
				}
			}
			own := cursors[list]
			raw, err := base64.RawURLEncoding.DecodeString(own)
			if err != nil {
				t.Fatal(err)
			}
			negative := append([]byte{raw[0], 0xff}, raw[2:]...)
			for _, bad := range []string{own[:len(own)-1], own[1:], own + "A", own + "=", own + "\n", own[:len(own)-1] + "\x7f", "garbage", "AAAA", strings.Repeat("A", 256),
				base64.RawURLEncoding.EncodeToString(raw[:1]), base64.RawURLEncoding.EncodeToString(negative), base64.StdEncoding.EncodeToString(append(raw, 0xff, 0xfe))} {
				refuse(list, bad)
			}
			api.get(list + "&cursor=" + own).want(200)
		}
	})
}

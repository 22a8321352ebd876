package dashboard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

// bothThemes runs a story in a tab of its own for each theme, on one server, beside other tests.
func bothThemes(t *testing.T, options servertest.Options, width int64, story func(t *testing.T, s *servertest.Server, p *tab)) {
	t.Helper()
	t.Parallel()
	s := servertest.Start(t, options)
	browser := chromium(t)
	for _, theme := range []string{"light", "dark"} {
		t.Run(theme, func(t *testing.T) {
			p := newTab(t, browser, s.URL, width)
			p.theme(theme)
			story(t, s, p)
		})
	}
}

// oneTheme is bothThemes for a story that no colour has a part in: what there is to see in it, other tests look at in both.
func oneTheme(t *testing.T, options servertest.Options, width int64, story func(t *testing.T, s *servertest.Server, p *tab)) {
	t.Helper()
	t.Parallel()
	s := servertest.Start(t, options)
	p := newTab(t, chromium(t), s.URL, width)
	p.theme("light")
	story(t, s, p)
}

func onSQLite(t *testing.T) servertest.Options {
	return servertest.Options{Database: servertest.SQLite(t)}
}

// live waits until the page follows the feed.
func (p *tab) live() {
	p.t.Helper()
	p.await(`document.getElementById("connection")?.dataset.state === "connected"`)
}

// command sends one to a flow by the API, behind the page's back.
func command(t *testing.T, s *servertest.Server, id, verb, body string) {
	t.Helper()
	s.Call(t, http.StatusOK, http.MethodPost, "/flows/"+id+"/"+verb, body)
}

// create makes a flow; extra are members of the body, beside or instead of the usual ones.
func create(t *testing.T, s *servertest.Server, extra ...string) string {
	t.Helper()
	body := map[string]json.RawMessage{"controller_id": []byte(`"test"`), "goal": []byte(`"a test"`), "owner_session_key": []byte(`"test"`)}
	for _, member := range extra {
		if err := json.Unmarshal([]byte("{"+member+"}"), &body); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return value(t, s.Call(t, http.StatusCreated, http.MethodPost, "/flows", string(text)), "id")
}

// inStatus makes a flow that is in a status; draining is running with its cancel requested.
func inStatus(t *testing.T, s *servertest.Server, status string, extra ...string) string {
	t.Helper()
	id := create(t, s, extra...)
	for _, verb := range map[string][]string{
		"running": {"start"}, "waiting": {"start", "wait"}, "finished": {"start", "finish"}, "failed": {"start", "fail"},
		"cancelled": {"cancel"}, "draining": {"start", "request-cancel"},
	}[status] {
		command(t, s, id, verb, map[string]string{"wait": `{"wait": {"kind": "manual"}}`, "fail": `{"reason": "a test"}`}[verb])
	}
	return id
}

// TestOverview_IsLive counts flows by status, lists what is due, what waits and what fails, and follows along.
func TestOverview_IsLive(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		inStatus(t, s, "failed", `"controller_id": "shop/orders"`)
		inStatus(t, s, "waiting", `"goal": "wait for a person"`)
		timer := inStatus(t, s, "running", `"goal": "wait for an hour"`)
		command(t, s, timer, "wait", `{"wait": {"kind": "timer", "after": "PT1H"}}`)
		p.open("#/")
		p.live()
		counts := func() string {
			var stats struct {
				ByStatus map[string]int `json:"by_status"`
			}
			if err := s.Call(t, 200, "GET", "/stats", "").Decode(&stats); err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, status := range []string{"created", "running", "waiting", "finished", "failed", "cancelled"} {
				out = append(out, fmt.Sprintf("%s%d", status, stats.ByStatus[status]))
			}
			return quote(strings.Join(out, " "))
		}
		p.await(`all(".numbers a").join(" ") === ` + counts())
		p.await(`document.querySelectorAll(".plot path.line").length === 3 && pick("svg.plot").getAttribute("aria-label").includes("waiting: ")`)
		p.awaitText(".due li", "wait for an hour")
		p.await(`/in [45]\d min \d+ s/.test(text(".due li time"))`)
		p.awaitText(".oldest li", "wait for a person")
		p.awaitText(".failures li", "shop/orders")
		p.awaitText(".ticker li", "timer")

		created := create(t, s, `"goal": "seen at once"`)
		p.awaitText(".ticker li", "seen at once")
		p.await(`all(".numbers a").join(" ") === ` + counts())
		command(t, s, created, "cancel", "")
		p.awaitText(".ticker .badge", "cancelled")
		p.await(`all(".numbers a").join(" ") === ` + counts())

		inStatus(t, s, "failed", `"controller_id": "too/late"`)
		soon := inStatus(t, s, "running", `"goal": "wait a minute"`)
		waiting := eval[string](p, `text("svg.plot [data-status=waiting] text")`)
		command(t, s, soon, "wait", `{"wait": {"kind": "timer", "after": "PT1M"}}`)
		p.awaitText(".failures li", "too/late")
		p.awaitText(".due li:first-child", "wait a minute")
		p.awaitText(".oldest", "wait a minute")
		p.await(`text("svg.plot [data-status=waiting] text") !== ` + quote(waiting) + ` && pick("svg.plot").getAttribute("aria-label").includes(text("svg.plot [data-status=waiting] text").replace("waiting ", "") + " now")`)

		p.choose(".card select", "5")
		p.await(`location.hash === "#/?window=5" && !!pick(".tick", "−4 min")`)
		p.click(".failures a", "shop/orders")
		p.await(`location.hash === "#/flows?status=failed&controller_id=shop%2Forders" && all(".flows .badge").every((s) => s === "failed") && all(".flows .badge").length > 0`)
	})
}

// TestOverview_OverlooksNoFlow has more flows that wait, and more that have failed, than a page of the API has: what is due
// next is in the middle of those that wait, and one controller's failures are older than a page of another's.
func TestOverview_OverlooksNoFlow(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	var waits, failures []string
	for i := range 500 {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		after, goal := "PT2H", "waits long"
		if i == 250 {
			after, goal = "PT1H", "waits an hour"
		}
		waits = append(waits, fmt.Sprintf(`{"method": "POST", "path": "/flows", "body": {"id": %q, "mode": "mirrored", "controller_id": "shop/orders", "goal": %q, "owner_session_key": "test"}}`, id, goal),
			fmt.Sprintf(`{"method": "POST", "path": "/flows/%s/wait", "body": {"wait": {"kind": "timer", "after": %q}}}`, id, after))
	}
	for i := range 500 {
		id, controller := fmt.Sprintf("00000000-0000-4000-9000-%012d", i), "ci/nightly"
		if i < 60 {
			controller = "billing/invoices"
		}
		failures = append(failures, fmt.Sprintf(`{"method": "POST", "path": "/flows", "body": {"id": %q, "mode": "mirrored", "controller_id": %q, "goal": "fails", "owner_session_key": "test"}}`, id, controller),
			fmt.Sprintf(`{"method": "POST", "path": "/flows/%s/fail", "body": {"reason": "a test"}}`, id))
	}
	for commands := range slices.Chunk(slices.Concat(waits, failures), 500) {
		s.Call(t, 200, "POST", "/batch", `{"commands": [`+strings.Join(commands, ",")+`]}`)
	}
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/")
	p.live()
	p.await(`all(".due li").length === 6 && all(".due li")[0].startsWith("waits an hour") && /in [45]\d min/.test(text(".due li time"))`)
	p.await(`all(".oldest li").length === 6 && all(".failures li").join() === "ci/nightly440,billing/invoices60"`)
}

// TestList_HasEveryFilterOfTheAPI sets each filter by hand, finds what it filters, and the address that leads there again.
func TestList_HasEveryFilterOfTheAPI(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		mine := inStatus(t, s, "waiting", `"goal": "needle in hay"`, `"controller_id": "one/controller"`, `"owner_session_key": "one:owner"`, `"mode": "managed"`, `"labels": {"team": "a:b", "x": ""}`)
		inStatus(t, s, "draining", `"goal": "hay"`)
		inStatus(t, s, "running", `"goal": "mirror"`)
		s.Call(t, 201, "POST", "/flows", `{"mode": "mirrored", "controller_id": "test", "goal": "glass", "owner_session_key": "test"}`)
		found := fmt.Sprintf(`all(".flows th a").length > 0 && [...document.querySelectorAll(".flows th a")][0].hash.endsWith(%s)`, quote(mine))
		p.open("#/flows")
		p.live()
		p.await(`all(".flows th a").length >= 4`)
		p.click("summary", "More filters")
		for _, c := range []struct {
			set  func()
			hash string
			then string
		}{
			{func() { p.fill("#filter", "needle") }, "q=needle", found},
			{func() { p.click(".chip", "waiting"); p.click(".chip", "failed") }, "status=waiting&status=failed", found},
			{func() { p.fill("[name=controller_id]", "one/controller") }, "controller_id=one%2Fcontroller", found},
			{func() { p.fill("[name=owner_session_key]", "one:owner") }, "owner_session_key=one%3Aowner", found},
			{func() { p.choose("[name=mode]", "mirrored") }, "mode=mirrored", `all(".flows th a").length > 0 && all(".flows th a").every((g) => g === "glass")`},
			{func() { p.choose("[name=wait_kind]", "manual") }, "wait_kind=manual", found},
			{func() { p.choose("[name=cancel_requested]", "true") }, "cancel_requested=true", `all(".flows th a").length > 0 && all(".flows th a").every((g) => g === "hay")`},
			{func() {
				p.fill("[name=label]", "team:a:b")
				p.press("\r")
				p.fill("[name=label]", "x:")
				p.click("button", "Add label")
			}, "label=team%3Aa%3Ab&label=x%3A", found},
			{func() { p.choose("[name=order]", "updated_at") }, "order=updated_at", `all(".flows th a").length >= 4`},
			{func() { p.choose("[name=limit]", "25") }, "limit=25", `all(".flows th a").length >= 4`},
			{func() { p.choose("[name=created_after]", "2001-02-03T04:05:06") }, "created_after=2001-02-03T", `all(".flows th a").length >= 4`},
			{func() { p.choose("[name=updated_after]", "2001-02-03T04:05:06") }, "updated_after=2001-02-03T", `all(".flows th a").length >= 4`},
			{func() { p.choose("[name=created_before]", "2001-02-03T04:05:06") }, "created_before=2001-02-03T", `text(".empty") === "No flow matches these filters."`},
			{func() { p.choose("[name=updated_before]", "2001-02-03T04:05:06") }, "updated_before=2001-02-03T", `text(".empty") === "No flow matches these filters."`},
		} {
			c.set()
			p.await(`location.hash.startsWith("#/flows?` + c.hash + `")`)
			p.await(c.then)
			p.await(`performance.getEntriesByType("resource").some((read) => read.name.includes("/flows?` + c.hash + `"))`) // or all would match
			address := eval[string](p, "location.hash")
			p.click("button", "Clear")
			p.await(`location.hash === "#/flows"`)
			p.await(`all(".flows th a").length >= 4`)
			p.open(address) // what was shared is what is seen
			p.await(c.then)
			p.live()
			p.click("button", "Clear")
			p.await(`location.hash === "#/flows" && all(".flows th a").length >= 4`)
			if eval[bool](p, `!document.querySelector(".more-filters").open`) {
				p.click("summary", "More filters")
			}
		}
	})
}

// TestList_PagesWithoutHoldingThem pages there and back through many flows, with never more than a page in the document.
func TestList_PagesWithoutHoldingThem(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		owner := fmt.Sprintf("owner of %s", t.Name())
		fill(t, s, owner, 60)
		p.open("#/flows?limit=25&order=created_at&owner_session_key=" + strings.ReplaceAll(owner, " ", "%20"))
		p.live()
		pageIs := func(number, first, last int) {
			t.Helper()
			p.await(fmt.Sprintf(`text(".pager span").startsWith("Page %d ") && all(".flows th a")[0] === "flow %d" && all(".flows th a").at(-1) === "flow %d"`, number, first, last))
		}
		pageIs(1, 0, 24)
		p.await(`document.getElementById("back").disabled`)
		p.click("#next", "")
		pageIs(2, 25, 49)
		p.press("n")
		pageIs(3, 50, 59)
		p.await(`document.getElementById("next").disabled`)
		shared := eval[string](p, "location.hash")
		p.click("#back", "")
		pageIs(2, 25, 49)
		p.press("p")
		pageIs(1, 0, 24)
		eval[bool](p, "(history.back(), true)")
		pageIs(2, 25, 49)
		p.open(shared)
		p.await(`all(".flows th a")[0] === "flow 50"`)
		// A change shows up in the page that is open, in its place.
		first := eval[string](p, `document.querySelector(".flows th a").hash.split("/").at(-1)`)
		p.live()
		command(t, s, first, "start", "")
		p.await(`all(".flows .badge")[0] === "running"`)
	})
}

// fill creates flows of one owner, "flow 0" and so on, in order.
func fill(t *testing.T, s *servertest.Server, owner string, count int) {
	t.Helper()
	for from := 0; from < count; from += 500 {
		var commands []string
		for i := from; i < min(count, from+500); i++ {
			commands = append(commands, fmt.Sprintf(`{"method": "POST", "path": "/flows", "body": {"controller_id": "test", "goal": "flow %d", "owner_session_key": %q}}`, i, owner))
		}
		s.Call(t, 200, "POST", "/batch", `{"commands": [`+strings.Join(commands, ",")+`]}`)
	}
}

// TestList_HoldsOnePageOfAHundredThousand pages through a large database with the largest pages, and counts what the
// document holds.
func TestList_HoldsOnePageOfAHundredThousand(t *testing.T) {
	t.Parallel()
	options := onSQLite(t)
	s := servertest.Start(t, options)
	create(t, s, `"goal": "the first"`)
	const multiply = `INSERT INTO flows (id, mode, controller_id, owner_session_key, status, revision, cancel_requested, steps_total, steps_active,
		created_at, updated_at, ended_at, wait_kind, waiting_since, requester_origin, current_step, goal, labels, resumed_by, wait, state)
		SELECT randomblob(16), mode, controller_id, owner_session_key, status, revision, cancel_requested, steps_total, steps_active,
		created_at + n.value, updated_at, ended_at, wait_kind, waiting_since, requester_origin, current_step, 'flow ' || n.value, labels, resumed_by, wait, state
		FROM flows, (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c WHERE value < 100000) SELECT value FROM c) AS n`
	if _, err := servertest.OpenDatabase(t, options.Database).ExecContext(t.Context(), multiply); err != nil {
		t.Fatal(err)
	}
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows?limit=500")
	p.live()
	for page := range 6 {
		p.await(fmt.Sprintf(`text(".flows th a") === "flow %d"`, 100_000-500*page))
		if rows := eval[int](p, `document.querySelectorAll(".flows tbody tr").length`); rows != 500 {
			t.Errorf("page %d has %d rows", page+1, rows)
		}
		if nodes := eval[int](p, `document.querySelectorAll("*").length`); nodes > 15_000 {
			t.Errorf("page %d has %d elements", page+1, nodes)
		}
		p.press("n")
	}
}

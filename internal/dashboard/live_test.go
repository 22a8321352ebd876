package dashboard_test

import (
	"net/http"
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

// TestFeed_TellsThatTheDatabaseIsAway: the connection to the server stands, but it brings no news.
func TestFeed_TellsThatTheDatabaseIsAway(t *testing.T) {
	options := onSQLite(t)
	bothThemes(t, options, 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		p.open("#/")
		p.live()
		db := servertest.OpenDatabase(t, options.Database)
		do := func(statement string) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		do("ALTER TABLE events RENAME TO gone")
		p.awaitText("#connection", "No database")
		p.audit("no database")
		do("ALTER TABLE gone RENAME TO events")
		p.live()
		goal := "after it was back " + t.Name()
		create(t, s, `"goal": `+quote(goal))
		p.awaitText(".ticker li", goal)
	})
}

// TestFeed_SaysWhyItIsRefused: that the server answered with a refusal is something else than that it cannot be reached.
func TestFeed_SaysWhyItIsRefused(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	d := newDoors(t, s.URL)
	d.refuseBy(func(r *http.Request) *refusal {
		if strings.Contains(r.Header.Get("Accept"), "event-stream") {
			return &refusal{429, "too-many-requests", "You have as many streams open as this server allows one caller.", "60"}
		}
		return nil
	})
	p := newTab(t, chromium(t), d.URL, 1280)
	p.open("#/")
	p.awaitText("#connection", "Disconnected")
	p.await(`text("#connection").includes("Refused by the test") && document.getElementById("connection").title.includes("as many streams open")`)
}

// TestFlow_ErasedElsewhere: the view of a flow that is erased says so; the list leaves it out when it is looked at again.
func TestFlow_ErasedElsewhere(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		id := inStatus(t, s, "finished")
		p.open("#/flows/" + id)
		p.live()
		p.await(`!!pick("button[data-verb=delete]")`)
		s.Call(t, http.StatusNoContent, http.MethodDelete, "/flows/"+id, "")
		d.cut() // a server ends the stream by itself, some seconds later
		p.awaitText("h1", "No such flow")
		p.await(`document.getElementById("connection").dataset.state === "none" && !pick("button[data-verb]")`)
		s.Call(t, http.StatusCreated, http.MethodPost, "/flows", `{"id": "`+id+`", "controller_id": "test", "goal": "the same id again", "owner_session_key": "test"}`)
		p.click("[role=alert] button", "Try again")
		p.awaitText("h1", "the same id again")
		p.await(`all(".way li").length === 1`)
		p.live()
	})
}

// TestFlow_NearMissesComeByThemselves: an event that nearly ends the wait is no event of the flow's.
func TestFlow_NearMissesComeByThemselves(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := inStatus(t, s, "running")
	command(t, s, id, "wait", `{"wait": {"kind": "external_event", "topic": "payment", "correlation_id": "order-7", "timeout": {"after": "PT1H", "on_timeout": "fail"}}}`)
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows/" + id)
	p.live()
	p.await(`!!pick(".wait-panel .conditions")`)
	s.Call(t, 200, "POST", "/external-events", `{"topic": "payment", "correlation_id": "order-8"}`)
	p.awaitText(".wait-panel", "order-8")
	// And the countdown goes on, where nothing is read.
	p.await(`(window.counted ??= text(".countdown time")) !== text(".countdown time")`)
}

// TestTimeline_LeadsToTheTrace shows the trace that an event belongs to, and how long it took to come.
func TestTimeline_LeadsToTheTrace(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := create(t, s)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	s.Call(t, 200, "POST", "/flows/"+id+"/start", "", "traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows/" + id)
	p.await(`all(".timeline li").length === 2 && /\+\d+ m?s/.test(all(".timeline .facts")[0]) && !/\+\d+ m?s/.test(all(".timeline .facts")[1])`)
	p.await(`all(".timeline code").join(" ") === ` + quote(trace))
}

// TestRequest_IsGivenUp has nothing come back over a connection that stands: what was asked for is asked for again.
func TestRequest_IsGivenUp(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	d := newDoors(t, s.URL)
	id := create(t, s)
	p := newTab(t, chromium(t), d.URL, 1280)
	p.open("#/flows/" + id)
	p.live()
	p.await(`text("#revision") === "0" && all(".timeline li").length === 1`)
	eval[bool](p, `(window.real = AbortSignal.timeout, AbortSignal.timeout = (ms) => real.call(AbortSignal, ms / 100), true)`)
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	d.refuseBy(func(r *http.Request) *refusal { <-silent; return nil })
	command(t, s, id, "start", "")
	p.awaitText("[role=alert]", "The server cannot be reached.")
	d.refuseBy(nil)
	eval[bool](p, `(AbortSignal.timeout = real, true)`)
	p.await(`(document.querySelectorAll("[role=alert] button").forEach((again) => again.click()), text("#revision") === "1" && !pick("[role=alert]"))`)
}

package dashboard_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"taskflow/internal/servertest"
)

// TestServer_ComesAfterTheView goes to a view while the server is away: once it is there the view is filled, with nobody
// asking for it.
func TestServer_ComesAfterTheView(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := inStatus(t, s, "waiting")
	s.Call(t, 201, "PUT", "/flows/"+id+"/steps/one", `{"task": "pack", "status": "running"}`)
	p := newTab(t, chromium(t), s.URL, 1280)
	for hash, filled := range map[string]string{
		"#/":            `all(".numbers a").length === 6 && !pick("[role=alert]") && text(".oldest").includes("a test")`,
		"#/flows/" + id: `!!pick(".timeline summary") && !!pick(".steps th") && !!pick(".wait-panel .conditions") && !pick("[role=alert]")`,
	} {
		p.open("#/flows")
		p.live()
		s.Stop()
		eval[bool](p, `(location.hash = `+quote(hash)+`, true)`)
		p.await(`!!pick("[role=alert]")`)
		s.Restart()
		p.await(filled)
	}
}

// pastReads is how often the overview has read the latest events.
const pastReads = `performance.getEntriesByType("resource").filter((read) => read.name.includes("/events?order=-seq") && read.responseEnd > 0).length`

// TestFeed_RestsWhileNobodyLooks hides the page, as a browser hides a tab behind others: it leaves its connection to them, and
// shows what happened meanwhile when it is seen again.
func TestFeed_RestsWhileNobodyLooks(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	d := newDoors(t, s.URL)
	p := newTab(t, chromium(t), d.URL, 1280)
	p.open("#/")
	p.live()
	create(t, s, `"goal": "before"`)
	p.awaitText(".ticker li", "before")
	seen := func(hidden string) {
		eval[bool](p, `(Object.defineProperty(document, "hidden", {configurable: true, value: `+hidden+`}), document.dispatchEvent(new Event("visibilitychange")))`)
	}
	seen("true")
	if err := servertest.Await(t.Context(), patience, func() bool { return d.open() == 0 }); err != nil {
		t.Fatalf("%d streams are open for a page that nobody sees", d.open())
	}
	create(t, s, `"goal": "meanwhile"`)
	var resumed atomic.Bool
	d.refuseBy(func(r *http.Request) *refusal {
		if r.Header.Get("Last-Event-ID") != "" {
			resumed.Store(true)
		}
		return nil
	})
	reads := eval[int](p, pastReads)
	seen("false")
	p.live()
	p.awaitText(".ticker li", "meanwhile")
	p.await(fmt.Sprintf(`%s > %d`, pastReads, reads)) // or the plot would draw as a flat line what it has not seen
	if resumed.Load() {
		t.Error("all that was missed is asked for: it may be a night's events")
	}
	p.await(`["before", "meanwhile"].every((goal) => all(".ticker .words").filter((words) => words === goal).length === 1)`)
}

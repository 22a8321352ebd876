package dashboard_test

import (
	"net/http"
	"strings"
	"testing"

	"taskflow/internal/servertest"

	"github.com/chromedp/chromedp"
)

// TestFeed_ComesBackWithoutAGap breaks the stream in the middle: the page says so, tries again by itself, and shows what
// happened meanwhile.
func TestFeed_ComesBackWithoutAGap(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		p.open("#/")
		p.live()
		create(t, s, `"goal": "before the break `+t.Name()+`"`)
		p.awaitText(".ticker li", "before the break "+t.Name())
		d.refuseBy(func(r *http.Request) *refusal {
			if strings.Contains(r.Header.Get("Accept"), "event-stream") {
				return &refusal{503, "unavailable", "The server is shutting down.", "30"}
			}
			return nil
		})
		if n := d.cut(); n != 1 {
			t.Fatalf("%d streams were open", n)
		}
		p.awaitText("#connection", "Disconnected")
		p.await(`/again in (2\d|30) s/.test(text("#connection"))`) // refused, not only cut off
		create(t, s, `"goal": "during the break `+t.Name()+`"`)
		var resumed string
		d.refuseBy(func(r *http.Request) *refusal {
			if strings.Contains(r.Header.Get("Accept"), "event-stream") {
				d.mu.Lock()
				resumed = r.Header.Get("Last-Event-ID")
				d.mu.Unlock()
			}
			return nil
		})
		p.click("#connection button", "Try now")
		p.live()
		p.awaitText(".ticker li", "during the break "+t.Name())
		create(t, s, `"goal": "after the break `+t.Name()+`"`)
		p.awaitText(".ticker li", "after the break "+t.Name())
		p.await(`["before", "during", "after"].every((when) => all(".ticker .words").filter((words) => words === when + " the break ` + t.Name() + `").length === 1)`)
		d.mu.Lock()
		defer d.mu.Unlock()
		if resumed == "" {
			t.Error("the stream was resumed without Last-Event-ID")
		}
	})
}

// TestFeed_LetsGoOfAPageThatIsLeft goes elsewhere and back: a browser keeps the page it left, which must not keep its stream.
func TestFeed_LetsGoOfAPageThatIsLeft(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	d := newDoors(t, s.URL)
	p := newTab(t, chromium(t), d.URL, 1280)
	for range 8 { // more than the connections a browser opens to one server
		p.open("#/flows")
		p.live()
	}
	run(p, chromedp.Navigate("about:blank"))
	if err := servertest.Await(t.Context(), patience, func() bool { return d.open() == 0 }); err != nil {
		t.Errorf("%d streams are still open", d.open())
	}
	create(t, s, `"goal": "meanwhile"`)
	eval[bool](p, `(setTimeout(() => history.back()), true)`) // a page that was kept is not loaded: there is no such event to wait for
	p.live()
	p.awaitText(".flows th", "meanwhile")
}

// TestServer_GoneAndBack stops the server under the page, and starts it again.
func TestServer_GoneAndBack(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := inStatus(t, s, "running")
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows/" + id)
	p.live()
	s.Stop()
	p.awaitText("#connection", "Disconnected")
	p.click("button[data-verb=finish]", "")
	p.click("dialog button[type=submit]", "")
	p.awaitText("dialog [role=alert]", "The server cannot be reached.")
	s.Restart()
	p.click("dialog button[type=submit]", "")
	p.await(`text(".sub .badge") === "finished"`)
	p.live()
}

// TestKey_IsAskedForAndForgotten meets a server that wants a key.
func TestKey_IsAskedForAndForgotten(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		create(t, s, `"goal": "behind the door"`)
		d := newDoors(t, s.URL)
		d.refuseBy(func(r *http.Request) *refusal {
			if r.Header.Get("Authorization") != "Bearer tfk_one_secret" {
				return &refusal{401, "unauthenticated", "This key was revoked.", ""}
			}
			return nil
		})
		p := themed.elsewhere(d.URL)
		p.open("#/flows")
		p.awaitText("dialog [role=alert]", "This key was revoked.")
		p.awaitText("dialog [role=alert]", "request-of-the-test")
		p.fill("dialog [name=key]", "tfk_wrong")
		p.press("\r")
		p.awaitText("dialog [role=alert]", "This key was revoked.")
		p.fill("dialog [name=key]", "tfk_one_secret")
		p.press("\r")
		p.awaitText(".flows th", "behind the door")
		p.live()
		p.await(`sessionStorage.getItem("taskflow.key") === "tfk_one_secret" && !JSON.stringify(localStorage).includes("secret") && !document.cookie`)
		p.click("#key-button", "")
		p.click("dialog button", "Forget the key")
		p.awaitText("dialog [role=alert]", "This key was revoked.")
		p.await(`sessionStorage.getItem("taskflow.key") === null`)
	})
}

// TestRefusals_AreShown meets each kind of refusal: with its detail, its request id, and a way on.
func TestRefusals_AreShown(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		id := inStatus(t, s, "running")
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		for _, no := range []*refusal{
			{403, "forbidden", "The key lacks the scope flows:read.", ""},
			{429, "too-many-requests", "Too many requests.", "1"},
			{503, "unavailable", "The database cannot be reached.", "600"},
			{500, "internal", "Something went wrong here.", ""},
		} {
			for _, view := range []struct{ hash, ready string }{{"#/", ".numbers a"}, {"#/flows", ".flows tbody tr"}, {"#/flows/" + id, ".node.now"}} {
				d.refuseBy(func(*http.Request) *refusal { return no })
				p.open(view.hash)
				p.awaitText("main [role=alert]", no.detail)
				p.awaitText("main [role=alert]", "request-of-the-test")
				d.refuseBy(func(r *http.Request) *refusal { // or the feed, once it connects, has the view filled before the click
					if strings.Contains(r.Header.Get("Accept"), "event-stream") {
						return &refusal{503, "unavailable", "The server is shutting down.", "600"}
					}
					return nil
				})
				if no.retryAfter != "1" { // else it tries again by itself
					p.click("main [role=alert] button", "Try again")
				}
				p.await(`!!pick(` + quote(view.ready) + `) && !pick("main [role=alert]")`)
			}
		}
		// A command that is refused says so in its own form, which can be sent again.
		d.refuseBy(func(r *http.Request) *refusal {
			if r.Method == http.MethodPost {
				return &refusal{403, "forbidden", "The key lacks the scope flows:write.", ""}
			}
			return nil
		})
		p.click("button[data-verb=cancel]", "")
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog [role=alert]", "The key lacks the scope flows:write.")
		d.refuseBy(nil)
		p.click("dialog button[type=submit]", "")
		p.await(`text(".sub .badge") === "cancelled"`)
		p.open("#/flows/00000000-0000-4000-8000-000000000000")
		p.awaitText("[role=alert]", "There is no such flow")
		p.open("#/nowhere")
		p.awaitText("h1", "No such page")
	})
}

// TestList_LeadsOnFromAnAddressThatIsNoGood follows a link whose cursor the server does not take: another caller's, say.
func TestList_LeadsOnFromAnAddressThatIsNoGood(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		create(t, s, `"goal": "still here"`)
		p.open("#/flows?controller_id=test&cursor=nonsense")
		p.awaitText("main [role=alert]", "cursor")
		p.click("main [role=alert] a", "To the first page")
		p.awaitText(".flows th", "still here")
		p.await(`location.hash === "#/flows?controller_id=test"`)
	})
}

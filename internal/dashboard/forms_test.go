package dashboard_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"taskflow/internal/servertest"
)

// back is the browser's own button.
func (p *tab) back() {
	p.t.Helper()
	eval[bool](p, `(history.back(), true)`)
}

// goTo follows a link of the page, so that there is a way back.
func (p *tab) goTo(hash string) {
	p.t.Helper()
	eval[bool](p, `(location.hash = `+quote(hash)+`, true)`)
}

// TestForms_GoWithTheirView leaves a flow with a form open: it would send its command to a flow that nobody sees.
func TestForms_GoWithTheirView(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		other, id := inStatus(t, s, "running", `"goal": "the one before"`), inStatus(t, s, "running", `"goal": "the one that is seen"`)
		p.open("#/flows/" + other)
		p.awaitText("h1", "the one before")
		p.goTo("#/flows/" + id)
		p.awaitText("h1", "the one that is seen")
		p.click("button[data-verb=finish]", "")
		p.awaitText("dialog h2", "Finish: revision 1")
		p.back()
		p.awaitText("h1", "the one before")
		p.await(`!document.querySelector("dialog")`)

		// The key is every view's.
		p.click("#key-button", "")
		p.fill("dialog [name=key]", "half a k")
		eval[bool](p, `(history.forward(), true)`)
		p.awaitText("h1", "the one that is seen")
		p.await(`pick("dialog [name=key]").value === "half a k"`)
	})
}

// TestForms_NameTheirFlow has a goal that no line holds: the form says it as far as there is room.
func TestForms_NameTheirFlow(t *testing.T) {
	oneTheme(t, onSQLite(t), 360, func(t *testing.T, s *servertest.Server, p *tab) {
		goal := "Refund order 1093" + strings.Repeat(" and the next one", 40)
		p.open("#/flows/" + inStatus(t, s, "running", `"goal": `+quote(goal)))
		p.click("button[data-verb=finish]", "")
		p.awaitText("dialog h2", goal)
		p.await(`document.querySelector("dialog header").offsetHeight < 100`)
		p.fits("the form")
		p.audit("the form")
	})
}

// held are requests that doors keep waiting.
type held struct {
	arrived chan *http.Request
	release chan *refusal
}

// hold keeps the requests of a method waiting until each is released: with a refusal, or nil to let it through.
func (d *doors) hold(t *testing.T, method string) held {
	t.Helper()
	h, over := held{make(chan *http.Request, 8), make(chan *refusal)}, make(chan struct{})
	t.Cleanup(func() { close(over) })
	d.refuseBy(func(r *http.Request) *refusal {
		if r.Method != method {
			return nil
		}
		h.arrived <- r
		select {
		case no := <-h.release:
			return no
		case <-over: // the test has failed
			return nil
		}
	})
	return h
}

// TestForms_TellTheOutcomeOfWhatWasClosed closes a form while its command is on its way: what becomes of it is told nevertheless.
func TestForms_TellTheOutcomeOfWhatWasClosed(t *testing.T) {
	unavailable := &refusal{503, "unavailable", "The database cannot be reached.", ""}
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		id := inStatus(t, s, "running", `"goal": "closed too early"`)
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		p.open("#/flows/" + id)
		p.live()
		finish := func() held {
			t.Helper()
			posts := d.hold(t, http.MethodPost)
			p.click("button[data-verb=finish]", "")
			p.fill("dialog [name=final_state]", `{"done": true}`)
			p.click("dialog button[type=submit]", "")
			<-posts.arrived
			p.press("\x1b")
			p.await(`!document.querySelector("dialog")`)
			return posts
		}
		finish().release <- unavailable
		p.awaitText("dialog [role=alert]", "The database cannot be reached.")
		p.awaitText("dialog h2", "Finish: revision 1")
		p.await(`pick("dialog [name=final_state]").value === '{"done": true}'`)
		p.press("\x1b")
		p.await(`!document.querySelector("dialog")`)

		// Elsewhere there is no form to send again.
		posts := finish()
		p.goTo("#/flows")
		p.awaitText(".flows th", "closed too early")
		posts.release <- unavailable
		p.awaitText("dialog [role=alert]", "The database cannot be reached.")
		p.awaitText("dialog h2", "closed too early")
		p.await(`!pick("dialog button[type=submit]")`)
		p.audit("the outcome elsewhere")
		d.refuseBy(nil)
		p.click("dialog a", "To the flow")
		p.await(`text("h1") === "closed too early" && !document.querySelector("dialog")`)

		// Where it is asked for again meanwhile, it is the same command.
		posts = finish()
		p.click("button[data-verb=finish]", "")
		p.await(`pick("dialog [name=final_state]").value === '{"done": true}'`)
		p.click("dialog button[type=submit]", "")
		posts.release <- nil
		p.await(`text(".sub .badge") === "finished" && !document.querySelector("dialog")`)
	})
}

// TestForms_LeaveAloneWhoHasLeft goes on to another view while a flow is being erased: its end takes nobody away from there.
func TestForms_LeaveAloneWhoHasLeft(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		id := inStatus(t, s, "finished")
		other := inStatus(t, s, "running", `"goal": "looked at meanwhile"`)
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		p.open("#/flows/" + id)
		deletes := d.hold(t, http.MethodDelete)
		p.click("button[data-verb=delete]", "")
		p.click("dialog button[type=submit]", "")
		<-deletes.arrived
		p.goTo("#/flows/" + other)
		p.await(`text("h1") === "looked at meanwhile" && !document.querySelector("dialog")`)
		deletes.release <- nil
		p.await(`document.getElementById("announce").textContent === "The flow is erased"`)
		if at := eval[string](p, `location.hash`); at != "#/flows/"+other {
			t.Errorf("the page has gone to %s", at)
		}
	})
}

// keys are the Idempotency-Keys of the POSTs that a server was sent.
type keys struct {
	mu   sync.Mutex
	sent []string
}

func (k *keys) note(answer *http.Response) {
	if key := answer.Request.Header.Get("Idempotency-Key"); key != "" {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.sent = append(k.sent, key)
	}
}

// TestForms_SayWhereTheOutcomeIsUnknown loses the answers to commands: in the middle, and to a network that asks its guests to
// log in first. Sent again, what took effect does so once.
func TestForms_SayWhereTheOutcomeIsUnknown(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		login := func(answer *http.Response) {
			answer.StatusCode, answer.Body = http.StatusOK, io.NopCloser(strings.NewReader("<p>Log in to go on"))
			answer.Header = http.Header{"Content-Type": {"text/html"}}
		}
		half := func(answer *http.Response) { answer.Body = io.NopCloser(io.LimitReader(answer.Body, 20)) }
		for _, lost := range []struct {
			spoil func(*http.Response)
			words string
		}{
			{half, "The answer did not arrive whole."},
			{login, "The answer came from something else than Taskflow."},
		} {
			id := inStatus(t, s, "running")
			var sent keys
			d.spoilBy(func(answer *http.Response) {
				if sent.note(answer); answer.Request.Method != http.MethodGet {
					lost.spoil(answer)
				}
			})
			p.open("#/flows/" + id)
			p.live()
			p.click("button[data-verb=finish]", "")
			p.click("dialog button[type=submit]", "")
			p.awaitText("dialog [role=alert]", lost.words)
			p.awaitText("dialog [role=alert]", "Whether it took effect is unknown. Sending it again is safe")
			p.await(`text(".sub .badge") === "finished"`)
			d.spoilBy(sent.note)
			p.click("dialog button[type=submit]", "")
			p.await(`text(".sub .badge") === "finished" && !document.querySelector("dialog")`)
			if len(sent.sent) != 2 || sent.sent[0] != sent.sent[1] {
				t.Errorf("%s Sent again it has the keys %q", lost.words, sent.sent)
			}
		}

		// That somebody answered does not mean that the flow is erased, or what it is.
		id := inStatus(t, s, "finished")
		p.open("#/flows/" + id)
		p.live()
		d.refuseBy(func(r *http.Request) *refusal {
			if r.Method == http.MethodDelete {
				r.Method = http.MethodGet // the server is never asked
			}
			return nil
		})
		d.spoilBy(login)
		p.click("button[data-verb=delete]", "")
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog [role=alert]", "The answer came from something else than Taskflow.")
		p.await(`location.hash === "#/flows/` + id + `"`)
		p.open("#/flows/" + id)
		p.awaitText("main [role=alert]", "The answer came from something else than Taskflow.")
		p.await(`!text("main [role=alert]").includes("took effect")`)
	})
}

// countPosts has the page count the commands that it sends, as window.posts.
func (p *tab) countPosts() {
	p.t.Helper()
	eval[bool](p, `(() => {
		const send = window.fetch;
		window.posts = 0;
		window.fetch = (path, options) => { if (options.method === "POST") window.posts++; return send(path, options); };
		return true;
	})()`)
}

// TestStart_IsSentOnce clicks twice on a command without a form, as with a double click.
func TestStart_IsSentOnce(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		id := create(t, s)
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		p.open("#/flows/" + id)
		p.live()
		p.countPosts()
		posts := d.hold(t, http.MethodPost)
		p.click("button[data-verb=start]", "")
		<-posts.arrived
		p.click("button[data-verb=start]", "")
		if n := eval[int](p, "posts"); n != 1 {
			t.Errorf("it was sent %d times", n)
		}
		posts.release <- &refusal{503, "unavailable", "The database cannot be reached.", ""}
		p.awaitText("dialog [role=alert]", "The database cannot be reached.")
		d.refuseBy(nil)
		p.click("dialog button[type=submit]", "Start")
		p.await(`text(".sub .badge") === "running" && !document.querySelector("dialog") && posts === 2`)
	})
}

// TestCommands_AreBasedOnWhatWasSeen changes flows behind the back of a page without its feed: also the commands that ask for
// nothing, start and delete, are refused with what has changed.
func TestCommands_AreBasedOnWhatWasSeen(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		d := newDoors(t, s.URL)
		d.refuseBy(func(r *http.Request) *refusal {
			if strings.Contains(r.Header.Get("Accept"), "event-stream") {
				return &refusal{503, "unavailable", "The server is shutting down.", "600"}
			}
			return nil
		})
		p := themed.elsewhere(d.URL)
		id := create(t, s)
		p.open("#/flows/" + id)
		p.await(`!!pick("button[data-verb=start]")`)
		command(t, s, id, "state", `{"current_step": "later"}`)
		p.click("button[data-verb=start]", "")
		p.awaitText("dialog .conflict", "you saw revision 0, it is at 1")
		p.await(`diffs("dialog") === 'changed current_step "init" "later"'`)
		if f := s.Flow(t, id); f.Status != "created" || f.Revision != 1 {
			t.Errorf("before the choice the flow is %+v", f)
		}
		p.click("#apply-anyway", "Start anyway, on revision 1")
		p.await(`text(".sub .badge") === "running" && !document.querySelector("dialog")`)

		// What has ended never changes, but another flow may have got its id.
		id = inStatus(t, s, "finished")
		p.open("#/flows/" + id)
		p.await(`!!pick("button[data-verb=delete]")`)
		s.Call(t, http.StatusNoContent, http.MethodDelete, "/flows/"+id, "")
		create(t, s, fmt.Sprintf(`"id": %q`, id))
		for _, verb := range []string{"state", "start", "cancel"} {
			command(t, s, id, verb, map[string]string{"state": `{"current_step": "another"}`}[verb])
		}
		p.click("button[data-verb=delete]", "")
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog .conflict", "you saw revision 2, it is at 3")
		p.await(`diffs("dialog") === 'changed status "finished" "cancelled" | changed current_step "init" "another"'`)
		s.Call(t, http.StatusOK, http.MethodGet, "/flows/"+id, "")
		p.click("#apply-anyway", "Delete anyway, on revision 3")
		p.await(`location.hash === "#/flows"`)
		s.Call(t, http.StatusNotFound, http.MethodGet, "/flows/"+id, "")
	})
}

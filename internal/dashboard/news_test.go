package dashboard_test

import (
	"fmt"
	"strings"
	"testing"

	"taskflow/internal/servertest"

	"github.com/chromedp/cdproto/input"
)

// slowClick presses the mouse on an element, lets news come, and then lets go of it: the click of a slow hand.
func (p *tab) slowClick(selector, words string, news func()) {
	p.t.Helper()
	x, y := p.spot(selector, words)
	button := func(what input.DispatchMouseEventType) {
		call(p, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: what, X: x, Y: y, Button: input.MouseButtonLeft, ClickCount: 1})
	}
	button(input.DispatchMouseEventTypeMousePressed)
	news()
	button(input.DispatchMouseEventTypeMouseReleased)
}

// copied waits until the page has said what became of a click on Copy.
func (p *tab) copied() {
	p.t.Helper()
	p.await(`/^(Copied|The browser did not allow copying)$/.test(document.getElementById("announce").textContent)`)
}

// TestNews_LoseNoClick changes what is shown between the two halves of a click.
func TestNews_LoseNoClick(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		id := inStatus(t, s, "running", `"goal": "clicked slowly `+t.Name()+`"`, `"labels": {"team": "a"}`, `"state": {"n": 0, "deep": {"in": {"the": {"tree": 1}}}}`)
		revision := 1
		change := func() {
			t.Helper()
			command(t, s, id, "state", fmt.Sprintf(`{"patch": {"n": %d}, "labels": {"n": "%d"}}`, revision, revision))
			revision++
			p.await(fmt.Sprintf(`text("#revision") === "%d" && all(".state .number")[0] === "%d" && text(".timeline .facts").includes("revision %dby")`, revision, revision-1, revision))
		}
		open := func() {
			t.Helper()
			p.open("#/flows/" + id)
			p.live()
			p.await(fmt.Sprintf(`text("#revision") === "%d" && text(".timeline .facts").includes("revision %dby")`, revision, revision))
		}
		open()
		p.slowClick("button[data-verb=state]", "", change)
		p.awaitText("dialog h2", fmt.Sprintf("Update state: revision %d", revision)) // the version that was seen last
		p.click("dialog header button", "")
		p.slowClick(".facts button", "Copy", change)
		p.copied()
		p.slowClick(".state summary", "in", change)
		p.await(`all(".state .key").join(" ") === "n deep in the"`)
		p.slowClick(".timeline li:nth-child(2) summary", "Payload", func() {})
		p.await(`!!pick(".timeline li:nth-child(2) pre")`)
		change()
		p.await(`!!pick(".timeline li:nth-child(3) pre") && !pick(".timeline li:nth-child(2) pre")`)
		p.slowClick(".facts a", "team:a", change)
		p.await(`location.hash === "#/flows?label=team%3Aa"`)

		p.open("#/flows?order=created_at&label=team:a")
		p.live()
		p.await(`!!pick(".flows th a", "` + t.Name() + `")`)
		p.slowClick(".flows th a", t.Name(), func() {
			command(t, s, id, "state", `{"current_step": "on"}`)
			revision++
			p.await(`[...document.querySelectorAll(".flows tr")].some((row) => row.textContent.includes("` + t.Name() + `") && row.querySelector(".c-step").textContent === "on")`)
		})
		p.await(`location.hash === "#/flows/` + id + `"`)

		p.open("#/")
		p.live()
		p.await(`text(".numbers [data-status=created] strong") !== ""`)
		before := eval[string](p, `text(".numbers [data-status=created] strong")`)
		p.slowClick(".numbers a", "failed", func() {
			create(t, s)
			p.await(`text(".numbers [data-status=created] strong") !== ` + quote(before))
		})
		p.await(`location.hash === "#/flows?status=failed"`)
	})
}

// TestNews_LeaveTheAddressOfACallback copies the address of a callback while the flow goes on.
func TestNews_LeaveTheAddressOfACallback(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := inStatus(t, s, "running")
	command(t, s, id, "wait", `{"wait": {"kind": "callback", "details": {"ask": "for it"}}}`)
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows/" + id)
	p.live()
	p.await(`!!pick(".timeline summary")`) // the last part to come
	p.click(".wait-panel summary", "Details")
	p.await(`!pick(".wait-panel pre")`)
	p.slowClick(".address button", "Copy the URL", func() {
		command(t, s, id, "state", `{"patch": {"more": true}}`)
		p.await(`performance.getEntriesByType("resource").filter((read) => read.name.endsWith("/wait") && read.responseEnd > 0).length >= 2 && text("#revision") === "3"`)
		p.await(`new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))`)
	})
	p.copied()
	p.await(`!pick(".wait-panel pre")`) // still folded
}

// TestNews_LeaveTheFocus has the focus on one thing after another, by their names, and changes what is shown: the focus is
// on the same element, not on one like it.
func TestNews_LeaveTheFocus(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := inStatus(t, s, "running", `"labels": {"team": "a"}`, `"state": {"n": 0, "deep": {"in": 1}}`)
	s.Call(t, 201, "PUT", "/flows/"+id+"/steps/one", `{"task": "pack", "status": "succeeded", "result": {"n": 1}}`)
	p := newTab(t, chromium(t), s.URL, 1280)
	revision := 1
	for _, view := range []struct {
		hash, ready, shows string
		names              []string
	}{
		{"#/flows/" + id, `!!pick(".steps summary") && !!pick(".timeline summary")`, `text("#revision") === "%d" && text(".timeline .facts").includes("revision %dby")`,
			[]string{"command state", "command cancel", "copy id", "fact controller_id test", "label team", "tree $", "tree $/deep", "payload 1", "result one"}},
		{"#/flows", `!!pick(".flows th a")`, `text(".flows td.c-revision") === "%d"`, []string{id}},
	} {
		p.open(view.hash)
		p.live()
		p.await(view.ready)
		for _, name := range view.names {
			held := "document.querySelector(`[data-focus=" + quote(name) + "]`)"
			p.await(`(window.held = ` + held + `) !== null && (held.focus(), document.activeElement === held)`)
			revision++
			command(t, s, id, "state", fmt.Sprintf(`{"patch": {"n": %d}}`, revision))
			if name == "result one" {
				s.Call(t, 200, "PUT", "/flows/"+id+"/steps/one", fmt.Sprintf(`{"task": "pack %d", "status": "succeeded", "result": {"n": %d}}`, revision, revision))
				p.awaitText(".steps", fmt.Sprintf("pack %d", revision))
			}
			p.await(strings.ReplaceAll(view.shows, "%d", fmt.Sprint(revision)))
			if !eval[bool](p, `document.activeElement === window.held`) {
				t.Errorf("%s: the focus has left %q", view.hash, name)
			}
		}
	}
}

// TestRedraw_LeavesWhatStays: where one leaves its place, it alone is moved: a browser takes the click from what is.
func TestRedraw_LeavesWhatStays(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows")
	for order, want := range map[string]string{"BCDA": "A", "DABC": "D", "ACDB": "B", "ABCD": "", "BCD": "A", "ABXCD": ""} {
		moved := eval[string](p, `import("/dashboard/redraw.js").then(({ redraw }) => {
			const list = document.createElement("ul");
			const draw = (names) => redraw(list, [...names].map((name) => { const item = document.createElement("li"); item.dataset.focus = item.textContent = name; return item; }));
			draw("ABCD");
			const watch = new MutationObserver(() => {});
			watch.observe(list, { childList: true });
			draw(`+quote(order)+`);
			const gone = watch.takeRecords().flatMap((record) => [...record.removedNodes].map((node) => node.textContent));
			return list.textContent + " " + [...new Set(gone)].sort().join("");
		})`)
		if moved != order+" "+want {
			t.Errorf("from ABCD to %s: %q, want that only %q is moved", order, moved, want)
		}
	}
}

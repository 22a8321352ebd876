package dashboard_test

import (
	"strings"
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
	bothThemes(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
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
	bothThemes(t, onSQLite(t), 360, func(t *testing.T, s *servertest.Server, p *tab) {
		goal := "Refund order 1093" + strings.Repeat(" and the next one", 40)
		p.open("#/flows/" + inStatus(t, s, "running", `"goal": `+quote(goal)))
		p.click("button[data-verb=finish]", "")
		p.awaitText("dialog h2", goal)
		p.await(`document.querySelector("dialog header").offsetHeight < 100`)
		p.fits("the form")
		p.audit("the form")
	})
}

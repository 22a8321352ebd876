package dashboard_test

import (
	"testing"

	"taskflow/internal/servertest"

	"github.com/chromedp/cdproto/page"
)

// blocked is a browser whose user allows pages to keep nothing.
const blocked = `for (const storage of ["localStorage", "sessionStorage"]) Object.defineProperty(window, storage, {
	get() { throw new DOMException("Access is denied for this document.", "SecurityError"); } });`

// TestStorage_MayBeBlocked uses the page where the browser lets it keep nothing: the theme and the key last as long as the page.
func TestStorage_MayBeBlocked(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	create(t, s, `"goal": "behind the door"`)
	d := newDoors(t, s.URL)
	d.refuseBy(revoked("tfk_one_secret"))
	p := newTab(t, chromium(t), d.URL, 1280)
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: blocked})
	p.open("#/flows")
	p.awaitText("dialog [role=alert]", "This key was revoked.")
	p.fill("dialog [name=key]", "tfk_one_secret")
	p.press("\r")
	p.awaitText(".flows th", "behind the door")
	p.live()
	for _, theme := range []string{"light", "dark", "system"} {
		p.click("#theme-button", "")
		p.await(`document.getElementById("theme-button").title === "Theme: ` + theme + `" && (document.documentElement.dataset.theme ?? "system") === "` + theme + `"`)
	}
	p.press("?")
	p.click("dialog label.check", "")
	p.press("\x1b")
	p.await(`!document.querySelector("dialog")`)
	p.press("o")
	p.await(`location.hash === "#/flows"`)
	p.click("#key-button", "")
	p.click("dialog button", "Forget the key")
	p.awaitText("dialog [role=alert]", "This key was revoked.")
}

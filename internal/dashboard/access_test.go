package dashboard_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"taskflow/internal/servertest"

	"github.com/chromedp/cdproto/emulation"
)

// finding is one of axe's.
type finding struct {
	ID     string   `json:"id"`
	Impact string   `json:"impact"`
	Help   string   `json:"help"`
	Where  []string `json:"where"`
}

const runAxe = `axe.run(document, {resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.map((v) => (
	{id: v.id, impact: v.impact, help: v.help, where: v.nodes.slice(0, 4).map((n) => n.target.join(" ") + " " + n.html.slice(0, 160) + " " + (n.any[0]?.message ?? ""))}))))`

// axe is the script of that name: see testdata.
func axe(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("testdata/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// audit has axe look at what the tab shows.
func (p *tab) audit(what string) {
	p.t.Helper()
	if !eval[bool](p, `"axe" in window`) {
		eval[bool](p, axe(p.t)+";true")
	}
	var found []finding
	if err := json.Unmarshal([]byte(eval[string](p, runAxe)), &found); err != nil {
		p.t.Fatal(err)
	}
	for _, f := range found {
		p.t.Errorf("%s: %s (%s): %s: %q", what, f.ID, f.Impact, f.Help, f.Where)
	}
}

// TestAccess_FindsWhatIsPlanted holds the audit itself to account.
func TestAccess_FindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows")
	p.await(`!!pick(".empty")`)
	eval[bool](p, axe(t)+`; document.querySelector(".empty").append(document.createElement("button"), document.createElement("input")); document.querySelector(".empty").style.color = "#999"; true`)
	found := eval[string](p, runAxe)
	for _, id := range []string{"button-name", "label", "color-contrast"} {
		if !strings.Contains(found, `"`+id+`"`) {
			t.Errorf("%s is not found in %s", id, found)
		}
	}
}

// fits fails where the page is wider than its window.
func (p *tab) fits(what string) {
	p.t.Helper()
	if over := eval[int](p, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
		p.t.Errorf("%s is %d pixels wider than the window", what, over)
	}
}

// inBothThemes audits what the tab shows in one theme and in the other, and its width.
func (p *tab) inBothThemes(what string) {
	p.t.Helper()
	for _, theme := range []string{"light", "dark"} {
		p.theme(theme)
		p.audit(what + ", " + theme)
	}
	p.fits(what)
}

// TestAccess_NothingIsFound audits every view, in both themes, at a desk's width and a phone's, with dialogs open.
func TestAccess_NothingIsFound(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	refund, running := demo(t, s.Client), inStatus(t, s, "running")
	browser := chromium(t)
	for width, device := range map[int64]string{1280: "desk", 360: "phone"} {
		t.Run(device, func(t *testing.T) {
			t.Parallel()
			p := newTab(t, browser, s.URL, width)
			for _, view := range []struct{ hash, ready string }{
				{"#/", `!!pick(".plot .line") && !!pick(".waits a") && !!pick(".bars a") && !!pick(".ticker li")`},
				{"#/flows?q=nothing&label=a:b", `!!pick(".empty")`},
				{"#/flows", `!!pick(".flows tbody tr")`},
				{"#/flows/" + refund, `!!pick(".timeline .diff") && !!pick(".steps .badge") && !!pick(".conditions") && !!pick(".edge.taken")`},
			} {
				p.open(view.hash)
				p.await(view.ready)
				p.live()
				p.inBothThemes(view.hash)
			}
			for verb, field := range map[string]string{"state": "patch", "resume": "state_patch", "cancel": "reason"} {
				p.click("button[data-verb="+verb+"]", "")
				p.await(`!!pick("dialog [name=` + field + `]")`)
				p.inBothThemes(verb)
				p.click("dialog header button", "")
				p.await(`!document.querySelector("dialog")`)
			}
			p.open("#/flows/" + running)
			p.click("button[data-verb=wait]", "")
			p.click("dialog button", "Or something else")
			p.choose("dialog .condition:nth-child(2) [name=kind]", "callback")
			p.choose("dialog [name=scheme]", "hmac-sha256")
			p.await(`!!pick("dialog [name=header]")`)
			p.inBothThemes("wait")
			p.click("dialog header button", "")
			p.await(`!document.querySelector("dialog")`)
			p.click("#help-button", "")
			p.inBothThemes("help")
		})
	}
}

// TestAccess_NothingIsFoundInTrouble audits what shows only when something goes wrong, in both themes, at a phone's width.
func TestAccess_NothingIsFoundInTrouble(t *testing.T) {
	oneTheme(t, onSQLite(t), 360, func(t *testing.T, s *servertest.Server, themed *tab) {
		id := inStatus(t, s, "running", `"state": {"n": 1}`)
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		p.open("#/flows/" + id)
		p.live()
		p.click("button[data-verb=finish]", "")
		p.fill("dialog [name=final_state]", `{"done": true}`)
		command(t, s, id, "state", `{"patch": {"n": 2}}`)
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog .conflict", "you saw revision 1, it is at 2")
		p.inBothThemes("conflict")
		unavailable := func(*http.Request) *refusal {
			return &refusal{503, "unavailable", "The database cannot be reached.", "600"}
		}
		d.refuseBy(unavailable)
		p.click("#apply-anyway", "")
		p.awaitText("dialog [role=alert]", "The database cannot be reached.")
		p.inBothThemes("a command that is refused")
		d.refuseBy(nil)
		p.click("dialog button[type=submit]", "Finish") // the form can be sent again
		p.await(`text(".sub .badge") === "finished" && !document.querySelector("dialog")`)
		d.refuseBy(unavailable)
		d.cut()
		p.awaitText("#connection", "Disconnected")
		p.open("#/flows")
		p.awaitText("main [role=alert]", "The database cannot be reached.")
		p.awaitText("#connection", "Disconnected")
		p.inBothThemes("disconnected")
		d.refuseBy(func(*http.Request) *refusal { return &refusal{401, "unauthenticated", "This key was revoked.", ""} })
		p.click("main [role=alert] button", "Try again")
		p.awaitText("dialog [role=alert]", "This key was revoked.")
		p.inBothThemes("the key is asked for")
	})
}

// TestKeyboard_ReachesEverything uses no mouse.
func TestKeyboard_ReachesEverything(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	fill(t, s, "test", 3)
	browser := chromium(t)
	p := newTab(t, browser, s.URL, 1280)
	p.theme("light")
	p.open("#/flows")
	p.await(`all(".flows th a").length === 3`)
	p.press("\t")
	p.await(`document.activeElement.id === "skip" && document.activeElement.getBoundingClientRect().top >= 0`)
	p.press("\r")
	p.await(`document.activeElement.id === "main"`)
	// Round the page by Tab: everything that can be used has its turn and can be seen to have it, and the way leads on.
	p.open("#/flows")
	p.await(`all(".flows th a").length === 3`)
	reached := map[string]bool{}
	for range 60 {
		p.press("\t")
		at := eval[string](p, `document.activeElement === document.body ? "" : document.activeElement.id || document.activeElement.name || document.activeElement.textContent.trim()`)
		if at == "" || at == "skip" && len(reached) > 1 { // once round
			break
		}
		reached[at] = true
		if !eval[bool](p, `(() => { const e = document.activeElement.closest(".chip") ?? document.activeElement; const s = getComputedStyle(e); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2; })()`) {
			t.Errorf("the focus on %q cannot be seen", at)
		}
	}
	for _, want := range []string{"Overview", "Flows", "API", "key-button", "theme-button", "help-button", "filter", "order", "Clear", "status", "More filters", "flow 0", "flow 2"} {
		if !reached[want] {
			t.Errorf("Tab does not reach %q, but %v", want, reached)
		}
	}

	eval[bool](p, `(document.activeElement.blur(), true)`)
	p.press("/")
	p.await(`document.activeElement.id === "filter"`)
	p.press("j") // typed, not obeyed
	p.await(`document.activeElement.value === "j" && text(".empty") !== ""`)
	p.press("\b\x1b")
	p.await(`document.activeElement === document.body && all(".flows th a").length === 3`)
	p.press("j")
	p.await(`document.activeElement.textContent === "flow 2"`)
	p.press("jj")
	p.await(`document.activeElement.textContent === "flow 0"`)
	p.press("k")
	p.await(`document.activeElement.textContent === "flow 1"`)
	p.press("\r")
	p.await(`text("h1") === "flow 1" && document.activeElement.id === "main"`)
	p.press("?")
	p.awaitText("dialog h2", "Keyboard")
	for range 6 { // the focus stays inside
		p.press("\t")
		p.await(`document.activeElement === document.body || !!document.activeElement.closest("dialog")`)
	}
	p.press("\x1b")
	p.await(`!document.querySelector("dialog")`)
	p.press("o")
	p.await(`location.hash === "#/"`)
	p.press("f")
	p.await(`location.hash === "#/flows"`)

	dark := `getComputedStyle(document.documentElement).backgroundColor === "rgb(14, 17, 22)"`
	p.await(`!(` + dark + `)`)
	p.press("tt") // system, light, dark
	p.await(dark)
	p.open("#/flows")
	p.await(dark + ` && document.getElementById("theme-button").getAttribute("aria-label") === "Theme: dark"`)
	// Single keys can be switched off.
	p.press("?")
	p.click("dialog label.check", "")
	p.press("\x1b")
	p.await(`!document.querySelector("dialog")`)
	p.press("o")
	p.await(`location.hash === "#/flows" && localStorage.getItem("taskflow.shortcuts") === "off"`)
}

// TestMotion_IsReduced: with reduced motion nothing moves by itself; without, a changed row fades, each time that it changes.
func TestMotion_IsReduced(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := create(t, s)
	p := newTab(t, chromium(t), s.URL, 1280)
	p.theme("dark")
	p.open("#/flows")
	p.live()
	p.await(`!!pick(".flows tbody tr")`)
	command(t, s, id, "start", "")
	p.await(`!!pick("tr.changed")`)
	if name := eval[string](p, `getComputedStyle(document.querySelector("tr.changed td")).animationName`); name != "none" {
		t.Errorf("a row moves: %s", name)
	}
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "no-preference"}}})
	const fades = `document.querySelector("tr.changed td")?.getAnimations().some((a) => a.animationName === "changed" && a.playState === "running")`
	for range 2 {
		eval[bool](p, `(document.getAnimations().forEach((a) => a.finish()), true)`)
		command(t, s, id, "state", `{"patch": {}}`)
		p.await(fades)
	}
}

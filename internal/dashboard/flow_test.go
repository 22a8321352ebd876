package dashboard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"
)

// TestFlow_OffersWhatTheTableAllows looks at the buttons of a flow in every status, and at the drawing's table.
func TestFlow_OffersWhatTheTableAllows(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		for _, status := range []string{"created", "running", "waiting", "finished", "failed", "cancelled", "draining"} {
			p.open("#/flows/" + inStatus(t, s, status))
			p.await(`!!pick(".commands button")`)
			got := eval[[]string](p, `[...document.querySelectorAll(".commands button")].map((b) => b.dataset.verb).sort()`)
			if want := offered(status); !slices.Equal(got, want) {
				t.Errorf("a flow that is %s offers %v, want %v", status, got, want)
			}
		}
		var table []string
		for _, move := range flows.Transitions {
			table = append(table, fmt.Sprintf("%s %s %s", move.From, move.Verb, move.To))
		}
		slices.Sort(table)
		got := eval[[]string](p, `import("/dashboard/machine.js").then((m) => m.transitions.map((t) => t.from + " " + t.verb + " " + t.to).sort())`)
		if !slices.Equal(got, table) {
			t.Errorf("the drawing has %v, the service %v", got, table)
		}
	})
}

// offered are the commands that a flow in a status takes.
func offered(status string) []string {
	if status == "draining" {
		return []string{"cancel"}
	}
	if flows.Status(status).Terminal() {
		return []string{"delete"}
	}
	verbs := []string{"request-cancel", "state"}
	for _, move := range flows.Transitions {
		if string(move.From) == status {
			verbs = append(verbs, string(move.Verb))
		}
	}
	slices.Sort(verbs)
	return verbs
}

// TestFlow_IsDrivenByHand takes one flow through its life by its buttons, and reads what the page shows of it.
func TestFlow_IsDrivenByHand(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, driveByHand)
}

func TestFlow_IsDrivenByHandOnPostgreSQL(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: pgtest.Empty(t)})
	p := newTab(t, chromium(t), s.URL, 1280)
	p.theme("dark")
	driveByHand(t, s, p)
}

func driveByHand(t *testing.T, s *servertest.Server, p *tab) {
	id := create(t, s, `"goal": "by hand"`, `"state": {"big": 12345678901234567890, "price": 1.10, "10": "ten", "2": {"deep": [1e300]}}`)
	p.open("#/flows/" + id)
	p.live()
	p.await(`text("h1") === "by hand"`)
	// Numbers digit for digit, keys in their order.
	p.click("button", "Open all")
	p.await(`all(".state .number").join(" ") === "12345678901234567890 1.10 1e300"`)
	p.await(`all(".state .key").join(" ") === "big price 10 2 deep 0"`)

	p.click("button[data-verb=start]", "")
	p.await(`text(".sub .badge") === "running" && text("#revision") === "1"`)
	p.await(`all(".edge.taken text").join() === "start"`)
	s.Call(t, http.StatusCreated, http.MethodPut, "/flows/"+id+"/steps/a%2Fb", `{"task": "pack", "status": "running"}`)
	p.awaitText(".steps tr", "pack")
	s.Call(t, http.StatusOK, http.MethodPut, "/flows/"+id+"/steps/a%2Fb", `{"task": "pack", "status": "succeeded", "result": {"n": 0.50}}`)
	p.await(`text(".steps .badge") === "succeeded" && /^[\d.]+ (ms|s)$/.test(text(".steps td.c-time"))`)

	p.click("button[data-verb=state]", "")
	p.fill("dialog [name=patch]", `{"price": 2.00, "new": 99999999999999999999}`)
	p.fill("dialog [name=current_step]", "pay")
	p.fill("dialog [name=labels]", "team:a\nwho:me")
	p.click("dialog button[type=submit]", "")
	p.await(`!document.querySelector("dialog") && text("#revision") === "2"`)
	p.await(`all(".facts .tag").join(" ") === "team:a who:me"`)
	// What the event did to the state.
	p.await(`diffs(".timeline li[data-kind=state_updated]") === "changed price 1.10 2.00 | added new 99999999999999999999"`)

	p.click("button[data-verb=wait]", "")
	p.choose("dialog [name=kind]", "callback")
	p.click("dialog label.check", "")
	p.fill("dialog [name=details]", `{"question": "Go?"}`)
	p.click("dialog button[type=submit]", "")
	p.await(`text(".sub .badge") === "waiting" && text(".wait-panel pre").includes("Go?")`)
	p.await(`/^in 23 h [45]\d min$/.test(text(".countdown time"))`)
	address := eval[string](p, `text(".address code")`)
	if want := value(t, s.Call(t, 200, "GET", "/flows/"+id, ""), "wait"); !strings.Contains(want, address) || address == "" {
		t.Errorf("the page shows %q of %s", address, want)
	}
	p.click(".address button", "Copy the URL")
	p.copied()
	s.Call(t, 200, "POST", strings.TrimPrefix(address, s.URL), `{"said": "yes"}`)
	p.await(`text(".sub .badge") === "running" && all(".state .key").includes("said")`)
	p.await(`all(".way li").map((e) => e.split(" ")[0].replace(/\d.*/, "")).join() === "created,running,waiting,running"`)

	p.click("button[data-verb=wait]", "")
	p.choose("dialog [name=kind]", "timer")
	p.click("dialog button[type=submit]", "")
	p.await(`text(".sub .badge") === "waiting" && /^in 1[45] min/.test(text(".countdown time"))`)
	p.click("button[data-verb=resume]", "")
	p.fill("dialog [name=state_patch]", `[1, 2`)
	p.click("dialog button[type=submit]", "")
	p.awaitText("dialog [role=alert]", "A comma or ] is expected")
	p.fill("dialog [name=state_patch]", `{"resumed": true}`)
	p.click("dialog button[type=submit]", "")
	p.await(`text(".sub .badge") === "running"`)
	p.click("button[data-verb=finish]", "")
	p.click("dialog button[type=submit]", "")
	p.await(`text(".sub .badge") === "finished" && all(".commands button").join() === "Delete"`)
	p.click("button[data-verb=delete]", "")
	p.click("dialog button[type=submit]", "")
	p.await(`location.hash === "#/flows"`)
	s.Call(t, 404, "GET", "/flows/"+id, "")
	p.open("#/flows/" + id)
	p.awaitText("h1", "No such flow")
}

// TestFlow_EndsByHand fails and cancels, and asks for a cancel, each with a reason.
func TestFlow_EndsByHand(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		for verb, status := range map[string]string{"fail": "failed", "cancel": "cancelled", "request-cancel": "cancelled"} {
			p.open("#/flows/" + inStatus(t, s, "waiting"))
			p.click("button[data-verb="+verb+"]", "")
			if verb == "fail" { // a reason is required
				p.click("dialog button[type=submit]", "")
				p.awaitText("dialog [role=alert]", "Reason")
			}
			p.fill("dialog [name=reason]", "because "+verb)
			p.click("dialog button[type=submit]", "")
			p.await(fmt.Sprintf(`text(".sub .badge") === %q && all(".timeline .words").includes(%q)`, status, "because "+verb))
		}
	})
}

// TestFlow_ConflictShowsWhatChanged changes a flow behind an open form: the command is refused, the difference shown, and
// sent on the new revision only by choice.
func TestFlow_ConflictShowsWhatChanged(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		id := inStatus(t, s, "running", `"state": {"n": 1.10}`)
		p.open("#/flows/" + id)
		p.click("button[data-verb=finish]", "")
		p.fill("dialog [name=final_state]", `{"done": true}`)
		command(t, s, id, "state", `{"patch": {"n": 1.20}, "current_step": "later"}`)
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog .conflict", "you saw revision 1, it is at 2")
		p.await(`diffs("dialog") === 'changed current_step "init" "later" | changed state.n 1.10 1.20'`)
		if f := s.Flow(t, id); f.Status != "running" || f.Revision != 2 {
			t.Errorf("before the choice the flow is %+v", f)
		}
		p.click("#apply-anyway", "Finish anyway, on revision 2")
		p.await(`text(".sub .badge") === "finished" && !document.querySelector("dialog")`)

		// Where the flow has ended meanwhile there is no such choice.
		id = inStatus(t, s, "running")
		p.open("#/flows/" + id)
		p.click("button[data-verb=fail]", "")
		p.fill("dialog [name=reason]", "too late")
		command(t, s, id, "finish", "")
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog .conflict", "A flow that is finished no longer allows this.")
		p.await(`!document.getElementById("apply-anyway")`)
	})
}

// TestFlow_PagesItsTrail reads a long trail a page at a time, in both orders.
func TestFlow_PagesItsTrail(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := inStatus(t, s, "running")
	var commands []string
	for i := range 70 {
		commands = append(commands, fmt.Sprintf(`{"method": "POST", "path": "/flows/%s/state", "body": {"patch": {"n": %d}}}`, id, i))
	}
	s.Call(t, 200, "POST", "/batch", `{"commands": [`+strings.Join(commands, ",")+`]}`)
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows/" + id)
	p.await(`document.querySelectorAll(".timeline > li").length === 50 && text(".timeline .facts").includes("revision 71")`)
	p.click(".pager.small button", "Older")
	p.await(`document.querySelectorAll(".timeline > li").length === 22 && all(".timeline .facts").at(-1).includes("revision 0")`)
	p.choose("section[aria-label=Timeline] select", "seq")
	p.await(`document.querySelectorAll(".timeline > li").length === 50 && all(".timeline .facts")[0].includes("revision 0")`)
}

// TestMerge_IsTheServices merges in the browser as the service does, digit for digit.
func TestMerge_IsTheServices(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows")
	values := []string{`{}`, `{"a":1.10,"b":{"c":1}}`, `{"b":null,"z":"\u00e9\n","a":12345678901234567890}`, `[1,2.0,-0]`, `"text"`, `null`, `true`, `1e-7`, `{"2":1,"1":{"__proto__":[]}}`}
	for _, state := range values {
		for _, patch := range values {
			var want any = flows.Merge(json.RawMessage(state), json.RawMessage(patch))
			script := fmt.Sprintf(`Promise.all([import("/dashboard/json.js"), import("/dashboard/changes.js")]).then(([j, c]) => j.write(c.merge(j.parse(%s), j.parse(%s))))`, quote(state), quote(patch))
			if got := eval[string](p, script); got != strings.ReplaceAll(fmt.Sprintf("%s", want), `\u00e9`, "é") {
				t.Errorf("%s onto %s is %s, want %s", patch, state, got, want)
			}
		}
	}
	for _, bad := range []string{``, `{`, `[1,]`, `{"a":1,"a":2}`, `01`, `1 2`, `"\x"`, `'a'`, `nul`, `{a:1}`, `1.`, "\"\n\""} {
		if !eval[bool](p, fmt.Sprintf(`import("/dashboard/json.js").then((j) => { try { j.parse(%s); return false; } catch (e) { return e instanceof SyntaxError; } })`, quote(bad))) {
			t.Errorf("%q passes for JSON", bad)
		}
	}
}

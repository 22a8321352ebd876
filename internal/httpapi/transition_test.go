package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// commands are the calls that change a flow, each with a body that is right.
var commands = map[string]struct{ method, path, body string }{
	"start":          {"POST", "/start", ""},
	"wait":           {"POST", "/wait", manualWait},
	"resume":         {"POST", "/resume", `{"state_patch":{"a":1}}`},
	"finish":         {"POST", "/finish", `{"final_state":{"a":1}}`},
	"fail":           {"POST", "/fail", `{"reason":"no luck"}`},
	"request-cancel": {"POST", "/request-cancel", `{"reason":"enough"}`},
	"cancel":         {"POST", "/cancel", `{"reason":"enough"}`},
	"state":          {"POST", "/state", `{"patch":{"a":1}}`},
	"delete":         {"DELETE", "", ""},
	"observe":        {"PUT", "/steps/new", `{"task":"work","status":"succeeded"}`},
}

// outcomes is what becomes of each command in each status. "-> running: resumed" is the status it leads to and the
// events it leaves; "same" is an answer of 200 that changes nothing; the rest are problems with their own fields.
const outcomes = `
created start          -> running: started
created wait           illegal-transition created waiting
created resume         illegal-transition created running
created finish         illegal-transition created finished
created fail           illegal-transition created failed
created request-cancel -> cancelled: cancel_requested cancelled
created cancel         -> cancelled: cancelled
created state          -> created: state_updated
created delete         not-terminal
created observe        -> created: step_observed

running start          illegal-transition running running
running wait           -> waiting: waiting
running resume         illegal-transition running running
running finish         -> finished: finished
running fail           -> failed: failed
running request-cancel -> running: cancel_requested
running cancel         -> cancelled: cancelled
running state          -> running: state_updated
running delete         not-terminal
running observe        -> running: step_observed

waiting start          illegal-transition waiting running
waiting wait           illegal-transition waiting waiting
waiting resume         -> running: resumed
waiting finish         illegal-transition waiting finished
waiting fail           -> failed: failed
waiting request-cancel -> cancelled: cancel_requested cancelled
waiting cancel         -> cancelled: cancelled
waiting state          -> waiting: state_updated
waiting delete         not-terminal
waiting observe        -> waiting: step_observed

finished start          already-terminal finished
finished wait           already-terminal finished
finished resume         already-terminal finished
finished finish         already-terminal finished
finished fail           already-terminal finished
finished request-cancel same
finished cancel         already-terminal finished
finished state          already-terminal finished
finished delete         erased
finished observe        -> finished: step_observed

failed start          already-terminal failed
failed wait           already-terminal failed
failed resume         already-terminal failed
failed finish         already-terminal failed
failed fail           already-terminal failed
failed request-cancel same
failed cancel         already-terminal failed
failed state          already-terminal failed
failed delete         erased
failed observe        -> failed: step_observed

cancelled start          already-terminal cancelled
cancelled wait           already-terminal cancelled
cancelled resume         already-terminal cancelled
cancelled finish         already-terminal cancelled
cancelled fail           already-terminal cancelled
cancelled request-cancel same
cancelled cancel         already-terminal cancelled
cancelled state          already-terminal cancelled
cancelled delete         erased
cancelled observe        -> cancelled: step_observed

draining start          cancel-pending
draining wait           cancel-pending
draining resume         cancel-pending
draining finish         cancel-pending
draining fail           cancel-pending
draining request-cancel same
draining cancel         -> cancelled: cancelled
draining state          cancel-pending
draining delete         not-terminal
draining observe        -> running: step_observed
`

// TestEveryCommandInEveryStatus holds the whole table of section 1 over HTTP.
func TestEveryCommandInEveryStatus(t *testing.T) {
	type row struct{ status, command, outcome string }
	var rows []row
	for _, line := range strings.Split(outcomes, "\n") {
		if fields := strings.Fields(line); len(fields) > 0 {
			rows = append(rows, row{fields[0], fields[1], strings.Join(fields[2:], " ")})
		}
	}
	if len(rows) != len(statuses)*len(commands) {
		t.Fatalf("%d rows for %d statuses and %d commands", len(rows), len(statuses), len(commands))
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, r := range rows {
			t.Run(r.status+" "+r.command, func(t *testing.T) {
				api := api.in(t)
				path := api.inStatus(r.status)
				c := commands[r.command]
				send := func() answer { return api.do(c.method, path+c.path, c.body) }
				api.checkOutcome(path, r.outcome, send)
			})
		}
	})
}

// checkOutcome sends a command and looks for an outcome of the table.
func (c *client) checkOutcome(path, outcome string, send func() answer) {
	c.t.Helper()
	before, trail := c.get(path).want(200), c.kindsOnly(path)
	a := send()
	if change, ok := strings.CutPrefix(outcome, "-> "); ok {
		status, events, _ := strings.Cut(change, ": ")
		c.checkChange(path, a, status, append(trail, strings.Fields(events)...))
		return
	}
	if outcome == "erased" {
		a.want(http.StatusNoContent)
		wantText(c.t, "body", a.body, "")
		for _, gone := range []string{"", "/events", "/steps", "/steps/active"} {
			c.get(path+gone).problem(404, "not-found")
		}
		return
	}
	fields := strings.Fields(outcome)
	switch fields[0] {
	case "same":
		wantText(c.t, "answer", a.want(200).body, before.body)
	case "illegal-transition":
		a.problem(409, fields[0]).has("/from", quoted(fields[1]), "/to", quoted(fields[2]))
	case "already-terminal":
		a.problem(409, fields[0]).has("/flow_status", quoted(fields[1]))
	default:
		a.problem(409, fields[0])
	}
	wantText(c.t, "flow", c.get(path).body, before.body)
	wantText(c.t, "trail", strings.Join(c.kindsOnly(path), " "), strings.Join(trail, " "))
}

// checkChange looks at a command that took effect: the flow's status, its trail, and a revision for each of its events
// but step_observed.
func (c *client) checkChange(path string, a answer, status string, trail []string) {
	c.t.Helper()
	if a.request.Method == http.MethodPut {
		a.want(http.StatusCreated)
	} else {
		wantText(c.t, "answer", a.want(http.StatusOK).body, c.get(path).body)
	}
	wantText(c.t, "trail", strings.Join(c.kindsOnly(path), " "), strings.Join(trail, " "))
	events := c.trail(path)
	for i, e := range events[1:] {
		want := events[i].Revision
		if e.Kind != "step_observed" {
			want++
		}
		if e.Revision != want {
			c.t.Errorf("%s has revision %d, want %d", e.Kind, e.Revision, want)
		}
	}
	f := c.read(path)
	if f.Status != status || f.Revision != events[len(events)-1].Revision {
		c.t.Errorf("the flow is %s at revision %d, want %s at %d", f.Status, f.Revision, status, events[len(events)-1].Revision)
	}
	if ended := f.EndedAt != nil; ended != (status == "finished" || status == "failed" || status == "cancelled") {
		c.t.Errorf("a flow that is %s has ended_at %v", status, f.EndedAt)
	}
}

func (c *client) kindsOnly(path string) []string {
	c.t.Helper()
	var kinds []string
	for _, e := range c.trail(path) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// TestChecksRunInOrder makes requests that several checks refuse, and looks which one answers.
func TestChecksRunInOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		const stale = `If-Match: "99"`
		api.refused(404, "not-found", "POST", noFlow()+"/start", "", stale)

		terminal := api.inStatus("finished")
		api.refused(409, "revision-conflict", "POST", terminal+"/start", "", stale)
		api.refused(409, "already-terminal", "POST", terminal+"/start", "", `If-Match: "2"`)
		api.refused(409, "revision-conflict", "DELETE", terminal, "", stale)

		pending := api.inStatus(draining)
		api.refused(409, "revision-conflict", "POST", pending+"/start", "", stale)
		api.refused(409, "cancel-pending", "POST", pending+"/start", "")
		api.post(pending+"/cancel", "").want(200)
		api.refused(409, "already-terminal", "POST", pending+"/start", "") // terminal, cancel_requested and illegal at once

		created := api.inStatus("created")
		api.refused(409, "revision-conflict", "POST", created+"/finish", "", stale)
		api.refused(409, "revision-conflict", "DELETE", created, "", stale)
		api.refused(409, "revision-conflict", "POST", created+"/request-cancel", "", stale)
		api.refused(409, "revision-conflict", "PUT", created+"/steps/r", `{"task":"t","status":"running"}`, stale)

		// What the request itself has wrong comes before all of them.
		api.refused(400, "invalid-request", "POST", noFlow()+"/fail", "{}")
		api.refused(422, "invalid-value", "POST", noFlow()+"/fail", `{"reason":""}`)
		api.refused(400, "invalid-request", "POST", noFlow()+"/start", "", "If-Match: 3")
	})
}

func TestNotFound(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		known := api.created("")
		for _, flow := range []string{noFlow(), "/flows/x", "/flows/00000000-0000-0000-0000-000000000000", "/flows/%7B" + known[7:] + "%7D",
			"/flows/urn:uuid:" + known[7:], "/flows/" + strings.ReplaceAll(known[7:], "-", "")} {
			for _, c := range commands {
				api.do(c.method, flow+c.path, c.body).problem(404, "not-found")
			}
			for _, read := range []string{"", "/steps", "/steps/r", "/events"} {
				api.get(flow+read).problem(404, "not-found")
			}
		}
		api.get(known+"/steps/r").problem(404, "not-found")
		wantText(t, "trail", api.kinds(known), "created 0")
	})
}

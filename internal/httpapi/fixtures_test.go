package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// createBody is a body for POST /flows: the members given, and the required fields that are not among them.
func createBody(members string) string {
	out := members
	for _, field := range []string{
		`"controller_id":"kate/inbox-triage"`, `"goal":"Triage the inbox"`, `"owner_session_key":"agent:kate:session:abc"`,
	} {
		name, _, _ := strings.Cut(field, ":")
		if strings.HasPrefix(members, name+":") || strings.Contains(members, ","+name+":") {
			continue
		}
		if out != "" {
			out += ","
		}
		out += field
	}
	return "{" + out + "}"
}

// create makes a flow with these members in its body.
func (c *client) create(members string) flow {
	c.t.Helper()
	return c.post("/flows", createBody(members)).want(http.StatusCreated).flow()
}

// created names the path of a new flow with these members.
func (c *client) created(members string) string {
	c.t.Helper()
	return "/flows/" + c.create(members).ID
}

// running names the path of a new running flow with these members.
func (c *client) running(members string) string {
	c.t.Helper()
	path := c.created(members)
	c.post(path+"/start", "").want(http.StatusOK)
	return path
}

// read is the flow at a path as it is now.
func (c *client) read(path string) flow {
	c.t.Helper()
	return c.get(path).want(http.StatusOK).flow()
}

// trail is the flow's audit trail.
func (c *client) trail(path string) []event {
	c.t.Helper()
	return c.get(path + "/events?limit=500").events()
}

// kinds are the kinds of the flow's audit events with their revisions, oldest first: "created 0, started 1".
func (c *client) kinds(path string) string {
	c.t.Helper()
	var out []string
	for _, e := range c.trail(path) {
		out = append(out, fmt.Sprintf("%s %d", e.Kind, e.Revision))
	}
	return strings.Join(out, ", ")
}

// lastSeq is the number of the newest event of all.
func (c *client) lastSeq() int64 {
	c.t.Helper()
	newest := c.get("/events?order=-seq&limit=1").events()
	if len(newest) == 0 {
		return 0
	}
	return newest[0].Seq
}

// draining is the running flow with an active step whose cancel was requested, among the statuses that inStatus makes.
const draining = "draining"

// inStatus names the path of a new flow in this status.
func (c *client) inStatus(status string) string {
	c.t.Helper()
	if status == "created" {
		return c.created("")
	}
	path := c.running("")
	switch status {
	case "running":
	case "waiting":
		c.post(path+"/wait", manualWait).want(http.StatusOK)
	case "finished":
		c.post(path+"/finish", "").want(http.StatusOK)
	case "failed":
		c.post(path+"/fail", `{"reason":"no luck"}`).want(http.StatusOK)
	case "cancelled":
		c.post(path+"/cancel", "").want(http.StatusOK)
	case draining:
		c.put(path+"/steps/active", `{"task":"work","status":"running"}`).want(http.StatusCreated)
		c.post(path+"/request-cancel", "").want(http.StatusOK)
		status = "running"
	default:
		c.t.Fatalf("no way to make a flow that is %s", status)
	}
	if f := c.read(path); f.Status != status {
		c.t.Fatalf("made a flow that is %s, want %s", f.Status, status)
	}
	return path
}

const manualWait = `{"wait":{"kind":"manual"}}`

// statuses are those of a flow, and draining.
var statuses = []string{"created", "running", "waiting", "finished", "failed", "cancelled", draining}

// noFlow is the path of a flow that does not exist.
func noFlow() string { return "/flows/" + uuid.NewString() }

// quoted is a JSON string of plain characters.
func quoted(s string) string { return `"` + s + `"` }

// repeated is n times a character that takes four bytes.
func repeated(n int) string { return strings.Repeat("\U0001F600", n) }

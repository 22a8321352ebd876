package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// command is one command of a batch; members are more fields, each with a comma in front.
func command(method, path, members string) string {
	return `{"method":"` + method + `","path":"` + path + `"` + members + `}`
}

func batchOf(commands ...string) string { return `{"commands":[` + strings.Join(commands, ",") + `]}` }

// results reads a batch's answer as the answers to its commands. Problems must be whole ones.
func results(a answer) []answer {
	a.t.Helper()
	var list struct {
		Results []struct {
			Status int
			Body   json.RawMessage
		}
	}
	a.want(http.StatusOK).decode(&list)
	var out []answer
	for _, r := range list.Results {
		one := answer{t: a.t, request: a.request, status: r.Status, header: a.header, body: string(r.Body)}
		if r.Status >= 400 {
			if err := one.checkProblem(); err != nil {
				a.t.Errorf("%v: %s", err, r.Body)
			}
		}
		out = append(out, one)
	}
	return out
}

// batch runs commands and reads their results.
func (c *client) batch(commands ...string) []answer {
	c.t.Helper()
	out := results(c.post("/batch", batchOf(commands...)))
	if len(out) != len(commands) {
		c.t.Fatalf("%d results for %d commands", len(out), len(commands))
	}
	return out
}

// TestBatchAnswersInOrder runs a flow's whole life under an id of its own in one batch.
func TestBatchAnswersInOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		id := uuid.NewString()
		path := "/flows/" + id
		out := api.batch(
			command("POST", "/flows", `,"body":`+createBody(quoted("id")+":"+quoted(id)+`,"state":{"n":1.10}`)),
			command("POST", path+"/start", ""),
			command("POST", path+"/wait", `,"body":`+manualWait),
			command("POST", path+"/resume", `,"body":{}`),
			command("POST", path+"/state", `,"body":{"patch":{"a":12345678901234567890}}`),
			command("POST", path+"/request-cancel", `,"body":{"reason":"r"}`),
			command("POST", path+"/cancel", ""),
			command("DELETE", path, ""),
			command("POST", path+"/start", ""),
			command("POST", "/flows", `,"body":`+createBody(quoted("id")+":"+quoted(id))),
			command("POST", path+"/start", ""),
			command("POST", path+"/fail", `,"body":{"reason":"r"}`),
			command("POST", path+"/finish", ""),
		)
		statuses := []int{201, 200, 200, 200, 200, 200, 200, 204, 404, 201, 200, 200, 409}
		for i, a := range out {
			a.want(statuses[i])
		}
		for i, status := range []string{"created", "running", "waiting", "running", "running", "running", "cancelled"} {
			out[i].has("/status", quoted(status), "/revision", fmt.Sprint(i), "/id", quoted(id))
		}
		out[4].has("/state", `{"n":1.10,"a":12345678901234567890}`)
		wantText(t, "body of a DELETE", out[7].body, "null")
		out[12].problem(409, "already-terminal").has("/flow_status", `"failed"`)
		wantText(t, "flow", api.get(path).body, out[11].body)
		wantText(t, "trail", api.kinds(path), "created 0, started 1, failed 2")
	})
}

// TestBatchRefusesOneByOne puts refused commands among good ones.
func TestBatchRefusesOneByOne(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path, flow := api.running(""), api.running("")
		taken := api.read(flow).ID
		cases := []struct {
			command string
			status  int
			slug    string
			pointer string
		}{
			{command("POST", noFlow()+"/start", ""), 404, "not-found", ""},
			{command("POST", "/flows/x/start", ""), 404, "not-found", ""},
			{command("POST", path+"/start", ""), 409, "illegal-transition", ""},
			{command("POST", path+"/finish", `,"if_match":"\"7\""`), 409, "revision-conflict", ""},
			{command("POST", "/flows", `,"body":`+createBody(quoted("id")+":"+quoted(taken))), 409, "already-exists", ""},
			{command("DELETE", path, ""), 409, "not-terminal", ""},
			{command("POST", path+"/finish", `,"if_match":"7"`), 400, "invalid-request", "If-Match"},
			{command("POST", path+"/finish", `,"if_match":""`), 400, "invalid-request", "If-Match"},
			{command("DELETE", path, `,"if_match":"x"`), 400, "invalid-request", "If-Match"},
			{command("POST", "/flows", `,"if_match":"*","body":`+createBody("")), 400, "invalid-request", "If-Match"},
			{command("POST", path+"/finish", `,"idempotency_key":""`), 400, "invalid-request", "Idempotency-Key"},
			{command("POST", path+"/finish", `,"idempotency_key":"a b"`), 400, "invalid-request", "Idempotency-Key"},
			{command("POST", path+"/finish", `,"idempotency_key":"`+strings.Repeat("x", 256)+`"`), 400, "invalid-request", "Idempotency-Key"},
			{command("POST", "/flows", ""), 400, "invalid-request", "/controller_id /goal /owner_session_key"},
			{command("POST", path+"/finish", `,"body":null`), 400, "invalid-request", "-"},
			{command("POST", path+"/finish", `,"body":[]`), 400, "invalid-request", "-"},
			{command("POST", path+"/finish", `,"body":{"x":1}`), 400, "invalid-request", "/x"},
			{command("POST", path+"/fail", ""), 400, "invalid-request", "/reason"},
			{command("POST", path+"/fail", `,"body":{"reason":""}`), 422, "invalid-value", "/reason"},
			{command("POST", path+"/state", `,"body":{}`), 400, "invalid-request", "-"},
			{command("POST", path+"/state", `,"body":{"labels":{"":"x"}}`), 422, "invalid-value", "/labels/"},
			{command("POST", path+"/state", `,"body":{"patch":`+padded(maxState+1)+`}`), 413, "payload-too-large", "/patch"},
			{command("POST", path+"/finish?x=1&y=2", ""), 400, "invalid-request", "x"},
			{command("POST", path+"/stop", ""), 404, "not-found", ""},
			{command("POST", path+"/finish/", ""), 404, "not-found", ""},
			{command("POST", "/flows/", ""), 404, "not-found", ""},
			{command("DELETE", "/flows/", ""), 404, "not-found", ""},
			{command("POST", "/flows//start", ""), 404, "not-found", ""},
			{command("POST", "flows", `,"body":`+createBody("")), 404, "not-found", ""},
			{command("POST", "x/flows", `,"body":`+createBody("")), 404, "not-found", ""},
			{command("POST", "https://example.org/flows", ""), 404, "not-found", ""},
			{command("POST", "/batch", `,"body":{"commands":[]}`), 404, "not-found", ""},
			{command("POST", path+"/steps/r", `,"body":{"task":"t","status":"running"}`), 404, "not-found", ""},
			{command("POST", path, ""), 405, "method-not-allowed", ""},
			{command("DELETE", "/flows", ""), 405, "method-not-allowed", ""},
			{command("DELETE", path+"/start", ""), 405, "method-not-allowed", ""},
		}
		before := api.snapshot()
		for _, c := range cases {
			t.Run(c.command, func(t *testing.T) {
				api := api.in(t)
				p := api.batch(c.command)[0].problem(c.status, c.slug)
				switch c.pointer {
				case "-":
					p.pointers("")
				default:
					p.pointers(strings.Fields(c.pointer)...)
				}
				if c.slug == "revision-conflict" {
					p.has("/expected", "7", "/actual", "1", "/flow", api.get(path).body)
				}
			})
		}
		wantText(t, "after refusals", api.snapshot(), before)

		var mixed []string
		for i, c := range cases {
			mixed = append(mixed, c.command, command("POST", flow+"/state", fmt.Sprintf(`,"body":{"patch":{"k%d":1}}`, i)))
		}
		for i, a := range api.batch(mixed...) {
			if i%2 == 0 {
				a.problem(cases[i/2].status, cases[i/2].slug)
			} else {
				a.want(200).has("/revision", fmt.Sprint(i/2+2))
			}
		}
	})
}

// TestBatchesThatAreRefusedWhole are not of a batch's form: none of their commands is run.
func TestBatchesThatAreRefusedWhole(t *testing.T) {
	good := command("POST", "/flows", `,"body":`+createBody(""))
	cases := []struct {
		body    string
		status  int
		slug    string
		pointer string
	}{
		{``, 400, "invalid-request", "/commands"},
		{`{"commands":null}`, 400, "invalid-request", "/commands"},
		{`{"commands":[]}`, 422, "invalid-value", "/commands"},
		{batchOf(strings.Repeat(good+",", 500) + good), 422, "invalid-value", "/commands"},
		{batchOf(good, `null`), 400, "invalid-request", "/commands/1"},
		{batchOf(good, `{"method":"POST"}`), 400, "invalid-request", "/commands/1/path"},
		{batchOf(good, `{"path":"/flows"}`), 400, "invalid-request", "/commands/1/method"},
		{batchOf(good, command("GET", "/flows", "")), 422, "invalid-value", "/commands/1/method"},
		{batchOf(good, command("PUT", "/flows", "")), 422, "invalid-value", "/commands/1/method"},
		{batchOf(good, command("post", "/flows", "")), 422, "invalid-value", "/commands/1/method"},
		{batchOf(good, command("POST", "", "")), 422, "invalid-value", "/commands/1/path"},
		{batchOf(good, command("POST", "/flows", `,"headers":{}`)), 400, "invalid-request", "/commands/1/headers"},
		{batchOf(good, command("POST", "/flows", `,"if_match":3`)), 400, "invalid-request", "/commands/1/if_match"},
		{batchOf(good, command("POST", "/flows", `,"if_match":null`)), 400, "invalid-request", "/commands/1/if_match"},
		{batchOf(good, command("POST", "/flows", `,"body":{"a":1,"a":1}`)), 400, "invalid-request", "/commands/1/body/a"},
		{batchOf(good, command("POST", "/flows", `,"body":{"a":"\u0000"}`)), 400, "invalid-request", "/commands/1/body/a"},
		{batchOf(good, command("POST", "/flows", `,"body":{"state":`+nested(64)+`}`)), 400, "invalid-request", "/commands/1/body/state" + strings.Repeat("/0", 63)},
		{batchOf(good) + "x", 400, "invalid-request", ""},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, c := range cases {
			p := api.refused(c.status, c.slug, "POST", "/batch", c.body)
			if c.pointer == "" {
				p.pointers("")
			} else {
				p.pointers(c.pointer)
			}
		}
	})
}

// TestBatchOfManyCommands sends as many as a batch takes, of one flow and of many.
func TestBatchOfManyCommands(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		var commands []string
		for i := range 500 {
			if i%2 == 0 {
				commands = append(commands, command("POST", path+"/state", fmt.Sprintf(`,"body":{"current_step":"s%d"}`, i)))
			} else {
				commands = append(commands, command("POST", "/flows", `,"body":`+createBody(fmt.Sprintf(`"goal":"g%d"`, i))))
			}
		}
		for i, a := range api.batch(commands...) {
			if i%2 == 0 {
				a.want(200).has("/revision", fmt.Sprint(i/2+2), "/current_step", fmt.Sprintf(`"s%d"`, i))
			} else {
				a.want(201).has("/goal", fmt.Sprintf(`"g%d"`, i))
			}
		}
		if n := len(pages[flow](api, "/flows?view=summary", 500)); n != 251 {
			t.Errorf("%d flows, want 251", n)
		}
		// A command may be nested as deep as one sent alone.
		api.batch(command("POST", path+"/state", `,"body":{"patch":`+nested(63)+`}`))[0].want(200).has("/state", nested(63))
		// A question mark alone asks for nothing.
		api.batch(command("POST", path+"/finish?", ""))[0].want(200)
	})
}

// TestBatchMatchesRevisions names the revision that an earlier command of the batch leads to.
func TestBatchMatchesRevisions(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.created("")
		out := api.batch(
			command("POST", path+"/start", `,"if_match":"\"0\""`),
			command("POST", path+"/state", `,"if_match":"\"0\"","body":{"goal":"late"}`),
			command("POST", path+"/state", `,"if_match":"W/\"1\"","body":{"goal":"right"}`),
			command("POST", path+"/finish", `,"if_match":"*"`),
			command("DELETE", path, `,"if_match":"\"2\""`),
			command("DELETE", path, `,"if_match":"\"3\""`),
		)
		for i, status := range []int{200, 409, 200, 200, 409, 204} {
			out[i].want(status)
		}
		out[1].problem(409, "revision-conflict").has("/expected", "0", "/actual", "1", "/flow", out[0].body)
		out[3].has("/goal", `"right"`)
	})
}

// TestKeysInABatch repeats commands of a batch in the same one, in another, and alone.
func TestKeysInABatch(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		create := createBody("")
		keyed := command("POST", "/flows", `,"idempotency_key":"k","body":`+create)
		other := command("POST", "/flows", `,"idempotency_key":"k","body":`+createBody(`"state":1`))
		out := api.batch(keyed, keyed, other, command("POST", "/flows", `,"body":`+create))
		wantText(t, "repeat", out[1].want(201).body, out[0].want(201).body)
		out[2].problem(422, "idempotency-key-reused")
		out[3].want(201)
		if out[3].body == out[0].body {
			t.Error("a command without a key repeats one with a key")
		}
		wantText(t, "in another batch", api.batch(keyed)[0].want(201).body, out[0].body)
		wantText(t, "alone", api.post("/flows", create, `Idempotency-Key: "k"`).want(201).hasHeader("Idempotent-Replayed", "true").body, out[0].body)
		var made flow
		out[0].decode(&made)
		path := "/flows/" + made.ID
		first := api.post(path+"/start", "", "Idempotency-Key: start", `If-Match: "0"`).want(200)
		wantText(t, "sent alone before", api.batch(command("POST", path+"/start", `,"idempotency_key":"start","if_match":"\"0\""`))[0].want(200).body, first.body)
		if n := len(api.get("/flows").flows()); n != 2 {
			t.Errorf("%d flows, want 2", n)
		}
		// A DELETE takes no key, alone or here.
		api.post(path+"/cancel", "").want(200)
		for i, a := range api.batch(command("DELETE", path, `,"idempotency_key":"delete"`), command("DELETE", path, `,"idempotency_key":"delete"`)) {
			a.want([]int{204, 404}[i])
		}
		// A refused command stores nothing under its key.
		path = api.running("")
		api.batch(command("POST", path+"/resume", `,"idempotency_key":"later"`))[0].problem(409, "illegal-transition")
		api.post(path+"/wait", manualWait).want(200)
		api.batch(command("POST", path+"/resume", `,"idempotency_key":"later"`))[0].want(200)
	})
}

// TestBatchWithAKey repeats a whole batch, its refusals too.
func TestBatchWithAKey(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.created("")
		body := batchOf(command("POST", "/flows", `,"body":`+createBody("")), command("POST", path+"/finish", ""), command("POST", path+"/start", ""))
		first := api.post("/batch", body, "Idempotency-Key: k").want(200).hasHeader("Idempotent-Replayed", "")
		first.has("/results/0/status", "201", "/results/1/status", "409", "/results/2/status", "200")
		before := api.snapshot()
		api.post("/batch", body, "Idempotency-Key: k").same(first)
		wantText(t, "after the repeat", api.snapshot(), before)
		api.refused(422, "idempotency-key-reused", "POST", "/batch", batchOf(command("POST", "/flows", "")), "Idempotency-Key: k")
		api.refused(422, "idempotency-key-reused", "POST", "/flows", createBody(""), "Idempotency-Key: k")
		api.post("/batch", body).want(200).has("/results/2/status", "409") // without the key it is another request
	})
}

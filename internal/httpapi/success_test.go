package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestCreateManagedAnswersTheWholeFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		before := time.Now().Add(-time.Second)
		a := api.post("/flows", `{"controller_id":"kate/inbox-triage","goal":"Triage","owner_session_key":"agent:kate"}`).want(201)
		f := a.flow()
		if id, err := uuid.Parse(f.ID); err != nil || id.Version() != 7 {
			t.Errorf("id %s is not of version 7", f.ID)
		}
		a.hasHeader("Location", "/flows/"+f.ID).hasHeader("ETag", `"0"`).hasHeader("Content-Type", "application/json").
			hasHeader("Cache-Control", "no-store").hasHeader("Idempotent-Replayed", "")
		a.has("/mode", `"managed"`, "/controller_id", `"kate/inbox-triage"`, "/goal", `"Triage"`, "/owner_session_key", `"agent:kate"`,
			"/requester_origin", `""`, "/current_step", `"init"`, "/state", "{}", "/wait", "null", "/resumed_by", "null",
			"/status", `"created"`, "/cancel_requested", "false", "/revision", "0", "/labels", "{}", "/ended_at", "null")
		at, err := time.Parse(time.RFC3339Nano, f.CreatedAt)
		if err != nil || at.Before(before) || at.After(time.Now().Add(time.Second)) || f.UpdatedAt != f.CreatedAt {
			t.Errorf("created_at %s, updated_at %s", f.CreatedAt, f.UpdatedAt)
		}
		if read := api.get("/flows/" + f.ID).want(200); read.body != a.body {
			t.Errorf("read %s, created %s", read.body, a.body)
		}
		if got := api.kinds("/flows/" + f.ID); got != "created 0" {
			t.Errorf("trail %s", got)
		}
	})
}

func TestCreateTakesEveryField(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		id := uuid.NewString() // not version 7: any will do
		body := `{"id":"` + id + `","mode":"managed","controller_id":"c","goal":"g","owner_session_key":"o","requester_origin":"r",` +
			`"current_step":"first","state":[1,{"a":null}],"labels":{"team":"support","empty":""}}`
		a := api.post("/flows", body).want(201)
		a.hasHeader("Location", "/flows/"+id)
		a.has("/id", quoted(id), "/controller_id", `"c"`, "/goal", `"g"`, "/owner_session_key", `"o"`, "/requester_origin", `"r"`,
			"/current_step", `"first"`, "/state", `[1,{"a":null}]`, "/labels", `{"empty":"","team":"support"}`)
		api.refused(409, "already-exists", "POST", "/flows", body)
		api.refused(409, "already-exists", "POST", "/flows", createBody(`"id":"`+strings.ToUpper(id)+`"`))
	})
}

func TestCreateMirroredIsBornRunning(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		a := api.post("/flows", createBody(`"mode":"mirrored"`)).want(201)
		a.has("/mode", `"mirrored"`, "/status", `"running"`, "/revision", "1")
		a.hasHeader("ETag", `"1"`).hasHeader("Location", "/flows/"+a.flow().ID)
		if got := api.kinds("/flows/" + a.flow().ID); got != "created 0, started 1" {
			t.Errorf("trail %s", got)
		}
	})
}

// TestCommandsAnswerTheWholeFlow goes through a flow's life and looks at what each command does and leaves in the trail.
func TestCommandsAnswerTheWholeFlow(t *testing.T) {
	steps := []struct {
		call, body, kind string
		has              []string
		payload          string // "" where it is looked at below
	}{
		{"start", "", "started", []string{"/status", `"running"`, "/wait", "null"}, `{}`},
		{"state", `{"patch":{"a":1},"current_step":"second","goal":"New goal","labels":{"x":"y"}}`, "state_updated",
			[]string{"/state", `{"a":1}`, "/current_step", `"second"`, "/goal", `"New goal"`, "/labels", `{"x":"y"}`, "/status", `"running"`},
			`{"patch":{"a":1},"next_step":"second","goal":"New goal","labels":{"x":"y"}}`},
		{"wait", `{"wait":{"kind":"manual","details":{"question":"Send?"}}}`, "waiting",
			[]string{"/status", `"waiting"`, "/wait/kind", `"manual"`, "/wait/generation", "3", "/wait/details", `{"question":"Send?"}`}, ""},
		{"resume", `{"state_patch":{"b":2}}`, "resumed",
			[]string{"/status", `"running"`, "/wait", "null", "/state", `{"a":1,"b":2}`, "/resumed_by/kind", `"manual"`,
				"/resumed_by/outcome", `"resumed"`, "/resumed_by/condition", "null"}, ""},
		{"finish", `{"final_state":{"a":3}}`, "finished", []string{"/status", `"finished"`, "/state", `{"a":3,"b":2}`}, `{"final_state":{"a":3}}`},
	}
	eachStore(t, func(t *testing.T, api *client) {
		path := api.created("")
		for i, s := range steps {
			a := api.post(path+"/"+s.call, s.body).want(200).has(s.has...)
			f := a.flow()
			if f.Revision != int64(i+1) || f.UpdatedAt < f.CreatedAt || (f.EndedAt != nil) != (s.call == "finish") {
				t.Errorf("%s: revision %d, updated_at %s, ended_at %v", s.call, f.Revision, f.UpdatedAt, f.EndedAt)
			}
			if read := api.get(path); read.body != a.body {
				t.Errorf("%s answered %s, a read %s", s.call, a.body, read.body)
			}
			trail := api.trail(path)
			last := trail[len(trail)-1]
			if last.Kind != s.kind || last.Revision != f.Revision || last.At != f.UpdatedAt || last.Actor != "anonymous" {
				t.Errorf("%s left %+v", s.call, last)
			}
			if s.payload != "" && string(last.Payload) != s.payload {
				t.Errorf("%s left the payload %s, want %s", s.call, last.Payload, s.payload)
			}
			switch s.call {
			case "wait":
				wantText(t, "payload", string(last.Payload), `{"wait":`+a.at("/wait")+`}`)
				wantText(t, "since", a.at("/wait/since"), quoted(f.UpdatedAt))
			case "resume":
				cause := strings.TrimSuffix(a.at("/resumed_by"), "}") + `,"generation":3}`
				wantText(t, "payload", string(last.Payload), `{"state_patch":{"b":2},"cause":`+cause+`}`)
				wantText(t, "at", a.at("/resumed_by/at"), quoted(f.UpdatedAt))
			case "finish":
				wantText(t, "ended_at", a.at("/ended_at"), quoted(f.UpdatedAt))
			}
		}
	})
}

func TestFailAndCancelKeepTheirReason(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running(`"state":{"a":1}`)
		f := api.post(path+"/fail", `{"reason":"no luck"}`).want(200).has("/status", `"failed"`, "/revision", "2").flow()
		wantText(t, "state", string(f.State), `{"a":1,"failure":{"reason":"no luck","at":"`+*f.EndedAt+`"}}`)
		wantText(t, "payload", string(api.trail(path)[2].Payload), `{"reason":"no luck"}`)
		for _, c := range []struct{ body, payload string }{
			{"", `{"reason":null}`}, {`{"reason":null}`, `{"reason":null}`}, {`{"reason":""}`, `{"reason":""}`}, {`{"reason":"why"}`, `{"reason":"why"}`},
		} {
			path := api.created("")
			api.post(path+"/cancel", c.body).want(200).has("/status", `"cancelled"`, "/state", "{}", "/cancel_requested", "false")
			wantText(t, "payload", string(api.trail(path)[1].Payload), c.payload)
		}
	})
}

func TestCreatedEventTellsWhatWasSent(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		plain := api.created("")
		wantText(t, "payload", string(api.trail(plain)[0].Payload),
			`{"controller_id":"kate/inbox-triage","goal":"Triage the inbox","current_step":"init"}`)
		full := api.created(`"current_step":"s","state":{"n":1.10},"labels":{"a":"b"},"requester_origin":"r"`)
		wantText(t, "payload", string(api.trail(full)[0].Payload), `{"controller_id":"kate/inbox-triage","goal":"Triage the inbox",`+
			`"current_step":"s","state":{"n":1.10},"labels":{"a":"b"},"requester_origin":"r"}`)
	})
}

func TestEventsHaveOneRisingNumber(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for range 3 {
			api.inStatus("finished")
		}
		last := int64(0)
		for _, e := range api.get("/events").events() {
			if e.Seq <= last {
				t.Errorf("seq %d after %d", e.Seq, last)
			}
			last = e.Seq
		}
		if last < 9 {
			t.Errorf("the last seq is %d", last)
		}
	})
}

func TestHealth(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, path := range []string{"/livez", "/readyz"} {
			wantText(t, path, api.get(path).want(200).body, `{"status":"ok"}`)
		}
	})
}

func TestRequestIDComesBack(t *testing.T) {
	api := serveSQLite(t)
	api.get("/livez", "X-Request-Id: trace-7.a_b~C").hasHeader("X-Request-Id", "trace-7.a_b~C")
	api.get(noFlow(), "X-Request-Id: mine").want(404).has("/instance", `"mine"`)
	for _, bad := range []string{"", "two words", "a\tb", `<script>`, strings.Repeat("x", 129)} {
		id := api.get("/livez", "X-Request-Id: "+bad).header.Get("X-Request-Id")
		if _, err := uuid.Parse(id); err != nil {
			t.Errorf("X-Request-Id %q was answered with %q", bad, id)
		}
	}
}

// faithful are JSON texts that must come back as they were sent.
var faithful = []string{
	`12345678901234567890`, `-0`, `0.0`, `1.10`, `10e308`, `-1E-308`, `1e+5`, `0.1e-7`, strings.Repeat("7", 64), `0.` + strings.Repeat("3", 63),
	`"ünïcödé 😀 漢字 \u00e9"`, `"<&>"`, `"\u003c\u2028 \" \\ \/ \b\f\n\r\t"`, `null`, `true`, `[]`, `{}`, `""`,
	`{"b":1.10,"a":[12345678901234567890,{"c":10e308}],"":{" ":"<&>"}}`,
}

// TestJSONComesBackAsSent sends JSON everywhere it may go and reads it back from everywhere it is shown.
func TestJSONComesBackAsSent(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for i, text := range faithful {
			key := fmt.Sprintf("Idempotency-Key: k%d", i)
			body := createBody(`"state":` + text + `,"labels":{"n":"` + fmt.Sprint(i) + `"}`)
			a := api.post("/flows", body, key).want(201).has("/state", text)
			path := "/flows/" + a.flow().ID
			wantText(t, "replay", api.post("/flows", body, key).body, a.body)
			api.get(path).has("/state", text)
			api.get(fmt.Sprintf("/flows?label=n:%d", i)).has("/items/0/state", text)
			api.get(path+"/events").has("/items/0/payload/state", text)
			api.get("/events?order=-seq&limit=1").has("/items/0/payload/state", text)

			api.post(path+"/state", `{"patch":{"v":`+text+`}}`).want(200).has("/state/v", text)
			api.post(path+"/start", "").want(200)
			step := `{"task":"t","status":"running","result":` + text + `}`
			api.put(path+"/steps/r", step).want(201).has("/result", text)
			api.put(path+"/steps/r", step).want(200).has("/result", text)
			api.get(path+"/steps/r").has("/result", text)
			api.get(path+"/steps").has("/items/0/result", text)

			details := `{"d":` + text + `}`
			api.post(path+"/wait", `{"wait":{"kind":"manual","details":`+details+`}}`).want(200).has("/wait/details", details)
			api.get(path).has("/wait/details", details)
			api.post(path+"/resume", `{"state_patch":`+text+`}`).want(200)
			api.post(path+"/finish", `{"final_state":{"w":`+text+`}}`).want(200).has("/state/w", text)
			api.get(path+"/events").has("/items/1/payload/patch/v", text, "/items/5/payload/wait/details", details,
				"/items/6/payload/state_patch", text, "/items/7/payload/final_state/w", text)
		}
	})
}

// TestStringsComeBackWithTheirMeaning sends strings in every text field.
func TestStringsComeBackWithTheirMeaning(t *testing.T) {
	texts := []string{"<b>&amp;</b>", "ünïcödé 😀 漢字", "line\nbreak\ttab", `quo"te \ back`, "\u2028\u2029\u007f\u0001", " ", "null", "NULL", "'; drop table flows; --", "%_%"}
	eachStore(t, func(t *testing.T, api *client) {
		for _, text := range texts {
			written, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			s := string(written)
			f := api.create(`"controller_id":` + s + `,"goal":` + s + `,"owner_session_key":` + s + `,"requester_origin":` + s +
				`,"current_step":` + s + `,"labels":{` + s + `:` + s + `}`)
			for name, got := range map[string]string{
				"controller_id": f.ControllerID, "goal": f.Goal, "owner_session_key": f.OwnerSessionKey,
				"requester_origin": f.RequesterOrigin, "current_step": f.CurrentStep, "label": f.Labels[text],
			} {
				if got != text {
					t.Errorf("%s %q came back as %q", name, text, got)
				}
			}
			if read := api.get("/flows/" + f.ID); read.flow().Goal != text || strings.Contains(read.body, `\u003c`) {
				t.Errorf("%q was read as %s", text, read.body)
			}
			path := "/flows/" + f.ID
			api.post(path+"/cancel", `{"reason":`+s+`}`).want(http.StatusOK)
			var payload struct{ Reason string }
			decode(t, string(api.trail(path)[1].Payload), &payload)
			if payload.Reason != text {
				t.Errorf("the reason %q came back as %q", text, payload.Reason)
			}
		}
	})
}

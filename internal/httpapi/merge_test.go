package httpapi_test

import (
	"fmt"
	"strings"
	"testing"
)

// merges are a state, a patch and the state afterwards.
var merges = []struct{ state, patch, merged string }{
	{`{}`, `{"a":1}`, `{"a":1}`},
	{`{"a":1}`, `{}`, `{"a":1}`},
	{`{"a":1,"b":2}`, `{"b":3,"c":4}`, `{"a":1,"b":3,"c":4}`},
	{`{"a":{"x":1,"y":2}}`, `{"a":{"z":3}}`, `{"a":{"z":3}}`}, // top-level keys only
	{`{"a":1,"b":2}`, `{"a":null}`, `{"a":null,"b":2}`},       // null deletes nothing
	{`{"a":1}`, `{"\u0061":2}`, `{"a":2}`},                    // one key, written in two ways
	{`{"a":1}`, `null`, `null`},
	{`{"a":1}`, `[1,2]`, `[1,2]`},
	{`{"a":1}`, `"text"`, `"text"`},
	{`{"a":1}`, `7`, `7`},
	{`{"a":1}`, `false`, `false`},
	{`null`, `{"a":1}`, `{"a":1}`},
	{`null`, `null`, `null`},
	{`[1]`, `{"a":1}`, `{"a":1}`},
	{`[1]`, `[2]`, `[2]`},
	{`"text"`, `{"a":1}`, `{"a":1}`},
	{`"text"`, `7`, `7`},
	{`1.10`, `{}`, `{}`},
	{`true`, `"x"`, `"x"`},
}

// TestStateMerge sends each patch by every call that takes one.
func TestStateMerge(t *testing.T) {
	calls := []struct{ status, call, body, event string }{
		{"running", "state", `{"patch":%s}`, "patch"},
		{"waiting", "resume", `{"state_patch":%s}`, "state_patch"},
		{"running", "finish", `{"final_state":%s}`, "final_state"},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, m := range merges {
			for _, c := range calls {
				path := api.running(`"state":` + m.state)
				if c.status == "waiting" {
					api.post(path+"/wait", manualWait).want(200)
				}
				a := api.post(path+"/"+c.call, fmt.Sprintf(c.body, m.patch)).want(200)
				// A key keeps the spelling of whoever wrote it first or last: only its meaning is promised.
				wantText(t, m.state+" with "+m.patch, strings.ReplaceAll(a.at("/state"), `\u0061`, "a"), m.merged)
				api.get(path).has("/state", a.at("/state"))
				trail := api.trail(path)
				wantText(t, "payload", at(t, string(trail[len(trail)-1].Payload), "/"+c.event), m.patch)
			}
		}
	})
}

// TestAbsentPatchIsNone tells an absent patch from a null one, in the flow and in the trail.
func TestAbsentPatchIsNone(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		waiting := api.running(`"state":{"a":1}`)
		api.post(waiting+"/wait", manualWait).want(200)
		api.post(waiting+"/resume", "").want(200).has("/state", `{"a":1}`)
		api.post(waiting+"/state", `{"goal":"g"}`).want(200).has("/state", `{"a":1}`)
		api.post(waiting+"/finish", "{}").want(200).has("/state", `{"a":1}`)
		for i, member := range map[int]string{3: "/state_patch", 4: "/patch", 5: "/final_state"} {
			wantText(t, "payload's "+member, at(t, string(api.trail(waiting)[i].Payload), member), "")
		}
		for _, state := range []string{`null`, `{}`} {
			f := api.create(`"state":` + state)
			wantText(t, "state", string(f.State), state)
		}
	})
}

// TestFailureKeepsAStateThatIsNoObject looks at what the service itself adds to a state.
func TestFailureKeepsAStateThatIsNoObject(t *testing.T) {
	cases := []struct{ state, kept string }{
		{`null`, `"value":null,`}, {`[1,2]`, `"value":[1,2],`}, {`"text"`, `"value":"text",`}, {`12345678901234567890`, `"value":12345678901234567890,`},
		{`{"a":1}`, `"a":1,`}, {`{}`, ``}, {`{"value":1}`, `"value":1,`},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, c := range cases {
			path := api.running(`"state":` + c.state)
			f := api.post(path+"/fail", `{"reason":"<no> \"luck\""}`).want(200).flow()
			wantText(t, c.state, string(f.State), `{`+c.kept+`"failure":{"reason":"<no> \"luck\"","at":"`+*f.EndedAt+`"}}`)
		}
		path := api.running(`"state":{"failure":"mine","z":1}`)
		f := api.post(path+"/fail", `{"reason":"r"}`).want(200).flow()
		wantText(t, "overwritten", string(f.State), `{"failure":{"reason":"r","at":"`+*f.EndedAt+`"},"z":1}`)
	})
}

// TestUpdateStateSetsWhatIsGiven changes each of the caller's own fields alone.
func TestUpdateStateSetsWhatIsGiven(t *testing.T) {
	cases := []struct {
		body string
		has  []string
	}{
		{`{"patch":{"b":2}}`, []string{"/state", `{"a":1,"b":2}`, "/current_step", `"init"`, "/labels", `{"k":"v"}`}},
		{`{"current_step":"next"}`, []string{"/state", `{"a":1}`, "/current_step", `"next"`}},
		{`{"goal":"other"}`, []string{"/goal", `"other"`, "/state", `{"a":1}`}},
		{`{"labels":{"k":"w"}}`, []string{"/labels", `{"k":"w"}`}},
		{`{"labels":{"l":""}}`, []string{"/labels", `{"k":"v","l":""}`}},
		{`{"labels":{"k":null}}`, []string{"/labels", `{}`}},
		{`{"labels":{"none":null}}`, []string{"/labels", `{"k":"v"}`}},
		{`{"labels":{"k":null,"n":"1"}}`, []string{"/labels", `{"n":"1"}`}},
		{`{"labels":{}}`, []string{"/labels", `{"k":"v"}`}},
		{`{"patch":null}`, []string{"/state", `null`}},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, c := range cases {
			path := api.created(`"state":{"a":1},"labels":{"k":"v"}`)
			api.post(path+"/state", c.body).want(200).has(c.has...).has("/revision", "1", "/status", `"created"`)
			api.get(path).has(c.has...)
			wantText(t, "trail", api.kinds(path), "created 0, state_updated 1")
		}
		api.refused(400, "invalid-request", "POST", api.created("")+"/state", "{}").pointers("")
		api.refused(400, "invalid-request", "POST", api.created("")+"/state", "").pointers("")
	})
}

package httpapi_test

import (
	"fmt"
	"strings"
	"testing"
)

// nested is arrays in arrays, depth of them.
func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// TestBodiesThatAreRefused sends bodies that are not of a call's form. Nothing changes, and the problem says where.
func TestBodiesThatAreRefused(t *testing.T) {
	state := func(text string) string { return createBody(`"state":` + text) }
	cases := []struct{ name, path, body, pointer string }{
		{"not JSON", "", `controller_id: x`, ""},
		{"a lone brace", "", `{`, ""},
		{"cut short", "", `{"goal":"a`, "/goal"},
		{"single quotes", "", `{'goal':1}`, ""},
		{"a comment", "", `{/* */}`, ""},
		{"a trailing comma", "", `{"goal":"a",}`, ""},
		{"white space alone", "", " \n", ""},
		{"null", "", `null`, ""},
		{"an array", "", `[]`, ""},
		{"a string", "", `"goal"`, ""},
		{"two values", "", createBody("") + `{}`, ""},
		{"text behind", "", createBody("") + ` x`, ""},
		{"NaN", "", state(`NaN`), "/state"},
		{"a leading zero", "", state(`01`), ""},
		{"a plus sign", "", state(`+1`), "/state"},
		{"a byte order mark", "", "\ufeff" + createBody(""), ""},

		{"an unknown field", "", createBody(`"colour":"red"`), "/colour"},
		{"a field in another case", "", createBody(`"Mode":"managed"`), "/Mode"},
		{"a known field in another case as well", "", createBody(`"goal":"g","GOAL":"h"`), "/GOAL"},
		{"a server's own field", "", createBody(`"revision":7`), "/revision"},
		{"an unknown field with a slash", "", createBody(`"a/b~c":1`), "/a~1b~0c"},
		{"a missing field", "", `{"controller_id":"c","owner_session_key":"o"}`, "/goal"},
		{"a null for a string", "", createBody(`"goal":null`), "/goal"},
		{"a number for a string", "", createBody(`"goal":1`), "/goal"},
		{"an array for an object", "", createBody(`"labels":[]`), "/labels"},
		{"a number for a label", "", createBody(`"labels":{"a":1}`), "/labels/a"},
		{"a null for a label", "", createBody(`"labels":{"a":null}`), "/labels/a"},
		{"a null for a mode", "", createBody(`"mode":null`), "/mode"},

		{"a duplicate key", "", createBody(`"goal":"g"`)[:1] + `"goal":"h",` + createBody("")[1:], "/goal"},
		{"a duplicate key in the state", "", state(`{"a":1,"b":2,"a":3}`), "/state/a"},
		{"a duplicate key, once escaped", "", state(`{"a":1,"\u0061":2}`), "/state/a"},
		{"a duplicate key in an array", "", state(`[0,{"x":{"y":1,"y":1}}]`), "/state/1/x/y"},
		{"a duplicate empty key", "", state(`{"":1,"":2}`), "/state/"},
		{"invalid UTF-8", "", state("\"a\xff\""), "/state"},
		{"invalid UTF-8 in a key", "", state("{\"a\xc3\":1}"), "/state"},
		{"an overlong encoding", "", state("\"\xc0\x80\""), "/state"},
		{"a surrogate as UTF-8", "", state("\"\xed\xa0\x80\""), "/state"},
		{"a lone high surrogate", "", state(`"\ud83d"`), "/state"},
		{"a lone low surrogate", "", state(`"\ude00"`), "/state"},
		{"a high surrogate and a letter", "", state(`"\ud83d\u0061"`), "/state"},
		{"two high surrogates", "", state(`"\ud83d\ud83d"`), "/state"},
		{"NUL in a string", "", state(`"a\u0000b"`), "/state"},
		{"NUL in a goal", "", createBody(`"goal":"\u0000"`), "/goal"},
		{"NUL in a key", "", state(`{"\u0000":1}`), "/state/\x00"},
		{"a raw control character", "", state("\"a\x01b\""), "/state"},
		{"a bad escape", "", state(`"\x41"`), "/state"},
		{"nested 65 deep", "", state(nested(64)), "/state" + strings.Repeat("/0", 63)},
		{"nested very deep", "", state(nested(9000)), "/state" + strings.Repeat("/0", 63)},
		{"a number of 65 digits", "", state(strings.Repeat("7", 65)), "/state"},
		{"a fraction of 65 digits", "", state(`0.` + strings.Repeat("7", 64)), "/state"},
		{"65 digits and an exponent", "", state(strings.Repeat("7", 65) + "e1"), "/state"},
		{"an exponent of 309", "", state(`[1,{"a":1e309}]`), "/state/1/a"},
		{"an exponent of -309", "", state(`1E-309`), "/state"},
		{"an exponent past every integer", "", state(`1e99999999999999999999`), "/state"},

		{"start with a field", "/start", `{"a":1}`, "/a"},
		{"wait without a wait", "/wait", ``, "/wait"},
		{"wait for null", "/wait", `{"wait":null}`, "/wait"},
		{"wait without a kind", "/wait", `{"wait":{}}`, "/wait/kind"},
		{"wait with an unknown field", "/wait", `{"wait":{"kind":"manual","until":1}}`, "/wait/until"},
		{"details that are no object", "/wait", `{"wait":{"kind":"manual","details":[]}}`, "/wait/details"},
		{"details of null", "/wait", `{"wait":{"kind":"manual","details":null}}`, "/wait/details"},
		{"resume with a patch", "/resume", `{"patch":{}}`, "/patch"},
		{"finish with a state", "/finish", `{"state":{}}`, "/state"},
		{"fail without a reason", "/fail", ``, "/reason"},
		{"fail with a number", "/fail", `{"reason":1}`, "/reason"},
		{"cancel with a number", "/cancel", `{"reason":1}`, "/reason"},
		{"request-cancel with an object", "/request-cancel", `{"reason":{}}`, "/reason"},
		{"state without a field", "/state", `{}`, ""},
		{"state with a null step", "/state", `{"current_step":null}`, "/current_step"},
		{"state with a null goal", "/state", `{"goal":null}`, "/goal"},
		{"state with null labels", "/state", `{"labels":null}`, "/labels"},
		{"state with a label that is a number", "/state", `{"labels":{"a":1}}`, "/labels/a"},
	}
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				path := "/flows"
				if c.path != "" {
					path = flow + c.path
				}
				api.in(t).refused(400, "invalid-request", "POST", path, c.body).pointers(c.pointer)
			})
		}
	})
}

func TestEveryFaultOfABodyIsNamed(t *testing.T) {
	api := serveSQLite(t)
	p := api.refused(400, "invalid-request", "POST", "/flows", `{"mode":"odd","goal":1,"labels":{"a":2},"x":3,"y":4}`)
	found := map[string]bool{}
	for _, e := range p.Errors {
		found[e.Pointer] = true
	}
	for _, want := range []string{"/mode", "/goal", "/labels/a", "/x", "/y", "/controller_id", "/owner_session_key"} {
		if !found[want] {
			t.Errorf("no error at %s: %s", want, p.body)
		}
	}
	many := "{"
	for i := range 5000 {
		many += fmt.Sprintf(`"x%d":0,`, i)
	}
	p = api.refused(400, "invalid-request", "POST", "/flows", many+createBody("")[1:])
	if len(p.Errors) != 100 {
		t.Errorf("5000 faults are answered with %d errors", len(p.Errors))
	}
}

func TestStepBodiesThatAreRefused(t *testing.T) {
	cases := []struct{ body, pointer string }{
		{``, "/task /status"}, {`{"task":"t"}`, "/status"}, {`{"status":"running"}`, "/task"}, {`{"task":1,"status":"running"}`, "/task"},
		{`{"task":"t","status":"running","run_id":"r"}`, "/run_id"}, {`{"task":"t","status":"running","runtime":null}`, "/runtime"},
		{`{"task":"t","status":"running","child_session_key":1}`, "/child_session_key"},
		{`{"task":"t","status":"running","observed_at":1}`, "/observed_at"}, {`{"task":"t","status":"running","observed_at":null}`, "/observed_at"},
		{`{"task":"t","status":"running","result":{"a":1,"a":1}}`, "/result/a"},
	}
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("") + "/steps/r"
		for _, c := range cases {
			api.refused(400, "invalid-request", "PUT", path, c.body).pointers(strings.Fields(c.pointer)...)
		}
	})
}

// TestBodiesAtTheLimit sends what is only just allowed.
func TestBodiesAtTheLimit(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, state := range []string{
			nested(63), strings.Repeat(`{"a":`, 63) + "1" + strings.Repeat("}", 63), // the body itself is one level more
			strings.Repeat("7", 64), "-0." + strings.Repeat("7", 63), strings.Repeat("7", 64) + "e308", "1e308", "1e-308", "1e+308", "1e0000308",
			`"\ud83d\ude00"`, `"\uffff\ufffe"`, "\"\u007f\ufffd\"",
		} {
			if got := string(api.create(`"state":` + state).State); got != state {
				t.Errorf("%s came back as %s", shorten(state), shorten(got))
			}
		}
		// White space goes, the rest stays as it is.
		spaced := " { \"controller_id\" : \"a b\" ,\r\n\t\"goal\":\"g\",\"owner_session_key\":\"o\",\"state\" : [ 1 , { \"a b\" : \" c \" } ] }\n"
		api.post("/flows", spaced).want(201).has("/controller_id", `"a b"`, "/state", `[1,{"a b":" c "}]`)
	})
}

// TestParametersThatAreUnknown sends a query to calls that take none, or another.
func TestParametersThatAreUnknown(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.inStatus("running")
		for _, c := range commands {
			api.refused(400, "invalid-request", c.method, path+c.path+"?dry_run=1", c.body).pointers("dry_run")
		}
		api.refused(400, "invalid-request", "POST", "/flows?limit=1", createBody("")).pointers("limit")
		api.refused(400, "invalid-request", "POST", "/batch?x", `{"commands":[{"method":"POST","path":"/flows"}]}`).pointers("x")
		for _, read := range []string{path, path + "/steps", path + "/events", "/flows", "/events", "/stats", "/livez", "/readyz"} {
			api.get(read+"?LIMIT=1").problem(400, "invalid-request").pointers("LIMIT")
			api.get(read+"?%zz").problem(400, "invalid-request")
			api.get(read+"?a;b").problem(400, "invalid-request")
		}
	})
}

func TestMediaTypes(t *testing.T) {
	allowed := []string{"application/json", "Application/JSON", "application/json; charset=utf-8", `application/json;charset="UTF-8"`, "application/json; x=y"}
	refused := []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=latin1",
		"application/json; charset=utf-16", "application/problem+json", "application/*", "json", "", "application/json, text/plain", "application/json; ;;"}
	eachStore(t, func(t *testing.T, api *client) {
		for _, media := range allowed {
			api.post("/flows", createBody(""), "Content-Type: "+media).want(201)
		}
		path := api.inStatus("running")
		for _, media := range refused {
			api.refused(415, "unsupported-media-type", "POST", "/flows", createBody(""), "Content-Type: "+media)
			api.refused(415, "unsupported-media-type", "PUT", path+"/steps/r", `{"task":"t","status":"running"}`, "Content-Type: "+media)
			api.refused(415, "unsupported-media-type", "POST", path+"/state", `{"goal":"g"}`, "Content-Type: "+media)
		}
		api.refused(415, "unsupported-media-type", "POST", "/flows", createBody(""), "-Content-Type")
		api.refused(415, "unsupported-media-type", "POST", "/flows", createBody(""), "Content-Type: application/json", "Content-Type: application/json")
		api.refused(415, "unsupported-media-type", "POST", "/batch", `{"commands":[]}`, "Content-Type: text/plain")
		// Where there is no body there is nothing to be of a type.
		api.post(path+"/finish", "", "Content-Type: text/plain").want(200)
	})
}

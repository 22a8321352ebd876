package flows_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"taskflow/internal/flows"

	"github.com/go-json-experiment/json/jsontext"
)

func TestMerge(t *testing.T) {
	for name, c := range map[string]struct{ state, patch, want string }{
		"overwrites and keeps":     {`{"a":1,"b":2}`, `{"b":3}`, `{"a":1,"b":3}`},
		"appends in order":         {`{"a":1}`, `{"c":3,"b":2}`, `{"a":1,"c":3,"b":2}`},
		"mixed":                    {`{"a":1,"b":2,"c":3}`, `{"x":0,"b":9,"y":1}`, `{"a":1,"b":9,"c":3,"x":0,"y":1}`},
		"empty onto object":        {`{"a":1}`, `{}`, `{"a":1}`},
		"object onto empty":        {`{}`, `{"a":1}`, `{"a":1}`},
		"empty onto empty":         {`{}`, `{}`, `{}`},
		"spaced empties":           {" { \n } ", " { \t } ", " { \n } "},
		"null deletes nothing":     {`{"a":1,"b":2}`, `{"a":null}`, `{"a":null,"b":2}`},
		"shallow":                  {`{"a":{"x":1,"y":2}}`, `{"a":{"x":3}}`, `{"a":{"x":3}}`},
		"array replaces":           {`{"a":1}`, `[1]`, `[1]`},
		"null replaces":            {`{"a":1}`, `null`, `null`},
		"string replaces":          {`{"a":1}`, `"{"`, `"{"`},
		"object onto array":        {`[1]`, `{"a":1}`, `{"a":1}`},
		"object onto null":         {`null`, `{"a":1}`, `{"a":1}`},
		"object onto string":       {`"{}"`, `{"a":1}`, `{"a":1}`},
		"number onto number":       {`1`, `2`, `2`},
		"digits":                   {`{"a":12345678901234567890,"b":1.10}`, `{"c":1e2,"d":-0.0}`, `{"a":12345678901234567890,"b":1.10,"c":1e2,"d":-0.0}`},
		"digits of a patch":        {`{"a":1}`, `{"a":1.10}`, `{"a":1.10}`},
		"escaped name":             {`{"a":1}`, `{"\u0061":2}`, `{"a":2}`},
		"escaped name in state":    {`{"\u0061":1,"b":1}`, `{"a":2}`, `{"\u0061":2,"b":1}`},
		"differently escaped":      {`{"\u00e9":1}`, `{"é":2}`, `{"\u00e9":2}`},
		"surrogate pair":           {`{"\ud83d\ude00":1}`, `{"😀":2}`, `{"\ud83d\ude00":2}`},
		"escaped solidus":          {`{"a\/b":1}`, `{"a/b":2}`, `{"a\/b":2}`},
		"names that only look so":  {`{"\\u0061":1}`, `{"a":2}`, `{"\\u0061":1,"a":2}`},
		"empty name":               {`{"":1}`, `{"":2,"a":3}`, `{"":2,"a":3}`},
		"case counts":              {`{"a":1}`, `{"A":2}`, `{"a":1,"A":2}`},
		"brackets in strings":      {`{"a":"}]{[,:","b":[{"c":"]}"}]}`, `{"d":"{"}`, `{"a":"}]{[,:","b":[{"c":"]}"}],"d":"{"}`},
		"escaped quotes":           {`{"a\"}":"\"}","b":"\\"}`, `{"c":"\\\""}`, `{"a\"}":"\"}","b":"\\","c":"\\\""}`},
		"quotes within nesting":    {`{"a":["\"]","\\"],"b":1}`, `{"b":{"\"}":"\\"}}`, `{"a":["\"]","\\"],"b":{"\"}":"\\"}}`},
		"space around":             {" {\n\"a\" :\t1 ,\r\n\"b\": [1, 2] } ", "\t{ \"b\" : 3 }\n", `{"a":1,"b":3}`},
		"space within values":      {`{"a":[1, 2]}`, `{"b":{ "x" : 1 }}`, `{"a":[1, 2],"b":{ "x" : 1 }}`},
		"space around replacement": {`{"a":1}`, " [1 , 2]\n", `[1 , 2]`},
		"literals":                 {`{"a":true,"b":false,"c":null}`, `{"b":null,"d":true}`, `{"a":true,"b":null,"c":null,"d":true}`},
		"deep":                     {`{"a":[[[[{"b":[{}]}]]]]}`, `{"b":{"c":{"d":{}}}}`, `{"a":[[[[{"b":[{}]}]]]],"b":{"c":{"d":{}}}}`},
		"every name replaced":      {`{"a":1,"b":2}`, `{"b":3,"a":4}`, `{"a":4,"b":3}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := flows.Merge(json.RawMessage(c.state), json.RawMessage(c.patch)); string(got) != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestMergeOfNoPatch(t *testing.T) {
	if got := flows.Merge(json.RawMessage(`{"a":1}`), nil); string(got) != `{"a":1}` {
		t.Errorf("got %s", got)
	}
}

// FuzzMerge compares with a merge of decoded objects.
func FuzzMerge(f *testing.F) {
	for _, seed := range []string{`{}`, ` { } `, `{"a":1}`, `{"\u0061":2,"b":[{"c":"}"}]}`, `{"a":"\\\"","é":{"x":[]}}`, `[]`,
		`null`, `" {"`, ` 1.10 `, "\n{\t\"a\" : 1e2 ,\"b\":[ ] }\r\n", `{"":{"":{"":""}}}`} {
		f.Add(seed, `{"a":null,"z":[1,"]"]}`)
		f.Add(`{"a":"{","\u0062":2}`, seed)
	}
	f.Fuzz(func(t *testing.T, state, patch string) {
		// What the guard lets through: valid, without duplicate names, bad UTF-8 or lone surrogates.
		if !jsontext.Value(state).IsValid() || !jsontext.Value(patch).IsValid() {
			return
		}
		before := state + patch
		s, p := json.RawMessage(state), json.RawMessage(patch)
		checkMerge(t, s, p, flows.Merge(s, p))
		if string(s)+string(p) != before {
			t.Errorf("the inputs were altered: %s, %s", s, p)
		}
	})
}

func checkMerge(t *testing.T, state, patch, got json.RawMessage) {
	t.Helper()
	if !jsontext.Value(got).IsValid() {
		t.Fatalf("merging %q onto %q is no valid JSON: %q", patch, state, got)
	}
	var old, news, merged map[string]json.RawMessage
	if !object(state, &old) || !object(patch, &news) {
		if want := strings.TrimSpace(string(patch)); string(got) != want {
			t.Errorf("%q onto %q is %q, want the patch", patch, state, got)
		}
		return
	}
	if !object(got, &merged) {
		t.Fatalf("%q onto %q is %q, want an object", patch, state, got)
	}
	for name, value := range news {
		old[name] = value
	}
	if len(merged) != len(old) {
		t.Errorf("%q onto %q is %q: %d members, want %d", patch, state, got, len(merged), len(old))
	}
	for name, value := range old {
		if !bytes.Equal(merged[name], value) {
			t.Errorf("%q onto %q is %q: %q is %s, want %s", patch, state, got, name, merged[name], value)
		}
	}
}

// object decodes v into m, or reports that it is none.
func object(v json.RawMessage, m *map[string]json.RawMessage) bool {
	return strings.HasPrefix(strings.TrimSpace(string(v)), "{") && json.Unmarshal(v, m) == nil
}

// TestFailureOntoAnyState holds that what the service adds loses nothing of the caller's.
func TestFailureOntoAnyState(t *testing.T) {
	const failure = `"failure":{"reason":"no <way>","at":"2026-04-23T12:00:00.000000Z"}`
	for state, want := range map[string]string{
		`{"a":1.10}`:          `{"a":1.10,` + failure + `}`,
		`{}`:                  `{` + failure + `}`,
		`{"failure":1,"b":2}`: `{` + failure + `,"b":2}`,
		`[1, 2]`:              `{"value":[1, 2],` + failure + `}`,
		`null`:                `{"value":null,` + failure + `}`,
		`1e2`:                 `{"value":1e2,` + failure + `}`,
		`"{}"`:                `{"value":"{}",` + failure + `}`,
	} {
		f := flowIn(flows.Running, false)
		f.State = json.RawMessage(state)
		change, err := flows.Decide(flows.Subject{Flow: f}, flows.Command{Owners: flows.Everyone, FlowID: someID, MaxState: 1,
			Action: flows.Fail{Reason: "no <way>"}}, noon)
		if err != nil || string(change.Flow.State) != want {
			t.Errorf("state %s became %s, %v; want %s", state, change.Flow.State, err, want)
		}
	}
}

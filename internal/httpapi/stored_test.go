package httpapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzStored sends JSON as the state of a flow to a server on each database. Both take it or neither does; what they take
// comes back as it was sent, but for white space between the tokens: at once, when it is read again, and in the trail.
func FuzzStored(f *testing.F) {
	for _, seed := range []string{
		`null`, `{}`, `[]`, `""`, `0`, `-0`, `1.10`, `1.0`, `100`, `1e2`, `1E+02`, `12345678901234567890`, `0.1e-7`, `10e308`, `1e-308`, `1e309`,
		strings.Repeat("9", 64), strings.Repeat("9", 65), `-0.` + strings.Repeat("3", 63), `{"b":1,"a":2}`, `{"a":1,"a":1}`, `{"":0}`, ` { "a" : [ 1 , 2 ] } `,
		`"\u0041\/\b\f\n\r\t\"\\"`, `"é😀\u00e9\ud83d\ude00"`, `"\ud83d"`, `"\u0000"`, "\"\u2028\u2029\u007f\u0080\ufffe\uffff\ufffd\ufeff\"", `"\u001f<>&'"`, "\"\xff\"", `"\\u0000"`,
		`{"\u0061":{"\ud83d\ude00":[[[]]]}}`, strings.Repeat("[", 63) + strings.Repeat("]", 63), strings.Repeat("[", 64) + strings.Repeat("]", 64),
		`"` + strings.Repeat("a", maxState-2) + `"`, `"` + strings.Repeat("a", maxState-1) + `"`, `"%_'\"; drop table flows; --"`, `"$1 ? :a @b"`,
	} {
		f.Add([]byte(seed))
	}
	g := newGenerator(*seed)
	for range 150 {
		f.Add([]byte(g.json(5)))
	}
	servers := []*client{serveSQLite(f), servePostgres(f)}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			return // together with what is around it, it might say anything
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			t.Fatal(err)
		}
		want, taken := compact.String(), 0
		for _, server := range servers {
			api := server.in(t)
			a := api.post("/flows", createBody(`"state":`+string(text)))
			if a.status != http.StatusCreated {
				if a.status != http.StatusBadRequest && a.status != http.StatusRequestEntityTooLarge {
					t.Errorf("refused with %d: %s", a.status, shorten(a.body))
				}
				continue
			}
			taken++
			path := "/flows/" + a.flow().ID
			wantText(t, "the state in the answer", a.at("/state"), want)
			wantText(t, "the state when read", api.get(path).at("/state"), want)
			trail := api.get(path + "/events").want(http.StatusOK).at("/items/0/payload/state")
			if trail != want && (trail != "" || want != "{}") { // what is the default is not told
				wantText(t, "the state in the trail", trail, want)
			}
		}
		if taken != 0 && taken != len(servers) {
			t.Errorf("%s is taken by %d of %d databases", shorten(string(text)), taken, len(servers))
		}
	})
}

// FuzzStoredText sends a text wherever a flow, a step or an event has one. Both databases take it or neither does; what they
// take comes back as it was sent.
func FuzzStoredText(f *testing.F) {
	for _, seed := range []string{
		"", "a", " ", "a/b", "a%2Fb", "%", "%25", "..", ".", "é😀", "e\u0301", "\u2028\u2029\u007f\u0080\ufffe\uffff\ufffd\ufeff", "\x00", "a\x00b", "\x1f\t\r\n", "\xff", "\xed\xa0\x80",
		`\u0000`, `"\`, "<&>'", "%_'\"; drop table flows; --", "$1 ? :a @b", "?a=b#c", "+", strings.Repeat("é", 63), strings.Repeat("é", 64), strings.Repeat("😀", 255),
		strings.Repeat("a", 256), strings.Repeat("a", 257), "agent:*", "*",
	} {
		f.Add(seed)
	}
	servers := []*client{serveSQLite(f), servePostgres(f)}
	f.Fuzz(func(t *testing.T, text string) {
		var told [][]string
		for _, server := range servers {
			told = append(told, storeText(t, server.in(t), text))
		}
		wantText(t, "what PostgreSQL says of "+shorten(text), strings.Join(told[1], "\n"), strings.Join(told[0], "\n"))
	})
}

// storeText tells what came of each place that a text was sent to: it is taken and comes back, or it is refused.
func storeText(t *testing.T, api *client, text string) (told []string) {
	t.Helper()
	encoded, err := jsonOf(text) // which replaces what is no UTF-8
	if err != nil {
		t.Fatal(err)
	}
	// What the contract allows everywhere that has 256 characters, and no less.
	fits := utf8.ValidString(text) && !strings.Contains(text, "\x00") && text != "" && utf8.RuneCountInString(text) <= 255
	note := func(place string, a answer, pointers ...string) bool {
		t.Helper()
		if a.status >= 300 {
			if fits {
				t.Errorf("%s: %q is refused with %d: %s", place, text, a.status, shorten(a.body))
			}
			if a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity && a.status != http.StatusNotFound {
				t.Errorf("%s: refused with %d: %s", place, a.status, shorten(a.body))
			}
			told = append(told, fmt.Sprint(place, " ", a.status))
			return false
		}
		for _, pointer := range pointers {
			var back, sent string
			if err := errors.Join(json.Unmarshal([]byte(a.at(pointer)), &back), json.Unmarshal([]byte(encoded), &sent)); err != nil || back != sent {
				t.Errorf("%s: %q came back as %q, %v", place, sent, back, err)
			}
		}
		told = append(told, place+" is taken")
		return true
	}
	path := api.created("")
	for _, place := range []string{"goal", "current_step"} {
		if note(place, api.post(path+"/state", `{"`+place+`":`+encoded+`}`), "/"+place) {
			note(place+", read", api.get(path), "/"+place)
		}
	}
	if note("label", api.post(path+"/state", `{"labels":{"k":`+encoded+`}}`), "/labels/k") {
		note("label, read", api.get(path), "/labels/k")
		note("label, listed", api.get("/flows?limit=1&label="+url.QueryEscape("k:"+text)), "/items/0/labels/k")
	}
	step := path + "/steps/" + strings.ReplaceAll(url.PathEscape(text), ".", "%2E") // .. would be taken for the way up
	if note("run id", api.put(step, `{"task":`+encoded+`,"status":"running"}`), "/task") {
		note("run id, read", api.get(step), "/run_id", "/task")
		note("run id, listed", api.get(path+"/steps"), "/items/0/run_id")
	}
	if event := `{"topic":` + encoded + `,"correlation_id":` + encoded + `,"payload":` + encoded + `,"ttl":"PT0S"}`; note("event", api.post("/external-events", event)) {
		note("event, listed", api.get("/external-events?limit=1&topic="+url.QueryEscape(text)), "/items/0/topic", "/items/0/correlation_id")
	}
	return told
}

// FuzzCursors sends anything as a cursor to every list on both databases: it leads on, or is refused; both say the same.
func FuzzCursors(f *testing.F) {
	servers := []*client{serveSQLite(f), servePostgres(f)}
	lists := []string{"/flows?limit=1", "/flows?limit=1&order=created_at", "/flows?limit=1&order=updated_at", "/events?limit=1", "/events?limit=1&order=-seq", "/external-events?limit=1"}
	for range 2 {
		servers[0].in(f).created("")
		servers[0].in(f).post("/external-events", `{"topic":"t","correlation_id":"c"}`)
	}
	for _, list := range lists {
		f.Add(servers[0].in(f).get(list).next())
	}
	for _, seed := range []string{"", "A", "YQ", "YQ==", "%", "\x00", "é", strings.Repeat("A", 300), "../../x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		for _, list := range lists {
			said := make([]int, len(servers))
			for i, server := range servers {
				said[i] = server.in(t).get(list + "&cursor=" + url.QueryEscape(cursor)).status
			}
			if said[0] != said[1] || said[0] != http.StatusOK && said[0] != http.StatusBadRequest {
				t.Errorf("%s with %q: %v", list, cursor, said)
			}
		}
	})
}

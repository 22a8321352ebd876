package httpapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
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

package httpapi_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// changes are the statuses in which each command takes effect.
var changes = map[string]string{
	"start": "created", "wait": "running", "resume": "waiting", "finish": "running", "fail": "running", "request-cancel": "running",
	"cancel": "running", "state": "running", "delete": "finished", "observe": "running",
}

// TestIfMatchOnEveryCommand sends each form of the header with each command.
func TestIfMatchOnEveryCommand(t *testing.T) {
	bad := []string{"", "%", "0%", `0`, `"0`, `0"`, `W/0`, `w/"%"`, `"%", "9"`, `"%","%"`, `"9" "%"`, `*, "%"`, `""`, `"*"`, `W/*`, `"0%"`, `"-1"`, `"+%"`,
		`"% "`, `" %"`, `"%.0"`, `"0x1"`, `"99999999999999999999"`, `"9223372036854775808"`, `"abc"`, `'%'`, `"ü"`, `"%"x`}
	eachStore(t, func(t *testing.T, api *client) {
		for name, status := range changes {
			t.Run(name, func(t *testing.T) {
				api := api.in(t)
				c := commands[name]
				path := api.inStatus(status)
				revision := strconv.FormatInt(api.read(path).Revision, 10)
				send := func(headers ...string) answer { return api.do(c.method, path+c.path, c.body, headers...) }
				before := api.snapshot()
				for _, value := range bad {
					value = strings.ReplaceAll(value, "%", revision)
					send("If-Match: "+value).problem(400, "invalid-request").pointers("If-Match")
				}
				send(`If-Match: "`+revision+`"`, `If-Match: "`+revision+`"`).problem(400, "invalid-request").pointers("If-Match")
				send(`If-Match: *`, `If-Match: *`).problem(400, "invalid-request").pointers("If-Match")
				for stale, expected := range map[string]string{`"77"`: "77", `W/"78"`: "78", `"9223372036854775807"`: "9223372036854775807"} {
					send("If-Match: "+stale).problem(409, "revision-conflict").hasHeader("ETag", quoted(revision)).
						has("/expected", expected, "/actual", revision, "/flow", api.get(path).body)
				}
				wantText(t, "afterwards", api.snapshot(), before)

				for i, value := range []string{quoted(revision), "W/" + quoted(revision), `*`} {
					if i > 0 {
						path = api.inStatus(status)
					}
					if a := send("If-Match: " + value); a.status/100 != 2 {
						t.Errorf("If-Match: %s: %d %s", value, a.status, a.body)
					}
				}
				path = noFlow()
				for _, value := range []string{`"0"`, `*`} {
					send("If-Match: "+value).problem(404, "not-found")
				}
			})
		}
	})
}

// TestConflictLetsAClientTryAgain uses nothing but the problem for the second try.
func TestConflictLetsAClientTryAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running(`"state":{"n":1.10}`)
		p := api.post(path+"/finish", "", `If-Match: "0"`).problem(409, "revision-conflict")
		p.has("/expected", "0", "/actual", "1", "/flow/state", `{"n":1.10}`, "/flow/status", `"running"`)
		api.post(path+"/finish", "", "If-Match: "+p.header.Get("ETag")).want(200)
	})
}

func TestIfMatchDoesNotGoWithANewFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, value := range []string{`"0"`, `*`, `x`, ""} {
			api.refused(400, "invalid-request", "POST", "/flows", createBody(""), "If-Match: "+value).pointers("If-Match")
		}
		api.refused(400, "invalid-request", "POST", "/flows", createBody(""), `If-Match: *`, `If-Match: *`).pointers("If-Match")
	})
}

// TestRequireIfMatch is what TASKFLOW_REQUIRE_IF_MATCH promises.
func TestRequireIfMatch(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.created("") // a new flow has no revision to name
		for _, c := range commands {
			api.refused(428, "precondition-required", c.method, path+c.path, c.body)
		}
		api.post(path+"/start", "", `If-Match: "0"`).want(200)
		api.post(path+"/state", `{"goal":"g"}`, `If-Match: *`).want(200)
		api.refused(409, "revision-conflict", "POST", path+"/finish", "", `If-Match: "1"`)
		api.post("/batch", `{"commands":[{"method":"POST","path":"`+path+`/finish"},{"method":"POST","path":"`+path+`/finish","if_match":"*"}]}`).
			want(200).has("/results/0/status", "428", "/results/1/status", "200")
	}, func(s *setup) { s.options.RequireIfMatch = true })
}

// TestWithoutIfMatchNoChangeIsLost runs many changes of one flow at once.
func TestWithoutIfMatchNoChangeIsLost(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		const n = 24
		path := api.running("")
		answers := atOnce(n, func(i int) answer {
			return api.post(path+"/state", `{"patch":{"k`+strconv.Itoa(i)+`":1}}`)
		})
		seen := map[int64]bool{}
		for _, a := range answers {
			seen[a.want(200).flow().Revision] = true
		}
		var state map[string]int
		f := api.read(path)
		decode(t, string(f.State), &state)
		if f.Revision != n+1 || len(seen) != n || len(state) != n {
			t.Errorf("revision %d, %d different answers, %d keys, want %d changes", f.Revision, len(seen), len(state), n)
		}
	})
}

// TestWithIfMatchOneOfManyWins runs many changes of one revision at once.
func TestWithIfMatchOneOfManyWins(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		won := 0
		for _, a := range atOnce(16, func(int) answer { return api.post(path+"/state", `{"goal":"g"}`, `If-Match: "1"`) }) {
			if a.status == http.StatusOK {
				won++
			} else {
				a.problem(409, "revision-conflict")
			}
		}
		if f := api.read(path); won != 1 || f.Revision != 2 {
			t.Errorf("%d won, the flow is at revision %d", won, f.Revision)
		}
	})
}

// atOnce runs a request n times side by side and waits for all the answers.
func atOnce(n int, send func(i int) answer) []answer {
	answers := make([]answer, n)
	var under sync.WaitGroup
	for i := range n {
		under.Go(func() { answers[i] = send(i) })
	}
	under.Wait()
	return answers
}

func TestIfNoneMatch(t *testing.T) {
	same := []string{`"1"`, `W/"1"`, `*`, ` "1" `, `"0", "1"`, `"0","1"`, `"0" ,	W/"1" , "x"`, `"a,b", "1"`, `"", "1"`}
	other := []string{`"0"`, `"2"`, `"01"`, `"1 "`, `"x"`, `""`, `W/"0"`, `"-1"`, `"0", "2"`, `"11"`, `"99999999999999999999"`, `"*"`}
	bad := []string{``, `1`, `"1`, `1"`, `"0" "1"`, `*, "1"`, `"1", *`, `w/"1"`, `W/1`, `"1"x`, `etag`}
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		for _, value := range same {
			a := api.get(path, "If-None-Match: "+value).want(http.StatusNotModified).hasHeader("ETag", `"1"`)
			if a.body != "" || a.header.Get("Content-Type") != "" {
				t.Errorf("If-None-Match: %s: 304 with %q as %q", value, a.body, a.header.Get("Content-Type"))
			}
		}
		for _, value := range other {
			api.get(path, "If-None-Match: "+value).want(200).flow()
		}
		for _, value := range bad {
			api.get(path, "If-None-Match: "+value).problem(400, "invalid-request").pointers("If-None-Match")
		}
		api.get(path, `If-None-Match: "1"`, `If-None-Match: "2"`).problem(400, "invalid-request").pointers("If-None-Match")
		api.get(noFlow(), `If-None-Match: *`).problem(404, "not-found")
		api.post(path+"/state", `{"goal":"g"}`).want(200)
		api.get(path, `If-None-Match: "1"`).want(200).has("/goal", `"g"`)
	})
}

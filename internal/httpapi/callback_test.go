package httpapi_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"taskflow/internal/engine"
	"taskflow/internal/flows"

	"github.com/google/uuid"
)

const callbackWait = `{"kind":"callback"}`

// callback names the path of a new flow that waits for a callback, and that of the callback.
func (c *client) callback(wait string) (flow, url string) {
	c.t.Helper()
	flow, a := c.waiting(wait)
	return flow, strings.Trim(a.at("/wait/url"), `"`)
}

const (
	resumed        = `{"outcome":"resumed"}`
	alreadyResumed = `{"outcome":"already_resumed"}`
	formType       = "Content-Type: application/x-www-form-urlencoded"
)

func TestCallbackEndsItsWaitOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow, url := api.callback(callbackWait)
		wantText(t, "first", api.post(url, `{"n":1.10}`).want(200).body, resumed)
		f := api.get(flow).has("/status", `"running"`, "/state", `{"resume_event":{"n":1.10}}`, "/resumed_by/kind", `"callback"`, "/resumed_by/outcome", `"resumed"`, "/resumed_by/condition", "null")
		if last := api.trail(flow)[3]; last.Actor != "callback" || last.Kind != "resumed" {
			t.Errorf("left %+v", last)
		}
		wantText(t, "repeated", api.post(url, `{"n":2}`).want(200).body, alreadyResumed)
		wantText(t, "the flow", api.get(flow).body, f.body)
		api.post(url+"/reject", "").problem(410, "wait-ended")

		second := strings.Trim(api.post(flow+"/wait", `{"wait":`+callbackWait+`}`).want(200).at("/wait/url"), `"`)
		if second == url {
			t.Fatal("two waits have one URL")
		}
		wantText(t, "repeated after the next wait began", api.post(url, "").want(200).body, alreadyResumed)
		api.get(flow).has("/status", `"waiting"`)
		api.post(flow+"/resume", "").want(200)
		wantText(t, "repeated after the next wait ended", api.post(url, "").want(200).body, alreadyResumed)
		api.post(second, "").problem(410, "wait-ended")
		api.post(flow+"/finish", "").want(200)
		wantText(t, "repeated after the flow ended", api.post(url, "").want(200).body, alreadyResumed)
		api.erase(flow).want(204)
		api.post(url, "").problem(410, "wait-ended")
	})
}

// TestCallbackIsRepeatedLate repeats callbacks of a flow that has waited very often since, with other events in between.
func TestCallbackIsRepeatedLate(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow, other := api.running(""), api.running("")
		update := func(path string) string { return command("POST", path+"/state", `,"body":{"goal":"g"}`) }
		wait := func() (url string) {
			return strings.Trim(api.post(flow+"/wait", `{"wait":`+callbackWait+`}`).want(200).at("/wait/url"), `"`)
		}
		var urls []string
		for i := range 7 {
			urls = append(urls, wait())
			api.batch(update(flow), update(other), update(flow), update(other), update(other))
			for range i {
				api.observe(flow, "r", "running")
			}
			wantText(t, "first", api.post(urls[i], "").want(200).body, resumed)
			api.observe(flow, "r", "running")
		}
		otherwise := wait()
		api.post(flow+"/resume", "").want(200)
		var later []string
		for range 120 {
			later = append(later, command("POST", flow+"/wait", `,"body":`+manualWait), update(other), command("POST", flow+"/resume", ""))
		}
		for _, a := range api.batch(later...) {
			a.want(200)
		}
		before := api.snapshot()
		for _, url := range urls {
			api.reads.Store(0)
			wantText(t, "repeated", api.post(url, "").want(200).body, alreadyResumed)
			if n := api.reads.Load(); n > 20 { // of some 450 events
				t.Errorf("a repeat reads %d times", n)
			}
			api.post(url+"/reject", "").problem(410, "wait-ended")
		}
		api.post(otherwise, "").problem(410, "wait-ended")
		wantText(t, "what is recorded", api.snapshot(), before)
	}, func(s *setup) { s.countReads = true })
}

// again has a flow that ended erased and made anew under its id, waiting for a callback; it names the new one's URL.
func (c *client) again(flow, wait string) (url string) {
	c.t.Helper()
	c.post(flow+"/finish", "").want(200)
	c.erase(flow).want(204)
	c.running(`"goal":"Another one","id":` + quoted(strings.TrimPrefix(flow, "/flows/")))
	return strings.Trim(c.post(flow+"/wait", `{"wait":`+wait+`}`).want(200).at("/wait/url"), `"`)
}

// wantOver wants a URL to be good for nothing, and its page to show nothing of a flow that waits.
func (c *client) wantOver(flow, url string) {
	c.t.Helper()
	for _, path := range []string{url, url + "/reject"} {
		c.refused(410, "wait-ended", "POST", path, `{"mine":1}`)
	}
	if page := c.get(url).want(410); strings.Contains(page.body, "<button") || strings.Contains(page.body, "Another one") {
		c.t.Errorf("the page is %s", page.body)
	}
	c.get(flow).has("/status", `"waiting"`)
}

// TestCallbackOpensNoLaterLife keeps a URL until its flow is erased and another has its id, waiting at the same revision.
func TestCallbackOpensNoLaterLife(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow, old := api.callback(callbackWait)
		api.post(old, "").want(200)
		url := api.again(flow, callbackWait)
		api.wantOver(flow, old)
		wantText(t, "its own", api.post(url, "").want(200).body, resumed)
		wantText(t, "its own, repeated", api.post(url, "").want(200).body, alreadyResumed)
		api.post(old, "").problem(410, "wait-ended") // it tells nothing of how the other ended either
		wantText(t, "trail", api.kinds(flow), "created 0, started 1, waiting 2, resumed 3")
	})
}

// TestCallbackOpensNoLaterLifeInACommit puts both lives in one commit, at one and the same time.
func TestCallbackOpensNoLaterLifeInACommit(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		id := uuid.NewString()
		flow := "/flows/" + id
		live := `{"method":"POST","path":"/flows","body":` + createBody(`"goal":"Another one","id":`+quoted(id)) + `},{"method":"POST","path":"` + flow + `/start"},` +
			`{"method":"POST","path":"` + flow + `/wait","body":{"wait":` + callbackWait + `}}`
		die := `,{"method":"POST","path":"` + flow + `/cancel"},{"method":"DELETE","path":"` + flow + `"},`
		a := api.post("/batch", `{"commands":[`+live+die+live+`]}`, "Idempotency-Key: one-commit").want(200)
		old, url := strings.Trim(a.at("/results/2/body/wait/url"), `"`), strings.Trim(a.at("/results/7/body/wait/url"), `"`)
		wantText(t, "the second beginning", a.at("/results/7/body/wait/since"), a.at("/results/2/body/wait/since"))
		api.wantOver(flow, old)
		api.post(url, "").want(200)
	})
}

// TestCallbacksOfTheReleaseBefore begins a wait as that release did: its URL has no nonce, and lives out its wait alone.
func TestCallbacksOfTheReleaseBefore(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		keys, err := api.store.CallbackKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release := engine.New(api.store, engine.Options{})
		defer release.Close(t.Context())
		flow := api.running("")
		wait := flows.SetWait{Kind: flows.WaitCallback, Conditions: []flows.ConditionSpec{{Kind: flows.WaitCallback}}, CallbackKey: keys[0].ID}
		if _, err := release.Apply(t.Context(), engine.Command{Command: flows.Command{
			FlowID: uuid.MustParse(strings.TrimPrefix(flow, "/flows/")), Owners: flows.Everyone, Actor: "old", Action: wait,
		}}); err != nil {
			t.Fatal(err)
		}
		old := strings.Trim(api.get(flow).at("/wait/url"), `"`)
		if n := len(strings.TrimPrefix(old, "/callbacks/")); n != 63 {
			t.Fatalf("URL %s, want a token as that release makes them", old)
		}
		if page := api.get(old).want(200); !strings.Contains(page.body, "<button") {
			t.Errorf("the page is %s", page.body)
		}
		wantText(t, "first", api.post(old, "").want(200).body, resumed)
		wantText(t, "repeated", api.post(old, "").want(200).body, alreadyResumed)
		api.again(flow, callbackWait)
		api.wantOver(flow, old)
	})
}

func TestRejectedCallback(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow, a := api.waiting(`{"kind":"any_of","conditions":[{"kind":"manual"},{"kind":"callback"},{"kind":"callback"}]}`)
		one, two := strings.Trim(a.at("/wait/conditions/1/url"), `"`), strings.Trim(a.at("/wait/conditions/2/url"), `"`)
		wantText(t, "rejected", api.post(two+"/reject", `{"reason":"not now"}`).want(200).body, resumed)
		api.get(flow).has("/status", `"running"`, "/state", `{"resume_event":{"reason":"not now"}}`, "/resumed_by/outcome", `"rejected"`, "/resumed_by/condition", "2")
		wantText(t, "rejected again", api.post(two+"/reject", "").want(200).body, alreadyResumed)
		api.post(two, "").problem(410, "wait-ended")
		api.post(one, "").problem(410, "wait-ended")
		api.post(one+"/reject", "").problem(410, "wait-ended")
	})
}

func TestCallbackOfAWaitThatEndedOtherwise(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, verb := range []string{"resume", "cancel", "request-cancel", "fail"} {
			flow, url := api.callback(callbackWait)
			body := ""
			if verb == "fail" {
				body = `{"reason":"r"}`
			}
			api.post(flow+"/"+verb, body).want(200)
			for _, path := range []string{url, url + "/reject"} {
				api.refused(410, "wait-ended", "POST", path, "{}")
			}
			if page := api.get(url).want(410); strings.Contains(page.body, "<button") || strings.Contains(page.body, "Triage") {
				t.Errorf("%s: the page is %s", verb, page.body)
			}
		}
	})
}

// TestBodiesOfCallbacks sends every kind of body.
func TestBodiesOfCallbacks(t *testing.T) {
	binary := "\xff\xfe\x00\x01"
	cases := []struct{ contentType, body, want string }{
		{"application/json", `{ "n" : 1.10 , "big": 12345678901234567890 }`, `{"n":1.10,"big":12345678901234567890}`}, {"application/json; charset=utf-8", `[1]`, `[1]`}, {"application/json", `null`, `null`},
		{"application/cloudevents+json", `"x"`, `"x"`}, {"application/json", "", "null"}, {"text/plain", "", "null"}, {"", "", "null"}, {"application/x-www-form-urlencoded", "", "{}"},
		{"application/json", `{"a":1,"a":2}`, `{"content_type":"application/json","body":"{\"a\":1,\"a\":2}"}`}, {"application/json", `{`, `{"content_type":"application/json","body":"{"}`},
		{"application/x-www-form-urlencoded", "a=1&b=2&a=3&c=&%C3%BC=%26", `{"a":["1","3"],"b":"2","c":"","ü":"&"}`}, {"application/x-www-form-urlencoded; charset=utf-8", "a=1", `{"a":"1"}`},
		{"application/x-www-form-urlencoded", "a=%zz", `{"content_type":"application/x-www-form-urlencoded","body":"a=%zz"}`}, {"application/x-www-form-urlencoded", "a=%00", `{"content_type":"application/x-www-form-urlencoded","body":"a=%00"}`},
		{"text/plain", "done <b>", `{"content_type":"text/plain","body":"done <b>"}`}, {"", "done", `{"content_type":"","body":"done"}`}, {"a/b/c", "x", `{"content_type":"a/b/c","body":"x"}`},
		{"application/octet-stream", binary, `{"content_type":"application/octet-stream","body":"` + base64.StdEncoding.EncodeToString([]byte(binary)) + `","encoding":"base64"}`},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, c := range cases {
			flow, url := api.callback(callbackWait)
			header := "Content-Type: " + c.contentType
			if c.contentType == "" {
				header = "-Content-Type:"
			}
			wantText(t, c.body, api.post(url, c.body, header).want(200).body, resumed)
			wantText(t, c.contentType+" "+c.body, api.get(flow).at("/state/resume_event"), c.want)
		}
		flow, url := api.callback(callbackWait)
		api.refused(413, "payload-too-large", "POST", url, padded(maxBody+1))
		api.refused(413, "payload-too-large", "POST", url+"/reject", padded(maxBody+1))
		api.post(flow+"/state", `{"patch":[1]}`).want(200)
		api.post(url+"?x=1&y=%zz&token=2", padded(maxBody)).want(200)
		api.get(flow).has("/state/value", "[1]", "/state/resume_event", padded(maxBody))
	})
}

// TestForgedCallbacks wants one and the same 404 of all of them, and nothing read.
func TestForgedCallbacks(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		_, a := api.waiting(`{"kind":"any_of","conditions":[{"kind":"callback"},{"kind":"callback"}]}`)
		_, b := api.callback(callbackWait)
		one, two := strings.Trim(a.at("/wait/conditions/0/url"), `"`), strings.Trim(a.at("/wait/conditions/1/url"), `"`)
		token := func(url string) string { return strings.TrimPrefix(url, "/callbacks/") }
		raw := func(url string) []byte {
			out, err := base64.RawURLEncoding.DecodeString(token(url))
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		with := func(change func([]byte)) string {
			out := raw(one)
			change(out)
			return base64.RawURLEncoding.EncodeToString(out)
		}
		first := raw(one)
		forged := map[string]string{
			"another condition": with(func(b []byte) { b[30] = 1 }), "another generation": with(func(b []byte) { b[29]++ }), "another flow": with(func(b []byte) { b[21] ^= 1 }),
			"another's signature": with(func(o []byte) { copy(o[31:], raw(b)[31:]) }), "the other condition's signature": with(func(o []byte) { copy(o[47:], raw(two)[47:]) }),
			"another nonce": with(func(b []byte) { b[31]++ }), "another beginning": with(func(b []byte) { b[46]++ }), "the old form of it": base64.RawURLEncoding.EncodeToString(append(raw(one)[:31], raw(one)[47:]...)),
			"truncated": token(one)[:40], "longer": token(one) + "AAAA", "padded": token(one) + "==", "no token": "x", "an id": uuid.NewString(), "line end": token(one)[:8] + "%0A" + token(one)[8:], "encoded slash": "a%2Fb",
			"an unknown key": with(func(b []byte) { copy(b, "nobody") }),
		}
		before := api.snapshot()
		for what, bad := range forged {
			api.reads.Store(0)
			for _, path := range []string{"/callbacks/" + bad, "/callbacks/" + bad + "/reject"} {
				p := api.post(path, "{}").problem(404, "not-found")
				wantText(t, what, strings.ReplaceAll(p.body, p.header.Get("X-Request-Id"), "-"), `{"type":"/problems/not-found","title":"Not found","status":404,"detail":"There is no such callback.","instance":"-"}`)
				p.hasHeader("Referrer-Policy", "no-referrer")
			}
			api.get("/callbacks/"+bad).problem(404, "not-found")
			api.do("HEAD", "/callbacks/"+bad, "").want(404)
			if n := api.reads.Load(); n != 0 {
				t.Errorf("%s: the database was read %d times", what, n)
			}
		}
		wantText(t, "what is recorded", api.snapshot(), before)
		if string(first) != string(raw(one)) {
			t.Fatal("the test has altered its token")
		}
		api.post(one, "").want(200)
	}, func(s *setup) { s.countReads = true })
}

// TestCallbackPages looks at the page as a browser and as a mail scanner.
func TestCallbackPages(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running(`"goal":"Pay <script>alert(1)</script> & \"co\""`)
		url := strings.Trim(api.post(flow+"/wait", `{"wait":{"kind":"callback","details":{"who":"</pre><img src=x onerror=alert(1)>"}}}`).want(200).at("/wait/url"), `"`)
		before := api.snapshot()
		page := api.get(url+"?utm=1&outcome=resumed", "Accept: text/html").want(200).hasHeader("Content-Type", "text/html; charset=utf-8").hasHeader("Referrer-Policy", "no-referrer").hasHeader("Cache-Control", "no-store")
		policy := page.header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("policy %q", policy)
		}
		for _, bad := range []string{"<script", "<img", "</pre><", "onerror=alert(1)>"} {
			if strings.Contains(page.body, bad) {
				t.Errorf("the page has %s: %s", bad, page.body)
			}
		}
		for _, part := range []string{"Pay &lt;script&gt;", "&lt;img src=x", `action="` + strings.TrimPrefix(url, "/callbacks/") + `"`, `/reject"`} {
			if !strings.Contains(page.body, part) {
				t.Errorf("the page lacks %s: %s", part, page.body)
			}
		}
		if n := strings.Count(page.body, "<button"); n != 2 {
			t.Errorf("%d buttons", n)
		}
		api.do("HEAD", url, "").want(200).hasHeader("Content-Type", "text/html; charset=utf-8")
		api.do("PUT", url, "").problem(405, "method-not-allowed").hasHeader("Allow", "GET, HEAD, POST")
		api.get(url+"/reject").problem(405, "method-not-allowed")
		wantText(t, "what is recorded after the page was read", api.snapshot(), before)

		_, signed := api.callback(`{"kind":"callback","verify":{"scheme":"github","secret":"hush-hush"}}`)
		if page := api.get(signed).want(200); strings.Contains(page.body, "<button") || strings.Contains(page.body, "<form") || strings.Contains(page.body, "hush-hush") {
			t.Errorf("the page of a verified callback: %s", page.body)
		}
		done := api.post(url, "", formType, "Accept: text/html,*/*;q=0.8", "Origin: null", "Sec-Fetch-Site: cross-site").want(200).hasHeader("Content-Type", "text/html; charset=utf-8")
		if !strings.Contains(done.body, "Thank you") || !strings.HasPrefix(done.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("the answer to a form: %s", done.body)
		}
		api.get(flow).has("/status", `"running"`)
		late := api.post(url+"/reject", "", formType, "Accept: text/html", "Origin: null").want(410).hasHeader("Content-Type", "text/html; charset=utf-8")
		if !strings.Contains(late.body, "This is over") {
			t.Errorf("the answer to a form that came late: %s", late.body)
		}
		api.post(url+"/reject", "", formType).problem(410, "wait-ended")
		_, url = api.callback(callbackWait)
		api.post(url+"/reject", "a=1", formType, "Origin: https://elsewhere.example", "Sec-Fetch-Site: cross-site").want(200).hasHeader("Content-Type", "application/json")
		api.post("/flows", createBody(""), "Origin: https://elsewhere.example", "Sec-Fetch-Site: cross-site").problem(403, "forbidden")
	})
}

// TestURLsOfCallbacks wants the public address in front, and the URL in no log and no trail.
func TestURLsOfCallbacks(t *testing.T) {
	const public = "https://flows.example/base"
	eachStore(t, func(t *testing.T, api *client) {
		flow, url := api.callback(callbackWait)
		path, ok := strings.CutPrefix(url, public)
		if !ok || !strings.HasPrefix(path, "/callbacks/") {
			t.Fatalf("URL %s", url)
		}
		api.post(path, "{}").want(200)
		token := strings.TrimPrefix(path, "/callbacks/")
		for where, text := range map[string]string{"the trail": api.get(flow+"/events").body + api.get("/events").body, "the log": api.logged.String()} {
			if strings.Contains(text, token) {
				t.Errorf("%s has the token: %s", where, text)
			}
		}
	}, func(s *setup) { s.options.PublicURL = public })
}

// TestCallbacksRace posts many times at once: one ends the wait.
func TestCallbacksRace(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow, url := api.callback(callbackWait)
		answers := make(chan string)
		for i := range 8 {
			go func() {
				path := url
				if i%2 == 1 {
					path += "/reject"
				}
				a, err := api.try(context.Background(), http.MethodPost, path, "{}")
				answers <- fmt.Sprintf("%d %s %v", a.status, a.body, err)
			}()
		}
		first := 0
		for range 8 {
			switch a := <-answers; {
			case a == "200 "+resumed+" <nil>":
				first++
			case a != "200 "+alreadyResumed+" <nil>" && !strings.HasPrefix(a, "410 "):
				t.Error(a)
			}
		}
		if wantText(t, "trail", api.kinds(flow), "created 0, started 1, waiting 2, resumed 3"); first != 1 {
			t.Errorf("%d callbacks ended the wait", first)
		}
	})
}

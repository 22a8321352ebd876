package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// waiting names the path of a new flow that waits like this, and the answer to the wait.
func (c *client) waiting(wait string) (path string, a answer) {
	c.t.Helper()
	path = c.running("")
	a = c.post(path+"/wait", `{"wait":`+wait+`}`).want(http.StatusOK).has("/status", `"waiting"`)
	return path, a
}

// seconds are a time of the contract, some seconds after another one.
func seconds(t testing.TB, text string, after float64) string {
	t.Helper()
	at, err := time.Parse(`"2006-01-02T15:04:05.000000Z"`, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.Add(time.Duration(after * float64(time.Second))).Format(`"2006-01-02T15:04:05.000000Z"`)
}

const event7 = `{"kind":"external_event","topic":"payment","correlation_id":"order-7"}`

// TestFormsOfWaits sets every form of wait and wants each part of the answer, in the trail as well.
func TestFormsOfWaits(t *testing.T) {
	far := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	at, offset := far.Format(time.RFC3339), far.In(time.FixedZone("", 7200)).Format(time.RFC3339)
	text := quoted(far.Format("2006-01-02T15:04:05.000000Z"))
	cases := []struct {
		wait string
		want []string // pointers below the wait, and the text there
	}{
		{`{"kind":"manual"}`, []string{"/kind", `"manual"`, "/at", "", "/url", "", "/timeout", "", "/details", "", "/conditions", "", "/generation", "2"}},
		{`{"kind":"timer","at":"` + at + `"}`, []string{"/kind", `"timer"`, "/at", text, "/after", ""}},
		{`{"kind":"timer","at":"` + offset + `"}`, []string{"/at", text}},
		{event7, []string{"/kind", `"external_event"`, "/topic", `"payment"`, "/correlation_id", `"order-7"`}},
		{`{"kind":"callback"}`, []string{"/kind", `"callback"`, "/verify", ""}},
		{`{"kind":"callback","verify":{"scheme":"github","secret":"hush-hush"}}`, []string{"/verify", `{"scheme":"github"}`}},
		{`{"kind":"callback","verify":{"scheme":"hmac-sha256","secret":"hush-hush","header":"X-Shop"}}`, []string{"/verify", `{"scheme":"hmac-sha256","header":"X-Shop"}`}},
		{`{"kind":"manual","details":{"ask":"Kate","n":1.10}}`, []string{"/details", `{"ask":"Kate","n":1.10}`}},
		{`{"kind":"manual","timeout":{"at":"` + at + `","on_timeout":"fail"}}`, []string{"/timeout", `{"at":` + text + `,"on_timeout":"fail"}`}},
		{`{"kind":"manual","timeout":{"at":"` + at + `","on_timeout":"cancel"}}`, []string{"/timeout/on_timeout", `"cancel"`}},
		{`{"kind":"timer","at":"` + at + `","timeout":{"at":"` + at + `","on_timeout":"resume","state_patch":{"late":true}}}`, []string{"/timeout/state_patch", `{"late":true}`}},
		{`{"kind":"manual","timeout":{"at":"` + at + `","on_timeout":"resume","state_patch":null}}`, []string{"/timeout/state_patch", `null`}},
		{`{"kind":"any_of","conditions":[{"kind":"timer","at":"` + at + `"},` + event7 + `,{"kind":"callback"},{"kind":"manual"},{"kind":"callback","verify":{"scheme":"slack","secret":"hush-hush"}}]}`, []string{
			"/kind", `"any_of"`, "/at", "", "/url", "", "/conditions/0", `{"kind":"timer","at":` + text + `}`, "/conditions/1", event7,
			"/conditions/3", `{"kind":"manual"}`, "/conditions/4/verify", `{"scheme":"slack"}`, "/conditions/5", "",
		}},
		{`{"kind":"any_of","conditions":[` + strings.Repeat(event7+",", 15) + event7 + `]}`, []string{"/conditions/15", event7}},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, c := range cases {
			path, a := api.waiting(c.wait)
			for i := 0; i < len(c.want); i += 2 {
				a.has("/wait"+c.want[i], c.want[i+1])
			}
			wantText(t, c.wait+", read", api.get(path).body, a.body)
			a.has("/resumed_by", "null", "/wait/generation", "2", "/wait/since", a.at("/updated_at"))
			if got, want := strings.Count(a.body, "/callbacks/"), strings.Count(c.wait, "callback"); got != want {
				t.Errorf("%s: %d URLs, want %d: %s", c.wait, got, want, a.body)
			}
			wantText(t, c.wait+", trail", api.kinds(path), "created 0, started 1, waiting 2")
			all := a.body + api.get(path+"/events").body + api.get("/events?limit=500").body + api.get("/flows").body + api.get(path+"/wait").body + api.logged.String()
			if strings.Contains(all, "hush-hush") || strings.Contains(all, "callback_key") || strings.Contains(all, "plain:") {
				t.Errorf("%s: something secret is shown", c.wait)
			}
			if trail := api.get(path + "/events").body; strings.Contains(trail, "/callbacks/") {
				t.Errorf("the trail has a URL: %s", trail)
			}
			api.post(path+"/resume", "").want(200).has("/wait", "null", "/resumed_by/kind", `"manual"`)
		}
		_, a := api.waiting(`{"kind":"timer","after":"PT90.5S","timeout":{"after":"P1DT1S","on_timeout":"resume"}}`)
		a.has("/wait/at", seconds(t, a.at("/wait/since"), 90.5), "/wait/timeout/at", seconds(t, a.at("/wait/since"), 86401))
	})
}

// TestWaitsThatAreRefused wants the right problem and place, and a flow that is as it was.
func TestWaitsThatAreRefused(t *testing.T) {
	const form, values = "invalid-request", "invalid-value"
	verify := func(members string) string { return `{"kind":"callback","verify":{` + members + `}}` }
	timeout := func(members string) string { return `{"kind":"manual","timeout":{` + members + `}}` }
	anyOf := func(conditions ...string) string {
		return `{"kind":"any_of","conditions":[` + strings.Join(conditions, ",") + `]}`
	}
	manual := `{"kind":"manual"}`
	past := time.Now().Add(horizon + time.Hour).UTC().Format(time.RFC3339)
	cases := []struct{ wait, slug, pointers string }{
		{`null`, form, "/wait"}, {`{}`, form, "/wait/kind"}, {`{"kind":"timers"}`, values, "/wait/kind"}, {`{"kind":1}`, form, "/wait/kind"},
		{`{"kind":"timer"}`, form, "/wait"}, {`{"kind":"timer","at":"2027-01-01T00:00:00Z","after":"PT1S"}`, form, "/wait"},
		{`{"kind":"timer","at":"tomorrow"}`, values, "/wait/at"}, {`{"kind":"timer","at":1}`, form, "/wait/at"},
		{`{"kind":"timer","after":"-PT1S"}`, values, "/wait/after"}, {`{"kind":"timer","after":"soon"}`, values, "/wait/after"}, {`{"kind":"timer","after":"P1.5Y"}`, values, "/wait/after"},
		{`{"kind":"timer","after":"P"}`, values, "/wait/after"}, {`{"kind":"timer","after":""}`, values, "/wait/after"},
		{`{"kind":"timer","after":"P2Y"}`, values, "/wait/after"}, {`{"kind":"timer","at":"` + past + `"}`, values, "/wait/at"}, {`{"kind":"timer","after":"P9999Y"}`, values, "/wait/after"},
		{`{"kind":"timer","after":"PT1S","topic":"t"}`, form, "/wait/topic"}, {`{"kind":"manual","at":"2027-01-01T00:00:00Z"}`, form, "/wait/at"}, {`{"kind":"manual","after":"PT1S"}`, form, "/wait/after"},
		{`{"kind":"manual","verify":{"scheme":"github","secret":"s"}}`, form, "/wait/verify"}, {`{"kind":"callback","correlation_id":"c"}`, form, "/wait/correlation_id"},
		{`{"kind":"manual","url":"http://x"}`, form, "/wait/url"}, {`{"kind":"manual","generation":1}`, form, "/wait/generation"},
		{`{"kind":"external_event","correlation_id":"c"}`, form, "/wait/topic"}, {`{"kind":"external_event","topic":"t"}`, form, "/wait/correlation_id"},
		{`{"kind":"external_event"}`, form, "/wait/topic /wait/correlation_id"}, {`{"kind":"external_event","topic":"","correlation_id":"c"}`, values, "/wait/topic"},
		{`{"kind":"external_event","topic":"t","correlation_id":"` + repeated(257) + `"}`, values, "/wait/correlation_id"},
		{`{"kind":"any_of"}`, form, "/wait/conditions"}, {anyOf(), values, "/wait/conditions"}, {anyOf(manual), values, "/wait/conditions"}, {anyOf(strings.Split(strings.Repeat(manual+" ", 17), " ")[:17]...), values, "/wait/conditions"},
		{anyOf(manual, anyOf(manual, manual)), form, "/wait/conditions/1/conditions /wait/conditions/1/kind"}, {anyOf(manual, `{"kind":"any_of"}`), values, "/wait/conditions/1/kind"},
		{anyOf(manual, `{"kind":"timer"}`), form, "/wait/conditions/1"}, {anyOf(manual, `{"kind":"timer","after":"P2Y"}`), values, "/wait/conditions/1/after"}, {anyOf(manual, `{"kind":"callback","topic":"t"}`), form, "/wait/conditions/1/topic"},
		{anyOf(manual, `{"kind":"manual","timeout":{"after":"PT1S","on_timeout":"fail"}}`), form, "/wait/conditions/1/timeout"},
		{`{"kind":"any_of","topic":"t","conditions":[` + manual + `,` + manual + `]}`, form, "/wait/topic"}, {`{"kind":"manual","conditions":[` + manual + `,` + manual + `]}`, form, "/wait/conditions"},
		{timeout(`"after":"PT1S"`), form, "/wait/timeout/on_timeout"}, {timeout(`"on_timeout":"fail"`), form, "/wait/timeout"}, {timeout(`"after":"PT1S","on_timeout":"explode"`), values, "/wait/timeout/on_timeout"},
		{timeout(`"after":"P2Y","on_timeout":"fail"`), values, "/wait/timeout/after"}, {timeout(`"after":"PT1S","on_timeout":"fail","state_patch":{}`), values, "/wait/timeout/state_patch"},
		{timeout(`"after":"PT1S","on_timeout":"cancel","state_patch":null`), values, "/wait/timeout/state_patch"},
		{`{"kind":"manual","details":[]}`, form, "/wait/details"}, {`{"kind":"manual","details":"x"}`, form, "/wait/details"}, {`{"kind":"manual","details":null}`, form, "/wait/details"},
		{verify(`"scheme":"github"`), form, "/wait/verify/secret"}, {verify(`"secret":"s"`), form, "/wait/verify/scheme"}, {verify(`"scheme":"paypal","secret":"s"`), values, "/wait/verify/scheme"},
		{verify(`"scheme":"github","secret":""`), values, "/wait/verify/secret"}, {verify(`"scheme":"standard-webhooks","secret":"not base64!"`), values, "/wait/verify/secret"},
		{verify(`"scheme":"standard-webhooks","secret":"whsec_"`), values, "/wait/verify/secret"}, {verify(`"scheme":"github","secret":"` + strings.Repeat("s", 1025) + `"`), values, "/wait/verify/secret"},
		{verify(`"scheme":"github","secret":"s","header":"X-Mine"`), form, "/wait/verify/header"}, {verify(`"scheme":"hmac-sha256","secret":"s","header":"X Mine"`), values, "/wait/verify/header"},
		{anyOf(manual, verify(`"scheme":"standard-webhooks","secret":"x!"`)), values, "/wait/conditions/1/verify/secret"},
	}
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		before := api.get(path).body
		for _, c := range cases {
			a := api.post(path+"/wait", `{"wait":`+c.wait+`}`)
			if status := problems[c.slug]; a.status != status {
				t.Errorf("%s: %d, want %d: %s", shorten(c.wait), a.status, status, a.body)
				continue
			}
			a.problem(problems[c.slug], c.slug).pointers(strings.Fields(c.pointers)...)
		}
		big := timeout(`"after":"PT1H","on_timeout":"resume","state_patch":` + padded(maxState+1))
		api.post(path+"/wait", `{"wait":`+big+`}`).problem(413, "payload-too-large")
		api.post(path+"/wait", `{"wait":{"kind":"manual","details":{"a":`+padded(maxState)+`}}}`).problem(413, "payload-too-large")
		wantText(t, "the flow", api.get(path).body, before)
		wantText(t, "the trail", api.kinds(path), "created 0, started 1")
		// Together with what the flow has, the patch of a timeout would be over the limit; nobody could refuse it later.
		api.post(path+"/state", `{"patch":{"a":`+padded(maxState-100)+`}}`).want(200)
		api.post(path+"/wait", `{"wait":`+timeout(`"after":"PT1H","on_timeout":"resume","state_patch":{"b":`+padded(200)+`}`)+`}`).problem(413, "payload-too-large")
		api.post(path+"/wait", `{"wait":`+timeout(`"after":"PT1H","on_timeout":"fail"`)+`}`).want(200)
	})
}

// TestTimesThatArePast fires them in the wait's own commit, ties by the order of the list and the timeout last.
func TestTimesThatArePast(t *testing.T) {
	const old = `"at":"2020-01-01T00:00:00Z"`
	cases := []struct{ wait, status, kinds, kind, condition string }{
		{`{"kind":"timer",` + old + `}`, "running", "waiting 2, resumed 3", `"timer"`, "null"},
		{`{"kind":"timer","after":"PT0S"}`, "running", "waiting 2, resumed 3", `"timer"`, "null"},
		{`{"kind":"any_of","conditions":[{"kind":"callback"},{"kind":"timer",` + old + `},{"kind":"timer","at":"2019-01-01T00:00:00Z"}]}`, "running", "waiting 2, resumed 3", `"timer"`, "1"},
		{`{"kind":"timer",` + old + `,"timeout":{` + old + `,"on_timeout":"fail"}}`, "running", "waiting 2, resumed 3", `"timer"`, "null"},
		{`{"kind":"manual","timeout":{` + old + `,"on_timeout":"resume","state_patch":{"late":1.10}}}`, "running", "waiting 2, resumed 3", `"timeout"`, "null"},
		{`{"kind":"manual","timeout":{` + old + `,"on_timeout":"fail"}}`, "failed", "waiting 2, failed 3", "", ""},
		{`{"kind":"callback","timeout":{` + old + `,"on_timeout":"cancel"}}`, "cancelled", "waiting 2, cancelled 3", "", ""},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, c := range cases {
			path := api.running("")
			a := api.post(path+"/wait", `{"wait":`+c.wait+`}`).want(200)
			a.has("/status", quoted(c.status), "/wait", "null", "/revision", "3", "/resumed_by/kind", c.kind, "/resumed_by/condition", c.condition)
			wantText(t, c.wait, api.kinds(path), "created 0, started 1, "+c.kinds)
			trail := api.trail(path)
			if last := trail[3]; last.Actor != "timer" || last.At != trail[2].At || trail[2].Actor != "anonymous" {
				t.Errorf("%s left %+v", c.wait, trail[2:])
			}
			if strings.Contains(c.wait, "late") {
				a.has("/state", `{"late":1.10}`)
			}
		}
	})
}

// TestWaitsInBatches runs waits among other commands, and refuses a bad one alone.
func TestWaitsInBatches(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		a, b, c := api.running(""), api.running(""), api.running("")
		out := api.batch(
			command("POST", a+"/wait", `,"body":{"wait":{"kind":"callback"}}`), command("POST", b+"/wait", `,"body":{"wait":{"kind":"timer"}}`),
			command("POST", c+"/wait", `,"body":{"wait":{"kind":"timer","after":"PT0S"}},"if_match":"\"1\"","idempotency_key":"k"`),
			command("POST", c+"/wait", `,"body":{"wait":`+event7+`},"if_match":"\"3\""`), command("POST", c+"/wait", `,"body":{"wait":`+event7+`}`),
		)
		for i, status := range []int{200, 400, 200, 200, 409} {
			out[i].want(status)
		}
		out[0].has("/wait/url", api.get(a).at("/wait/url"))
		out[1].problem(400, "invalid-request").pointers("/wait")
		out[2].has("/resumed_by/kind", `"timer"`, "/revision", "3")
		out[4].problem(409, "illegal-transition")
	})
}

func TestRepeatedAndConditionalWaits(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		body := `{"wait":{"kind":"callback","verify":{"scheme":"github","secret":"hush-hush"}}}`
		api.post(path+"/wait", body, `If-Match: "0"`).problem(409, "revision-conflict")
		first := api.post(path+"/wait", body, `If-Match: "1"`, "Idempotency-Key: k").want(200)
		again := api.post(path+"/wait", body, `If-Match: "1"`, "Idempotency-Key: k").want(200).hasHeader("Idempotent-Replayed", "true")
		wantText(t, "the repeat", again.body, first.body)
		api.post(path+"/wait", manualWait, `If-Match: "1"`, "Idempotency-Key: k").problem(422, "idempotency-key-reused")
		api.post(path+"/resume", "", `If-Match: "1"`).problem(409, "revision-conflict").has("/flow/wait/url", first.at("/wait/url"))
	})
}

// TestWaitsInListsAndCounts filters by each kind of wait, and wants the next time at which one is due.
func TestWaitsInListsAndCounts(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		api.get("/stats").has("/next_timer", "null")
		ids := map[string]string{}
		var due string
		for kind, wait := range map[string]string{
			"timer": `{"kind":"timer","after":"P2D"}`, "external_event": event7, "callback": `{"kind":"callback"}`, "manual": `{"kind":"manual","timeout":{"after":"P1D","on_timeout":"fail"}}`,
			"any_of": `{"kind":"any_of","conditions":[{"kind":"timer","after":"P3D"},{"kind":"manual"}]}`,
		} {
			path, a := api.waiting(wait)
			if ids[kind] = path; kind == "manual" {
				due = a.at("/wait/timeout/at")
			}
		}
		for kind, path := range ids {
			if got := api.get("/flows?wait_kind=" + kind).flows(); len(got) != 1 || "/flows/"+got[0].ID != path {
				t.Errorf("%s: %v", kind, got)
			}
		}
		api.get("/flows?wait_kind=timeout").problem(400, "invalid-request")
		api.get("/stats").has("/next_timer", due, "/due_next/0/due_at", due, "/due_next/0/flow_id", quoted(ids["manual"][len("/flows/"):]),
			"/due_next/0/controller_id", api.get(ids["manual"]).at("/controller_id"), "/due_next/0/goal", api.get(ids["manual"]).at("/goal"),
			"/due_next/1/flow_id", quoted(ids["timer"][len("/flows/"):]), "/due_next/2/flow_id", quoted(ids["any_of"][len("/flows/"):]))
		api.post(ids["manual"]+"/resume", "").want(200)
		api.get("/stats").has("/next_timer", api.get(ids["timer"]).at("/wait/at"))
	})
}

// TestExplain asks of each kind of wait why it still waits.
func TestExplain(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		api.get(noFlow()+"/wait").problem(404, "not-found")
		api.get("/flows/x/wait").problem(404, "not-found")
		for _, status := range statuses {
			if status != "waiting" {
				api.get(api.inStatus(status)+"/wait").problem(409, "not-waiting")
			}
		}
		for wait, kinds := range map[string]string{
			`{"kind":"manual"}`: "manual", `{"kind":"timer","after":"P1D"}`: "timer manual", event7: "external_event manual", `{"kind":"callback"}`: "callback manual",
			`{"kind":"callback","verify":{"scheme":"stripe","secret":"hush-hush"},"timeout":{"after":"P1D","on_timeout":"cancel"}}`:                           "callback timeout manual",
			`{"kind":"any_of","conditions":[{"kind":"manual"},` + event7 + `,{"kind":"timer","after":"P1D"}],"timeout":{"after":"PT1H","on_timeout":"fail"}}`: "external_event timer timeout manual",
		} {
			path, a := api.waiting(wait)
			e := api.get(path + "/wait").want(200)
			e.has("/flow_id", a.at("/id"), "/revision", "2", "/wait", a.at("/wait"), "/near_events", "[]")
			var list []struct {
				Kind      string
				Condition *int
				CanHappen bool `json:"can_happen"`
				At        string
			}
			decode(t, e.at("/conditions"), &list)
			var got []string
			next := "null"
			for _, one := range list {
				got = append(got, one.Kind)
				if at := quoted(one.At); one.At != "" && (next == "null" || at < next) {
					next = at
				}
				if !one.CanHappen || one.Condition != nil && a.at(fmt.Sprintf("/wait/conditions/%d/kind", *one.Condition)) != quoted(one.Kind) {
					t.Errorf("%s: %+v", wait, one)
				}
			}
			wantText(t, wait, strings.Join(got, " "), kinds)
			e.has("/next_due", next)
			if strings.Contains(e.body, "hush-hush") {
				t.Error("the secret is shown")
			}
		}
	})
}

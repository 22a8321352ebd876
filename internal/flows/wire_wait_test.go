package flows_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
)

const secret = "whsec_<never shown>"

// waits has every kind of wait, with as little and as much as it can have, by its JSON. In that (key) and (secret) stand
// for what is stored and never shown, (url 0) for what is shown and never stored.
func waits() map[string]*flows.Wait {
	since := time.Date(2026, 4, 23, 15, 0, 0, 7000, time.UTC)
	at := since.Add(time.Hour + time.Microsecond)
	manual, callback := flows.Condition{Kind: flows.WaitManual}, flows.Condition{Kind: flows.WaitCallback}
	signed := flows.Condition{Kind: flows.WaitCallback, Verify: &flows.Verify{Scheme: "github", Secret: secret}}
	hmac := flows.Condition{Kind: flows.WaitCallback, Verify: &flows.Verify{Scheme: "hmac-sha256", Header: "X-Sig", Secret: secret}}
	timer := flows.Condition{Kind: flows.WaitTimer, At: at}
	event := flows.Condition{Kind: flows.WaitExternalEvent, Pair: flows.Pair{Topic: "pay \"<&é", CorrelationID: "o/7"}}
	const rest = `"generation":3,"since":"2026-04-23T15:00:00.000007Z"`
	const when = `"at":"2026-04-23T16:00:00.000008Z"`
	const pair = `"topic":"pay \"<&é","correlation_id":"o/7"`
	of := func(alter func(*flows.Wait), conditions ...flows.Condition) *flows.Wait {
		w := &flows.Wait{Kind: conditions[0].Kind, Conditions: conditions, Generation: 3, Since: since}
		if len(conditions) > 1 {
			w.Kind = flows.WaitAnyOf
		}
		for _, c := range conditions {
			if c.Kind == flows.WaitCallback {
				w.CallbackKey = "key-1"
			}
		}
		alter(w)
		return w
	}
	as := func(*flows.Wait) {}
	timeout := func(then flows.TimeoutAction, patch string) func(*flows.Wait) {
		return func(w *flows.Wait) {
			w.Timeout = &flows.Timeout{At: at, Then: then}
			if patch != "" {
				w.Timeout.Patch = json.RawMessage(patch)
			}
		}
	}
	return map[string]*flows.Wait{
		`null`:                           nil,
		`{"kind":"manual",` + rest + `}`: of(as, manual),
		`{"kind":"timer",` + when + `,` + rest + `}`:                                        of(as, timer),
		`{"kind":"external_event",` + pair + `,` + rest + `}`:                               of(as, event),
		`{"kind":"callback"(url 0),` + rest + `(key)}`:                                      of(as, callback),
		`{"kind":"callback"(url 0),"verify":{"scheme":"github"(secret)},` + rest + `(key)}`: of(as, signed),
		`{"kind":"manual","generation":9007199254740993,"since":"2026-04-23T15:00:00.000007Z","details":{"n":1.10,"t":"<&é"}}`: of(
			func(w *flows.Wait) {
				w.Generation, w.Details = 9007199254740993, json.RawMessage(`{"n":1.10,"t":"<&é"}`)
			}, manual),
		`{"kind":"manual","timeout":{` + when + `,"on_timeout":"fail"},` + rest + `}`:               of(timeout(flows.TimeoutFails, ""), manual),
		`{"kind":"timer",` + when + `,"timeout":{` + when + `,"on_timeout":"cancel"},` + rest + `}`: of(timeout(flows.TimeoutCancels, ""), timer),
		`{"kind":"manual","timeout":{` + when + `,"on_timeout":"resume","state_patch":{"n":1.10}},` + rest + `}`: of(
			timeout(flows.TimeoutResumes, `{"n":1.10}`), manual),
		`{"kind":"manual","timeout":{` + when + `,"on_timeout":"resume","state_patch":null},` + rest + `}`: of(
			timeout(flows.TimeoutResumes, `null`), manual),
		`{"kind":"any_of","conditions":[{"kind":"manual"},{"kind":"timer",` + when + `},{"kind":"external_event",` + pair +
			`},{"kind":"callback"(url 3)},{"kind":"callback"(url 4),"verify":{"scheme":"hmac-sha256","header":"X-Sig"(secret)}}],` +
			rest + `,"details":{}(key)}`: of(func(w *flows.Wait) { w.Details = json.RawMessage(`{}`) }, manual, timer, event, callback, hmac),
	}
}

// waitText fills in or leaves out what is not always there.
func waitText(pattern string, stored, urls bool) string {
	fill := map[string]string{"(key)": "", "(secret)": ""}
	if stored {
		fill["(key)"], fill["(secret)"] = `,"callback_key":"key-1"`, `,"secret":"`+secret+`"`
	}
	for i := range 5 {
		name := fmt.Sprintf("(url %d)", i)
		if fill[name] = ""; urls {
			fill[name] = fmt.Sprintf(`,"url":"https://example.org/%d"`, i)
		}
	}
	for name, text := range fill {
		pattern = strings.ReplaceAll(pattern, name, text)
	}
	return pattern
}

func TestWaitRoundTrip(t *testing.T) {
	for pattern, w := range waits() {
		text := flows.StoreWait(w)
		if want := waitText(pattern, true, false); string(text) != want {
			t.Errorf("stored %s, want %s", text, want)
		}
		if back, err := flows.LoadWait(text); err != nil || !reflect.DeepEqual(back, w) {
			t.Errorf("loaded %+v, %v; want %+v", back, err, w)
		}
	}
}

// TestWaitShown holds that what callers see has no secret, and a URL only where one is made for them.
func TestWaitShown(t *testing.T) {
	url := func(condition int) string { return fmt.Sprintf("https://example.org/%d", condition) }
	for pattern, w := range waits() {
		plain, linked := string(flows.EncodeWait(w, nil)), string(flows.EncodeWait(w, url))
		if want := waitText(pattern, false, false); plain != want {
			t.Errorf("shown %s, want %s", plain, want)
		}
		if want := waitText(pattern, false, true); linked != want {
			t.Errorf("shown with URLs %s, want %s", linked, want)
		}
		if strings.Contains(plain+linked, "whsec") || strings.Contains(plain+linked, "key-1") || strings.Contains(plain, "example.org") {
			t.Errorf("shown %s", linked)
		}
	}
}

// TestTrailHasNoSecrets begins and ends waits with secrets in every way: no event tells of them.
func TestTrailHasNoSecrets(t *testing.T) {
	callback := flows.ConditionSpec{Kind: flows.WaitCallback, Verify: &flows.Verify{Scheme: "github", Secret: secret}}
	for name, a := range map[string]flows.SetWait{"one": anyOf(callback),
		"several": anyOf(callback, specTimer(in(10)), specEvent(payment), callback)} {
		waits := begun(t, a)
		for _, c := range waits.Wait.Conditions {
			if c.Kind == flows.WaitCallback && (c.Verify == nil || c.Verify.Secret != secret) {
				t.Errorf("%s: the flow waits for %+v", name, c)
			}
		}
		actions := []flows.Action{flows.Resume{}, flows.Cancel{}, flows.FireDue{Generation: 6}, endings()["event"],
			flows.EndByCallback{Generation: 6, Key: "key-1", Verified: true, Payload: json.RawMessage(`{}`)}}
		begins, err := decide(flowIn(flows.Running, false), noon, a)
		changes := []flows.Change{begins}
		for _, action := range actions {
			change, errAction := decide(waits, in(20), action)
			if errAction == nil {
				changes = append(changes, change)
			}
		}
		if err != nil || len(changes) < 4 {
			t.Fatalf("%s: %d changes, %v", name, len(changes), err)
		}
		for _, change := range changes {
			for _, e := range change.Events {
				if text := string(e.Payload); strings.Contains(text, "whsec") || strings.Contains(text, "key-1") || strings.Contains(text, "url") {
					t.Errorf("%s: %s %s", name, e.Kind, text)
				}
			}
		}
	}
}

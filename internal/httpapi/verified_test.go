package httpapi_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/httpapi"
	"taskflow/internal/sqlite"
	"taskflow/internal/sqlite/sqlitetest"
)

// hush is the secret of every verified callback here, as standard-webhooks writes one.
const hush = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func macOf(key, text string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// sign is what a sender of the scheme adds to a body at a time: header lines. The schemes themselves are held to their
// providers' examples elsewhere.
func sign(t testing.TB, scheme, body string, at time.Time) []string {
	t.Helper()
	seconds := strconv.FormatInt(at.Unix(), 10)
	switch scheme {
	case "standard-webhooks":
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(hush, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		return []string{"webhook-id: m", "webhook-timestamp: " + seconds, "webhook-signature: v1,eA== v1," + base64.StdEncoding.EncodeToString(macOf(string(key), "m."+seconds+"."+body))}
	case "github":
		return []string{"X-Hub-Signature-256: sha256=" + hex.EncodeToString(macOf(hush, body))}
	case "stripe":
		return []string{"Stripe-Signature: t=" + seconds + ",v1=00,v1=" + hex.EncodeToString(macOf(hush, seconds+"."+body))}
	case "slack":
		return []string{"X-Slack-Request-Timestamp: " + seconds, "X-Slack-Signature: v0=" + hex.EncodeToString(macOf(hush, "v0:"+seconds+":"+body))}
	}
	return []string{"X-Signature: " + hex.EncodeToString(macOf(hush, body))}
}

func verifiedWait(scheme string) string {
	return `{"kind":"callback","verify":{"scheme":"` + scheme + `","secret":"` + hush + `"}}`
}

// TestVerifiedCallbacks refuses what is not signed, on both ways to end the wait, and takes what is.
func TestVerifiedCallbacks(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	eachStore(t, func(t *testing.T, api *client) {
		const body = `{ "ok" : true }` // the bytes as sent are signed
		for _, scheme := range flows.VerifySchemes {
			now := time.Now()
			for _, reject := range []string{"", "/reject"} {
				flow, url := api.callback(verifiedWait(scheme))
				good := sign(t, scheme, body, now)
				bad := map[string][]string{"no signature": nil, "another body's": sign(t, scheme, `{"ok":true}`, now), "cut off": {good[len(good)-1][:len(good[len(good)-1])-6]}}
				if timed := scheme != "github" && scheme != "hmac-sha256"; timed {
					bad["stale"], bad["of the future"] = sign(t, scheme, body, now.Add(-6*time.Minute)), sign(t, scheme, body, now.Add(6*time.Minute))
				}
				before := api.get(flow).body
				for what, headers := range bad {
					if a := api.post(url+reject, body, headers...); a.status != 401 {
						t.Errorf("%s, %s: %d %s", scheme, what, a.status, a.body)
					} else {
						a.problem(401, "unauthenticated").hasHeader("WWW-Authenticate", "Signature")
					}
				}
				wantText(t, scheme+", the flow", api.get(flow).body, before)
				wantText(t, scheme, api.post(url+reject, body, good...).want(200).body, resumed)
				outcome := `"resumed"`
				if reject != "" {
					outcome = `"rejected"`
				}
				api.get(flow).has("/state", `{"resume_event":{"ok":true}}`, "/resumed_by/outcome", outcome)
				wantText(t, scheme+", repeated", api.post(url+reject, body, good...).want(200).body, alreadyResumed)
				if all := api.get(flow).body + api.get(flow+"/events").body + api.get("/events?limit=500").body + api.logged.String(); strings.Contains(all, hush) {
					t.Errorf("%s: the secret is shown", scheme)
				}
			}
		}
	}, func(s *setup) { s.options.SecretKey = key })
}

// TestConditionsAreVerifiedEach wants a signature of the condition that asks for one, and of no other.
func TestConditionsAreVerifiedEach(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow, a := api.waiting(`{"kind":"any_of","conditions":[` + verifiedWait("github") + `,{"kind":"callback"}]}`)
		api.post(strings.Trim(a.at("/wait/conditions/0/url"), `"`), "{}").problem(401, "unauthenticated")
		api.post(strings.Trim(a.at("/wait/conditions/1/url"), `"`), "{}").want(200)
		api.get(flow).has("/resumed_by/condition", "1")
		longest := `"secret":"` + strings.Repeat("s", 1024) + `"`
		api.waiting(`{"kind":"callback","verify":{"scheme":"github",` + longest + `}}`)
	}, func(s *setup) { s.options.SecretKey = bytes.Repeat([]byte{7}, 32) })
}

// TestSecretsAreSealed starts servers with other keys on one file.
func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	path := sqlitetest.File(t)
	with := func(key byte) *client {
		return openSQLite(t, path, func(s *setup) {
			if s.options.SecretKey = nil; key != 0 {
				s.options.SecretKey = bytes.Repeat([]byte{key}, 32)
			}
		})
	}
	stop := func(c *client) { c.stopEngine(); c.closeStore() }
	first := with(1)
	flow, url := first.callback(verifiedWait("github"))
	signature := sign(t, "github", "{}", time.Now())
	stop(first)
	for _, name := range []string{path, path + "-wal"} {
		if file, err := os.ReadFile(name); err == nil && bytes.Contains(file, []byte(hush)) {
			t.Errorf("%s has the secret", name)
		}
	}
	for _, key := range []byte{2, 0} {
		other := with(key)
		before := other.snapshot()
		p := other.post(url, "{}", append(signature, "X-Request-Id: sealed-request")...).problem(500, "internal")
		wantText(t, "the answer", p.body, `{"type":"/problems/internal","title":"Internal error","status":500,"detail":"Something went wrong here. The log has the rest, under the request's id.","instance":"sealed-request"}`)
		other.post(url, "{}").problem(500, "internal")
		if !strings.Contains(other.logged.String(), "request_id=sealed-request") {
			t.Error("the log does not have the cause")
		}
		wantText(t, "what is recorded", other.snapshot(), before)
		if strings.Contains(other.logged.String(), hush) || strings.Contains(other.logged.String(), strings.TrimPrefix(url, "/callbacks/")) {
			t.Error("the log has the secret or the token")
		}
		stop(other)
	}
	again := with(1)
	again.post(url, "{}", signature...).want(200)
	again.get(flow).has("/status", `"running"`)
}

// TestRotatedKeys wants the URLs of the old key to live, and new ones to be of the new key once it has settled.
func TestRotatedKeys(t *testing.T) {
	t.Parallel()
	path := sqlitetest.File(t)
	addKey := func(age time.Duration) {
		db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.AddCallbackKey(t.Context(), httpapi.NewCallbackKey(time.Now().Add(-age)), false); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	keyOf := func(url string) string { return strings.TrimPrefix(url, "/callbacks/")[:8] }
	addKey(2 * time.Hour)
	first := openSQLite(t, path)
	flow, old := first.callback(callbackWait)
	first.stopEngine()
	first.closeStore()
	addKey(time.Hour)
	addKey(0)
	second := openSQLite(t, path)
	_, settled := second.callback(callbackWait)
	if keyOf(settled) == keyOf(old) {
		t.Error("the new key does not sign")
	}
	second.stopEngine()
	second.closeStore()
	third := openSQLite(t, path)
	if _, again := third.callback(callbackWait); keyOf(again) != keyOf(settled) {
		t.Error("a key signs before other servers have it")
	}
	third.get(flow).has("/wait/url", quoted(old))
	third.post(old, "{}").want(200)
	third.post(settled+"/reject", "{}").want(200)
}

// TestBatchLogsItsFailureOnce, also where its answer is stored, and so put together before it is given.
func TestBatchLogsItsFailureOnce(t *testing.T) {
	api := serveSQLite(t, func(s *setup) { s.withoutKey = true })
	flow := api.running("")
	state, wait := command("POST", flow+"/state", `,"body":{"patch":{"a":1}}`), command("POST", flow+"/wait", `,"body":{"wait":`+callbackWait+`}`)
	for i, headers := range [][]string{nil, {"Idempotency-Key: once"}} {
		out := results(api.post("/batch", batchOf(state, wait, wait), headers...))
		out[0].want(200)
		out[1].problem(503, "unavailable")
		if n := strings.Count(api.logged.String(), "command of a batch failed"); n != i+1 {
			t.Errorf("after %d batches the log has %d lines:\n%s", i+1, n, api.logged)
		}
	}
}

// TestServerWithoutACallbackKey waits for everything but callbacks, and is not ready.
func TestServerWithoutACallbackKey(t *testing.T) {
	api := serveSQLite(t, func(s *setup) { s.withoutKey = true })
	api.get("/readyz").problem(503, "unavailable")
	flow := api.running("")
	for _, wait := range []string{callbackWait, `{"kind":"any_of","conditions":[{"kind":"manual"},{"kind":"callback"}]}`} {
		api.refused(503, "unavailable", "POST", flow+"/wait", `{"wait":`+wait+`}`)
	}
	api.post(flow+"/wait", manualWait).want(200)
	token := strings.Repeat("A", 84) // of some key
	for _, path := range []string{"/callbacks/" + token, "/callbacks/" + token + "/reject"} {
		api.refused(503, "unavailable", "POST", path, "").hasHeader("Retry-After", "1")
	}
	api.get("/callbacks/"+token).problem(503, "unavailable")
	api.post("/callbacks/AAAA", "").problem(404, "not-found") // of none
}

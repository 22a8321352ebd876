package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
)

// signed is a message and the headers that carry its signature.
type signed struct {
	scheme, header, secret, body string
	at                           int64 // when it was signed, in Unix seconds; 0 where the scheme has no timestamp
	headers                      map[string]string
}

const slackBody = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar" +
	"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands" +
	"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"

// examples are the providers' own where they publish one; the others follow the words of the document that is named.
var examples = map[string]signed{
	// github.com/standard-webhooks/standard-webhooks, the test vectors of its libraries.
	"standard-webhooks": {scheme: "standard-webhooks", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", body: `{"test": 2432232314}`, at: 1614265330, headers: map[string]string{
		"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
	}},
	// docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation".
	"github": {scheme: "github", secret: "It's a Secret to Everybody", body: "Hello, World!", headers: map[string]string{
		"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
	}},
	// docs.slack.dev, "Verifying requests from Slack", the worked example.
	"slack": {scheme: "slack", secret: "8f742231b10e8888abcd99yyyzzz85a5", body: slackBody, at: 1531420618, headers: map[string]string{
		"X-Slack-Request-Timestamp": "1531420618", "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
	}},
	// docs.stripe.com, "Verify webhook signatures manually": no example with its secret is published.
	"stripe": {scheme: "stripe", secret: "whsec_test", body: `{"id":"evt_1"}`, at: 1492774577, headers: map[string]string{
		"Stripe-Signature": "t=1492774577,v1=" + hex.EncodeToString(sum([]byte("whsec_test"), []byte(`1492774577.{"id":"evt_1"}`))) + ",v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39",
	}},
	// RFC 4231, test case 2.
	"hmac-sha256": {scheme: "hmac-sha256", secret: "Jefe", body: "what do ya want for nothing?", headers: map[string]string{
		"X-Signature": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
	}},
}

// verify checks the message some seconds after it was signed, with some headers changed: "" is a header that is missing.
func (s signed) verify(age time.Duration, changes map[string]string) bool {
	header := http.Header{}
	for name, value := range s.headers {
		header.Set(name, value)
	}
	for name, value := range changes {
		header.Del(name)
		if value != "" {
			header.Set(name, value)
		}
	}
	return verifiers[s.scheme](&flows.Verify{Scheme: s.scheme, Header: s.header}, s.secret, header, []byte(s.body), time.Unix(s.at, 0).Add(age))
}

func TestPublishedSignatures(t *testing.T) {
	if len(verifiers) != len(flows.VerifySchemes) {
		t.Errorf("%d verifiers for %d schemes", len(verifiers), len(flows.VerifySchemes))
	}
	for _, scheme := range flows.VerifySchemes {
		t.Run(scheme, func(t *testing.T) {
			s, known := examples[scheme]
			if !known || !s.verify(0, nil) {
				t.Fatal("the example is refused")
			}
			for name := range s.headers {
				if s.verify(0, map[string]string{name: ""}) {
					t.Errorf("accepted without %s", name)
				}
				for _, bad := range []string{"x", "0", "-1", "t=", "v1,", "v0=", "sha256=", "v1,====", "sha256=zz", "99999999999999999999", "-9223372036854775808", "9223372036854775807"} {
					if s.verify(0, map[string]string{name: bad}) {
						t.Errorf("accepted with %s: %s", name, bad)
					}
				}
			}
			for what, other := range map[string]signed{
				"body": {scheme, s.header, s.secret, s.body + " ", s.at, s.headers}, "empty body": {scheme, s.header, s.secret, "", s.at, s.headers},
				"secret": {scheme, s.header, strings.ToLower(s.secret) + "AAAA", s.body, s.at, s.headers},
			} {
				if other.verify(0, nil) {
					t.Errorf("accepted with another %s", what)
				}
			}
		})
	}
}

// TestAgeOfSignatures wants five minutes either way where the scheme signs a time, and no limit where it does not.
func TestAgeOfSignatures(t *testing.T) {
	for scheme, s := range examples {
		for age, within := range map[time.Duration]bool{
			5 * time.Minute: true, -5 * time.Minute: true, 5*time.Minute + time.Second: false, -5*time.Minute - time.Second: false, 1000 * time.Hour: false,
		} {
			if got, want := s.verify(age, nil), within || s.at == 0; got != want {
				t.Errorf("%s after %s: %t, want %t", scheme, age, got, want)
			}
		}
	}
}

// TestTimestampsAreSigned moves the timestamp without signing again.
func TestTimestampsAreSigned(t *testing.T) {
	for scheme, name := range map[string]string{"standard-webhooks": "webhook-timestamp", "slack": "X-Slack-Request-Timestamp"} {
		s := examples[scheme]
		if s.verify(time.Second, map[string]string{name: strconv.FormatInt(s.at+1, 10)}) {
			t.Errorf("%s: accepted another timestamp", scheme)
		}
	}
	s := examples["stripe"]
	if s.verify(time.Second, map[string]string{"Stripe-Signature": strings.Replace(s.headers["Stripe-Signature"], "t=1492774577", "t=1492774578", 1)}) {
		t.Error("stripe: accepted another timestamp")
	}
	if s := examples["standard-webhooks"]; s.verify(0, map[string]string{"webhook-id": "msg_other"}) {
		t.Error("standard-webhooks: accepted another id")
	}
}

// TestSeveralSignatures is a rotation of the sender's secret: one of its signatures is ours.
func TestSeveralSignatures(t *testing.T) {
	s := examples["standard-webhooks"]
	own := s.headers["webhook-signature"]
	other := "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32))
	for list, want := range map[string]bool{
		other + " " + own: true, own + " " + other: true, "v2,x v1a," + own[3:] + " " + own: true, other + " " + other: false,
		"v1a," + own[3:]: false, own[3:]: false, own + "x": false, own + "," + other: false,
	} {
		if got := s.verify(0, map[string]string{"webhook-signature": list}); got != want {
			t.Errorf("%s: %t, want %t", list, got, want)
		}
	}
	s = examples["stripe"]
	v1 := strings.Split(s.headers["Stripe-Signature"], ",")[1]
	for list, want := range map[string]bool{
		"t=1492774577,v1=" + strings.Repeat("0", 64) + "," + v1: true, v1 + ",t=1492774577": true, "t=1492774577, " + v1: true,
		"t=1492774577,v0=" + v1[3:]: false, v1: false, "t=1492774577": false, "t=1492774577,v1=": false,
	} {
		if got := s.verify(0, map[string]string{"Stripe-Signature": list}); got != want {
			t.Errorf("%s: %t, want %t", list, got, want)
		}
	}
}

// TestFormsOfPlainSignatures are those of hmac-sha256: hex or base64, with or without its name, in a header of one's own.
func TestFormsOfPlainSignatures(t *testing.T) {
	s := examples["hmac-sha256"]
	mac := sum([]byte(s.secret), []byte(s.body))
	for signature, want := range map[string]bool{
		strings.ToUpper(hex.EncodeToString(mac)): true, "sha256=" + hex.EncodeToString(mac): true, base64.StdEncoding.EncodeToString(mac): true,
		"sha1=" + hex.EncodeToString(mac): false, hex.EncodeToString(mac[:16]): false, base64.StdEncoding.EncodeToString(mac[:31]): false,
	} {
		if got := s.verify(0, map[string]string{"X-Signature": signature}); got != want {
			t.Errorf("%s: %t, want %t", signature, got, want)
		}
	}
	s.header = "X-Shop-Hmac"
	if s.verify(0, nil) {
		t.Error("another header than the wait's was read")
	}
	if !s.verify(0, map[string]string{"x-shop-hmac": s.headers["X-Signature"]}) {
		t.Error("the wait's own header was not read")
	}
}

func TestSecretsOfSchemes(t *testing.T) {
	for _, c := range []struct {
		scheme, secret string
		ok             bool
	}{
		{"standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true}, {"standard-webhooks", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true},
		{"standard-webhooks", "whsec_", false}, {"standard-webhooks", "not base64!", false}, {"standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", false},
		{"github", "not base64!", true}, {"github", strings.Repeat("\U0001F600", 256), true}, {"github", strings.Repeat("\U0001F600", 257), false},
	} {
		if err := checkSecret(c.scheme, c.secret); (err == nil) != c.ok || err != nil && len(c.secret) > 8 && strings.Contains(err.Error(), c.secret) {
			t.Errorf("%s %q: %v", c.scheme, c.secret, err)
		}
	}
}

func TestSealedSecrets(t *testing.T) {
	key := make([]byte, 32)
	sealer1, err := newSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	key2 := make([]byte, 32)
	key2[0] = 1
	sealer2, err := newSealer(key2)
	if err != nil {
		t.Fatal(err)
	}
	none, err := newSealer(nil)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "plain:my secret" // looks like what is stored
	box := sealer1.seal(secret)
	if strings.Contains(box, "secret") || box == sealer1.seal(secret) {
		t.Errorf("sealed as %s", box)
	}
	if got, err := sealer1.open(box); err != nil || got != secret {
		t.Errorf("opened %q, %v", got, err)
	}
	for _, s := range []sealer{none, sealer2} {
		if got, err := s.open(box); err == nil || strings.Contains(err.Error(), box) {
			t.Errorf("opened %q with another key, %v", got, err)
		}
	}
	for _, bad := range []string{"", "x", secret[6:], sealedPrefix, sealedPrefix + "!", sealedPrefix + "AAAA", box[:len(box)-4], box + "AAAA"} {
		if got, err := sealer1.open(bad); err == nil {
			t.Errorf("%q: opened as %q", bad, got)
		}
	}
	for _, s := range []sealer{sealer1, none} { // a key that was set later still reads what was there before
		if got, err := s.open(none.seal(secret)); err != nil || got != secret {
			t.Errorf("opened %q, %v", got, err)
		}
	}
	for _, size := range []int{0, 1, 31, 33} {
		if _, err := newSealer(make([]byte, size)); err == nil && size != 16 {
			t.Errorf("took a key of %d bytes", size)
		}
	}
}

func FuzzVerifiers(f *testing.F) {
	for _, s := range examples {
		var all []string
		for name, value := range s.headers {
			all = append(all, name+": "+value)
		}
		f.Add(s.secret, strings.Join(all, "\n"), []byte(s.body), s.at)
	}
	f.Fuzz(func(t *testing.T, secret, lines string, body []byte, at int64) {
		header := http.Header{}
		for line := range strings.Lines(lines) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			header.Set(name, value)
		}
		for _, scheme := range flows.VerifySchemes { // in one order, or the fuzzer takes each for something new
			verify := verifiers[scheme]
			v := &flows.Verify{Scheme: scheme}
			if verify(v, secret, header, body, time.Unix(at, 0)) && verify(v, secret, header, fmt.Append(body, "x"), time.Unix(at, 0)) {
				t.Fatalf("%s accepts two bodies with one signature", scheme)
			}
		}
	})
}

// FuzzSigned signs a body as each scheme's sender does: it is accepted, and refused once a bit of the signature, the secret
// or, where it is signed, the time is another.
func FuzzSigned(f *testing.F) {
	for _, body := range []string{"", "{}", `{"a":1.10}`, "\xff\x00", strings.Repeat("x", 5000)} {
		f.Add("secret", []byte(body), int64(1_700_000_000), uint8(7))
	}
	f.Add("é.:,= v1", []byte("t=1,v1=a"), int64(0), uint8(255))
	f.Fuzz(func(t *testing.T, secret string, body []byte, at int64, bit uint8) {
		if secret == "" || at < 0 || at > maxMicros/1e6 {
			return
		}
		stamp := strconv.FormatInt(at, 10)
		mac := func(prefix string) []byte { return sum([]byte(secret), []byte(prefix), body) }
		flipped := func(mac []byte) []byte {
			mac = bytes.Clone(mac)
			mac[int(bit)/8%len(mac)] ^= 1 << (bit % 8)
			return mac
		}
		plain := func(secret string) string { return secret }
		senders := map[string]struct {
			mac    []byte
			header func(mac []byte) http.Header
			timed  bool
			secret func(key string) string // as the wait has it
		}{
			"standard-webhooks": {mac("msg_1." + stamp + "."), func(m []byte) http.Header {
				return http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {"v1,AAAA v1," + base64.StdEncoding.EncodeToString(m)}}
			}, true, func(key string) string { return standardPrefix + base64.StdEncoding.EncodeToString([]byte(key)) }},
			"github": {mac(""), func(m []byte) http.Header {
				return http.Header{"X-Hub-Signature-256": {"sha256=" + hex.EncodeToString(m)}}
			}, false, plain},
			"hmac-sha256": {mac(""), func(m []byte) http.Header { return http.Header{"X-Signature": {base64.StdEncoding.EncodeToString(m)}} }, false, plain},
			"stripe": {mac(stamp + "."), func(m []byte) http.Header {
				return http.Header{"Stripe-Signature": {"t=" + stamp + ",v1=" + hex.EncodeToString(m)}}
			}, true, plain},
			"slack": {mac("v0:" + stamp + ":"), func(m []byte) http.Header {
				return http.Header{"X-Slack-Request-Timestamp": {stamp}, "X-Slack-Signature": {"v0=" + hex.EncodeToString(m)}}
			}, true, plain},
		}
		for _, scheme := range flows.VerifySchemes {
			c, known := senders[scheme]
			if !known {
				t.Fatalf("nobody here signs as %s", scheme)
			}
			check := func(what, secret string, m []byte, body []byte, now int64, want bool) {
				t.Helper()
				if got := verifiers[scheme](&flows.Verify{Scheme: scheme}, c.secret(secret), c.header(m), body, time.Unix(now, 0)); got != want {
					t.Errorf("%s, %s: accepted: %t", scheme, what, got)
				}
			}
			check("as signed", secret, c.mac, body, at, true)
			check("another signature", secret, flipped(c.mac), body, at, false)
			check("another secret", secret+"x", c.mac, body, at, false)
			check("another body", secret, c.mac, append(bytes.Clone(body), 'x'), at, false)
			check("long ago", secret, c.mac, body, at+int64(signatureAge.Seconds())+1, !c.timed)
		}
	})
}

package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// keyReader is a store of callback keys alone, and counts how often it is asked.
type keyReader struct {
	store.Reader
	keys  []store.CallbackKey
	err   error
	asked atomic.Int64
}

func (r *keyReader) CallbackKeys(context.Context) ([]store.CallbackKey, error) {
	r.asked.Add(1)
	return r.keys, r.err
}

// newRing is a keyring with keys of these ages, oldest first.
func newRing(t testing.TB, ages ...time.Duration) (*keyring, *keyReader) {
	t.Helper()
	reader := &keyReader{}
	for _, age := range ages {
		reader.keys = append(reader.keys, NewCallbackKey(time.Now().Add(-age)))
	}
	ring := &keyring{reader: reader}
	if err := ring.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	reader.asked.Store(0)
	return ring, reader
}

func (k *keyring) token(t testing.TB, c capability) string {
	t.Helper()
	token, ok := k.sign(c)
	if !ok {
		t.Fatal("not signed")
	}
	return token
}

func TestTokensComeBack(t *testing.T) {
	ring, _ := newRing(t, time.Hour)
	for _, c := range []capability{
		{uuid.New(), 1, 0, 1, ring.nameWait()}, {uuid.Nil, 1<<63 - 1, 15, 1<<63 - 1, ring.nameWait()}, {uuid.New(), 2, 255, -1, ring.nameWait()},
		{uuid.New(), 2, 1, 0, ring.newest()}, // the old form
	} {
		token := ring.token(t, c)
		if got, err := ring.open(t.Context(), token); err != nil || got != c {
			t.Errorf("%+v came back as %+v", c, got)
		}
		if len(token) > 84 || strings.ContainsAny(token, "+/=") {
			t.Errorf("token %s", token)
		}
	}
	if _, ok := ring.sign(capability{key: "unknown_"}); ok {
		t.Error("signed with a key that is not there")
	}
}

// TestForgedTokensNeverTouchTheDatabase alters every bit of a token.
func TestForgedTokensNeverTouchTheDatabase(t *testing.T) {
	ring, reader := newRing(t, time.Hour)
	bad := []string{"", ".", strings.Repeat("A", 10000)}
	for _, name := range []string{ring.nameWait(), ring.newest()} {
		token := ring.token(t, capability{uuid.New(), 3, 1, 0, name})
		raw, err := tokenEncoding.DecodeString(token)
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, token[1:], token[:len(token)-1], token+"A", token+"=", token+"\n", "\r"+token, token[:8]+"\n"+token[8:], strings.ToLower(token)+"x")
		for bit := tokenKeySize * 8; bit < len(raw)*8; bit++ {
			forged := bytes.Clone(raw)
			forged[bit/8] ^= 1 << (bit % 8)
			bad = append(bad, tokenEncoding.EncodeToString(forged))
		}
		// One form's signature is worth nothing in the other.
		body, mac := raw[:oldBodySize], raw[len(raw)-tokenMACSize:]
		bad = append(bad, tokenEncoding.EncodeToString(append(bytes.Clone(body), make([]byte, tokenMACSize)...)))
		if len(raw) > oldBodySize+tokenMACSize {
			bad = append(bad, tokenEncoding.EncodeToString(append(bytes.Clone(body), mac...)))
		} else {
			bad = append(bad, tokenEncoding.EncodeToString(append(append(bytes.Clone(body), make([]byte, tokenNonceSize+8)...), mac...)))
		}
	}
	for _, one := range bad {
		if c, err := ring.open(t.Context(), one); err != errNoCallback {
			t.Errorf("%q opened as %+v, %v", one, c, err)
		}
	}
	if n := reader.asked.Load(); n != 0 {
		t.Errorf("the database was asked %d times", n)
	}
}

// TestUnknownKeysAreLookedForAtABoundedRate sends many tokens of a key that this server does not have.
func TestUnknownKeysAreLookedForAtABoundedRate(t *testing.T) {
	ring, reader := newRing(t, time.Hour)
	other, _ := newRing(t, time.Hour)
	forged := other.token(t, capability{uuid.New(), 3, 0, 1, other.nameWait()})
	began := time.Now()
	for range 500 {
		if _, err := ring.open(t.Context(), forged); err != errNoCallback {
			t.Fatalf("a token of another service: %v", err)
		}
	}
	if n, most := reader.asked.Load(), 1+int64(time.Since(began)/keysRetry)+1; n < 1 || n > most {
		t.Errorf("the database was asked %d times in %s", n, time.Since(began))
	}
	added := NewCallbackKey(time.Now())
	reader.keys = append(reader.keys, added)
	elsewhere := &keyring{reader: reader}
	if err := elsewhere.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := elsewhere.token(t, capability{uuid.New(), 3, 0, 0, added.ID})
	ring.lastLook = time.Time{} // as when a second has passed
	if _, err := ring.open(t.Context(), fresh); err != nil {
		t.Error("a new key was not looked for")
	}
	reader.err = errors.New("gone")
	ring.lastLook = time.Time{}
	if _, err := ring.open(t.Context(), forged); err == nil {
		t.Error("opened without the key")
	}
	if _, err := ring.open(t.Context(), fresh); err != nil {
		t.Error("the keys were lost with the database")
	}
}

// TestTokensOfKeysThatCannotBeRead tells no sender that there is no such callback where that is not known.
func TestTokensOfKeysThatCannotBeRead(t *testing.T) { synctest.Test(t, tokensOfKeysThatCannotBeRead) }

func tokensOfKeysThatCannotBeRead(t *testing.T) {
	signer, reader := newRing(t, time.Hour)
	genuine := signer.token(t, capability{uuid.New(), 3, 0, 1, signer.nameWait()})
	stranger, _ := newRing(t, time.Hour)
	forged := stranger.token(t, capability{uuid.New(), 3, 0, 1, stranger.nameWait()})
	altered := genuine[:len(genuine)-1] + "_"
	ring := &keyring{reader: reader}
	want := func(when, token string, want slug, asked int64) {
		t.Helper()
		reader.asked.Store(0)
		var got slug // "" where it opens
		if _, err := ring.open(t.Context(), token); err != nil {
			got = problemOf(err).slug
		}
		if n := reader.asked.Load(); got != want || n != asked {
			t.Errorf("%s: %q after %d readings, want %q after %d", when, got, n, want, asked)
		}
	}
	again := func() { <-time.After(keysRetry) } // on the bubble's clock, which stands still otherwise

	reader.err = errors.New("gone")
	want("never read", genuine, slugUnavailable, 1)
	want("never read, and too soon to look again", genuine, slugUnavailable, 0)
	want("no token", genuine[1:], slugNotFound, 0)
	reader.err = nil
	again()
	want("read at last", genuine, "", 1)
	want("unknown to what was just read", forged, slugNotFound, 0)

	reader.err = errors.New("gone")
	again()
	want("unknown, and not to be looked for", forged, slugUnavailable, 1)
	want("unknown, and too soon to look again", forged, slugUnavailable, 0)
	want("known", genuine, "", 0)
	want("forged under a known key", altered, slugNotFound, 0)
	reader.err = nil
	if err := ring.load(t.Context()); err != nil { // as each server does now and then
		t.Fatal(err)
	}
	want("unknown to what was read meanwhile", forged, slugNotFound, 0)

	reader.err = context.Canceled
	again()
	want("a sender that hung up", forged, slugNotFound, 1)
	want("the sender after it", forged, slugNotFound, 0)

	ring, reader.keys, reader.err = &keyring{reader: reader}, nil, nil
	want("no key there yet", genuine, slugUnavailable, 1)
}

// TestRotation wants a new key to sign only once every server has it, and the old one to open what it signed.
func TestRotation(t *testing.T) {
	first, reader := newRing(t, 0)
	if first.newest() != reader.keys[0].ID {
		t.Error("the only key does not sign")
	}
	ring, reader := newRing(t, time.Hour, keysSettle-5*time.Second)
	if ring.newest() != reader.keys[0].ID {
		t.Error("a key signs that other servers may not have yet")
	}
	old := ring.token(t, capability{uuid.New(), 1, 0, 1, ring.nameWait()})
	reader.keys[1].CreatedAt = time.Now().Add(-keysSettle - time.Second)
	if err := ring.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ring.newest() != reader.keys[1].ID {
		t.Error("the new key does not sign")
	}
	if _, err := ring.open(t.Context(), old); err != nil {
		t.Error("the old key's URL is dead")
	}
	if empty, _ := newRing(t); empty.newest() != "" || empty.nameWait() != "" {
		t.Error("signs without a key")
	}
}

// FuzzToken opens anything: it never panics, and only what was signed opens.
func FuzzToken(f *testing.F) {
	ring, _ := newRing(f, time.Hour)
	good, old := ring.token(f, capability{uuid.New(), 3, 1, 5, ring.nameWait()}), ring.token(f, capability{uuid.New(), 3, 1, 0, ring.newest()})
	for _, seed := range []string{"", "A", good, old, good[:len(good)-1], good + "\n", strings.Repeat("A", len(good)), strings.Repeat("_", len(good))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		ring.lastLook = time.Now()
		c, err := ring.open(t.Context(), token)
		if err != nil {
			return
		}
		if signed, _ := ring.sign(c); signed != token {
			t.Fatalf("%q opened as %+v, which is signed %q", token, c, signed)
		}
	})
}

// FuzzPeriod wants every duration that is accepted to be one that the strict form has, and not negative.
func FuzzPeriod(f *testing.F) {
	for _, seed := range []string{
		"", "P", "PT", "P1", "P1Y", "P1.5Y", "P1M", "P1.5M", "P1W", "P1D", "P1.5D", "PT1H", "PT15M", "PT1S", "PT0.000001S", "PT0S", "P1YT", "-P1D", "P-1D", "+P1D", "P1DT1H1M1S", "p1d", "PT1H1H",
		"PP1D", "PT1S1H", "P1H", "PT1D", "P1D1D", "P١D", "PT.5S", "PT5.S", "P9999Y", "P10000Y", "PT1000000H", "PT1000001H", "P1W1D", "P99999999999999999999999999D", "PT1,5S", " P1D", "P1D ", "P1MT1M",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePeriod(s)
		if err != nil {
			if p != (flows.Period{}) {
				t.Fatalf("refused %q, and read it as %+v", s, p)
			}
			return
		}
		if p.Years < 0 || p.Months < 0 || p.Days != 0 || p.Rest < 0 || p.Rest > maxPeriod*time.Hour {
			t.Fatalf("%q is %+v", s, p)
		}
		if len(s) < 3 || s[0] != 'P' || strings.Count(s, "P") != 1 || strings.Count(s, "T") > 1 || !strings.ContainsAny(s, "0123456789") {
			t.Fatalf("accepted %q", s)
		}
	})
}

func TestPeriods(t *testing.T) {
	for s, want := range map[string]flows.Period{
		"PT15M": {Rest: 15 * time.Minute}, "P2D": {Rest: 48 * time.Hour}, "P1Y2M": {Years: 1, Months: 2}, "P1W": {Rest: 7 * 24 * time.Hour}, "PT0S": {}, "P1M": {Months: 1}, "PT1M": {Rest: time.Minute},
		"P1DT2H3M4.5S": {Rest: 26*time.Hour + 3*time.Minute + 4500*time.Millisecond}, "P0.5D": {Rest: 12 * time.Hour}, "PT0.000001S": {Rest: time.Microsecond}, "P1YT1S": {Years: 1, Rest: time.Second},
	} {
		if got, err := parsePeriod(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "P", "PT", "P1YT", "P1.5Y", "P0.5M", "-PT1S", "P-1D", "PT1S1H", "P1D1D", "P1H", "PT1D", "15M", "P10000Y", "P120000M", "PT1000001H", "P1", "PT1H ", "P1D\n"} {
		if got, err := parsePeriod(s); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		}
	}
}

// FuzzCallbackPayload wants whatever body to end up as JSON that a caller could have sent.
func FuzzCallbackPayload(f *testing.F) {
	for _, contentType := range []string{"", "application/json", "application/json; charset=utf-8", "application/problem+json", "application/x-www-form-urlencoded", "text/plain", "a/b\x00\xff", ";", "multipart/form-data; boundary=x"} {
		for _, body := range []string{"", "{}", "{ \"a\" : 1.10 }", "{\"a\":1,\"a\":2}", "null", "a=1&a=2&b=", "a=%00", "%zz", "=", "&&", "a;b", "\xff\xfe", "\x00", "\x1b", `"\ud83d"`, strings.Repeat("[", 70)} {
			f.Add(contentType, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		payload := callbackPayload(contentType, body)
		if payload == nil {
			if len(body) > 0 {
				t.Fatal("a body was lost")
			}
			return
		}
		if err := checkJSON(payload); err != nil {
			t.Fatalf("%s is %v", payload, err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, payload); err != nil || compact.Len() != len(payload) {
			t.Fatalf("%s is not compact: %v", payload, err)
		}
	})
}

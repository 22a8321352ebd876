package httpapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"taskflow/internal/flows"
)

// signatureAge is how old a signed timestamp may be, where the scheme has one; and how far ahead, for clocks that differ.
const signatureAge = 5 * time.Minute

// verifiers check a callback's signature by scheme. now is compared with the signed timestamp.
var verifiers = map[string]func(v *flows.Verify, secret string, header http.Header, body []byte, now time.Time) bool{
	"standard-webhooks": verifyStandard, // standardwebhooks.com: webhook-id.webhook-timestamp.body
	"github":            verifyGitHub,   // docs.github.com, "Validating webhook deliveries": body
	"stripe":            verifyStripe,   // docs.stripe.com, "Verify webhook signatures manually": timestamp.body
	"slack":             verifySlack,    // api.slack.com, "Verifying requests from Slack": v0:timestamp:body
	"hmac-sha256":       verifyHMAC,     // the body, in hex or base64
}

const standardPrefix = "whsec_"

// maxSecret bounds a secret in bytes, so that it can be stored sealed as well.
const maxSecret = 1024

// checkSecret refuses a secret that its scheme cannot use.
func checkSecret(scheme, secret string) error {
	if len(secret) > maxSecret {
		return fmt.Errorf("must have at most %d bytes", maxSecret)
	}
	if scheme != "standard-webhooks" {
		return nil
	}
	if key, err := standardKey(secret); err != nil || len(key) == 0 {
		return errors.New("must be base64, with or without whsec_ in front")
	}
	return nil
}

func standardKey(secret string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, standardPrefix))
}

func verifyStandard(_ *flows.Verify, secret string, header http.Header, body []byte, now time.Time) bool {
	key, err := standardKey(secret)
	id, timestamp := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	if err != nil || id == "" || !fresh(timestamp, now) {
		return false
	}
	want := sum(key, []byte(id+"."+timestamp+"."), body)
	match := false
	for _, signature := range strings.Fields(header.Get("Webhook-Signature")) {
		if encoded, v1 := strings.CutPrefix(signature, "v1,"); v1 {
			got, err := base64.StdEncoding.DecodeString(encoded)
			match = match || err == nil && hmac.Equal(got, want)
		}
	}
	return match
}

func verifyGitHub(_ *flows.Verify, secret string, header http.Header, body []byte, _ time.Time) bool {
	signature, ok := strings.CutPrefix(header.Get("X-Hub-Signature-256"), "sha256=")
	return ok && equalHex(signature, sum([]byte(secret), body))
}

func verifyStripe(_ *flows.Verify, secret string, header http.Header, body []byte, now time.Time) bool {
	var timestamp string
	var signatures []string
	for part := range strings.SplitSeq(header.Get("Stripe-Signature"), ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); name {
		case "t":
			timestamp = value
		case "v1":
			signatures = append(signatures, value)
		}
	}
	if !fresh(timestamp, now) {
		return false
	}
	want, match := sum([]byte(secret), []byte(timestamp+"."), body), false
	for _, signature := range signatures {
		match = match || equalHex(signature, want)
	}
	return match
}

func verifySlack(_ *flows.Verify, secret string, header http.Header, body []byte, now time.Time) bool {
	timestamp := header.Get("X-Slack-Request-Timestamp")
	signature, ok := strings.CutPrefix(header.Get("X-Slack-Signature"), "v0=")
	return ok && fresh(timestamp, now) && equalHex(signature, sum([]byte(secret), []byte("v0:"+timestamp+":"), body))
}

// defaultSignatureHeader is where hmac-sha256 looks, unless the wait says otherwise.
const defaultSignatureHeader = "X-Signature"

func verifyHMAC(v *flows.Verify, secret string, header http.Header, body []byte, _ time.Time) bool {
	name := v.Header
	if name == "" {
		name = defaultSignatureHeader
	}
	signature := strings.TrimPrefix(header.Get(name), "sha256=")
	want := sum([]byte(secret), body)
	if equalHex(signature, want) {
		return true
	}
	got, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && hmac.Equal(got, want)
}

// fresh reports whether a timestamp in Unix seconds is within signatureAge of now.
func fresh(timestamp string, now time.Time) bool {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return false
	}
	age := now.Sub(time.Unix(seconds, 0))
	return age <= signatureAge && age >= -signatureAge
}

func sum(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

func equalHex(signature string, want []byte) bool {
	got, err := hex.DecodeString(signature)
	return err == nil && hmac.Equal(got, want)
}

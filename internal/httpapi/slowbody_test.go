package httpapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/store"
)

// slowly sends a request in two parts, in a bubble, and calls between when the server waits for the second; it returns the
// answer's status.
func (c *client) slowly(method, path, body string, between func()) int {
	c.t.Helper()
	read, write := io.Pipe()
	r, err := http.NewRequest(method, c.url+path, read)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", c.credentials)
	r.Header.Set("Content-Type", "application/json")
	sent := make(chan struct{})
	go func() { // ends with the answer, which closes read
		defer close(sent)
		half := len(body) / 2
		_, _ = io.WriteString(write, body[:half])
		after(time.Second) // until the server has let it in
		between()
		_, _ = io.WriteString(write, body[half:])
		_ = write.Close()
	}()
	response, err := c.http.Do(r)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	_ = response.Body.Close()
	<-sent
	return response.StatusCode
}

// newKey makes a key that may do everything with kate's flows, and returns its text and its id.
func newKey(t *testing.T, s store.Store) (text, id string) {
	t.Helper()
	key, text, err := auth.NewKey(auth.KeySpec{Name: "slow", Scopes: auth.Scopes(), Owners: "agent:kate:*"}, time.Now())
	if err == nil {
		err = s.AddAPIKey(t.Context(), key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text, key.ID
}

// TestSlowBodyLosesItsKey: whoever takes long to send a change makes none where its key is revoked meanwhile, and makes it
// where it is not.
func TestSlowBodyLosesItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T, all *client) {
		root := all.as("root")
		for call, body := range map[string]string{
			"POST /flows":           createBody(""),
			"POST /flow/state":      `{"patch":{"a":1}}`,
			"PUT /flow/steps/r":     `{"task":"t","status":"running"}`,
			"POST /external-events": `{"topic":"t","correlation_id":"c"}`,
			"POST /batch":           `{"commands":[{"method":"POST","path":"/flow/start"}]}`,
		} {
			flow := all.as("kate").created("")
			method, path, _ := strings.Cut(strings.Replace(call, "/flow/", flow+"/", 1), " ")
			body = strings.Replace(body, "/flow/", flow+"/", 1)
			text, id := newKey(t, all.store)
			slow := all.with("Bearer " + text)
			there := func() string { return root.get("/events").body + root.get("/external-events").body }
			before := there()
			status := slow.slowly(method, path, body, func() {
				if err := all.store.RevokeAPIKey(t.Context(), id); err != nil {
					t.Error(err)
				}
				after(6 * time.Second)
			})
			if status != http.StatusUnauthorized || there() != before {
				t.Errorf("%s, its key revoked 6 s before its end: %d; changed: %v", call, status, there() != before)
			}
			text, _ = newKey(t, all.store)
			status = all.with("Bearer "+text).slowly(method, path, body, func() { after(6 * time.Second) })
			if status/100 != 2 || there() == before {
				t.Errorf("%s, its key good to its end: %d", call, status)
			}
		}
	}, twoTenants)
}

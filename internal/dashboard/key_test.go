package dashboard_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"taskflow/internal/servertest"
)

// revoked refuses every request but those with a key.
func revoked(key string) func(r *http.Request) *refusal {
	return func(r *http.Request) *refusal {
		if r.Header.Get("Authorization") == "Bearer "+key {
			return nil
		}
		return &refusal{401, "unauthenticated", "This key was revoked.", ""}
	}
}

// TestKey_IsRefusedWhereItCannotBeOne pastes keys as they come out of a chat or a document.
func TestKey_IsRefusedWhereItCannotBeOne(t *testing.T) {
	oneTheme(t, onSQLite(t), 360, func(t *testing.T, s *servertest.Server, themed *tab) {
		create(t, s, `"goal": "behind the door"`)
		d := newDoors(t, s.URL)
		d.refuseBy(revoked("tfk_one_secret"))
		p := themed.elsewhere(d.URL)
		p.open("#/flows")
		p.awaitText("dialog [role=alert]", "This key was revoked.")
		for _, pasted := range []string{"“tfk_one_secret”", "tfk_one secret", "tfk_öne_secret", "tfk_one_\u200bsecret", "tfk_one_\nsecret", "Bearer tfk_one_secret"} {
			p.fill("dialog [name=key]", pasted)
			p.press("\r")
			p.awaitText("dialog [role=alert]", "This cannot be a key")
			p.await(`document.activeElement === pick("dialog [name=key][aria-invalid=true]") && sessionStorage.getItem("taskflow.key") === null`)
		}
		p.audit("a key that is none")
		p.fits("a key that is none")
		p.fill("dialog [name=key]", " \ttfk_one_secret\u00a0\n")
		p.press("\r")
		p.awaitText(".flows th", "behind the door")
	})
}

// TestKey_IsNotAskedForOverAndOver revokes the key under the page. Once the dialog was closed, what the page reads by itself does
// not bring it back; what its user does, does.
func TestKey_IsNotAskedForOverAndOver(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, themed *tab) {
		id := create(t, s, `"goal": "behind the door"`)
		d := newDoors(t, s.URL)
		p := themed.elsewhere(d.URL)
		p.open("#/")
		p.live()
		var streams atomic.Int32
		revoke := func(key string) {
			no := revoked(key)
			d.refuseBy(func(r *http.Request) *refusal {
				if strings.Contains(r.Header.Get("Accept"), "event-stream") {
					streams.Add(1)
				}
				return no(r)
			})
			d.cut()
		}
		revoke("tfk_one_secret")
		asked := func() {
			t.Helper()
			p.awaitText("dialog h2", "API key")
			p.awaitText("dialog [role=alert]", "This key was revoked.")
			for eval[bool](p, `!!document.querySelector("dialog")`) {
				p.press("\x1b")
			}
		}
		asked()
		// The second try from now on comes after the answer to the first.
		since := streams.Load()
		if err := servertest.Await(t.Context(), patience, func() bool { return streams.Load() >= since+2 }); err != nil {
			t.Fatal("the page does not try again")
		}
		if eval[bool](p, `!!document.querySelector("dialog")`) {
			t.Error("the key is asked for once more")
		}
		p.goTo("#/flows")
		asked()
		p.click("main [role=alert] button", "Try again")
		asked()
		p.click("#key-button", "")
		p.fill("dialog [name=key]", "tfk_one_secret")
		p.press("\r")
		p.awaitText(".flows th", "behind the door")

		// A command asks for it too.
		p.goTo("#/flows/" + id)
		p.await(`!!pick("button[data-verb=cancel]")`)
		revoke("tfk_another_secret")
		asked()
		p.click("button[data-verb=cancel]", "")
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog h2", "API key")
		p.press("\x1b")
		p.await(`document.querySelectorAll("dialog").length === 1`)
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog h2", "API key")
	})
}

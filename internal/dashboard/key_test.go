package dashboard_test

import (
	"net/http"
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
	bothThemes(t, onSQLite(t), 360, func(t *testing.T, s *servertest.Server, themed *tab) {
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

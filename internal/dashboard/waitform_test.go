package dashboard_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"

	"github.com/chromedp/cdproto/emulation"
)

// waiting is what the API shows of a wait.
type waiting struct {
	Kind       string
	At         time.Time
	Conditions []waiting
	URL        string
	Topic      string
	Verify     *struct{ Scheme, Header string }
	Timeout    *struct {
		At         time.Time
		OnTimeout  string         `json:"on_timeout"`
		StatePatch map[string]any `json:"state_patch"`
	}
	Details map[string]any
}

func waitOf(t *testing.T, s *servertest.Server, id string) waiting {
	t.Helper()
	var f struct{ Wait waiting }
	if err := s.Call(t, http.StatusOK, http.MethodGet, "/flows/"+id, "").Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f.Wait
}

// TestWaitForm_MakesTheFirstOfSeveral fills in a wait for a timer, an event or a signed callback, by hand, and ends it by
// the signature that was agreed on.
func TestWaitForm_MakesTheFirstOfSeveral(t *testing.T) {
	oneTheme(t, onSQLite(t), 1280, func(t *testing.T, s *servertest.Server, p *tab) {
		id := inStatus(t, s, "running")
		p.open("#/flows/" + id)
		p.click("button[data-verb=wait]", "")
		row := func(i int) string { return fmt.Sprintf("dialog .condition:nth-child(%d) ", i) }
		p.await(`all("dialog .condition").length === 1 && !pick("dialog button", "Remove condition") && !pick("dialog [name=on_timeout]")`)
		for range 3 {
			p.click("dialog button", "Or something else")
		}
		p.await(`document.activeElement === pick("dialog .condition:nth-child(4) [name=kind]")`)
		p.choose(row(2)+"[name=kind]", "external_event")
		p.fill(row(2)+"[name=topic]", "payment")
		p.fill(row(2)+"[name=correlation_id]", "order-7")
		p.click(row(3)+"button", "Remove condition 3")
		p.await(`all("dialog .condition").length === 3`)
		p.choose(row(3)+"[name=kind]", "callback")
		p.choose(row(3)+"[name=scheme]", "hmac-sha256")
		p.fill(row(3)+"[name=header]", "X-Agreed")
		p.click("dialog label.check", "")
		p.choose("dialog [name=on_timeout]", "fail")
		p.fill("dialog [name=details]", `{"question": "Paid?"}`)
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog [role=alert]", "Secret: say something.")
		p.await(`document.activeElement === pick("dialog [name=secret]") && document.activeElement.type === "password"`)
		p.fill("dialog [name=secret]", "between us")
		p.click("dialog button[type=submit]", "")
		p.await(`text(".sub .badge") === "waiting" && all(".conditions strong").join() === "timer,external event,callback,timeout,go-ahead by hand"`)

		w := waitOf(t, s, id)
		if len(w.Conditions) != 3 || w.Kind != "any_of" || w.Timeout == nil || w.Timeout.OnTimeout != "fail" || w.Details["question"] != "Paid?" {
			t.Fatalf("it waits for %+v", w)
		}
		callback := w.Conditions[2]
		if w.Conditions[1].Topic != "payment" || callback.Verify == nil || callback.Verify.Scheme != "hmac-sha256" || callback.Verify.Header != "X-Agreed" {
			t.Errorf("it waits for %+v, of them %+v", w, callback.Verify)
		}
		path := strings.TrimPrefix(callback.URL, s.URL)
		s.Call(t, http.StatusUnauthorized, http.MethodPost, path, `{"paid": true}`)
		mac := hmac.New(sha256.New, []byte("between us"))
		mac.Write([]byte(`{"paid": true}`))
		s.Call(t, http.StatusOK, http.MethodPost, path, `{"paid": true}`, "X-Agreed", hex.EncodeToString(mac.Sum(nil)))
		p.await(`text(".sub .badge") === "running" && all(".state .key").includes("paid")`)
	})
}

// TestWaitForm_MakesEachOfThem makes a wait of each single kind, after rows were added and taken away again.
func TestWaitForm_MakesEachOfThem(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	p := newTab(t, chromium(t), s.URL, 360)
	for _, c := range []struct{ kind, scheme, secret, refused string }{
		{kind: "timer"},
		{kind: "manual"},
		{kind: "callback"},
		{kind: "callback", scheme: "standard-webhooks", secret: "not base64!", refused: "must be base64"},
		{kind: "callback", scheme: "github", secret: "s"},
		{kind: "callback", scheme: "stripe", secret: "s"},
		{kind: "callback", scheme: "slack", secret: "s"},
		{kind: "callback", scheme: "hmac-sha256", secret: "s"},
	} {
		id := inStatus(t, s, "running")
		p.open("#/flows/" + id)
		p.click("button[data-verb=wait]", "")
		p.click("dialog button", "Or something else")
		p.click("dialog button", "Remove condition 1")
		p.await(`all("dialog .condition").length === 1 && document.activeElement === pick("dialog button", "Or something else")`)
		p.choose("dialog [name=kind]", c.kind)
		if c.scheme != "" {
			p.choose("dialog [name=scheme]", c.scheme)
			p.fill("dialog [name=secret]", c.secret)
		}
		p.click("dialog button[type=submit]", "")
		if c.refused != "" {
			p.awaitText("dialog [role=alert]", c.refused)
			p.fill("dialog [name=secret]", "whsec_c2VjcmV0")
			p.click("dialog button[type=submit]", "")
		}
		p.await(`text(".sub .badge") === "waiting"`)
		w, scheme := waitOf(t, s, id), ""
		if w.Verify != nil {
			scheme = w.Verify.Scheme
		}
		if w.Kind != c.kind || scheme != c.scheme || w.Timeout != nil || w.Details != nil {
			t.Errorf("%+v has become %+v, signed by %q", c, w, scheme)
		}
	}
}

// TestWaitForm_HasNoMoreThanTheServiceTakes adds as many conditions as there may be.
func TestWaitForm_HasNoMoreThanTheServiceTakes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, onSQLite(t))
	id := inStatus(t, s, "running")
	p := newTab(t, chromium(t), s.URL, 1280)
	p.open("#/flows/" + id)
	p.click("button[data-verb=wait]", "")
	for range 15 {
		p.click("dialog button", "Or something else")
	}
	p.await(`all("dialog .condition").length === 16 && !pick("dialog button", "Or something else")`)
	p.click("dialog button[type=submit]", "")
	p.await(`text(".sub .badge") === "waiting"`)
	if w := waitOf(t, s, id); len(w.Conditions) != 16 {
		t.Errorf("it waits for %d conditions", len(w.Conditions))
	}
}

// TestWaitForm_TakesTimesByTheClock says when a timer fires and when the wait ends as its user's clock shows it, and what the
// timeout does to the state.
func TestWaitForm_TakesTimesByTheClock(t *testing.T) {
	const zone, ahead = "Asia/Kolkata", 5*time.Hour + 30*time.Minute
	oneTheme(t, onSQLite(t), 360, func(t *testing.T, s *servertest.Server, p *tab) {
		call(p, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: zone})
		fires := time.Now().UTC().Add(2 * time.Hour).Truncate(time.Second)
		ends := fires.Add(24 * time.Hour)
		local := func(at time.Time) string { return at.Add(ahead).Format("2006-01-02T15:04:05") }
		id := inStatus(t, s, "running")
		p.open("#/flows/" + id)
		p.click("button[data-verb=wait]", "")
		p.choose("dialog .condition [name=when]", "at")
		p.click("dialog label.check", "")
		p.choose("dialog .timeout [name=when]", "at")
		p.await(`!!pick("dialog [name=on_timeout]")`)
		p.inBothThemes("a wait with a timeout")
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog [role=alert]", "Fires at: a date and a time are needed.")
		p.await(`document.activeElement === pick("dialog .condition [name=at]")`)
		p.choose("dialog .condition [name=at]", local(fires))
		p.click("dialog button[type=submit]", "")
		p.awaitText("dialog [role=alert]", "Timeout at: a date and a time are needed.")
		p.choose("dialog .timeout [name=at]", local(ends))
		p.fill("dialog .timeout [name=state_patch]", `{"late": true}`)
		p.choose("dialog [name=on_timeout]", "fail")
		p.await(`!pick("dialog .timeout [name=state_patch]")`) // it goes with resuming only
		p.choose("dialog [name=on_timeout]", "resume")
		p.fill("dialog .timeout [name=state_patch]", `{"late": true}`)
		p.click("dialog button[type=submit]", "")
		p.await(`text(".sub .badge") === "waiting"`)
		w := waitOf(t, s, id)
		if !w.At.Equal(fires) || w.Timeout == nil || !w.Timeout.At.Equal(ends) || w.Timeout.StatePatch["late"] != true {
			t.Errorf("it waits for %+v until %+v, want %s and %s", w, w.Timeout, fires, ends)
		}
	})
}
